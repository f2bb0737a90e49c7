"""A benchmark runs what production runs, and its steps add up to the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.algorithms.proof import keep_case
from inference.bringing.benchmark import STEPS, benchmark
from inference.packages.package import Package
from inference.runtime import Kept, Runtime
from storage.facts.errors import Misconfigured, Rejected
from tests import builders
from tests.inference.networks.making import package, volume_of
from tests.inference.networks.test_segment import SCRIPTED, scripted
from tests.inference.series import series_of, write

SEGMENTING = """
[network.windows]
size = [8, 16, 16]
overlap = 0.5
[network.output]
kind = "segmentation"
activation = "softmax"
segments = [0, 1]
"""
SHAPE = (16, 16, 16)


class Slow(torch.nn.Module):
    """Some work, so that a forward pass takes a time that can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Conv3d(1, 1, 5, padding=2, bias=False) for _ in range(3)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.01 * self.layers(image), image], dim=1)


def made(folder: Path, more: str = "") -> Package:
    torch.manual_seed(1)
    return package(folder, SCRIPTED + SEGMENTING, {"net": scripted(Slow(), 8, 16, 16)}, segments=1, more=more)


def measured(package: Package, folder: Path | None, rounds: int = 3) -> dict[str, Any]:
    said: list[str] = []
    found = benchmark(package, folder, Runtime(device="cpu", models=Kept()), rounds, said.append)
    assert len(said) == rounds + 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_a_series_is_measured_step_by_step(tmp_path: Path) -> None:
    write(tmp_path / "series", series_of(np.ones(SHAPE, np.int16), 1.0, 1.0, sop_class=builders.CT))
    found = measured(made(tmp_path / "package"), tmp_path / "series", 1)

    steps = {one["step"]: one["seconds"] for one in found["steps"]}
    assert [step for step in STEPS if step in steps] == list(steps)
    assert {"headers", "decode", "prepare", "forward", "stitch"} <= set(steps)  # what is left for results may be 0
    assert sum(steps.values()) == pytest.approx(found["seconds"], abs=0.01)
    assert found["ratio"] == pytest.approx(found["seconds"] / found["forward"], rel=0.05)
    assert (found["shape"], found["rounds"], found["kind"]) == (list(SHAPE), 1, "cpu")
    assert found["peak"] > 10 * 2**20
    assert found["source"].startswith("series ")


def test_the_median_of_several_runs_counts(tmp_path: Path) -> None:
    write(tmp_path / "series", series_of(np.ones(SHAPE, np.int16), 1.0, 1.0, sop_class=builders.CT))
    found = measured(made(tmp_path / "package"), tmp_path / "series")
    assert found["seconds"] == sorted(found["runs"])[1]
    assert found["first"] > 0


def test_without_a_series_its_self_test_is_run(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    digest = keep_case(tmp_path / "package" / "case.npz", volume_of(np.ones(SHAPE, np.int16)), np.ones(SHAPE, np.uint8))
    found = measured(made(tmp_path / "package", f'[selftest]\nfile = "case.npz"\nsha256 = "{digest}"\n'), None, 1)

    assert {one["step"] for one in found["steps"]} == {"prepare", "forward", "stitch"}
    assert found["source"] == "its self-test"


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="brings no self-test: give a folder with a series"):
        measured(made(tmp_path / "package"), None)
    write(tmp_path / "other", series_of(np.ones(SHAPE, np.int16), 1.0, 1.0, sop_class=builders.PT, Modality="PT"))
    with pytest.raises(Rejected, match="the package does not take the series"):
        measured(made(tmp_path / "package"), tmp_path / "other")
    write(tmp_path / "other" / "more", series_of(np.ones(SHAPE, np.int16), 1.0, 1.0, SeriesInstanceUID="1.2.3.9"))
    with pytest.raises(Rejected, match="holds 2 series: give the folder of one"):
        measured(made(tmp_path / "package"), tmp_path / "other")


def test_an_algorithm_without_a_network_is_measured_as_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference.algorithms.registry import ALGORITHMS
    from tests.inference.bringing import judged

    monkeypatch.setitem(ALGORITHMS, judged.NAME, judged.ALGORITHM)
    judged.series(tmp_path / "cases", "1", judged.voxels_of(rows=4))
    found = measured(judged.package(tmp_path / "package"), tmp_path / "cases" / "1")

    assert not {"prepare", "forward", "stitch"} & {one["step"] for one in found["steps"]}
    assert (found["forward"], found["ratio"]) == (None, None)
