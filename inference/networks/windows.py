"""Runs a network window after window over a volume, and gives the averaged answer slab by slab.

Windows are taken in rows along the first axis. What no later window can reach is finished and handed on at once, so
that only one slab of the answer is ever held: with many classes a small part of what the whole would take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, product

import torch

from inference.packages.network import Windows

Tensor = torch.Tensor
Span = tuple[int, int]
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slab:
    """Rows of the answer that are finished."""

    first: int  #: row of the first one
    values: Tensor  #: (classes, rows, height, width), float32; overwritten when the next slab is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which windows a volume is cut into."""

    rows: tuple[Span, ...]  #: along the first axis, in order
    columns: tuple[tuple[Span, Span], ...]  #: along the second and third axis, for each row
    is_single: bool  #: whether no voxel is seen twice

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.rows) * len(self.columns)


def plan(size: Sequence[int], windows: Windows) -> Plan:
    """The windows for a volume of that size, which is no smaller than one of them."""
    if windows.dimensions == 2:
        step = windows.batch
        rows = [(first, min(first + step, size[0])) for first in range(0, size[0], step)]
        plane = windows.size or tuple(size[1:])
        inside = plane
    else:
        window = windows.size or tuple(size)
        rows = _spans(size[0], window[0], windows)
        inside = window[1:]
    second, third = (_spans(whole, part, windows) for whole, part in zip(size[1:], inside, strict=True))
    alone = _is_apart(rows) and _is_apart(second) and _is_apart(third)
    return Plan(rows=tuple(rows), columns=tuple(product(second, third)), is_single=alone)


def _spans(size: int, window: int, windows: Windows) -> list[Span]:
    """Where windows lie along one axis."""
    step = max(1, int(window * (1 - windows.overlap)))
    count = max(1, math.ceil((size - window) / step) + 1)
    if windows.steps == "even" and count > 1:
        firsts = [round(i * (size - window) / (count - 1)) for i in range(count)]
    else:
        firsts = [min(i * step, size - window) for i in range(count)]
    return [(first, first + window) for first in firsts]


def _is_apart(spans: Sequence[Span]) -> bool:
    return all(before[1] <= after[0] for before, after in pairwise(spans))


def importance(size: Sequence[int], windows: Windows) -> Tensor:
    """The weight of each voxel of a window of that size."""
    if windows.blending == "constant":
        return torch.ones(tuple(size))
    weight, least = torch.ones(()), 1.0
    for length in size:
        centre = length // 2 if windows.steps == "even" else (length - 1) / 2
        places = torch.arange(length, dtype=torch.float64) - centre
        bell = torch.exp(-0.5 * (places / (windows.sigma * length)) ** 2)
        least *= float(bell[bell > 0].min())
        weight = weight[..., None] * bell.float()  # in float32: the whole window in float64 would be the peak of memory
    return weight.clamp_(min=max(windows.floor, least, torch.finfo(torch.float32).tiny))


