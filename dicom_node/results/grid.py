"""Proves that a mask or a map lies on planes in the patient, and says which (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.spatial import get_volume_positions
from pydicom.dataset import Dataset
from pydicom.valuerep import DS, format_number_as_ds

from dicom_node.results.frames import Plane
from dicom_node.results.planes import numbers, per_frame
from dicom_node.results.source import Source
from storage.facts.errors import Rejected
from storage.facts.prediction import Frame

Labels = npt.NDArray[Any]  #: numbers of segments, or values of a map

_SAME_PLACE_MM = 1e-3
_SAME_DIRECTION = 1e-4  #: of direction cosines; scanners write them with six decimals


class NoSegmentation(Exception):
    """Why a mask is not sent as a Segmentation; a sentence for the reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The planes of a source, and what lies upon them."""

    images: list[Dataset]  #: single-frame images, or multi-frame images, in the order in which planes use them
    labels: Labels  #: a plane of it for each frame of the images
    planes: list[Plane]
    places: npt.NDArray[np.float64]  #: (planes, 3): positions, mm
    orientation: npt.NDArray[np.float64]  #: six direction cosines
    thickness: str  #: of a slice, mm; DS

    @property
    def first(self) -> list[Plane]:
        """The planes that lie on the first image; of single-frame images, all."""
        first = self.planes[0]
        return (
            self.planes
            if first.frame is None
            else [p for p in self.planes if p.sop_instance_uid == first.sop_instance_uid]
        )

    @property
    def order(self) -> npt.NDArray[np.intp]:
        """The planes along their normal, as highdicom orders them: against the cross product of row and column."""
        normal = -np.cross(self.orientation[:3], self.orientation[3:])
        return np.argsort(self.places @ normal, kind="stable")

    def spacing(self, planes: Sequence[int] | None = None, *, ordered: bool = False) -> float | None:
        """The distance between slices, mm; None where it is not the same everywhere, or where they are sheared."""
        places = self.places.tolist() if planes is None else self.places[list(planes)].tolist()
        cosines = self.orientation.tolist()
        found, _ = get_volume_positions(image_positions=places, image_orientation=cosines, sort=not ordered)
        return None if found is None else float(found)


def grid(source: Source, frames: Sequence[Frame], labels: Labels) -> Grid:
    """The grid of a mask or a map, ``frames`` being the source of each plane of it.

    Raises NoSegmentation where the source has no grid in the patient, Rejected for a frame that no source has.
    """
    images, flat = _matched(source, frames)
    places, orientation = _place(images, flat)
    return Grid(
        images=images,
        labels=labels,
        planes=_planes(frames, flat),
        places=places,
        orientation=orientation,
        thickness=_thickness(flat, places),
    )


def _matched(source: Source, frames: Sequence[Frame]) -> tuple[list[Dataset], list[Dataset]]:
    """Source images, and the geometry of each frame; enhanced images may hold other frames besides."""
    used = list(dict.fromkeys(frame.sop_instance_uid for frame in frames))
    images = [source.image(uid) for uid in used]
    kinds = {(image.SOPClassUID, "PerFrameFunctionalGroupsSequence" in image) for image in images}
    if len(kinds) > 1:
        raise NoSegmentation("its source images are of several kinds")  # a frame refers to its image by kind, too
    if not any(is_enhanced for _, is_enhanced in kinds):
        if len(used) != len(frames):
            raise NoSegmentation("several frames belong to one single-frame image")
        return images, [flat for image in images for flat in per_frame(image)]
    every = {uid: per_frame(image) for uid, image in zip(used, images, strict=True)}
    for frame in frames:
        if frame.number is None or not 1 <= frame.number <= len(every[frame.sop_instance_uid]):
            raise Rejected(f"frame {frame.number} is not in image {frame.sop_instance_uid}")
    return images, [every[frame.sop_instance_uid][(frame.number or 1) - 1] for frame in frames]


def _place(
    images: Sequence[Dataset], frames: Sequence[Dataset]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positions and common orientation of all frames; each has a place of its own in one frame of reference."""
    if any("FrameOfReferenceUID" not in image for image in images):
        raise NoSegmentation("the source images have no frame of reference (a projection, or a capture)")
    if len({image.FrameOfReferenceUID for image in images}) > 1:
        raise NoSegmentation("the source images have different frames of reference")
    places = [p for frame in frames if (p := numbers(frame, "ImagePositionPatient", 3)) is not None]
    if len(places) < len(frames):
        raise NoSegmentation("the source images do not all say their position in the patient")
    cosines = [c for frame in frames if (c := numbers(frame, "ImageOrientationPatient", 6)) is not None]
    spacings = [s for frame in frames if (s := numbers(frame, "PixelSpacing", 2)) is not None]
    if len(cosines) < len(frames) or len(spacings) < len(frames):
        raise NoSegmentation("the source images do not all say their orientation and pixel spacing")
    if np.ptp(cosines, axis=0).max() > _SAME_DIRECTION or np.ptp(spacings, axis=0).max() > _SAME_PLACE_MM:
        raise NoSegmentation("the source images differ in orientation or pixel spacing")
    found = np.array(places)
    along = np.sort(found @ np.cross(cosines[0][:3], cosines[0][3:]))
    if len(found) > 1 and np.diff(along).min() < _SAME_PLACE_MM:
        raise NoSegmentation("several source images lie at the same place")
    return found, cosines[0]


def _planes(frames: Sequence[Frame], flat: Sequence[Dataset]) -> list[Plane]:
    planes = []
    for frame, geometry in zip(frames, flat, strict=True):
        x, y, z = (str(DS(value, auto_format=True)) for value in geometry.ImagePositionPatient)
        planes.append(Plane(sop_instance_uid=frame.sop_instance_uid, frame=frame.number, position=(x, y, z)))
    return planes


def _thickness(frames: Sequence[Dataset], places: npt.NDArray[np.float64]) -> str:
    """SliceThickness is required in Pixel Measures; where the source is silent, it is the step between slices."""
    given = frames[0].get("SliceThickness")
    if given:
        return str(format_number_as_ds(float(given)))  # sources write more digits than DS has room for
    step = float(np.linalg.norm(places[1] - places[0])) if len(places) > 1 else 1.0
    return f"{step:.6g}"
