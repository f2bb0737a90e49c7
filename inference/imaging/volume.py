"""Loads a series as voxels with a place in the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from inference.imaging.border import reading
from inference.imaging.geometry import Stack, stack
from inference.imaging.irregular import INCORRECTLY_FORMATTED, NOT_SUPPORTED, Irregular
from inference.imaging.pixels import stored_frames
from inference.imaging.planes import Plane, read_headers
from inference.imaging.projection import brightness
from storage.facts.errors import Transient
from storage.facts.prediction import Frame

AIR_HU = -1024  #: floor of the CT scale; padding is set to it, and nothing real lies below
LARGEST = 2**30  #: voxels; a header that claims more is wrong or hostile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """One series as a regular grid, its frames ordered along the slice normal."""

    voxels: npt.NDArray[Any]  #: (frames, rows, columns): int16 HU for CT where exact, else float32 rescaled values
    affine: npt.NDArray[np.float64]  #: 4 x 4: (frame, row, column, 1) to patient coordinates (LPS) in mm
    frames: tuple[Frame, ...]  #: source of each frame
    header: Dataset  #: of a representative object, without pixels
    others: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)  #: further series by role, on this grid
    projection: bool = False  #: a radiograph: one frame, whose place, directions and depth are nominal

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between frames, rows and columns, in mm."""
        frame, row, column = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(frame), float(row), float(column)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0


def load(paths: Sequence[Path]) -> Volume:
    """The volume that the objects of one series form, whatever their order.

    Raises Irregular where they form none (see imaging.geometry for the tolerances), Transient where a file is gone.
    """
    headers = read_headers(paths)
    return assemble(headers.representative, stack(headers.planes()))


def assemble(header: Dataset, series: Stack) -> Volume:
    """Decode a stack whose geometry is known; raises as ``load`` does."""
    series.check()
    planes = series.planes
    if planes[0].projection:
        return _radiograph(header, series)
    is_ct = header.get("Modality") == "CT"
    voxels = _allocated(planes, np.int16 if is_ct and all(_is_exact(p) for p in planes) else np.float32)
    for path, places in _by_file(planes).items():
        for index, pixels, padding in stored_frames(path, list(places)):
            place = places[index]
            _rescale(pixels, planes[place], voxels[place], floor=AIR_HU if is_ct else None)
            if padding is not None:
                voxels[place][padding] = AIR_HU if is_ct else 0
    if voxels.dtype == np.float32 and not np.isfinite(voxels).all():
        raise Irregular(INCORRECTLY_FORMATTED, "The rescaled pixels are not all finite numbers.")
    return Volume(voxels=voxels, affine=series.affine, frames=tuple(p.frame for p in planes), header=header)


def _radiograph(header: Dataset, series: Stack) -> Volume:
    """One projection; ``header`` is that of the object itself. Values: see ``imaging.projection.brightness``."""
    plane = series.planes[0]
    voxels = _allocated(series.planes, np.float32)
    for _, pixels, padding in stored_frames(plane.path, [0]):
        with reading(plane.path, "the grey scale"):
            voxels[0] = brightness(header, pixels, padding)
    if not np.isfinite(voxels).all():
        raise Irregular(INCORRECTLY_FORMATTED, "The rescaled pixels are not all finite numbers.")
    return Volume(voxels=voxels, affine=series.affine, frames=(plane.frame,), header=header, projection=True)


def _is_exact(plane: Plane) -> bool:
    return plane.slope == 1 and plane.intercept.is_integer() and abs(plane.intercept) <= 32768


def _allocated(planes: Sequence[Plane], dtype: type) -> npt.NDArray[Any]:
    shape = (len(planes), planes[0].rows, planes[0].columns)
    if shape[0] * shape[1] * shape[2] > LARGEST:
        raise Irregular(NOT_SUPPORTED, f"The series claims {shape[0]} x {shape[1]} x {shape[2]} voxels: too many.")
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise Transient(f"there is no memory for {shape[0]} x {shape[1]} x {shape[2]} voxels") from error


def _by_file(planes: Sequence[Plane]) -> dict[Path, dict[int, int]]:
    """For each file, its frames in ascending order, each with its place in the volume."""
    found: dict[Path, dict[int, int]] = {}
    for place, plane in sorted(enumerate(planes), key=lambda item: item[1].index):
        found.setdefault(plane.path, {})[plane.index] = place
    return found


def _rescale(pixels: npt.NDArray[Any], plane: Plane, into: npt.NDArray[Any], floor: int | None) -> None:
    """Stored to real-world values (PS3.3 C.11.1.1.2); HU beyond int16 saturate, which only metal reaches."""
    if into.dtype == np.int16:
        shift = int(plane.intercept)
        low, high = int(pixels.min()) + shift, int(pixels.max()) + shift
        if low < np.iinfo(np.int16).min or high > np.iinfo(np.int16).max:
            into[...] = np.clip(pixels.astype(np.int32) + shift, AIR_HU, np.iinfo(np.int16).max)
            return
        np.add(pixels, np.int16(shift), out=into, dtype=np.int16, casting="unsafe")
        if low < AIR_HU:
            np.maximum(into, np.int16(AIR_HU), out=into)
        return
    np.multiply(pixels, np.float32(plane.slope), out=into, dtype=np.float32, casting="unsafe")
    into += np.float32(plane.intercept)
    if floor is not None:
        np.maximum(into, np.float32(floor), out=into)
