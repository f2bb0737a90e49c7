"""Brain extraction in T1-weighted MR with the networks of deepbet, and checks that what was found is a whole brain.

Method: Fisch et al., deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks, Computers
in Biology and Medicine 179:108845 (2024). A first network finds the box of the brain in a coarse copy of the volume, a
second one marks the brain inside of it. Both work on a fixed matrix and use no voxel spacing; they answer for any
image, so the checks decide whether the answer is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from inference.algorithms.brain_checks import Evidence, doubt
from inference.algorithms.networks import Networks, device_of, networks
from inference.algorithms.raw import Raw
from inference.imaging.orient import towards
from inference.imaging.volume import Volume
from inference.packages.package import Package
from inference.runtime import Runtime

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]
Box = tuple[slice, slice, slice]

COARSE = (128, 128, 128)  #: matrix of the box network
FINE = (256, 256, 256)  #: matrix of the mask network
QUANTILES = (0.005, 0.995)  #: of the coarse copy; intensities are clipped there
MEAN, DEVIATION = 0.449, 0.226  #: of the networks' training images
MARGIN = 0.1  #: of the box, at each end
FOREGROUND = 0.02  #: part of a plane of the coarse mask that makes it belong to the box
BRAIN = 1  #: segment number


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Intensities to which both networks' inputs are clipped."""

    low: float
    high: float

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Clip to the window, then bring to the mean and deviation that the networks were trained with."""
        clipped = ((image - self.low) / (self.high - self.low)).clamp(0, 1)
        deviation = clipped.std()
        scaled = (clipped - clipped.mean()) / deviation if deviation > 0 else clipped - clipped.mean()
        return scaled * DEVIATION + MEAN


def extract(volume: Volume, package: Package, runtime: Runtime) -> Raw:
    """Brain mask (segment 1) and ``intracranial_volume`` in mL, or a coded refusal.

    The networks need a volume whose axes run nearly to the right, front and head; it is turned there, not resampled.
    """
    orientation = towards(volume.affine, "RAS")
    image = np.ascontiguousarray(orientation.apply(volume.voxels), dtype=np.float32)
    chosen = device_of(runtime.device)
    coarse, mask = segment(image, networks(package, chosen, runtime.models), runtime.checkpoint)
    runtime.checkpoint()
    spacing = orientation.spacing(volume.spacing)
    refusal = doubt(Evidence(coarse=coarse, mask=mask, spacing=spacing))
    if refusal is not None:
        return Raw(refusal=refusal, device=str(chosen))
    source = np.ascontiguousarray(orientation.undo(mask), dtype=np.uint8) * np.uint8(BRAIN)
    return Raw(
        mask=source,
        values={"intracranial_volume": float(np.count_nonzero(mask)) * volume.voxel_ml},
        device=str(chosen),
    )


def segment(image: Image, nets: Networks, checkpoint: Callable[[], None]) -> tuple[Image, Mask]:
    """The box network's probabilities (128 x 128 x 128) and the brain mask of a RAS volume, empty if none.

    ``checkpoint`` is called before each pass.
    """
    checkpoint()
    tensor = torch.from_numpy(image)
    coarse = _resize(tensor, COARSE)
    low, high = np.quantile(coarse.numpy(), QUANTILES)
    window = Window(low=float(low), high=float(high))
    mask = np.zeros(image.shape, bool)
    if window.high <= window.low:
        return np.zeros(COARSE, np.float32), mask
    found = nets.run("box", window.normalise(coarse))[1]
    box = _box(_largest(found.numpy() > 0.5), image.shape)
    if box is not None:
        checkpoint()
        inside = nets.run("mask", window.normalise(_resize(tensor[box], FINE)))[1]
        fine = _resize(inside, mask[box].shape).numpy() > 0.5
        mask[box] = ndimage.binary_fill_holes(_largest(fine))
    return found.numpy(), mask


def _resize(image: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return interpolate(image[None, None], shape, mode="nearest-exact")[0, 0]


def _largest(mask: Mask) -> Mask:
    """The largest 26-connected component; empty stays empty."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: Mask = labels == int(sizes.argmax())
    return largest


def _box(mask: Mask, shape: tuple[int, ...]) -> Box | None:
    """The part of a volume that holds the coarse mask, with its margin; None where there is no foreground."""
    slices = []
    for axis, size in enumerate(shape):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(mask.mean(axis=others) > FOREGROUND)
        if not planes.size:
            return None
        first, last, scale = int(planes[0]), int(planes[-1]) + 1, size / mask.shape[axis]
        centre = round((first + last) / 2 * scale)
        extent = round((last - first) * scale * (1 + 2 * MARGIN))
        slices.append(slice(max(0, int(centre - extent / 2)), min(size, int(centre + extent / 2))))
        if slices[-1].stop <= slices[-1].start:
            return None
    return slices[0], slices[1], slices[2]
