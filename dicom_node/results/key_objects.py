"""Says which images matter, or which objects no longer do, as a Key Object Selection (PS3.3 A.35.4, TID 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.results.document import Reference, container, hierarchy, language, observer, text
from dicom_node.results.filing import Filing, begin
from dicom_node.results.identity import Naming, stamp
from dicom_node.results.source import Source
from storage.facts.prediction import Code, Frame

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
OF_INTEREST = Code(value="113000", scheme="DCM", meaning="Of Interest")
REJECTED_FOR_QUALITY = Code(value="113001", scheme="DCM", meaning="Rejected for Quality Reasons")
_DESCRIPTION = Code(value="113012", scheme="DCM", meaning="Key Object Description")
_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.88."  #: SR documents, key objects among them
_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One object of a selection; ``frame`` is 1-based, of a multi-frame image."""

    reference: Reference
    frame: int | None = None


def of_interest(naming: Naming, source: Source, frames: Sequence[Frame], sentence: str) -> Dataset:
    """The images on which a model found what it looked for."""
    chosen = [
        Selected(
            reference=Reference(
                sop_class_uid=frame.sop_class_uid,
                sop_instance_uid=frame.sop_instance_uid,
                series_uid=source.series_uid,
                study_uid=source.study_uid,
            ),
            frame=frame.number,
        )
        for frame in frames
    ]
    return _selection(naming, source, "kos", OF_INTEREST, (sentence, chosen))


def rejection(naming: Naming, source: Source, retired: Sequence[Reference]) -> Dataset:
    """A note by which an archive hides earlier objects (IHE Image Object Change Management)."""
    sentence = "Superseded: a later result of the same series replaces these objects."
    chosen = [Selected(reference=one) for one in retired]
    return _selection(naming, source, "kos-rejection", REJECTED_FOR_QUALITY, (sentence, chosen))


def _selection(
    naming: Naming, source: Source, kind: str, title: Code, content: tuple[str, Sequence[Selected]]
) -> Dataset:
    sentence, chosen = content
    dataset = begin(naming, source, Filing(sop_class_uid=KEY_OBJECT_SELECTION, modality="KO", kind=kind))
    items = [language(naming), *observer(naming), text(_DESCRIPTION, sentence), *(_item(one) for one in chosen)]
    root = container(title, items, relation=None, template="2010")
    dataset.update({element.tag: element for element in root})
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = hierarchy(one.reference for one in chosen)
    stamp(dataset)
    return dataset


def _item(one: Selected) -> Dataset:
    """An IMAGE or COMPOSITE item; TID 2010 gives it no concept name."""
    made, target = Dataset(), Dataset()
    kind = one.reference.sop_class_uid
    composite = kind.startswith(_DOCUMENTS) or kind == _PDF
    made.RelationshipType, made.ValueType = "CONTAINS", "COMPOSITE" if composite else "IMAGE"
    target.ReferencedSOPClassUID = one.reference.sop_class_uid
    target.ReferencedSOPInstanceUID = one.reference.sop_instance_uid
    if one.frame is not None:
        target.ReferencedFrameNumber = one.frame
    made.ReferencedSOPSequence = [target]
    return made
