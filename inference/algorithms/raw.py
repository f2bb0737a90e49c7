"""What an algorithm is given and gives back, before the manifest says what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from inference.imaging.volume import Volume
from inference.packages.package import Package
from storage.facts.prediction import Reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raw:
    """The bare outcome of one run."""

    mask: npt.NDArray[np.uint8] | None = None  #: segment numbers on the volume's grid; None where none was made
    values: dict[str, float] = field(default_factory=dict)  #: by measurement key, in the unit of the manifest
    refusal: Reason | None = None  #: set when the content of the images does not allow a result
    warnings: tuple[str, ...] = ()  #: for the reader
    device: str = "cpu"  #: where it ran


class Algorithm(Protocol):
    """A function from a volume to a raw outcome."""

    def __call__(self, volume: Volume, package: Package, *, device: str = "auto") -> Raw:
        """Run on a device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ….

        Raises Transient when it may succeed later (no memory), Misconfigured when its package is wrong.
        """
        ...
