"""``model.toml``: everything about a model that is not its code or its weights, validated before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from inference.packages.accepts import Accepts
from inference.packages.coded import Coded, Key
from inference.packages.inputs import Inputs
from inference.packages.network import Network
from inference.packages.outputs import ConditionEntry, DetectionEntry, GradeEntry, ImageEntry, Metrics, Points
from inference.packages.selftest import SelfTest
from storage.settings import Settings, parse, read_toml


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

    number: int = Field(ge=1, le=65535)
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
    detection: Key | None = None
    """Key of the detections that it is measured of, each by itself. Default none."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.plausible[0] < self.plausible[1]:
            raise ValueError("plausible must be [least, greatest]")
        if self.segment is not None and self.detection is not None:
            raise ValueError("it is measured of a segment or of detections, not of both")
        return self


class FindingEntry(Points):
    """A condition that is said to be present, absent or undetermined by one measurement."""

    condition: Coded
    measurement: Key
    present_from: float
    """At this value and above: present."""
    absent_below: float
    """Below this value: absent. What lies between is undetermined."""
    source: str
    """Where the two values come from, with citation, and whether they were validated for this use."""
    metrics: Metrics | None = None
    """How well the two values tell who has the condition. Default none: it was not measured, which the card says."""
    segment: int | None = None


class UrgencyEntry(Settings):
    """A policy line: what makes the reading urgent. Exactly one of the four sources is named."""

    measurement: Key | None = None
    """A measurement; of detections, the greatest of those that are reported."""
    condition: Key | None = None
    """The probability of a condition that is said to be present."""
    detection: Key | None = None
    """The probability of a detection that is reported."""
    grade: Key | None = None
    """A grade that was given, of the series or of a detection that is reported."""
    at_least: float | None = None
    """Value or probability from which the line holds."""
    classes: tuple[str, ...] = ()
    """Code values of the classes for which the line holds; for a grade."""
    level: Literal["high", "stat"]
    reason: str

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = [key for key in (self.measurement, self.condition, self.detection, self.grade) if key is not None]
        if len(named) != 1:
            raise ValueError("name one of measurement, condition, detection, grade")
        if (self.grade is None) == (self.at_least is None) or (self.grade is not None) != bool(self.classes):
            raise ValueError("a grade takes classes, everything else at_least")
        return self


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
    network: Network | None = None
    """What the algorithm ``network`` runs."""
    selftest: SelfTest | None = None
    """A case whose answer is known; the package is used where it is reproduced."""
    accepts: Accepts
    inputs: Inputs = ()
    """Further series that the model is given, each in a role."""
    segments: tuple[SegmentEntry, ...] = ()
    measurements: tuple[MeasurementEntry, ...] = ()
    findings: tuple[FindingEntry, ...] = ()
    conditions: tuple[ConditionEntry, ...] = ()
    grades: tuple[GradeEntry, ...] = ()
    detections: tuple[DetectionEntry, ...] = ()
    images: tuple[ImageEntry, ...] = ()
    urgency: tuple[UrgencyEntry, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        """Numbers and keys are given once."""
        numbers = [segment.number for segment in self.segments]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError("segments must be numbered 1, 2, 3 … in order")
        keys = [entry.key for entry in self.measurements]
        outputs = [e.key for e in self.conditions] + [e.key for e in self.grades]
        outputs += [e.key for e in self.detections] + [e.key for e in self.images]
        named = (
            ("measurement keys", keys),
            ("weights", [w.name for w in self.weights]),
            ("keys of conditions, grades, detections and images", outputs),
        )
        for name, values in named:
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must differ")
        if self.network is not None:
            for fault in self.network.faults(
                weights={w.name for w in self.weights}, segments=numbers, measurements=keys, outputs=outputs
            ):
                raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _referring(self) -> Self:
        """Everything that is named elsewhere exists."""
        measured = [entry.key for entry in self.measurements]
        series_wide = [entry.key for entry in self.measurements if entry.detection is None]
        conditions, grades = [e.key for e in self.conditions], [e.key for e in self.grades]
        detections = [e.key for e in self.detections]
        _require("measurement", (f.measurement for f in self.findings), series_wide)
        _require("measurement", (u.measurement for u in self.urgency), measured)
        _require("condition", (u.condition for u in self.urgency), conditions)
        _require("grade", (u.grade for u in self.urgency), grades)
        _require("detection", (u.detection for u in self.urgency), detections)
        _require("detection", (e.detection for e in self.measurements), detections)
        _require("detection", (e.detection for e in self.grades), detections)
        numbers = [segment.number for segment in self.segments]
        shown = [e.segment for e in self.measurements] + [e.segment for e in self.findings]
        for segment in (*shown, *(e.segment for e in self.conditions)):
            if segment is not None and segment not in numbers:
                raise ValueError(f"there is no segment {segment}")
        classes = {e.key: {c.value for c in e.classes} for e in self.grades}
        for line in self.urgency:
            if line.grade is not None and not set(line.classes) <= classes[line.grade]:
                raise ValueError(
                    f"grade {line.grade} has no such class; known: {', '.join(sorted(classes[line.grade]))}"
                )
        return self


def _require(what: str, named: Iterable[str | None], known: Sequence[str]) -> None:
    for key in named:
        if key is not None and key not in known:
            raise ValueError(f"there is no {what} {key}; known: {', '.join(known) or 'none'}")


def load_manifest(path: Path) -> Manifest:
    """Read a ``model.toml``. Raises Misconfigured with every fault at once."""
    return parse(Manifest, read_toml(path), source=str(path))
