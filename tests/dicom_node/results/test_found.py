"""Detections and grades: each in a group of its own, where it is, how likely, and by which operating point."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom.dataset import Dataset

from dicom_node.results.check import faults
from dicom_node.results.reading_out import lines
from storage.facts.errors import Rejected
from storage.facts.prediction import Location, Prediction, Presence
from tests import builders
from tests.dicom_node.results import finding
from tests.dicom_node.results.making import SOURCES, codes, dcmtk, items, labels_on, ordered, sentences, tool
from tests.dicom_node.results.test_sr import groups_of, named, numbers


def reported(name: str = "CT", kind: str = "sr", **changes: Any) -> Dataset:
    sources = SOURCES[name]()
    return ordered(finding.found(sources, **changes), None, sources, kinds=[kind])[kind]


def subject(item: Dataset) -> str:
    return str(item.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning) if "ContentSequence" in item else ""


def probabilities(group: Dataset) -> dict[str, float]:
    """By what they are of; empty: the group's own finding."""
    found = {}
    for item in named(group, "122157"):
        found[subject(item)] = float(item.MeasuredValueSequence[0].NumericValue)
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_a_box_and_a_point_lie_where_the_model_found_them(name: str) -> None:
    sources = SOURCES[name]()
    prediction = finding.found(sources)
    report = ordered(prediction, None, sources, kinds=["sr"])["sr"]
    assert faults(report) == []
    _whole, box, point = groups_of(report)
    for group, one in ((box, prediction.detections[0]), (point, prediction.detections[1])):
        [outline] = named(group, "111030")
        frame = prediction.frames[(len(prediction.frames) - 1) // 2]
        target = outline.ContentSequence[0].ReferencedSOPSequence[0]
        assert target.ReferencedSOPInstanceUID == frame.sop_instance_uid
        assert target.get("ReferencedFrameNumber") == frame.number
        points = np.array(outline.GraphicData).reshape(-1, 2)
        assert points.min(axis=0).tolist() == pytest.approx([one.location.low[2] + 0.5, one.location.low[1] + 0.5])
        assert points.max(axis=0).tolist() == pytest.approx([one.location.high[2] + 0.5, one.location.high[1] + 0.5])
    assert named(box, "111030")[0].GraphicType == "POLYLINE"
    assert named(point, "111030")[0].GraphicType == "POINT"


def test_a_detection_says_how_likely_it_is_and_which_operating_point_let_it_pass() -> None:
    _whole, box, point = groups_of(reported())
    assert probabilities(box)[""] == 0.85
    assert probabilities(point) == {"": 0.75}
    [threshold] = named(point, "122411")
    assert float(threshold.MeasuredValueSequence[0].NumericValue) == 0.4
    assert "0.5 false positives a scan" in threshold.ContentSequence[0].TextValue
    assert numbers(box)["Diameter"] == (6.2, "mm")
    assert [codes_of(group) for group in (box, point)] == [("Nodule", "SCT"), ("Nodule", "SCT")]


def codes_of(group: Dataset) -> tuple[str, str]:
    [code] = named(group, "121071")
    return code.ConceptCodeSequence[0].CodeMeaning, code.ConceptCodeSequence[0].CodingSchemeDesignator


def test_grades_of_the_series_and_of_one_detection_are_told_apart() -> None:
    whole, box, point = groups_of(reported())
    assert probabilities(whole) == {"Step A": 0.1, "Step B": 0.7, "Step C": 0.15, "Step D": 0.05}
    assert {**probabilities(whole), "": 0.85} == probabilities(box)
    assert ("Breast density", "Step B") in codes(whole)
    assert ("Breast density", "Step B") in codes(box)
    assert "Breast density" not in {name for name, _ in codes(point)}
    [certainty] = named(whole, "111012")
    assert float(certainty.MeasuredValueSequence[0].NumericValue) == 58.0


def test_a_grade_without_an_answer_is_undetermined_and_says_so() -> None:
    [whole, *_] = groups_of(reported(grades=(finding.graded(answer=None),)))
    assert ("Breast density", "Undetermined") in codes(whole)
    assert any("no class is said" in sentence for sentence in sentences(whole))


def test_a_threshold_has_the_unit_of_what_it_is_applied_to() -> None:
    density = finding.nodules(threshold=-950.0, threshold_unit=finding.HOUNSFIELD)
    [whole, _box, point] = groups_of(reported(findings=(density,), grades=()))
    [threshold] = named(whole, "122411")
    assert threshold.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    assert any("Operating point -950 HU" in sentence for sentence in sentences(whole))
    assert named(point, "122411") == []


def test_a_finding_of_one_detection_stands_in_its_group_alone() -> None:
    own = builders.finding(detection=2, uncertainty=0.1)
    whole, box, point = groups_of(reported(findings=(own,), grades=()))
    assert ("Pulmonary emphysema", "Present") in codes(point)
    assert probabilities(point) == {"": 0.75, "Pulmonary emphysema": 0.83}
    for group in (whole, box):
        assert "Pulmonary emphysema" not in {name for name, _ in codes(group)}


def test_nothing_found_is_said_with_the_operating_point_and_never_by_silence() -> None:
    sources = builders.slices()
    absent = finding.found(sources, detections=(), grades=(), findings=(finding.nodules(Presence.ABSENT),))
    report = ordered(absent, None, sources, kinds=["sr"])["sr"]
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.11"
    assert ("Nodule", "Absent") in codes(report)
    said = " ".join(sentences(report))
    assert "Looked for Nodule: not found. Operating point 0.4 (0.5 false positives a scan" in said
    assert "What is not named in this report was not looked for." in said


def test_a_classification_without_a_place_is_text_with_codes() -> None:
    sources = SOURCES["CR"]()
    graded = finding.found(sources, detections=(), findings=(), grades=(finding.graded(),))
    report = ordered(graded, None, sources, kinds=["sr"])["sr"]
    assert ("Breast density", "Step B") in codes(report)
    assert any("Step A 0.10; Step B 0.70" in sentence for sentence in sentences(report))
    assert not any("No condition was assessed" in sentence for sentence in sentences(report))


def test_a_mask_and_detections_stand_in_one_report() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    both = replace(
        builders.prediction(sources, labels), frames=builders.frames(sources),
        detections=finding.detections(*labels.shape),
    )  # fmt: skip
    objects = ordered(both, labels, sources, kinds=["seg", "sr", "sr-volumetric"])
    groups = groups_of(objects["sr"])
    assert len(groups) == 1 + 2 + 2
    assert len({named(group, "112040")[0].UID for group in groups}) == 5
    tracked = {item.UID for item in items(objects["sr"]) if item.ValueType == "UIDREF"}
    assert {segment.TrackingUID for segment in objects["seg"].SegmentSequence} <= tracked


def test_the_report_reads_as_text_that_names_places_and_numbers() -> None:
    said = "\n".join(lines(reported()))
    for expected in ("Nodule 1: probability 0.85, images 3 to 5 of 8, shown on 4.", "Breast density: Step B"):
        assert expected in said


BAD: dict[str, dict[str, Any]] = {
    "numbers that do not start at 1": {"number": 2},
    "a score above 1": {"score": 1.5},
    "a box that is turned": {"location": Location(low=(1, 9, 9), high=(1, 3, 12))},
    "no number": {"location": Location(low=(1, float("nan"), 9), high=(1, 10, 12))},
    "a frame that is not there": {"location": Location(low=(8, 3, 3), high=(8, 9, 9))},
    "a place outside of the image": {"location": Location(low=(1, 50, 3), high=(1, 60, 9))},
}


@pytest.mark.parametrize("fault", BAD)
def test_a_detection_that_lies_nowhere_is_refused(fault: str) -> None:
    sources = builders.slices()
    wrong = replace(finding.detections(8, 40, 48)[0], **BAD[fault])
    with pytest.raises(Rejected, match="detection"):
        ordered(finding.found(sources, detections=(wrong,)), None, sources, kinds=["sr"])


@pytest.mark.parametrize("name", ["CT", "MR coronal", "enhanced CT"])
def test_other_readers_find_segments_and_surfaces_in_the_volumetric_report(name: str, tmp_path: Path) -> None:
    sources = SOURCES[name]()
    labels = labels_on(sources)
    segmented = builders.prediction(sources, labels)
    report = ordered(segmented, labels, sources, kinds=["seg", "sr-volumetric"])["sr-volumetric"]
    assert faults(report) == []
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    ran = subprocess.run(
        [tool("tid1500reader"), "--inputDICOM", tmp_path / "sr.dcm", "--outputMetadata", tmp_path / "sr.json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = (tmp_path / "sr.json").read_text()
    assert "2210.4" in said
    assert '"ReferencedSegment" : 1' in said or '"ReferencedSegment": 1' in said
    boxes = ordered(finding.found(sources), None, sources, kinds=["sr-volumetric"])["sr-volumetric"]
    boxes.save_as(tmp_path / "boxes.dcm", enforce_file_format=True)
    found = srread(tmp_path / "boxes.dcm").content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_uid for group in found] == [g.UID for g in named(groups_of(boxes)[1], "112040")]


def test_a_surface_lies_where_the_planes_lie() -> None:
    sources = SOURCES["MR coronal"]()
    prediction = finding.found(sources)
    report = ordered(prediction, None, sources, kinds=["sr-volumetric"])["sr-volumetric"]
    surfaces = [item for item in items(report) if item.ValueType == "SCOORD3D"]
    box = prediction.detections[0].location
    for item, index in zip(surfaces, range(int(box.low[0]), int(box.high[0]) + 1), strict=False):
        found = np.array(item.GraphicData).reshape(-1, 3)
        image = sources[index]
        along, down = np.array(image.ImageOrientationPatient[:3]), np.array(image.ImageOrientationPatient[3:])
        first = np.array(image.ImagePositionPatient) + along * 0.5 * box.low[2] + down * 0.75 * box.low[1]
        assert found[0].tolist() == pytest.approx(first.tolist(), abs=1e-3)
    assert [item.GraphicType for item in surfaces] == ["POLYGON"] * 3 + ["POINT"]


def test_a_projection_gets_no_volumetric_report() -> None:
    sources = SOURCES["CR"]()
    assert ordered(finding.found(sources), None, sources, kinds=["sr-volumetric"]) == {}


def test_dcmtk_reads_reports_of_detections(tmp_path: Path) -> None:
    dsrdump = dcmtk("dsrdump")
    if dsrdump is None:
        pytest.skip("DCMTK is not installed")
    for name, kind in (("CT", "sr"), ("US loop", "sr-comprehensive"), ("enhanced CT", "sr-volumetric")):
        reported(name, kind).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        ran = subprocess.run([dsrdump, tmp_path / "sr.dcm"], capture_output=True, text=True, check=False)
        assert (ran.returncode, "E: " in ran.stderr) == (0, False)
        assert "Nodule 1" in ran.stdout


def failed_with_detections(sources: list[Dataset]) -> Prediction:
    return replace(builders.failure(sources), frames=builders.frames(sources), detections=finding.detections(8, 40, 48))


def test_what_a_failed_run_left_behind_is_not_shown() -> None:
    sources = builders.slices()
    objects = ordered(failed_with_detections(sources), None, sources)
    assert set(objects) == {"sc", "sr", "sr-comprehensive", "sr-text", "pdf"}
    assert not any("Nodule" in sentence for sentence in sentences(objects["sr"]))


Spoil = Callable[[Dataset], object]


def second(report: Dataset) -> Dataset:
    """The group of the first detection."""
    found: Dataset = groups_of(report)[1]
    return found


def outline_of(report: Dataset, group: int = 1) -> Dataset:
    return named(groups_of(report)[group], "111030")[0]


def without(group: Dataset, code: str) -> None:
    gone = named(group, code)
    group.ContentSequence = [item for item in group.ContentSequence if item not in gone]


def nameless(item: Dataset) -> None:
    """A number that does not say any more of what it is."""
    item.ContentSequence = [c for c in item.ContentSequence if c.RelationshipType != "HAS CONCEPT MOD"]


PLANTED: dict[str, tuple[str, Spoil, str]] = {
    "a detection without outline": ("sr", lambda ds: without(second(ds), "111030"), "0 outlines"),
    "a box that is open": (
        "sr", lambda ds: setattr(outline_of(ds), "GraphicData", [1, 1, 5, 1, 5, 5, 1, 5]), "not closed"
    ),
    "a point with three coordinates": ("sr", lambda ds: setattr(outline_of(ds, 2), "GraphicData", [1, 2, 3]), "two"),
    "a circle": ("sr", lambda ds: setattr(outline_of(ds), "GraphicType", "CIRCLE"), "neither POLYLINE nor POINT"),
    "a box outside": (
        "sr", lambda ds: setattr(outline_of(ds), "GraphicData", [-1, -1, 5, -1, 5, 5, -1, -1]), "leaves the image"
    ),
    "a score above 1": (
        "sr",
        lambda ds: setattr(named(second(ds), "122157")[0].MeasuredValueSequence[0], "NumericValue", "1.2"),
        "between 0 and 1",
    ),
    "a class without name": ("sr", lambda ds: nameless(named(second(ds), "122157")[1]), "do not say of what"),
    "a certainty of 140 %": (
        "sr",
        lambda ds: setattr(named(groups_of(ds)[0], "111012")[0].MeasuredValueSequence[0], "NumericValue", "140"),
        "0 and 100 percent",
    ),
    "an operating point without unit": (
        "sr",
        lambda ds: delattr(named(second(ds), "122411")[0].MeasuredValueSequence[0], "MeasurementUnitsCodeSequence"),
        "no UCUM unit",
    ),
    "two detections under one UID": (
        "sr",
        lambda ds: setattr(named(second(ds), "112040")[0], "UID", named(groups_of(ds)[2], "112040")[0].UID),
        "same tracking UID",
    ),
    "no finding": ("sr", lambda ds: without(second(ds), "121071"), "Finding is there 0 times"),
    "no algorithm": ("sr", lambda ds: without(second(ds), "111001"), "Algorithm Name is there 0 times"),
    "a surface in no space": (
        "sr-volumetric",
        lambda ds: delattr(surface(ds), "ReferencedFrameOfReferenceUID"),
        "no frame of reference",
    ),
    "a surface that is open": (
        "sr-volumetric", lambda ds: setattr(surface(ds), "GraphicData", [*surface(ds).GraphicData[:-1], 77.0]), "closed"
    ),
    "a surface of two dimensions": (
        "sr-volumetric", lambda ds: setattr(surface(ds), "GraphicData", [1.0, 2.0]), "three coordinates"
    ),
    "a surface without name": (
        "sr-volumetric",
        lambda ds: setattr(surface(ds).ConceptNameCodeSequence[0], "CodeValue", "1"),
        "neither Volume Surface nor Image Region",
    ),
    "the volumetric report under another number": (
        "sr-volumetric", lambda ds: setattr(ds, "SeriesNumber", 9001), "outlines"
    ),
}  # fmt: skip


def surface(ds: Dataset) -> Dataset:
    return next(item for item in items(ds) if item.ValueType == "SCOORD3D")


@pytest.fixture(scope="module")
def spotless() -> dict[str, Dataset]:
    sources = builders.slices()
    return ordered(finding.found(sources), None, sources, kinds=["sr", "sr-volumetric"])


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_and_named(spotless: dict[str, Dataset], fault: str) -> None:
    kind, spoil, said = PLANTED[fault]
    ds = copy.deepcopy(spotless[kind])
    assert faults(ds) == []
    spoil(ds)
    assert [found for found in faults(ds) if said in found], faults(ds)
