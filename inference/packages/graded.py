"""What a manifest makes of probabilities: conditions that are present or absent, and grades; or that it cannot say."""

from __future__ import annotations

import numpy as np

from inference.monitor.calibration import Floats, binary_entropy, entropy
from inference.packages.outputs import Abstention, ConditionEntry, GradeEntry
from inference.packages.wording import DIGITS, chance_of
from storage.facts.prediction import Finding, Grade, Presence, Probability


def condition(entry: ConditionEntry, chance: float, energy: float | None) -> Finding:
    """Present, absent, or undetermined where the probability lies between or the model abstains."""
    probability = min(1.0, max(0.0, chance))
    if entry.calibration is not None:
        probability = float(entry.calibration.calibrator().apply(probability))
    probability = round(probability, DIGITS)
    uncertainty = float(binary_entropy(probability))
    abstained = _abstains(entry.abstain, uncertainty, energy)
    presence = Presence.UNDETERMINED if abstained else _presence(entry, probability)
    text = (
        f"{entry.condition.meaning} {presence.value}: probability {chance_of(probability)} (present from "
        f"{entry.present_from:g}, absent below {entry.absent_below:g}){abstained}."
    )
    return Finding(
        condition=entry.condition.code(),
        presence=presence,
        text=text,
        probability=probability,
        threshold=entry.present_from,
        threshold_source=f"{entry.source.strip()} {entry.metrics.text()}",
        segment=entry.segment,
        uncertainty=round(uncertainty, DIGITS),
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
    reached = round(float(calibrated[chosen]), DIGITS)
    abstained = _abstains(entry.abstain, uncertainty, energy)
    if not abstained and reached < entry.at_least:
        abstained = f"; its probability must reach {entry.at_least:g}"
    answer = entry.classes[chosen]
    most = f"{answer.meaning} (probability {chance_of(reached)})"
    text = f"{entry.question.meaning}: not determined{abstained}; nearest is {most}." if abstained else ""
    return Grade(
        question=entry.question.code(),
        answer=None if abstained else answer.code(),
        probabilities=tuple(
            Probability(value=c.code(), probability=round(float(p), DIGITS))
            for c, p in zip(entry.classes, calibrated, strict=True)
        ),
        text=text or f"{entry.question.meaning}: {most}.",
        ordinal=entry.ordinal,
        uncertainty=round(uncertainty, DIGITS),
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
    return f"; the model abstains, for its {rule.by} is {value:.2f} (answers up to {rule.above:g})"


def _median(probabilities: Floats) -> int:
    return int(np.searchsorted(np.cumsum(probabilities), 0.5 - 1e-9))
