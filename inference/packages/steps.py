"""The ``[[network.prepare]]`` steps of ``model.toml``: from the voxels of a series to what a network was trained on.

Steps run in the order in which they stand. Steps that move voxels (orient, crop, resample, resize, fit, pad) are undone
for the answer, in reverse; steps on values (clip, range, z-score, scale) are for the network alone. Values start in
the unit of the series (HU for CT).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from storage.settings import Settings

Interpolation = Literal["nearest", "linear", "spline"]
"""``spline`` is cubic, as scikit-image's ``resize`` of order 3: exact for nnU-Net, slow on large volumes."""
Over = Literal["all", "nonzero", "foreground"]
"""Voxels of which statistics are taken: all, those that are not zero, or those that are not zero in some channel
with their holes filled; the others are then set to zero."""
Axes = tuple[int, int, int]
_SAME_AXIS = str.maketrans("RPI", "LAS")


class Orient(Settings):
    """Turn the array, without resampling, to the nearest orientation in which each axis increases towards a letter."""

    do: Literal["orient"]
    to: str = Field(pattern=r"^[LRAPSI]{3}$")
    """Left, right, anterior, posterior, superior, inferior. ``RAS`` is how NIfTI tools see a volume; ``SPL`` is how
    an axial series lies in memory."""

    @model_validator(mode="after")
    def _three_axes(self) -> Self:
        if len({letter.translate(_SAME_AXIS) for letter in self.to}) < 3:
            raise ValueError("to needs one letter of each pair: L or R, A or P, S or I")
        return self


class Crop(Settings):
    """Cut to the box of the foreground over all channels; what lies outside is background in the answer."""

    do: Literal["crop"]
    above: float | None = None
    """Foreground is what is greater. Default: what is not zero."""
    margin: int = Field(default=0, ge=0)
    """Voxels around the box."""


class Resample(Settings):
    """Bring to a voxel size in mm."""

    do: Literal["resample"]
    spacing: tuple[float, float, float]
    """Along the array's axes; 0 keeps an axis as it is."""
    interpolation: Interpolation = "linear"
    extent: Literal["edges", "centres"] = "edges"
    """What stays in place: the outer edges of the volume (nnU-Net, torch), or the centre of its first voxel (MONAI)."""
    coarse: float | None = Field(default=None, gt=1)
    """Where one axis is coarser than the finest by more than this factor, before or after, take the nearest along it
    (nnU-Net: 3)."""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if any(length and not 0.05 <= length <= 100 for length in self.spacing):
            raise ValueError("spacing is in mm, 0.05 to 100, or 0 for as it is")
        return self


class _Sized(Settings):
    """A step to a number of voxels along each axis; 0 keeps an axis as it is."""

    size: Axes

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if min(self.size) < 0 or not 0 < max(self.size) <= 4096:
            raise ValueError("size is 1 to 4096 voxels, or 0 for as it is")
        return self


class Resize(_Sized):
    """Bring to a number of voxels, whatever their size in mm; the outer edges stay in place."""

    do: Literal["resize"]
    interpolation: Interpolation = "linear"


class Fit(_Sized):
    """Cut or pad, centred, to a number of voxels."""

    do: Literal["fit"]
    fill: float = 0.0


class Pad(_Sized):
    """Pad, centred, to at least a number of voxels."""

    do: Literal["pad"]
    fill: float = 0.0


class _Values(Settings):
    """A step on values, each channel by itself."""

    channels: tuple[int, ...] | None = None
    """Channels that it is for, from 0. Default: all."""


class Bounded(_Values):
    """Two bounds: fixed values, quantiles of the voxels, or their least and greatest value."""

    low: float | None = None
    high: float | None = None
    quantiles: tuple[float, float] | None = None
    over: Over = "all"
    """Voxels whose quantiles, least and greatest are taken."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        fixed = (self.low is not None) + (self.high is not None)
        if fixed == 1 or (fixed and self.quantiles):
            raise ValueError("give low and high, or quantiles, or neither for least and greatest")
        low, high = self.quantiles or (0.0 if self.low is None else self.low, 1.0 if self.high is None else self.high)
        if not low < high or (self.quantiles and not 0 <= low < high <= 1):
            raise ValueError("the lower bound must be below the upper one; quantiles are 0 to 1")
        return self


class Clip(Bounded):
    """Set what lies outside of two bounds to the bound."""

    do: Literal["clip"]


class Range(Bounded):
    """Bring two bounds linearly to two values: windowing, min-max, quantile scaling."""

    do: Literal["range"]
    to: tuple[float, float] = (0.0, 1.0)
    clip: bool = True
    """Whether what lies outside is set to the bound first."""


class Present(_Values):
    """Of a radiograph: to 0 (black) .. 1 as a viewer first shows it, by the image's own VOI LUT or window."""

    do: Literal["present"]


class ZScore(_Values):
    """Take off a mean and divide by a deviation: the voxels' own (population), or fixed ones of the training data."""

    do: Literal["z-score"]
    mean: float | None = None
    deviation: float | None = Field(default=None, gt=0)
    over: Over = "all"
    """Voxels that are counted and changed; with ``nonzero`` and ``foreground`` the others become 0."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.mean is None) != (self.deviation is None):
            raise ValueError("give both mean and deviation, or neither")
        return self


class Scale(_Values):
    """Multiply, then add."""

    do: Literal["scale"]
    factor: float = 1.0
    offset: float = 0.0


Step = Annotated[
    Orient | Crop | Resample | Resize | Fit | Pad | Clip | Range | Present | ZScore | Scale, Field(discriminator="do")
]
