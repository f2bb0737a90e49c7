"""The U-Nets of nnU-Net v2 (Isensee et al. 2021, Nat Methods 18:203; 2024, arXiv:2404.09556), for inference alone.

Modules are named as in its checkpoints, so that their weights load as they are; what only training needs (dropout,
outputs of the lower stages) is left out. Arguments are those that ``plans.json`` gives; all sizes are in the order of
the array's axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Tensor = torch.Tensor
Sizes = int | Sequence[int]
_TRANSPOSED: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: nn.ConvTranspose2d,
    nn.Conv3d: nn.ConvTranspose3d,
}
_POOLING: Mapping[type[nn.Module], Callable[..., nn.Module]] = {nn.Conv2d: nn.AvgPool2d, nn.Conv3d: nn.AvgPool3d}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What all convolutions of a network have in common."""

    conv: type[nn.Module]
    bias: bool
    norm: type[nn.Module] | None
    norm_arguments: Mapping[str, Any] = field(default_factory=dict)
    nonlin: type[nn.Module] | None
    nonlin_arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return 2 if self.conv is nn.Conv2d else 3

    def sizes(self, given: Sizes) -> list[int]:
        """One number an axis."""
        return [given] * self.dimensions if isinstance(given, int) else [int(size) for size in given]

    def active(self) -> nn.Module:
        """The non-linearity."""
        return nn.Identity() if self.nonlin is None else self.nonlin(**self.nonlin_arguments)


