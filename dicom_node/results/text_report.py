"""Says a result without geometry as a Basic Text SR: a negative, a failure, a series that was not analysed.

Viewers show this as text as it stands; an empty measurement report blanks some of them (TID 2000). No item refers to
an image: OHIF 3.13.2 goes black over one without a name, and with one it shows "not supported". The evidence lists them
all.
"""

from __future__ import annotations

import textwrap

from pydicom.dataset import Dataset

from dicom_node.results import coding, statement
from dicom_node.results.document import (
    BASIC_TEXT_SR,
    Circumstance,
    algorithm,
    code,
    container,
    document,
    language,
    observer,
    text,
    uid_reference,
)
from dicom_node.results.identity import Naming
from storage.facts.prediction import Code

WIDTH = 88  #: characters; OHIF shows a finding without breaking its lines, and cuts off what is too long


def text_report(circumstance: Circumstance, *, marked: bool = False) -> Dataset:
    """The Basic Text SR of a prediction; ``marked`` where its mask marks something that is only not drawn here."""
    naming = circumstance.naming
    sections = [
        container(coding.FINDINGS, _findings(naming, marked)),
        container(coding.CONCLUSIONS, _conclusions(circumstance)),
        container(coding.CURRENT_PROCEDURE_DESCRIPTIONS, _procedure(circumstance)),
    ]
    items = [language(naming), *observer(naming), *sections]
    root = container(coding.DIAGNOSTIC_IMAGING_REPORT, items, relation=None, template="2000")
    return document(BASIC_TEXT_SR, root, circumstance)


def _findings(naming: Naming, marked: bool) -> list[Dataset]:
    prediction, spoken = naming.prediction, naming.language
    items = [_finding(sentence) for sentence in statement.outcome(prediction, spoken)]
    items.append(_coded(naming, coding.ANALYSIS_PERFORMED, coding.STATUS[prediction.status]))
    if prediction.reason is not None:
        items.append(_coded(naming, coding.QUALITY_FINDING, prediction.reason.code))
    if not statement.was_analysed(prediction):
        return items  # whatever else the run left behind is no statement about the images
    items += [_coded(naming, f.condition, coding.PRESENCE[f.presence]) for f in prediction.findings]
    items += [_coded(naming, g.question, g.answer or coding.UNDETERMINED) for g in prediction.grades]
    if prediction.mask is not None and not marked:
        items += [_finding(statement.empty(segment, spoken)) for segment in prediction.segments]
    said = [*statement.substance(prediction, spoken), *statement.scope(prediction, spoken)]
    return [*items, *(_finding(sentence) for sentence in said)]


def _coded(naming: Naming, name: Code, value: Code) -> Dataset:
    return code(naming.language.code(name), naming.language.code(value))


def _finding(sentence: str) -> Dataset:
    return text(coding.FINDING, "\r\n".join(textwrap.wrap(sentence, WIDTH)))


def _conclusions(circumstance: Circumstance) -> list[Dataset]:
    naming = circumstance.naming
    prediction, spoken = naming.prediction, naming.language
    sentences = [
        statement.urgency(prediction, spoken),
        *statement.caution(prediction, spoken),
        *statement.remarks(prediction, circumstance.remarks, spoken),
    ]
    category = coding.URGENCY[prediction.category]
    urgent = [_coded(naming, coding.PRIORITY, category)] if statement.is_actionable(prediction) else []
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
        *algorithm(circumstance.naming.prediction.algorithm, "CONTAINS"),
    ]
