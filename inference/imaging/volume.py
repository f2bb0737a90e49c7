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
from inference.imaging.filling import AIR_HU, fill, is_exact
from inference.imaging.geometry import Stack, stack
from inference.imaging.irregular import INCORRECTLY_FORMATTED, NOT_SUPPORTED, Irregular
from inference.imaging.pixels import stored_frames
from inference.imaging.planes import Plane, read_headers
from inference.imaging.projection import brightness
from storage.facts.errors import Transient
from storage.facts.prediction import Frame

__all__ = ["AIR_HU", "LARGEST", "Volume", "assemble", "load"]

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


def load(paths: Sequence[Path], decoded: Path | None = None) -> Volume:
    """The volume that the objects of one series form, whatever their order.

    ``decoded``: the folder of pixels that were decoded ahead (imaging.decoded). Raises Irregular where they form none
    (see imaging.geometry for the tolerances), Transient where a file is gone.
    """
    headers = read_headers(paths, decoded)
    return assemble(headers.representative, stack(headers.planes()), decoded)


def assemble(header: Dataset, series: Stack, decoded: Path | None = None) -> Volume:
    """Decode a stack whose geometry is known, but for what lies in the folder ``decoded``; raises as ``load`` does."""
    series.check()
    planes = series.planes
    if planes[0].projection:
        return _radiograph(header, series, decoded)
    is_ct = header.get("Modality") == "CT"
    voxels = _allocated(planes, np.int16 if is_ct and all(map(is_exact, planes)) else np.float32)
    fill(voxels, planes, is_ct=is_ct, decoded=decoded)
    if voxels.dtype == np.float32 and not all(np.isfinite([p.min(), p.max()]).all() for p in voxels):
        raise Irregular(INCORRECTLY_FORMATTED, "The rescaled pixels are not all finite numbers.")
    return Volume(voxels=voxels, affine=series.affine, frames=tuple(p.frame for p in planes), header=header)


def _radiograph(header: Dataset, series: Stack, decoded: Path | None) -> Volume:
    """One projection; ``header`` is that of the object itself. Values: see ``imaging.projection.brightness``."""
    plane = series.planes[0]
    voxels = _allocated(series.planes, np.float32)
    for _, pixels, padding in stored_frames(plane.path, [0], decoded):
        with reading(plane.path, "the grey scale"):
            voxels[0] = brightness(header, pixels, padding)
    if not np.isfinite(voxels).all():
        raise Irregular(INCORRECTLY_FORMATTED, "The rescaled pixels are not all finite numbers.")
    return Volume(voxels=voxels, affine=series.affine, frames=(plane.frame,), header=header, projection=True)


def _allocated(planes: Sequence[Plane], dtype: type) -> npt.NDArray[Any]:
    shape = (len(planes), planes[0].rows, planes[0].columns)
    if shape[0] * shape[1] * shape[2] > LARGEST:
        raise Irregular(NOT_SUPPORTED, f"The series claims {shape[0]} x {shape[1]} x {shape[2]} voxels: too many.")
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise Transient(f"there is no memory for {shape[0]} x {shape[1]} x {shape[2]} voxels") from error
