"""The way from a series' grid to the network's and back, as one linear map of each axis."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from inference.imaging.orient import Orientation

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of the turned series and what it has become: index of the network = ``scale`` * index + ``offset``."""

    source: int  #: voxels of the series along it
    size: int  #: voxels of the network along it
    scale: float = 1.0
    offset: float = 0.0
    #: Part of the network's axis, in indices, that shows the series; the rest is padding.
    low: float = 0.0
    high: float = math.inf
    #: Part of the series, in indices, that the network saw; the rest was cut off.
    first: int = 0
    stop: int = -1
    nearest: bool = False  #: answers are not interpolated along it on the way back

    @classmethod
    def of(cls, size: int) -> Axis:
        """An axis that nothing has happened to."""
        return cls(source=size, size=size, high=size - 1.0, stop=size)

    def cut(self, low: int, high: int) -> Axis:
        """Keep the indices from ``low`` to below ``high``; below 0 or beyond the size they are padding."""
        seen = [i for i in range(self.first, self.stop) if low - 0.5 <= self.scale * i + self.offset < high - 0.5]
        return replace(
            self,
            size=high - low,
            offset=self.offset - low,
            low=max(self.low, low) - low,
            high=min(self.high, high - 1.0) - low,
            first=seen[0] if seen else self.first,
            stop=seen[-1] + 1 if seen else self.first,
        )

    def stretch(self, size: int, ratio: float, *, edges: bool, nearest: bool = False) -> Axis:
        """Bring to another size: an index becomes ``ratio`` times itself, from the outer edge or from the centre."""
        shift = (ratio - 1) / 2 if edges else 0.0
        return replace(
            self,
            size=size,
            scale=self.scale * ratio,
            offset=self.offset * ratio + shift,
            low=self.low * ratio,
            high=min(size - 1.0, (self.high + 1) * ratio - 1 if edges else self.high * ratio),
            nearest=self.nearest or nearest,
        )

    def positions(self) -> npt.NDArray[np.float64]:
        """Where each voxel of the series lies on the network's axis, held within what shows the series."""
        places = self.scale * np.arange(self.source) + self.offset
        return np.clip(places, self.low, max(self.low, self.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Turned, then each axis by itself."""

    orientation: Orientation
    axes: tuple[Axis, Axis, Axis]  #: in the order of the network's array

    @property
    def size(self) -> Triple:
        """Voxels of the network's grid."""
        first, second, third = (axis.size for axis in self.axes)
        return first, second, third

    @property
    def turned(self) -> Triple:
        """Voxels of the series' grid, in the order of the network's axes."""
        first, second, third = (axis.source for axis in self.axes)
        return first, second, third

    @property
    def is_same_grid(self) -> bool:
        """Whether voxels are those of the series, turned at most."""
        return all((a.scale, a.offset, a.size, a.first, a.stop) == (1, 0, a.source, 0, a.source) for a in self.axes)

    def point(self, index: tuple[float, float, float]) -> tuple[float, float, float]:
        """A place on the network's grid (fractional index) as frame, row and column of the series."""
        turned = [(place - axis.offset) / axis.scale for place, axis in zip(index, self.axes, strict=True)]
        back = [0.0, 0.0, 0.0]
        for place, axis, from_axis, flipped in zip(
            turned, self.axes, self.orientation.axes, self.orientation.flipped, strict=True
        ):
            back[from_axis] = axis.source - 1 - place if flipped else place
        return back[0], back[1], back[2]

    def affine(self, source: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """4 x 4: index on the network's grid to patient coordinates, given that of the series."""
        origin = np.array([*self.point((0.0, 0.0, 0.0)), 1.0])
        result = np.eye(4)
        result[:3, 3] = (source @ origin)[:3]
        for axis in range(3):
            step = [0.0, 0.0, 0.0]
            step[axis] = 1.0
            one = np.array([*self.point((step[0], step[1], step[2])), 1.0])
            result[:3, axis] = (source @ (one - origin))[:3]
        return result

    def back(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """A map (channels, and the network's grid) on the grid of the series, linear; zero where it was cut off."""
        result = np.asarray(values, np.float32)
        for number, axis in enumerate(self.axes):
            result = _along(result, number + 1, axis)
        return np.ascontiguousarray(np.stack([self.orientation.undo(channel) for channel in result]))

    def replaced(self, axes: list[Axis]) -> Way:
        """The way with other axes."""
        return replace(self, axes=(axes[0], axes[1], axes[2]))


def _along(values: npt.NDArray[np.float32], number: int, axis: Axis) -> npt.NDArray[np.float32]:
    places = axis.positions()
    if axis.nearest:
        places = np.floor(places + 0.5)
    low = np.clip(np.floor(places).astype(np.int64), 0, axis.size - 1)
    high = np.minimum(low + 1, axis.size - 1)
    shape = [1] * values.ndim
    shape[number] = -1
    weight = (places - low).astype(np.float32).reshape(shape)
    result = values.take(low, number) * (1 - weight) + values.take(high, number) * weight
    seen = np.zeros(axis.source, np.float32)
    seen[axis.first : axis.stop] = 1
    found: npt.NDArray[np.float32] = result * seen.reshape(shape)
    return found
