"""What a manifest makes of an algorithm's numbers: measurements, findings, urgency, or why they are withheld."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from inference.imaging.irregular import INSUFFICIENT_QUALITY
from inference.packages.manifest import FindingEntry, Manifest, MeasurementEntry
from storage.facts.prediction import SOFTWARE_FAILURE, Finding, Measurement, Presence, Reason, Segment
from storage.facts.study import Urgency

#: UCUM units whose code people do not write.
_SPELLED = {"[hnsf'U]": "HU", "ml": "mL", "1": ""}
_LEVELS = {"high": Urgency.HIGH, "stat": Urgency.STAT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The coded form of a successful run."""

    findings: tuple[Finding, ...]
    segments: tuple[Segment, ...]
    measurements: tuple[Measurement, ...]
    urgency: Urgency
    urgency_reason: str


def unsound(manifest: Manifest, values: Mapping[str, float], absent: Collection[int] = ()) -> Reason | None:
    """Why the numbers must not be shown: one is missing, not finite or not plausible. None where all are sound.

    Nothing is asked of segments that are ``absent`` from the mask: there is nothing to measure, as of a removed lung.
    """
    for entry in manifest.measurements:
        if entry.segment in absent:
            continue
        value = values.get(entry.key)
        if value is None or not math.isfinite(value):
            what = "no value" if value is None else "no finite number"
            text = f"The algorithm gave {what} for {_name(manifest, entry)}; its other numbers are withheld."
            return Reason(code=SOFTWARE_FAILURE, text=text)
        least, greatest = entry.plausible
        if not least <= value <= greatest:
            text = (
                f"{_name(manifest, entry)} came out as {_number(entry, value)}, outside of what is plausible "
                f"({least:g} to {greatest:g}): the result is withheld."
            )
            return Reason(code=INSUFFICIENT_QUALITY, text=text)
    return None


def answer(manifest: Manifest, values: Mapping[str, float], absent: Collection[int] = ()) -> Answer:
    """Sound numbers in codes; ``unsound`` must have found nothing. Segments that are ``absent`` have no numbers."""
    asked = [entry for entry in manifest.measurements if entry.segment not in absent]
    measured = {entry.key: _measurement(entry, values[entry.key]) for entry in asked}
    urgency, reason = _urgency(manifest, values)
    return Answer(
        findings=tuple(_finding(manifest, entry, values[entry.measurement]) for entry in manifest.findings),
        segments=tuple(
            Segment(
                number=segment.number,
                label=segment.label,
                category=segment.category.code(),
                type=segment.type.code(),
                colour=segment.colour,
                measurements=tuple(measured[e.key] for e in asked if e.segment == segment.number),
            )
            for segment in manifest.segments
        ),
        measurements=tuple(measured[entry.key] for entry in asked if entry.segment is None),
        urgency=urgency,
        urgency_reason=reason,
    )


def _measurement(entry: MeasurementEntry, value: float) -> Measurement:
    return Measurement(
        name=entry.name.code(), value=value, unit=entry.unit.code(), digits=entry.digits, method=entry.method
    )


def _finding(manifest: Manifest, entry: FindingEntry, value: float) -> Finding:
    measurement = _entry(manifest, entry.measurement)
    presence = _presence(entry, round(value, measurement.digits))
    text = (
        f"{entry.condition.meaning} {presence.value}: {_name(manifest, measurement)} is {_number(measurement, value)} "
        f"(present from {entry.present_from:g}, absent below {entry.absent_below:g})."
    )
    return Finding(
        condition=entry.condition.code(),
        presence=presence,
        text=text,
        threshold=entry.present_from,
        threshold_source=entry.source,
        segment=entry.segment,
    )


def _presence(entry: FindingEntry, value: float) -> Presence:
    """Judged on the rounded value: what the reader sees is what decides."""
    if value >= entry.present_from:
        return Presence.PRESENT
    return Presence.ABSENT if value < entry.absent_below else Presence.UNDETERMINED


def _urgency(manifest: Manifest, values: Mapping[str, float]) -> tuple[Urgency, str]:
    """The most urgent policy line that holds; the first of equals."""
    urgency, reason = Urgency.ROUTINE, ""
    for line in manifest.urgency:
        entry = _entry(manifest, line.measurement)
        value = values[line.measurement]
        if round(value, entry.digits) >= line.at_least and _LEVELS[line.level] > urgency:
            urgency = _LEVELS[line.level]
            reason = f"{line.reason} ({_name(manifest, entry)} {_number(entry, value)}, from {line.at_least:g})"
    return urgency, reason


def _entry(manifest: Manifest, key: str) -> MeasurementEntry:
    return next(entry for entry in manifest.measurements if entry.key == key)


def _name(manifest: Manifest, entry: MeasurementEntry) -> str:
    place = next((f" of {s.label}" for s in manifest.segments if s.number == entry.segment), "")
    return f"{entry.name.meaning}{place}"


def _number(entry: MeasurementEntry, value: float) -> str:
    return f"{value:.{entry.digits}f} {_SPELLED.get(entry.unit.value, entry.unit.value)}"
