"""The checker finds each of many planted faults, and nothing in what is right."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset

from dicom_node.results.check import faults
from dicom_node.results.document import image
from tests import builders
from tests.dicom_node.results.making import SOURCES, items, labels_on, made, whole

Spoil = Callable[[Dataset], object]


def container(report: Dataset) -> Dataset:
    return next(i for i in items(report) if i.ValueType == "CONTAINER" and name(i) == "126010")


def group(report: Dataset) -> Dataset:
    found: Dataset = container(report).ContentSequence[1]
    return found


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""


def child(parent: Dataset, code: str) -> Dataset:
    return next(item for item in parent.ContentSequence if name(item) == code)


def drop(parent: Dataset, code: str) -> None:
    parent.ContentSequence = [item for item in parent.ContentSequence if name(item) != code]


def unit(report: Dataset) -> Dataset:
    found: Dataset = child(group(report), "118565006").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    return found


COMMON: dict[str, tuple[Spoil, str]] = {
    "no patient ID": (lambda ds: delattr(ds, "PatientID"), "PatientID is missing"),
    "no study ID": (lambda ds: delattr(ds, "StudyID"), "StudyID is missing"),
    "a broken UID": (lambda ds: setattr(ds, "SeriesInstanceUID", "2.25.01"), "SeriesInstanceUID"),
    "a silent description": (lambda ds: setattr(ds, "SeriesDescription", "Lung"), "does not say that it is AI"),
    "another character set": (lambda ds: setattr(ds, "SpecificCharacterSet", "ISO_IR 100"), "SpecificCharacterSet"),
    "no software version": (lambda ds: delattr(ds, "SoftwareVersions"), "SoftwareVersions"),
    "no processing equipment": (lambda ds: delattr(ds, "ContributingEquipmentSequence"), "109102"),
    "meta of another object": (
        lambda ds: setattr(ds.file_meta, "MediaStorageSOPInstanceUID", "2.25.5"),
        "MediaStorageSOPInstanceUID",
    ),
}
DOCUMENT: dict[str, tuple[Spoil, str]] = {
    "a verified flag": (lambda ds: setattr(ds, "VerificationFlag", "VERIFIED"), "VerificationFlag"),
    "a final flag": (lambda ds: setattr(ds, "PreliminaryFlag", "FINAL"), "PreliminaryFlag"),
    "no completion flag": (lambda ds: delattr(ds, "CompletionFlag"), "CompletionFlag"),
    "no evidence": (lambda ds: delattr(ds, "CurrentRequestedProcedureEvidenceSequence"), "Evidence"),
    "no template": (lambda ds: delattr(ds, "ContentTemplateSequence"), "TID"),
    "no language": (lambda ds: drop(ds, "121049"), "language"),
    "no device": (lambda ds: drop(ds, "121012"), "device observer"),
    "another title": (lambda ds: setattr(ds.ConceptNameCodeSequence[0], "CodeValue", "126001"), "title"),
}
REPORT: dict[str, tuple[Spoil, str]] = {
    "no measurements": (lambda ds: drop(ds, "126010"), "0 Imaging Measurements containers"),
    "no groups": (lambda ds: setattr(container(ds), "ContentSequence", []), "no group"),
    "no procedure": (lambda ds: drop(ds, "121058"), "Procedure reported"),
    "a procedure from elsewhere": (
        lambda ds: setattr(child(ds, "121058").ConceptCodeSequence[0], "CodeValue", "399208008"),
        "CID 100",
    ),
    "no tracking identifier": (lambda ds: drop(group(ds), "112039"), "Tracking Identifier is there 0 times"),
    "no tracking UID": (lambda ds: drop(group(ds), "112040"), "Tracking Unique Identifier is there 0 times"),
    "one tracking UID twice": (
        lambda ds: setattr(child(group(ds), "112040"), "UID", child(container(ds).ContentSequence[2], "112040").UID),
        "same tracking UID",
    ),
    "no finding": (lambda ds: drop(group(ds), "121071"), "Finding is there 0 times"),
    "no outline": (lambda ds: drop(group(ds), "111030"), "0 outlines"),
    "two outlines": (
        lambda ds: group(ds).ContentSequence.append(copy.deepcopy(child(group(ds), "111030"))),
        "2 outlines",
    ),
    "an outline without image": (
        lambda ds: setattr(child(group(ds), "111030"), "ContentSequence", []),
        "exactly one image",
    ),
    "an open outline": (
        lambda ds: setattr(child(group(ds), "111030"), "GraphicData", [1, 1, 5, 1, 5, 5, 1, 5]),
        "not closed",
    ),
    "an outline off the image": (
        lambda ds: setattr(child(group(ds), "111030"), "GraphicData", [-3, 1, 5, 1, 5, 5, -3, 1]),
        "leaves the image",
    ),
    "an ellipse": (lambda ds: setattr(child(group(ds), "111030"), "GraphicType", "ELLIPSE"), "POLYLINE"),
    "an image that is not evidence": (
        lambda ds: setattr(
            child(group(ds), "111030").ContentSequence[0].ReferencedSOPSequence[0], "ReferencedSOPInstanceUID", "1.2.3"
        ),
        "image 1.2.3 is referred to",
    ),
    "a wrong relationship": (
        lambda ds: setattr(child(group(ds), "112039"), "RelationshipType", "HAS PROPERTIES"),
        "may not stand",
    ),
    "a tracking identifier as content": (
        lambda ds: setattr(child(group(ds), "112039"), "RelationshipType", "CONTAINS"),
        "Tracking Identifier is not a TEXT that HAS OBS CONTEXT",
    ),
    "a private unit": (lambda ds: setattr(unit(ds), "CodingSchemeDesignator", "99X"), "UCUM"),
    "a number without value": (
        lambda ds: setattr(child(group(ds), "118565006"), "MeasuredValueSequence", []),
        "no MeasuredValueSequence",
    ),
    "a probability in percent": (
        lambda ds: setattr(
            child(container(ds).ContentSequence[0], "122157").MeasuredValueSequence[0], "NumericValue", "83"
        ),
        "between 0 and 1",
    ),
    "no algorithm name": (lambda ds: drop(group(ds), "111001"), "Algorithm Name is there 0 times"),
    "no algorithm version": (lambda ds: drop(group(ds), "111003"), "Algorithm Version is there 0 times"),
    "no algorithm family": (lambda ds: drop(group(ds), "111000"), "Algorithm Family is there 0 times"),
    "no status": (lambda ds: drop(container(ds).ContentSequence[0], "111004"), "run status"),
    "a priority of our own": (
        lambda ds: setattr(
            child(container(ds).ContentSequence[0], "260870009").ConceptCodeSequence[0], "CodeValue", "RID1"
        ),
        "CID 7035",
    ),
    "a code without meaning": (
        lambda ds: setattr(child(group(ds), "121071").ConceptCodeSequence[0], "CodeMeaning", ""),
        "lacks its value, scheme or meaning",
    ),
    "an item without name": (
        lambda ds: delattr(child(group(ds), "121071"), "ConceptNameCodeSequence"),
        "no concept name",
    ),
    "a group of another name": (
        lambda ds: setattr(group(ds).ConceptNameCodeSequence[0], "CodeValue", "125008"),
        "no Measurement Group",
    ),
}
TEXT: dict[str, tuple[Spoil, str]] = {
    "no findings section": (lambda ds: drop(ds, "121070"), "silence could be read as normal"),
    "no sentence": (
        lambda ds: setattr(
            child(ds, "121070"),
            "ContentSequence",
            [i for i in child(ds, "121070").ContentSequence if i.ValueType != "TEXT"],
        ),
        "silence could be read as normal",
    ),
    "no status": (lambda ds: drop(child(ds, "121070"), "111004"), "run status"),
    "no reason": (lambda ds: drop(child(ds, "121070"), "111052"), "no reason"),
    "a number in a text report": (
        lambda ds: setattr(child(ds, "121070").ContentSequence[0], "ValueType", "NUM"),
        "not allowed in a Basic Text SR",
    ),
    "an image over which a viewer goes black": (
        lambda ds: child(ds, "121064").ContentSequence.append(image(builders.slices()[0])),
        "not allowed in a Basic Text SR",
    ),
    "no algorithm": (lambda ds: drop(child(ds, "121064"), "111003"), "Algorithm Version"),
}
SEG: dict[str, tuple[Spoil, str]] = {
    "a fractional type": (lambda ds: setattr(ds, "SegmentationType", "FRACTIONAL"), "not BINARY"),
    "segments from 2": (lambda ds: setattr(ds.SegmentSequence[0], "SegmentNumber", 2), "numbered"),
    "segments out of order": (lambda ds: ds.SegmentSequence.reverse(), "numbered"),
    "a long label": (lambda ds: setattr(ds.SegmentSequence[0], "SegmentLabel", "L" * 65), "1 to 64 characters"),
    "no tracking": (lambda ds: delattr(ds.SegmentSequence[0], "TrackingUID"), "tracking UIDs"),
    "no colour": (lambda ds: delattr(ds.SegmentSequence[1], "RecommendedDisplayCIELabValue"), "CIELab"),
    "no type": (
        lambda ds: delattr(ds.SegmentSequence[1], "SegmentedPropertyTypeCodeSequence"),
        "SegmentedPropertyTypeCodeSequence",
    ),
    "a manual algorithm": (
        lambda ds: setattr(ds.SegmentSequence[1], "SegmentAlgorithmType", "MANUAL"),
        "not AUTOMATIC",
    ),
    "no algorithm": (
        lambda ds: delattr(ds.SegmentSequence[1], "SegmentationAlgorithmIdentificationSequence"),
        "lacks name or version",
    ),
    "no series": (lambda ds: delattr(ds, "ReferencedSeriesSequence"), "exactly one series"),
    "a frame too few": (lambda ds: ds.PerFrameFunctionalGroupsSequence.pop(), "NumberOfFrames"),
    "a wrong frame count": (lambda ds: setattr(ds, "NumberOfFrames", 3), "NumberOfFrames"),
    "pixels cut short": (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-10]), "PixelData has"),
    "no spacing": (lambda ds: delattr(ds.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"), "PixelSpacing"),
    "no orientation": (
        lambda ds: delattr(ds.SharedFunctionalGroupsSequence[0], "PlaneOrientationSequence"),
        "Plane Orientation",
    ),
    "no position": (
        lambda ds: delattr(ds.PerFrameFunctionalGroupsSequence[0], "PlanePositionSequence"),
        "plane position is missing",
    ),
    "a frame of no segment": (
        lambda ds: setattr(
            ds.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0], "ReferencedSegmentNumber", 7
        ),
        "not in SegmentSequence",
    ),
    "a frame twice": (
        lambda ds: setattr(
            ds.PerFrameFunctionalGroupsSequence[1],
            "PlanePositionSequence",
            ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence,
        ),
        "at the same place",
    ),
    "a foreign source": (
        lambda ds: setattr(
            ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0],
            "ReferencedSOPInstanceUID",
            "1.2.3",
        ),
        "not in ReferencedSeriesSequence",
    ),
    "no frame of reference": (lambda ds: delattr(ds, "FrameOfReferenceUID"), "FrameOfReferenceUID"),
    "a small-letter label": (lambda ds: ds.__setattr__("ContentLabel", "a"), "ContentLabel"),
    "other dimensions": (
        lambda ds: setattr(ds.DimensionIndexSequence[0], "DimensionOrganizationUID", "2.25.7"),
        "DimensionOrganizationSequence",
    ),
}


@pytest.fixture(scope="module")
def objects() -> dict[str, Dataset]:
    sources = builders.slices()
    text = made(builders.failure(sources), None, sources)["sr"]
    return whole(sources) | {"text": text}


PLANTED = [
    *(("seg", f, *v) for f, v in (COMMON | SEG).items()),
    *(("sr", f, *v) for f, v in (COMMON | DOCUMENT | REPORT).items()),
    *(("text", f, *v) for f, v in (COMMON | DOCUMENT | TEXT).items()),
]


@pytest.mark.parametrize(
    ("kind", "fault", "spoil", "said"), PLANTED, ids=[f"{kind}: {fault}" for kind, fault, _, _ in PLANTED]
)
@pytest.mark.filterwarnings("ignore:.*")  # pydicom warns of the planted values
def test_a_planted_fault_is_found_and_named(
    objects: dict[str, Dataset], kind: str, fault: str, spoil: Spoil, said: str
) -> None:
    ds = copy.deepcopy(objects[kind])
    spoil(ds)
    assert [found for found in faults(ds) if said in found], f"{fault}: {faults(ds)}"


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_found_in_what_is_right(name: str) -> None:
    sources = SOURCES[name]()
    everything = [*whole(sources).values(), *made(builders.failure(sources), None, sources).values()]
    assert [fault for ds in everything for fault in faults(ds)] == []


def test_an_object_that_is_none_of_ours_is_no_result() -> None:
    for ds in (builders.slices(1)[0], builders.loop()):
        assert [found for found in faults(ds) if "none that this node sends" in found]


def test_a_malformed_object_is_a_fault_and_no_exception(objects: dict[str, Dataset]) -> None:
    ds = copy.deepcopy(objects["seg"])
    del ds["SegmentSequence"]
    ds.add_new(0x00620002, "LO", "no sequence")
    assert faults(ds)


def test_it_takes_milliseconds(objects: dict[str, Dataset]) -> None:
    started = time.process_time()
    for ds in objects.values():
        faults(ds)
    assert time.process_time() - started < 0.3


def test_labels_were_there_to_be_checked() -> None:
    assert set(labels_on(builders.slices()).ravel().tolist()) == {0, 1, 2}
