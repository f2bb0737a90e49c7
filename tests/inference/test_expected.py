"""A self-test can expect every kind of answer, and each is held against what was said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.packages.expected import missed
from inference.packages.raw import Box, Raw
from inference.packages.selftest import SelfTest
from tests.inference.bringing.judged import package

AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]  #: frames 2 mm apart along z, rows along y, columns along x
BOX = Box(key="nodule", low=(1.0, 2.0, 3.0), high=(3.0, 2.0, 5.0), score=0.9)
ANSWER = Raw(
    values={"size": 8.0}, chances={"effusion": 0.7}, classes={"density": (0.1, 0.8, 0.1)},
    boxes=(BOX, replace(BOX, score=0.3)),
)  # fmt: skip


def faults(folder: Path, answer: Raw = ANSWER, **expected: Any) -> list[str]:
    test = SelfTest(file="case.npz", sha256="0" * 64, **expected)
    return list(missed(package(folder).manifest, test, answer, AFFINE))


@pytest.mark.parametrize(
    "expected",
    [
        {"values": {"size": 8.05}}, {"chances": {"effusion": 0.71}}, {"grades": {"density": "B"}},
        {"detections": {"nodule": ((5.0, 2.0, 4.0),)}},
    ],
)  # fmt: skip
def test_what_is_expected_passes(tmp_path: Path, expected: dict[str, Any]) -> None:
    assert faults(tmp_path, **expected) == []


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"values": {"size": 9.0}}, "size is 8, should be 9"),
        ({"values": {"weight": 9.0}}, "weight is None"),
        ({"chances": {"effusion": 0.8}}, "the probability of effusion is 0.7, should be 0.8 within 0.02"),
        ({"chances": {"fracture": 0.8}}, "there is no probability of fracture"),
        ({"grades": {"density": "C"}}, "grade density is B, should be C"),
        ({"grades": {"colour": "C"}}, "there is no grade colour"),
        ({"detections": {"nodule": ()}}, "1 nodule are reported, should be 0"),
        ({"detections": {"nodule": ((5.0, 2.0, 40.0),)}}, "no nodule at (5, 2, 40) is reported within 5 mm"),
        ({"detections": {"polyp": ()}}, "which its manifest does not name"),
    ],
)
def test_what_came_out_otherwise_is_said(tmp_path: Path, expected: dict[str, Any], words: str) -> None:
    assert words in " ".join(faults(tmp_path, **expected))


def test_a_grade_that_is_not_given_is_a_fault(tmp_path: Path) -> None:
    unsure = replace(ANSWER, classes={"density": (0.3, 0.4, 0.3)})
    assert faults(tmp_path, unsure, grades={"density": "B"}) == ["grade density is not determined, should be B"]


def sighting(**more: Any) -> dict[str, Any]:
    return {"detections": {"nodule": ({"at": (5.0, 2.0, 4.0), **more},)}}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"probability": 0.9}, ""),
        ({"probability": 0.8}, "its probability is 0.9, should be 0.8 within 0.02"),
        ({"values": {"diameter": 8.0}}, "diameter is None, should be 8"),
        ({"grades": {"density": "B"}}, "there is no grade density of it"),
    ],
)
def test_more_than_its_place_can_be_expected_of_a_detection(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    said = " ".join(faults(tmp_path, **sighting(**more)))
    assert words in said
    assert bool(said) is bool(words)
