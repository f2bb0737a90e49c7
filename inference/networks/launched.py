"""Paints labels on a GPU: where the network's grid leaves a choice, values are interpolated by torch, plane by plane.

Where all eight neighbours on the network's grid say the same, interpolation between them cannot say anything else:
the winner of each corner wins every weighted mean of the corners. So only voxels at the borders of structures are
interpolated, and the result is exactly that of interpolating everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from inference.networks.ends import DENSE, Ends
from inference.networks.labels import Classes, Labels
from inference.networks.way import Way
from inference.networks.windows import Slab

Tensor = torch.Tensor
LARGEST_DENSE = 2**25  #: values of a plane that is interpolated whole
_Row = tuple[Tensor, Tensor]  #: one row of the answer (classes, height, width) and its states


def paint_launched(slabs: Iterable[Slab], way: Way, classes: Classes, labels: Labels) -> None:
    """Fill ``labels``, on the turned grid of the series, from slabs on a device; see ``painting.paint``."""
    rows, *plane = (Ends(axis) for axis in way.axes)
    down, across = (slice(axis.first, axis.stop) for axis in way.axes[1:])
    waiting, stop = way.axes[0].first, way.axes[0].stop
    held: _Row | None = None  # the last row before this slab: planes may lie between it and the first one
    between: _Between | None = None
    for slab in slabs:
        states = classes.states(slab.values)
        last = slab.first + slab.values.shape[1] - 1

        def row(number: int, slab: Slab = slab, states: Tensor = states, held: _Row | None = held) -> _Row:
            if number < slab.first:
                assert held is not None
                return held
            return slab.values[:, number - slab.first], states[number - slab.first]

        while waiting < stop and rows.high[waiting] <= last:
            ends = int(rows.low[waiting]), int(rows.high[waiting])
            if between is None or between.rows != ends:
                two = _two(plane[0], states.device), _two(plane[1], states.device)
                between = _Between(ends, (row(ends[0]), row(ends[1])), two, classes, between)
            labels[waiting, down, across] = between.at(float(rows.weight[waiting])).cpu().numpy()
            waiting += 1
        held = slab.values[:, -1].clone(), states[-1]


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
        values = self._low if self._high is self._low or not weight else torch.lerp(self._low, self._high, weight)
        found = self._classes.segments(self._classes.states(values[:, None])[0])
        if self._places is None:
            return found.view(self._plain.shape)
        return self._plain.flatten().index_copy(0, self._places, found).view(self._plain.shape)


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
    return row.index_select(1, across.low).index_select(0, down.low)


def _inside(values: Tensor, places: Tensor | None, down: _Two, across: _Two) -> Tensor:
    """Values (classes, height, width) of one row at some places of the plane, or at all: (classes, places), bilinear.

    First along the width, then along the height.
    """
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Two:
    """For each voxel of the series along an axis, the two of the network's that it lies between."""

    low: Tensor
    high: Tensor
    weight: Tensor  #: of the second


def _two(ends: Ends, device: torch.device) -> _Two:
    low, high, weight = (torch.from_numpy(each).to(device) for each in ends.seen)
    return _Two(low=low, high=high, weight=weight)
