"""A declared network in the pipeline: DICOM objects in, a coded prediction out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.packages.manifest import load_manifest
from inference.pipeline import Request, predict
from inference.runtime import GaveWay, Runtime
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Status
from tests import builders
from tests.inference.networks.making import RESAMPLED, package
from tests.inference.networks.test_segment import SCRIPTED, scripted
from tests.inference.series import series_of, write

TABLE = (
    RESAMPLED
    + """\
[network.output]
kind = "segmentation"
activation = "softmax"
segments = [0, 1]
measures = [{ key = "part", segments = [1] }]
"""
)


class Bright(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([250 - image, image - 250], dim=1) / 100


def series(folder: Path) -> tuple[Path, ...]:
    voxels = np.zeros((14, 30, 32), np.int16)
    voxels[4:10, 5:20, 8:30] = 500
    return tuple(write(folder, series_of(voxels, 2.0, 1.0, sop_class=builders.CT)))


def request(paths: tuple[Path, ...]) -> Request:
    return Request(key="k", study_uid="1.2", series_uid="1.2.3", revision=1, paths=paths)


def test_a_declared_network_becomes_a_prediction(tmp_path: Path) -> None:
    made = package(
        tmp_path / "p", SCRIPTED + TABLE, {"net": scripted(Bright(), 8, 8, 8)}, segments=1, measurements=("part",)
    )

    outcome = predict(request(series(tmp_path / "s")), made, Runtime(device="cpu"))

    assert outcome.prediction.status is Status.SUCCEEDED, outcome.prediction.reason
    assert outcome.mask is not None
    assert outcome.mask.shape == (14, 30, 32)
    true = 6 * 15 * 22 * 2.0 / 1000
    assert [m.value for m in outcome.prediction.measurements] == pytest.approx(
        [true], rel=0.05
    )  # its sharp corners are finer than 1.5 mm
    assert outcome.mask[5:9, 6:19, 9:29].all()
    assert not outcome.mask[:3].any()
    assert not outcome.mask[11:].any()
    assert outcome.prediction.device == "cpu"


def test_a_run_gives_way_between_windows(tmp_path: Path) -> None:
    made = package(
        tmp_path / "p", SCRIPTED + TABLE, {"net": scripted(Bright(), 8, 8, 8)}, segments=1, measurements=("part",)
    )
    calls = 0

    def checkpoint() -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise GaveWay

    with pytest.raises(GaveWay):
        predict(request(series(tmp_path / "s")), made, Runtime(device="cpu", checkpoint=checkpoint))
    assert calls == 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("segments = [0, 1]", "segments = [0, 7]", "there is no segment 7"),
        ('key = "part"', 'key = "other"', "there is no measurement other"),
        ('weights = "net"', 'weights = "nets"', "there are no weights nets"),
        ('to = "RAS"', 'to = "RLS"', "one letter of each pair"),
        ("size = [8, 8, 8]", "size = [8, 8]", "size needs 3 numbers"),
        ("spacing = [1.5, 1.5, 1.5]", "spacing = [1500, 1, 1]", "spacing is in mm"),
        ('format = "torchscript"', 'format = "state-dict"', "needs an architecture"),
        ("segments = [0, 1]", "segments = [0]", "two at least"),
        ('do = "orient"', 'do = "turn"', "orient"),
    ],
)
def test_what_a_network_table_gets_wrong_is_said_when_it_is_read(old: str, new: str, said: str, tmp_path: Path) -> None:
    package(tmp_path, SCRIPTED + TABLE, {"net": b""}, segments=1, measurements=("part",))
    path = tmp_path / "model.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(Misconfigured, match=said):
        load_manifest(path)
