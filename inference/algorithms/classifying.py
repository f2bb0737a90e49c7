"""Runs a declared network that classifies: one vector becomes the classes of a grade, or the chances of conditions.

Calibration, operating points and abstention are the manifest's and are applied to what is given here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from inference.algorithms.explaining import explained
from inference.algorithms.raw import Map, Raw
from inference.explain.uncertainty import ENSEMBLE, MONTE_CARLO, energy, spread
from inference.imaging.volume import Volume
from inference.networks.forward import Opened, activated, answer_of, open_network
from inference.packages.network import Classification
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected

Floats = npt.NDArray[np.float64]
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
        answers = [answer_of(one, runtime.checkpoint) for one in _members(opened) for _ in range(output.passes)]
    answer = torch.stack(answers).mean(dim=0)
    values = answer.double().cpu().numpy()
    if not np.isfinite(values).all():
        raise Rejected("The network gave values that are no numbers; its result is withheld.")
    chances = activated(opened.network, answer.double(), 0).cpu().numpy()
    _require_as_many(package, output, chances)
    energies = _energies(output, values) if opened.network.average == "logits" else {}
    maps: tuple[Map, ...] = ()
    if output.saliency is not None:
        runtime.checkpoint()
        maps = tuple(
            explained(opened, output.saliency, said.key, said.element) for said in _worth_showing(output, chances)
        )
    return Raw(
        classes={output.grade: tuple(map(float, chances))} if output.grade else {},
        chances={key: float(chance) for key, chance in zip(output.conditions, chances, strict=False) if key},
        energies=energies,
        maps=maps,
        warnings=tuple(_disagreements(opened, output, answers)),
        device=str(opened.nets.device),
    )


def _members(opened: Opened) -> Iterator[Opened]:
    """Each model of the ensemble by itself."""
    for net in opened.nets.members:
        yield replace(opened, nets=replace(opened.nets, members=(net,)))


def _disagreements(opened: Opened, output: Classification, answers: Sequence[torch.Tensor]) -> Iterator[str]:
    """What the reader should know of answers that are means of unlike ones."""
    if output.disagreement is None or len(answers) < 2:
        return
    said = np.stack([activated(opened.network, one.double(), 0).cpu().numpy() for one in answers])
    citation = ENSEMBLE if output.passes == 1 else MONTE_CARLO
    if output.activation == "sigmoid":
        samples = {
            key: np.stack([1 - said[:, n], said[:, n]], axis=-1) for n, key in enumerate(output.conditions) if key
        }
    else:
        samples = {output.grade or "these conditions": said}
    for key, each in samples.items():
        doubt = float(spread(each).disagreement)
        if doubt > output.disagreement:
            yield (
                f"The {len(answers)} answers for {key} disagree by {doubt:.2f} of 1 (a warning is given from "
                f"{output.disagreement:g}; {citation}): their mean says less than its number."
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
