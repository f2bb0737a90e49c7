"""The sentences of a report. A reader must never take silence for health: what was looked for is always named.

Conditions, structures and units are named as the prediction names them: ``language.translated`` comes first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from dicom_node.results.language import Language
from storage.facts.prediction import (
    Code,
    Detection,
    Finding,
    Grade,
    Heatmap,
    Measurement,
    Prediction,
    Presence,
    Segment,
    Shown,
    Status,
)
from storage.facts.study import Urgency
from storage.facts.units import behind

_WORDS = re.compile(r"\w+")
_OUTCOME = {Status.PARTIAL: "partial", Status.FAILED: "failed", Status.NOT_ATTEMPTED: "not_attempted"}
_MAPS = {Shown.SALIENCY: "saliency", Shown.UNCERTAINTY: "uncertainty", Shown.PROBABILITY: "probability_map"}


def outcome(prediction: Prediction, language: Language) -> list[str]:
    """How the run ended, and what that means."""
    lead = _OUTCOME.get(prediction.status)
    sentences = []
    if lead is not None:
        reason = prediction.reason.text if prediction.reason else language.say("no_reason")
        sentences.append(language.say(lead, reason=reason))
    if not was_analysed(prediction):
        sentences.append(language.say("no_statement"))
    return sentences


def scope(prediction: Prediction, language: Language) -> list[str]:
    """How far the statements go; to be read after them."""
    if not was_analysed(prediction):
        return []
    assessed = prediction.findings or prediction.grades or prediction.detections
    return [*([] if assessed else [language.say("nothing_assessed")]), language.say("scope")]


def was_analysed(prediction: Prediction) -> bool:
    """Whether the run says anything about the images."""
    return prediction.status in (Status.SUCCEEDED, Status.PARTIAL)


def finding(given: Finding, language: Language) -> str:
    """What is said of one condition, with its probability and how it was decided."""
    sentences = _once(language.say(given.presence.value, condition=given.condition.meaning), given.text)
    if given.probability is not None:
        limits = () if given.threshold is None else (given.threshold,)
        sentences.append(language.say("probability", value=language.chance(given.probability, *limits)))
    sentences.append(certainty(given.uncertainty, language))
    if given.threshold is not None:
        sentences.append(_operating_point(given.threshold, given.threshold_unit, given.threshold_source, language))
    return " ".join(sentence for sentence in sentences if sentence)


def _operating_point(value: float, unit: Code | None, source: str, language: Language) -> str:
    shown = language.number(value) + unit_of(unit)
    key = "operating_point_from" if source else "operating_point"
    return language.say(key, value=shown, source=source.rstrip(". "))


def _once(sentence: str, text: str) -> list[str]:
    """A sentence and the package's own text; the text alone where it begins with the same words."""
    words = _WORDS.findall(sentence.casefold())
    return [text] if _WORDS.findall(text.casefold())[: len(words)] == words else [sentence, text]


def certainty(uncertainty: float | None, language: Language) -> str:
    """How sure the model was; empty where it does not say."""
    return "" if uncertainty is None else language.say("certainty", percent=language.percent(1 - uncertainty))


def grade(given: Grade, language: Language) -> str:
    """The class that is said out of several, and how likely each is."""
    question = given.question.meaning
    if given.answer is None:
        said = language.say("abstained", question=question)
    else:
        said = language.say("answered", question=question, answer=given.answer.meaning)
    limits = () if given.threshold is None else (given.threshold,)
    classes = "; ".join(f"{p.value.meaning} {language.chance(p.probability, *limits)}" for p in given.probabilities)
    sentences = [*_once(said, given.text), language.say("classes", classes=classes) if classes else ""]
    sentences.append(certainty(given.uncertainty, language))
    if given.threshold is not None:
        sentences.append(_operating_point(given.threshold, None, given.threshold_source, language))
    return " ".join(sentence for sentence in sentences if sentence)


