"""A faster way of computing is used where every part of the answer stays what eager float32 says of the self-test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.algorithms.proof import keep_case, prove
from inference.packages.axes import differing
from inference.packages.raw import Box, Image, Map, Raw
from inference.runtime import Runtime
from storage.facts.prediction import Shown
from tests.inference.manifests import EFFUSION, condition
from tests.inference.networks.making import Same, package, volume_of
from tests.inference.networks.test_segment import SCRIPTED, scripted

Tensor = torch.Tensor
CONDITION = condition("effusion", EFFUSION, absent_below=0.2, source="Somebody 2020")
OUTPUT = '[network.output]\nkind = "classification"\nactivation = "sigmoid"\nconditions = ["effusion"]\n'


class Fine(Same):
    """Decides by a digit that bfloat16 does not have: 1001 is 1000 there."""

    def forward(self, image: Tensor) -> Tensor:
        return 20 * (1000.5 - self.layer(image).float().mean((1, 2, 3, 4)))[:, None]


def test_a_probability_that_changes_keeps_a_faster_way_from_being_used(tmp_path: Path) -> None:
    volume = volume_of(np.full((6, 6, 6), 1001, np.int16))
    digest = keep_case(tmp_path / "case.npz", volume)
    test = f'[selftest]\nfile = "case.npz"\nsha256 = "{digest}"\nchances = {{ effusion = 0.0 }}\n'
    text = SCRIPTED.replace("[network]\n", '[network]\nvariants = ["bf16"]\n') + OUTPUT

    made = package(tmp_path, text, {"net": scripted(Fine(), 6, 6, 6)}, more=CONDITION + test)
    proof = prove(made, Runtime(device="cpu"))

    assert (proof.passed, proof.faults, proof.chosen) == (True, (), ())
    assert proof.trials[1].fault == "what differs from eager float32: probability of effusion (1 instead of 4.54e-05)"


def whole() -> Raw:
    """An answer with one of everything that is no map of segments."""
    ramp = np.linspace(0, 1, 60).reshape(3, 4, 5).astype(np.float32)
    return Raw(
        values={"size": 10.0},
        chances={"effusion": 0.5},
        classes={"density": (0.2, 0.8)},
        boxes=(Box(key="nodule", low=(0.0, 0.0, 0.0), high=(2.0, 2.0, 2.0), score=0.7),),
        maps=(Map(shown=Shown.SALIENCY, label="Saliency", method="m", voxels=ramp),),
        images=(Image(key="smooth", voxels=(100 * ramp).astype(np.int16)),),
    )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (replace(whole(), values={"size": 10.2}), "measurement size (10.2 instead of 10)"),
        (replace(whole(), values={}), "measurement size (none instead of 10)"),
        (replace(whole(), chances={"effusion": float("nan")}), "probability of effusion (nan instead of 0.5)"),
        (replace(whole(), classes={"density": (0.25, 0.75)}), "grade density"),
        (replace(whole(), classes={}), "grade density"),
        (replace(whole(), boxes=()), "0 nodule instead of 1"),
        (
            replace(whole(), boxes=(replace(whole().boxes[0], score=0.75),)),
            "probability of the nodule at (1.0, 1.0, 1.0) (0.75 instead of 0.7)",
        ),
        (replace(whole(), maps=(replace(whole().maps[0], voxels=1 - whole().maps[0].voxels),)), "the map Saliency"),
        (replace(whole(), maps=()), "the map Saliency"),
        (replace(whole(), images=()), "the image smooth"),
        (replace(whole(), mask=np.ones((3, 4, 5), np.uint8)), "1 maps of segments instead of 0"),
    ],
)
def test_each_part_that_differs_is_named(changed: Raw, named: str) -> None:
    assert list(differing(whole(), changed, (np.eye(4), np.eye(4)), near=0.01)) == [named]


def test_what_is_the_same_within_the_limit_is_no_difference() -> None:
    close = replace(whole(), values={"size": 10.05}, chances={"effusion": 0.505})
    assert list(differing(whole(), close, (np.eye(4), np.eye(4)), near=0.01)) == []
