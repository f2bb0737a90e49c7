"""Charts as data: what a measurement shows besides its numbers. The model wing measures them, the node draws them.

A chart is kept with the report that it belongs to, so that what is drawn later is what was measured then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Point = tuple[float, float]  #: across, up; in the units of the axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What is laid off along one side."""

    name: str  #: with its unit
    low: float
    high: float
    ticks: tuple[float, ...]
    names: tuple[str, ...] = ()  #: of the ticks, where these are no numbers
    is_folded: bool = False  #: linear up to the second tick, logarithmic beyond

    def part(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; beyond them at the nearer end."""
        low, high, inside = self._unfolded(self.low), self._unfolded(self.high), self._unfolded(value)
        return min(1.0, max(0.0, (inside - low) / (high - low)))

    def named(self) -> tuple[tuple[float, str], ...]:
        """The ticks and what stands beside them."""
        return tuple(zip(self.ticks, self.names or self._numbers(), strict=True))

    def _numbers(self) -> tuple[str, ...]:
        if self.is_folded or len(self.ticks) < 2:
            return tuple(f"{tick:g}" for tick in self.ticks)
        step = min(b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False))
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return tuple(f"{tick:.{digits}f}" for tick in self.ticks)

    def _unfolded(self, value: float) -> float:
        if not self.is_folded:
            return value
        knee = self.ticks[1]
        return value / knee if value < knee else 1.0 + math.log2(value / knee)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line through points, from left to right."""

    points: tuple[Point, ...]
    name: str = ""
    is_dashed: bool = False  #: what is not measured: chance, perfection


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """An area, by its outline: where the truth is likely to lie."""

    outline: tuple[Point, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point that was measured, with its intervals where they are known."""

    at: Point
    across: Point | None = None  #: least and most
    up: Point | None = None
    name: str = ""  #: an operating point is named, one of many is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A value of the axis that goes up, over the whole width."""

    at: float
    name: str
    is_dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """How the values of one row are spread: the middle half of them, and their median."""

    row: float
    lower: float
    median: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A place of a table, as dark as its share.

    Places are ticks of two axes whose ticks have names: from below upwards those of the rows, of which the first column
    belongs to the uppermost.
    """

    at: Point
    share: float  #: 0 to 1
    lines: tuple[str, ...]  #: what stands in it
    is_framed: bool = False  #: one of those that are hoped for


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Two axes and what lies between them."""

    title: str
    across: Axis
    up: Axis
    note: str = ""  #: of how many cases, and whose intervals
    bands: tuple[Band, ...] = ()
    curves: tuple[Curve, ...] = ()
    levels: tuple[Level, ...] = ()
    boxes: tuple[Box, ...] = ()
    dots: tuple[Point, ...] = ()  #: single cases
    marks: tuple[Mark, ...] = ()
    cells: tuple[Cell, ...] = ()
    framed: str = ""  #: what cells with a frame are
    counts: tuple[tuple[float, str], ...] = ()  #: how many cases lie above a place of the lower axis


def share_axis(name: str) -> Axis:
    """An axis from 0 to 1."""
    return Axis(name=name, low=0.0, high=1.0, ticks=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def axis_over(name: str, low: float, high: float, most: int = 6) -> Axis:
    """An axis that holds both values, with round ticks."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(number * step, 12) for number in range(first, last + 1))
    return Axis(name=name, low=ticks[0], high=ticks[-1], ticks=ticks)
