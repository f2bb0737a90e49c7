"""Runs a declared network that makes better images of a series: denoised, sharper, with fewer artefacts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference.algorithms.raw import Image, Raw
from inference.imaging.volume import Volume
from inference.networks.forward import Maps, maps_of, open_network
from inference.packages.network import Enhancing
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected


def enhance(volume: Volume, package: Package, runtime: Runtime, output: Enhancing) -> Raw:
    """One series of images on the grid of the series and in its unit; what the network did not see stays as it is.

    Raises Misconfigured when the network has no such channel or its values cannot be brought back, Rejected when it
    gives no numbers.
    """
    opened = open_network(volume, package, runtime)
    values = maps_of(opened, runtime.checkpoint)
    if len(values) <= output.channel:
        raise Misconfigured(
            f"{package.manifest.id}: the network gives {len(values)} channels: channel {output.channel} is not there"
        )
    if not np.isfinite(values[output.channel]).all():
        raise Rejected("The network gave values that are no numbers; its result is withheld.")
    scaling = opened.scaling
    if scaling.factor == 0:
        raise Rejected("The images have no contrast: what a network makes of them has no meaning.")
    offset = 0.0 if output.residual else scaling.offset
    found = Maps(
        values=(values[output.channel][None] - np.float32(offset)) / np.float32(scaling.factor), way=opened.way
    )
    return Raw(
        images=(Image(key=output.image, voxels=_laid(volume, found, residual=output.residual)),),
        device=str(opened.nets.device),
    )


def _laid(volume: Volume, found: Maps, *, residual: bool) -> npt.NDArray[np.float32]:
    """The series with what was found in the place of its own values, or taken off from them."""
    shown = np.ascontiguousarray(volume.voxels, np.float32).copy()
    box = tuple(slice(axis.first, axis.stop) for axis in found.way.axes)
    turned = found.way.orientation.apply(shown)[box]  # a view: what is written there stands in the series
    seen = found.way.orientation.apply(found.on_source()[0])[box]
    np.copyto(turned, turned - seen if residual else seen)
    return shown
