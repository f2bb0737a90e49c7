"""The ``saliency`` table of ``[network.output]``: how a map of what moved the answer is made."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from storage.settings import Settings


class Saliency(Settings):
    """A map of what moved the answer, delivered on the grid of the series."""

    method: Literal["grad-cam", "grad-cam++", "score-cam", "integrated-gradients", "attention-rollout"] = "grad-cam"
    """The first three weigh feature maps. Integrated gradients need no layer, only a network that is no ONNX. Attention
    rollout is for transformers, and is the same for each class."""
    layer: str = ""
    """Module of the first model whose feature maps are weighed, by its name, e.g. ``features.norm5``; the last one
    before pooling, as a rule. Of attention rollout, a pattern of the modules that give out attention (heads, tokens,
    tokens), e.g. ``blocks.*.attn.drop_weights``."""
    steps: int = Field(default=16, ge=2, le=256)
    """Of integrated gradients: points on the way from nothing (zeros, as the network sees them) to the image."""
    patch: tuple[int, ...] = ()
    """Of attention rollout: voxels that one token stands for, along each axis; an extra first token is the class's."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.method == "integrated-gradients") != (not self.layer):
            raise ValueError("layer is for every method but integrated-gradients")
        if (self.method == "attention-rollout") != bool(self.patch) or min(self.patch, default=1) < 1:
            raise ValueError("patch belongs to attention-rollout, and to it alone; its numbers are from 1")
        return self
