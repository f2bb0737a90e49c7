"""Makes the map that a classifying package asks for: which voxels moved one element of its network's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import nn

from inference.algorithms.raw import Map
from inference.explain.saliency import (
    GRAD_CAM,
    GRAD_CAM_PP,
    INTEGRATED,
    ROLLOUT,
    SCORE_CAM,
    Score,
    attention_rollout,
    enlarged,
    grad_cam,
    grad_cam_pp,
    integrated_gradients,
    score_cam,
    watched,
)
from inference.networks.device import memory
from inference.networks.formats import Net
from inference.networks.forward import Opened, whole
from inference.packages.saliency import Saliency
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Shown

Tensor = torch.Tensor
_BY_LAYER: Mapping[str, tuple[Callable[..., Tensor], str]] = {
    "grad-cam": (grad_cam, GRAD_CAM),
    "grad-cam++": (grad_cam_pp, GRAD_CAM_PP),
    "score-cam": (score_cam, SCORE_CAM),
}


def explained(opened: Opened, saliency: Saliency, key: str, element: int) -> Map:
    """What moved one element of the first model's answer, on the grid of the series.

    Raises Misconfigured where the network has no such layer, or none that can be looked into.
    """
    net = opened.nets.members[0]
    cumulative = getattr(opened.network.output, "activation", "") == "cumulative"

    def score(answer: Tensor) -> Tensor:
        elements = net.pick(answer)[0]
        return elements[:element].sum() - elements[element:].sum() if cumulative else elements[element]

    with memory("the map of what moved the answer"):
        image = whole(opened)
        found, citation = _found(net, saliency, image, score)
        shown = enlarged(found, image.shape[2:]).cpu().numpy()
    grid = shown if shown.ndim == 3 else shown[None]
    return Map(
        shown=Shown.SALIENCY,
        label=f"Saliency for {key}"[:64],
        method=citation,
        voxels=opened.way.back(grid[None])[0].clip(0.0, 1.0),
        explains=key,
    )


def _found(net: Net, saliency: Saliency, image: Tensor, score: Score) -> tuple[Tensor, str]:
    """The map on a grid of its own, which covers the image, and its citation."""
    if saliency.method == "integrated-gradients":
        if net.module is None:
            raise Misconfigured("integrated gradients need a network with gradients: ONNX has none")
        parts = integrated_gradients(net.module, image, score, steps=saliency.steps)
        return parts.sum(dim=0).clamp(min=0), INTEGRATED
    if saliency.method == "attention-rollout":
        return _rolled_out(net, saliency, image), ROLLOUT
    method, citation = _BY_LAYER[saliency.method]
    return method(net.module, _layers(net, saliency.layer)[0], image, score), citation


def _rolled_out(net: Net, saliency: Saliency, image: Tensor) -> Tensor:
    """How much the class token, or all tokens alike, took from each part of the image."""
    layers = _layers(net, saliency.layer)
    with torch.no_grad():
        given = watched(net.call, layers, image)
    tokens = {each.shape[-1] for each in given}
    if (
        any(each.ndim != 4 or each.shape[0] != 1 or each.shape[-2] != each.shape[-1] for each in given)
        or len(tokens) > 1
    ):
        raise Misconfigured(f"{saliency.layer} names modules that give out no attention of one set of tokens")
    if len(saliency.patch) != image.ndim - 2:
        raise Misconfigured(f"patch of the saliency needs {image.ndim - 2} numbers")
    grid = [size // part for size, part in zip(image.shape[2:], saliency.patch, strict=True)]
    cells = torch.Size(grid).numel()
    extra = tokens.pop() - cells
    if extra not in (0, 1):
        raise Misconfigured(f"the network has {extra + cells} tokens, but patch makes {cells} of the image")
    flow = attention_rollout([each[0].float().cpu() for each in given])
    taken = flow[0, 1:] if extra else flow.mean(dim=0)
    return taken.reshape(grid)


def _layers(net: Net, pattern: str) -> list[nn.Module]:
    """The modules of that name, or of that pattern, in their order."""
    modules: dict[str, nn.Module] = dict(net.module.named_modules()) if net.module is not None else {}
    found = [module for name, module in modules.items() if name and fnmatchcase(name, pattern)]
    if not found or isinstance(net.module, torch.jit.ScriptModule):
        known = ", ".join([key for key in modules if key][-5:]) or "none"
        raise Misconfigured(
            f"saliency needs a state dict whose network has a layer {pattern!r} (its last ones: {known})"
        )
    return found
