"""The sentences of a report. A reader must never take silence for health: what was looked for is always named."""

from __future__ import annotations

from collections.abc import Iterable

from storage.facts.prediction import Finding, Measurement, Prediction, Presence, Segment, Status
from storage.facts.study import Urgency

_OUTCOME = {
    Status.PARTIAL: "Analysed in part",
    Status.FAILED: "Analysis failed",
    Status.NOT_ATTEMPTED: "Not analysed",
}
_PRESENCE = {
    Presence.PRESENT: "{}: present.",
    Presence.ABSENT: "Looked for {}: not found.",
    Presence.UNDETERMINED: "Looked for {}: cannot be determined.",
}
_URGENCY = {
    Urgency.STAT: "Priority: immediate.",
    Urgency.HIGH: "Priority: high.",
    Urgency.ROUTINE: "Priority: routine.",
}


def outcome(prediction: Prediction) -> list[str]:
    """How the run ended, and what that means."""
    lead = _OUTCOME.get(prediction.status)
    sentences = []
    if lead is not None:
        reason = prediction.reason.text if prediction.reason else "no reason was given."
        sentences.append(f"{lead}: {reason}")
    if not was_analysed(prediction):
        sentences.append("This result makes no statement about the images, neither normal nor abnormal.")
    return sentences


def scope(prediction: Prediction) -> list[str]:
    """How far the statements go; to be read after them."""
    if not was_analysed(prediction):
        return []
    none = [] if prediction.findings else ["No condition was assessed."]
    return [*none, "What is not named in this report was not looked for."]


def was_analysed(prediction: Prediction) -> bool:
    """Whether the run says anything about the images."""
    return prediction.status in (Status.SUCCEEDED, Status.PARTIAL)


def finding(given: Finding) -> str:
    """What is said of one condition, with its probability and how it was decided."""
    sentences = [_PRESENCE[given.presence].format(given.condition.meaning), given.text]
    if given.probability is not None:
        sentences.append(f"Probability {given.probability:.2f}.")
    if given.threshold is not None:
        origin = f" ({given.threshold_source})" if given.threshold_source else ""
        sentences.append(f"Operating point {given.threshold:g}{origin}.")
    return " ".join(sentence for sentence in sentences if sentence)


def measurement(given: Measurement, of: str = "") -> str:
    """A number with its unit, as a reader would write it."""
    unit = "" if given.unit.value in ("1", "{ratio}") else f" {given.unit.value}"
    method = f" ({given.method})" if given.method else ""
    subject = f"{of}: " if of else ""
    return f"{subject}{given.name.meaning} {given.value:.{given.digits}f}{unit}{method}."


def empty(segment: Segment) -> str:
    """That a structure was looked for and not found."""
    return f"Looked for {segment.label}: nothing was marked."


def urgency(prediction: Prediction) -> str:
    """How soon to look, and by which policy."""
    reason = f" Reason: {prediction.urgency_reason.rstrip('. ')}." if prediction.urgency_reason else ""
    return _URGENCY[prediction.urgency] + reason


def caution(prediction: Prediction) -> list[str]:
    """What the result may be used for."""
    algorithm = prediction.algorithm
    sentences = []
    if algorithm.research:
        sentences.append("Research software: not for diagnosis.")
    if algorithm.intended_use:
        sentences.append(f"Intended use: {algorithm.intended_use.rstrip('. ')}.")
    return [*sentences, "Made by software; not reviewed by a physician."]


def remarks(prediction: Prediction, more: Iterable[str]) -> list[str]:
    """Warnings of the run, then those of the report."""
    return [f"Note: {text}" for text in (*prediction.warnings, *more)]


def is_actionable(prediction: Prediction) -> bool:
    """Whether urgency is said as a code, too: the codes say "actionable finding", which a plain negative is not."""
    found = any(finding.presence is Presence.PRESENT for finding in prediction.findings)
    return found or prediction.category > Urgency.ROUTINE
