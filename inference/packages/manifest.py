"""``model.toml``: everything about a model that is not its code or its weights, validated before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from inference.packages.accepts import Accepts
from storage.facts.prediction import Code
from storage.settings import Settings, parse, read_toml

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]


class Coded(Settings):
    """A coded concept (PS3.3 Table 8.8-1)."""

    value: str = Field(min_length=1, max_length=16)
    scheme: str = Field(min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=64)

    def code(self) -> Code:
        """The concept in the shared vocabulary."""
        return Code(value=self.value, scheme=self.scheme, meaning=self.meaning)


class Weights(Settings):
    """One file of weights, pinned by its digest."""

    name: Key
    """What the algorithm calls it."""
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    """Path below the package's folder, or below the models folder."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source: str
    """Where an administrator gets it; shown when it is missing."""

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        if ".." in Path(self.file).parts:
            raise ValueError(f"file {self.file} leaves the models folder")
        return self


class SegmentEntry(Settings):
    """One class of the mask."""

    number: int = Field(ge=1, le=255)
    label: str = Field(min_length=1, max_length=64)
    category: Coded
    type: Coded
    colour: tuple[int, int, int]
    """Recommended display colour, sRGB 0..255."""


class MeasurementEntry(Settings):
    """One number that the algorithm gives."""

    key: Key
    """What the algorithm calls it."""
    name: Coded
    unit: Coded
    """UCUM."""
    digits: int = Field(default=1, ge=0, le=6)
    """Decimals that are meaningful."""
    method: str
    """Published method with its citation, for the report."""
    plausible: tuple[float, float]
    """Least and greatest value that can be true; outside of it the whole run fails."""
    plausible_source: str
    """Where that range comes from."""
    segment: int | None = None
    """Number of the segment that it was measured in. Default none: it holds for the series as a whole."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.plausible[0] < self.plausible[1]:
            raise ValueError("plausible must be [least, greatest]")
        return self


class FindingEntry(Settings):
    """A condition that is said to be present, absent or undetermined by one measurement."""

    condition: Coded
    measurement: Key
    present_from: float
    """At this value and above: present."""
    absent_below: float
    """Below this value: absent. What lies between is undetermined."""
    source: str
    """Where the two values come from, with citation, and whether they were validated for this use."""
    segment: int | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.absent_below > self.present_from:
            raise ValueError("absent_below must not be above present_from")
        return self


class UrgencyEntry(Settings):
    """A policy line: a measurement at or above a value makes the reading urgent."""

    measurement: Key
    at_least: float
    level: Literal["high", "stat"]
    reason: str


class Manifest(Settings):
    """A model package."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    """Change it whenever the file or the weights change: a registered version never changes its content."""
    title: str = Field(max_length=64)
    manufacturer: str = Field(max_length=64)
    intended_use: str
    research: bool = True
    """Not for primary diagnosis. Default true: say otherwise on purpose."""
    licence: str
    algorithm: str
    """Name in the registry of algorithms."""
    family: Coded = Coded(value="123110", scheme="DCM", meaning="Artificial Intelligence")
    """Kind of algorithm (CID 7162)."""
    deadline_seconds: float = Field(default=600.0, gt=0)
    """A run that takes longer is given up."""
    parameters: dict[str, str] = {}
    """What the report should state about how it was computed."""
    weights: tuple[Weights, ...] = ()
    accepts: Accepts
    segments: tuple[SegmentEntry, ...] = ()
    measurements: tuple[MeasurementEntry, ...] = ()
    findings: tuple[FindingEntry, ...] = ()
    urgency: tuple[UrgencyEntry, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        """Everything that is named elsewhere exists; numbers and keys are given once."""
        numbers = [segment.number for segment in self.segments]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError("segments must be numbered 1, 2, 3 … in order")
        keys = [entry.key for entry in self.measurements]
        for name, values in (("measurement keys", keys), ("weights", [w.name for w in self.weights])):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must differ")
        for key in (*(f.measurement for f in self.findings), *(u.measurement for u in self.urgency)):
            if key not in keys:
                raise ValueError(f"there is no measurement {key}; known: {', '.join(keys) or 'none'}")
        for segment in (*(m.segment for m in self.measurements), *(f.segment for f in self.findings)):
            if segment is not None and segment not in numbers:
                raise ValueError(f"there is no segment {segment}")
        return self


def load_manifest(path: Path) -> Manifest:
    """Read a ``model.toml``. Raises Misconfigured with every fault at once."""
    return parse(Manifest, read_toml(path), source=str(path))
