"""Turns a network's averaged answer into segment numbers on the grid of the series, slab by slab.

Where all eight neighbours on the network's grid say the same, interpolation between them cannot say anything else:
the winner of each corner wins every weighted mean of the corners. So only voxels at the borders of structures are
interpolated, and the result is exactly that of interpolating everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from inference.networks.way import Axis, Way
from inference.networks.windows import Slab
from inference.packages.network import Segmentation

Tensor = torch.Tensor
DENSE = 0.2  #: part of a plane from which on it is interpolated whole: to gather a value costs five times as much
LARGEST_DENSE = 2**25  #: values of a plane that is interpolated whole
Labels = npt.NDArray[Any]  #: segment numbers; states where segments overlap
_Row = tuple[Tensor, Tensor]  #: one row of the answer (classes, height, width) and its states


class Classes:
    """How values of classes become one number for each voxel.

    A *state* is the index of the winning class, or a set of bits where classes count by themselves.
    """

    def __init__(self, output: Segmentation, *, as_logits: bool, device: torch.device) -> None:
        self._output = output
        threshold = output.threshold
        if as_logits and output.activation == "sigmoid":
            threshold = (
                math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.copysign(math.inf, threshold)
            )
        self._threshold = threshold
        self._segments = torch.tensor(output.segments, dtype=torch.uint8, device=device)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """What holds a number, or a bit for each class where they may overlap."""
        return np.dtype(np.min_scalar_type((1 << len(self._output.segments)) - 1 if self._output.overlapping else 255))

    def states(self, values: Tensor) -> Tensor:
        """(classes, …) to states (…)."""
        if self._output.competing:
            return winners(values)
        states = torch.zeros(values.shape[1:], dtype=torch.int64, device=values.device)
        for number, value in enumerate(values):
            states |= (value >= self._threshold).to(torch.int64) << number
        return states

    def segments(self, states: Tensor) -> Tensor:
        """States to segment numbers (uint8); where segments may overlap, the states themselves."""
        if self._output.overlapping:
            return states
        if self._output.competing:
            if states.device.type == "cpu":  # torch would make indices of 8 bytes first
                return torch.from_numpy(self._segments.numpy().take(states.numpy()))
            return self._segments[states.long()]
        labels = torch.zeros(states.shape, dtype=torch.uint8, device=states.device)
        for number, segment in enumerate(self._output.segments):
            labels.masked_fill_((states >> number & 1).bool(), segment)
        return labels


def winners(values: Tensor) -> Tensor:
    """The index of the greatest value along the first axis, as uint8; the first one of equals.

    A running maximum reads each class once, in order; argmax over the first axis strides and is ten times slower.
    """
    if values.device.type == "cpu" and values.dtype == torch.float32:
        return torch.from_numpy(_winners(values.detach().numpy()))
    best = values[0].clone()
    found = torch.zeros(values.shape[1:], dtype=torch.uint8, device=values.device)
    for number in range(1, values.shape[0]):
        found.masked_fill_(values[number] > best, number)
        torch.maximum(best, values[number], out=best)
    return found


def _winners(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The same on a CPU, row by row, so that what is compared stays in its cache.

    numpy, for torch starts its threads for every one of so many small steps: three times slower on an idle machine, and
    without bound on a busy one, where each step waits for a thread that is not running.
    """
    found = np.zeros(values.shape[1:], np.uint8)
    for row in range(values.shape[1]):
        best = values[0, row].copy()
        won = np.empty(best.shape, np.bool_)
        number_won = won.view(np.uint8)
        for number in range(1, values.shape[0]):
            np.greater(values[number, row], best, out=won)
            np.multiply(number_won, np.uint8(number), out=number_won)
            np.maximum(found[row], number_won, out=found[row])  # numbers rise: the last winner is the greatest
            np.maximum(best, values[number, row], out=best)
    return found


def paint(slabs: Iterable[Slab], way: Way, classes: Classes, *, nearest: bool) -> Labels:
    """Segment numbers on the turned grid of the series, or states where segments may overlap; 0 where the series was
    cut off.

    ``nearest``: labels are taken from the nearest voxel instead of interpolating values.
    """
    if way.is_same_grid:
        return _copied(slabs, way, classes)
    return (_Nearest if nearest else _Linear)(way, classes).fill(slabs)


