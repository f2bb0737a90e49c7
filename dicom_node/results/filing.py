"""Begins an object that no scanner made: the patient and study of its source, a series of its own, our name."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.results.identity import Naming, sign
from dicom_node.results.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """What is filed, and as what."""

    sop_class_uid: str
    modality: str
    kind: str  #: see profiles


def begin(naming: Naming, source: Source, filing: Filing) -> Dataset:
    """A data set with Patient, Study, Series, Equipment and identity; of a document unless it is given a body part."""
    dataset = Dataset()
    dataset.update({element.tag: element for element in source.header})
    if "BodyPartExamined" in dataset:
        del dataset.BodyPartExamined  # no attribute of a document
    dataset.SOPClassUID = filing.sop_class_uid
    dataset.Modality = filing.modality
    sign(dataset, naming, filing.kind)
    return dataset
