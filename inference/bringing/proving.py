"""Tries a package out before it is used: its algorithm, networks, self-test, and faster ways of computing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.algorithms.registry import find
from inference.config import WorkerConfig
from inference.packages.earlier import KEPT
from inference.packages.package import Package, open_package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured


def proof_of(folder: Path, config: WorkerConfig) -> Mapping[str, Any]:
    """What came of it on the worker's device, as plain data; ``passed`` is false, with ``faults``, where it fails.

    A package without a self-test passes when its algorithm is there and its weights become networks: more cannot be
    said of it, and ``notes`` says so.
    """
    package = open_package(folder, config.models, config.data / KEPT)
    find(package.manifest.algorithm)
    from inference.algorithms.proof import prove  # what does not run should be told without loading torch

    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    proof = prove(package, Runtime(device=config.device)).to_data()
    if proof["tested"]:
        return proof
    faults = [*proof["faults"], *_unloadable(package, config.device)]
    return {**proof, "passed": not faults, "faults": faults}


def _unloadable(package: Package, device: str) -> list[str]:
    if package.manifest.network is None:
        return []
    from inference.networks.device import device_of
    from inference.networks.forward import load_nets

    try:
        load_nets(package, device_of(device))
    except Misconfigured as error:
        return [str(error)]
    return []
