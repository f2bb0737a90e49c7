"""A model that takes several series: given on one grid, refused by name, or imputed with a word to the reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.algorithms.raw import Raw
from inference.imaging.volume import Volume
from inference.packages.joining import Input
from inference.packages.package import Package, open_package
from inference.pipeline import Outcome, Request, predict
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Status
from tests import builders
from tests.inference.series import write

MANIFEST = """
id = "two-series"
version = "1.0.0"
title = "Two series"
manufacturer = "Tests"
intended_use = "None."
licence = "None"
algorithm = "two"
[accepts]
modality = ["MR"]
"""
FLAIR = '[[inputs]]\nrole = "flair"\n'


def package(folder: Path, inputs: str) -> Package:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_text(MANIFEST + inputs, encoding="utf-8")
    return open_package(folder)


def series(
    folder: Path, value: int, number: int, *, count: int = 8, frame_of_reference: str = "1.9", modality: str = "MR"
) -> list[Path]:
    datasets = builders.slices(count, 12, 14, sop_class=builders.MR)
    for at, dataset in enumerate(datasets):
        builders.pixels(dataset, np.full((12, 14), value, np.int16))
        dataset.Modality, dataset.FrameOfReferenceUID = modality, frame_of_reference
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"1.2.{number}", f"1.2.{number}.{at}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return write(folder, datasets)


class Seen:
    """An algorithm that remembers what it was given."""

    def __init__(self) -> None:
        self.volume: Volume | None = None

    def __call__(self, volume: Volume, package: Package, runtime: Runtime) -> Raw:  # noqa: ARG002
        self.volume = volume
        return Raw()

    def mean(self, role: str) -> float:
        assert self.volume is not None
        assert self.volume.others[role].shape == self.volume.voxels.shape
        return float(self.volume.others[role].mean())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    algorithm = Seen()
    monkeypatch.setattr("inference.pipeline.find", lambda _name: algorithm)
    return algorithm


def run(folder: Path, model: Package, *given: tuple[str, list[Path]], missing: dict[str, str] | None = None) -> Outcome:
    inputs = tuple(
        Input(role=role, series_uid=f"1.2.{n}", revision=1, paths=tuple(paths)) for n, (role, paths) in enumerate(given)
    )
    request = Request(
        key="k", study_uid="1", series_uid="1.2.1", revision=1, paths=tuple(series(folder / "first", 100, 1)),
        inputs=inputs, missing=tuple((missing or {}).items()),
    )  # fmt: skip
    return predict(request, model, Runtime(device="cpu"))


def test_a_further_series_arrives_on_the_grid_of_the_first_and_is_named_in_the_report(
    tmp_path: Path, seen: Seen
) -> None:
    outcome = run(tmp_path, package(tmp_path / "m", FLAIR), ("flair", series(tmp_path / "f", 40, 2)))

    assert outcome.prediction.status is Status.SUCCEEDED
    assert seen.mean("flair") == 40.0
    assert outcome.prediction.warnings == ()
    assert ("Input flair", "Series 1.2.0, revision 1") in outcome.prediction.algorithm.parameters
    assert "align" in outcome.prediction.seconds


def test_a_missing_series_is_refused_by_its_role(tmp_path: Path, seen: Seen) -> None:
    outcome = run(tmp_path, package(tmp_path / "m", FLAIR), missing={"flair": "none came within 600 s"})

    assert seen.volume is None
    assert outcome.prediction.status is Status.NOT_ATTEMPTED
    assert outcome.prediction.reason is not None
    assert outcome.prediction.reason.code.value == "110523"
    assert outcome.prediction.reason.text == (
        "The input flair is missing: none came within 600 s. This model is not run without it. (two-series 1.0.0)"
    )


@pytest.mark.parametrize(
    ("how", "value", "words"),
    [
        ("", 0.0, "zeros took its place."),
        ('impute = "mean"\nmean = 312.5\n', 312.5, "the mean of the training data (312.5) took its place."),
    ],
)
def test_what_may_be_imputed_is_and_the_reader_is_told(
    how: str, value: float, words: str, tmp_path: Path, seen: Seen
) -> None:
    model = package(tmp_path / "m", FLAIR + 'missing = "impute"\n' + how)
    outcome = run(tmp_path, model, missing={"flair": "none came"})

    assert outcome.prediction.status is Status.SUCCEEDED
    assert seen.mean("flair") == value
    assert outcome.prediction.warnings == (f"The input flair is missing (none came); {words}",)


def test_another_frame_of_reference_is_refused_unless_the_package_takes_any(tmp_path: Path, seen: Seen) -> None:
    other = series(tmp_path / "f", 40, 2, frame_of_reference="1.10")
    imputing = FLAIR + 'missing = "impute"\n'
    refused = run(tmp_path, package(tmp_path / "m", imputing), ("flair", other))
    taken = run(tmp_path, package(tmp_path / "n", FLAIR + 'frame_of_reference = "any"\n'), ("flair", other))

    assert refused.prediction.status is Status.NOT_ATTEMPTED
    assert refused.prediction.reason is not None
    assert refused.prediction.reason.code.value == "110522"
    assert refused.prediction.reason.text.startswith("The input flair has another frame of reference than the series")
    assert taken.prediction.status is Status.SUCCEEDED
    assert seen.mean("flair") == 40.0


def test_a_series_that_cannot_be_used_counts_as_missing(tmp_path: Path, seen: Seen) -> None:
    gated = FLAIR + 'missing = "impute"\n[inputs.accepts]\nmodality = ["PT"]\n'
    cases: list[tuple[str, list[Path], str]] = [
        (gated, series(tmp_path / "a", 40, 2), "Modality is MR; this model takes PT. (two-series 1.0.0)"),
        (FLAIR + 'missing = "impute"\n', series(tmp_path / "b", 40, 2, count=2), "The series has 2 slices"),
        (FLAIR + 'missing = "impute"\n', series(tmp_path / "c", 40, 2, count=3), "it covers 38% of the series"),
    ]
    for number, (inputs, files, words) in enumerate(cases):
        outcome = run(tmp_path, package(tmp_path / f"m{number}", inputs), ("flair", files))
        [warning] = outcome.prediction.warnings
        assert words in warning
        assert warning.endswith("zeros took its place.")
        assert seen.mean("flair") == 0.0


def test_partial_cover_and_unknown_roles_are_said(tmp_path: Path, seen: Seen) -> None:
    lower = series(tmp_path / "f", 40, 2, count=6)
    outcome = run(tmp_path, package(tmp_path / "m", FLAIR), ("flair", lower), ("pet", lower))

    assert outcome.prediction.warnings == (
        "The input flair covers only 75% of the series.",
        "The rule gave an input pet, which this model does not take: it was not used.",
    )
    assert seen.mean("flair") == 30.0


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (FLAIR + FLAIR, "roles must differ"),
        (FLAIR + 'missing = "impute"\nimpute = "mean"\n', "mean is stated where impute"),
        (FLAIR + 'impute = "mean"\nmean = 3\n', "impute means something only where missing"),
        ('[[inputs]]\nrole = "T1 w"\n', "role"),
        (FLAIR + "overlap = 0\n", "overlap"),
    ],
)
def test_a_manifest_with_faulty_inputs_is_refused(inputs: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=words):
        package(tmp_path, inputs)


def test_a_model_of_one_series_is_not_bothered(tmp_path: Path, seen: Seen) -> None:
    outcome = run(tmp_path, package(tmp_path / "m", ""))

    assert seen.volume is not None
    assert dict(seen.volume.others) == {}
    assert "align" not in outcome.prediction.seconds
