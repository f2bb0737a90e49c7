"""Sorts what a prediction says into measurement groups: one for the whole, one a segment, one a detection.

A group is drawn by viewers where its outline lies, so that numbers of a volume stand in the group of its key slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from highdicom.sr import Measurement as MeasurementTemplate
from pydicom.dataset import Dataset

from dicom_node.results import coding, region, statement
from dicom_node.results.coding import concept
from dicom_node.results.document import Circumstance, code, text
from dicom_node.results.identity import Naming
from dicom_node.results.language import Language
from dicom_node.results.region import Labels, Region
from storage.facts.errors import Rejected
from storage.facts.figures import decimals, rounded
from storage.facts.prediction import Code, Detection, Finding, Frame, Grade, Measurement, Prediction, Segment

_DECIMALS = 4  #: of probabilities and operating points
_ENTROPY = "1 - entropy / greatest entropy"


@dataclass(slots=True, kw_only=True)
class Group:
    """One measurement group while it is put together."""

    uid: str  #: for tracking
    identifier: str
    finding: Code
    category: Code
    region: Region
    frame: Frame  #: the image that the region lies on
    language: Language
    segment: int = 0  #: that it is about; 0: none
    detection: Detection | None = None
    measurements: list[Dataset] = field(default_factory=list)
    evaluations: list[tuple[Code, Code]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def measure(self, measurements: Iterable[Measurement], of: Code | None = None) -> None:
        """Append NUM items (TID 1419); ``of`` says what a number is about when it is not the group's finding."""
        for given in measurements:
            if not math.isfinite(given.value):
                self.texts.append(self.language.say("not_computed", name=given.name.meaning))
                continue
            value = rounded(given.value, given.digits)
            name = _named(self.language.code(given.name), of)
            number: Dataset = MeasurementTemplate(concept(name), value, concept(given.unit))[0]
            children = [code(coding.FINDING, of, "HAS CONCEPT MOD")] if of is not None else []
            if given.method:
                children.append(text(coding.COMMENT, given.method, "HAS PROPERTIES"))
            if children:
                number.ContentSequence = [*number.get("ContentSequence", []), *children]
            self.measurements.append(number)

    def evaluate(self, name: Code, value: Code, at: int | None = None) -> None:
        """Add a coded statement (TID 1501), at a place among the others or behind them."""
        pair = (self.language.code(name), self.language.code(value))
        self.evaluations.insert(len(self.evaluations) if at is None else at, pair)

    def find(self, finding: Finding) -> None:
        """Presence as a code, probability and operating point as numbers that name their condition."""
        self.evaluate(finding.condition, coding.PRESENCE[finding.presence])
        self.texts.append(statement.finding(finding, self.language))
        unit = finding.threshold_unit or (coding.NO_UNITS if finding.probability is not None else None)
        self._chance(finding.probability, finding.threshold, of=finding.condition)
        self._operating_point(finding.threshold, unit, finding.threshold_source, finding.condition)
        self._certainty(finding.uncertainty, finding.condition)

    def grade(self, grade: Grade) -> None:
        """A class out of several (TID 1501), and how likely each of them is."""
        self.evaluate(grade.question, grade.answer or coding.UNDETERMINED)
        self.texts.append(statement.grade(grade, self.language))
        for each in grade.probabilities:
            self._chance(each.probability, grade.threshold, of=each.value)
        self._operating_point(grade.threshold, coding.NO_UNITS, grade.threshold_source, grade.question)
        self._certainty(grade.uncertainty, grade.question)

    def score(self, detection: Detection, decided_by: Finding | None) -> None:
        """How likely a detection is one, and from where on it was said."""
        self._chance(detection.score, None if decided_by is None else decided_by.threshold)
        if decided_by is not None and decided_by.threshold_unit is None:
            self._operating_point(decided_by.threshold, coding.NO_UNITS, decided_by.threshold_source)

    def _chance(self, value: float | None, threshold: float | None, of: Code | None = None) -> None:
        if value is not None:
            digits = decimals(value, _fineness(value), 0.0, 1.0, *([] if threshold is None else [threshold]))
            self.measure(
                [Measurement(name=coding.PROBABILITY, value=value, unit=coding.NO_UNITS, digits=digits)], of=of
            )

    def _operating_point(self, value: float | None, unit: Code | None, source: str, of: Code | None = None) -> None:
        if value is not None and unit is not None:
            digits = decimals(value, _fineness(value), value)
            self.measure([Measurement(name=coding.THRESHOLD, value=value, unit=unit, digits=digits, method=source)], of)

    def _certainty(self, uncertainty: float | None, of: Code) -> None:
        if uncertainty is not None:
            percent = 100 * (1 - uncertainty)
            digits = decimals(percent, 1, 0.0, 100.0)
            given = Measurement(
                name=coding.CERTAINTY, value=percent, unit=coding.PERCENT, digits=digits, method=_ENTROPY
            )
            self.measure([given], of=of)


