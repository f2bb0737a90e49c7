"""What leaves the house: the same bytes each time, in series of their own, or not at all."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.results import report
from dicom_node.results.document import Reference
from dicom_node.results.report import Order, compose
from storage.facts.errors import Rejected
from tests import builders
from tests.dicom_node.results.making import NODE, SOURCES, encoded, labels_on, made, through_bytes, whole


@pytest.mark.parametrize("name", SOURCES)
def test_composing_again_gives_the_same_bytes(name: str) -> None:
    sources = SOURCES[name]()
    labels = labels_on(sources)
    for prediction, mask in ((builders.prediction(sources, labels), labels), (builders.failure(sources), None)):
        first = [encoded(one) for one in compose(prediction, mask, sources, NODE, builders.MADE_AT)]
        time.sleep(0.002)  # so that any clock that was asked would show
        assert [encoded(one) for one in compose(prediction, mask, sources, NODE, builders.MADE_AT)] == first


def test_each_object_is_alone_in_its_series_and_filed_in_the_study() -> None:
    objects = whole(builders.slices())
    assert list(objects) == ["seg", "sr"]
    assert len({ds.SeriesInstanceUID for ds in objects.values()}) == 2
    for ds in objects.values():
        assert ds.StudyInstanceUID == f"{builders.ROOT}.0"
        assert (ds.PatientName, ds.PatientID, ds.IssuerOfPatientID) == ("Test^Person", "T-0001", "TESTS")
        assert (ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName) == ("A0001", "S1", "Refers^Doctor")
        assert 9000 <= ds.SeriesNumber < 10000
        assert ds.SeriesDescription == "AI ct-test-lung 1.2.0 (research, not for diagnosis)"


def test_the_equipment_that_answers_for_it_is_named() -> None:
    for ds in whole(builders.slices()).values():
        assert (ds.ManufacturerModelName, ds.DeviceSerialNumber, ds.StationName) == (
            "DICOM AI node",
            "NODE-1",
            "AINODE",
        )
        assert list(ds.SoftwareVersions) == ["0.1.0", "ct-test-lung 1.2.0"]
        [equipment] = ds.ContributingEquipmentSequence
        assert equipment.ManufacturerModelName == "ct-test-lung"
        assert "ab" * 32 in equipment.ContributionDescription
        assert (ds.ContentDate, ds.ContentTime) == ("20261121", "083015.250000")


def test_a_new_revision_names_what_it_replaces() -> None:
    sources = builders.slices()
    old = Reference(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11", sop_instance_uid="2.25.1", series_uid="2.25.2",
        study_uid=f"{builders.ROOT}.0",
    )  # fmt: skip
    composed = compose(builders.failure(sources), None, sources, NODE, builders.MADE_AT, Order(predecessors=[old]))
    [study] = through_bytes(composed[0]).PredecessorDocumentsSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.1"


def test_sources_and_mask_are_left_as_they_were() -> None:
    sources = [builders.enhanced()]
    labels = labels_on(sources)
    before = copy.deepcopy((sources, labels))
    made(builders.prediction(sources, labels), labels, sources)
    assert sources == before[0]
    assert np.array_equal(labels, before[1])


def test_a_result_is_never_filed_with_another_series() -> None:
    prediction = builders.failure(builders.slices())
    with pytest.raises(Rejected, match="no result can be filed"):
        compose(replace(prediction, series_uid="1.2.3"), None, builders.slices(), NODE, builders.MADE_AT)


def test_no_sources_are_rejected() -> None:
    with pytest.raises(Rejected, match="none is left"):
        compose(builders.failure(builders.slices()), None, [], NODE, builders.MADE_AT)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda labels: labels[:, :-1], "stated are"),
        (lambda labels: labels.astype(np.int16), "int16"),
        (lambda labels: np.where(labels == 2, np.uint8(3), labels), "numbered from 1"),
        (lambda _labels: None, "was not given"),
    ],
)
def test_a_mask_that_does_not_fit_is_rejected(spoil: object, said: str) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    with pytest.raises(Rejected, match=said):
        compose(builders.prediction(sources, labels), spoil(labels), sources, NODE, builders.MADE_AT)  # type: ignore[operator]


def test_a_mask_on_images_of_another_size_is_rejected() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    sources[2].Rows = 39
    with pytest.raises(Rejected, match="is 39 x 48"):
        compose(builders.prediction(sources, labels), labels, sources, NODE, builders.MADE_AT)


def test_a_faulty_object_is_held_back_with_all_its_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(circumstance: object, *, marked: bool = False) -> Dataset:
        ds = real(circumstance, marked=marked)  # type: ignore[arg-type]
        ds.VerificationFlag = "VERIFIED"
        del ds.PatientID
        return ds

    real = report.text_report
    monkeypatch.setattr(report, "text_report", spoilt)
    sources = builders.slices()
    with pytest.raises(Rejected, match="held back") as caught:
        compose(builders.failure(sources), None, sources, NODE, builders.MADE_AT)
    assert "VerificationFlag" in str(caught.value)
    assert "PatientID is missing" in str(caught.value)