def slabs(
    image: Tensor, run: Run, windows: Windows, checkpoint: Callable[[], None], *, averaged: bool
) -> Iterator[Slab]:
    """The answer for an image (channels, depth, height, width), slab after slab.

    ``run`` takes (windows, channels, depth, height, width) and gives (windows, classes, depth, height, width); for
    planes both lack the depth. ``averaged``: whether values are divided by the sum of their weights; the class with the
    greatest value is the same without. ``checkpoint`` is called before each pass.
    """
    cut = plan(image.shape[1:], windows)
    passes = _planes if windows.dimensions == 2 else _blocks
    if cut.is_single:
        yield from _whole(passes(image, cut, run, windows, checkpoint), image, cut)
        return
    gather = _Gather(image, cut, windows, averaged=averaged)
    for done, (row, column, answer) in enumerate(passes(image, cut, run, windows, checkpoint), start=1):
        gather.add(row, column, answer)
        if done % len(cut.columns) == 0:
            following = gather.following(done // len(cut.columns) - 1)
            yield gather.finished(following)
            gather.move_to(following)


def _whole(answers: Iterator[tuple[Span, tuple[Span, Span], Tensor]], image: Tensor, cut: Plan) -> Iterator[Slab]:
    """Windows that do not overlap need no weights."""
    for row in cut.rows:
        group = list(islice(answers, len(cut.columns)))
        if len(group) == 1:
            yield Slab(first=row[0], values=group[0][2])
            continue
        values = image.new_empty((group[0][2].shape[0], row[1] - row[0], *image.shape[2:]))
        for _, (second, third), answer in group:
            values[:, :, slice(*second), slice(*third)] = answer
        yield Slab(first=row[0], values=values)


def _blocks(
    image: Tensor, cut: Plan, run: Run, windows: Windows, checkpoint: Callable[[], None]
) -> Iterator[tuple[Span, tuple[Span, Span], Tensor]]:
    """Each window with its place and its answer."""
    for row in cut.rows:
        columns = iter(cut.columns)
        while group := list(islice(columns, windows.batch)):
            checkpoint()
            parts = [image[:, slice(*row), slice(*second), slice(*third)] for second, third in group]
            answers = run(torch.stack(parts) if len(parts) > 1 else parts[0][None])
            for column, answer in zip(group, answers, strict=True):
                yield row, column, answer


def _planes(
    image: Tensor, cut: Plan, run: Run, windows: Windows, checkpoint: Callable[[], None]
) -> Iterator[tuple[Span, tuple[Span, Span], Tensor]]:
    """The same for a network of planes: a row of windows is a batch of planes, each with its neighbours."""
    last = image.shape[1] - 1
    offsets = range(-windows.neighbours, windows.neighbours + 1)
    for row in cut.rows:
        places = [[min(max(place + offset, 0), last) for place in range(*row)] for offset in offsets]
        for second, third in cut.columns:
            checkpoint()
            part = image[:, :, slice(*second), slice(*third)]
            planes = torch.cat([part[:, neighbour] for neighbour in places], dim=0)
            yield row, (second, third), run(planes.transpose(0, 1)).transpose(0, 1)


class _Gather:
    """The sums of the rows that are not finished."""

    def __init__(self, image: Tensor, cut: Plan, windows: Windows, *, averaged: bool) -> None:
        self._cut, self._windows, self._averaged = cut, windows, averaged
        self._plane = tuple(image.shape[2:])
        self._depth = max(stop - first for first, stop in cut.rows)
        self._new = image.new_zeros
        self._sum: Tensor | None = None
        self._weights = self._new((1 if averaged else 0, self._depth, *self._plane))
        self._weight: dict[tuple[int, ...], Tensor] = {}
        self._top = cut.rows[0][0]

    def add(self, row: Span, column: tuple[Span, Span], answer: Tensor) -> None:
        """Add one answer (classes, depth, height, width), weighted."""
        if self._sum is None:
            self._sum = self._new((answer.shape[0], self._depth, *self._plane))
        weight = self._importance(tuple(answer.shape[1:]))
        place = (slice(None), slice(row[0] - self._top, row[1] - self._top), slice(*column[0]), slice(*column[1]))
        self._sum[place].addcmul_(answer, weight)
        if self._averaged:
            self._weights[place].add_(weight)

    def following(self, row: int) -> int:
        """The first row that a window after that row of windows still reaches."""
        rows = self._cut.rows
        return rows[row + 1][0] if row + 1 < len(rows) else rows[row][1]

    def finished(self, following: int) -> Slab:
        """The rows before that one."""
        assert self._sum is not None
        values = self._sum[:, : following - self._top]
        if self._averaged:
            values.div_(self._weights[:, : following - self._top])
        return Slab(first=self._top, values=values)

    def move_to(self, following: int) -> None:
        """Let go of the rows before that one; the others move up."""
        count = following - self._top
        self._top = following
        for kept in (self._sum, self._weights):
            for channel in () if kept is None else kept:
                channel[: self._depth - count] = channel[count:].clone()
                channel[self._depth - count :] = 0

    def _importance(self, size: tuple[int, ...]) -> Tensor:
        if size not in self._weight:
            inside = size[1:] if self._windows.dimensions == 2 else size
            weight = importance(inside, self._windows).to(self._weights.device)
            self._weight[size] = weight if self._windows.dimensions == 3 else weight.expand(size)
        return self._weight[size]
