"""Entries of ``model.toml`` for what a model says besides segments and numbers: conditions, grades, detections, images.

Each has an operating point, and says where that comes from and how the model did there.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from inference.monitor.calibration import Calibrator, Isotonic, Platt, Temperature
from inference.packages.coded import Coded, Key
from storage.facts.figures import figure
from storage.settings import Settings


class Estimate(Settings):
    """A rate and its 95 % confidence interval."""

    value: float = Field(ge=0)
    low: float = Field(ge=0)
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError("low, value and high must be in order")
        return self

    def text(self) -> str:
        """For people, e.g. ``0.92 (0.88 to 0.95)``."""
        value, low, high = (figure(one, 2, 0.0, 1.0) for one in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"


class Metrics(Settings):
    """How the model did at its operating point, on cases that had no part in choosing it."""

    data: str
    """Which cases."""
    cases: int = Field(ge=1)
    sensitivity: Estimate | None = None
    specificity: Estimate | None = None
    false_positives: Estimate | None = None
    """Per series."""
    accuracy: Estimate | None = None
    calibration_error: float | None = Field(default=None, ge=0, le=1)

    def text(self) -> str:
        """One sentence for the report."""
        rates = (
            ("sensitivity", self.sensitivity),
            ("specificity", self.specificity),
            ("false positives a series", self.false_positives),
            ("accuracy", self.accuracy),
        )
        said = [f"{name} {rate.text()}" for name, rate in rates if rate is not None]
        if self.calibration_error is not None:
            said.append(f"calibration error {figure(self.calibration_error, 3)}")
        return f"{', '.join(said) or 'no rate was measured'} in {self.cases} cases ({self.data})."


class Calibration(Settings):
    """How raw probabilities become calibrated ones; the numbers were fitted on cases that trained nothing."""

    method: Literal["temperature", "platt", "isotonic"]
    temperature: float | None = Field(default=None, gt=0)
    slope: float | None = Field(default=None, gt=0)
    offset: float | None = None
    scores: tuple[float, ...] = ()
    """Isotonic: raw probabilities, rising."""
    probabilities: tuple[float, ...] = ()
    """Isotonic: what they become, never falling."""
    source: str
    """What it was fitted on."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        given = {name for name in ("temperature", "slope", "offset") if getattr(self, name) is not None}
        given |= {name for name in ("scores", "probabilities") if getattr(self, name)}
        needed = {
            "temperature": {"temperature"},
            "platt": {"slope", "offset"},
            "isotonic": {"scores", "probabilities"},
        }[self.method]
        if given != needed:
            raise ValueError(f"{self.method} takes {' and '.join(sorted(needed))}, and nothing else")
        if self.method == "isotonic":
            self._require_curve()
        return self

    def _require_curve(self) -> None:
        if len(self.scores) != len(self.probabilities):
            raise ValueError("scores and probabilities must be as many")
        if any(a >= b for a, b in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("scores must rise")
        if any(a > b for a, b in zip(self.probabilities, self.probabilities[1:], strict=False)):
            raise ValueError("probabilities must not fall")
        if not 0 <= self.probabilities[0] <= self.probabilities[-1] <= 1:
            raise ValueError("probabilities must lie within 0 and 1")

    def calibrator(self) -> Calibrator:
        """The curve as a function."""
        if self.method == "temperature":
            return Temperature(temperature=self.temperature or 1.0)
        if self.method == "platt":
            return Platt(slope=self.slope or 1.0, offset=self.offset or 0.0)
        return Isotonic(scores=self.scores, probabilities=self.probabilities)


class Abstention(Settings):
    """When the model must not answer, though it could."""

    by: Literal["entropy", "energy"]
    """Entropy: of the calibrated probabilities, over its maximum (0..1). Energy: as the algorithm gives it."""
    above: float
    """Beyond this value there is no answer."""
    coverage: float = Field(gt=0, le=1)
    """Share of the validation cases that are answered at this value."""
    source: str
    """What the value was chosen on."""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if self.by == "entropy" and not 0 <= self.above <= 1:
            raise ValueError("entropy is given over its maximum: above must lie within 0 and 1")
        return self


class Points(Settings):
    """Two operating points; what lies between them is undetermined."""

    present_from: float
    absent_below: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.absent_below is not None and self.absent_below > self.present_from:
            raise ValueError("absent_below must not be above present_from")
        return self


class ConditionEntry(Points):
    """A condition that the model gives a probability for; one of several that may all be present (multi-label)."""

    key: Key
    """What the algorithm calls it."""
    condition: Coded
    present_from: float = Field(gt=0, le=1)
    """Operating point: at this calibrated probability and above, present."""
    absent_below: float = Field(gt=0, le=1)
    """Below this probability: absent. What lies between is undetermined."""
    source: str
    """Where the two come from, and whether they were validated for this use."""
    metrics: Metrics
    calibration: Calibration | None = None
    """Default none: the network's probabilities are calibrated as they are."""
    abstain: Abstention | None = None
    segment: int | None = None
    """Number of the segment that shows it."""


class GradeEntry(Settings):
    """One class out of several that exclude each other."""

    key: Key
    """What the algorithm calls it."""
    question: Coded
    """What is asked, e.g. the density of a lesion."""
    classes: tuple[Coded, ...] = Field(min_length=2)
    """In the order of the algorithm's probabilities; of a scale, the lowest first."""
    ordinal: bool = False
    """The classes are steps of a scale: the median of the probabilities is said, not their maximum."""
    detection: Key | None = None
    """Key of the detections that it grades. Default none: it grades the series."""
    at_least: float = Field(ge=0, le=1)
    """Operating point: the probability that a class must reach to be said."""
    source: str
    """Where that comes from, and whether it was validated for this use."""
    metrics: Metrics
    calibration: Calibration | None = None
    """Temperature only. Default none: the network's probabilities are calibrated as they are."""
    abstain: Abstention | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.calibration is not None and self.calibration.method != "temperature":
            raise ValueError("classes that exclude each other are calibrated by temperature")
        values = [(c.scheme, c.value) for c in self.classes]
        if len(set(values)) < len(values):
            raise ValueError("the codes of classes must differ")
        return self

    def calibrated(self, probabilities: tuple[float, ...]) -> npt.NDArray[np.float64]:
        """Calibrated probabilities of all classes."""
        temperature = self.calibration.temperature if self.calibration is not None else None
        return Temperature(temperature=temperature or 1.0).apply_classes(probabilities)


class DetectionEntry(Points):
    """One kind of thing that the model finds at places."""

    key: Key
    """What the algorithm calls it."""
    label: str = Field(min_length=1, max_length=60)
    """For people; detections are numbered: Nodule 1, Nodule 2 …"""
    category: Coded
    type: Coded
    colour: tuple[int, int, int]
    """Recommended display colour, sRGB 0..255."""
    condition: Coded
    """What is said to be present when there is one, absent when there is none."""
    present_from: float = Field(gt=0, le=1)
    """Operating point: the calibrated probability from which a detection is reported."""
    absent_below: float | None = Field(default=None, gt=0, le=1)
    """If none reaches the operating point but one this probability, the condition is undetermined. Default: never."""
    source: str
    """Where the operating point comes from, and whether it was validated for this use."""
    metrics: Metrics
    calibration: Calibration | None = None
    """Default none: the network's probabilities are calibrated as they are."""
    most: int = Field(default=20, ge=1, le=200)
    """Most that are reported; a warning says that there were more. Default 20: nobody reads more."""


class ImageEntry(Settings):
    """New images that the model makes of the series."""

    key: Key
    """What the algorithm calls it."""
    label: str = Field(min_length=1, max_length=64)
    """Series Description."""
    method: Coded
    """Derivation Code (CID 7203)."""
    text: str
    """Derivation Description."""
    stored: Literal["int16", "uint16", "float32"] = "int16"
    """How values are stored; what lies beyond the type saturates."""
    slope: float = Field(default=1.0, gt=0)
    """Real-world value = stored * slope + intercept."""
    intercept: float = 0.0
