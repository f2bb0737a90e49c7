"""From files to a prediction: every way a run can end is said in codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

import inference.algorithms.registry as registry
from inference.algorithms import lung_adaptor
from inference.algorithms.raw import Raw
from inference.imaging.volume import Volume, load
from inference.packages.package import Package
from inference.pipeline import Outcome, Request, predict
from inference.runtime import Runtime
from storage.facts.errors import Rejected, Transient
from storage.facts.prediction import Prediction, Status
from storage.facts.wire import from_json, to_json
from tests import builders
from tests.inference.series import edited, head, write


def run(paths: list[Path], package: Package) -> Outcome:
    request = Request(key="k", study_uid="1.2", series_uid="1.2.3", revision=2, paths=tuple(paths))
    return predict(request, package, Runtime(device="cpu"))


def chest() -> list[Dataset]:
    """Uniform slices that pass every gate of the lung package and hold no lung."""
    datasets = builders.slices(90, 32, 32, step=2.5)
    return edited(datasets, lambda _, d: setattr(d, "ConvolutionKernel", "STANDARD"))


def without_result(outcome: Outcome) -> bool:
    p = outcome.prediction
    return (outcome.mask, p.measurements, p.segments, p.findings) == (None, (), (), ())


def test_a_head_becomes_a_mask_and_a_measurement(tmp_path: Path, small_brain: Package) -> None:
    outcome = run(write(tmp_path, head()), small_brain)
    said = outcome.prediction
    assert (said.status, said.reason, said.device) == (Status.SUCCEEDED, None, "cpu")
    assert (said.key, said.study_uid, said.series_uid, said.revision) == ("k", "1.2", "1.2.3", 2)
    assert said.algorithm == small_brain.algorithm()
    assert [s.label for s in said.segments] == ["Brain"]
    assert said.segments[0].measurements[0].value == pytest.approx(1715, rel=0.03)
    assert set(said.seconds) == {"judge", "load", "compute"}
    assert outcome.mask is not None
    assert outcome.mask.shape == (64, 64, 64)
    assert [f.sop_instance_uid for f in outcome.mask_frames] == [f"{builders.ROOT}.1.{n}" for n in range(1, 65)]
    assert from_json(Prediction, to_json(said)) == said


def test_a_series_of_another_kind_is_not_attempted(tmp_path: Path, small_brain: Package) -> None:
    outcome = run(write(tmp_path, builders.slices(sop_class=builders.CT)), small_brain)
    assert outcome.prediction.status is Status.NOT_ATTEMPTED
    assert outcome.prediction.reason is not None
    assert "Modality is CT; this model takes MR." in outcome.prediction.reason.text
    assert without_result(outcome)


def test_a_series_that_is_no_stack_is_not_attempted(tmp_path: Path, small_brain: Package) -> None:
    datasets = head()
    outcome = run(write(tmp_path, datasets[:30] + datasets[31:]), small_brain)
    assert outcome.prediction.status is Status.NOT_ATTEMPTED
    assert outcome.prediction.reason is not None
    assert outcome.prediction.reason.code.value == "110523"
    assert without_result(outcome)


def test_pixels_that_do_not_decode_are_not_attempted(tmp_path: Path, small_brain: Package) -> None:
    datasets = head()
    datasets[7].PixelData = b"\0" * 100
    outcome = run(write(tmp_path, datasets), small_brain)
    assert outcome.prediction.status is Status.NOT_ATTEMPTED
    assert outcome.prediction.reason is not None
    assert outcome.prediction.reason.code.value == "110521"


def test_content_that_is_no_head_fails_without_numbers(tmp_path: Path, small_brain: Package) -> None:
    outcome = run(write(tmp_path, head(radii=(60.0, 50.0, 45.0))), small_brain)
    assert outcome.prediction.status is Status.FAILED
    assert without_result(outcome)


def test_a_chest_without_lungs_fails_without_numbers(tmp_path: Path, lung_package: Package) -> None:
    outcome = run(write(tmp_path, chest()), lung_package)
    assert outcome.prediction.status is Status.FAILED
    assert outcome.prediction.reason is not None
    assert "Lung density was not measured" in outcome.prediction.reason.text
    assert without_result(outcome)


def _values(package: Package, **changes: float) -> dict[str, float]:
    return {entry.key: sum(entry.plausible) / 2 for entry in package.manifest.measurements} | changes


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        ({"volume": 20000.0}, "110531", "Volume came out as 20000 mL, outside of what is plausible (800 to 10000)"),
        ({"laa950": float("nan")}, "111218", "no finite number"),
        ("mask of another shape", "111218", "not on the grid"),
        ("mask with a third segment", "111218", "segments that its package does not name"),
        ("rejected", "111218", "cannot be computed"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_withheld(
    tmp_path: Path, lung_package: Package, monkeypatch: pytest.MonkeyPatch, raw: object, code: str, words: str
) -> None:
    def algorithm(volume: Volume, package: Package, runtime: Runtime) -> Raw:
        del runtime
        if raw == "rejected":
            raise Rejected("cannot be computed")
        shape = (1, 2, 3) if raw == "mask of another shape" else volume.voxels.shape
        mask = np.full(shape, 3 if raw == "mask with a third segment" else 1, np.uint8)
        return Raw(mask=mask, values=_values(package, **(raw if isinstance(raw, dict) else {})))

    monkeypatch.setattr("inference.pipeline.find", lambda _name: algorithm)
    outcome = run(write(tmp_path, chest()), lung_package)
    assert outcome.prediction.status is Status.FAILED
    assert outcome.prediction.reason is not None
    assert outcome.prediction.reason.code.value == code
    assert words in outcome.prediction.reason.text
    assert without_result(outcome)


def test_an_empty_mask_is_no_mask(tmp_path: Path, lung_package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def algorithm(volume: Volume, package: Package, runtime: Runtime) -> Raw:
        return Raw(mask=np.zeros(volume.voxels.shape, np.uint8), values=_values(package), device=runtime.device)

    monkeypatch.setattr("inference.pipeline.find", lambda _name: algorithm)
    outcome = run(write(tmp_path, chest()), lung_package)
    assert outcome.prediction.status is Status.SUCCEEDED
    assert (outcome.mask, outcome.mask_frames) == (None, ())


def test_a_lung_that_is_not_there_has_no_numbers_and_withholds_none(
    tmp_path: Path, lung_package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def algorithm(volume: Volume, package: Package, runtime: Runtime) -> Raw:
        nothing = {key: 0.0 for key in _values(package) if key.startswith("left_")}
        return Raw(
            mask=np.ones(volume.voxels.shape, np.uint8), values=_values(package, **nothing), device=runtime.device
        )

    monkeypatch.setattr("inference.pipeline.find", lambda _name: algorithm)
    said = run(write(tmp_path, chest()), lung_package).prediction
    assert said.status is Status.SUCCEEDED
    assert [len(segment.measurements) for segment in said.segments] == [4, 0]
    assert len(said.measurements) == 4


def test_what_may_succeed_later_is_raised(
    tmp_path: Path, small_brain: Package, lung_package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write(tmp_path / "head", head())
    paths[0].unlink()
    with pytest.raises(Transient):
        run(paths, small_brain)

    def exhausted(*_args: object, **_more: object) -> Raw:
        raise MemoryError

    monkeypatch.setattr("inference.pipeline.find", lambda _name: exhausted)
    with pytest.raises(Transient, match="out of memory"):
        run(write(tmp_path / "chest", chest()), lung_package)


def test_the_lung_adaptor_turns_the_patient_not_the_result(
    lung_package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A volume stored head to foot is measured foot to head, and its mask comes back head to foot."""
    seen: list[np.ndarray] = []

    def measure(hu: np.ndarray, spacing: tuple[float, float, float], checkpoint: Callable[[], None]) -> object:
        checkpoint()
        seen.append(hu)
        assert spacing == (2.5, 0.75, 0.5)
        region = dataclasses.make_dataclass("Region", ["volume_ml", "mean_hu", "laa950_percent", "perc15_hu"])(
            1, 2, 3, 4
        )
        found = dataclasses.make_dataclass("Found", ["mask", "both", "right", "left", "refusal", "warnings"])
        return found((hu > 500).astype(np.uint8), region, region, region, None, ("w",))

    monkeypatch.setattr(lung_adaptor, "measure", measure)
    volume = load(write(tmp_path, builders.slices()))
    affine = volume.affine.copy()
    affine[:3, 0] *= -1
    raw = registry.find("lung-densitometry")(dataclasses.replace(volume, affine=affine), lung_package, Runtime())
    np.testing.assert_array_equal(seen[0], volume.voxels[::-1])
    np.testing.assert_array_equal(raw.mask, volume.voxels > 500)
    assert raw.values["left_perc15"] == 4
    assert raw.warnings == ("w",)
