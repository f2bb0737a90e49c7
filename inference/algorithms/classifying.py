"""Runs a declared network that classifies: one vector becomes the classes of a grade, or the chances of conditions.

Calibration, operating points and abstention are the manifest's and are applied to what is given here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from inference.algorithms.raw import Map, Raw
from inference.explain.saliency import GRAD_CAM, GRAD_CAM_PP, SCORE_CAM, enlarged, grad_cam, grad_cam_pp, score_cam
from inference.explain.uncertainty import energy
from inference.imaging.volume import Volume
from inference.networks.device import memory
from inference.networks.formats import Net
from inference.networks.forward import Opened, activated, answer_of, open_network, whole
from inference.packages.network import Classification, Saliency
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.prediction import Shown

Floats = npt.NDArray[np.float64]
_METHODS: Mapping[str, tuple[Callable[..., torch.Tensor], str]] = {
    "grad-cam": (grad_cam, GRAD_CAM),
    "grad-cam++": (grad_cam_pp, GRAD_CAM_PP),
    "score-cam": (score_cam, SCORE_CAM),
}
SHOWN_FROM = 0.5  #: raw probability of a condition from which it is worth a map
MOST_MAPS = 4  #: a reader turns no more pages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """One thing to be explained."""

    key: str
    element: int  #: of the network's vector


def classify(volume: Volume, package: Package, runtime: Runtime, output: Classification) -> Raw:
    """Probabilities by key, energies where the network's logits are averaged, and maps where the package asks for them.

    Raises Misconfigured when the network's elements are not those that are declared, or it has no dropout or layer
    where one is named; Rejected when it gives no numbers.
    """
    opened = open_network(volume, package, runtime)
    with _dropping(opened, output.passes):
        answer = answer_of(opened, runtime.checkpoint, output.passes)
    values = answer.double().cpu().numpy()
    if not np.isfinite(values).all():
        raise Rejected("The network gave values that are no numbers; its result is withheld.")
    chances = activated(opened.network, answer.double(), 0).cpu().numpy()
    _require_as_many(package, output, chances)
    energies = _energies(output, values) if opened.network.average == "logits" else {}
    maps: tuple[Map, ...] = ()
    if output.saliency is not None:
        runtime.checkpoint()
        maps = tuple(_explained(opened, output.saliency, said) for said in _worth_showing(output, chances))
    return Raw(
        classes={output.grade: tuple(map(float, chances))} if output.grade else {},
        chances={key: float(chance) for key, chance in zip(output.conditions, chances, strict=False) if key},
        energies=energies,
        maps=maps,
        device=str(opened.nets.device),
    )


def _require_as_many(package: Package, output: Classification, chances: Floats) -> None:
    grade = next((entry for entry in package.manifest.grades if entry.key == output.grade), None)
    declared = len(output.conditions) if grade is None else len(grade.classes)
    if len(chances) != declared:
        raise Misconfigured(
            f"{package.manifest.id}: the network says {len(chances)} things, but [network.output] declares {declared}"
        )


def _energies(output: Classification, logits: Floats) -> Mapping[str, float]:
    """Of the vector for a grade and for conditions that exclude each other; else each with its opposite, of logit 0."""
    if output.grade:
        return {output.grade: float(energy(logits))} if output.activation == "softmax" else {}
    if output.activation == "softmax":
        return {key: float(energy(logits)) for key in output.conditions if key}
    return {key: float(energy([0.0, logit])) for key, logit in zip(output.conditions, logits, strict=True) if key}


@contextmanager
def _dropping(opened: Opened, passes: int) -> Iterator[None]:
    """Dropout at work, with draws that are the same in every run; nothing where there is one pass alone."""
    if passes == 1:
        yield
        return
    layers = [m for net in opened.nets.members for m in (net.module.modules() if net.module else ()) if _drops(m)]
    if not layers:
        raise Misconfigured("passes needs dropout: a network from a state dict that has such layers")
    devices = [opened.nets.device] if opened.nets.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()


def _drops(module: nn.Module) -> bool:
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    return isinstance(module, kinds) and module.p > 0


def _worth_showing(output: Classification, chances: Floats) -> list[_Said]:
    """The class of a grade that is most probable; of conditions the probable ones, most probable first."""
    if output.grade:
        best = int(np.argmax(chances))
        return [_Said(key=output.grade, element=best)]
    asked = [_Said(key=key, element=n) for n, key in enumerate(output.conditions) if key and chances[n] >= SHOWN_FROM]
    return sorted(asked, key=lambda said: -chances[said.element])[:MOST_MAPS]


def _explained(opened: Opened, saliency: Saliency, said: _Said) -> Map:
    """What moved one element of the first model's answer, on the grid of the series."""
    net = opened.nets.members[0]
    layer = _layer(net, saliency.layer)
    method, citation = _METHODS[saliency.method]
    cumulative = getattr(opened.network.output, "activation", "") == "cumulative"

    def score(answer: torch.Tensor) -> torch.Tensor:
        elements = net.pick(answer)[0]
        return elements[: said.element].sum() - elements[said.element :].sum() if cumulative else elements[said.element]

    with memory("the map of what moved the answer"):
        image = whole(opened)
        found = enlarged(method(net.module, layer, image, score), image.shape[2:]).cpu().numpy()
    grid = found if found.ndim == 3 else found[None]
    back = opened.way.back(grid[None])[0]
    return Map(
        shown=Shown.SALIENCY,
        label=f"Saliency for {said.key}"[:64],
        method=citation,
        voxels=back.clip(0.0, 1.0),
        explains=said.key,
    )


def _layer(net: Net, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(net.module.named_modules()) if net.module is not None else {}
    if not name or name not in modules or isinstance(net.module, torch.jit.ScriptModule):
        known = ", ".join([key for key in modules if key][-5:]) or "none"
        raise Misconfigured(f"saliency needs a state dict whose network has a layer {name!r} (its last ones: {known})")
    return modules[name]
