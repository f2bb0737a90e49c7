"""Says a result with geometry as a Comprehensive 3D SR: TID 1500 with planar groups only (TID 1410).

Every group has exactly one outline with exactly one image. That is what the standard's planar template asks for, and a
group without one blanks a widespread viewer, so numbers of a volume stand in the group of its key slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    ImageRegion,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForRegion,
    TrackingIdentifier,
)
from highdicom.sr import Measurement as MeasurementTemplate
from pydicom.dataset import Dataset

from dicom_node.config import MODEL_NAME
from dicom_node.results import coding, profiles, region, statement
from dicom_node.results.coding import concept
from dicom_node.results.document import (
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    Circumstance,
    code,
    container,
    document,
    image,
    text,
)
from dicom_node.results.identity import Naming
from dicom_node.results.region import Region
from dicom_node.results.statement import is_actionable
from storage.facts.errors import Rejected
from storage.facts.prediction import Code, Finding, Frame, Mask, Measurement, Prediction, Segment

Labels = npt.NDArray[np.uint8]


@dataclass(slots=True, kw_only=True)
class _Group:
    """One measurement group while it is put together."""

    tracking: int  #: number of the segment, 0 for the result as a whole
    finding: Code
    category: Code
    region: Region
    measurements: list[Dataset]
    evaluations: list[tuple[Code, Code]]
    texts: list[str]


def measurement_report(circumstance: Circumstance, labels: Labels, counts: npt.NDArray[np.int64]) -> Dataset:
    """The Comprehensive 3D SR of a prediction whose mask is not empty.

    ``counts`` are ``region.areas`` of the labels. Raises Rejected where the mask is empty or does not fit its frames.
    """
    naming, prediction = circumstance.naming, circumstance.naming.prediction
    if prediction.mask is None:
        raise Rejected(f"prediction {prediction.key} has no mask: its report has no geometry")
    groups = _groups(prediction, labels, counts, circumstance.remarks)
    templates = [_template(naming, prediction.mask, group) for group in groups]
    modality = circumstance.source.modality
    report = MeasurementReport(
        observation_context=_observer(naming),
        procedure_reported=concept(coding.PROCEDURE.get(modality, coding.IMAGING_PROCEDURE)),
        imaging_measurements=templates,
        title=concept(coding.IMAGING_MEASUREMENT_REPORT),
    )
    root = Dataset()
    root.update({element.tag: element for element in report[0]})
    frames = [prediction.mask.frames[group.region.frame] for group in groups]
    items = list(report[0].ContentSequence)
    items.insert(_place_of_library(items), _library(circumstance, frames))
    root.ContentSequence = items
    # No outline is in three dimensions: the content is the same in either class.
    newer = circumstance.kind != profiles.SR_COMPREHENSIVE
    return document(COMPREHENSIVE_3D_SR if newer else COMPREHENSIVE_SR, root, circumstance)


def _groups(
    prediction: Prediction, labels: Labels, counts: npt.NDArray[np.int64], remarks: Sequence[str]
) -> list[_Group]:
    """A group for the whole, then one for each segment that has pixels; one segment alone is the whole."""
    shown: list[_Group] = []
    empty: list[Segment] = []
    for segment in prediction.segments:
        found = region.key_region(labels, counts, segment.number)
        if found is None:
            empty.append(segment)
        else:
            shown.append(_of_segment(prediction, segment, found))
    if not shown:
        raise Rejected(f"the mask of prediction {prediction.key} is empty: its report has no geometry")
    whole = shown[0] if len(shown) == 1 else _whole(prediction, labels, counts)
    _say_outcome(whole, prediction, empty, remarks)
    return shown if len(shown) == 1 else [whole, *shown]


def _of_segment(prediction: Prediction, segment: Segment, found: Region) -> _Group:
    group = _Group(
        tracking=segment.number, finding=segment.type, category=segment.category, region=found,
        measurements=[], evaluations=[], texts=[],
    )  # fmt: skip
    _measure(group, segment.measurements)
    for finding in prediction.findings:
        if finding.segment == segment.number:
            _say_finding(group, finding)
    return group


def _whole(prediction: Prediction, labels: Labels, counts: npt.NDArray[np.int64]) -> _Group:
    box = region.key_box(labels, counts)
    if box is None:
        raise Rejected(f"the mask of prediction {prediction.key} is empty: its report has no geometry")
    kinds = {segment.type for segment in prediction.segments}
    common = kinds.pop() if len(kinds) == 1 else coding.ANATOMICAL_STRUCTURE
    return _Group(
        tracking=0, finding=common, category=prediction.segments[0].category, region=box,
        measurements=[], evaluations=[], texts=[],
    )  # fmt: skip


def _say_outcome(group: _Group, prediction: Prediction, empty: Sequence[Segment], remarks: Iterable[str]) -> None:
    """What is said of the series as a whole: how it went, how urgent it is, what belongs to no outline."""
    group.evaluations.insert(0, (coding.ANALYSIS_PERFORMED, coding.STATUS[prediction.status]))
    if prediction.reason is not None:
        group.evaluations.insert(1, (coding.QUALITY_FINDING, prediction.reason.code))
    if is_actionable(prediction):
        group.evaluations.append((coding.PRIORITY, coding.URGENCY[prediction.category]))
    _measure(group, prediction.measurements)
    gone = {segment.number for segment in empty}
    shown = {segment.number for segment in prediction.segments} - gone
    for finding in prediction.findings:
        if finding.segment not in shown:
            _say_finding(group, finding)
    for segment in empty:
        _measure(group, segment.measurements, of=segment.type)
        group.texts.append(statement.empty(segment))
    group.texts[:0] = statement.outcome(prediction)
    group.texts += statement.scope(prediction)
    group.texts += [statement.urgency(prediction), *statement.caution(prediction)]
    group.texts += statement.remarks(prediction, remarks)


def _say_finding(group: _Group, finding: Finding) -> None:
    """Presence as a code, probability and operating point as numbers that name their condition."""
    group.evaluations.append((finding.condition, coding.PRESENCE[finding.presence]))
    group.texts.append(statement.finding(finding))
    if finding.probability is None:
        return
    given = [(coding.PROBABILITY, finding.probability, "")]
    if finding.threshold is not None:
        given.append((coding.THRESHOLD, finding.threshold, finding.threshold_source))
    for name, value, origin in given:
        measured = Measurement(name=name, value=value, unit=coding.NO_UNITS, digits=4, method=origin)
        _measure(group, [measured], of=finding.condition)


def _measure(group: _Group, measurements: Iterable[Measurement], of: Code | None = None) -> None:
    """Append NUM items (TID 1419); ``of`` says what a number is about when it is not the group's finding."""
    for given in measurements:
        if not math.isfinite(given.value):
            group.texts.append(f"{given.name.meaning} could not be computed.")
            continue
        value = round(given.value, given.digits)
        number: Dataset = MeasurementTemplate(concept(given.name), value, concept(given.unit))[0]
        children = [code(coding.FINDING, of, "HAS CONCEPT MOD")] if of is not None else []
        if given.method:
            children.append(text(coding.COMMENT, given.method, "HAS PROPERTIES"))
        if children:
            number.ContentSequence = [*number.get("ContentSequence", []), *children]
        group.measurements.append(number)


