"""Takes a volume through the steps of ``[[network.prepare]]``, and keeps the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from inference.imaging.irregular import INSUFFICIENT_QUALITY, Irregular
from inference.imaging.orient import Orientation, towards
from inference.imaging.projection import presented
from inference.imaging.resample import along, resize
from inference.imaging.volume import Volume
from inference.networks.intensity import Scaling, foreground, shade
from inference.networks.way import Axis, Triple, Way
from inference.packages.network import Network
from inference.packages.steps import Crop, Fit, Orient, Pad, Present, Resample, Resize
from storage.facts.errors import Misconfigured

Tensor = torch.Tensor
LARGEST = 2**31  #: values of one input; more cannot be meant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """What the network sees."""

    image: Tensor  #: float32 (channels, and the network's grid), on the device
    way: Way
    scaling: Scaling = field(default_factory=Scaling)  #: of the values of the first channel


def prepare(volume: Volume, network: Network, device: torch.device) -> Prepared:
    """Voxels to the device as they are stored, then step after step.

    Raises Misconfigured when the volume lacks a role that the package names, Irregular when nothing is left to see.
    """
    orient = next((step for step in network.prepare if isinstance(step, Orient)), None)
    orientation = towards(volume.affine, orient.to) if orient else Orientation(axes=(0, 1, 2), flipped=(False,) * 3)
    image = _stacked([_turned(_voxels(volume, c.role), orientation, device) for c in network.channels])
    first, second, third = (Axis.of(size) for size in image.shape[1:])
    way = Way(orientation=orientation, axes=(first, second, third))
    spacing = list(orientation.spacing(volume.spacing))
    scaling = Scaling()
    for step in network.prepare:
        match step:
            case Orient():
                continue
            case Resample():
                image, way = _resample(image, way, step, spacing)
            case Resize():
                size = _filled(step.size, image)
                spacing = [s * old / new for s, old, new in zip(spacing, image.shape[1:], size, strict=True)]
                image, way = _resize(image, way, step, size)
            case Crop():
                image, way = _box(image, way, _foreground_box(image, step))
            case Fit() | Pad():
                least = step.size if isinstance(step, Pad) else None
                image, way = to_size(
                    image, way, _padded(image, least) if least else _filled(step.size, image), step.fill
                )
            case Present():
                _present(image, volume, step)
            case _:
                did = shade(image, step)
                scaling = scaling.then(did.factor, did.offset)
    return Prepared(image=image, way=way, scaling=scaling)


def to_size(image: Tensor, way: Way, size: Triple, fill: float) -> tuple[Tensor, Way]:
    """Cut or pad to a size, centred; the odd voxel is added at the end."""
    box = []
    for old, new in zip(image.shape[1:], size, strict=True):
        low = (old - new) // 2 if old >= new else -((new - old) // 2)
        box.append((low, low + new))
    return _box(image, way, box, fill)


def _voxels(volume: Volume, role: str | None) -> npt.NDArray[Any]:
    if role is None:
        return volume.voxels
    try:
        return volume.others[role]
    except KeyError:
        raise Misconfigured(f"the network wants an input {role!r}: declare it under [[inputs]] of model.toml") from None


def _turned(voxels: npt.NDArray[Any], orientation: Orientation, device: torch.device) -> Tensor:
    """Voxels on the device, turned and in float32; they cross as they are stored, once."""
    stored = torch.from_numpy(np.ascontiguousarray(voxels)).to(device)
    turned = stored.permute(orientation.axes)
    flips = [axis for axis, flipped in enumerate(orientation.flipped) if flipped]
    if flips:
        turned = torch.flip(turned, flips)
    return turned.to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def _stacked(channels: list[Tensor]) -> Tensor:
    return channels[0][None] if len(channels) == 1 else torch.stack(channels)


def _present(image: Tensor, volume: Volume, step: Present) -> None:
    """Grey values of a radiograph as they are shown, in place."""
    if not volume.projection:
        raise Misconfigured("step present is for radiographs: accept those alone, or use range")
    for channel in step.channels or range(len(image)):
        shown = presented(volume.header, image[channel].cpu().numpy())
        image[channel] = torch.from_numpy(shown).to(image.device)


def _filled(size: Triple, image: Tensor) -> Triple:
    first, second, third = (new or old for new, old in zip(size, image.shape[1:], strict=True))
    _bounded(first * second * third * image.shape[0])
    return first, second, third


def _padded(image: Tensor, size: Triple) -> Triple:
    first, second, third = (max(new, old) for new, old in zip(size, image.shape[1:], strict=True))
    _bounded(first * second * third * image.shape[0])
    return first, second, third


def _bounded(values: int) -> None:
    if values > LARGEST:
        raise Irregular(INSUFFICIENT_QUALITY, "The images cover more than this model can be given at its voxel size.")


def _foreground_box(image: Tensor, step: Crop) -> list[tuple[int, int]]:
    seen = foreground(image, step.above)
    box = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        places = torch.nonzero(seen.amax(dim=others)).flatten()
        if not len(places):
            raise Irregular(INSUFFICIENT_QUALITY, "The images are empty: no voxel is brighter than the background.")
        size = image.shape[axis + 1]
        box.append((max(0, int(places[0]) - step.margin), min(size, int(places[-1]) + 1 + step.margin)))
    return box


def _box(image: Tensor, way: Way, box: list[tuple[int, int]], fill: float = 0.0) -> tuple[Tensor, Way]:
    """Keep a box, whose parts beyond the image are filled."""
    if all((low, high) == (0, size) for (low, high), size in zip(box, image.shape[1:], strict=True)):
        return image, way
    inside = [(max(low, 0), min(high, size)) for (low, high), size in zip(box, image.shape[1:], strict=True)]
    part = image[(slice(None), *(slice(low, high) for low, high in inside))]
    if inside != box:
        whole = image.new_full((image.shape[0], *(high - low for low, high in box)), fill)
        places = [slice(i[0] - b[0], i[1] - b[0]) for i, b in zip(inside, box, strict=True)]
        whole[(slice(None), *places)] = part
        part = whole
    axes = [axis.cut(low, high) for axis, (low, high) in zip(way.axes, box, strict=True)]
    return part.contiguous(), way.replaced(axes)


def _resize(image: Tensor, way: Way, step: Resize, size: Triple) -> tuple[Tensor, Way]:
    axes = [axis.stretch(new, new / axis.size, edges=True) for axis, new in zip(way.axes, size, strict=True)]
    return resize(image, size, step.interpolation), way.replaced(axes)


def _resample(image: Tensor, way: Way, step: Resample, spacing: list[float]) -> tuple[Tensor, Way]:
    """To another voxel size; ``spacing`` is brought up to date."""
    wanted = [new or old for new, old in zip(step.spacing, spacing, strict=True)]
    coarse = _coarse_axis(step.coarse, spacing, wanted)
    axes = list(way.axes)
    if step.extent == "edges":
        sizes = [max(1, round(old * had / new)) for old, had, new in zip(image.shape[1:], spacing, wanted, strict=True)]
        size = _filled((sizes[0], sizes[1], sizes[2]), image)
        for a, new in enumerate(size):
            axes[a] = axes[a].stretch(new, new / axes[a].size, edges=True, nearest=a == coarse)
        image = resize(image, size, step.interpolation, coarse)
    else:
        if step.interpolation == "spline":
            raise Misconfigured('resample by spline keeps the edges in place: write extent = "edges"')
        for a in range(3):
            ratio = spacing[a] / wanted[a]
            new = round((image.shape[a + 1] - 1) * ratio + 1)  # halves to even, as numpy (and so MONAI) rounds
            _bounded(image.numel() // image.shape[a + 1] * new)
            axes[a] = axes[a].stretch(new, ratio, edges=False, nearest=a == coarse)
            if ratio != 1:
                places = torch.arange(new, dtype=torch.float64, device=image.device) / ratio
                nearest = step.interpolation == "nearest" or a == coarse
                image = along(image, a + 1, places, nearest=nearest)
    spacing[:] = wanted
    return image, way.replaced(axes)


def _coarse_axis(factor: float | None, before: list[float], after: list[float]) -> int | None:
    """The axis that is coarser than the finest by more than the factor, if it is one alone."""
    if factor is None:
        return None
    for spacing in (before, after):
        if max(spacing) / min(spacing) > factor:
            coarsest = [a for a in range(3) if spacing[a] == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None
