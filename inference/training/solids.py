"""Draws soft-edged solids into a block of voxels: what digital phantoms are made of.

Points and lengths are in mm in patient coordinates, in the order of array axes: z to the head, y to the back, x to the
left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Point = tuple[float, float, float]
Distance = Callable[[Floats, Floats, Floats], Floats]  #: signed, negative inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A block of voxels along the axes of the patient."""

    origin: Point  #: centre of the first voxel
    spacing: Point
    shape: tuple[int, int, int]

    def axis(self, number: int) -> Floats:
        """Positions along one axis."""
        return (self.origin[number] + self.spacing[number] * np.arange(self.shape[number])).astype(np.float32)

    def index(self, point: Point) -> tuple[float, float, float]:
        """The point in voxels; whole numbers are centres."""
        z, y, x = ((p - o) / s for p, o, s in zip(point, self.origin, self.spacing, strict=True))
        return z, y, x


class Canvas:
    """HU values on a grid, into which solids are laid one over the other."""

    def __init__(self, grid: Grid, background: float) -> None:
        self.grid = grid
        self.hu: Floats = np.full(grid.shape, background, np.float32)
        self._axes = tuple(grid.axis(number) for number in range(3))
        self._edge = np.float32(1.2 * max(grid.spacing))

    def lay(self, distance: Distance, bounds: tuple[Point, Point], value: float | Callable[[Floats], Floats]) -> None:
        """Fill a solid with HU (a number, or a function of y); its edge fades over about a voxel."""
        places = []
        for axis, low, high in zip(self._axes, *bounds, strict=True):
            places.append(slice(*np.searchsorted(axis, (low - self._edge, high + self._edge))))
        z, y, x = (axis[place] for axis, place in zip(self._axes, places, strict=True))
        if not (z.size and y.size and x.size):
            return
        gap = distance(z[:, None, None], y[None, :, None], x[None, None, :])
        cover = np.clip(0.5 - gap / self._edge, 0, 1)
        over = value(y[None, :, None]) if callable(value) else np.float32(value)
        block = self.hu[places[0], places[1], places[2]]
        block += cover * (over - block)


def ellipsoid(centre: Point, semi: Point) -> tuple[Distance, tuple[Point, Point]]:
    """Signed distance, exact at the centre and near the surface to first order, and the bounds."""

    def distance(z: Floats, y: Floats, x: Floats) -> Floats:
        w, v, u = (z - centre[0]) / semi[0], (y - centre[1]) / semi[1], (x - centre[2]) / semi[2]
        norm = np.sqrt(w * w + v * v + u * u)
        slope = np.sqrt((w / semi[0]) ** 2 + (v / semi[1]) ** 2 + (u / semi[2]) ** 2) + 1e-6
        return np.asarray(norm * (norm - 1) / slope, np.float32)

    low, high = _around(centre, semi)
    return distance, (low, high)


def tube(start: Point, end: Point, radius: float) -> tuple[Distance, tuple[Point, Point]]:
    """All within ``radius`` of a line: a tube with round ends, or a ball."""
    along = [e - s for s, e in zip(start, end, strict=True)]
    length = sum(k * k for k in along)

    def distance(z: Floats, y: Floats, x: Floats) -> Floats:
        dz, dy, dx = z - start[0], y - start[1], x - start[2]
        t = np.clip((dz * along[0] + dy * along[1] + dx * along[2]) / max(length, 1e-6), 0, 1)
        gap = (dz - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dx - t * along[2]) ** 2
        return np.asarray(np.sqrt(gap) - radius, np.float32)

    low = tuple(min(s, e) - radius for s, e in zip(start, end, strict=True))
    high = tuple(max(s, e) + radius for s, e in zip(start, end, strict=True))
    return distance, ((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def lobed(centre: Point, radius: float, lobes: Floats) -> tuple[Distance, tuple[Point, Point]]:
    """A ball with bumps. ``lobes``: (n, 4), each a direction (z, y, x) and a height in parts of the radius."""

    def distance(z: Floats, y: Floats, x: Floats) -> Floats:
        dz, dy, dx = z - centre[0], y - centre[1], x - centre[2]
        reach = np.sqrt(dz * dz + dy * dy + dx * dx) + 1e-3
        surface = np.full(reach.shape, 1.0, np.float32)
        for lobe in lobes:
            towards = (dz * lobe[0] + dy * lobe[1] + dx * lobe[2]) / reach
            surface += lobe[3] * np.exp(6.0 * (towards - 1.0))
        return np.asarray(reach - radius * surface, np.float32)

    size = radius * (1.0 + float(np.clip(lobes[:, 3], 0, None).sum() if len(lobes) else 0.0))
    return distance, _around(centre, (size, size, size))


def _around(centre: Point, semi: Point) -> tuple[Point, Point]:
    (z, y, x), (c, b, a) = centre, semi
    return (z - c, y - b, x - a), (z + c, y + b, x + a)
