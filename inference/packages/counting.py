"""Counts the voxels of segments, without the 8 bytes a voxel that counting a whole volume at once takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference.packages.raw import Labels

Counts = npt.NDArray[np.int64]
_PAIRS = 2**16  #: voxels from which on they are counted by twos: half as many steps, but 65,536 counters


def in_frame(frame: Labels, least: int = 0) -> Counts:
    """How many voxels of a plane carry each number from 0, up to ``least`` and the greatest one."""
    flat = np.ascontiguousarray(frame).reshape(-1)
    if flat.dtype != np.uint8 or flat.size < _PAIRS or flat.size % 2:
        return np.bincount(flat, minlength=least + 1)
    pairs = np.bincount(flat.view(np.uint16), minlength=2**16).reshape(2**8, 2**8)
    found: Counts = pairs.sum(axis=0) + pairs.sum(axis=1)
    return found


def in_all(maps: Sequence[Labels]) -> Counts:
    """The same over label maps (frames, rows, columns) of one grid."""
    greatest = max(int(one.max(initial=0)) for one in maps)
    counts = np.zeros(greatest + 1, np.int64)
    for frame in (frame for one in maps for frame in one):
        counts += in_frame(frame, greatest)[: greatest + 1]
    return counts
