"""Stacks anywhere in the patient, as classic series and as Enhanced multi-frame objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tests import builders

Voxels = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]
Groups = Mapping[str, Mapping[str, Any]]
FRAME_TYPES = {builders.ENHANCED_CT: "CTImageFrameTypeSequence", builders.ENHANCED_MR: "MRImageFrameTypeSequence"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """How a stack lies in the patient."""

    orientation: tuple[float, ...] = builders.AXIAL
    origin: tuple[float, ...] = (-20.0, -30.0, 10.0)
    step: float = 2.0  #: along the normal of PS3.3 C.7.6.2.1.1; negative: against it
    spacing: tuple[float, float] = (0.75, 0.5)

    def position(self, index: int) -> list[str]:
        """ImagePositionPatient of a slice."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return [f"{v:.8f}" for v in np.array(self.origin) + index * self.step * normal]

    def point(self, index: int, row: int, column: int) -> Floats:
        """Where a voxel lies, by the words of the standard (equation C.7.6.2.1-1), in mm."""
        along, down = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        origin = np.array([float(v) for v in self.position(index)])
        return np.asarray(origin + column * self.spacing[1] * along + row * self.spacing[0] * down)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class One:
    """One image or frame."""

    pixels: Voxels
    place: Place
    index: int  #: of the slice
    groups: Groups = field(default_factory=dict)  #: further functional groups, by macro


def turned(angles: Sequence[float]) -> tuple[float, ...]:
    """Direction cosines after three turns about x, y and z."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (a for a in range(3) if a != axis)
        about = np.eye(3)
        about[first, first] = about[second, second] = np.cos(angle)
        about[first, second], about[second, first] = -np.sin(angle), np.sin(angle)
        turn = about @ turn
    return (*turn[:, 0].tolist(), *turn[:, 1].tolist())


def frames(voxels: Voxels, place: Place, groups: Callable[[int], Groups] | None = None) -> list[One]:
    """One for each slice of a stack."""
    make: Callable[[int], Groups] = groups or (lambda _index: {})
    return [One(pixels=pixels, place=place, index=n, groups=make(n)) for n, pixels in enumerate(voxels)]


def classic(images: Sequence[One], sop_class: str = builders.CT, **attributes: Any) -> list[Dataset]:
    """Single-frame images."""
    made = []
    for number, one in enumerate(images, start=1):
        ds = builders.source(sop_class, builders.MODALITIES[sop_class], number=number)
        ds.FrameOfReferenceUID = f"{builders.ROOT}.9"
        ds.ImagePositionPatient = one.place.position(one.index)
        ds.ImageOrientationPatient = [f"{v:.10f}" for v in one.place.orientation]
        ds.PixelSpacing, ds.SliceThickness = list(one.place.spacing), abs(one.place.step)
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
        made.append(builders.pixels(ds, one.pixels))
    return made


def enhanced(images: Sequence[One], sop_class: str = builders.ENHANCED_CT, **attributes: Any) -> Dataset:
    """One Enhanced CT or MR with nothing shared between its frames; sorted by stack, then by place in it."""
    ds = builders.source(sop_class, "MR" if sop_class == builders.ENHANCED_MR else "CT")
    ds.FrameOfReferenceUID, ds.NumberOfFrames = f"{builders.ROOT}.9", len(images)
    ds.SharedFunctionalGroupsSequence = [Dataset()]
    ds.PerFrameFunctionalGroupsSequence = [_group(one, sop_class) for one in images]
    organization = _item({"DimensionOrganizationUID": f"{builders.ROOT}.77"})
    ds.DimensionOrganizationSequence = [organization]
    ds.DimensionIndexSequence = [
        _item({
            "DimensionIndexPointer": Tag(keyword), "FunctionalGroupPointer": Tag("FrameContentSequence"),
            "DimensionOrganizationUID": f"{builders.ROOT}.77",
        })
        for keyword in ("StackID", "InStackPositionNumber")
    ]  # fmt: skip
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return builders.pixels(ds, np.stack([one.pixels for one in images]))


def _group(one: One, sop_class: str) -> Dataset:
    given: dict[str, Mapping[str, Any]] = {
        "PixelMeasuresSequence": {"PixelSpacing": list(one.place.spacing), "SliceThickness": abs(one.place.step)},
        "PlaneOrientationSequence": {"ImageOrientationPatient": [f"{v:.10f}" for v in one.place.orientation]},
        "PlanePositionSequence": {"ImagePositionPatient": one.place.position(one.index)},
        "FrameContentSequence": {
            "StackID": "1", "InStackPositionNumber": one.index + 1, "DimensionIndexValues": [1, one.index + 1],
        },
        FRAME_TYPES[sop_class]: {"FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]},
        "PixelValueTransformationSequence": {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"},
    }  # fmt: skip
    made = Dataset()
    for macro in {**given, **one.groups}:
        setattr(made, macro, [_item({**given.get(macro, {}), **one.groups.get(macro, {})})])
    return made


def _item(values: Mapping[str, Any]) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, copy.copy(value))
    return made
