"""Which policy line of a manifest makes a reading urgent, and why."""

from __future__ import annotations

from inference.packages.graded import condition, grade
from inference.packages.located import detection_grades, number
from inference.packages.manifest import Manifest, UrgencyEntry
from inference.packages.raw import Raw
from inference.packages.wording import chance_of, name_of, number_of, raises_from
from storage.facts.figures import exact
from storage.facts.prediction import Presence
from storage.facts.study import Urgency

_LEVELS = {"high": Urgency.HIGH, "stat": Urgency.STAT}


def urgency(manifest: Manifest, raw: Raw) -> tuple[Urgency, str]:
    """The most urgent policy line that holds, the first of equals."""
    level, reason = Urgency.ROUTINE, ""
    for line in manifest.urgency:
        why = _holds(manifest, line, raw)
        if why and _LEVELS[line.level] > level:
            level, reason = _LEVELS[line.level], f"{line.reason} ({why})"
    return level, reason


def _holds(manifest: Manifest, line: UrgencyEntry, raw: Raw) -> str:
    """What makes the line hold; empty where it does not."""
    if line.grade is not None:
        return _graded(manifest, line, raw)
    least = line.at_least or 0.0
    if line.measurement is not None:
        return _measured(manifest, line.measurement, least, raw)
    if line.condition is not None:
        entry = next(entry for entry in manifest.conditions if entry.key == line.condition)
        found = condition(entry, raw.chances[entry.key], raw.energies.get(entry.key), raises_from(manifest, entry.key))
        chance = found.probability or 0.0
        holds = found.presence is Presence.PRESENT and chance >= least
        return f"{entry.condition.meaning} {chance_of(chance, least)}, from {exact(least)}" if holds else ""
    for kind, _, score in number(manifest, raw.boxes):
        if kind.key == line.detection and score >= least:
            return f"{kind.label} {chance_of(score, least)}, from {exact(least)}"
    return ""


def _measured(manifest: Manifest, key: str, least: float, raw: Raw) -> str:
    entry = next(entry for entry in manifest.measurements if entry.key == key)
    if entry.detection is None:
        values = [raw.values[key]] if key in raw.values else []  # none of a segment that is absent
    else:
        values = [box.values[key] for kind, box, _ in number(manifest, raw.boxes) if kind.key == entry.detection]
    value = max(values, default=None)
    if value is None or value < least:
        return ""
    return f"{name_of(manifest, entry)} {number_of(manifest, entry, value)}, from {exact(least)}"


def _graded(manifest: Manifest, line: UrgencyEntry, raw: Raw) -> str:
    entry = next(entry for entry in manifest.grades if entry.key == line.grade)
    if entry.detection is None:
        given = [grade(entry, raw.classes[entry.key], raw.energies.get(entry.key))]
    else:
        question = entry.question.code()
        given = [one for one in detection_grades(manifest, raw.boxes) if one.question == question]
    answers = [one.answer for one in given if one.answer is not None and one.answer.value in line.classes]
    return f"{entry.question.meaning}: {answers[0].meaning}" if answers else ""
