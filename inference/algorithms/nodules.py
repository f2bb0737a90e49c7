"""Finds, measures and grades nodules in a CT volume, and says how sure it is and why: the package phantom-nodule.

One pass of the network gives feature maps; several passes of its last layers with dropout (Monte Carlo dropout) give
the spread of its answers. Candidates are local maxima; of those that overlap the best stays.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import max_pool3d

from inference.algorithms.boxes import Boxes, suppress
from inference.algorithms.networks import device_of
from inference.algorithms.nodule_grid import Point, Seen, see
from inference.algorithms.nodule_network import RADIUS_MM, STEP_MM, STRIDE, NoduleNetwork
from inference.algorithms.raw import Box, Map, Raw
from inference.explain.saliency import GRAD_CAM, grad_cam
from inference.explain.uncertainty import MONTE_CARLO
from inference.imaging.volume import Volume
from inference.monitor.calibration import binary_entropy
from inference.packages.located import reported
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Transient
from storage.facts.prediction import Shown

NODULE, GRADE, DIAMETER, WEIGHTS = "nodule", "malignancy", "diameter", "network"  #: keys in the manifest

PASSES = 8  #: with dropout
SEED = 20260105  #: of the dropout, so that the same study gets the same answer twice
LEAST = 0.05  #: probability of a candidate
MOST = 40  #: candidates
SHARED = 0.1  #: two boxes that overlap by more mark one nodule

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What the network holds for a nodule."""

    cell: tuple[int, int, int]  #: of the maximum
    middle: Point  #: in cells, between their centres
    radius: float  #: mm
    score: float  #: mean probability over all passes
    grades: tuple[float, ...]  #: mean probabilities over all passes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passes:
    """What the network says of an image, on its cells."""

    features: Tensor  #: (1, channels, depth, height, width)
    samples: Tensor  #: (passes, depth, height, width) probability of a nodule
    radius: Tensor  #: (depth, height, width) mm
    grades: Tensor  #: (grades, depth, height, width) mean probabilities


def find_nodules(volume: Volume, package: Package, runtime: Runtime) -> Raw:
    """Boxes with diameters and grades, a map of where the model is unsure, and one of why, if it reports anything."""
    device = device_of(runtime.device)
    network = runtime.models.get((package.digest, str(device)), lambda: load(package.read_weights(WEIGHTS), device))
    seen = see(volume)
    try:
        said = answer(network, seen.image.to(device), runtime.checkpoint)
    except torch.OutOfMemoryError as error:
        raise Transient(f"{package.manifest.id}: the GPU has no memory left for the volume") from error
    found = candidates(said)
    boxes = tuple(_box(seen, one) for one in found)
    maps = [_uncertain(seen, said)]
    runtime.checkpoint()
    shown = _reported(package, found, boxes)
    if shown:
        maps.insert(0, _why(network, seen, said, shown))
    return Raw(boxes=boxes, maps=tuple(maps), device=str(device))


def load(content: bytes, device: torch.device) -> NoduleNetwork:
    """The network with the weights of a state dict (tensors alone: nothing in it is executed)."""
    network = NoduleNetwork()
    try:
        network.load_state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise Misconfigured("the weights of the nodule network do not fit it: train the package again") from error
    return network.eval().to(device)


