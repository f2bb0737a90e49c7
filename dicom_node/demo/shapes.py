"""Draws solid shapes into an axial slice with the soft edge that a scanner gives them.

Coordinates are DICOM's patient coordinates in mm: x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = tuple[float, float, float]


class Shape(Protocol):
    """A solid with a signed distance to its surface, negative inside."""

    def distance(self, x: Floats, y: Floats, z: Floats | float) -> Floats:
        """Millimetres to the surface, exact or to first order near it."""

    @property
    def bounds(self) -> tuple[Point, Point]:
        """Lowest and highest corner, mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipsoid:
    """An ellipsoid along the axes; ``lower`` is its half axis towards the feet where that differs."""

    centre: Point
    semi: Point
    lower: float | None = None

    def distance(self, x: Floats, y: Floats, z: Floats | float) -> Floats:
        a, b, c = self.semi
        dx, dy, dz = x - self.centre[0], y - self.centre[1], np.float32(1) * z - self.centre[2]
        height = np.where(dz < 0, self.lower or c, c)
        u, v, w = dx / a, dy / b, dz / height
        norm = np.sqrt(u * u + v * v + w * w)
        slope = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / height) ** 2) + 1e-6
        return np.asarray(norm * (norm - 1) / slope, np.float32)

    @property
    def bounds(self) -> tuple[Point, Point]:
        (x, y, z), (a, b, c) = self.centre, self.semi
        return (x - a, y - b, z - (self.lower or c)), (x + a, y + b, z + c)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capsule:
    """All that lies within ``radius`` of the line from ``start`` to ``end``: a tube with round ends, or a ball."""

    start: Point
    end: Point
    radius: float

    def distance(self, x: Floats, y: Floats, z: Floats | float) -> Floats:
        along = [e - s for s, e in zip(self.start, self.end, strict=True)]
        dx, dy, dz = x - self.start[0], y - self.start[1], z - self.start[2]
        length = sum(k * k for k in along)
        if not length:
            return np.asarray(np.sqrt(dx * dx + dy * dy + dz * dz) - self.radius, np.float32)
        t = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / length, 0, 1)
        gap = (dx - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dz - t * along[2]) ** 2
        return np.asarray(np.sqrt(gap) - self.radius, np.float32)

    @property
    def bounds(self) -> tuple[Point, Point]:
        low = [min(s, e) - self.radius for s, e in zip(self.start, self.end, strict=True)]
        high = [max(s, e) + self.radius for s, e in zip(self.start, self.end, strict=True)]
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    @property
    def ball_ml(self) -> float:
        """Volume of the ball that a capsule without length is."""
        return 4 / 3 * math.pi * self.radius**3 / 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where the voxels of an axial slice lie."""

    x: Floats  #: shape (1, columns)
    y: Floats  #: shape (rows, 1)
    blur: float  #: mm over which an edge fades

    def window(self, shape: Shape, z: float) -> tuple[slice, slice] | None:
        """The part of the slice at ``z`` that the shape can touch."""
        low, high = shape.bounds
        if not low[2] - self.blur <= z <= high[2] + self.blur:
            return None
        columns = np.searchsorted(self.x[0], (low[0] - self.blur, high[0] + self.blur))
        rows = np.searchsorted(self.y[:, 0], (low[1] - self.blur, high[1] + self.blur))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def cover(self, shape: Shape, z: float, at: tuple[slice, slice]) -> Floats:
        """How much of each voxel of a window the shape fills, 0..1."""
        gap = shape.distance(self.x[:, at[1]], self.y[at[0]], z)
        return np.asarray(np.clip(0.5 - gap / self.blur, 0, 1), np.float32)


class Pile:
    """Many shapes, found quickly by the height at which they are cut."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = tuple(shapes)
        self._spans = np.array([(s.bounds[0][2], s.bounds[1][2]) for s in shapes]).reshape(-1, 2)

    def at(self, z: float, blur: float) -> Iterator[Shape]:
        """Those that a slice at ``z`` can touch, in their order."""
        touched = (self._spans[:, 0] - blur <= z) & (z <= self._spans[:, 1] + blur)
        return (self._shapes[i] for i in np.flatnonzero(touched))


def paint(
    hu: Floats, plane: Plane, z: float, shape: Shape, value: float | Floats
) -> tuple[tuple[slice, slice], NDArray[np.bool_]] | None:
    """Lays ``value`` HU over the slice where the shape is; returns the window touched and what is inside in it.

    ``value`` may be one number or a column of one number a row.
    """
    at = plane.window(shape, z)
    if at is None:
        return None
    over = value[at[0]] if isinstance(value, np.ndarray) else np.float32(value)
    cover = plane.cover(shape, z, at)
    hu[at] += cover * (over - hu[at])
    return at, cover > 0.5
