"""What a manifest makes of an algorithm's outcome: measurements, findings, grades, detections and urgency, in codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from inference.packages.graded import condition, grade
from inference.packages.located import detection_findings, detection_grades, detections, left_out, measurement
from inference.packages.manifest import FindingEntry, Manifest, MeasurementEntry
from inference.packages.raw import Raw
from inference.packages.urgent import urgency
from inference.packages.wording import name_of, number_of, raises_from
from storage.facts.figures import exact
from storage.facts.prediction import Detection, Finding, Grade, Measurement, Presence, Segment
from storage.facts.study import Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The coded form of a successful run, but for its arrays."""

    findings: tuple[Finding, ...]
    segments: tuple[Segment, ...]
    measurements: tuple[Measurement, ...]
    detections: tuple[Detection, ...]
    grades: tuple[Grade, ...]
    urgency: Urgency
    urgency_reason: str
    warnings: tuple[str, ...]


def answer(manifest: Manifest, raw: Raw, absent: Collection[int] = ()) -> Answer:
    """A sound outcome in codes; ``unsound`` must have found nothing. Segments that are ``absent`` have no numbers."""
    asked = [e for e in manifest.measurements if e.detection is None and e.segment not in absent]
    measured = {entry.key: measurement(manifest, entry, raw.values[entry.key]) for entry in asked}
    findings = [
        _finding(manifest, entry, raw.values[entry.measurement])
        for entry in manifest.findings
        if entry.measurement in measured
    ]
    conditions = [
        condition(e, raw.chances[e.key], raw.energies.get(e.key), raises_from(manifest, e.key))
        for e in manifest.conditions
    ]
    graded = [grade(e, raw.classes[e.key], raw.energies.get(e.key)) for e in manifest.grades if e.detection is None]
    level, reason = urgency(manifest, raw)
    return Answer(
        findings=(*findings, *conditions, *detection_findings(manifest, raw.boxes)),
        segments=_segments(manifest, measured, asked),
        measurements=tuple(measured[entry.key] for entry in asked if entry.segment is None),
        detections=detections(manifest, raw.boxes),
        grades=(*graded, *detection_grades(manifest, raw.boxes)),
        urgency=level,
        urgency_reason=reason,
        warnings=(*raw.warnings, *left_out(manifest, raw.boxes)),
    )


def _segments(
    manifest: Manifest, measured: Mapping[str, Measurement], asked: Collection[MeasurementEntry]
) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            number=segment.number,
            label=segment.label,
            category=segment.category.code(),
            type=segment.type.code(),
            colour=segment.colour,
            measurements=tuple(measured[e.key] for e in asked if e.segment == segment.number),
        )
        for segment in manifest.segments
    )


def _finding(manifest: Manifest, entry: FindingEntry, value: float) -> Finding:
    asked = _entry(manifest, entry.measurement)
    presence = _presence(entry, value)
    measured = f"{name_of(manifest, asked)} is {number_of(manifest, asked, value)}"
    text = (
        f"{entry.condition.meaning} {presence.value}: {measured} "
        f"(present from {exact(entry.present_from)}, absent below {exact(entry.absent_below)})."
    )
    return Finding(
        condition=entry.condition.code(),
        presence=presence,
        text=text,
        threshold=entry.present_from,
        threshold_unit=asked.unit.code(),
        threshold_source=f"{entry.source.strip()} {entry.metrics.text()}" if entry.metrics else entry.source,
        segment=entry.segment,
    )


def _presence(entry: FindingEntry, value: float) -> Presence:
    if value >= entry.present_from:
        return Presence.PRESENT
    return Presence.ABSENT if value < entry.absent_below else Presence.UNDETERMINED


def _entry(manifest: Manifest, key: str) -> MeasurementEntry:
    return next(entry for entry in manifest.measurements if entry.key == key)