def _fineness(value: float) -> int:
    """Four decimals, or four digits of what is small: an operating point of 0.00004 is not one of 0."""
    if value == 0 or not math.isfinite(value):
        return _DECIMALS
    return max(_DECIMALS, _DECIMALS - 1 - math.floor(math.log10(abs(value))))


def _named(name: Code, of: Code | None) -> Code:
    """What a number is called. OHIF shows the name alone, without what modifies it, so that its meaning says of what:
    meanings are for people (PS3.3 8.3), the code stays."""
    return name if of is None else replace(name, meaning=f"{name.meaning} ({of.meaning})"[:64])


def groups(circumstance: Circumstance, labels: Labels | None, counts: npt.NDArray[np.int64] | None) -> list[Group]:
    """The group of the whole, then one for each segment that has pixels and each detection.

    A single segment is the whole, too; a detection never is, as it has grades and probabilities of its own. ``counts``
    are ``region.areas`` of the labels. Raises Rejected where there is nothing to draw.
    """
    naming, prediction = circumstance.naming, circumstance.naming.prediction
    shown, empty = _of_segments(naming, labels, counts)
    found = [_of_detection(circumstance, each) for each in prediction.detections]
    if not shown and not found:
        raise Rejected(f"the mask of prediction {prediction.key} is empty: its report has no geometry")
    made = [*shown, *found]
    if len(made) > 1 or found:
        made.insert(0, _whole(circumstance, labels, counts) if shown else _of_image(circumstance, found[0]))
    _say_outcome(made[0], made, empty, circumstance)
    return made


def _of_segments(
    naming: Naming, labels: Labels | None, counts: npt.NDArray[np.int64] | None
) -> tuple[list[Group], list[Segment]]:
    prediction = naming.prediction
    shown: list[Group] = []
    if labels is None or counts is None or prediction.mask is None:
        return shown, list(prediction.segments)
    empty: list[Segment] = []
    for segment in prediction.segments:
        drawn = region.key_region(labels, counts, segment.number)
        if drawn is None:
            empty.append(segment)
            continue
        group = Group(
            uid=naming.tracking_uid(segment.number), identifier=naming.tracking_id(segment.number),
            finding=segment.type, category=segment.category, region=drawn, frame=prediction.mask.frames[drawn.frame],
            language=naming.language, segment=segment.number,
        )  # fmt: skip
        group.measure(segment.measurements)
        for finding in prediction.findings:
            if finding.segment == segment.number and finding.detection is None:
                group.find(finding)
        shown.append(group)
    return shown, empty


