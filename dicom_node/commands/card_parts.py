"""What a card or a report is made of, however it is shown: sections of paragraphs, tables and charts."""

from __future__ import annotations

from dataclasses import dataclass

from storage.facts.chart import Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under heads; each row has as many cells as there are heads."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the card: paragraphs, then charts, then tables. A terminal shows no charts."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model card, or a report on a model."""

    title: str
    subtitle: str
    is_research: bool
    standing: str  #: in use, waiting or retired; of a report, when it was made
    sections: tuple[Section, ...]
    kind: str = "model card"
