"""Brings a CT volume to the grid that the nodule network sees, and places and maps back to the source grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn.functional import interpolate, pad

from inference.algorithms.nodule_network import MULTIPLE, STEP_MM, STRIDE, scaled
from inference.imaging.orient import Orientation, towards
from inference.imaging.volume import Volume

Point = tuple[float, float, float]
Shape = tuple[int, int, int]

BLUR = 0.35  #: standard deviation of the smoothing before a coarser grid, in parts of its step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What the network sees, and how that lies in the source."""

    image: torch.Tensor  #: (1, 1, depth, height, width), 0..1, padded to what the network takes
    shape: Shape  #: of the image without padding
    turned: Shape  #: of the source, its axes to the head, the back and the left
    spacing: Point  #: mm between voxels of the turned source
    orientation: Orientation

    def place(self, cell: Point) -> Point:
        """A place in cells of the network's answer as (frame, row, column) of the source."""
        turned = []
        for position, seen, source in zip(cell, self.shape, self.turned, strict=True):
            voxel = STRIDE * position + (STRIDE - 1) / 2
            turned.append((voxel + 0.5) * source / seen - 0.5)
        return self._source(turned)

    def box(self, middle: Point, radius: float) -> tuple[Point, Point]:
        """Corners of the cube around a ball (source indices, radius in mm), within the images."""
        low, high = [0.0] * 3, [0.0] * 3
        for target, axis in enumerate(self.orientation.axes):
            half, size = radius / self.spacing[target], self.turned[target]
            low[axis] = min(max(middle[axis] - half, -0.5), size - 0.5)
            high[axis] = max(min(middle[axis] + half, size - 0.5), low[axis])
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def restore(self, cells: torch.Tensor) -> npt.NDArray[np.float32]:
        """A map over cells as a map over the source, linear between centres of cells."""
        fine = interpolate(cells[None, None].float(), scale_factor=STRIDE, mode="trilinear", align_corners=False)
        depth, height, width = self.shape
        wide = interpolate(fine[:, :, :depth, :height, :width], self.turned, mode="trilinear", align_corners=False)
        return np.ascontiguousarray(self.orientation.undo(wide[0, 0].cpu().numpy()), dtype=np.float32)

    def _source(self, turned: list[float]) -> Point:
        found = [0.0] * 3
        for target, axis in enumerate(self.orientation.axes):
            at = turned[target]
            found[axis] = self.turned[target] - 1 - at if self.orientation.flipped[target] else at
        return found[0], found[1], found[2]


def see(volume: Volume) -> Seen:
    """The volume at steps of about 2 mm: smoothed where that is coarser, linear between voxels where it is finer."""
    orientation = towards(volume.affine, "SPL")
    spacing = orientation.spacing(volume.spacing)
    hu = np.ascontiguousarray(orientation.apply(volume.voxels), dtype=np.float32)
    size = [max(1, round(n * step / STEP_MM)) for n, step in zip(hu.shape, spacing, strict=True)]
    coarser = [n / seen for n, seen in zip(hu.shape, size, strict=True)]
    hu = _smoothed(hu, [BLUR * factor if factor > 1.1 else 0.0 for factor in coarser])
    shape = (size[0], size[1], size[2])
    image = interpolate(torch.from_numpy(hu)[None, None], shape, mode="trilinear", align_corners=False)
    return Seen(
        image=padded(scaled(image)),
        shape=shape,
        turned=(hu.shape[0], hu.shape[1], hu.shape[2]),
        spacing=spacing,
        orientation=orientation,
    )


def padded(image: torch.Tensor) -> torch.Tensor:
    """More air behind the last voxel of each axis, so that the network's strides divide it."""
    ends = [-side % MULTIPLE for side in image.shape[2:]]
    return pad(image, (0, ends[2], 0, ends[1], 0, ends[0]))


def _smoothed(hu: npt.NDArray[np.float32], sigma: list[float]) -> npt.NDArray[np.float32]:
    if not any(sigma):
        return hu
    smooth: npt.NDArray[Any] = ndimage.gaussian_filter(hu, sigma, mode="nearest", truncate=3.0)
    return smooth