def _copied(slabs: Iterable[Slab], way: Way, classes: Classes) -> Labels:
    labels = np.zeros(way.turned, classes.dtype)
    for slab in slabs:
        rows = slice(slab.first, slab.first + slab.values.shape[1])
        labels[rows] = classes.segments(classes.states(slab.values)).cpu().numpy()
    return labels


class _Nearest:
    """Labels of the network's grid, each voxel of the series from its nearest one."""

    def __init__(self, way: Way, classes: Classes) -> None:
        self._way, self._classes = way, classes

    def fill(self, slabs: Iterable[Slab]) -> Labels:
        coarse = np.empty(self._way.size, self._classes.dtype)
        for slab in slabs:
            rows = slice(slab.first, slab.first + slab.values.shape[1])
            coarse[rows] = self._classes.segments(self._classes.states(slab.values)).cpu().numpy()
        places = [np.floor(axis.positions() + 0.5).astype(np.int64) for axis in self._way.axes]
        labels = np.zeros(self._way.turned, self._classes.dtype)
        seen = tuple(slice(axis.first, axis.stop) for axis in self._way.axes)
        labels[seen] = coarse[np.ix_(*(place[part] for place, part in zip(places, seen, strict=True)))]
        return labels


class _Linear:
    """Values interpolated between voxels of the network's grid where these differ."""

    def __init__(self, way: Way, classes: Classes) -> None:
        self._way, self._classes = way, classes

    def fill(self, slabs: Iterable[Slab]) -> Labels:
        rows, *plane = (_Ends(axis) for axis in self._way.axes)
        labels = np.zeros(self._way.turned, np.uint8)
        down, across = (slice(axis.first, axis.stop) for axis in self._way.axes[1:])
        waiting = self._way.axes[0].first
        stop = self._way.axes[0].stop
        held: _Row | None = None  # the last row before this slab: planes may lie between it and the first one
        between: _Between | None = None
        for slab in slabs:
            states = self._classes.states(slab.values)
            last = slab.first + slab.values.shape[1] - 1

            def row(number: int, slab: Slab = slab, states: Tensor = states, held: _Row | None = held) -> _Row:
                if number < slab.first:
                    assert held is not None
                    return held
                return slab.values[:, number - slab.first], states[number - slab.first]

            while waiting < stop and rows.high[waiting] <= last:
                ends = int(rows.low[waiting]), int(rows.high[waiting])
                if between is None or between.rows != ends:
                    two = plane[0].on(states.device), plane[1].on(states.device)
                    between = _Between(ends, (row(ends[0]), row(ends[1])), two, self._classes, between)
                labels[waiting, down, across] = between.at(float(rows.weight[waiting])).cpu().numpy()
                waiting += 1
            held = slab.values[:, -1].clone(), states[-1]
        return labels


class _Between:
    """The planes of the series between two rows of the network's answer: what they share is computed once."""

    def __init__(
        self,
        rows: tuple[int, int],
        ends: tuple[_Row, _Row],
        plane: tuple[_Two, _Two],
        classes: Classes,
        before: _Between | None,
    ) -> None:
        self.rows, self._classes = rows, classes
        (low, low_states), (high, high_states) = ends
        down, across = plane
        labels = classes.segments(low_states)
        self._plain = _spread(labels, down, across)
        mixed = _mixed(low_states, high_states)
        is_dense = float(mixed.float().mean()) > DENSE and len(low) * self._plain.numel() <= LARGEST_DENSE
        self._places = None if is_dense else _spread(mixed, down, across).flatten().nonzero().flatten()
        self._low: Tensor
        self._high: Tensor
        shared = before is not None and before.rows[1] == rows[0] and self._places is None is before._places
        self._low = before._high if before and shared else _inside(low, self._places, down, across)
        self._high = self._low if rows[0] == rows[1] else _inside(high, self._places, down, across)

    def at(self, weight: float) -> Tensor:
        """Segment numbers (height, width) of the plane that lies at that part of the way from the first row."""
        if self._places is not None and not len(self._places):
            return self._plain
        values = self._low if self._high is self._low or not weight else _lerp(self._low, self._high, weight)
        found = self._classes.segments(self._classes.states(values[:, None])[0])
        if self._places is None:
            return found.view(self._plain.shape)
        return self._plain.flatten().index_copy(0, self._places, found).view(self._plain.shape)


