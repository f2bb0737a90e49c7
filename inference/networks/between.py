"""Paints labels on a CPU: where the network's grid leaves a choice, values are interpolated, in threads.

Where all eight neighbours on the network's grid say the same, interpolation between them cannot say anything else:
the winner of each corner wins every weighted mean of the corners. So only voxels at the borders of structures are
interpolated, and only classes that can win there; the result is that of interpolating everything.

In numpy, in threads that have their planes for themselves: torch's threads would wait for each other at each of
thousands of small steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from inference.networks.ends import DENSE, Ends
from inference.networks.labels import Classes, Contest, Labels, Values
from inference.networks.way import Way
from inference.networks.windows import Slab

TOGETHER = 8  #: rows of the answer whose planes one thread paints at a time
IN_CACHE = 2**16  #: values that are interpolated at a time
ALONE = 2**17  #: multiplications of a product of matrices that BLAS computes by itself: no second thread is woken
FEW = 8  #: classes up to which all are compared: to find out which can win costs as much
_SLOP = 1e-5  #: part of a value by which rounding may miss
States = npt.NDArray[Any]
Places = npt.NDArray[np.int64]
Span = tuple[int, int]


def paint_between(slabs: Iterable[Slab], way: Way, classes: Classes, labels: Labels) -> None:
    """Fill ``labels``, on the turned grid of the series; see ``painting.paint``."""
    rows = Ends(way.axes[0])
    down, across = (_Two.of(Ends(axis)) for axis in way.axes[1:])
    seen = labels[:, *(slice(axis.first, axis.stop) for axis in way.axes[1:])]
    waiting, stop = way.axes[0].first, way.axes[0].stop
    held: tuple[Values, States] | None = None  # the last row before this slab: planes may lie between it and the first
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for slab in slabs:
            values = slab.values.numpy()
            found = threads.map(
                lambda row, values=values: classes.found(values[:, row, None])[0], range(values.shape[1])
            )
            answer = _Answer(first=slab.first, values=values, states=list(found), held=held)
            ready = waiting + int(np.searchsorted(rows.high[waiting:stop], slab.first + values.shape[1], "left"))
            scene = _Scene(answer=answer, rows=rows, down=down, across=across, classes=classes, labels=seen)
            list(threads.map(lambda span, scene=scene: _Painter(scene).paint(span), _groups(rows, waiting, ready)))
            waiting = ready
            held = values[:, -1].copy(), answer.states[-1]


def _groups(rows: Ends, start: int, stop: int) -> list[Span]:
    """Planes that lie between the same rows stay together."""
    cuts = (np.flatnonzero(np.diff(rows.low[start:stop])) + 1 + start).tolist()[TOGETHER - 1 :: TOGETHER]
    return [(first, last) for first, last in zip([start, *cuts], [*cuts, stop], strict=True) if first < last]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answer:
    """The rows of the answer that are at hand."""

    first: int
    values: Values  #: (classes, rows, height, width)
    states: list[States]  #: of each row
    held: tuple[Values, States] | None  #: the row before

    def row(self, number: int) -> tuple[Values, States]:
        """(classes, height, width) and its states."""
        if number < self.first:
            assert self.held is not None
            return self.held
        return self.values[:, number - self.first], self.states[number - self.first]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Two:
    """For each voxel of the series that was seen along an axis, the two of the network's that it lies between."""

    low: Places
    high: Places
    weight: Values  #: of the second

    @classmethod
    def of(cls, ends: Ends) -> _Two:
        low, high, weight = ends.seen
        return cls(low=low, high=high, weight=weight)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scene:
    """What painters share and do not change, but for the planes of each."""

    answer: _Answer
    rows: Ends
    down: _Two
    across: _Two
    classes: Classes
    labels: Labels  #: (planes, height, width)


@dataclass(slots=True, kw_only=True, eq=False)
class _Between:
    """What the planes between two rows of the answer share."""

    rows: Span
    plain: Labels | None = None  #: (height, width): right wherever the corners agree; None for a plane as a whole
    places: Places | None = None  #: where the corners do not agree
    chosen: Places | None = None  #: classes that can win; None for all
    low: Values | None = None  #: of the first row: (classes, places), or (classes, rows of the answer, width)
    high: Values | None = None