def _of_detection(circumstance: Circumstance, detection: Detection) -> Group:
    naming, prediction = circumstance.naming, circumstance.naming.prediction
    middle = statement.key_frame(detection)
    frame = prediction.frames[middle]
    image = circumstance.source.image(frame.sop_instance_uid)
    group = Group(
        uid=naming.detection_uid(detection.number), identifier=naming.detection_id(detection.number),
        finding=detection.type, category=detection.category, frame=frame, language=naming.language,
        region=region.of_location(detection.location, middle, (image.Rows, image.Columns)), detection=detection,
    )  # fmt: skip
    group.texts.append(statement.detection(detection, len(prediction.frames), naming.language))
    own = [finding for finding in prediction.findings if finding.detection == detection.number]
    if not any(f.condition == detection.type and f.probability is not None for f in own):
        group.score(detection, _decided_by(prediction, detection))
    group.measure(detection.measurements)
    for finding in own:
        group.find(finding)
    for grade in prediction.grades:
        if grade.detection == detection.number:
            group.grade(grade)
    return group


def _decided_by(prediction: Prediction, detection: Detection) -> Finding | None:
    """The statement about the series whose operating point let a detection pass."""
    return next((f for f in prediction.findings if f.detection is None and f.condition == detection.type), None)


def _whole(circumstance: Circumstance, labels: Labels | None, counts: npt.NDArray[np.int64] | None) -> Group:
    """The series as a whole, shown by the rectangle around all segments on their key slice."""
    naming, prediction = circumstance.naming, circumstance.naming.prediction
    box = None if labels is None or counts is None else region.key_box(labels, counts)
    if box is None or prediction.mask is None:
        raise Rejected(f"the mask of prediction {prediction.key} is empty: its report has no geometry")
    kinds = {segment.type for segment in prediction.segments}
    common = kinds.pop() if len(kinds) == 1 else naming.language.code(coding.ANATOMICAL_STRUCTURE)
    return Group(
        uid=naming.tracking_uid(0), identifier=naming.tracking_id(0), finding=common,
        category=prediction.segments[0].category, region=box, frame=prediction.mask.frames[box.frame],
        language=naming.language,
    )  # fmt: skip


def _of_image(circumstance: Circumstance, first: Group) -> Group:
    """The series as a whole where nothing was segmented, shown by the border of the image of the first detection."""
    naming = circumstance.naming
    image = circumstance.source.image(first.frame.sop_instance_uid)
    structure = naming.language.code(coding.ANATOMICAL_STRUCTURE)
    return Group(
        uid=naming.tracking_uid(0), identifier=naming.tracking_id(0), finding=structure, category=structure,
        region=region.border(first.region.frame, (image.Rows, image.Columns)), frame=first.frame,
        language=naming.language,
    )  # fmt: skip


def _say_outcome(whole: Group, made: list[Group], empty: list[Segment], circumstance: Circumstance) -> None:
    """What is said of the series as a whole: how it went, how urgent it is, what belongs to no outline."""
    prediction, language = circumstance.naming.prediction, whole.language
    whole.evaluate(coding.ANALYSIS_PERFORMED, coding.STATUS[prediction.status], 0)
    if prediction.reason is not None:
        whole.evaluate(coding.QUALITY_FINDING, prediction.reason.code, 1)
    if statement.is_actionable(prediction):
        whole.evaluate(coding.PRIORITY, coding.URGENCY[prediction.category])
    whole.measure(prediction.measurements)
    shown = {group.segment for group in made if group.segment}
    for finding in prediction.findings:
        if finding.detection is None and finding.segment not in shown:
            whole.find(finding)
    for grade in prediction.grades:
        if grade.detection is None:
            whole.grade(grade)
    for segment in empty:
        whole.measure(segment.measurements, of=segment.type)
        if prediction.mask is not None:
            whole.texts.append(statement.empty(segment, language))
    whole.texts[:0] = statement.outcome(prediction, language)
    whole.texts += [
        *statement.scope(prediction, language),
        statement.urgency(prediction, language),
        *statement.caution(prediction, language),
        *statement.remarks(prediction, circumstance.remarks, language),
    ]
