"""A validation runs the package as production does, and its numbers are those that can be reckoned by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from inference.algorithms.registry import ALGORITHMS
from inference.bringing.validation.folder import Series
from inference.bringing.validation.observing import Called, Observed
from inference.bringing.validation.report import digest_of, results_of, validate
from inference.bringing.validation.targets import targets_of
from inference.bringing.validation.truth import Known
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.errors import Rejected
from storage.facts.prediction import Presence
from tests.inference.bringing.judged import ALGORITHM, NAME, PIXEL, SEGMENT, STEP, package, series, voxels_of

SEVERAL = "the package takes several series of the study"
CPU = Runtime(device="cpu")


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setitem(ALGORITHMS, NAME, ALGORITHM)
    return package(tmp_path / "package")


def report(folder: Path, marks: Package, lines: Sequence[str], head: str = "series,target,value") -> dict[str, Any]:
    table = folder / "truth.csv"
    table.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    found = validate(marks, folder / "cases", table, CPU, lambda _text: None)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["digest"] == digest_of(found)
    return found


def of(found: dict[str, Any], target: str) -> dict[str, Any]:
    (result,) = [one for one in found["results"] if one["target"] == target]
    return result


def rows(result: dict[str, Any], title: str) -> list[list[str]]:
    (table,) = [one for one in result["tables"] if one["title"].startswith(title)]
    return [list(row) for row in table["rows"]]


def test_a_condition_is_judged_at_its_operating_points_and_by_groups(tmp_path: Path, marks: Package) -> None:
    cases = [(0.9, 1, "F"), (0.7, 1, "M"), (0.4, 1, "F"), (0.6, 0, "M"), (0.1, 0, "F"), (0.1, 0, "M"), (0.3, 0, "M")]
    lines = []
    for number, (chance, true, sex) in enumerate(cases):
        uid = series(tmp_path / "cases", str(number), voxels_of(chance=chance), PatientSex=sex, PatientAge="045Y")
        lines.append(f"{uid},effusion,{true}")
    found = report(tmp_path, marks, lines)
    result = of(found, "effusion")
    numbers = result["numbers"]

    assert (found["series"], found["not_analysed"], found["device"]) == (7, 0, "cpu")
    assert (result["task"], result["cases"], numbers["positive"], numbers["negative"]) == ("classification", 7, 3, 4)
    assert numbers["auc"]["value"] == pytest.approx(11 / 12, abs=1e-6)
    assert numbers["present_from"]["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert numbers["present_from"]["specificity"]["value"] == pytest.approx(3 / 4)
    assert numbers["absent_below"]["sensitivity"]["value"] == 1.0
    assert numbers["confusion"] == {
        "present": {"present": 2, "absent": 0, "undetermined": 1},
        "absent": {"present": 1, "absent": 2, "undetermined": 1},
    }
    brier = np.mean([(chance - true) ** 2 for chance, true, _ in cases])
    assert numbers["calibration"]["brier"] == pytest.approx(brier, abs=1e-6)
    assert numbers["calibration"]["recalibrated_error"] is None  # too few cases
    assert numbers["youden"] in (0.4, 0.7)
    assert numbers["risk"][0] == {"answered": 1.0, "wrong": pytest.approx(2 / 7, abs=1e-6)}
    assert numbers["risk"][-1]["wrong"] == 0.0  # the most certain half is right
    groups = {row[0]: row[1:] for row in rows(result, "Groups")}
    assert set(groups) == {"Sex: female", "Sex: male", "Age: 40 to 59", "Manufacturer: Maker"}
    assert groups["Sex: female"] == ["3", "0.50 (0.09 to 0.91); 1.00 (0.21 to 1.00)"]


def test_probabilities_of_many_cases_are_recalibrated_on_others(tmp_path: Path, marks: Package) -> None:
    lines = []
    for number in range(50):
        uid = series(tmp_path / "cases", str(number), voxels_of(chance=0.9 if number % 2 else 0.6)[:3])
        lines.append(f"{uid},effusion,{int(number % 2 == 1 and number % 10 != 1)}")  # 0.9 is true in 80 %, 0.6 never
    calibration = of(report(tmp_path, marks, lines), "effusion")["numbers"]["calibration"]

    assert calibration["error"] == pytest.approx(0.5 * 0.1 + 0.5 * 0.6)
    assert calibration["recalibrated_error"] < 0.15


def test_a_finding_is_judged_by_the_measurement_that_decides(tmp_path: Path, marks: Package) -> None:
    lines = [
        f"{series(tmp_path / 'cases', str(rows), voxels_of(rows=rows))},Pulmonary emphysema,{int(rows > 4)}"
        for rows in (1, 2, 3, 6, 8, 10)
    ]
    numbers = of(report(tmp_path, marks, lines), "Pulmonary emphysema")["numbers"]

    assert numbers["auc"]["value"] == 1.0
    assert numbers["auc"]["low"] < 1.0
    voxel = STEP * PIXEL * PIXEL / 1000
    assert numbers["youden"] == pytest.approx(6 * 2 * 8 * voxel)
    assert numbers["confusion"]["absent"] == {"present": 0, "absent": 2, "undetermined": 1}
    assert "calibration" not in numbers


def test_grades_are_counted_where_they_are_given(tmp_path: Path, marks: Package) -> None:
    cases = [((0.8, 0.1, 0.1), "A"), ((0.1, 0.8, 0.1), "B"), ((0.1, 0.1, 0.8), "B"), ((0.4, 0.3, 0.3), "A")]
    lines = [
        f"{series(tmp_path / 'cases', str(number), voxels_of(classes=classes))},density,{true}"
        for number, (classes, true) in enumerate(cases)
    ]
    found = of(report(tmp_path, marks, lines), "density")
    numbers = found["numbers"]

    assert numbers["answered"]["value"] == pytest.approx(3 / 4)
    assert numbers["accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert numbers["confusion"] == [[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert numbers["kappa"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    (chart,) = found["charts"]
    assert chart["across"]["names"] == ["low", "middle", "high", "none"]
    assert [cell["lines"][0] for cell in chart["cells"]] == ["1", "0", "0", "1", "0", "1", "1", "0", "0", "0", "0", "0"]


def test_measurements_have_a_bias_and_limits_of_agreement(tmp_path: Path, marks: Package) -> None:
    voxel = STEP * PIXEL * PIXEL / 1000
    errors = [0.1, 0.2, 0.3, 0.2]
    lines = []
    for rows_, error in zip((2, 4, 6, 8), errors, strict=True):
        uid = series(tmp_path / "cases", str(rows_), voxels_of(rows=rows_))
        lines.append(f"{uid},size,{rows_ * 16 * voxel - error:.6f}")
    numbers = of(report(tmp_path, marks, lines), "size")["numbers"]

    assert numbers["bias"]["value"] == pytest.approx(0.2, abs=1e-5)
    reach = 3.182 * float(np.std(errors, ddof=1))  # Student's t of three degrees of freedom
    assert numbers["bias"]["low"] == pytest.approx(0.2 - reach / 2, abs=1e-3)
    assert numbers["lower_limit"] == pytest.approx(0.2 - reach * 1.25**0.5, abs=1e-3)
    assert numbers["upper_limit"] == pytest.approx(0.2 + reach * 1.25**0.5, abs=1e-3)
    assert numbers["mean_absolute_error"] == pytest.approx(0.2, abs=1e-5)


def segmentation(folder: Path, name: str, masks: dict[str, np.ndarray], kind: str = "BINARY") -> Path:
    """A DICOM Segmentation of that series, as another product would write it."""
    sources = [pydicom.dcmread(path) for path in sorted((folder / "cases" / name).iterdir())]
    sources.sort(key=lambda source: float(source.ImagePositionPatient[2]))
    described = [
        hd.seg.SegmentDescription(
            segment_number=number, segment_label=label, segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Lung if label == "Lung" else codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, 1)
    ]  # fmt: skip
    pixels = np.zeros((*sources[0].pixel_array.shape[:0], len(sources), 16, 16), np.uint8)
    for number, mask in enumerate(masks.values(), 1):
        pixels[mask] = number
    seg = hd.seg.Segmentation(
        source_images=sources, pixel_array=pixels, segmentation_type=kind, segment_descriptions=described,
        series_instance_uid=f"1.2.7.{name}", series_number=9, sop_instance_uid=f"1.2.7.{name}.1", instance_number=1,
        manufacturer="Tests", manufacturer_model_name="Hand", software_versions="1", device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )  # fmt: skip
    path = folder / f"{name}-{kind}.dcm"
    seg.save_as(path)
    return path


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "npz"])
def test_a_segment_is_compared_with_a_label_map_on_the_grid_of_its_series(
    tmp_path: Path, marks: Package, kind: str
) -> None:
    lines = []
    for name, rows_, true_rows in (("1", 4, 4), ("2", 4, 2), ("3", 0, 0)):
        uid = series(tmp_path / "cases", name, voxels_of(rows=rows_))
        truth = voxels_of(rows=true_rows) == SEGMENT
        if kind == "npz":
            np.savez(tmp_path / f"{name}.npz", mask=truth.astype(np.uint8))
            lines.append(f"{uid},Part,{name}.npz")
        else:
            other = np.zeros_like(truth)
            other[6, 10, 10] = True
            lines.append(f"{uid},Part,{segmentation(tmp_path, name, {'Liver': other, 'Lung': truth}, kind).name}")
    if kind == "BINARY":
        lines = [f"{line}#2" for line in lines]
    result = of(report(tmp_path, marks, lines), "Part")

    voxel = STEP * PIXEL * PIXEL / 1000
    assert result["numbers"]["dice"]["value"] == pytest.approx((1 + 2 * 2 / 6 + 1) / 3, abs=1e-6)
    assert result["numbers"]["dice_least"] == pytest.approx(2 / 3, abs=1e-6)
    assert result["numbers"]["volume"]["bias"]["value"] == pytest.approx(2 * 16 * voxel / 3, abs=1e-5)


def test_a_label_map_of_another_series_is_refused_with_its_line(tmp_path: Path, marks: Package) -> None:
    uid = series(tmp_path / "cases", "1", voxels_of(rows=4))
    series(tmp_path / "cases", "2", voxels_of(rows=4))
    for path in (tmp_path / "cases" / "2").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[0] += 4.0
        dataset.save_as(path)
    truth = segmentation(tmp_path, "2", {"Lung": voxels_of(rows=4) == SEGMENT})

    with pytest.raises(Rejected, match=r"line 2: .*does not lie on the grid of its series"):
        report(tmp_path, marks, [f"{uid},Part,{truth.name}"])


def test_several_segments_need_a_number_unless_one_is_meant(tmp_path: Path, marks: Package) -> None:
    uid = series(tmp_path / "cases", "1", voxels_of(rows=4))
    one, other = voxels_of(rows=4) == SEGMENT, voxels_of(rows=4) == 0
    truth = segmentation(tmp_path, "1", {"Liver 1": one, "Liver 2": other})

    with pytest.raises(Rejected, match="say which one is meant by FILE#NUMBER"):
        report(tmp_path, marks, [f"{uid},Part,{truth.name}"])


def lesion(folder: Path, name: str, place: tuple[int, int, int], diameter: float = 8.0) -> str:
    """Patient coordinates of a voxel, by the header of its slice (PS3.3 C.7.6.2.1.1)."""
    slices = [pydicom.dcmread(path) for path in (folder / "cases" / name).iterdir()]
    slices.sort(key=lambda dataset: float(dataset.ImagePositionPatient[2]))
    x, y, z = map(float, slices[place[0]].ImagePositionPatient)
    assert list(slices[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    return f"{x + place[2] * PIXEL:g} {y + place[1] * PIXEL:g} {z:g} {diameter:g}"


def test_detections_below_the_operating_point_are_on_the_curve(tmp_path: Path, marks: Package) -> None:
    first, second, false = (2, 4, 4), (5, 11, 11), (2, 13, 3)
    lines = []
    uid = series(tmp_path / "cases", "1", voxels_of(nodules={first: 0.9, second: 0.3, false: 0.6}))
    lines += [f"{uid},nodule,{lesion(tmp_path, '1', place)}" for place in (first, second)]
    uid = series(tmp_path / "cases", "2", voxels_of(nodules={false: 0.4}))
    lines += [f"{uid},nodule,none"]
    uid = series(tmp_path / "cases", "3", voxels_of(nodules={first: 0.8, (2, 4, 5): 0.7}))
    lines += [f"{uid},nodule,{lesion(tmp_path, '3', first)}"]
    numbers = of(report(tmp_path, marks, lines), "nodule")["numbers"]

    assert numbers["lesions"] == 3
    assert numbers["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert numbers["false_positives"]["value"] == pytest.approx(1 / 3, abs=1e-6)  # two hits of a lesion are none
    curve = {one["false_positives"]: one["sensitivity"]["value"] for one in numbers["froc"]}
    assert curve[0.25] == pytest.approx(2 / 3, abs=1e-6)
    assert curve[1.0] == 1.0
    assert numbers["by_series"]["sensitivity"]["value"] == 1.0
    assert numbers["by_series"]["specificity"]["value"] == 1.0


def test_refusals_are_counted_by_their_codes_and_are_in_no_rate(tmp_path: Path, marks: Package) -> None:
    lines = [f"{series(tmp_path / 'cases', '1', voxels_of(chance=0.9))},effusion,1"]
    lines += [f"{series(tmp_path / 'cases', '2', voxels_of(chance=0.1))},effusion,0"]
    lines += [f"{series(tmp_path / 'cases', name, voxels_of(), Modality='MR')},effusion,1" for name in ("3", "4")]
    series(tmp_path / "cases", "5", voxels_of())  # of which nothing is known
    found = report(tmp_path, marks, lines)

    assert (found["series"], found["not_analysed"], found["passed_over"]) == (2, 2, 1)
    (refusal,) = found["refusals"]
    assert refusal["series"] == 2
    assert refusal["why"].startswith("not attempted, ")
    assert of(found, "effusion")["cases"] == 2
    counted = {row[0]: row[1:] for row in found["groups"]["rows"]}
    assert counted["Sex: female"] == ["4", "2"]


def test_series_in_which_the_package_said_nothing_of_a_target_are_counted(marks: Package) -> None:
    targets = targets_of(marks.manifest)
    known = (Known(target=targets[0], value=True, line=2),)
    one = Series(series_uid="1.2.3", study_uid="1.2", groups={})
    called = Called(true=True, score=0.9, said=Presence.PRESENT, uncertainty=0.1)
    spoken, silent = Observed(series=one, known=known, seen={"effusion": called}), Observed(series=one, known=known)

    (result,) = results_of(targets, [spoken, silent, silent])

    assert (result["cases"], result["unsaid"]) == (1, 2)


def test_what_is_known_of_a_study_is_true_of_the_one_series_that_is_taken(tmp_path: Path, marks: Package) -> None:
    for name, study, modality in (
        ("1", "1.2.8.7", "CT"),
        ("2", "1.2.8.7", "MR"),
        ("3", "1.2.8.8", "CT"),
        ("4", "1.2.8.8", "CT"),
    ):
        series(tmp_path / "cases", name, voxels_of(chance=0.9), StudyInstanceUID=study, Modality=modality)
    found = report(tmp_path, marks, ["1.2.8.7,effusion,1", "1.2.8.8,effusion,0"], head="study,target,value")

    assert (found["series"], found["not_analysed"]) == (1, 0)
    assert found["excluded"] == [
        {"study": "1.2.8.8", "series": 2, "why": f"{SEVERAL}: name the series in the truth table"}
    ]


def test_series_of_the_table_that_are_not_there_are_named_before_anything_runs(tmp_path: Path, marks: Package) -> None:
    uid = series(tmp_path / "cases", "1", voxels_of())
    with pytest.raises(Rejected, match=r"line 3: series 1\.2\.9\.2 is not there"):
        report(tmp_path, marks, [f"{uid},effusion,1", "1.2.9.2,effusion,1"])


def test_where_nothing_was_analysed_there_is_no_report(tmp_path: Path, marks: Package) -> None:
    uid = series(tmp_path / "cases", "1", voxels_of(), Modality="MR")
    with pytest.raises(Rejected, match="none of the series was analysed"):
        report(tmp_path, marks, [f"{uid},effusion,1"])


def test_a_folder_without_images_is_said(tmp_path: Path, marks: Package) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "note.txt").write_text("nothing")
    with pytest.raises(Rejected, match="holds no DICOM images"):
        report(tmp_path, marks, ["1.2.3,effusion,1"])


def test_no_name_of_a_patient_is_in_a_report(tmp_path: Path, marks: Package) -> None:
    uid = series(tmp_path / "cases", "1", voxels_of(chance=0.9), PatientName="Secret^Name", PatientID="ID-4711")
    text = json.dumps(report(tmp_path, marks, [f"{uid},effusion,1"]))
    assert "Secret" not in text
    assert "4711" not in text