def _template(naming: Naming, mask: Mask, group: _Group) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    frame = mask.frames[group.region.frame]
    outline = ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=group.region.points,
        source_image=SourceImageForRegion(
            referenced_sop_class_uid=frame.sop_class_uid,
            referenced_sop_instance_uid=frame.sop_instance_uid,
            referenced_frame_numbers=None if frame.number is None else [frame.number],
        ),
    )
    made = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=naming.tracking_uid(group.tracking), identifier=naming.tracking_id(group.tracking)
        ),
        referenced_region=outline,
        finding_type=concept(group.finding),
        finding_category=concept(group.category),
        algorithm_id=_algorithm(naming),
        qualitative_evaluations=[QualitativeEvaluation(concept(n), concept(v)) for n, v in group.evaluations],
    )
    items = made[0].ContentSequence
    for item in (*group.measurements, *(text(coding.COMMENT, sentence) for sentence in group.texts)):
        items.append(item)
    return made


def _algorithm(naming: Naming) -> AlgorithmIdentification:
    given = naming.prediction.algorithm
    digest = f"SHA-256 of manifest and weights: {given.digest}"
    return AlgorithmIdentification(
        name=f"{given.name} ({given.package})",
        version=given.version,
        parameters=[digest, *(f"{name}: {value}" for name, value in given.parameters)],
        family=concept(given.family),
        manufacturer=given.manufacturer or None,
    )


def _observer(naming: Naming) -> ObservationContext:
    node = naming.node
    device = DeviceObserverIdentifyingAttributes(
        uid=naming.device_uid,
        name=node.station_name or naming.prediction.algorithm.package,
        manufacturer_name=node.manufacturer,
        model_name=MODEL_NAME,
        serial_number=node.serial_number,
    )
    context = ObserverContext(observer_type=concept(coding.DEVICE), observer_identifying_attributes=device)
    return ObservationContext(observer_device_context=context)


def _library(circumstance: Circumstance, frames: Sequence[Frame]) -> Dataset:
    """The images that outlines lie on, by reference only (TID 1600): descriptors of a thick series cost megabytes."""
    modality = coding.MODALITIES.get(circumstance.source.modality, coding.OTHER_MODALITY)
    used = {frame.sop_instance_uid: frame for frame in frames}
    entries = [image(circumstance.source.image(uid)) for uid in used]
    group = container(coding.IMAGE_LIBRARY_GROUP, [code(coding.MODALITY, modality, "HAS ACQ CONTEXT"), *entries])
    return container(coding.IMAGE_LIBRARY, [group])


def _place_of_library(items: Sequence[Dataset]) -> int:
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in items]
    return names.index(coding.IMAGING_MEASUREMENTS.value)
