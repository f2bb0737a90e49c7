"""Reads the headers of a series: where each image plane lies, before any pixel is decoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from inference.imaging.border import reading
from inference.imaging.header import groups_of, macro
from inference.imaging.irregular import INCOMPLETE, INCORRECTLY_FORMATTED, NOT_SUPPORTED, Irregular
from inference.imaging.marks import FRAME_TYPES, KEYWORDS
from inference.imaging.native import COLOUR, PADDING, SHAPE, Native, Read, read_object
from inference.imaging.projection import PROJECTIONS, direction, pixel_spacing
from inference.imaging.scan import Source, numbers_of, text_of
from storage.facts.prediction import Frame

_TABLE = "ModalityLUTSequence"  # stands for the rescale where values are no straight line (PS3.3 C.11.1)

#: What is read of every object; of one, the whole header is kept.
READ = (
    "SOPClassUID",
    "SOPInstanceUID",
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
    *SHAPE,
    *PADDING,
    COLOUR,
    _TABLE,
    *KEYWORDS,
)
#: Where Enhanced objects keep what places a frame and what makes its values real (PS3.3 C.7.6.16.2).
_MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


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
    is_rescaled: bool = False  #: whether it states slope or intercept, which else are 1 and 0
    native: Native | None = None  #: where its pixels lie in the file; None where they have to be decoded
    projection: bool = False  #: a radiograph: position and orientation are nominal


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What the headers of a series say."""

    representative: Dataset  #: the whole header of the middle object, without pixels
    objects: tuple[tuple[Path, Read], ...]

    def planes(self) -> tuple[Plane, ...]:
        """Every image plane, in the order of the objects. Raises Irregular where one has no geometry."""
        return tuple(plane for path, read in self.objects for plane in _planes(path, read))

    def by_path(self) -> Mapping[Path, Dataset]:
        """What was read of each object."""
        return {path: _dataset(read.header) for path, read in self.objects}

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


def read_headers(paths: Sequence[Path], decoded: Path | None = None) -> Headers:
    """Headers of every object; ``decoded``: the folder of pixels that were decoded ahead.

    Raises Irregular when none is there or one is unreadable, Transient when one is gone.
    """
    if not paths:
        raise Irregular(INCOMPLETE, "The series has no images.")
    objects = []
    for path in paths:
        with reading(path, "the header"):
            objects.append((path, read_object(path, READ, decoded)))
    middle = paths[len(paths) // 2]
    with reading(middle, "the header"):
        representative = pydicom.dcmread(middle, stop_before_pixels=True)
    return Headers(representative=representative, objects=tuple(objects))


def _dataset(header: Source) -> Dataset:
    return header if isinstance(header, Dataset) else header.dataset()


def _planes(path: Path, read: Read) -> list[Plane]:
    with reading(path, "the geometry"):
        if text_of(read.header, "SOPClassUID") in PROJECTIONS:
            header = _dataset(read.header)
            return [_sound(header, _projection(path, header))]
        return _frames(path, read)


def _frames(path: Path, read: Read) -> list[Plane]:
    header = read.header
    count = int(_or(numbers_of(header, "NumberOfFrames"), 1.0))
    groups = header.get("PerFrameFunctionalGroupsSequence") if isinstance(header, Dataset) else None
    if groups and len(groups) != count:
        raise Irregular(INCORRECTLY_FORMATTED, _of(header, f"has {count} frames, but describes another number"))
    if isinstance(header, Dataset) and header.get(_TABLE):
        raise Irregular(NOT_SUPPORTED, _of(header, "means its values by a table (Modality LUT), which is not applied"))
    if count > 1 and not groups:
        raise Irregular(NOT_SUPPORTED, _of(header, f"has {count} frames without a place in the patient"))
    uids = text_of(header, "SOPInstanceUID"), text_of(header, "SOPClassUID")
    if not isinstance(header, Dataset) or not groups:
        frame = Frame(sop_instance_uid=uids[0], sop_class_uid=uids[1])
        return [_plane(path, read, frame, partial(numbers_of, header))]
    made = []
    for index in range(count):
        frame = Frame(sop_instance_uid=uids[0], sop_class_uid=uids[1], number=index + 1)
        made.append(_plane(path, read, frame, partial(_stated, groups_of(header, index))))
    return made


def _plane(path: Path, read: Read, frame: Frame, get: Callable[[str], tuple[float, ...] | None]) -> Plane:
    header = read.header
    position, orientation = get("ImagePositionPatient"), get("ImageOrientationPatient")
    spacing = get("PixelSpacing")
    if not (position and orientation and spacing):
        raise Irregular(NOT_SUPPORTED, _of(header, "has no position, orientation or pixel spacing in the patient"))
    thickness = get("SliceThickness")
    slope, intercept = get("RescaleSlope"), get("RescaleIntercept")
    return _sound(
        header,
        Plane(
            path=path,
            frame=frame,
            index=0 if frame.number is None else frame.number - 1,
            position=position,
            orientation=orientation,
            spacing=(spacing[0], spacing[1]),
            thickness=None if thickness is None else _one(thickness),
            rows=int(_one(numbers_of(header, "Rows"))),
            columns=int(_one(numbers_of(header, "Columns"))),
            frame_of_reference=text_of(header, "FrameOfReferenceUID"),
            slope=_or(slope, 1.0),
            intercept=_or(intercept, 0.0),
            is_rescaled=slope is not None or intercept is not None,
            native=read.native,
        ),
    )


def _stated(groups: tuple[Dataset, ...], keyword: str) -> tuple[float, ...] | None:
    """The numbers of an attribute of one frame; None where it is absent or empty.

    Raises as pydicom does where it cannot be read: what counts as not stated here would be a wrong place or a wrong
    grey value there.
    """
    for group in groups:
        for item in group.get(_MACROS[keyword]) or ():
            found = numbers_of(item, keyword)
            if found is not None:
                return found
    return None


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


def _sound(header: Source, plane: Plane) -> Plane:
    """The plane, if its numbers can be true."""
    numbers = (*plane.position, *plane.orientation, *plane.spacing, plane.slope, plane.intercept)
    along, down = plane.orientation[:3], plane.orientation[3:]
    unit = len(plane.position) == 3 and len(plane.orientation) == 6 and all(math.isfinite(n) for n in numbers)
    unit = unit and abs(math.hypot(*along) - 1) < 0.01 and abs(math.hypot(*down) - 1) < 0.01
    unit = unit and abs(sum(a * d for a, d in zip(along, down, strict=True))) < 0.01
    if not unit or min(plane.spacing) <= 0 or plane.slope == 0 or min(plane.rows, plane.columns) < 1:
        raise Irregular(INCORRECTLY_FORMATTED, _of(header, "states a geometry or a rescale that cannot be true"))
    return plane


def _one(numbers: tuple[float, ...] | None) -> float:
    """A single number; raises ValueError where there is none, or are several."""
    (number,) = numbers or ()
    return number


def _or(numbers: tuple[float, ...] | None, default: float) -> float:
    return default if numbers is None else _one(numbers)


def _of(header: Source, what: str) -> str:
    return f"Image {text_of(header, 'SOPInstanceUID') or 'without UID'} {what}."
