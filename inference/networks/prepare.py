"""Takes a volume through the steps of ``[[network.prepare]]``, and keeps the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from inference.imaging.irregular import INSUFFICIENT_QUALITY, Irregular
from inference.imaging.orient import Orientation, towards
from inference.imaging.projection import presented
from inference.imaging.resample import Line, drawn, resize, resized
from inference.imaging.volume import Volume
from inference.networks.intensity import Scaling, foreground, is_fixed, shade
from inference.networks.way import Axis, Triple, Way
from inference.packages.network import Network
from inference.packages.steps import Clip, Crop, Fit, Orient, Pad, Present, Range, Resample, Resize, Scale, Step, ZScore
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
    steps = [step for step in network.prepare if not isinstance(step, Orient)]
    spacing = list(orientation.spacing(volume.spacing))
    channels = [_voxels(volume, channel.role) for channel in network.channels]
    image, way, scaling, done = _begun(channels, orientation, steps, spacing, device)
    for step in steps[done:]:
        match step:
            case Resample() | Resize():
                image, way = _resampled(image, way, step, spacing)
            case Crop():
                image, way = _box(image, way, _foreground_box(image, step))
            case Fit() | Pad():
                least = step.size if isinstance(step, Pad) else None
                size = _padded(image, least) if least else _filled(step.size, way.size, len(image))
                image, way = to_size(image, way, size, step.fill)
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


def _begun(
    channels: Sequence[npt.NDArray[Any]],
    orientation: Orientation,
    steps: Sequence[Step],
    spacing: list[float],
    device: torch.device,
) -> tuple[Tensor, Way, Scaling, int]:
    """Channels on the device, turned and in float32; after as many of the first steps as are told.

    Where these are a resampling, perhaps after steps on values with numbers of their own, all is done part by part: the
    whole is never held in float32. ``spacing`` is brought up to date.
    """
    stored = [torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in channels]  # as they are, once
    first, second, third = (Axis.of(stored[0].shape[axis]) for axis in orientation.axes)
    way = Way(orientation=orientation, axes=(first, second, third))
    count = next((number for number, step in enumerate(steps) if not is_fixed(step)), len(steps))
    step = steps[count] if count < len(steps) else None
    if isinstance(step, Resample | Resize) and step.interpolation != "spline":
        after = list(spacing)
        lines, drawn_way = _lines(way, step, after, len(stored))
        if lines:
            spacing[:] = after
            image, scaling = _drawn(stored, orientation, lines, steps[:count])
            return image, drawn_way, scaling, count + 1
    return _stacked([_turned(one, orientation) for one in stored]), way, Scaling(), 0


def _drawn(
    stored: Sequence[Tensor], orientation: Orientation, lines: Sequence[Line], steps: Sequence[Step]
) -> tuple[Tensor, Scaling]:
    """Resampled as it lies in memory, then turned; with what the steps on values did to the first channel."""
    scaling = Scaling()
    for step in steps:
        did = shade(torch.zeros(len(stored), 1, 1, 1), _on_values(step))
        scaling = scaling.then(did.factor, did.offset)

    def values(part: Tensor) -> None:
        for step in steps:
            shade(part, _on_values(step))

    lying = [
        line.turned(axis, stored[0].shape[axis], flipped=orientation.flipped[line.axis])
        for line in lines
        for axis in (orientation.axes[line.axis],)
    ]
    image = drawn(stored, lying, values).permute(0, *(axis + 1 for axis in orientation.axes))
    seen = {line.axis for line in lines}
    flips = [axis + 1 for axis, flipped in enumerate(orientation.flipped) if flipped and axis not in seen]
    return (torch.flip(image, flips) if flips else image).contiguous(), scaling


def _on_values(step: Step) -> Clip | Range | ZScore | Scale:
    assert isinstance(step, Clip | Range | ZScore | Scale)
    return step


def _turned(stored: Tensor, orientation: Orientation) -> Tensor:
    """Voxels turned and in float32."""
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


def _filled(size: Triple, old: Triple, channels: int) -> Triple:
    first, second, third = (new or had for new, had in zip(size, old, strict=True))
    _bounded(first * second * third * channels)
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


def _resampled(image: Tensor, way: Way, step: Resample | Resize, spacing: list[float]) -> tuple[Tensor, Way]:
    """The whole image at once; ``spacing`` is brought up to date."""
    coarse = _coarse_axis(step, spacing)
    lines, way = _lines(way, step, spacing, len(image))
    if step.interpolation == "spline":
        return resize(image, way.size, "spline", coarse), way
    return (drawn(list(image), lines) if lines else image), way


def _lines(way: Way, step: Resample | Resize, spacing: list[float], channels: int) -> tuple[list[Line], Way]:
    """How a step resamples, on the network's axes; and the way with it. ``spacing`` is brought up to date."""
    nearest, old = step.interpolation == "nearest", way.size
    if isinstance(step, Resample) and step.extent == "centres":
        return _centred(way, step, spacing, channels)
    coarse = _coarse_axis(step, spacing)
    if isinstance(step, Resize):
        size = _filled(step.size, old, channels)
    else:
        wanted = _wanted(step, spacing)
        first, second, third = (max(1, round(n * had / new)) for n, had, new in zip(old, spacing, wanted, strict=True))
        size = _filled((first, second, third), old, channels)
    # What voxels of a whole number measure, which is only about what was wanted.
    spacing[:] = [had * before / new for had, before, new in zip(spacing, old, size, strict=True)]
    axes = [
        axis.stretch(new, new / axis.size, edges=True, nearest=number == coarse)
        for number, (axis, new) in enumerate(zip(way.axes, size, strict=True))
    ]
    return resized(old, size, nearest=nearest, coarse=coarse), way.replaced(axes)


def _centred(way: Way, step: Resample, spacing: list[float], channels: int) -> tuple[list[Line], Way]:
    """The same where the centre of the first voxel stays in place."""
    if step.interpolation == "spline":
        raise Misconfigured('resample by spline keeps the edges in place: write extent = "edges"')
    wanted, coarse = _wanted(step, spacing), _coarse_axis(step, spacing)
    axes, lines = list(way.axes), []
    for a, axis in enumerate(way.axes):
        ratio = spacing[a] / wanted[a]
        new = round((axis.size - 1) * ratio + 1)  # halves to even, as numpy (and so MONAI) rounds
        axes[a] = axis.stretch(new, ratio, edges=False, nearest=a == coarse)
        _bounded(channels * math.prod(one.size for one in axes))
        if ratio != 1:
            places = np.arange(new, dtype=np.float64) / ratio
            lines.append(Line.at(a, places, axis.size, nearest=step.interpolation == "nearest" or a == coarse))
    spacing[:] = wanted
    return lines, way.replaced(axes)


def _wanted(step: Resample, spacing: list[float]) -> list[float]:
    return [new or old for new, old in zip(step.spacing, spacing, strict=True)]


def _coarse_axis(step: Resample | Resize, before: list[float]) -> int | None:
    """The axis that is coarser than the finest by more than the step's factor, if it is one alone."""
    factor = step.coarse if isinstance(step, Resample) else None
    if factor is None:
        return None
    assert isinstance(step, Resample)
    for spacing in (before, _wanted(step, before)):
        if max(spacing) / min(spacing) > factor:
            coarsest = [a for a in range(3) if spacing[a] == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None
