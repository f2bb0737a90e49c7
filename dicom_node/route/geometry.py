"""The stack that a series forms: spacing, coverage, orientation and tilt, from the positions of its slices.

Positions and directions are those of the Image Plane module (PS3.3 C.7.6.2): millimetres, patient coordinates (LPS).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, TypeAlias

from dicom_node.route.reading import Reading

Vector: TypeAlias = tuple[float, float, float]

SAME_PLACE_MM = 0.01  #: slices nearer than this lie at one place (echoes, time points, doubles)
SAME_DIRECTION = math.cos(math.radians(2.0))  #: normals nearer than this are parallel
PLANE = math.cos(math.radians(35.0))  #: a plane has its anatomical name up to this tilt; beyond it is oblique
_PLANES = ("SAGITTAL", "CORONAL", "AXIAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One image plane: where its first voxel lies, and its unit normal."""

    position: Vector
    normal: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What the planes of a series have in common. Lengths in mm, angles in degrees."""

    slices: int
    directions: int  #: groups of parallel planes
    orientation: str | None  #: of the largest group
    places: int  #: different positions along the normal in the largest group
    spacing: float | None  #: median step
    irregular: float | None  #: largest deviation of a step from it
    coverage: float | None
    tilt: float | None  #: between the normal and the line through the positions


def planes_of(header: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> list[Slice]:
    """The image planes of a series: one of each instance, or of each frame of the only Enhanced object.

    Frames that were not all kept in the header, and multi-frame objects beside others, give none: part of a stack
    would mislead.
    """
    reading = Reading(header)
    if (reading.number("NumberOfFrames") or 1) > 1:
        return list(_frames(reading)) if len(slices) <= 1 else []
    return [plane for each in slices if (plane := _plane(Reading(each))) is not None]


def _frames(reading: Reading) -> Iterator[Slice]:
    frames = reading.items("PerFrameFunctionalGroupsSequence")
    if len(frames) != (reading.number("NumberOfFrames") or 0):
        return
    shared = reading.items("SharedFunctionalGroupsSequence")[:1]
    for frame in frames:
        position = _first(frame.items("PlanePositionSequence"), "ImagePositionPatient")
        for holder in (frame, *shared):
            orientation = _first(holder.items("PlaneOrientationSequence"), "ImageOrientationPatient")
            plane = _slice(position, orientation)
            if plane is not None:
                yield plane
                break


def _first(items: Iterable[Reading], keyword: str) -> list[float]:
    return next((item.numbers(keyword) for item in items), [])


def _plane(reading: Reading) -> Slice | None:
    return _slice(reading.numbers("ImagePositionPatient"), reading.numbers("ImageOrientationPatient"))


def _slice(position: list[float], orientation: list[float]) -> Slice | None:
    if len(position) != 3 or len(orientation) != 6:
        return None
    row, column = _unit(orientation[:3]), _unit(orientation[3:])
    if row is None or column is None or abs(_dot(row, column)) > 0.1:
        return None
    normal = _unit(_cross(row, column))
    return None if normal is None else Slice(position=(position[0], position[1], position[2]), normal=normal)


def stack_of(planes: Sequence[Slice]) -> Stack:
    """Measure the largest group of parallel planes."""
    groups = _groups(planes)
    if not groups:
        return Stack(
            slices=0, directions=0, orientation=None, places=0, spacing=None, irregular=None, coverage=None, tilt=None
        )
    main = max(groups, key=len)
    normal = main[0].normal
    depths = sorted((_dot(each.position, normal), each.position) for each in main)
    places = [depths[0]]
    for depth in depths[1:]:
        if depth[0] - places[-1][0] > SAME_PLACE_MM:
            places.append(depth)
    steps = [after[0] - before[0] for before, after in pairwise(places)]
    spacing = median(steps) if steps else None
    return Stack(
        slices=len(planes),
        directions=len(groups),
        orientation=orientation_of(normal),
        places=len(places),
        spacing=spacing,
        irregular=None if spacing is None else max(abs(step - spacing) for step in steps),
        coverage=None if spacing is None else places[-1][0] - places[0][0] + spacing,
        tilt=_tilt(places[0][1], places[-1][1], normal) if steps else None,
    )


def orientation_of(normal: Vector) -> str:
    """The anatomical name of a plane with this unit normal."""
    axis = max(range(3), key=lambda i: abs(normal[i]))
    return _PLANES[axis] if abs(normal[axis]) >= PLANE else "OBLIQUE"


def _groups(planes: Sequence[Slice]) -> list[list[Slice]]:
    """Parallel planes together; at most 16 groups, for a rotating (radial) stack needs no more to be told apart."""
    groups: list[list[Slice]] = []
    for plane in planes:
        home = next((g for g in groups if abs(_dot(g[0].normal, plane.normal)) >= SAME_DIRECTION), None)
        if home is not None:
            home.append(plane)
        elif len(groups) < 16:
            groups.append([plane])
    return groups


def _tilt(first: Vector, last: Vector, normal: Vector) -> float | None:
    line = _unit([b - a for a, b in zip(first, last, strict=True)])
    return None if line is None else math.degrees(math.acos(min(1.0, abs(_dot(line, normal)))))


def _unit(vector: Sequence[float]) -> Vector | None:
    length = math.sqrt(sum(part * part for part in vector))
    return None if length < 1e-6 else (vector[0] / length, vector[1] / length, vector[2] / length)


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
