"""How measurements and probabilities are said in sentences for the reader. All digits decide, and what the reader sees
lies on the same side of what it is judged by.
"""

from __future__ import annotations

from inference.packages.manifest import Manifest, MeasurementEntry
from storage.facts.figures import chance, decimals, figure, fineness
from storage.facts.units import behind

_DIGITS = 3  #: of a probability


def name_of(manifest: Manifest, entry: MeasurementEntry) -> str:
    """The measurement and what it was measured in."""
    place = next((f" of {s.label}" for s in manifest.segments if s.number == entry.segment), "")
    place = place or next((f" of a {d.label}" for d in manifest.detections if d.key == entry.detection), "")
    return f"{entry.name.meaning}{place}"


def number_of(manifest: Manifest, entry: MeasurementEntry, value: float, *limits: float) -> str:
    """The value with its meaningful digits and its unit; ``limits`` are those that are held against all its digits."""
    return f"{figure(value, digits_of(manifest, entry, value), *limits)}{behind(entry.unit.value)}"


def digits_of(manifest: Manifest, entry: MeasurementEntry, value: float) -> int:
    """The decimals of the value that are meaningful; more where what it is judged by has more, or where it would seem
    to be 0, or on another side of that.
    """
    limits = _limits(manifest, entry)
    return decimals(value, fineness(entry.digits, *limits), *limits)


def chance_of(probability: float, *limits: float) -> str:
    """A probability, e.g. ``0.930``, on the right side of what it is judged by."""
    return chance(probability, _DIGITS, *limits)


def raises_from(manifest: Manifest, key: str) -> tuple[float, ...]:
    """From which probabilities on a condition, or a kind of detection, raises a study."""
    return tuple(one.at_least or 0.0 for one in manifest.urgency if key in (one.condition, one.detection))


def _limits(manifest: Manifest, entry: MeasurementEntry) -> list[float]:
    """What findings and urgency ask of a measurement."""
    found = [one for one in manifest.findings if one.measurement == entry.key]
    limits = [limit for one in found for limit in (one.present_from, one.absent_below)]
    return limits + [one.at_least or 0.0 for one in manifest.urgency if one.measurement == entry.key]
