"""Interpolation along the axes of a grid, by positions, so that each way there has an exact way back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

Tensor = torch.Tensor
Interpolation = Literal["nearest", "linear", "spline"]
#: Values of one part of a volume that is drawn: what a launch on a GPU is worth, and what a core's cache holds.
TOGETHER = (2**24, 2**18)
Made = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """Which old voxels each new one along an axis is made of."""

    axis: int  #: of (depth, height, width)
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32] | None  #: of ``high``; None where ``low`` is the nearest voxel and taken alone

    @classmethod
    def at(cls, axis: int, positions: npt.NDArray[np.float64], size: int, *, nearest: bool = False) -> Line:
        """At fractional indices among ``size`` voxels, linear or nearest; beyond the ends the last voxel.

        Halves are rounded up by ``nearest``, as torch's ``nearest-exact`` does.
        """
        last = size - 1
        if nearest:
            taken = np.clip(np.floor(positions + 0.5).astype(np.int64), 0, last)
            return cls(axis=axis, low=taken, high=taken, weight=None)
        held = np.clip(positions, 0, last)
        low = np.floor(held).astype(np.int64)
        return cls(axis=axis, low=low, high=np.minimum(low + 1, last), weight=(held - low).astype(np.float32))

    def turned(self, axis: int, size: int, *, flipped: bool) -> Line:
        """The same for a grid that has this axis elsewhere, and perhaps the other way round: ``size`` old voxels."""
        if not flipped:
            return replace(self, axis=axis)
        return replace(self, axis=axis, low=size - 1 - self.low, high=size - 1 - self.high)

    def part(self, start: int, stop: int) -> tuple[slice, Line]:
        """Only some of the new voxels: which old ones these need, and the line among those."""
        low, high = self.low[start:stop], self.high[start:stop]
        first = int(min(low.min(), high.min()))
        weight = None if self.weight is None else self.weight[start:stop]
        return (
            slice(first, int(max(low.max(), high.max())) + 1),
            replace(self, low=low - first, high=high - first, weight=weight),
        )

    def of(self, image: Tensor, made: Made = lambda part: part) -> Tensor:
        """The new voxels of an image (channels, depth, height, width).

        ``made`` is applied to what is gathered, before it is weighted.
        """
        axis = self.axis + 1
        first = made(_gathered(image, self.low, axis))
        if self.weight is None:
            return first
        second = made(_gathered(image, self.high, axis))
        shape = [1] * image.ndim
        shape[axis] = -1
        if image.device.type != "cpu":
            return torch.lerp(first, second, torch.from_numpy(self.weight).to(image.device).view(shape))
        low, found = first.numpy(), second.numpy()  # torch would have its threads wait for each other at every step
        found -= low
        found *= self.weight.reshape(shape)
        found += low
        return second


def _gathered(image: Tensor, places: npt.NDArray[np.int64], axis: int) -> Tensor:
    if image.device.type != "cpu":
        return image.index_select(axis, torch.from_numpy(places).to(image.device))
    return torch.from_numpy(image.numpy().take(places, axis))


def resized(old: Sequence[int], new: Sequence[int], *, nearest: bool = False, coarse: int | None = None) -> list[Line]:
    """Lines to another number of voxels along each axis, the outer edges in place.

    ``nearest``: along every axis, else along the axis ``coarse`` alone. Axes that shrink most go first, for speed.
    """
    axes = sorted((a for a in range(3) if old[a] != new[a]), key=lambda a: new[a] / old[a])
    return [Line.at(a, edges(old[a], new[a]), old[a], nearest=nearest or a == coarse) for a in axes]


def edges(old: int, new: int) -> npt.NDArray[np.float64]:
    """Where the centres of ``new`` voxels lie among ``old`` ones, outer edges in place."""
    return (np.arange(new, dtype=np.float64) + 0.5) * (old / new) - 0.5


def drawn(
    channels: Sequence[Tensor], lines: Sequence[Line], values: Callable[[Tensor], object] | None = None
) -> Tensor:
    """Channels (depth, height, width) of any type along one line after the other: (channels, …), float32.

    ``values`` changes float32 values in place, voxel by voxel, before anything is interpolated. The same as doing all
    this to the whole, but part by part: only what is needed is gathered, and becomes float32. The whole would take
    twice the memory of what is stored, and the time to write it.
    """
    if not lines:
        raise ValueError("nothing is to be drawn")
    frames = next((number for number, line in enumerate(lines) if line.axis == 0), len(lines))
    images = list(channels)
    if frames:
        within = _parts(images, lines[:frames], lambda start, stop: (slice(start, stop), lines[:frames]), values)
        if frames == len(lines):
            return within
        images, values = list(within), None
    first, *others = lines[frames:]

    def part(start: int, stop: int) -> tuple[slice, Sequence[Line]]:
        needed, own = first.part(start, stop)
        return needed, (own, *others)

    return _parts(images, (first, *others), part, values)


def _parts(
    channels: Sequence[Tensor],
    lines: Sequence[Line],
    part: Callable[[int, int], tuple[slice, Sequence[Line]]],
    values: Callable[[Tensor], object] | None,
) -> Tensor:
    """Part by part along the first axis, on a CPU in as many threads as torch has.

    ``part`` says for some new frames which old ones they need, and the lines among those.
    """
    size, device = list(channels[0].shape), channels[0].device
    size[lines[0].axis] = len(lines[0].low)
    together = max(1, TOGETHER[device.type == "cpu"] // (len(channels) * math.prod(size[1:])))
    for line in lines:
        size[line.axis] = len(line.low)
    found = torch.empty((len(channels), *size), dtype=torch.float32, device=device)

    def real(gathered: Tensor) -> Tensor:
        made = gathered.to(torch.float32)
        if values is not None:
            values(made)
        return made

    def fill(start: int) -> None:
        stop = min(start + together, size[0])
        frames, own = part(start, stop)
        some = [one[frames] for one in channels]
        image = own[0].of(some[0][None] if len(some) == 1 else torch.stack(some), real)
        for line in own[1:]:
            image = line.of(image)
        found[:, start:stop] = image

    starts = range(0, size[0], together)
    if device.type != "cpu":
        for start in starts:
            fill(start)
        return found
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(fill, starts))
    return found


def resize(image: Tensor, size: Sequence[int], interpolation: Interpolation, coarse: int | None = None) -> Tensor:
    """An image (channels, depth, height, width) on another number of voxels; its outer edges stay in place.

    ``spline`` is cubic with the edge repeated and values kept within those of the image, computed on the CPU; along
    the axis ``coarse`` the nearest voxel is taken instead.
    """
    if interpolation == "spline":
        return _spline(image, size, coarse)
    lines = resized(image.shape[1:], size, nearest=interpolation == "nearest", coarse=coarse)
    return drawn(list(image), lines) if lines else image


def _spline(image: Tensor, size: Sequence[int], coarse: int | None) -> Tensor:
    result = []
    for channel in image.cpu().numpy():
        low, high = float(channel.min()), float(channel.max())
        wanted = [channel.shape[a] if a == coarse else size[a] for a in range(3)]
        zoom = [new / old for new, old in zip(wanted, channel.shape, strict=True)]
        if coarse is None:
            grown = ndimage.zoom(channel, zoom, order=3, mode="nearest", grid_mode=True)
        else:
            planes = np.moveaxis(channel, coarse, 0)
            inside = [zoom[a] for a in range(3) if a != coarse]
            grown = np.moveaxis(
                np.stack([ndimage.zoom(p, inside, order=3, mode="nearest", grid_mode=True) for p in planes]), 0, coarse
            )
        result.append(torch.from_numpy(np.clip(grown, low, high).astype(np.float32)))
    found = torch.stack(result).to(image.device)
    if coarse is not None and found.shape[coarse + 1] != size[coarse]:
        old = found.shape[coarse + 1]
        found = Line.at(coarse, edges(old, size[coarse]), old, nearest=True).of(found)
    return found
