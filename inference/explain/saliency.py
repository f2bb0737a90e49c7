"""Which voxels moved the answer of a network: maps by gradients, by activations, by masking, and by attention.

All take a score: a function from the network's output to one number, the thing to be explained. Maps are 0..1, the
largest 1, unless there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.functional import interpolate

Tensor = torch.Tensor
Score = Callable[[Tensor], Tensor]  #: output to a number

GRAD_CAM = "Grad-CAM (Selvaraju et al. 2017, ICCV, 618)"
GRAD_CAM_PP = "Grad-CAM++ (Chattopadhay et al. 2018, WACV, 839)"
SCORE_CAM = "Score-CAM (Wang et al. 2020, CVPR Workshops, 111)"
INTEGRATED = "Integrated gradients (Sundararajan et al. 2017, ICML, PMLR 70:3319)"
ROLLOUT = "Attention rollout (Abnar and Zuidema 2020, ACL, 4190)"

_AXES = {3: "linear", 4: "bilinear", 5: "trilinear"}


def grad_cam(network: nn.Module, layer: nn.Module, image: Tensor, score: Score) -> Tensor:
    """Channels of a layer weighted by the mean of their gradients: (depth, height, width) of the layer."""
    maps, gradients = _probe(network, layer, image, score)
    weights = gradients.mean(dim=_places(maps), keepdim=True)
    return _positive((weights * maps).sum(dim=1)[0])


def grad_cam_pp(network: nn.Module, layer: nn.Module, image: Tensor, score: Score) -> Tensor:
    """As Grad-CAM, but each place weighs by its own share, so that several small objects all show."""
    maps, gradients = _probe(network, layer, image, score)
    places = _places(maps)
    square = gradients**2
    divisor = 2 * square + maps.sum(dim=places, keepdim=True) * square * gradients
    share = torch.where(divisor != 0, square / torch.where(divisor != 0, divisor, 1), torch.zeros_like(divisor))
    weights = (share * gradients.clamp(min=0)).sum(dim=places, keepdim=True)
    return _positive((weights * maps).sum(dim=1)[0])


def score_cam(network: nn.Module, layer: nn.Module, image: Tensor, score: Score, most: int = 32) -> Tensor:
    """Channels weighted by what the network says when it sees the image through them; no gradients.

    Only the ``most`` channels that vary most are tried: each costs a forward pass.
    """
    with torch.no_grad():
        maps, _ = _watched(network, layer, image)
        places = _places(maps)
        low, high = maps.amin(dim=places, keepdim=True), maps.amax(dim=places, keepdim=True)
        seen = ((maps - low) / (high - low).clamp(min=1e-12)).detach()
        tried = (high - low).flatten().argsort(descending=True, stable=True)[:most]
        bare = score(network(torch.zeros_like(image)))
        gains = []
        for channel in tried:
            window = interpolate(seen[:, channel : channel + 1], image.shape[2:], mode=_AXES[image.ndim])
            gains.append(score(network(image * window)) - bare)
        weights = torch.stack(gains).softmax(dim=0).reshape(-1, *(1 for _ in places))
        return _positive((weights * maps[0, tried]).sum(dim=0))


def integrated_gradients(
    network: nn.Module, image: Tensor, score: Score, baseline: Tensor | None = None, steps: int = 16
) -> Tensor:
    """What each voxel adds on the way from a baseline (zeros) to the image, with its sign; not scaled.

    Shape of the image without its batch. The parts sum to the difference of the scores, the better the more steps
    (midpoint rule).
    """
    start = torch.zeros_like(image) if baseline is None else baseline
    total = torch.zeros_like(image)
    for step in range(steps):
        with torch.enable_grad():
            between = (start + (image - start) * ((step + 0.5) / steps)).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(score(network(between)), between)
        total += gradient
    return ((image - start) * total / steps)[0].detach()


def attention_rollout(attentions: Sequence[Tensor]) -> Tensor:
    """How much each token reached each other one through all layers of a transformer: (tokens, tokens), rows sum to 1.

    ``attentions``: one (heads, tokens, tokens) a layer, first layer first. Half of each layer is its residual.
    """
    tokens = attentions[0].shape[-1]
    flow = torch.eye(tokens, dtype=attentions[0].dtype)
    for layer in attentions:
        mixed = 0.5 * layer.mean(dim=0) + 0.5 * torch.eye(tokens, dtype=layer.dtype)
        flow = (mixed / mixed.sum(dim=-1, keepdim=True)) @ flow
    return flow


def enlarged(found: Tensor, shape: Sequence[int]) -> Tensor:
    """A map of a layer on the grid that the network saw, by linear interpolation between cell centres."""
    wide = interpolate(found[None, None], tuple(shape), mode=_AXES[found.ndim + 2], align_corners=False)
    return _positive(wide[0, 0])


def _probe(network: nn.Module, layer: nn.Module, image: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """Activations of a layer, and the gradient of the score by them."""
    with torch.enable_grad():
        maps, out = _watched(network, layer, image.detach().clone().requires_grad_())
        (gradients,) = torch.autograd.grad(score(out), maps)
    return maps.detach(), gradients.detach()


def _watched(network: nn.Module, layer: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    with _kept(layer) as seen:
        out = network(image)
    if not seen:
        raise ValueError("the layer is no part of the network's forward pass")
    return seen[-1], out


def watched(call: Callable[[Tensor], object], layers: Sequence[nn.Module], image: Tensor) -> list[Tensor]:
    """What some layers give out when a network sees an image; those that it does not use give nothing."""
    with ExitStack() as stack:
        seen = [stack.enter_context(_kept(layer)) for layer in layers]
        call(image)
    return [given[-1] for given in seen if given]


@contextmanager
def _kept(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What the layer gave out meanwhile."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def _places(maps: Tensor) -> tuple[int, ...]:
    return tuple(range(2, maps.ndim))


def _positive(found: Tensor) -> Tensor:
    """What speaks for the score, its largest value 1."""
    positive = found.clamp(min=0)
    largest = positive.max()
    return positive / largest if float(largest) > 0 else positive