def answer(network: NoduleNetwork, image: Tensor, checkpoint: Callable[[], None] = lambda: None) -> Passes:
    """Feature maps once, then the last layers with different channels left out."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        features = network.features(image)
        checkpoint()
        network.dropout.generator = generator
        try:
            outs = torch.cat([network.answer(features) for _ in range(PASSES)])
        finally:
            network.dropout.generator = None
    checkpoint()
    return Passes(
        features=features,
        samples=outs[:, 0].sigmoid(),
        radius=RADIUS_MM * outs[:, 1].mean(dim=0).clamp(-2.0, 2.0).exp(),
        grades=outs[:, 2:].softmax(dim=1).mean(dim=0),
    )


def candidates(said: Passes) -> tuple[Candidate, ...]:
    """Local maxima of the mean probability, the best first; of those that overlap, the best."""
    heat = said.samples.mean(dim=0)
    peaks = (max_pool3d(heat[None, None], 3, 1, 1)[0, 0] == heat) & (heat >= LEAST)
    cells = peaks.nonzero()
    order = heat[tuple(cells.T)].argsort(descending=True, stable=True)[:MOST]
    found = [_candidate(said, heat, tuple(map(int, cell))) for cell in cells[order].tolist()]
    if not found:
        return ()
    middles = np.array([one.middle for one in found])
    halves = np.array([[one.radius / (STRIDE * STEP_MM)] for one in found])
    scores = np.array([one.score for one in found])
    kept = suppress(Boxes(low=middles - halves, high=middles + halves, scores=scores), SHARED)
    return tuple(found[number] for number in kept)


def _candidate(said: Passes, heat: Tensor, cell: tuple[int, ...]) -> Candidate:
    """The middle is the centre of mass of the probability around the maximum."""
    around = [slice(max(0, at - 1), at + 2) for at in cell]
    weights = heat[around[0], around[1], around[2]].double()
    middle = []
    for axis, place in enumerate(around):
        others = tuple(a for a in range(3) if a != axis)
        along = weights.sum(dim=others)
        positions = torch.arange(place.start, place.start + len(along), dtype=torch.float64, device=along.device)
        middle.append(float((along * positions).sum() / along.sum()))
    depth, height, width = cell
    return Candidate(
        cell=(depth, height, width),
        middle=(middle[0], middle[1], middle[2]),
        radius=float(said.radius[depth, height, width]),
        score=float(heat[depth, height, width]),
        grades=tuple(said.grades[:, depth, height, width].tolist()),
    )


def _box(seen: Seen, one: Candidate) -> Box:
    low, high = seen.box(seen.place(one.middle), one.radius)
    return Box(
        key=NODULE,
        low=low,
        high=high,
        score=one.score,
        values={DIAMETER: 2.0 * one.radius},
        classes={GRADE: one.grades},
    )


def _reported(package: Package, found: tuple[Candidate, ...], boxes: tuple[Box, ...]) -> list[Candidate]:
    entry = next((entry for entry in package.manifest.detections if entry.key == NODULE), None)
    if entry is None:
        raise Misconfigured(f"{package.manifest.id}: its algorithm finds detections with the key {NODULE}: add them")
    shown = [box for box, _ in reported(entry, boxes)]
    return [one for one, box in zip(found, boxes, strict=True) if box in shown]


def _uncertain(seen: Seen, said: Passes) -> Map:
    doubt = torch.from_numpy(binary_entropy(said.samples.mean(dim=0).cpu().numpy()))
    return Map(
        shown=Shown.UNCERTAINTY,
        label="Uncertainty for nodule",
        method=f"Entropy of the mean of {PASSES} passes; {MONTE_CARLO}",
        voxels=seen.restore(doubt),
        explains=NODULE,
    )


def _why(network: NoduleNetwork, seen: Seen, said: Passes, shown: list[Candidate]) -> Map:
    """Grad-CAM at the last feature maps, of the summed logits of what is reported."""
    tail = _Tail(network)

    def score(out: Tensor) -> Tensor:
        return torch.stack([out[0, 0, one.cell[0], one.cell[1], one.cell[2]] for one in shown]).sum()

    found = grad_cam(tail, tail.seen, said.features, score)
    return Map(
        shown=Shown.SALIENCY,
        label="Saliency for nodule",
        method=GRAD_CAM,
        voxels=seen.restore(found).clip(0.0, 1.0),
        explains=NODULE,
    )


class _Tail(nn.Module):
    """The network from its last feature maps on."""

    def __init__(self, network: NoduleNetwork) -> None:
        super().__init__()
        self.seen, self.network = nn.Identity(), network

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.network.answer(self.seen(features))
        return out
