"""Runs a declared network that detects: connected parts of its maps become boxes on the grid of the series."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.algorithms.raw import Box, Raw
from inference.imaging.volume import Volume
from inference.networks.forward import Maps, maps
from inference.packages.network import Detecting
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected

Place = tuple[float, float, float]
MOST = 1000  #: candidates of a kind; more is a network that marks noise


def detect(volume: Volume, package: Package, runtime: Runtime, output: Detecting) -> Raw:
    """Boxes with the greatest probability in each; planes are looked at one by one where the network sees planes.

    Raises Misconfigured when the network has other channels than are declared, Rejected when it gives no numbers.
    """
    found = maps(volume, package, runtime)
    if len(found.values) != len(output.keys):
        raise Misconfigured(
            f"{package.manifest.id}: the network gives {len(found.values)} maps, but keys of [network.output] names "
            f"{len(output.keys)}"
        )
    if not np.isfinite(found.values).all():
        raise Rejected("The network gave values that are no numbers; its result is withheld.")
    network = package.manifest.network
    planes = network is not None and network.windows.dimensions == 2
    boxes: list[Box] = []
    for key, chances in zip(output.keys, found.values, strict=True):
        if key:
            runtime.checkpoint()
            boxes.extend(_boxes(key, chances, found, volume, output, planes=planes))
    return Raw(boxes=tuple(boxes), device=found.device)


def _boxes(
    key: str, chances: npt.NDArray[np.float32], found: Maps, volume: Volume, output: Detecting, *, planes: bool
) -> Iterator[Box]:
    """The candidates of one kind, most probable first."""
    touching = np.ones((3, 3, 3), bool)
    if planes:
        touching[[0, 2]] = False
    labels, count = ndimage.label(chances >= output.at_least, touching)
    if not count:
        return
    parts = ndimage.find_objects(labels)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    scores = ndimage.maximum(chances, labels, np.arange(1, count + 1))
    for number in np.argsort(-scores, kind="stable")[:MOST]:
        if sizes[number] < output.smallest:
            continue
        low, high = _corners(parts[number], found, volume.voxels.shape, planes=planes)
        box = Box(key=key, low=low, high=high, score=float(scores[number]), values={})
        yield box if output.extent is None else _measured(box, volume, output.extent)


def _corners(
    part: tuple[slice, slice, slice], found: Maps, shape: tuple[int, ...], *, planes: bool
) -> tuple[Place, Place]:
    """Outer edges of a part, from the network's grid to the grid of the series; a plane keeps its own number."""
    rim = 0.0 if planes else 0.5
    first, last = (
        found.way.point((part[0].start - rim, part[1].start - 0.5, part[2].start - 0.5)),
        found.way.point((part[0].stop - 1 + rim, part[1].stop - 0.5, part[2].stop - 0.5)),
    )
    low, high = np.minimum(first, last), np.maximum(first, last)
    largest = np.array(shape) - 0.5
    low, high = np.clip(low, -0.5, largest), np.clip(high, -0.5, largest)
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def _measured(box: Box, volume: Volume, key: str) -> Box:
    edges = [(high - low) * step for low, high, step in zip(box.low, box.high, volume.spacing, strict=True)]
    return Box(key=box.key, low=box.low, high=box.high, score=box.score, values={key: float(max(edges))})
