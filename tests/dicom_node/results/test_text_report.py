"""Results without geometry: a failure, a refusal and a negative must not look alike, and none like silence."""

from __future__ import annotations

import pytest

from storage.facts.prediction import Presence, Status
from storage.facts.study import Urgency
from tests import builders
from tests.dicom_node.results.making import codes, items, labels_on, made, ordered, sentences

BASIC_TEXT = "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.mark.parametrize(
    ("status", "code", "lead"),
    [
        (Status.NOT_ATTEMPTED, "Not Attempted", "Not analysed: Slices are missing"),
        (Status.FAILED, "Failed", "Analysis failed: Slices are missing"),
    ],
)
def test_a_run_without_result_says_why_and_that_it_says_nothing_of_the_patient(
    status: Status, code: str, lead: str
) -> None:
    sources = builders.slices()
    objects = made(builders.failure(sources, status), None, sources)
    assert list(objects) == ["sr"]
    report = objects["sr"]
    assert report.SOPClassUID == BASIC_TEXT
    assert ("Analysis Performed", code) in codes(report)
    assert ("Quality Finding", "Object Set incomplete") in codes(report)
    said = sentences(report)
    assert any(sentence.startswith(lead) for sentence in said)
    assert "This result makes no statement about the images, neither normal nor abnormal." in said
    assert not any("was not looked for" in sentence for sentence in said)


def test_a_negative_names_what_was_looked_for_and_how_sure_it_is() -> None:
    sources = builders.slices()
    prediction = builders.prediction(sources, findings=(builders.finding(Presence.ABSENT, text="", probability=0.07),))
    report = made(prediction, None, sources)["sr"]
    assert ("Pulmonary emphysema", "Absent") in codes(report)
    assert (
        "Looked for Pulmonary emphysema: not found. Probability 0.07. "
        "Operating point 0.5 (Youden index on the validation set of the package)."
    ) in sentences(report)
    assert "What is not named in this report was not looked for." in sentences(report)
    assert not [name for name, _ in codes(report) if name == "Priority"]


def test_an_empty_mask_makes_a_text_report_that_names_the_segments() -> None:
    sources = builders.slices()
    labels = labels_on(sources) * 0
    objects = made(builders.prediction(sources, labels), labels, sources)
    assert list(objects) == ["sr"]
    assert objects["sr"].SOPClassUID == BASIC_TEXT
    assert {"Looked for Right lung: nothing was marked.", "Looked for Left lung: nothing was marked."} <= set(
        sentences(objects["sr"])
    )


def test_a_failed_run_that_left_a_mask_behind_claims_nothing_of_it() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    left = builders.prediction(sources, labels, status=Status.FAILED, reason=builders.failure(sources).reason)
    objects = made(left, labels, sources)
    assert list(objects) == ["sr"]
    assert not any("lung:" in sentence or "emphysema" in sentence for sentence in sentences(objects["sr"]))
    assert not [name for name, _ in codes(objects["sr"]) if name == "Pulmonary emphysema"]


def test_it_says_what_was_looked_at_and_by_what() -> None:
    sources = builders.slices()
    report = made(builders.failure(sources), None, sources)["sr"]
    said = sentences(report)
    assert "CT series 2 'Thin slices'" in said
    assert {"1.2.0", "Lung test model (ct-test-lung)", "SHA-256 of manifest and weights: " + "ab" * 32} <= set(said)
    uids = {item.UID for item in items(report) if item.ValueType == "UIDREF"}
    assert f"{builders.ROOT}.1" in uids
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    evidence = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [one.ReferencedSOPInstanceUID for one in evidence] == [ds.SOPInstanceUID for ds in sources]


def test_an_urgent_finding_without_outline_is_still_urgent() -> None:
    sources = builders.slices()
    report = made(builders.prediction(sources, urgency=Urgency.STAT), None, sources)["sr"]
    assert ("Priority", "ACR Category 1 Actionable Finding") in codes(report)


def test_a_single_header_is_enough_to_report_a_failure() -> None:
    sources = builders.slices()[:1]
    assert "CT series 2 'Thin slices'" in sentences(made(builders.failure(sources), None, sources)["sr"])


def test_a_viewer_that_mistakes_pixels_that_are_not_square_gets_no_outlines_to_draw() -> None:
    sources = builders.slices()  # 0.75 by 0.5 mm
    labels = labels_on(sources)
    prediction = builders.prediction(sources, labels)
    said = ordered(prediction, labels, sources, kinds=("seg", "sr"), square_only=True)
    assert said["sr"].SOPClassUID == BASIC_TEXT
    assert "No outlines are in this report: the pixels are not square" in " ".join(sentences(said["sr"]))
    told = " ".join(sentences(said["sr"]))
    assert "Right lung" in told
    assert "2210.4" in told
    assert "nothing was marked" not in told
    assert ordered(prediction, labels, sources, kinds=("seg", "sr"))["sr"].SOPClassUID != BASIC_TEXT
    for ds in sources:
        ds.PixelSpacing = [0.75, 0.75]
    square = ordered(prediction, labels, sources, kinds=("seg", "sr"), square_only=True)
    assert square["sr"].SOPClassUID != BASIC_TEXT


def test_a_long_finding_breaks_its_lines_for_a_viewer_that_does_not() -> None:
    sources = builders.slices()
    report = made(builders.prediction(sources, findings=(builders.finding(text="A word. " * 60),)), None, sources)["sr"]
    lines = [line for item in items(report) if item.ValueType == "TEXT" for line in item.TextValue.split("\r\n")]
    assert "A word. " * 8 in " ".join(lines)
    found = [item for item in items(report) if item.ValueType == "TEXT" and "A word." in item.TextValue]
    assert max(len(line) for item in found for line in item.TextValue.split("\r\n")) <= 88
