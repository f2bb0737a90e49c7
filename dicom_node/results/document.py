"""Wraps a tree of content items into an SR document (PS3.3 A.35): patient, equipment, flags, evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from highdicom.sr import CodeContentItem, TextContentItem, UIDRefContentItem
from pydicom.dataset import Dataset

from dicom_node.config import MODEL_NAME
from dicom_node.results import coding
from dicom_node.results.coding import concept
from dicom_node.results.filing import Filing, begin
from dicom_node.results.identity import Naming, stamp
from dicom_node.results.normal import as_text, paragraphs
from dicom_node.results.source import Source
from dicom_node.results.statement import was_analysed
from storage.facts.prediction import Algorithm, Code, Status

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An object as evidence lists name it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str


def reference(dataset: Dataset) -> Reference:
    """The reference to an object."""
    return Reference(
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        study_uid=str(dataset.StudyInstanceUID),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstance:
    """All that a report is made from, besides the mask."""

    naming: Naming
    source: Source
    made: tuple[Dataset, ...] = ()  #: objects made of the same prediction before, such as its SEG
    predecessors: tuple[Reference, ...] = ()  #: what this result replaces
    remarks: tuple[str, ...] = ()  #: for the reader, besides the prediction's own warnings
    kind: str = "sr"  #: the document to make: sr, or sr-comprehensive and sr-text for archives that lack newer classes


def document(sop_class_uid: str, root: Dataset, circumstance: Circumstance) -> Dataset:
    """A complete, unverified, preliminary document with ``root`` as its content.

    The evidence is every image that was analysed and every object that was made of the analysis, referred to in the
    content or not (Current Requested Procedure Evidence Sequence, PS3.3 C.17.2).
    """
    naming, source = circumstance.naming, circumstance.source
    dataset = begin(naming, source, Filing(sop_class_uid=sop_class_uid, modality="SR", kind=circumstance.kind))
    dataset.update({element.tag: element for element in root})
    dataset.CompletionFlag = "COMPLETE" if naming.prediction.status is not Status.PARTIAL else "PARTIAL"
    if not was_analysed(naming.prediction):
        dataset.CompletionFlagDescription = "No analysis was made"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.PerformedProcedureCodeSequence = []
    dataset.ReferencedPerformedProcedureStepSequence = []
    evidence = [reference(image) for image in (*source.images, *circumstance.made)]
    dataset.CurrentRequestedProcedureEvidenceSequence = hierarchy(evidence)
    private = sorted({scheme for scheme in _schemes(root) if scheme.startswith("99")})
    if private:
        dataset.CodingSchemeIdentificationSequence = [_scheme(scheme, naming) for scheme in private]
    if circumstance.predecessors:
        dataset.PredecessorDocumentsSequence = hierarchy(circumstance.predecessors)
    stamp(dataset)
    return dataset


def _schemes(item: Dataset) -> Iterator[str]:
    """The coding schemes that a content item and all below it use."""
    for keyword in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
        yield from (str(used.CodingSchemeDesignator) for used in item.get(keyword) or [])
    for child in item.get("ContentSequence") or []:
        yield from _schemes(child)


def _scheme(designator: str, naming: Naming) -> Dataset:
    """Who is responsible for a private coding scheme (PS3.3 C.12.1.1.17): the makers of the package that speaks it."""
    made = Dataset()
    made.CodingSchemeDesignator = designator
    made.CodingSchemeName = f"Private codes of package {naming.prediction.algorithm.package}"
    maker = naming.prediction.algorithm.manufacturer or naming.node.manufacturer
    made.CodingSchemeResponsibleOrganization = as_text(1024)(maker)
    return made


def hierarchy(references: Iterable[Reference]) -> list[Dataset]:
    """Studies, their series, their instances (Hierarchical SOP Instance Reference Macro, PS3.3 Table C.17-3)."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for one in references:
        instance = Dataset()
        instance.ReferencedSOPClassUID = one.sop_class_uid
        instance.ReferencedSOPInstanceUID = one.sop_instance_uid
        studies.setdefault(one.study_uid, {}).setdefault(one.series_uid, []).append(instance)
    return [_study(study, series) for study, series in studies.items()]


