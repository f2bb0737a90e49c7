"""What an algorithm gives back, before the manifest says what it means.

Probabilities are the network's own: the calibration that the manifest declares is applied to them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.facts.prediction import Reason, Shown

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  #: of 16 bits for more than 255 segments


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One detection; a point where both corners are equal."""

    key: str  #: of the manifest's detection entry
    low: tuple[float, float, float]  #: frame, row, column index; whole numbers are centres of voxels
    high: tuple[float, float, float]
    score: float  #: probability that it is one, 0..1
    values: Mapping[str, float] = field(default_factory=dict)  #: by measurement key
    classes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  #: probabilities by grade key
    energies: Mapping[str, float] = field(default_factory=dict)  #: by grade key, where the manifest abstains by energy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Map:
    """Real values 0..1 on the volume's grid."""

    shown: Shown
    label: str  #: 64 characters at most
    method: str  #: with its citation
    voxels: npt.NDArray[np.float32]
    explains: str = ""  #: key of the condition, grade or detection that it explains


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """New images on the volume's grid, in the unit of its voxels."""

    key: str  #: of the manifest's image entry
    voxels: npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raw:
    """The bare outcome of one run."""

    mask: Labels | None = None  #: segment numbers on the volume's grid; None where none was made
    over: tuple[
        Labels, ...
    ] = ()  #: further maps where segments overlap, each as the first; a segment is in one of them
    values: Mapping[str, float] = field(default_factory=dict)  #: by measurement key, in the unit of the manifest
    classes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  #: probabilities by grade key
    chances: Mapping[str, float] = field(default_factory=dict)  #: probability by condition key (binary, multi-label)
    energies: Mapping[str, float] = field(default_factory=dict)  #: by condition or grade key, where asked for
    boxes: tuple[Box, ...] = ()
    maps: tuple[Map, ...] = ()
    images: tuple[Image, ...] = ()
    refusal: Reason | None = None  #: set when the content of the images does not allow a result
    warnings: tuple[str, ...] = ()  #: for the reader
    device: str = "cpu"  #: where it ran

    @property
    def maps_of_segments(self) -> tuple[Labels, ...]:
        """The mask and what lies over it."""
        return () if self.mask is None else (self.mask, *self.over)
