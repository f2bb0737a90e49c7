"""What a manifest makes of probabilities: conditions that are present or absent, and grades; or that it cannot say."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from inference.monitor.calibration import Floats, binary_entropy, entropy
from inference.packages.outputs import Abstention, ConditionEntry, GradeEntry
from inference.packages.wording import chance_of
from storage.facts.figures import exact, figure
from storage.facts.figures import probability as rounded
from storage.facts.prediction import Finding, Grade, Presence, Probability


def condition(entry: ConditionEntry, chance: float, energy: float | None, also: Iterable[float] = ()) -> Finding:
    """Present, absent, or undetermined where the probability lies between or the model abstains.

    ``also`` are further limits that the probability is judged by.
    """
    probability = min(1.0, max(0.0, chance))
    if entry.calibration is not None:
        probability = float(entry.calibration.calibrator().apply(probability))
    uncertainty = float(binary_entropy(probability))
    limits = (entry.present_from, entry.absent_below, *also)
    probability = rounded(probability, *limits)
    abstained = _abstains(entry.abstain, uncertainty, energy)
    presence = Presence.UNDETERMINED if abstained else _presence(entry, probability)
    text = (
        f"{entry.condition.meaning} {presence.value}: probability {chance_of(probability, *limits)} (present "
        f"from {exact(entry.present_from)}, absent below {exact(entry.absent_below)}){abstained}."
    )
    return Finding(
        condition=entry.condition.code(),
        presence=presence,
        text=text,
        probability=probability,
        threshold=entry.present_from,
        threshold_source=f"{entry.source.strip()} {entry.metrics.text()}",
        segment=entry.segment,
        uncertainty=_certain(uncertainty, entry.abstain),
    )


def grade(
    entry: GradeEntry, probabilities: tuple[float, ...], energy: float | None, detection: int | None = None
) -> Grade:
    """The class that is said, or None with the reason where the model abstains.

    Of a scale the median is said: it is the step of least expected distance from the truth.
    """
    calibrated = entry.calibrated(probabilities)
    uncertainty = float(entropy(calibrated))
    chosen = _median(calibrated) if entry.ordinal else int(np.argmax(calibrated))
    reached = rounded(calibrated[chosen], entry.at_least)
    abstained = _abstains(entry.abstain, uncertainty, energy)
    if not abstained and reached < entry.at_least:
        abstained = f"; its probability must reach {exact(entry.at_least)}"
    answer = entry.classes[chosen]
    most = f"{answer.meaning} (probability {chance_of(reached, entry.at_least)})"
    text = f"{entry.question.meaning}: not determined{abstained}; nearest is {most}." if abstained else ""
    return Grade(
        question=entry.question.code(),
        answer=None if abstained else answer.code(),
        probabilities=tuple(
            Probability(value=c.code(), probability=rounded(p, entry.at_least))
            for c, p in zip(entry.classes, calibrated, strict=True)
        ),
        text=text or f"{entry.question.meaning}: {most}.",
        ordinal=entry.ordinal,
        uncertainty=_certain(uncertainty, entry.abstain),
        threshold=entry.at_least,
        threshold_source=f"{entry.source.strip()} {entry.metrics.text()}",
        detection=detection,
    )


def _presence(entry: ConditionEntry, probability: float) -> Presence:
    if probability >= entry.present_from:
        return Presence.PRESENT
    return Presence.ABSENT if probability < entry.absent_below else Presence.UNDETERMINED


def _abstains(rule: Abstention | None, uncertainty: float, energy: float | None) -> str:
    """Why there is no answer, as the end of a sentence; empty where there is one."""
    if rule is None:
        return ""
    value = uncertainty if rule.by == "entropy" else energy
    if value is None or value <= rule.above:
        return ""
    return (
        f"; the model abstains, for its {rule.by} is {figure(value, 2, rule.above)} (answers up to {exact(rule.above)})"
    )


def _certain(uncertainty: float, rule: Abstention | None) -> float:
    """An entropy, rounded so that it stays on its side of what makes the model abstain."""
    return rounded(uncertainty, *(() if rule is None or rule.by != "entropy" else (rule.above,)))


def _median(probabilities: Floats) -> int:
    return int(np.searchsorted(np.cumsum(probabilities), 0.5 - 1e-9))
