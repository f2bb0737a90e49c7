"""Cleans segments of a mask: largest part, least size, holes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.packages.network import Clean

Labels = npt.NDArray[Any]  #: of 8 or 16 bits
Mask = npt.NDArray[np.bool_]
_TOUCHING = np.ones((3, 3, 3), np.uint8)  # 26 neighbours


def clean(labels: Labels, steps: Sequence[Clean], voxel_ml: float) -> Labels:
    """The mask after each step; voxels that leave a segment become background. ``voxel_ml``: volume of one voxel."""
    result = labels.copy() if steps else labels
    for step in steps:
        groups: Iterable[tuple[int, ...]] = [step.segments] if step.together else [(one,) for one in step.segments]
        for segments in groups:
            _clean(result, segments, step, voxel_ml)
    return result


def _clean(labels: Labels, segments: tuple[int, ...], step: Clean, voxel_ml: float) -> None:
    """One step on the union of some segments, in place, within the box that they fill."""
    member = np.zeros(int(np.iinfo(labels.dtype).max) + 1, bool)
    member[list(segments)] = True
    whole = member[labels]
    boxes = ndimage.find_objects(whole.astype(np.uint8))
    if not boxes:
        return
    box, mask = boxes[0], whole[boxes[0]]
    part = labels[box]
    if step.do == "fill-holes":
        # What is enclosed belongs to the segment; of a union, to its first one. Other segments keep their voxels.
        holes = ndimage.binary_fill_holes(mask) & ~mask & (part == 0)
        part[holes] = segments[0]
        return
    least = None if step.ml is None else step.ml / voxel_ml
    part[mask & ~_kept(mask, least)] = 0


def _kept(mask: Mask, least: float | None) -> Mask:
    """Parts of at least so many voxels, or the largest one."""
    parts, count = ndimage.label(mask, _TOUCHING)
    if count <= 1 and least is None:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    keep = sizes >= least if least is not None else np.arange(len(sizes)) == np.argmax(sizes)
    keep[0] = False
    kept: Mask = keep[parts]
    return kept
