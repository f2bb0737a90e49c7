"""What a card or a report is made of, however it is shown: sections of paragraphs and tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under heads; each row has as many cells as there are heads."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the card: paragraphs, then tables."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model card, or a report on a model."""

    title: str
    subtitle: str
    is_research: bool
    standing: str  #: in use, waiting or retired; of a report, when it was made
    sections: tuple[Section, ...]
    kind: str = "model card"
