"""Draws charts: where on a picture axes, curves and words come to lie, so that no word lies on another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import wrap

from storage.facts.chart import Cell, Chart, Mark, Point
from storage.facts.picture import Area, Disc, Picture, Place, Shape, Stroke, Text, Tone

Symbol = Callable[[float], list[Shape]]  #: the sign beside a line of text, by its baseline

WIDTH = 500.0
_TALL, _ROW, _CELL = 250.0, 24.0, 42.0  #: height of a plot; of a row where rows are named; of a row of cells
_LEFT, _RIGHT, _TOP = 58.0, 18.0, 34.0
_LETTER = 5.9  #: width of a letter of 11 units, on average; generous, since fonts differ
_LINE = 15.0  #: from one line of text to the next
_ASIDE = 132.0  #: to the right of the plot, for the names of levels
_CLOSE = 16.0  #: marks at less than this from each other have their numbers in a row
_SYMBOL = 30.0  #: to the left of an entry of the legend
_DARKEST = 0.5  #: opacity of a cell of share 1: ink stays readable on it
_NARROWEST = 28.0  #: width of a cell: four digits
_NAMED = 3  #: lines of a name below a column of cells


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """Where the plot lies on the picture, and what its axes are."""

    chart: Chart
    left: float
    right: float
    top: float
    bottom: float

    def place(self, point: Point) -> Place:
        across, up = self.chart.across.part(point[0]), self.chart.up.part(point[1])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def places(self, points: Sequence[Point]) -> tuple[Place, ...]:
        return tuple(self.place(point) for point in points)


def drawn(chart: Chart) -> Picture:
    """The picture of a chart: title, plot, and what its signs mean below."""
    field = _field(chart)
    shapes: list[Shape] = [*_heading(field), *_frame(field), *_content(field)]
    foot = field.bottom + 48.0 + _extra(field)
    for lines, symbol in _legend(chart):
        shapes += symbol(foot)
        shapes += [Text(at=(_LEFT + _SYMBOL, foot + n * _LINE), text=line) for n, line in enumerate(lines)]
        foot += len(lines) * _LINE
    for line in wrap(chart.note, int((WIDTH - _LEFT - _RIGHT) / _LETTER)):
        shapes.append(Text(at=(_LEFT, foot), text=line, tone=Tone.FAINT))
        foot += _LINE
    about = f"{chart.title}. {chart.up.name} against {chart.across.name}. {chart.note}"
    return Picture(about=about.strip(), width=WIDTH, height=foot, shapes=tuple(shapes))


def _field(chart: Chart) -> _Field:
    top = _TOP + (_LINE if chart.counts or chart.cells else 0.0)
    row = _CELL if chart.cells else _ROW
    tall = max(2, len(chart.up.names)) * row if chart.up.names else _TALL
    right = WIDTH - (_ASIDE if chart.levels else _RIGHT)
    return _Field(chart=chart, left=_left(chart, right), right=right, top=top, bottom=top + tall)


def _left(chart: Chart, right: float) -> float:
    """Where the plot begins: after the names of its rows, as far as they leave room for it."""
    named = max((len(name) for name in chart.up.names), default=0)
    left = min(220.0, max(_LEFT, 24.0 + named * _LETTER))
    if not chart.cells or _wrapped(chart, right - left) is not None:
        return left
    return min(left + 4 * _LETTER, right - _NARROWEST * len(chart.across.names))  # with numbers before the names


def _heading(field: _Field) -> Iterator[Shape]:
    yield Text(at=(field.left, 16.0), text=field.chart.title, size=13.0, is_bold=True)
    if field.chart.counts:
        yield Text(at=(field.left - 7.0, field.top - 9.0), text="n", tone=Tone.FAINT, anchor="end")
    if field.chart.cells:
        text = _cut(field.chart.up.name, field.left)
        yield Text(at=(field.left - 7.0, field.top - 9.0), text=text, tone=Tone.FAINT, anchor="end")
    for place, text in field.chart.counts:
        x, _ = field.place((place, field.chart.up.high))
        yield Text(at=(x, field.top - 9.0), text=text, tone=Tone.FAINT, anchor="middle")


def _frame(field: _Field) -> Iterator[Shape]:
    chart = field.chart
    rows, below = _names(field)
    for (tick, _), name in zip(chart.up.named(), rows, strict=True):
        x, y = field.place((chart.across.low, tick))
        if not chart.cells:
            yield Stroke(places=((x, y), (field.right, y)), tone=Tone.LINE, width=1.0)
        yield Text(at=(x - 7.0, y + 4.0), text=_cut(name, field.left - 20.0), anchor="end")
    for (tick, _), lines in zip(chart.across.named(), below, strict=True):
        x, y = field.place((tick, chart.up.low))
        if not chart.cells:
            yield Stroke(places=((x, y), (x, field.top)), tone=Tone.LINE, width=1.0)
        for number, line in enumerate(lines):
            yield Text(at=(x, y + 16.0 + number * _LINE), text=line, anchor="middle")
    if not chart.cells:
        corner = (field.left, field.bottom)
        yield Stroke(places=((field.left, field.top), corner, (field.right, field.bottom)), tone=Tone.FAINT, width=1.0)
    middle = (field.left + field.right) / 2
    yield Text(at=(middle, field.bottom + 32.0 + _extra(field)), text=chart.across.name, anchor="middle")
    if not chart.up.names:
        at = (16.0, (field.top + field.bottom) / 2)
        yield Text(at=at, text=chart.up.name, anchor="middle", is_turned=True)


def _names(field: _Field) -> tuple[list[str], list[list[str]]]:
    """What stands beside the rows from below, and the lines below each column.

    Names of cells that do not fit below the columns stand beside the rows alone, with numbers for both.
    """
    chart = field.chart
    rows, below = ([name for _, name in axis.named()] for axis in (chart.up, chart.across))
    if not chart.cells:
        return rows, [[name] for name in below]
    lines = _wrapped(chart, field.right - field.left)
    if lines is not None:
        return rows, lines
    numbered = [f"{len(rows) - n}  {name}" for n, name in enumerate(rows)]
    further = [[_cut(name, _NARROWEST)] for name in below[len(rows) :]]
    return numbered, [*([str(n)] for n in range(1, len(rows) + 1)), *further]


def _wrapped(chart: Chart, width: float) -> list[list[str]] | None:
    """The lines below each column of cells; None where a word is too long, or a name has too many."""
    names = chart.across.names
    letters = max(1, int((width / len(names) - 6.0) / _LETTER))
    lines = [wrap(name, letters, break_long_words=False, break_on_hyphens=False) or [""] for name in names]
    fits = all(len(one) <= _NAMED and max(map(len, one)) <= letters for one in lines)
    return lines if fits else None


def _extra(field: _Field) -> float:
    """What names of several lines take below the plot."""
    return _LINE * (max(len(lines) for lines in _names(field)[1]) - 1)


def _content(field: _Field) -> Iterator[Shape]:
    chart = field.chart
    for band in chart.bands:
        yield Area(outline=field.places(band.outline), tone=Tone.FIRST, opacity=0.16)
    yield from _levels(field)
    for curve in chart.curves:
        yield Stroke(places=field.places(curve.points), is_dashed=curve.is_dashed, tone=_tone(curve.is_dashed))
    for box in chart.boxes:
        (left, y), (right, _) = field.places(((box.lower, box.row), (box.upper, box.row)))
        outline = ((left, y - 7.0), (right, y - 7.0), (right, y + 7.0), (left, y + 7.0))
        yield Area(outline=outline, tone=Tone.FIRST, opacity=0.16)
        yield Stroke(places=(*outline, outline[0]), tone=Tone.FIRST, width=1.0)
        x, _ = field.place((box.median, box.row))
        yield Stroke(places=((x, y - 8.0), (x, y + 8.0)), tone=Tone.FIRST, width=2.2)
    for cell in chart.cells:
        yield from _cell(field, cell)
    for point in chart.dots:
        yield Disc(at=field.place(point), radius=2.6, tone=Tone.FIRST, opacity=0.7)
    for mark in chart.marks:
        yield from _marked(field, mark)


def _cell(field: _Field, cell: Cell) -> Iterator[Shape]:
    x, y = field.place(cell.at)
    wide = (field.right - field.left) / len(field.chart.across.names) / 2 - 1.5
    tall = (field.bottom - field.top) / len(field.chart.up.names) / 2 - 1.5
    outline = ((x - wide, y - tall), (x + wide, y - tall), (x + wide, y + tall), (x - wide, y + tall))
    if cell.share > 0:
        yield Area(outline=outline, tone=Tone.FIRST, opacity=_DARKEST * cell.share)
    yield _framing(outline) if cell.is_framed else Stroke(places=(*outline, outline[0]), tone=Tone.LINE, width=1.0)
    first = y + 4.0 - (len(cell.lines) - 1) * _LINE / 2
    for number, line in enumerate(cell.lines):
        size = 12.0 if number == 0 else 10.0
        yield Text(at=(x, first + number * _LINE), text=line, size=size, anchor="middle", is_bold=number == 0)


def _framing(outline: Sequence[Place]) -> Stroke:
    return Stroke(places=(*outline, outline[0]), tone=Tone.SECOND, width=2.0)


def _tone(is_dashed: bool) -> Tone:
    return Tone.FAINT if is_dashed else Tone.FIRST


def _marked(field: _Field, mark: Mark) -> Iterator[Shape]:
    tone = Tone.SECOND if mark.name else Tone.FIRST
    x, y = mark.at
    if mark.across is not None:
        yield Stroke(places=field.places(((mark.across[0], y), (mark.across[1], y))), tone=tone, width=1.4)
    if mark.up is not None:
        yield Stroke(places=field.places(((x, mark.up[0]), (x, mark.up[1]))), tone=tone, width=1.4)
    at = field.place(mark.at)
    yield Disc(at=at, radius=5.0 if mark.name else 3.4, tone=tone)
    if mark.name:
        earlier = [one for one in field.chart.marks if one.name]
        earlier = earlier[: earlier.index(mark)]
        near = sum(math.dist(field.place(one.at), at) < _CLOSE for one in earlier)
        text = str(len(earlier) + 1)
        yield Text(at=_beside(field, at, near), text=text, tone=tone, anchor="middle", size=12.0, is_bold=True)


def _beside(field: _Field, at: Place, near: int) -> Place:
    """Where the number of a mark stands: below it to the right, inside of the plot, after those of marks close by."""
    aside = 12.0 + near * _CLOSE
    x = at[0] + aside if at[0] + aside + 8.0 < field.right else at[0] - aside
    return x, at[1] + 15.0 if at[1] + 20.0 < field.bottom else at[1] - 8.0


def _levels(field: _Field) -> Iterator[Shape]:
    """Lines over the whole width, their names to the right of them and of each other."""
    levels = sorted(field.chart.levels, key=lambda one: -one.at)
    heights = _apart([field.place((field.chart.across.low, level.at))[1] for level in levels], field)
    for level, beside in zip(levels, heights, strict=True):
        _, y = field.place((field.chart.across.low, level.at))
        ends = ((field.left, y), (field.right, y))
        yield Stroke(places=ends, tone=_tone(level.is_dashed), is_dashed=level.is_dashed, width=1.4)
        yield Text(at=(field.right + 6.0, beside + 4.0), text=level.name, tone=_tone(level.is_dashed))


def _apart(heights: Sequence[float], field: _Field) -> list[float]:
    """Heights from the top at least a line apart, moved downwards, and back up where the last would leave the plot."""
    moved: list[float] = []
    for height in heights:
        moved.append(height if not moved else max(height, moved[-1] + _LINE))
    limit = field.bottom
    for number in range(len(moved) - 1, -1, -1):
        moved[number] = min(moved[number], limit)
        limit = moved[number] - _LINE
    return moved


def _symbol(kind: str, number: int, baseline: float) -> list[Shape]:
    """The sign of an entry of the legend."""
    left, right, y = _LEFT, _LEFT + 20.0, baseline - 4.0
    if kind == "band":
        corners = ((left, y - 5.0), (right, y - 5.0), (right, y + 5.0), (left, y + 5.0))
        return [Area(outline=corners, tone=Tone.FIRST, opacity=0.16)]
    if kind == "frame":
        return [_framing(((left, y - 5.0), (right, y - 5.0), (right, y + 5.0), (left, y + 5.0)))]
    if kind == "mark":
        shown = Text(at=(right - 4.0, baseline), text=str(number), tone=Tone.SECOND, size=12.0, is_bold=True)
        return [Disc(at=(left + 6.0, y), radius=5.0, tone=Tone.SECOND), shown]
    is_dashed = kind == "dashed"
    return [Stroke(places=((left, y), (right, y)), tone=_tone(is_dashed), is_dashed=is_dashed)]


def _legend(chart: Chart) -> Iterator[tuple[list[str], Symbol]]:
    width = int((WIDTH - _LEFT - _SYMBOL - _RIGHT) / _LETTER)
    for curve in chart.curves:
        if curve.name:
            yield wrap(curve.name, width), partial(_symbol, "dashed" if curve.is_dashed else "curve", 0)
    for band in chart.bands:
        if band.name:
            yield wrap(band.name, width), partial(_symbol, "band", 0)
    if chart.framed:
        yield wrap(chart.framed, width), partial(_symbol, "frame", 0)
    for number, mark in enumerate((one for one in chart.marks if one.name), 1):
        yield wrap(mark.name, width), partial(_symbol, "mark", number)


def _cut(name: str, width: float) -> str:
    letters = int(width / _LETTER) + 1
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
