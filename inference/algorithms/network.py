"""Runs the network that a package declares: segmentation, classification, detection, regression, enhancement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference.algorithms.classifying import classify
from inference.algorithms.detecting import detect
from inference.algorithms.enhancing import enhance
from inference.algorithms.raw import Raw
from inference.imaging.volume import Volume
from inference.networks.forward import open_network, vector
from inference.networks.segment import segment
from inference.packages.counting import Counts, in_all
from inference.packages.network import Classification, Detecting, Enhancing, Measure, Regression, Segmentation
from inference.packages.package import Package
from inference.packages.raw import Labels
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected


def run(volume: Volume, package: Package, runtime: Runtime) -> Raw:
    """What ``[network]`` declares. Raises Misconfigured, Transient and Rejected as its parts do (see networks)."""
    network = package.manifest.network
    match network.output if network else None:
        case Segmentation() as output:
            return _segmentation(volume, package, runtime, output)
        case Regression() as output:
            return _regression(volume, package, runtime, output)
        case Classification() as output:
            return classify(volume, package, runtime, output)
        case Detecting() as output:
            return detect(volume, package, runtime, output)
        case Enhancing() as output:
            return enhance(volume, package, runtime, output)
        case _:
            raise Misconfigured(
                f"{package.manifest.id}: algorithm network runs a [network] whose output is a segmentation, "
                "classification, detection, regression or enhancement"
            )


def _segmentation(volume: Volume, package: Package, runtime: Runtime, output: Segmentation) -> Raw:
    opened = open_network(volume, package, runtime)
    mask, *over = segment(opened, output, runtime.checkpoint, volume.voxel_ml)
    maps = (mask, *over)
    counted = any(measure.quantity in ("volume", "area") for measure in output.measures)
    counts = in_all(maps) if counted else None
    values = {measure.key: _measured(volume, maps, counts, measure) for measure in output.measures}
    return Raw(
        mask=mask,
        over=tuple(over),
        values={key: value for key, value in values.items() if value is not None},
        device=str(opened.nets.device),
    )


def _measured(volume: Volume, maps: Sequence[Labels], counts: Counts | None, measure: Measure) -> float | None:
    """mL, mm2 or a statistic in the unit of the voxels; None where nothing was marked to take one of."""
    if measure.quantity in ("volume", "area"):
        if volume.projection != (measure.quantity == "area"):
            raise Misconfigured(f"measure {measure.key}: a radiograph has an area and no volume, other series a volume")
        assert counts is not None
        count = _count(maps, counts, measure.segments)
        return count * (volume.spacing[1] * volume.spacing[2] if volume.projection else volume.voxel_ml)
    values = volume.voxels[_union(maps, measure.segments)]
    if not values.size:
        return None
    if measure.quantity == "mean":
        return float(values.mean(dtype=np.float64))
    return float(values.max() if measure.quantity == "maximum" else values.min())


def _count(maps: Sequence[Labels], counts: Counts, segments: Sequence[int]) -> int:
    """Voxels of the union of some segments; ``counts`` of each by itself."""
    if len(maps) == 1 or len(segments) == 1:
        return int(counts[[number for number in {*segments} if number < len(counts)]].sum())
    return int(np.count_nonzero(_union(maps, segments)))


def _union(maps: Sequence[Labels], segments: Sequence[int]) -> npt.NDArray[np.bool_]:
    found = np.isin(maps[0], segments)
    for one in maps[1:]:
        found |= np.isin(one, segments)
    return found


def _regression(volume: Volume, package: Package, runtime: Runtime, output: Regression) -> Raw:
    answer = vector(volume, package, runtime)
    if len(answer) != len(output.keys):
        raise Misconfigured(
            f"{package.manifest.id}: the network gives {len(answer)} numbers, but keys of [network.output] names "
            f"{len(output.keys)}"
        )
    if not np.isfinite(answer).all():
        raise Rejected("The network gave values that are no numbers; its result is withheld.")
    count = len(output.keys)
    scale, offset = output.scale or (1.0,) * count, output.offset or (0.0,) * count
    numbers = {
        key: float(value) * factor + shift
        for key, value, factor, shift in zip(output.keys, answer, scale, offset, strict=True)
    }
    return Raw(values=numbers)
