"""Runs TorchScript networks of a package: loads them once, on one device, and translates torch's errors."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch

from inference.networks.device import device_of, memory
from inference.packages.package import Package
from inference.runtime import Models
from storage.facts.errors import Misconfigured, Rejected

__all__ = ["Networks", "device_of", "networks"]

Tensor = torch.Tensor


class Networks:
    """The networks of one package on one device."""

    def __init__(self, package: Package, device: torch.device) -> None:
        self.device = device
        self._modules = {entry.name: _module(package, entry.name, device) for entry in package.manifest.weights}

    def run(self, name: str, image: Tensor) -> Tensor:
        """The output for one 3-D image (depth, height, width): (channels, depth, height, width), float32 on the CPU.

        Raises OutOfMemory when memory does not suffice, Rejected when some of it is no number: compared with a
        threshold that would be background.
        """
        with memory(f"network {name}"), torch.inference_mode():
            output: Tensor = self._modules[name](image[None, None].to(self.device))[0]
            found = output.float().cpu()
        if not torch.isfinite(found).all():
            raise Rejected("The network gave values that are no numbers; its result is withheld.")
        return found


def _module(package: Package, name: str, device: torch.device) -> Any:
    content = package.read_weights(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript: the format that these weights have
            return torch.jit.load(io.BytesIO(content), map_location=device).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise Misconfigured(f"{package.manifest.id}: weights {name} are no TorchScript network") from error


def networks(package: Package, device: torch.device, models: Models) -> Networks:
    """The networks of a package on a device, warm where the runtime keeps models."""
    return models.get((package.digest, str(device)), lambda: Networks(package, device))
