"""Says a result without geometry as a Basic Text SR: a negative, a failure, a series that was not analysed.

Viewers show this as text as it stands; an empty measurement report blanks some of them (TID 2000).
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.results import coding, statement
from dicom_node.results.document import (
    BASIC_TEXT_SR,
    Circumstance,
    algorithm,
    code,
    container,
    document,
    image,
    language,
    observer,
    text,
    uid_reference,
)
from dicom_node.results.statement import is_actionable
from storage.facts.prediction import Prediction


def text_report(circumstance: Circumstance) -> Dataset:
    """The Basic Text SR of a prediction."""
    naming = circumstance.naming
    sections = [
        container(coding.FINDINGS, _findings(naming.prediction)),
        container(coding.CONCLUSIONS, _conclusions(circumstance)),
        container(coding.CURRENT_PROCEDURE_DESCRIPTIONS, _procedure(circumstance)),
    ]
    items = [language(), *observer(naming), *sections]
    root = container(coding.DIAGNOSTIC_IMAGING_REPORT, items, relation=None, template="2000")
    return document(BASIC_TEXT_SR, root, circumstance)


def _findings(prediction: Prediction) -> list[Dataset]:
    items = [text(coding.FINDING, sentence) for sentence in statement.outcome(prediction)]
    items.append(code(coding.ANALYSIS_PERFORMED, coding.STATUS[prediction.status]))
    if prediction.reason is not None:
        items.append(code(coding.QUALITY_FINDING, prediction.reason.code))
    if not statement.was_analysed(prediction):
        return items  # whatever else the run left behind is no statement about the images
    for finding in prediction.findings:
        items.append(code(finding.condition, coding.PRESENCE[finding.presence]))
        items.append(text(coding.FINDING, statement.finding(finding)))
    items += [text(coding.FINDING, statement.measurement(given)) for given in prediction.measurements]
    for segment in prediction.segments:
        if prediction.mask is not None:
            items.append(text(coding.FINDING, statement.empty(segment)))
        items += [text(coding.FINDING, statement.measurement(given, segment.label)) for given in segment.measurements]
    return [*items, *(text(coding.FINDING, sentence) for sentence in statement.scope(prediction))]


def _conclusions(circumstance: Circumstance) -> list[Dataset]:
    prediction = circumstance.naming.prediction
    sentences = [
        statement.urgency(prediction),
        *statement.caution(prediction),
        *statement.remarks(prediction, circumstance.remarks),
    ]
    urgent = [code(coding.PRIORITY, coding.URGENCY[prediction.category])] if is_actionable(prediction) else []
    return [*urgent, *(text(coding.CONCLUSION, sentence) for sentence in sentences)]


def _procedure(circumstance: Circumstance) -> list[Dataset]:
    """What was looked at, and by what."""
    source = circumstance.source
    number = f"series {source.number}" if source.number else "series"
    named = f" '{source.description}'" if source.description else ""
    looked_at = f"{source.modality or 'Image'} {number}{named}"
    return [
        text(coding.PROCEDURE_DESCRIPTION, looked_at),
        uid_reference(coding.SERIES_UID, source.series_uid),
        image(source.images[len(source.images) // 2]),
        *algorithm(circumstance.naming.prediction.algorithm, "CONTAINS"),
    ]
