"""The ``[selftest]`` table of ``model.toml``: one case whose answer is known, to prove a package on each machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from storage.settings import Settings

Place = tuple[float, float, float]


class Sighting(Settings):
    """One thing that is to be reported. A place alone, ``[x, y, z]``, stands for one with nothing else expected."""

    at: Place
    """Its middle in patient coordinates (LPS), mm."""
    probability: float | None = Field(default=None, ge=0, le=1)
    """Its calibrated probability."""
    values: dict[str, float] = {}
    """Its measurements, by key."""
    grades: dict[str, str] = {}
    """Code value of its class, by key of ``[[grades]]``; empty where none is to be given."""

    @model_validator(mode="before")
    @classmethod
    def _place_alone(cls, given: Any) -> Any:
        return {"at": given} if isinstance(given, (list, tuple)) else given


class SelfTest(Settings):
    """Input and expected answer, at least one part of it. A mask is compared on the grid of the input."""

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*\.(npz|zip)$")
    """Below the package's folder. ``.npz``: arrays ``voxels`` (frame, row, column), ``affine`` (4 x 4, indices to
    patient coordinates, LPS, mm) and, where they are expected, ``mask`` (of overlapping segments several, maps first)
    and ``image_KEY`` for the new images of that key. ``.zip``: DICOM objects of one series, and ``mask.npz`` with the
    array ``mask`` where one is expected."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    values: dict[str, float] = {}
    """Measurements that are expected, by key."""
    tolerance: float = Field(default=0.01, ge=0, lt=1)
    """Allowed difference of a measurement, as a part of it; of new images on average, as a part of what they vary by
    (their standard deviation)."""
    chances: dict[str, float] = {}
    """Calibrated probabilities that are expected, by key of ``[[conditions]]``."""
    within: float = Field(default=0.02, gt=0, lt=1)
    """Allowed difference of a probability."""
    grades: dict[str, str] = {}
    """Code value of the class that is expected, by key of ``[[grades]]`` of the series."""
    detections: dict[str, tuple[Sighting, ...]] = {}
    """All that is to be reported, by key of ``[[detections]]``."""
    reach: float = Field(default=5.0, gt=0)
    """Allowed distance of a middle from where it is expected, mm."""
    agreement: float = Field(default=0.99, gt=0, le=1)
    """Least Dice coefficient of each segment of the expected mask."""

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        if ".." in Path(self.file).parts:
            raise ValueError(f"file {self.file} leaves the package's folder")
        return self
