"""Turns a network's averaged answer into segment numbers on the grid of the series, slab by slab.

Where all eight neighbours on the network's grid say the same, interpolation between them cannot say anything else:
the winner of each corner wins every weighted mean of the corners. So only voxels at the borders of structures are
interpolated, class by class, and the result is exactly that of interpolating everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from inference.networks.way import Axis, Way
from inference.networks.windows import Slab
from inference.packages.network import Segmentation

Tensor = torch.Tensor
Labels = npt.NDArray[np.uint8]
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

    def states(self, values: Tensor) -> Tensor:
        """(classes, …) to states (…)."""
        if self._output.competing:
            return winners(values)
        states = torch.zeros(values.shape[1:], dtype=torch.int64, device=values.device)
        for number, value in enumerate(values):
            states |= (value >= self._threshold).to(torch.int64) << number
        return states

    def segments(self, states: Tensor) -> Tensor:
        """States to segment numbers (uint8)."""
        if self._output.competing:
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


def _winners(values: npt.NDArray[np.float32]) -> Labels:
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
    """Segment numbers on the turned grid of the series; 0 where the series was cut off.

    ``nearest``: labels are taken from the nearest voxel instead of interpolating values.
    """
    if way.is_same_grid:
        return _copied(slabs, way, classes)
    return (_Nearest if nearest else _Linear)(way, classes).fill(slabs)


def _copied(slabs: Iterable[Slab], way: Way, classes: Classes) -> Labels:
    labels = np.zeros(way.turned, np.uint8)
    for slab in slabs:
        rows = slice(slab.first, slab.first + slab.values.shape[1])
        labels[rows] = classes.segments(classes.states(slab.values)).cpu().numpy()
    return labels


class _Nearest:
    """Labels of the network's grid, each voxel of the series from its nearest one."""

    def __init__(self, way: Way, classes: Classes) -> None:
        self._way, self._classes = way, classes

    def fill(self, slabs: Iterable[Slab]) -> Labels:
        coarse = np.empty(self._way.size, np.uint8)
        for slab in slabs:
            rows = slice(slab.first, slab.first + slab.values.shape[1])
            coarse[rows] = self._classes.segments(self._classes.states(slab.values)).cpu().numpy()
        places = [np.floor(axis.positions() + 0.5).astype(np.int64) for axis in self._way.axes]
        labels = np.zeros(self._way.turned, np.uint8)
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
        for slab in slabs:
            states = self._classes.states(slab.values)
            last = slab.first + slab.values.shape[1] - 1

            def row(number: int, slab: Slab = slab, states: Tensor = states, held: _Row | None = held) -> _Row:
                if number < slab.first:
                    assert held is not None
                    return held
                return slab.values[:, number - slab.first], states[number - slab.first]

            while waiting < stop and rows.high[waiting] <= last:
                ends = row(int(rows.low[waiting])), row(int(rows.high[waiting]))
                labels[waiting, down, across] = self._plane(*ends, rows.weight[waiting], plane).cpu().numpy()
                waiting += 1
            held = slab.values[:, -1].clone(), states[-1]
        return labels

    def _plane(self, lower: _Row, upper: _Row, weight: float, plane: list[_Ends]) -> Tensor:
        """One plane of the series between two rows of the network."""
        ys, xs = (end.on(lower[0].device) for end in plane)
        corners = [states[y][:, x] for _, states in (lower, upper) for y in ys[:2] for x in xs[:2]]
        result = corners[0].clone()
        mixed = torch.zeros_like(result, dtype=torch.bool)
        for corner in corners[1:]:
            mixed |= corner != result
        y, x = torch.nonzero(mixed, as_tuple=True)
        if len(y):
            values = _between((lower[0], upper[0]), weight, [end[y] for end in ys], [end[x] for end in xs])
            result[y, x] = self._classes.states(values[:, None])[0]
        return self._classes.segments(result)


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

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The two indices and the weight for the voxels that were seen."""
        low, high, weight = (
            torch.from_numpy(each[self._seen]).to(device) for each in (self.low, self.high, self.weight)
        )
        return low, high, weight.float()


def _between(rows: tuple[Tensor, Tensor], weight: float, ys: list[Tensor], xs: list[Tensor]) -> Tensor:
    """Values (classes, voxels) at some places, trilinear, between two rows (classes, height, width).

    ``ys``, ``xs``: the voxel before each place, the one after it, and the weight of that.
    """

    def at(y: Tensor, x: Tensor) -> Tensor:
        return torch.lerp(rows[0][:, y, x], rows[1][:, y, x], weight)

    upper = torch.lerp(at(ys[0], xs[0]), at(ys[0], xs[1]), xs[2])
    lower = torch.lerp(at(ys[1], xs[0]), at(ys[1], xs[1]), xs[2])
    return torch.lerp(upper, lower, ys[2])
