"""Every kind of object, from every kind of source: valid, complete, and saying the same."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.config import DestinationSection
from dicom_node.results import profiles
from dicom_node.results.check import faults
from dicom_node.results.document import reference
from dicom_node.results.looking import NoPixels, look
from dicom_node.results.report import Order, compose
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Frame, Presence
from tests import builders
from tests.dicom_node.results import finding
from tests.dicom_node.results.making import (
    NODE,
    codes,
    labels_on,
    looking,
    ordered,
    through_bytes,
    tool,
)

EARLIER = builders.source(builders.CT, number=77)


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda p: p.name)
def test_dcentvfy_finds_what_a_destination_gets_to_be_of_one_study(profile: profiles.Profile, tmp_path: Path) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    prediction, read = finding.everything(sources, labels)
    order = Order(kinds=profile.kinds, look=looking(sources), read=read)
    composed = compose(prediction, labels, sources, NODE, builders.MADE_AT, order)
    assert {one.kind for one in composed} == set(profile.kinds) - {profiles.REJECTION}
    files = []
    for index, ds in enumerate([*sources, *map(through_bytes, composed)]):
        files.append(tmp_path / f"{index}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    ran = subprocess.run([tool("dcentvfy"), *files], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Error" not in ran.stderr + ran.stdout


def test_the_configuration_knows_the_profiles_that_there_are() -> None:
    known = get_args(DestinationSection.model_fields["profile"].annotation)
    assert set(known) == set(profiles.PROFILES)
    assert DestinationSection.model_fields["profile"].default == profiles.DEFAULT.name
    with pytest.raises(Misconfigured, match="known: orthanc-ohif"):
        profiles.profile("osirix")


def test_what_several_destinations_need_is_made_once_and_in_order() -> None:
    wanted = profiles.needed([profiles.PROFILES["classic-pacs"], profiles.PROFILES["slicer"]])
    assert wanted == ("seg", "image", "pmap", "sc", "sc-map", "sr", "sr-comprehensive", "sr-volumetric", "pdf")
    assert profiles.needed([]) == ("seg", "image", "pmap", "sr")


def test_the_older_report_says_the_same_under_a_uid_and_a_class_of_its_own() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    objects = ordered(builders.prediction(sources, labels), labels, sources)
    newer, older = objects["sr"], objects["sr-comprehensive"]
    assert (newer.SOPClassUID, older.SOPClassUID) == ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.33")
    assert newer.SOPInstanceUID != older.SOPInstanceUID
    assert codes(newer) == codes(older)


def test_objects_of_all_kinds_come_out_the_same_again() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    prediction, read = finding.everything(sources, labels)
    first = ordered(prediction, labels, sources, read=read)
    again = ordered(prediction, labels, sources, read=read)
    assert set(first) == set(profiles.KINDS) - {profiles.REJECTION}
    for kind, ds in first.items():
        assert ds == again[kind]
        assert ds.get("EncapsulatedDocument") == again[kind].get("EncapsulatedDocument")


def test_the_picture_names_its_image_and_has_no_patient_in_it() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    picture = ordered(builders.prediction(sources, labels), labels, sources)["sc"]
    key = int(np.argmax((labels > 0).sum(axis=(1, 2))))
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == sources[key].SOPInstanceUID
    assert list(picture.PatientOrientation) == ["L", "P"]
    assert picture.pixel_array.shape[1:] == (512, 3)
    outlined = picture.pixel_array[:512].reshape(-1, 3).astype(int)
    for segment in builders.segments():
        assert (np.abs(outlined - segment.colour).max(axis=1) < 4).sum() > 50


def test_a_negative_and_a_failure_get_a_picture_that_says_so() -> None:
    sources = builders.slices()
    absent = builders.prediction(sources, findings=(builders.finding(Presence.ABSENT),))
    for prediction in (absent, builders.failure(sources)):
        objects = ordered(prediction, None, sources)
        assert set(objects) == {"sc", "sr", "sr-comprehensive", "sr-text", "pdf"}
        assert objects["sc"].Rows > 512
        assert b"%PDF" in objects["pdf"].EncapsulatedDocument[:8]


def test_where_pixels_cannot_be_read_the_caption_is_sent_alone_and_the_report_says_why() -> None:
    def nothing(_frame: Frame) -> tuple[np.ndarray, Dataset]:
        raise NoPixels("the pixels of the source cannot be decoded (RuntimeError)")

    sources = builders.slices()
    labels = labels_on(sources)
    objects = ordered(builders.prediction(sources, labels), labels, sources, look=nothing)
    assert objects["sc"].Rows < 512
    texts = [item.get("TextValue", "") for item in walk(objects["sr"])]
    assert any("cannot be decoded (RuntimeError)" in text for text in texts)


def walk(item: Dataset) -> list[Dataset]:
    return [item, *(below for child in item.get("ContentSequence", []) for below in walk(child))]


def test_a_file_that_is_cut_short_has_no_pixels() -> None:
    buffer = io.BytesIO()
    builders.slices(1)[0].save_as(buffer, enforce_file_format=True)
    frame = builders.frames(builders.slices(1))[0]
    with pytest.raises(NoPixels, match="cannot be decoded"):
        look(io.BytesIO(buffer.getvalue()[:-500]), frame)


@pytest.mark.parametrize(("shared", "inverted"), [(True, False), (False, True)])
def test_frames_of_an_enhanced_image_are_rescaled_as_their_groups_say(shared: bool, inverted: bool) -> None:
    ds = builders.enhanced()
    item = Dataset()
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = (-2 if inverted else 2), -1000, "HU"
    holder = ds.SharedFunctionalGroupsSequence[0] if shared else ds.PerFrameFunctionalGroupsSequence[2]
    holder.PixelValueTransformationSequence = [item]
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    pixels, geometry = look(io.BytesIO(buffer.getvalue()), builders.frames([ds])[2])
    assert np.array_equal(pixels, dcmread(io.BytesIO(buffer.getvalue())).pixel_array[2] * item.RescaleSlope - 1000)
    assert (
        geometry.ImagePositionPatient
        == ds.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0][0x00200032].value
    )
    assert geometry.Modality == "CT"


def test_key_objects_are_the_slices_of_what_was_found_and_nothing_else() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    left = builders.finding(segment=2)
    chosen = ordered(builders.prediction(sources, labels, findings=(left,)), labels, sources)["kos"]
    key = int(np.argmax((labels == 2).sum(axis=(1, 2))))
    images = [i for i in chosen.ContentSequence if i.ValueType == "IMAGE"]
    assert [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in images] == [sources[key].SOPInstanceUID]
    assert chosen.ConceptNameCodeSequence[0].CodeValue == "113000"
    absent = builders.prediction(sources, labels, findings=(replace(left, presence=Presence.ABSENT),))
    assert "kos" not in ordered(absent, labels, sources)


def test_a_rejection_note_lists_what_it_retires() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    old = ordered(builders.prediction(sources, labels), labels, sources)
    prediction = builders.prediction(sources, labels, revision=1, key="again")
    note = ordered(prediction, labels, sources, retired=[reference(ds) for ds in old.values()])["kos-rejection"]
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    listed = {
        (i.ValueType, i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in note.ContentSequence[-len(old) :]
    }
    documents = {"sr", "sr-comprehensive", "sr-text", "sr-volumetric", "pdf", "kos"}
    assert listed == {("COMPOSITE" if k in documents else "IMAGE", ds.SOPInstanceUID) for k, ds in old.items()}


def mapping(ds: Dataset) -> Dataset:
    """What the values of a map mean."""
    found: Dataset = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    return found


def graphic(ds: Dataset) -> Dataset:
    """The first box of a presentation state."""
    found: Dataset = ds.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    return found


PLANTED: dict[str, tuple[str, Callable[[Dataset], None]]] = {
    "picture: not derived": ("sc", lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY"])),
    "picture: no source": ("sc", lambda ds: delattr(ds, "SourceImageSequence")),
    "picture: of itself": (
        "sc", lambda ds: setattr(ds.SourceImageSequence[0], "ReferencedSOPInstanceUID", ds.SOPInstanceUID)
    ),
    "picture: short": ("sc", lambda ds: setattr(ds, "Rows", ds.Rows + 1)),
    "picture: grey": ("sc", lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME2")),
    "picture: burnt in": ("sc", lambda ds: setattr(ds, "BurnedInAnnotation", "YES")),
    "picture: no conversion type": ("sc", lambda ds: delattr(ds, "ConversionType")),
    "page: no PDF": ("pdf", lambda ds: setattr(ds, "EncapsulatedDocument", b"%!PS" + bytes(96))),
    "page: length": ("pdf", lambda ds: setattr(ds, "EncapsulatedDocumentLength", 7)),
    "page: type": ("pdf", lambda ds: setattr(ds, "MIMETypeOfEncapsulatedDocument", "text/plain")),
    "page: says nobody is named": ("pdf", lambda ds: setattr(ds, "BurnedInAnnotation", "NO")),
    "page: no source": ("pdf", lambda ds: delattr(ds, "SourceInstanceSequence")),
    "page: modality": ("pdf", lambda ds: setattr(ds, "Modality", "OT")),
    "key objects: none": ("kos", lambda ds: setattr(ds, "ContentSequence", list(ds.ContentSequence[:-4]))),
    "key objects: title": ("kos", lambda ds: setattr(ds.ConceptNameCodeSequence[0], "CodeValue", "113003")),
    "key objects: evidence": ("kos", lambda ds: setattr(ds, "CurrentRequestedProcedureEvidenceSequence", [])),
    "key objects: purpose": (
        "kos",
        lambda ds: setattr(ds.ContentSequence[-1], "ConceptNameCodeSequence", list(ds.ConceptNameCodeSequence)),
    ),
    "key objects: template": ("kos", lambda ds: delattr(ds, "ContentTemplateSequence")),
    "key objects: modality": ("kos", lambda ds: setattr(ds, "Modality", "SR")),
    "map: integers": ("pmap", lambda ds: setattr(ds, "BitsAllocated", 16)),
    "map: no quantity": (
        "pmap", lambda ds: delattr(mapping(ds), "QuantityDefinitionSequence")
    ),
    "map: another scale": ("pmap", lambda ds: setattr(mapping(ds), "RealWorldValueSlope", 2.0)),
    "map: no unit": ("pmap", lambda ds: delattr(mapping(ds), "MeasurementUnitsCodeSequence")),
    "map: no frame of reference": ("pmap", lambda ds: delattr(ds, "FrameOfReferenceUID")),
    "map: cut short": ("pmap", lambda ds: setattr(ds, "FloatPixelData", ds.FloatPixelData[:-4])),
    "map: a frame too few": ("pmap", lambda ds: ds.PerFrameFunctionalGroupsSequence.pop()),
    "map: frames at one place": (
        "pmap",
        lambda ds: setattr(
            ds.PerFrameFunctionalGroupsSequence[1], "PlanePositionSequence",
            ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence,
        ),
    ),
    "map: no series": ("pmap", lambda ds: delattr(ds, "ReferencedSeriesSequence")),
    "map: no qualification": ("pmap", lambda ds: delattr(ds, "ContentQualification")),
    "map: no creator": ("pmap", lambda ds: setattr(ds, "ContentCreatorName", "")),
    "graphics: none": ("gsps", lambda ds: delattr(ds, "GraphicAnnotationSequence")),
    "graphics: another layer": ("gsps", lambda ds: setattr(ds.GraphicAnnotationSequence[0], "GraphicLayer", "X")),
    "graphics: another image": (
        "gsps",
        lambda ds: setattr(
            ds.GraphicAnnotationSequence[0].ReferencedImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3"
        ),
    ),
    "graphics: on the display": ("gsps", lambda ds: setattr(graphic(ds), "GraphicAnnotationUnits", "DISPLAY")),
    "graphics: open": ("gsps", lambda ds: setattr(graphic(ds), "GraphicData", [*graphic(ds).GraphicData[:-1], 1.0])),
    "graphics: outside": ("gsps", lambda ds: setattr(graphic(ds), "GraphicData", [-1.0] * 10)),
    "graphics: untracked": ("gsps", lambda ds: delattr(graphic(ds), "TrackingUID")),
    "graphics: of nobody": (
        "gsps",
        lambda ds: [
            setattr(text, "UnformattedTextValue", "nodule")
            for annotation in ds.GraphicAnnotationSequence
            for text in annotation.get("TextObjectSequence", [])
        ],
    ),
    "graphics: no area": ("gsps", lambda ds: delattr(ds, "DisplayedAreaSelectionSequence")),
    "graphics: no time": ("gsps", lambda ds: delattr(ds, "PresentationCreationDate")),
    "image: original": ("image", lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"])),
    "image: no source": ("image", lambda ds: delattr(ds, "SourceImageSequence")),
    "image: of itself": (
        "image", lambda ds: setattr(ds.SourceImageSequence[0], "ReferencedSOPInstanceUID", ds.SOPInstanceUID)
    ),
    "image: no method": ("image", lambda ds: delattr(ds, "DerivationCodeSequence")),
    "image: no description": ("image", lambda ds: delattr(ds, "DerivationDescription")),
    "image: no place": ("image", lambda ds: delattr(ds, "ImagePositionPatient")),
    "image: no frame of reference": ("image", lambda ds: delattr(ds, "FrameOfReferenceUID")),
    "image: no rescale": ("image", lambda ds: delattr(ds, "RescaleSlope")),
    "image: short": ("image", lambda ds: setattr(ds, "Rows", ds.Rows + 1)),
    "image: of another modality": ("image", lambda ds: setattr(ds, "Modality", "MR")),
    "label map: native": ("seg-labelmap", lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.1")),
    "label map: binary": ("seg-labelmap", lambda ds: setattr(ds, "SegmentationType", "BINARY")),
    "label map: palette": ("seg-labelmap", lambda ds: setattr(ds, "PhotometricInterpretation", "PALETTE COLOR")),
    "label map: one bit": ("seg-labelmap", lambda ds: setattr(ds, "BitsAllocated", 1)),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str) -> None:
    kind, plant = PLANTED[fault]
    sources = builders.slices()
    labels = labels_on(sources)
    prediction, read = finding.everything(sources, labels)
    one = ordered(prediction, labels, sources, kinds=[kind], read=read)[kind]
    assert faults(one) == []
    plant(one)
    assert faults(one) != []
