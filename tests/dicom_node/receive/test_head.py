"""The header walk agrees with pydicom on whatever pydicom can write, and never does worse than refuse."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.receive import head

DEFLATED = "1.2.840.10008.1.2.1.99"
EXPECTED = {
    "SOPClassUID": str(CTImageStorage),
    "SOPInstanceUID": "1.2.3.4",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.1",
    "Modality": "CT",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "InstanceNumber": 7,
    "ImagePositionPatient": [-1.5, 2.25, 1000.0],
    "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    "SliceThickness": 1.25,
    "Rows": 4,
    "Columns": 2,
    "PixelSpacing": [0.5, 0.5],
}


def a_slice(*, undefined_length: bool = False) -> Dataset:
    dataset = Dataset()
    for keyword, value in EXPECTED.items():
        setattr(dataset, keyword, value)
    item = Dataset()
    item.CodeValue = "x"
    inner = Dataset()
    inner.CodeMeaning = "y"
    item.AnatomicRegionSequence = Sequence([inner])
    dataset.ProcedureCodeSequence = Sequence([item, item])
    if undefined_length:
        for element in (dataset["ProcedureCodeSequence"], item["AnatomicRegionSequence"]):
            element.is_undefined_length = True
        for each in (item, inner):
            each.is_undefined_length_sequence_item = True  # type: ignore[attr-defined]
    dataset.add_new(0x00191001, "UN", b"\x01\x02\x03\x04")
    dataset.add_new(0x7FE00010, "OW", b"\0" * 16)
    return dataset


def encoded(dataset: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(buffer, dataset)
    raw = buffer.getvalue()
    if syntax != DEFLATED:
        return raw
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(raw) + deflate.flush()


@pytest.mark.parametrize("undefined_length", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DEFLATED])
def test_the_walk_reads_what_the_index_needs(syntax: str, undefined_length: bool) -> None:
    assert head.read(encoded(a_slice(undefined_length=undefined_length), syntax), str(syntax)) == EXPECTED


def test_a_multi_valued_text_with_padding_is_read_as_its_values() -> None:
    dataset = Dataset()
    dataset.ImageType = ["DERIVED ", " SECONDARY"]

    assert head.read(encoded(dataset, ExplicitVRLittleEndian), ExplicitVRLittleEndian) == {
        "ImageType": ["DERIVED", "SECONDARY"]
    }


def test_a_number_that_is_none_is_left_out_and_stops_nothing() -> None:
    raw = encoded(a_slice(), ExplicitVRLittleEndian).replace(b"1.25", b"thin")

    found = head.read(raw, ExplicitVRLittleEndian)

    assert found == {k: v for k, v in EXPECTED.items() if k != "SliceThickness"}


def test_sequences_nested_without_end_are_refused_quickly() -> None:
    bomb = (
        b"\x08\x00\x32\x10SQ\0\0\xff\xff\xff\xff"
        + (b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x08\x00\x32\x10SQ\0\0\xff\xff\xff\xff") * 3000
    )

    with pytest.raises(head.Truncated):
        head.read(bomb, ExplicitVRLittleEndian)


@given(st.binary(max_size=400), st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, DEFLATED]))
def test_arbitrary_bytes_are_read_or_refused(raw: bytes, syntax: str) -> None:
    try:
        found = head.read(raw, syntax)
    except head.Truncated:
        return

    assert set(found) <= set(EXPECTED) | {*head.SLICE_KEYWORDS}


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_data_set_is_read_or_refused(seed: int) -> None:
    dice = random.Random(seed)
    raw = bytearray(encoded(a_slice(undefined_length=bool(seed % 2)), ExplicitVRLittleEndian))
    for _ in range(1 + seed % 5):
        raw[dice.randrange(len(raw))] = dice.randrange(256)
    del raw[dice.randrange(len(raw)) :]

    try:
        found = head.read(bytes(raw), ExplicitVRLittleEndian)
    except head.Truncated:
        return

    assert set(found) <= set(EXPECTED) | {*head.SLICE_KEYWORDS}