def _lerp(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Values (classes, places) between those of two rows; on a CPU class by class, so that they stay in its cache."""
    if first.device.type != "cpu":
        return torch.lerp(first, second, weight)
    found = np.empty(first.shape, np.float32)
    for low, high, into in zip(first.numpy(), second.numpy(), found, strict=True):
        np.subtract(high, low, out=into)
        into *= np.float32(weight)
        into += low
    return torch.from_numpy(found)


def _mixed(low: Tensor, high: Tensor) -> Tensor:
    """For each voxel of a row of the network's answer, whether the cell that begins there has unlike corners."""
    mixed = low != high
    for states in (low, high):
        unlike = states[1:] != states[:-1]
        mixed[:-1] |= unlike
        beside = states[:, 1:] != states[:, :-1]
        mixed[:, :-1] |= beside
    mixed[:-1] |= mixed[1:].clone()
    mixed[:, :-1] |= mixed[:, 1:].clone()
    return mixed


def _spread(row: Tensor, down: _Two, across: _Two) -> Tensor:
    """For each voxel of the plane what stands at the one of the network's before it."""
    if row.device.type != "cpu":
        return row.index_select(1, across.low).index_select(0, down.low)
    return torch.from_numpy(row.numpy().take(across.low.numpy(), 1).take(down.low.numpy(), 0))


def _inside(values: Tensor, places: Tensor | None, down: _Two, across: _Two) -> Tensor:
    """Values (classes, height, width) of one row at some places of the plane, or at all: (classes, places), bilinear.

    First along the width, then along the height.
    """
    if places is None and values.device.type == "cpu":
        return torch.from_numpy(_whole(values.numpy(), down, across))
    if places is None:
        values = torch.lerp(values.index_select(2, across.low), values.index_select(2, across.high), across.weight)
        weight = down.weight[:, None]
        return torch.lerp(values.index_select(1, down.low), values.index_select(1, down.high), weight).flatten(1)
    y, x = places // len(across.low), places % len(across.low)
    flat, width = values.flatten(1), values.shape[2]
    lines = []
    for line in (down.low[y] * width, down.high[y] * width):
        first, second = (flat.index_select(1, line + column[x]) for column in (across.low, across.high))
        lines.append(torch.lerp(first, second, across.weight[x]))
    return torch.lerp(lines[0], lines[1], down.weight[y])


def _whole(values: npt.NDArray[np.float32], down: _Two, across: _Two) -> npt.NDArray[np.float32]:
    """The same of all places on a CPU, class by class."""
    (left, right, over), (upper, lower, below) = (
        (two.low.numpy(), two.high.numpy(), two.weight.numpy()) for two in (across, down)
    )
    found = np.empty((len(values), len(upper), len(left)), np.float32)
    second = np.empty(found.shape[1:], np.float32)
    for one, into in zip(values, found, strict=True):
        line = one.take(left, 1)
        line += (one.take(right, 1) - line) * over
        line.take(upper, 0, out=into, mode="clip")
        line.take(lower, 0, out=second, mode="clip")
        second -= into
        second *= below[:, None]
        into += second
    return found.reshape(len(values), -1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Two:
    """For each voxel of the series along an axis, the two of the network's that it lies between."""

    low: Tensor
    high: Tensor
    weight: Tensor  #: of the second


class _Ends:
    """The two voxels of the network's axis that each voxel of the series lies between, and the weight of the second."""

    def __init__(self, axis: Axis) -> None:
        places = axis.positions()
        if axis.nearest:
            places = np.floor(places + 0.5)
        self.low = np.clip(np.floor(places).astype(np.int64), 0, axis.size - 1)
        self.high = np.minimum(self.low + 1, axis.size - 1)
        self.weight = places - self.low
        self.high[self.weight == 0] = self.low[self.weight == 0]
        self._seen = slice(axis.first, axis.stop)

    def on(self, device: torch.device) -> _Two:
        """The same of the voxels that were seen."""
        low, high, weight = (
            torch.from_numpy(each[self._seen]).to(device) for each in (self.low, self.high, self.weight)
        )
        return _Two(low=low, high=high, weight=weight.float())
