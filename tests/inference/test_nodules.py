"""The package that the project trains itself, on phantoms over DICOM files: where, how malignant, how sure, and why."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from inference.imaging.volume import load
from inference.packages.package import Package, open_package
from inference.packages.store import SHIPPED
from inference.pipeline import Outcome, Request, predict
from inference.runtime import GaveWay, Runtime
from inference.training.series import Written, write_series
from storage.facts.prediction import Detection, Prediction, Presence, Shown, Status
from storage.facts.wire import from_json, to_json

SEED, NODULES = 9_000_002, 2


@pytest.fixture(scope="module")
def package() -> Package:
    return open_package(SHIPPED / "phantom-nodule")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_series(tmp_path_factory.mktemp("phantom"), seed=SEED, nodules=NODULES)


def run(paths: tuple[Path, ...], package: Package, runtime: Runtime | None = None) -> Outcome:
    request = Request(key="k", study_uid="1.2", series_uid="1.2.3", revision=1, paths=paths)
    return predict(request, package, runtime or Runtime(device="cpu"))


@pytest.fixture(scope="module")
def outcome(written: Written, package: Package) -> Outcome:
    return run(written.paths, package)


def middle_mm(found: Detection, affine: np.ndarray) -> np.ndarray:
    """Middle of a box in patient coordinates: x, y, z."""
    middle = (np.array(found.location.low) + np.array(found.location.high)) / 2
    return np.asarray(affine @ np.append(middle, 1.0))[:3]


def near(truth: tuple[float, float, float], found: list[np.ndarray]) -> float:
    return min(float(np.linalg.norm(place - np.array(truth[::-1]))) for place in found)


def test_nodules_are_found_where_they_are_in_the_patient(written: Written, outcome: Outcome) -> None:
    said = outcome.prediction
    affine = load(written.paths).affine

    assert said.status is Status.SUCCEEDED
    places = [middle_mm(found, affine) for found in said.detections]
    assert len(places) >= NODULES
    for nodule in written.phantom.nodules:
        assert near(nodule.centre, places) < 2.5
        best = min(said.detections, key=lambda d: float(np.linalg.norm(middle_mm(d, affine) - nodule.centre[::-1])))
        assert best.measurements[0].value == pytest.approx(2 * nodule.radius, abs=4.0)
    assert from_json(Prediction, to_json(said)) == said
    assert [f.sop_instance_uid for f in said.frames] == [
        str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in written.paths
    ]


def test_each_nodule_has_a_grade_with_its_doubt_and_the_finding_its_operating_point(
    outcome: Outcome, package: Package
) -> None:
    said, entry = outcome.prediction, package.manifest.detections[0]

    assert [g.detection for g in said.grades] == [d.number for d in said.detections]
    for grade in said.grades:
        assert sum(p.probability for p in grade.probabilities) == pytest.approx(1.0, abs=0.01)
        assert 0 <= (grade.uncertainty or 0) <= 1
        assert grade.ordinal
    finding = said.findings[0]
    assert (finding.presence, finding.threshold, finding.detection) == (Presence.PRESENT, entry.present_from, 1)
    assert "sensitivity" in finding.threshold_source
    assert "Not validated on patients" in finding.threshold_source


def test_saliency_and_uncertainty_lie_on_the_source_grid(written: Written, outcome: Outcome) -> None:
    said = outcome.prediction
    volume = load(written.paths)

    assert [one.shown for one in said.heatmaps] == [Shown.SALIENCY, Shown.UNCERTAINTY]
    assert all(array.shape == volume.voxels.shape for array in outcome.arrays)
    index = np.linalg.inv(volume.affine)
    for nodule in written.phantom.nodules:
        at = tuple(np.rint(index @ np.append(nodule.centre[::-1], 1.0))[:3].astype(int))
        assert outcome.arrays[0][at] > 10 * float(outcome.arrays[0].mean())
    assert "Grad-CAM" in said.heatmaps[0].method
    assert "dropout" in said.heatmaps[1].method


def test_the_same_series_gives_the_same_answer_and_a_phantom_without_nodules_is_said_to_have_none(
    tmp_path: Path, written: Written, outcome: Outcome, package: Package
) -> None:
    again = run(written.paths, package)
    assert dataclasses.replace(again.prediction, seconds={}) == dataclasses.replace(outcome.prediction, seconds={})
    assert all(np.array_equal(a, b) for a, b in zip(again.arrays, outcome.arrays, strict=True))

    start = time.process_time()
    empty = run(write_series(tmp_path, seed=SEED + 1, nodules=0).paths, package).prediction

    assert time.process_time() - start < 20  # of one core: whatever else the machine does
    assert (empty.status, empty.detections, empty.grades) == (Status.SUCCEEDED, (), ())
    assert empty.findings[0].presence is not Presence.PRESENT
    assert [one.shown for one in empty.heatmaps] == [Shown.UNCERTAINTY]


def _edited(paths: tuple[Path, ...], folder: Path, edit: Callable[[Dataset], None]) -> tuple[Path, ...]:
    changed = []
    for path in paths:
        dataset = pydicom.dcmread(path)
        edit(dataset)
        changed.append(folder / path.name)
        dataset.save_as(changed[-1])
    return tuple(changed)


def test_a_turned_series_gives_the_same_nodules_at_the_same_places(
    tmp_path: Path, written: Written, outcome: Outcome, package: Package
) -> None:
    """Rows from back to front and columns from left to right: other arrays, the same patient."""

    def turn(ds: Dataset) -> None:
        pixels = ds.pixel_array[::-1, ::-1]
        spacing = np.array([float(s) for s in ds.PixelSpacing])
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x + spacing[1] * (ds.Columns - 1), y + spacing[0] * (ds.Rows - 1), z]
        ds.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        ds.PixelData = np.ascontiguousarray(pixels).tobytes()

    paths = _edited(written.paths, tmp_path, turn)
    turned = run(paths, package).prediction

    straight = [middle_mm(d, load(written.paths).affine) for d in outcome.prediction.detections]
    again = [middle_mm(d, load(paths).affine) for d in turned.detections]
    assert [d.score for d in turned.detections] == pytest.approx(
        [d.score for d in outcome.prediction.detections], abs=0.01
    )
    assert np.abs(np.array(again) - np.array(straight)).max() < 0.1


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"BodyPartExamined": "CHEST", "StudyDescription": "CT", "SeriesDescription": "THORAX"}, "another body region"),
        ({"BodyPartExamined": "", "StudyDescription": "", "SeriesDescription": ""}, "does not state the body region"),
        ({"Modality": "PT"}, "Modality is PT"),
        ({"SliceThickness": 5.0}, "Slice thickness is 5 mm"),
    ],
)
def test_what_does_not_call_itself_a_phantom_is_not_analysed(
    tmp_path: Path, written: Written, package: Package, attributes: dict[str, Any], words: str
) -> None:
    def edit(ds: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    said = run(_edited(written.paths, tmp_path, edit), package).prediction

    assert said.status is Status.NOT_ATTEMPTED
    assert said.reason is not None
    assert words in said.reason.text


def test_a_run_makes_way_at_its_checkpoints(written: Written, package: Package) -> None:
    def stop() -> None:
        raise GaveWay

    with pytest.raises(GaveWay):
        run(written.paths, package, Runtime(device="cpu", checkpoint=stop))


def test_the_shipped_weights_are_small_and_their_report_is_beside_them() -> None:
    folder = SHIPPED / "phantom-nodule"

    assert sum(path.stat().st_size for path in folder.iterdir()) < 2 * 2**20
    assert {"report.md", "roc.svg", "froc.svg", "reliability.svg", "history.svg"} <= {p.name for p in folder.iterdir()}