def detection(given: Detection, images: int, language: Language) -> str:
    """What was found, how likely it is one, and on which of so many images."""
    first, last = (frame + 1 for frame in reach(given))
    key = "detection" if images < 2 else "detection_on" if first == last else "detection_from"
    return language.say(
        key, label=given.label, value=language.chance(given.score), first=first, last=last, images=images,
        image=key_frame(given) + 1,
    )  # fmt: skip


def reach(given: Detection) -> tuple[int, int]:
    """The first and the last frame that a detection takes in, 0-based; half-way between two, it begins on the upper.

    Every object asks here: Python's own rounding of halves goes to whatever is even.
    """
    return math.floor(given.location.low[0] + 0.5), math.floor(given.location.high[0] + 0.5)


def key_frame(given: Detection) -> int:
    """The frame in the middle of a detection, 0-based; the lower of two, and always one that it takes in."""
    first, last = reach(given)
    middle = int((given.location.low[0] + given.location.high[0]) / 2 + 0.499)
    return min(max(middle, first), last)


def measurement(given: Measurement, language: Language, of: str = "") -> str:
    """A number with its unit, as a reader would write it."""
    if not math.isfinite(given.value):
        return language.say("not_computed", name=given.name.meaning)
    method = f" ({given.method})" if given.method else ""
    subject = f"{of}: " if of else ""
    return f"{subject}{given.name.meaning} {language.number(given.value, given.digits)}{unit_of(given.unit)}{method}."


def unit_of(unit: Code | None) -> str:
    """A unit as it is written behind a number; empty where there is none."""
    return "" if unit is None else behind(unit.value)


def heatmap(given: Heatmap, language: Language) -> str:
    """What a map shows, and by which method."""
    return language.say(_MAPS[given.shown], label=given.label.rstrip(". "), method=given.method.rstrip(". "))


def empty(segment: Segment, language: Language) -> str:
    """That a structure was looked for and not found."""
    return language.say("unmarked", label=segment.label)


def urgency(prediction: Prediction, language: Language) -> str:
    """How soon to look, and by which policy."""
    said = language.say(prediction.urgency.name.lower())
    if not prediction.urgency_reason:
        return said
    return f"{said} {language.say('reason', reason=prediction.urgency_reason.rstrip('. '))}"


def caution(prediction: Prediction, language: Language) -> list[str]:
    """What the result may be used for."""
    algorithm = prediction.algorithm
    sentences = []
    if algorithm.research:
        sentences.append(language.say("research"))
    if algorithm.intended_use:
        sentences.append(language.say("intended_use", use=algorithm.intended_use.rstrip(". ")))
    return [*sentences, language.say("unreviewed")]


def remarks(prediction: Prediction, more: Iterable[str], language: Language) -> list[str]:
    """Warnings of the run, then those of the report."""
    return [language.say("note", text=text) for text in (*prediction.warnings, *more)]


def everything(prediction: Prediction, language: Language, more: Iterable[str] = ()) -> list[str]:
    """All that a result says, in the order in which it is read."""
    sentences = [*outcome(prediction, language), urgency(prediction, language)]
    if was_analysed(prediction):
        sentences += substance(prediction, language)
        sentences += scope(prediction, language)
    return [*sentences, *caution(prediction, language), *remarks(prediction, more, language)]


def substance(prediction: Prediction, language: Language) -> list[str]:
    """What the model said of the images: conditions, places, grades, numbers."""
    sentences = [finding(given, language) for given in prediction.findings]
    sentences += [grade(given, language) for given in prediction.grades if given.detection is None]
    for found in prediction.detections:
        sentences.append(detection(found, len(prediction.frames), language))
        sentences += [grade(given, language) for given in prediction.grades if given.detection == found.number]
        sentences += [measurement(given, language, found.label) for given in found.measurements]
    sentences += [measurement(given, language) for given in prediction.measurements]
    for segment in prediction.segments:
        sentences += [measurement(given, language, segment.label) for given in segment.measurements]
    return sentences


def is_actionable(prediction: Prediction) -> bool:
    """Whether urgency is said as a code, too: the codes say "actionable finding", which a plain negative is not."""
    found = any(finding.presence is Presence.PRESENT for finding in prediction.findings) or prediction.detections
    return bool(found) or prediction.category > Urgency.ROUTINE
