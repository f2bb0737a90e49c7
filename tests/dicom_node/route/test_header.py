"""Headers from real bytes: what is kept, what is left out, and that nothing raises."""

from __future__ import annotations

import io
import json
import warnings
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.route.header import MAX_ELEMENTS, MAX_FRAMES, header_of, slice_header
from tests.dicom_node.route.making import CT


def through_bytes(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """The data set as a receiver sees it: written to a file and read again."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = CT
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def element(group: int, number: int, vr: str, content: bytes) -> bytes:
    """One explicit VR little endian element with a short length field."""
    return (
        group.to_bytes(2, "little")
        + number.to_bytes(2, "little")
        + vr.encode()
        + len(content).to_bytes(2, "little")
        + content
    )


def malformed(*elements: bytes) -> Dataset:
    """A data set of raw elements, as a careless sender writes them."""
    content = element(2, 0x10, "UI", b"1.2.840.10008.1.2.1\0") + b"".join(elements)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(content), force=True)


def test_values_become_plain_data_of_their_kind() -> None:
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.PatientName = "Doe^Jane"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "", "AXIAL"]
    dataset.SliceThickness = "1.250000 "
    dataset.SeriesNumber = "3"
    dataset.Rows = 512
    dataset.StudyDate = "20260131"
    dataset.FrameIncrementPointer = 0x00540080
    dataset.BodyPartExamined = ""
    dataset.WindowWidth = [400, 1500]
    dataset.RequestAttributesSequence = Sequence([Dataset(), Dataset()])
    dataset.RequestAttributesSequence[0].RequestedProcedureID = "A"
    dataset.add_new(0x00190010, "LO", "ACME")
    dataset.add_new(0x0019100A, "DS", "9.5")
    dataset.PixelData = b"\0" * 100
    dataset["PixelData"].VR = "OW"

    header = header_of(through_bytes(dataset))

    assert header == {
        "SOPClassUID": CT,  # from the file's meta information, for the data set has none
        "Modality": "CT",
        "PatientName": "Doe^Jane",
        "ImageType": ["ORIGINAL", "PRIMARY", "", "AXIAL"],
        "SliceThickness": 1.25,
        "SeriesNumber": 3,
        "Rows": 512,
        "StudyDate": "20260131",
        "FrameIncrementPointer": "00540080",
        "WindowWidth": [400.0, 1500.0],
        "RequestAttributesSequence": [{"RequestedProcedureID": "A"}, {}],
        "00190010": "ACME",
        "0019100A": 9.5,
    }
    assert type(header["SliceThickness"]) is float
    assert type(header["SeriesNumber"]) is int
    assert json.loads(json.dumps(header)) == header


def test_short_private_bytes_are_text_where_they_hold_text() -> None:
    dataset = Dataset()
    dataset.add_new(0x00190010, "LO", "ACME")
    dataset.add_new(0x0019100A, "LO", "RESEARCH")
    dataset.add_new(0x0019100B, "OB", b"\x01\xff")
    dataset.add_new(0x0019100C, "OB", b"x" * 65)

    header = header_of(through_bytes(dataset, ImplicitVRLittleEndian))

    assert (header["00190010"], header["0019100A"], header["0019100B"]) == ("ACME", "RESEARCH", "01ff")
    assert header["_skipped"] == ["0019100C"]


def test_malformed_values_are_kept_as_text_or_left_out_and_named() -> None:
    header = header_of(
        malformed(
            element(0x0008, 0x0005, "CS", b"NO_SUCH_SET "),
            element(0x0008, 0x0060, "CS", b"CT"),
            element(0x0008, 0x103E, "LO", b"Th\x00o\x1bra\xffx "),
            element(0x0018, 0x0050, "DS", b"thick "),
            element(0x0018, 0x0060, "DS", b"120 "),
            element(0x0020, 0x0013, "IS", b"1A"),
            element(0x0028, 0x0010, "US", b"\x01\x02\x03"),
            element(0x0028, 0x0011, "QQ", b"\x00\x02"),
            element(0x0040, 0x0275, "SQ", b"\x01\x02\x03\x04"),
        )
    )

    assert header["Modality"] == "CT"
    assert header["KVP"] == 120.0
    assert "Rows" not in header
    assert "RequestAttributesSequence" not in header
    assert "Rows" in header["_skipped"]
    assert all(type(header.get(key, "")) is str for key in ("SliceThickness", "InstanceNumber"))
    json.dumps(header, allow_nan=False).encode()


def test_a_number_whose_sign_another_element_tells_is_read_with_it() -> None:
    dataset = Dataset()
    dataset.PixelRepresentation = 1
    dataset.add_new("PixelPaddingValue", "SS", -2000)

    assert header_of(through_bytes(dataset, ImplicitVRLittleEndian))["PixelPaddingValue"] == -2000


def test_control_characters_and_numbers_that_are_none_do_not_reach_the_database() -> None:
    dataset = Dataset()
    dataset.SeriesDescription = "a\x00b\x1f"
    dataset.add_new("RealWorldValueSlope", "FD", float("nan"))
    dataset.add_new("DiffusionBValue", "FD", float("inf"))

    header = header_of(dataset)

    assert header == {"SeriesDescription": "a b"}


def nested(depth: int) -> Dataset:
    dataset = Dataset()
    dataset.SeriesNumber = depth
    if depth:
        dataset.ReferencedSeriesSequence = [nested(depth - 1)]
    return dataset


def test_depth_items_values_texts_and_elements_are_bounded() -> None:
    dataset = nested(20)
    dataset.RequestAttributesSequence = [Dataset() for _ in range(100)]
    dataset.WindowWidth = list(range(65))
    dataset.add_new("TextValue", "UT", "x" * 1025)
    for number in range(MAX_ELEMENTS + 100):
        dataset.add_new(0x50110000 + 0x1000 + number, "LO", "x")

    header = header_of(dataset)

    level: Any = header
    for depth in range(20, 16, -1):
        assert level["SeriesNumber"] == depth
        level = level.get("ReferencedSeriesSequence", [None])[0]
    assert level is None
    assert len(header["RequestAttributesSequence"]) == 1
    assert len(header) <= MAX_ELEMENTS + 1
    assert {
        "ReferencedSeriesSequence",
        "RequestAttributesSequence",
        "WindowWidth",
        "TextValue",
        "more elements",
    } == set(header["_skipped"])


@pytest.mark.parametrize(("frames", "kept"), [(200, 200), (MAX_FRAMES + 1, 1)])
def test_frames_keep_their_place_only(frames: int, kept: int) -> None:
    dataset = Dataset()
    dataset.PerFrameFunctionalGroupsSequence = []
    for number in range(frames):
        frame, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, number]
        content.StackID = "1"
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)

    groups = header_of(dataset)["PerFrameFunctionalGroupsSequence"]

    assert len(groups) == kept
    assert groups[0]["FrameContentSequence"] == [{"StackID": "1"}]
    assert all(set(group) == {"PlanePositionSequence"} for group in groups[1:])


def test_the_slice_header_is_what_orders_slices() -> None:
    header = {"Modality": "CT", "InstanceNumber": 4, "PatientName": "Doe", "Rows": 512}

    assert slice_header(header) == {"Modality": "CT", "InstanceNumber": 4, "Rows": 512}
