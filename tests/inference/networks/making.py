"""Small packages with a network, and volumes whose answer is known."""

from __future__ import annotations

import hashlib
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

HEAD = """
id = "small-network"
version = "1.0.0"
title = "Small network"
manufacturer = "Tests"
intended_use = "None"
licence = "None"
algorithm = "network"
{weights}
[accepts]
modality = ["MR", "CT"]
"""
WEIGHTS = """
[[weights]]
name = "{name}"
file = "{name}"
sha256 = "{digest}"
source = "the tests"
"""
SEGMENT = """
[[segments]]
number = {number}
label = "Part {number}"
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
type = {{ value = "12738006", scheme = "SCT", meaning = "Brain" }}
colour = [250, 0, {number}]
"""
MEASUREMENT = """
[[measurements]]
key = "{key}"
name = {{ value = "118565006", scheme = "SCT", meaning = "Volume" }}
unit = {{ value = "ml", scheme = "UCUM", meaning = "milliliter" }}
method = "counted"
plausible = [-1e6, 1e6]
plausible_source = "tests"
"""


def package(
    folder: Path,
    network: str,
    weights: Mapping[str, bytes],
    *,
    segments: int = 0,
    measurements: tuple[str, ...] = (),
    more: str = "",
) -> Package:
    """A package in a folder of its own, opened."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = ""
    for name, content in weights.items():
        (folder / name).write_bytes(content)
        entries += WEIGHTS.format(name=name, digest=hashlib.sha256(content).hexdigest())
    text = HEAD.format(weights=entries) + network
    text += "".join(SEGMENT.format(number=number) for number in range(1, segments + 1))
    text += "".join(MEASUREMENT.format(key=key) for key in measurements) + more
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return open_package(folder)


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
