"""Says a result with geometry as a Comprehensive 3D SR: TID 1500 with planar groups only (TID 1410).

Every group has exactly one outline or point with exactly one image. That is what the standard's planar template asks
for, and a group without one blanks a widespread viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    ImageRegion,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset

from dicom_node.config import MODEL_NAME
from dicom_node.results import coding, profiles
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
from dicom_node.results.groups import Group, groups
from dicom_node.results.identity import Naming
from dicom_node.results.normal import line, paragraphs
from dicom_node.results.region import Labels
from storage.facts.prediction import Code, Frame


def measurement_report(
    circumstance: Circumstance, labels: Labels | None, counts: npt.NDArray[np.int64] | None
) -> Dataset:
    """The Comprehensive 3D SR of a prediction with a mask that is not empty, or with detections.

    ``counts`` are ``region.areas`` of the labels. Raises Rejected where there is neither.
    """
    naming = circumstance.naming
    made = groups(circumstance, labels, counts)
    root = tree(circumstance, [_template(naming, group) for group in made], [group.frame for group in made])
    # No outline is in three dimensions: the content is the same in either class.
    newer = circumstance.kind != profiles.SR_COMPREHENSIVE
    return document(COMPREHENSIVE_3D_SR if newer else COMPREHENSIVE_SR, root, circumstance)


def tree(circumstance: Circumstance, templates: Sequence[Any], frames: Sequence[Frame]) -> Dataset:
    """The content of TID 1500 around measurement groups on so many images."""
    naming, modality = circumstance.naming, circumstance.source.modality
    spoken = Code(value=naming.language.tag, scheme="RFC5646", meaning=naming.language.name)
    report = MeasurementReport(
        observation_context=_observer(naming),
        procedure_reported=concept(coding.PROCEDURE.get(modality, coding.IMAGING_PROCEDURE)),
        imaging_measurements=templates,
        title=concept(coding.IMAGING_MEASUREMENT_REPORT),
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(concept(spoken)),
    )
    root = Dataset()
    root.update({element.tag: element for element in report[0]})
    items = list(report[0].ContentSequence)
    items.insert(_place_of_library(items), _library(circumstance, frames))
    root.ContentSequence = items
    return root


def _template(naming: Naming, group: Group) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """A group as TID 1410."""
    outline = ImageRegion(
        graphic_type="POINT" if len(group.region.points) == 1 else "POLYLINE",
        graphic_data=group.region.points,
        source_image=SourceImageForRegion(
            referenced_sop_class_uid=group.frame.sop_class_uid,
            referenced_sop_instance_uid=group.frame.sop_instance_uid,
            referenced_frame_numbers=None if group.frame.number is None else [group.frame.number],
        ),
    )
    made = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=group.uid, identifier=group.identifier),
        referenced_region=outline,
        finding_type=concept(group.finding),
        finding_category=concept(group.category),
        algorithm_id=algorithm_of(naming),
        qualitative_evaluations=evaluations_of(group),
    )
    complete(made, group)
    return made


def evaluations_of(group: Group) -> list[QualitativeEvaluation]:
    """What a group says in codes."""
    return [QualitativeEvaluation(concept(name), concept(value)) for name, value in group.evaluations]


def complete(made: Sequence[Dataset], group: Group) -> None:
    """Add the numbers and sentences of a group, which highdicom would copy item by item."""
    items = made[0].ContentSequence
    for item in (*group.measurements, *(text(coding.COMMENT, sentence) for sentence in group.texts)):
        items.append(item)


def algorithm_of(naming: Naming) -> AlgorithmIdentification:
    """Who computed it (TID 4019)."""
    given = naming.prediction.algorithm
    digest = f"SHA-256 of manifest and weights: {given.digest}"
    return AlgorithmIdentification(
        name=line(f"{given.name} ({given.package})"),
        version=given.version,
        parameters=[digest, *(paragraphs(f"{name}: {value}") for name, value in given.parameters)],
        family=concept(given.family),
        manufacturer=line(given.manufacturer) or None,
    )


def _observer(naming: Naming) -> ObservationContext:
    node = naming.node
    device = DeviceObserverIdentifyingAttributes(
        uid=naming.device_uid,
        name=line(node.station_name) or naming.prediction.algorithm.package,
        manufacturer_name=line(node.manufacturer),
        model_name=MODEL_NAME,
        serial_number=line(node.serial_number),
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
