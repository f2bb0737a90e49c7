"""Small packages with a network, and volumes whose answer is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter
from pydicom.dataset import Dataset

from inference.imaging.volume import Volume
from inference.networks.formats import Net
from inference.networks.forward import Nets, Opened
from inference.networks.prepare import prepare, to_size
from inference.packages.network import Network
from inference.packages.package import Package, open_package
from storage.facts.prediction import Frame
from tests.inference import manifests
from tests.inference.manifests import accepts, head, measurement, packed

_BRAIN = '{ value = "12738006", scheme = "SCT", meaning = "Brain" }'


#: Steps and windows of a network that sees volumes at 1.5 mm.
RESAMPLED = """
[[network.prepare]]
do = "orient"
to = "RAS"
[[network.prepare]]
do = "resample"
spacing = [1.5, 1.5, 1.5]
[network.windows]
size = [8, 8, 8]
"""


class Same(torch.nn.Module):
    """For networks whose ``layer``, a convolution, gives what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 1, 1, bias=False)
        self.layer.weight.data.fill_(1.0)


def package(
    folder: Path,
    network: str,
    weights: Mapping[str, bytes],
    *,
    segments: int = 0,
    measurements: tuple[str, ...] = (),
    modalities: tuple[str, ...] = ("MR", "CT"),
    more: str = "",
) -> Package:
    """A package in a folder of its own, opened."""
    text = head("small-network", title="Small network", algorithm="network")
    text += "".join(manifests.weights(name, name, content) for name, content in weights.items())
    text += accepts(*modalities) + network
    text += "".join(segment(number) for number in range(1, segments + 1))
    text += "".join(measurement(key) for key in measurements) + more
    return open_package(packed(folder, text, weights))


def segment(number: int) -> str:
    """An entry for one part of the brain."""
    return manifests.segment(number, f"Part {number}", kind=_BRAIN)


def network_of(**table: Any) -> Network:
    """A ``[network]`` table, a bare one with one model unless said otherwise."""
    model = {"weights": "net", "format": "torchscript"}
    return TypeAdapter(Network).validate_python({"models": (model,), "output": {"kind": "bare"}, **table})


def volume_of(
    voxels: npt.NDArray[Any],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    rotation: npt.NDArray[np.float64] | None = None,
    **others: npt.NDArray[np.float32],
) -> Volume:
    """A volume; by default as a standard axial series lies: frames upwards, rows to the back, columns to the left."""
    affine = np.eye(4)
    axial = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    affine[:3, :3] = (axial if rotation is None else rotation) * spacing
    affine[:3, 3] = [-20.0, 30.0, 7.0]
    frames = tuple(Frame(sop_instance_uid=f"1.2.{n}", sop_class_uid="1.2") for n in range(voxels.shape[0]))
    return Volume(voxels=voxels, affine=affine, frames=frames, header=Dataset(), others=others)


def opened(volume: Volume, network: Network, *modules: torch.nn.Module) -> Opened:
    """A network of the test's own, ready for a volume."""
    cpu = torch.device("cpu")
    nets = Nets(members=tuple(Net(call=m, module=m, device=cpu) for m in modules), device=cpu)
    prepared = prepare(volume, network, cpu)
    size = network.windows.size or prepared.image.shape[4 - network.windows.dimensions :]
    least = (1,) * (3 - len(size)) + tuple(size)
    grown = [max(a, b) for a, b in zip(prepared.image.shape[1:], least, strict=True)]
    image, way = to_size(prepared.image, prepared.way, (grown[0], grown[1], grown[2]), network.windows.fill)
    return Opened(network=network, nets=nets, image=image, way=way)


def nothing() -> None:
    """A checkpoint that lets everything go on."""
