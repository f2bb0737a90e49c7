"""A small network that finds nodules in a volume, measures and grades them: one forward pass, every place at once.

It sees the volume at steps of 2 mm and answers on a grid of 4 mm: a logit for "here is the middle of a nodule" (as in
Zhou et al. 2019, arXiv 1904.07850), the logarithm of the radius, and one logit for each grade.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate, relu

STEP_MM = 2.0  #: of the voxels that it sees
STRIDE = 2  #: voxels to a cell of its answer
MULTIPLE = 4  #: its input's sides are multiples of this
GRADES = 3
RADIUS_MM = 5.0  #: whose logarithm is the zero of the radius head
WINDOW = (-1000.0, 400.0)  #: HU that become 0 and 1

Tensor = torch.Tensor


class Dropout(nn.Module):
    """Drops whole channels, in training as usual; and later where a generator is given (MC dropout).

    Its own generator makes the same study give the same answer twice.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, ...) with some channels at zero and the others larger."""
        if not self.training and self.generator is None:
            return x
        shape = (x.shape[0], x.shape[1], *(1 for _ in x.shape[2:]))
        kept = torch.rand(shape, generator=self.generator) >= self.share
        return x * (kept.to(x) / (1.0 - self.share))


class NoduleNetwork(nn.Module):
    """Input (batch, 1, depth, height, width), 0..1; output (batch, 5, depth / 2, height / 2, width / 2)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = _block(1, width, 1)
        self.down = nn.Sequential(_block(width, 2 * width, 2), _block(2 * width, 2 * width, 1))
        self.deep = nn.Sequential(_block(2 * width, 4 * width, 2), _block(4 * width, 4 * width, 1))
        self.join = _block(6 * width, 2 * width, 1)
        self.mix = nn.Conv3d(2 * width, 4 * width, 1)
        self.dropout = Dropout(0.2)
        self.head = nn.Conv3d(4 * width, 2 + GRADES, 1)
        nn.init.constant_(self.head.bias[:1], -3.0)  # type: ignore[index]  # few places are nodules

    def features(self, x: Tensor) -> Tensor:
        """The last feature maps: where saliency looks, and from where dropout differs between passes."""
        fine = self.down(self.stem(x))
        coarse = interpolate(self.deep(fine), scale_factor=2, mode="trilinear", align_corners=False)
        joined: Tensor = self.join(torch.cat([fine, coarse], dim=1))
        return joined

    def answer(self, features: Tensor) -> Tensor:
        """Logit of a nodule, logarithm of the radius over 5 mm, and logits of the grades, for every cell."""
        out: Tensor = self.head(self.dropout(relu(self.mix(features))))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """From voxels to answers."""
        return self.answer(self.features(x))


def _block(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels, out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm3d(out), nn.ReLU(inplace=True)
    )


def scaled(hu: Tensor) -> Tensor:
    """HU to what the network sees."""
    low, high = WINDOW
    return ((hu - low) / (high - low)).clamp(0.0, 1.0)
