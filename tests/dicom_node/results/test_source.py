"""Sources as hospitals send them: the result is filed all the same, with its patient, and says nothing untrue."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicom_node.results import normal, source
from storage.facts.errors import Rejected
from tests import builders

TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


def read(**changes: Any) -> source.Source:
    one = builders.slices(3)
    for ds in one:
        for keyword, given_value in changes.items():
            builders.put(ds, keyword, given_value)
    return source.read(one)


def test_what_identifies_the_patient_and_the_study_is_taken_over_unchanged() -> None:
    header = read().header
    assert (header.PatientName, header.PatientID, header.IssuerOfPatientID) == ("Test^Person", "T-0001", "TESTS")
    assert (header.AccessionNumber, header.StudyID, header.StudyDate) == ("A0001", "S1", "20261101")
    assert (header.StudyTime, header.ReferringPhysicianName) == ("101500", "Refers^Doctor")


@pytest.mark.parametrize("keyword", TYPE_2)
def test_a_missing_type_2_attribute_is_there_and_empty(keyword: str) -> None:
    one = builders.slices(3)
    for ds in one:
        delattr(ds, keyword)
    found = source.read(one)
    assert str(found.header[keyword].value) == ""
    assert not found.remarks


@pytest.mark.parametrize(
    ("keyword", "given_value", "kept", "remarked"),
    [
        ("PatientSex", "U", "", False),
        ("PatientSex", "FEMALE", "F", False),
        ("PatientSex", "?", "", True),
        ("PatientBirthDate", "1960", "", True),
        ("PatientBirthDate", "1960.01.02", "19600102", False),
        ("StudyDate", "2026.11.01", "20261101", False),
        ("StudyDate", "20261301", "", True),
        ("StudyTime", "10:15:00", "101500", False),
        ("StudyTime", "101500.5", "101500.5", False),
        ("StudyTime", "noon", "", True),
        ("StudyID", "S" * 30, "", True),
        ("AccessionNumber", "12345678901234567890", "", True),
        ("PatientAge", "66", "066Y", False),
        ("StudyDescription", "word " * 30, ("word " * 13)[:64].rstrip(), False),
        ("PatientName", "A" * 90 + "^B", "A" * 64, False),
    ],
)
def test_a_value_that_breaks_its_representation_is_mended_or_left_out(
    keyword: str, given_value: str, kept: str, remarked: bool
) -> None:
    found = read(**{keyword: given_value})
    assert str(found.header.get(keyword, "")) == kept
    assert bool(found.remarks) == remarked
    assert not any(given_value in remark for remark in found.remarks), "remarks must not quote patient data"


def test_half_an_identifier_is_never_written() -> None:
    assert read(PatientID="X" * 65).header.PatientID == ""
    assert read(AccessionNumber="1" * 16).header.AccessionNumber == "1" * 16


def test_the_source_itself_is_left_as_it_was() -> None:
    one = builders.slices(3)
    before = copy.deepcopy(one)
    source.read(one)
    assert one == before


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_series_without_uids_is_rejected_because_nothing_can_refer_to_it(keyword: str) -> None:
    one = builders.slices(3)
    for ds in one:
        delattr(ds, keyword)
    with pytest.raises(Rejected, match=keyword):
        source.read(one)


@pytest.mark.parametrize("keyword", ["PatientID", "IssuerOfPatientID"])
def test_two_patients_in_one_series_are_rejected_without_naming_them(keyword: str) -> None:
    one = builders.slices(3)
    setattr(one[1], keyword, "OTHER")
    with pytest.raises(Rejected, match="2 different Patient IDs") as caught:
        source.read(one)
    assert "OTHER" not in str(caught.value)
    assert "T-0001" not in str(caught.value)


def test_names_in_other_scripts_come_through_as_unicode() -> None:
    one = builders.slices(3)
    for ds in one:
        ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        ds.PatientName = "Yamada^Tarou=山田^太郎"
    assert str(source.read(one).header.PatientName) == "Yamada^Tarou=山田^太郎"


def test_a_missing_character_set_does_not_stop_a_name_with_accents() -> None:
    raw = builders.slices(3)
    for ds in raw:
        del ds.SpecificCharacterSet
        ds.add_new(0x00100010, "PN", b"M\xfcller^Jos\xe9")
    assert str(source.read(raw).header.PatientName).startswith("M")


def odd(tag: int, vr: str) -> Callable[[Dataset], None]:
    """An element as it is read from a file, of a length that its representation does not have."""
    raw = RawDataElement(BaseTag(tag), vr, 3, b"123", 0, False, True)
    return lambda ds: ds._dict.update({raw.tag: raw})


JUNK: list[Callable[[Dataset], None]] = [
    odd(0x00280010, "US"),
    odd(0x00200032, "FD"),
    odd(0x00101030, "FL"),
    lambda ds: ds.add_new(0x00100040, "CS", ["F", "M"]),
    lambda ds: ds.add_new(0x00100020, "LO", ["A", "B"]),
    lambda ds: ds.add_new(0x00101030, "DS", None),
    lambda ds: ds.add_new(0x00280010, "US", None),
    lambda ds: ds.add_new(0x00200032, "DS", [1, 2]),
    lambda ds: ds.add_new(0x00081030, "LO", "a\x00b\x1bc\nd"),
]


@pytest.mark.parametrize("spoil", JUNK)
def test_junk_values_raise_nothing(spoil: Callable[[Dataset], None]) -> None:
    one = builders.slices(3)
    for ds in one:
        spoil(ds)
    found = source.read(one)
    assert all(ord(c) >= 32 for element in found.header for c in str(element.value))


@given(st.text(max_size=40))
def test_whatever_a_date_or_time_says_it_becomes_valid_or_empty(text: str) -> None:
    day, hour = normal.as_date(text), normal.as_time(text)
    assert day == "" or (len(day) == 8 and day.isascii() and day.isdigit())
    assert hour == "" or hour[:2].isdigit()
