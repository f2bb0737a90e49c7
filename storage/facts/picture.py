"""Pictures of lines, areas and texts, which every renderer can show: as SVG here, on the pages of a PDF elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import Literal

Place = tuple[float, float]  #: from the left and from the top, units of the picture


class Tone(StrEnum):
    """What a shape is for; the renderer knows its colour."""

    INK = "ink"
    FAINT = "faint"
    LINE = "line"
    FIRST = "first"
    SECOND = "second"
    PAPER = "paper"


#: Colours on white, told apart by readers who see few colours, and by how light they are.
ON_PAPER: Mapping[Tone, str] = {
    Tone.INK: "#1c2430", Tone.FAINT: "#5b6675", Tone.LINE: "#d9dee5", Tone.FIRST: "#1b6ca8", Tone.SECOND: "#b8430b",
    Tone.PAPER: "#ffffff",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """A line through places."""

    places: tuple[Place, ...]
    tone: Tone
    width: float = 1.6
    is_dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A filled outline."""

    outline: tuple[Place, ...]
    tone: Tone
    opacity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disc:
    """A round point."""

    at: Place
    radius: float
    tone: Tone
    opacity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One line of text; ``at`` is on its baseline."""

    at: Place
    text: str
    tone: Tone = Tone.INK
    size: float = 11.0
    anchor: Literal["start", "middle", "end"] = "start"
    is_turned: bool = False  #: reads from below
    is_bold: bool = False


Shape = Stroke | Area | Disc | Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Shapes, the lowest first."""

    about: str  #: for those who do not see it
    width: float
    height: float
    shapes: tuple[Shape, ...]


def svg(picture: Picture, colours: Mapping[Tone, str] = ON_PAPER, *, is_file: bool = False) -> str:
    """The picture as an ``svg`` element; ``is_file``: as a file of its own, on paper of its own.

    ``colours`` are what SVG takes as a colour, ``var(--name)`` of an HTML page too. All texts are escaped.
    """
    box = f'viewBox="0 0 {picture.width:g} {picture.height:g}"'
    name = 'xmlns="http://www.w3.org/2000/svg" ' if is_file else ""
    parts = [
        f'<svg {name}{box} role="img" aria-label="{escape(picture.about)}" font-family="Helvetica, Arial, sans-serif">'
    ]
    if is_file:
        parts.append(f'<rect width="{picture.width:g}" height="{picture.height:g}" fill="{colours[Tone.PAPER]}"/>')
    parts += [*(_element(shape, colours) for shape in picture.shapes), "</svg>"]
    return "\n".join(parts) + "\n"


def _element(shape: Shape, colours: Mapping[Tone, str]) -> str:
    colour = colours[shape.tone]
    if isinstance(shape, Stroke):
        dashes = ' stroke-dasharray="5 4"' if shape.is_dashed else ""
        path = " ".join(_said(place) for place in shape.places)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{shape.width:g}"{dashes}/>'
    if isinstance(shape, Text):
        return f'<text {" ".join(_attributes(shape))} fill="{colour}">{escape(shape.text)}</text>'
    opacity = "" if shape.opacity == 1.0 else f' fill-opacity="{shape.opacity:g}"'
    if isinstance(shape, Area):
        return f'<polygon points="{" ".join(map(_said, shape.outline))}" fill="{colour}"{opacity}/>'
    x, y = shape.at
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{shape.radius:g}" fill="{colour}"{opacity}/>'


def _attributes(text: Text) -> Iterator[str]:
    x, y = text.at
    yield f'x="{x:.1f}" y="{y:.1f}" font-size="{text.size:g}"'
    if text.anchor != "start":
        yield f'text-anchor="{text.anchor}"'
    if text.is_bold:
        yield 'font-weight="600"'
    if text.is_turned:
        yield f'transform="rotate(-90 {x:.1f} {y:.1f})"'


def _said(place: Place) -> str:
    return f"{place[0]:.1f},{place[1]:.1f}"
