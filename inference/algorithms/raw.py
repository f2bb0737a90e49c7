"""What an algorithm is: given a volume, its package and a runtime, it gives back a bare outcome."""

from __future__ import annotations

from typing import Protocol

from inference.imaging.volume import Volume
from inference.packages.package import Package
from inference.packages.raw import Box, Image, Map, Raw
from inference.runtime import Runtime

__all__ = ["Algorithm", "Box", "Image", "Map", "Raw"]


class Algorithm(Protocol):
    """A function from a volume to a raw outcome."""

    def __call__(self, volume: Volume, package: Package, runtime: Runtime) -> Raw:
        """Run with what the runtime gives; call its checkpoint between patches.

        Raises Transient when it may succeed later (no memory), Misconfigured when its package is wrong.
        """
        ...