def _study(uid: str, series: dict[str, list[Dataset]]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID = uid
    study.ReferencedSeriesSequence = []
    for series_uid, instances in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        item.ReferencedSOPSequence = instances
        study.ReferencedSeriesSequence.append(item)
    return study


# --- content items ---------------------------------------------------------------------------------------------------


def text(name: Code, value: str, relation: str = "CONTAINS") -> Dataset:
    """A TEXT item."""
    return TextContentItem(concept(name), paragraphs(value), relation)


def code(name: Code, value: Code, relation: str = "CONTAINS") -> Dataset:
    """A CODE item."""
    return CodeContentItem(concept(name), concept(value), relation)


def uid_reference(name: Code, value: str, relation: str = "CONTAINS") -> Dataset:
    """A UIDREF item."""
    return UIDRefContentItem(concept(name), value, relation)


def container(name: Code, items: Sequence[Dataset], relation: str | None = "CONTAINS", template: str = "") -> Dataset:
    """A CONTAINER item; the root has no relation."""
    made = Dataset()
    if relation is not None:
        made.RelationshipType = relation
    made.ValueType = "CONTAINER"
    made.ConceptNameCodeSequence = [coding.item(name)]
    made.ContinuityOfContent = "SEPARATE"
    if template:
        used = Dataset()
        used.MappingResource, used.TemplateIdentifier = "DCMR", template
        made.ContentTemplateSequence = [used]
    made.ContentSequence = list(items)
    return made


def image(one: Dataset, frame: int | None = None, relation: str = "CONTAINS") -> Dataset:
    """An IMAGE item without a purpose; ``frame`` is 1-based."""
    made = Dataset()
    made.RelationshipType, made.ValueType = relation, "IMAGE"
    target = Dataset()
    target.ReferencedSOPClassUID, target.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    if frame is not None:
        target.ReferencedFrameNumber = frame
    made.ReferencedSOPSequence = [target]
    return made


# --- what every report says ------------------------------------------------------------------------------------------


def language(naming: Naming) -> Dataset:
    """TID 1204."""
    spoken = Code(value=naming.language.tag, scheme="RFC5646", meaning=naming.language.name)
    return code(coding.LANGUAGE, spoken, "HAS CONCEPT MOD")


def observer(naming: Naming) -> list[Dataset]:
    """The device that observed: TID 1002 and 1004."""
    node, context = naming.node, "HAS OBS CONTEXT"
    return [
        code(coding.OBSERVER_TYPE, coding.DEVICE, context),
        uid_reference(coding.DEVICE_UID, naming.device_uid, context),
        text(coding.DEVICE_NAME, node.station_name or naming.prediction.algorithm.package, context),
        text(coding.DEVICE_MANUFACTURER, node.manufacturer, context),
        text(coding.DEVICE_MODEL, MODEL_NAME, context),
        text(coding.DEVICE_SERIAL, node.serial_number, context),
    ]


def algorithm(given: Algorithm, relation: str = "HAS CONCEPT MOD") -> list[Dataset]:
    """Who computed it, exactly enough to compute it again: TID 4019."""
    parameters = [f"{name}: {value}" for name, value in given.parameters]
    digest = f"SHA-256 of manifest and weights: {given.digest}"
    return [
        code(coding.ALGORITHM_FAMILY, given.family, relation),
        text(coding.ALGORITHM_NAME, f"{given.name} ({given.package})", relation),
        text(coding.ALGORITHM_VERSION, given.version, relation),
        *(text(coding.ALGORITHM_PARAMETERS, value, relation) for value in (digest, *parameters)),
        *([text(coding.ALGORITHM_MANUFACTURER, given.manufacturer, relation)] if given.manufacturer else []),
    ]
