"""How measurements and probabilities are said in sentences for the reader."""

from __future__ import annotations

from inference.packages.manifest import Manifest, MeasurementEntry
from storage.facts.units import behind

DIGITS = 3  #: of a probability; what the reader sees is what decides


def name_of(manifest: Manifest, entry: MeasurementEntry) -> str:
    """The measurement and what it was measured in."""
    place = next((f" of {s.label}" for s in manifest.segments if s.number == entry.segment), "")
    place = place or next((f" of a {d.label}" for d in manifest.detections if d.key == entry.detection), "")
    return f"{entry.name.meaning}{place}"


def number_of(entry: MeasurementEntry, value: float) -> str:
    """The value with its meaningful digits and its unit."""
    return f"{value:.{entry.digits}f}{behind(entry.unit.value)}"


def chance_of(probability: float) -> str:
    """A probability, e.g. ``0.930``."""
    return f"{probability:.{DIGITS}f}"
