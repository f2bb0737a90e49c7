"""The steps of ``[[network.prepare]]`` that change values: clip, range, z-score, scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from inference.packages.steps import Bounded, Clip, Over, Range, Scale, ZScore

Tensor = torch.Tensor
TINY = 1e-8  #: a deviation below it is that of an image without contrast


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What steps made of values that they did not clip: ``factor`` * value + ``offset``."""

    factor: float = 1.0
    offset: float = 0.0

    def then(self, factor: float, offset: float) -> Scaling:
        """With one more step."""
        return Scaling(factor=self.factor * factor, offset=self.offset * factor + offset)


def shade(image: Tensor, step: Clip | Range | ZScore | Scale) -> Scaling:
    """Apply one step to the channels that it is for, in place, of a float32 image (channels, depth, height, width).

    Returns what it did to the values of the first channel.
    """
    scalings = {}
    whole = foreground(image, filled=True) if getattr(step, "over", None) == "foreground" else None
    for number in range(image.shape[0]) if step.channels is None else step.channels:
        channel = image[number]
        match step:
            case Scale():
                channel.mul_(step.factor).add_(step.offset)
                scalings[number] = Scaling(factor=step.factor, offset=step.offset)
            case ZScore():
                scalings[number] = _z_score(channel, step, _counted(channel, step.over, whole))
            case Clip():
                low, high = _bounds(channel, step, whole)
                channel.clamp_(low, high)
            case Range():
                scalings[number] = _range(channel, step, whole)
    return scalings.get(0, Scaling())


def is_fixed(step: object) -> bool:
    """Whether a step changes each voxel by itself, with numbers of its own: a part of an image as it does the whole."""
    match step:
        case Scale():
            return True
        case ZScore():
            return step.mean is not None and step.over == "all"
        case Clip() | Range():
            return step.low is not None and step.over == "all"
        case _:
            return False


def foreground(image: Tensor, above: float | None = None, *, filled: bool = False) -> Tensor:
    """Which voxels are not zero, or are above a value, in some channel; on request with their holes filled."""
    seen = ((image != 0) if above is None else (image > above)).any(dim=0)
    if filled:
        holes = ndimage.binary_fill_holes(seen.cpu().numpy())
        seen = torch.from_numpy(holes).to(image.device)
    return seen


def _counted(channel: Tensor, over: Over, whole: Tensor | None) -> Tensor | None:
    """The voxels that count, or None for all."""
    if over == "all":
        return None
    return channel != 0 if over == "nonzero" else whole


def _z_score(channel: Tensor, step: ZScore, counted: Tensor | None) -> Scaling:
    values = channel if counted is None else channel[counted]
    if not values.numel():
        return Scaling()
    if step.mean is None or step.deviation is None:
        # In float64: a sum of a hundred million float32 values loses digits that labels depend on.
        total = values.to(torch.float64) if values.numel() < 2**20 else values
        mean = float(total.mean(dtype=torch.float64))
        deviation = float((values - mean).square_().mean(dtype=torch.float64)) ** 0.5
    else:
        mean, deviation = step.mean, step.deviation
    deviation = max(deviation, TINY)
    channel.sub_(mean).div_(deviation)
    if counted is not None:
        channel.mul_(counted)
    return Scaling(factor=1 / deviation, offset=-mean / deviation)


def _range(channel: Tensor, step: Range, whole: Tensor | None) -> Scaling:
    low, high = _bounds(channel, step, whole)
    first, last = step.to
    if step.clip:
        channel.clamp_(low, high)
    factor = (last - first) / (high - low) if high > low else 0.0
    channel.sub_(low).mul_(factor).add_(first)
    return Scaling(factor=factor, offset=first - low * factor)


def _bounds(channel: Tensor, step: Bounded, whole: Tensor | None) -> tuple[float, float]:
    if step.low is not None and step.high is not None:
        return step.low, step.high
    counted = _counted(channel, step.over, whole)
    values = channel if counted is None else channel[counted]
    if not values.numel():
        return 0.0, 0.0
    if step.quantiles is None:
        return float(values.min()), float(values.max())
    low, high = np.quantile(values.cpu().numpy(), step.quantiles)
    return float(low), float(high)
