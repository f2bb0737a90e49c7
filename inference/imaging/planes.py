"""Reads the headers of a series: where each image plane lies, before any pixel is decoded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from inference.imaging.border import reading
from inference.imaging.header import groups_of, macro
from inference.imaging.irregular import INCOMPLETE, INCORRECTLY_FORMATTED, NOT_SUPPORTED, Irregular
from inference.imaging.marks import FRAME_TYPES, KEYWORDS
from inference.imaging.projection import direction, is_projection, pixel_spacing
from inference.imaging.scan import numbers_of, scan, tags_of
from storage.facts.prediction import Frame

#: What is read of every object; of one, the whole header is kept.
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
    "PatientOrientation",
    "SliceThickness",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *KEYWORDS,
]
_WANTED = tags_of(_TAGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One image plane (PS3.3 C.7.6.2). Positions and lengths in mm, patient coordinates (LPS)."""

    path: Path
    frame: Frame
    index: int  #: 0-based frame in its object
    position: tuple[float, ...]  #: centre of the first voxel
    orientation: tuple[float, ...]  #: direction along a row, then down a column
    spacing: tuple[float, float]  #: between rows, between columns
    thickness: float | None
    rows: int
    columns: int
    frame_of_reference: str
    slope: float
    intercept: float
    projection: bool = False  #: a radiograph: position and orientation are nominal


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What the headers of a series say."""

    representative: Dataset  #: the whole header of the middle object, without pixels
    objects: tuple[tuple[Path, Dataset], ...]

    def planes(self) -> tuple[Plane, ...]:
        """Every image plane, in the order of the objects. Raises Irregular where one has no geometry."""
        return tuple(plane for path, header in self.objects for plane in _planes(path, header))

    def by_path(self) -> Mapping[Path, Dataset]:
        """What was read of each object."""
        return dict(self.objects)

    def of(self, planes: Sequence[Plane]) -> Dataset:
        """The whole header of the middle one of some planes, for which the groups of its frame speak alone.

        Raises as ``read_headers`` does.
        """
        plane = planes[len(planes) // 2]
        with reading(plane.path, "the header"):
            whole = pydicom.dcmread(plane.path, stop_before_pixels=True)
        if plane.frame.number is None:
            return whole
        own = groups_of(whole, plane.index)
        frame_type = next(iter(found for kind in FRAME_TYPES if (found := macro(own, kind, "FrameType"))), None)
        if frame_type is not None:
            whole.ImageType = frame_type  # of the object it may be MIXED (PS3.3 C.8.16.1)
        whole.PerFrameFunctionalGroupsSequence = [whole.PerFrameFunctionalGroupsSequence[plane.index]]
        return whole


def read_headers(paths: Sequence[Path]) -> Headers:
    """Headers of every object. Raises Irregular when none is there or one is unreadable, Transient when one is gone."""
    if not paths:
        raise Irregular(INCOMPLETE, "The series has no images.")
    objects = []
    for path in paths:
        with reading(path, "the header"):
            objects.append((path, _header(path)))
    middle = paths[len(paths) // 2]
    with reading(middle, "the header"):
        representative = pydicom.dcmread(middle, stop_before_pixels=True)
    return Headers(representative=representative, objects=tuple(objects))


def _header(path: Path) -> Dataset:
    """What is read of an object."""
    scanned = scan(path, _WANTED)
    if scanned is not None:
        return scanned.dataset
    return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))


def _planes(path: Path, header: Dataset) -> Iterator[Plane]:
    with reading(path, "the geometry"):
        found = [_sound(header, _projection(path, header))] if is_projection(header) else _frames(path, header)
    yield from found


def _frames(path: Path, header: Dataset) -> list[Plane]:
    count = int(header.get("NumberOfFrames") or 1)
    enhanced = bool(header.get("PerFrameFunctionalGroupsSequence"))
    if enhanced and len(header.PerFrameFunctionalGroupsSequence) != count:
        raise Irregular(INCORRECTLY_FORMATTED, _of(header, f"has {count} frames, but describes another number"))
    if count > 1 and not enhanced:
        raise Irregular(NOT_SUPPORTED, _of(header, f"has {count} frames without a place in the patient"))
    return [_plane(path, header, index, count if enhanced else None) for index in range(count)]


def _plane(path: Path, header: Dataset, index: int, frames: int | None) -> Plane:
    groups = groups_of(header, index) if frames else ()

    def get(sequence: str, keyword: str) -> Any:
        return macro(groups, sequence, keyword) if groups else numbers_of(header, keyword)

    position = get("PlanePositionSequence", "ImagePositionPatient")
    orientation = get("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = get("PixelMeasuresSequence", "PixelSpacing")
    if not (position and orientation and spacing):
        raise Irregular(NOT_SUPPORTED, _of(header, "has no position, orientation or pixel spacing in the patient"))
    thickness = get("PixelMeasuresSequence", "SliceThickness")
    return _sound(
        header,
        Plane(
            path=path,
            frame=Frame(
                sop_instance_uid=str(header.SOPInstanceUID),
                sop_class_uid=str(header.SOPClassUID),
                number=index + 1 if frames else None,
            ),
            index=index,
            position=tuple(map(float, position)),
            orientation=tuple(map(float, orientation)),
            spacing=(float(spacing[0]), float(spacing[1])),
            thickness=None if thickness is None else _one(thickness),
            rows=int(_one(numbers_of(header, "Rows"))),
            columns=int(_one(numbers_of(header, "Columns"))),
            frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
            slope=_or(get("PixelValueTransformationSequence", "RescaleSlope"), 1.0),
            intercept=_or(get("PixelValueTransformationSequence", "RescaleIntercept"), 0.0),
        ),
    )


def _projection(path: Path, header: Dataset) -> Plane:
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise Irregular(NOT_SUPPORTED, _of(header, "is a projection of several frames"))
    spacing = pixel_spacing(header)
    if spacing is None:
        raise Irregular(
            INCORRECTLY_FORMATTED, _of(header, "states no pixel spacing, neither its own nor its detector's")
        )
    return Plane(
        path=path,
        frame=Frame(sop_instance_uid=str(header.SOPInstanceUID), sop_class_uid=str(header.SOPClassUID)),
        index=0,
        position=(0.0, 0.0, 0.0),
        orientation=direction(header),
        spacing=spacing,
        thickness=None,
        rows=int(header.Rows),
        columns=int(header.Columns),
        frame_of_reference="",
        slope=1.0,
        intercept=0.0,
        projection=True,
    )


def _sound(header: Dataset, plane: Plane) -> Plane:
    """The plane, if its numbers can be true."""
    numbers = (*plane.position, *plane.orientation, *plane.spacing, plane.slope, plane.intercept)
    along, down = plane.orientation[:3], plane.orientation[3:]
    unit = len(plane.position) == 3 and len(plane.orientation) == 6 and all(math.isfinite(n) for n in numbers)
    unit = unit and abs(math.hypot(*along) - 1) < 0.01 and abs(math.hypot(*down) - 1) < 0.01
    unit = unit and abs(sum(a * d for a, d in zip(along, down, strict=True))) < 0.01
    if not unit or min(plane.spacing) <= 0 or plane.slope == 0 or min(plane.rows, plane.columns) < 1:
        raise Irregular(INCORRECTLY_FORMATTED, _of(header, "states a geometry or a rescale that cannot be true"))
    return plane


def _one(value: Any) -> float:
    """A single number; raises TypeError or ValueError where it is none."""
    if isinstance(value, tuple):
        (value,) = value
    return float(value)


def _or(value: Any, default: float) -> float:
    return default if value in (None, "") else _one(value)


def _of(header: Dataset, what: str) -> str:
    return f"Image {header.get('SOPInstanceUID', 'without UID')} {what}."
