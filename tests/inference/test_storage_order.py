"""An answer that depends on how a scanner stores the axes is noted, whichever part of it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from inference.algorithms.proof import Proof, keep_case, prove
from inference.algorithms.registry import ALGORITHMS
from inference.imaging.irregular import NOT_SUPPORTED, Irregular
from inference.imaging.volume import Volume
from inference.packages.package import Package, open_package
from inference.packages.raw import Box, Image, Map, Raw
from inference.runtime import Runtime
from storage.facts.prediction import Shown
from tests.inference.manifests import (
    NODULE,
    NODULE_OF_LUNG,
    accepts,
    detection,
    head,
    measurement,
    packed,
    segment,
)
from tests.inference.networks.making import volume_of

NAME = "test-storage"
Voxels = npt.NDArray[Any]
Answer = Callable[[Volume], Raw]

MANIFEST = f"""{head("stored", title="Stored", algorithm=NAME)}{accepts("CT")}
[[images]]
key = "smooth"
label = "Smooth"
method = {{ value = "113087", scheme = "DCM", meaning = "Smoothing" }}
text = "Nothing"

{detection("nodule", "Nodule", NODULE, says=NODULE_OF_LUNG, source="Somebody 2020")}
{segment(1, "One")}{segment(2, "Two")}{measurement("size", plausible=(-1.0, 1e6))}"""


def body() -> Volume:
    """A patient that looks different from every side."""
    voxels = np.zeros((10, 12, 14), np.int16)
    voxels[1:7, 2:9, 3:12] = 100
    voxels[5:7, 2:5, 3:6] = 300
    return volume_of(voxels, (1.5, 1.0, 1.0))


def mirrored(array: Voxels) -> Voxels:
    """As a program has it that takes the first stored axis for a direction of the patient."""
    return np.ascontiguousarray(array[::-1])


def right(volume: Volume) -> Raw:
    """One of everything, of the voxels alone."""
    voxels = volume.voxels
    low, high = (np.stack(np.nonzero(voxels > 200))[:, k] for k in (0, -1))
    ends = np.sort([low, high], axis=0).astype(float)
    return Raw(
        mask=(voxels > 50).astype(np.uint8),
        over=((2 * (voxels > 200)).astype(np.uint8),),
        values={"size": float((voxels > 50).sum() * volume.voxel_ml)},
        boxes=(Box(key="nodule", low=tuple(ends[0]), high=tuple(ends[1]), score=0.9),),
        maps=(
            Map(shown=Shown.PROBABILITY, label="First", method="m", voxels=(voxels / 300).astype(np.float32)),
            Map(shown=Shown.UNCERTAINTY, label="Second", method="m", voxels=(voxels > 200).astype(np.float32)),
        ),
        images=(Image(key="smooth", voxels=voxels),),
    )


def second_map_of_segments(volume: Volume) -> Raw:
    raw = right(volume)
    return replace(raw, over=(mirrored(raw.over[0]),))


def second_heat(volume: Volume) -> Raw:
    raw = right(volume)
    return replace(raw, maps=(raw.maps[0], replace(raw.maps[1], voxels=mirrored(raw.maps[1].voxels))))


def new_image(volume: Volume) -> Raw:
    raw = right(volume)
    return replace(raw, images=(replace(raw.images[0], voxels=mirrored(raw.images[0].voxels)),))


def box(volume: Volume) -> Raw:
    raw, last = right(volume), volume.voxels.shape[0] - 1
    [one] = raw.boxes
    low, high = (last - one.high[0], *one.low[1:]), (last - one.low[0], *one.high[1:])
    return replace(raw, boxes=(replace(one, low=low, high=high),))


def number(volume: Volume) -> Raw:
    return replace(right(volume), values={"size": float(volume.voxels[0:6].sum())})


def proven(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> Proof:
    """The proof of a package whose self-test expects what it says itself."""

    def run(volume: Volume, _package: Package, _runtime: Runtime) -> Raw:
        return answer(volume)

    monkeypatch.setitem(ALGORITHMS, NAME, (__name__, "standing"))
    monkeypatch.setattr(f"{__name__}.standing", run, raising=False)
    volume = body()
    raw = answer(volume)
    assert raw.mask is not None
    mask = np.stack([raw.mask, *raw.over])
    folder.mkdir()
    digest = keep_case(folder / "case.npz", volume, mask, {one.key: one.voxels for one in raw.images})
    test = f'\n[selftest]\nfile = "case.npz"\nsha256 = "{digest}"\n'
    return prove(open_package(packed(folder, MANIFEST + test)), Runtime(device="cpu"))


def test_an_answer_of_the_voxels_alone_is_the_same_however_they_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = proven(tmp_path / "p", monkeypatch, right)
    assert (proof.passed, proof.faults, proof.notes) == (True, (), ())


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (second_map_of_segments, "(map 2 of 2 of its segments (segments 2; "),
        (second_heat, "(the map Second)"),
        (new_image, "(the image smooth)"),
        (box, "(the nodule at ("),
        (number, "(measurement size ("),
    ],
)
def test_the_part_that_depends_on_it_is_named_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, named: str
) -> None:
    proof = proven(tmp_path / "p", monkeypatch, answer)

    (note,) = proof.notes
    assert proof.passed, "as stored, it is what was expected"
    assert named in note
    assert ";" not in note.partition(named)[2].partition("): name")[0]


def test_a_refusal_of_other_axes_is_noted_and_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def axial(volume: Volume) -> Raw:
        if volume.voxels.shape[0] != 10:
            raise Irregular(NOT_SUPPORTED, "The images are not axial.")
        return right(volume)

    proof = proven(tmp_path / "p", monkeypatch, axial)

    assert proof.passed
    assert proof.notes == ("of a patient whose axes are stored otherwise it says nothing: The images are not axial.",)


@pytest.mark.parametrize("part", ["over", "images"])
def test_what_the_self_test_expects_of_further_maps_and_of_images_must_come_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    wrong = {"over": second_map_of_segments, "images": new_image}[part]
    answers = iter([right])

    def answer(volume: Volume) -> Raw:
        return next(answers, wrong)(volume)  # right when the self-test is made, wrong ever after

    proof = proven(tmp_path / "p", monkeypatch, answer)

    assert not proof.passed
    (fault,) = proof.faults
    assert fault.startswith({"over": "segment 2 has a Dice coefficient", "images": "image smooth differs"}[part])
