"""What a manifest makes of boxes: numbered detections with their measurements, and whether there is one at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from inference.packages.graded import grade
from inference.packages.manifest import Manifest, MeasurementEntry
from inference.packages.outputs import DetectionEntry
from inference.packages.raw import Box
from inference.packages.wording import chance_of, digits_of, raises_from
from storage.facts.figures import exact, probability
from storage.facts.prediction import Detection, Finding, Grade, Location, Measurement, Presence

Scored = tuple[Box, float]


def scored(entry: DetectionEntry, boxes: Sequence[Box], also: Iterable[float] = ()) -> list[Scored]:
    """The boxes of one entry with their calibrated probability, the most suspicious first.

    ``also`` are further limits that the probability is judged by.
    """
    limits = (*_limits(entry), *also)
    calibrator = None if entry.calibration is None else entry.calibration.calibrator()
    found = []
    for box in boxes:
        if box.key == entry.key:
            score = min(1.0, max(0.0, box.score))
            score = score if calibrator is None else float(calibrator.apply(score))
            found.append((box, probability(score, *limits)))
    return sorted(found, key=lambda one: (-one[1], one[0].low, one[0].high))


def reported(entry: DetectionEntry, boxes: Sequence[Box], also: Iterable[float] = ()) -> list[Scored]:
    """Those that reach the operating point, the most suspicious first, no more than the package allows."""
    return [one for one in scored(entry, boxes, also) if one[1] >= entry.present_from][: entry.most]


def number(manifest: Manifest, boxes: Sequence[Box]) -> list[tuple[DetectionEntry, Box, float]]:
    """What is reported, all entries together in the order of their numbers: the most suspicious first."""
    found = [
        (entry, box, score)
        for entry in manifest.detections
        for box, score in reported(entry, boxes, raises_from(manifest, entry.key))
    ]
    return sorted(found, key=lambda one: -one[2])


def detections(manifest: Manifest, boxes: Sequence[Box]) -> tuple[Detection, ...]:
    """What is reported, in codes."""
    of_kind: dict[str, int] = {}
    said = []
    for place, (entry, box, score) in enumerate(number(manifest, boxes), start=1):
        of_kind[entry.key] = of_kind.get(entry.key, 0) + 1
        said.append(
            Detection(
                number=place,
                label=f"{entry.label} {of_kind[entry.key]}",
                category=entry.category.code(),
                type=entry.type.code(),
                location=Location(low=box.low, high=box.high),
                score=score,
                colour=entry.colour,
                measurements=tuple(_measured(manifest, entry, box)),
            )
        )
    return tuple(said)


def detection_grades(manifest: Manifest, boxes: Sequence[Box]) -> Iterator[Grade]:
    """The grades of each detection that is reported."""
    for place, (entry, box, _) in enumerate(number(manifest, boxes), start=1):
        for graded in manifest.grades:
            if graded.detection == entry.key:
                yield grade(graded, box.classes[graded.key], box.energies.get(graded.key), place)


def detection_findings(manifest: Manifest, boxes: Sequence[Box]) -> Iterator[Finding]:
    """For each kind of thing that was looked for, whether there is one: silence must not be read as normal."""
    numbers = number(manifest, boxes)
    for entry in manifest.detections:
        candidates = scored(entry, boxes, raises_from(manifest, entry.key))
        best = candidates[0][1] if candidates else None
        first = next((place for place, one in enumerate(numbers, start=1) if one[0] is entry), None)
        presence = _presence(entry, best)
        yield Finding(
            condition=entry.condition.code(),
            presence=presence,
            text=_text(entry, presence, best, len(reported(entry, boxes))),
            probability=best,
            threshold=entry.present_from,
            threshold_source=f"{entry.source.strip()} {entry.metrics.text()}",
            detection=first,
        )


def left_out(manifest: Manifest, boxes: Sequence[Box]) -> Iterator[str]:
    """A warning where more was found than is reported."""
    for entry in manifest.detections:
        more = sum(score >= entry.present_from for _, score in scored(entry, boxes)) - entry.most
        if more > 0:
            yield f"{more} more {entry.label} than the {entry.most} most suspicious were found and are not reported."


def _measured(manifest: Manifest, entry: DetectionEntry, box: Box) -> Iterator[Measurement]:
    for asked in manifest.measurements:
        if asked.detection == entry.key:
            yield measurement(manifest, asked, box.values[asked.key])


def measurement(manifest: Manifest, entry: MeasurementEntry, value: float) -> Measurement:
    """One number in codes."""
    return Measurement(
        name=entry.name.code(),
        value=value,
        unit=entry.unit.code(),
        digits=digits_of(manifest, entry, value),
        method=entry.method,
    )


def _limits(entry: DetectionEntry) -> tuple[float, ...]:
    return (entry.present_from,) if entry.absent_below is None else (entry.present_from, entry.absent_below)


def _presence(entry: DetectionEntry, best: float | None) -> Presence:
    if best is not None and best >= entry.present_from:
        return Presence.PRESENT
    doubtful = best is not None and entry.absent_below is not None and best >= entry.absent_below
    return Presence.UNDETERMINED if doubtful else Presence.ABSENT


def _text(entry: DetectionEntry, presence: Presence, best: float | None, count: int) -> str:
    point = f"reported from {exact(entry.present_from)}"
    if presence is Presence.PRESENT:
        said = f"{count} found, the most suspicious with probability {chance_of(best or 0.0, *_limits(entry))}"
    elif best is None:
        said = "no candidate was found"
    else:
        said = f"the most suspicious candidate has probability {chance_of(best, *_limits(entry))}"
    return f"{entry.condition.meaning} {presence.value}: {said} ({point})."
