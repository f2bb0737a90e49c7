"""Takes a series apart where it holds several stacks, and says by what: geometry first, then how it was acquired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from inference.imaging.geometry import FEWEST_FRAMES, SAME_DIRECTION, SAME_PLACE_MM, Stack, name_of, stack
from inference.imaging.irregular import Irregular
from inference.imaging.marks import Mark, in_order, marks_of, read_mark
from inference.imaging.planes import Headers, Plane

Planes = tuple[Plane, ...]
Sources = Callable[[], Mapping[Path, Dataset]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What one mark says of a part."""

    name: str  #: of the mark, e.g. ``echo time``
    text: str
    unit: str = ""

    def said(self) -> str:
        """For people, e.g. ``echo time 4.92 ms``."""
        return f"{self.name} {self.text or 'not stated'}{f' {self.unit}' if self.unit and self.text else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Images that belong together, and what tells them from the others of the series."""

    planes: Planes
    values: tuple[Value, ...] = ()

    def stack(self) -> Stack:
        """The stack that they form; raises Irregular where they form none (see imaging.geometry)."""
        return stack(self.planes)

    def text(self) -> str:
        """For people, e.g. ``60 images with echo time 4.92 ms``."""
        said = ", ".join(value.said() for value in self.values)
        count = f"{len(self.planes)} image{'s' if len(self.planes) > 1 else ''}"
        return f"{count} with {said}" if said else count


def split(headers: Headers) -> tuple[Part, ...]:
    """The parts of a series, one where nothing has to be taken apart; in the order of their marks.

    Images of unlike direction, matrix, pixel spacing or frame of reference are parts of their own. Those of a part that
    is no even stack are taken apart by the first marks that make such stacks of them: never by counting. Slabs that
    only adjoin stay together. Raises Irregular where an image has no geometry.
    """
    planes = headers.planes()
    if any(plane.projection for plane in planes):
        return (Part(planes=planes),)
    sources = cache(headers.by_path)  # most series are one stack, and nobody asks
    parts = [one for alike in _alike(planes) for one in _apart(alike, sources)]
    return tuple(sorted(parts, key=_order))


def _order(part: Part) -> tuple[tuple[int, float, str], ...]:
    return tuple(in_order(value.text) for value in part.values)


def _alike(planes: Planes) -> list[Part]:
    """Images of one geometry."""
    numbers = np.array([(*p.orientation, *p.spacing, p.rows, p.columns) for p in planes], np.float64)
    references = np.array([p.frame_of_reference for p in planes])
    left = np.arange(len(planes))
    groups: list[npt.NDArray[np.intp]] = []
    while left.size:
        first = left[0]
        apart = np.abs(numbers[left] - numbers[first])
        same = (apart[:, :6] <= SAME_DIRECTION).all(axis=1) & (apart[:, 8:] == 0).all(axis=1)
        same &= (apart[:, 6:8] <= 1e-3 * numbers[first, 6:8]).all(axis=1) & (references[left] == references[first])
        groups.append(left[same])
        left = left[~same]
    said = [_geometry(planes[group[0]]) for group in groups]
    differing = [n for n in range(len(said[0])) if len({one[n].text for one in said}) > 1]
    return [
        Part(planes=tuple(planes[n] for n in group), values=tuple(values[n] for n in differing))
        for group, values in zip(groups, said, strict=True)
    ]


def _geometry(plane: Plane) -> tuple[Value, ...]:
    normal = np.cross(plane.orientation[:3], plane.orientation[3:])
    cosines = ", ".join(f"{cosine + 0.0:.3f}" for cosine in plane.orientation)
    return (
        Value(name="orientation", text=f"{name_of(normal)} ({cosines})"),
        Value(name="matrix", text=f"{plane.rows} x {plane.columns}"),
        Value(name="pixel spacing", text=f"{plane.spacing[0]:.4g} x {plane.spacing[1]:.4g}", unit="mm"),
        Value(name="frame of reference", text=plane.frame_of_reference),
    )


def _apart(part: Part, sources: Sources) -> Iterator[Part]:
    """The stacks of images of one geometry; the part itself where no mark tells them apart."""
    if len(part.planes) < 2 * FEWEST_FRAMES or _is_even(part.planes):
        yield part
        return
    for mark in marks_of(sources()[part.planes[0].path]):
        groups = _by_mark(part.planes, sources, mark)
        if len(groups) > 1 and min(map(len, groups.values())) >= FEWEST_FRAMES and _is_gain(part.planes, groups):
            for text, planes in groups.items():
                value = Value(name=mark.name, text=text, unit=mark.unit)
                yield from _apart(replace(part, planes=planes, values=(*part.values, value)), sources)
            return
    yield part


def _by_mark(planes: Planes, sources: Sources, mark: Mark) -> Mapping[str, Planes]:
    groups: dict[str, list[Plane]] = {}
    headers = sources()
    for plane in planes:
        frame = None if plane.frame.number is None else plane.index
        groups.setdefault(read_mark(headers[plane.path], frame, mark), []).append(plane)
    return {text: tuple(group) for text, group in groups.items()}


def _is_gain(planes: Planes, groups: Mapping[str, Planes]) -> bool:
    """Whether fewer images lie at the place of another; without such, whether stacks that interleave come out."""
    before = _doubles(planes)
    if before:
        return sum(map(_doubles, groups.values())) < before
    ends = [(depths[0], depths[-1]) for depths in map(_depths, groups.values())]
    return max(low for low, _ in ends) < min(high for _, high in ends) and all(map(_is_even, groups.values()))


def _is_even(planes: Planes) -> bool:
    try:
        stack(planes).check()
    except Irregular:
        return False
    return True


def _doubles(planes: Planes) -> int:
    return int(np.count_nonzero(np.diff(_depths(planes)) <= SAME_PLACE_MM))


def _depths(planes: Planes) -> npt.NDArray[np.float64]:
    """Positions along the normal, in mm, ascending."""
    orientation = planes[0].orientation
    normal = np.cross(orientation[:3], orientation[3:])
    return np.sort(np.array([plane.position for plane in planes]) @ (normal / np.linalg.norm(normal)))
