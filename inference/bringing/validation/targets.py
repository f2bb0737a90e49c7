"""What a truth table may speak of: everything that a package says of a series, by the name that its manifest gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from inference.packages.manifest import FindingEntry, Manifest, MeasurementEntry, SegmentEntry
from inference.packages.outputs import ConditionEntry, DetectionEntry, GradeEntry
from storage.facts.errors import Rejected

Entry = ConditionEntry | FindingEntry | GradeEntry | MeasurementEntry | SegmentEntry | DetectionEntry


class Task(StrEnum):
    """How a target is judged."""

    PRESENCE = "classification"  #: present or absent
    GRADE = "grading"  #: one class of several
    MEASUREMENT = "regression"
    SEGMENT = "segmentation"
    DETECTION = "detection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing that the package says."""

    name: str  #: how the report calls it
    task: Task
    entry: Entry
    words: tuple[str, ...]  #: how a truth table may call it


def targets_of(manifest: Manifest) -> tuple[Target, ...]:
    """Everything of a manifest that can be held against a truth; what it says of single detections is not among it."""
    return tuple(_targets(manifest))


def _targets(manifest: Manifest) -> Iterator[Target]:
    for c in manifest.conditions:
        yield Target(name=c.key, task=Task.PRESENCE, entry=c, words=(c.key, c.condition.meaning, c.condition.value))
    for f in manifest.findings:
        words = (f.condition.meaning, f.condition.value)
        yield Target(name=f.condition.meaning, task=Task.PRESENCE, entry=f, words=words)
    for g in manifest.grades:
        if g.detection is None:
            yield Target(name=g.key, task=Task.GRADE, entry=g, words=(g.key, g.question.meaning))
    for d in manifest.detections:
        yield Target(name=d.key, task=Task.DETECTION, entry=d, words=(d.key, d.label))
    for m in manifest.measurements:
        if m.detection is None:
            yield Target(name=m.key, task=Task.MEASUREMENT, entry=m, words=(m.key,))
    for s in manifest.segments:
        yield Target(name=s.label, task=Task.SEGMENT, entry=s, words=(s.label, f"segment {s.number}"))


def find(targets: tuple[Target, ...], word: str) -> Target:
    """The target of that name, whatever the case of its letters. Raises Rejected for none, and for several."""
    found = [t for t in targets if word.casefold() in (w.casefold() for w in t.words)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(dict.fromkeys(t.words[0] for t in targets)) or "nothing that a truth can be held against"
    if not found:
        raise Rejected(f"the package says nothing of that name; it says: {known}")
    raise Rejected(f"its target can mean {' or '.join(f'{t.words[0]} ({t.task.value})' for t in found)}: say which")
