"""MeshNet: a segmentation network of dilated convolutions that sees a whole brain with few weights.

Fedorov et al., End-to-end learning of brain tissue segmentation from imperfect labeling, IJCNN 2017; as brainchop uses
it: 3 x 3 x 3 convolutions of one width, each followed by ELU, and a last one of 1 x 1 x 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

DILATIONS = (1, 2, 4, 8, 16, 8, 4, 2, 1)


class MeshNet(nn.Sequential):
    """(1, channels, depth, height, width) to (1, classes, depth, height, width), logits."""

    def __init__(
        self, *, channels: int = 1, width: int, classes: int, dilations: Sequence[int] = DILATIONS, norm: bool = False
    ) -> None:
        layers: list[nn.Module] = []
        for number, dilation in enumerate(dilations):
            before = width if number else channels
            layers.append(nn.Conv3d(before, width, 3, padding=dilation, dilation=dilation))
            if norm:
                layers.append(nn.BatchNorm3d(width))
            layers.append(nn.ELU(inplace=True))
        super().__init__(*layers, nn.Conv3d(width, classes, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits of each class."""
        for layer in self:
            image = layer(image)
        return image