class _Painter:
    """Paints planes, in memory of its own that is used again: to get it anew costs more than what is computed in it."""

    def __init__(self, scene: _Scene) -> None:
        self._scene, self._classes = scene, scene.classes
        self._rooms: dict[str, Values] = {}
        self._contests: dict[tuple[int, ...], Contest] = {}
        self._cut: dict[int, list[tuple[slice, Span, Values]]] = {}

    def paint(self, span: Span) -> None:
        """The planes from the first number to before the second."""
        start, stop = span
        rows, labels = self._scene.rows, self._scene.labels
        into = labels[start:stop]
        # Where lines are not those of the series, several planes together make whole ones of these.
        straight = abs(labels.strides[2]) == labels.itemsize
        found = into if straight else np.empty(into.shape, into.dtype)
        between: _Between | None = None
        for plane in range(start, stop):
            ends = int(rows.low[plane]), int(rows.high[plane])
            if between is None or between.rows != ends:
                between = self._between(ends, between)
            self._plane(between, np.float32(rows.weight[plane]), found[plane - start])
        if not straight:
            into[...] = found

    def _between(self, ends: Span, before: _Between | None) -> _Between:
        scene = self._scene
        (low, low_states), (high, high_states) = (scene.answer.row(number) for number in ends)
        mixed = _mixed(low_states, high_states)
        made = _Between(rows=ends)
        if mixed.mean() <= DENSE:
            labels = self._classes.numbers(low_states)
            made.plain = labels.take(scene.across.low, 1).take(scene.down.low, 0)
            made.places = np.flatnonzero(mixed.take(scene.across.low, 1).take(scene.down.low, 0))
            if not len(made.places):
                return made
        if self._classes.competing and len(low) > FEW:
            made.chosen = able(low, high, np.union1d(low_states, high_states))
            low, high = low[made.chosen], high[made.chosen]
        if made.places is not None:
            made.low, made.high = (self._at(made.places, row) for row in (low, high))
            return made
        is_next = before is not None and before.plain is None and before.rows[1] == ends[0] and made.chosen is None
        made.low = before.high if before is not None and is_next else self._along(low, ends[0])
        made.high = made.low if ends[0] == ends[1] else self._along(high, ends[1])
        return made

    def _along(self, values: Values, row: int) -> Values:
        """One row of the answer, interpolated along the width: (classes, height, width of the series)."""
        across, shape = self._scene.across, (*values.shape[:2], len(self._scene.across.low))
        found, second = self._room(f"row {row % 2}", shape), self._room("second", shape)
        values.take(across.low, 2, out=found, mode="clip")  # indices are right: to check them takes twice the time
        values.take(across.high, 2, out=second, mode="clip")
        second -= found
        second *= across.weight
        found += second
        return found

    def _at(self, places: Places, values: Values) -> Values:
        """One row of the answer at some places of the plane, bilinear: (classes, places)."""
        across, down = self._scene.across, self._scene.down
        y, x = np.divmod(places, len(across.low))
        flat, width = values.reshape(len(values), -1), values.shape[2]
        lines: list[Values] = []
        for line in (down.low[y] * width, down.high[y] * width):
            first, second = (flat.take(line + column[x], 1, mode="clip") for column in (across.low, across.high))
            second -= first
            second *= across.weight[x]
            first += second
            lines.append(first)
        above, below = lines
        below -= above
        below *= down.weight[y]
        above += below
        return above

    def _plane(self, between: _Between, weight: np.float32, into: Labels) -> None:
        low, high = between.low, between.high
        if between.plain is not None:
            into[...] = between.plain
        if low is None or high is None:
            return
        if between.places is None:
            self._whole(between, weight, into)
            return
        found = self._said(self._lerp("values", low, high, weight), between.chosen)
        if into.flags.c_contiguous:
            into.reshape(-1)[between.places] = found
        else:
            into[np.divmod(between.places, into.shape[1])] = found

    def _whole(self, between: _Between, weight: np.float32, into: Labels) -> None:
        """A plane from two rows that were interpolated along the width, a few lines at a time."""
        low, high = between.low, between.high
        assert low is not None
        assert high is not None
        classes, _, width = low.shape
        for lines, (first, last), weights in self._strips(classes, width):
            row = self._lerp("strip", low[:, first:last], high[:, first:last], weight)
            values = self._room("values", (classes, len(weights), width))
            np.matmul(weights, row, out=values)  # faster than to gather two rows of the answer and to weigh them
            into[lines] = self._said(values.reshape(classes, -1), between.chosen).reshape(-1, width)

    def _strips(self, classes: int, width: int) -> list[tuple[slice, Span, Values]]:
        """Lines that are interpolated at a time, the rows of the answer that they lie between, and the weights."""
        down = self._scene.down
        slope = max(1e-3, float(down.low[-1] - down.low[0]) / len(down.low))  # n lines need n * slope + 2 rows
        alone = (math.sqrt(1 + slope * ALONE / width) - 1) / slope
        step = max(1, min(int(alone), max(8, IN_CACHE // (classes * width))))
        if step not in self._cut:
            self._cut[step] = []
            for start in range(0, len(down.low), step):
                lines = slice(start, min(start + step, len(down.low)))
                low, high, weight = down.low[lines], down.high[lines], down.weight[lines]
                first, numbers = int(low[0]), np.arange(len(low))
                weights = np.zeros((len(low), int(high.max()) + 1 - first), np.float32)
                weights[numbers, low - first] = 1 - weight
                weights[numbers, high - first] += weight
                self._cut[step].append((lines, (first, first + weights.shape[1]), weights))
        return self._cut[step]

    def _said(self, values: Values, chosen: Places | None) -> Labels:
        """(classes, places) to segment numbers."""
        if not self._classes.competing:
            return self._classes.numbers(self._classes.found(values[:, None])[0])
        if values.shape not in self._contests:
            self._contests[values.shape] = Contest(len(values), values.shape[1:])
        states = self._contests[values.shape].won(values)
        return self._classes.numbers(states if chosen is None else chosen.take(states))

    def _lerp(self, name: str, low: Values, high: Values, weight: np.float32) -> Values:
        if not weight:
            return low
        found = self._room(name, low.shape)
        np.subtract(high, low, out=found)
        found *= weight
        found += low
        return found

    def _room(self, name: str, shape: tuple[int, ...]) -> Values:
        """Memory that is used again: to get it anew would cost more than what is computed in it."""
        size = math.prod(shape)
        if name not in self._rooms or self._rooms[name].size < size:
            self._rooms[name] = np.empty(size, np.float32)
        return self._rooms[name][:size].reshape(shape)


def _mixed(low: States, high: States) -> npt.NDArray[np.bool_]:
    """For each voxel of a row of the answer, whether the cell that begins there has unlike corners."""
    mixed: npt.NDArray[np.bool_] = low != high
    for states in (low, high):
        mixed[:-1] |= states[1:] != states[:-1]
        mixed[:, :-1] |= states[:, 1:] != states[:, :-1]
    mixed[:-1] |= mixed[1:].copy()
    mixed[:, :-1] |= mixed[:, 1:].copy()
    return mixed


def able(low: Values, high: Values, winners: States) -> Places:
    """Classes that can win anywhere between two rows, given those that win at corners.

    A class whose greatest corner is below the least corner of another one is below that everywhere within the cell.
    """
    least = _corners(np.minimum, low[winners[0]], high[winners[0]])
    for number in winners[1:]:
        np.maximum(least, _corners(np.minimum, low[number], high[number]), out=least)
    least -= _SLOP * float(np.abs(least).max())
    floor = float(least.min())
    able = set(winners.tolist())
    for number in set(range(len(low))) - able:
        if max(float(low[number].max()), float(high[number].max())) < floor:
            continue
        if (_corners(np.maximum, low[number], high[number]) >= least).any():
            able.add(number)
    return np.array(sorted(able), np.int64)


def _corners(of: np.ufunc, low: Values, high: Values) -> Values:
    """The least or greatest of the eight corners of each cell."""
    found: Values = of(low, high)
    of(found[:-1], found[1:], out=found[:-1])
    of(found[:, :-1], found[:, 1:], out=found[:, :-1])
    return found
