"""Interpolation along the axes of a grid, by positions, so that each way there has an exact way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from scipy import ndimage

Tensor = torch.Tensor
Interpolation = Literal["nearest", "linear", "spline"]


def along(image: Tensor, axis: int, positions: Tensor, *, nearest: bool = False) -> Tensor:
    """Values of ``image`` at fractional indices along one axis, linear or nearest; beyond its ends the last value.

    Halves are rounded up by ``nearest``, as torch's ``nearest-exact`` does.
    """
    last = image.shape[axis] - 1
    if nearest:
        return image.index_select(axis, (positions + 0.5).floor().long().clamp_(0, last))
    clamped = positions.clamp(0, last)
    low = clamped.floor().long()
    high = (low + 1).clamp_(max=last)
    shape = [1] * image.ndim
    shape[axis] = -1
    weight = (clamped - low).to(image.dtype).view(shape)
    return torch.lerp(image.index_select(axis, low), image.index_select(axis, high), weight)


def resize(image: Tensor, size: Sequence[int], interpolation: Interpolation, coarse: int | None = None) -> Tensor:
    """An image (channels, depth, height, width) on another number of voxels; its outer edges stay in place.

    ``spline`` is cubic with the edge repeated and values kept within those of the image, computed on the CPU; along
    the axis ``coarse`` the nearest voxel is taken instead. Axes that shrink most go first, for speed.
    """
    if interpolation == "spline":
        return _spline(image, size, coarse)
    axes = sorted(range(3), key=lambda a: size[a] / image.shape[a + 1])
    for axis in axes:
        old, new = image.shape[axis + 1], size[axis]
        if old != new:
            places = edges(old, new, image.device)
            image = along(image, axis + 1, places, nearest=interpolation == "nearest" or axis == coarse)
    return image


def edges(old: int, new: int, device: torch.device | str = "cpu") -> Tensor:
    """Where the centres of ``new`` voxels lie among ``old`` ones, outer edges in place."""
    return (torch.arange(new, dtype=torch.float64, device=device) + 0.5) * (old / new) - 0.5


def _spline(image: Tensor, size: Sequence[int], coarse: int | None) -> Tensor:
    result = []
    for channel in image.cpu().numpy():
        low, high = float(channel.min()), float(channel.max())
        wanted = [channel.shape[a] if a == coarse else size[a] for a in range(3)]
        zoom = [new / old for new, old in zip(wanted, channel.shape, strict=True)]
        if coarse is None:
            grown = ndimage.zoom(channel, zoom, order=3, mode="nearest", grid_mode=True)
        else:
            planes = np.moveaxis(channel, coarse, 0)
            inside = [zoom[a] for a in range(3) if a != coarse]
            grown = np.moveaxis(
                np.stack([ndimage.zoom(p, inside, order=3, mode="nearest", grid_mode=True) for p in planes]), 0, coarse
            )
        result.append(torch.from_numpy(np.clip(grown, low, high).astype(np.float32)))
    found = torch.stack(result).to(image.device)
    if coarse is not None and found.shape[coarse + 1] != size[coarse]:
        found = along(found, coarse + 1, edges(found.shape[coarse + 1], size[coarse], found.device), nearest=True)
    return found