class _Block(nn.Module):
    """Convolution, normalisation, non-linearity."""

    def __init__(
        self, kind: _Kind, channels: tuple[int, int], kernel: Sizes, stride: Sizes = 1, *, active: bool = True
    ):
        super().__init__()
        size = kind.sizes(kernel)
        padding = [(length - 1) // 2 for length in size]
        self.conv = kind.conv(*channels, size, kind.sizes(stride), padding=padding, bias=kind.bias)
        self.norm = nn.Identity() if kind.norm is None else kind.norm(channels[1], **kind.norm_arguments)
        self.nonlin = kind.active() if active else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.nonlin(self.norm(self.conv(image)))
        return answer


class _Stack(nn.Module):
    """Blocks one after the other; the first one may take steps."""

    def __init__(self, kind: _Kind, count: int, channels: tuple[int, int], kernel: Sizes, stride: Sizes = 1):
        super().__init__()
        first = _Block(kind, channels, kernel, stride)
        self.convs = nn.Sequential(first, *(_Block(kind, (channels[1],) * 2, kernel) for _ in range(count - 1)))

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.convs(image)
        return answer


class _Residual(nn.Module):
    """Two convolutions and a way around them: pooled where they take steps, projected where channels differ."""

    def __init__(self, kind: _Kind, channels: tuple[int, int], kernel: Sizes, stride: Sizes = 1):
        super().__init__()
        self.conv1 = _Block(kind, channels, kernel, stride)
        self.conv2 = _Block(kind, (channels[1],) * 2, kernel, active=False)
        steps = kind.sizes(stride)
        around: list[nn.Module] = [] if set(steps) == {1} else [_POOLING[kind.conv](steps, steps)]
        if channels[0] != channels[1]:
            plain = _Kind(
                conv=kind.conv, bias=False, norm=kind.norm, norm_arguments=kind.norm_arguments, nonlin=None
            )  # its projection has no bias, whatever the others have
            around.append(_Block(plain, channels, 1))
        self.skip = nn.Sequential(*around)
        self.nonlin2 = kind.active()

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.nonlin2(self.conv2(self.conv1(image)) + self.skip(image))
        return answer


class _Residuals(nn.Module):
    def __init__(self, kind: _Kind, count: int, channels: tuple[int, int], kernel: Sizes, stride: Sizes):
        super().__init__()
        first = _Residual(kind, channels, kernel, stride)
        self.blocks = nn.Sequential(first, *(_Residual(kind, (channels[1],) * 2, kernel) for _ in range(count - 1)))

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.blocks(image)
        return answer


class _Encoder(nn.Module):
    """Gives the answer of every stage."""

    def __init__(self, stages: Sequence[nn.Module], stem: nn.Module | None = None):
        super().__init__()
        if stem is not None:
            self.stem = stem
        self.has_stem = stem is not None
        self.stages = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        if self.has_stem:
            image = self.stem(image)
        answers = []
        for stage in self.stages:
            image = stage(image)
            answers.append(image)
        return answers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """The stages, from the finest to the coarsest."""

    features: list[int]
    kernels: list[Sizes]
    strides: list[Sizes]


class _Decoder(nn.Module):
    """From the coarsest stage back to the finest, taking along what the encoder saw there."""

    def __init__(self, kind: _Kind, shape: _Shape, counts: Sequence[int], classes: int):
        super().__init__()
        ups, stages = [], []
        features = shape.features
        for place in range(len(features) - 2, -1, -1):
            step = kind.sizes(shape.strides[place + 1])
            ups.append(_TRANSPOSED[kind.conv](features[place + 1], features[place], step, step, bias=kind.bias))
            count = counts[len(features) - 2 - place]
            stages.append(_Stack(kind, count, (2 * features[place], features[place]), shape.kernels[place]))
        self.transpconvs, self.stages = nn.ModuleList(ups), nn.ModuleList(stages)
        # Only the last stage answers; the others' answers were for training.
        self.seg_layers = nn.ModuleDict({str(len(stages) - 1): kind.conv(features[0], classes, 1, bias=True)})

    def forward(self, seen: list[Tensor]) -> Tensor:
        image = seen[-1]
        for up, stage, skip in zip(self.transpconvs, self.stages, reversed(seen[:-1]), strict=True):
            image = stage(torch.cat((up(image), skip), dim=1))
        (last,) = self.seg_layers.values()
        answer: Tensor = last(image)
        return answer


class _UNet(nn.Module):
    encoder: nn.Module
    decoder: nn.Module

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.decoder(self.encoder(image))
        return answer


class PlainConvUNet(_UNet):
    """The U-Net of the standard plans: plain convolutions on the way down and up.

    Input (batch, channels, …), answer (batch, classes, …): logits. Raises TypeError or ValueError for arguments that it
    does not know.
    """

    def __init__(
        self,
        *,
        input_channels: int,
        num_classes: int,
        n_conv_per_stage: Sizes,
        n_conv_per_stage_decoder: Sizes,
        **rest: Any,
    ):
        super().__init__()
        kind, shape = _read(rest)
        counts = _each(n_conv_per_stage, len(shape.features))
        widths = [input_channels, *shape.features]
        self.encoder = _Encoder(
            [
                nn.Sequential(_Stack(kind, counts[s], (widths[s], widths[s + 1]), shape.kernels[s], shape.strides[s]))
                for s in range(len(shape.features))
            ]
        )
        self.decoder = _Decoder(kind, shape, _each(n_conv_per_stage_decoder, len(shape.features) - 1), num_classes)


class ResidualEncoderUNet(_UNet):
    """The U-Net of the residual encoder plans (ResEnc M, L, XL): residual blocks on the way down.

    See PlainConvUNet.
    """

    def __init__(
        self, *, input_channels: int, num_classes: int, n_blocks_per_stage: Sizes, n_conv_per_stage_decoder: Sizes,
        **rest: Any,
    ):  # fmt: skip
        super().__init__()
        kind, shape = _read(rest)
        counts = _each(n_blocks_per_stage, len(shape.features))
        widths = [shape.features[0], *shape.features]
        self.encoder = _Encoder(
            [
                _Residuals(kind, counts[s], (widths[s], widths[s + 1]), shape.kernels[s], shape.strides[s])
                for s in range(len(shape.features))
            ],
            stem=_Stack(kind, 1, (input_channels, widths[0]), shape.kernels[0]),
        )
        self.decoder = _Decoder(kind, shape, _each(n_conv_per_stage_decoder, len(shape.features) - 1), num_classes)


def _read(rest: dict[str, Any]) -> tuple[_Kind, _Shape]:
    """What both networks are told of their convolutions and stages; takes it out of ``rest``, which must end empty."""
    stages = int(rest.pop("n_stages"))
    conv = rest.pop("conv_op")
    if conv not in _TRANSPOSED:
        raise ValueError("conv_op must be torch.nn.Conv2d or torch.nn.Conv3d")
    for ignored in ("dropout_op", "dropout_op_kwargs", "deep_supervision"):
        rest.pop(ignored, None)
    if rest.pop("nonlin_first", False):
        raise ValueError("nonlin_first is not known here")
    kind = _Kind(
        conv=conv,
        bias=bool(rest.pop("conv_bias", False)),
        norm=rest.pop("norm_op", None),
        norm_arguments=rest.pop("norm_op_kwargs", None) or {},
        nonlin=rest.pop("nonlin", None),
        nonlin_arguments=rest.pop("nonlin_kwargs", None) or {},
    )
    shape = _Shape(
        features=[int(width) for width in _each(rest.pop("features_per_stage"), stages)],
        kernels=_each(rest.pop("kernel_sizes"), stages),
        strides=_each(rest.pop("strides"), stages),
    )
    if rest:
        raise TypeError(f"unknown arguments: {', '.join(sorted(rest))}")
    return kind, shape


def _each(given: Any, count: int) -> list[Any]:
    """One value a stage."""
    values = [given] * count if isinstance(given, int) else list(given)
    if len(values) != count:
        raise ValueError(f"{count} values are wanted, there are {len(values)}")
    return values
