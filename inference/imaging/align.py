"""Brings one series to the grid of another by patient coordinates, with trilinear interpolation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.imaging.volume import Volume
from storage.facts.errors import Transient

SLAB = 16  #: frames that are computed between two checkpoints
SAME_GRID_MM = 0.01  #: grids whose corners lie nearer than this are one grid
_EDGE = 0.5 + 1e-3  #: a voxel reaches half a step beyond its centre; positions are rounded in headers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aligned:
    """A series on the grid of another one."""

    voxels: npt.NDArray[np.float32]  #: (frames, rows, columns) of the other grid
    covered: float  #: part of that grid which lies within the series, 0..1


def share_frame_of_reference(one: Volume, two: Volume) -> bool:
    """Whether two series state the same coordinate system (PS3.3 C.7.4.1); no where one does not say."""
    first, second = (str(each.header.get("FrameOfReferenceUID") or "") for each in (one, two))
    return bool(first) and first == second


def onto(grid: Volume, series: Volume, fill: float, checkpoint: Callable[[], None] = lambda: None) -> Aligned:
    """The series at the centres of the grid's voxels; ``fill`` where it does not reach.

    A series that is much finer than the grid is sampled, not averaged. Raises Transient where memory is short.
    """
    shape = grid.voxels.shape
    if _is_same_grid(grid, series):
        return Aligned(voxels=series.voxels.astype(np.float32), covered=1.0)
    way = np.linalg.inv(series.affine) @ grid.affine
    try:
        found = np.empty(shape, np.float32)
        inside = 0
        for start in range(0, shape[0], SLAB):
            checkpoint()
            slab = found[start : start + SLAB]
            offset = way[:3, 3] + way[:3, 0] * start
            ndimage.affine_transform(
                series.voxels, way[:3, :3], offset, output_shape=slab.shape, output=slab, order=1, mode="nearest"
            )
            within = _within(slab.shape, way[:3, :3], offset, series.voxels.shape)
            slab[~within] = fill
            inside += int(np.count_nonzero(within))
    except MemoryError as error:
        raise Transient(f"there is no memory to align a series with {shape[0]} x {shape[1]} x {shape[2]}") from error
    return Aligned(voxels=found, covered=inside / found.size)


def _is_same_grid(one: Volume, two: Volume) -> bool:
    if one.voxels.shape != two.voxels.shape:
        return False
    ends = np.array([[f, r, c, 1] for f in (0, 1) for r in (0, 1) for c in (0, 1)], float).T
    ends[:3] *= np.array(one.voxels.shape)[:, None] - 1
    apart = (one.affine @ ends - two.affine @ ends)[:3]
    return bool(np.linalg.norm(apart, axis=0).max() < SAME_GRID_MM)


def _within(
    shape: tuple[int, ...], matrix: npt.NDArray[np.float64], offset: npt.NDArray[np.float64], source: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Which voxels of a slab lie within the source, whose index is ``matrix @ index + offset``."""
    frames, rows, columns = (np.arange(n, dtype=np.float64) for n in shape)
    within = np.ones(shape, bool)
    for axis in range(3):
        index = (
            (frames * matrix[axis, 0])[:, None, None]
            + (rows * matrix[axis, 1])[None, :, None]
            + (columns * matrix[axis, 2] + offset[axis])[None, None, :]
        )
        within &= (index >= -_EDGE) & (index <= source[axis] - 1 + _EDGE)
    return within
