"""The brain algorithm on a made-up head, with small networks that mark what is bright."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.algorithms.brain import extract
from inference.algorithms.brain_checks import Evidence, agreement, doubt
from inference.algorithms.networks import device_of
from inference.imaging.volume import Volume, load
from inference.packages.package import Package, open_package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected
from tests.inference.series import BRAIN, head, write


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return load(write(tmp_path_factory.mktemp("head"), head()))


def _changed(volume: Volume, voxels: np.ndarray, affine: np.ndarray | None = None) -> Volume:
    frames = volume.frames[: len(voxels)]
    return dataclasses.replace(volume, voxels=voxels, frames=frames, affine=volume.affine if affine is None else affine)


def test_the_mask_is_the_brain_on_the_source_grid(volume: Volume, small_brain: Package) -> None:
    raw = extract(volume, small_brain, Runtime(device="cpu"))
    assert raw.refusal is None
    assert raw.mask is not None
    truth = volume.voxels == BRAIN
    overlap = 2 * np.count_nonzero(truth & (raw.mask == 1)) / (np.count_nonzero(truth) + np.count_nonzero(raw.mask))
    assert overlap > 0.97
    expected = 4 / 3 * np.pi * 70 * 90 * 65 / 1000
    assert raw.values["intracranial_volume"] == pytest.approx(expected, rel=0.03)


def test_the_orientation_of_the_slices_does_not_matter(volume: Volume, small_brain: Package) -> None:
    axial = extract(volume, small_brain, Runtime(device="cpu"))
    sagittal = np.ascontiguousarray(volume.voxels.transpose(2, 0, 1)[::-1])
    affine = volume.affine[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 0] * (volume.voxels.shape[2] - 1)
    affine[:3, 0] *= -1
    turned = extract(_changed(volume, sagittal, affine), small_brain, Runtime(device="cpu"))
    assert axial.mask is not None
    assert turned.mask is not None
    np.testing.assert_array_equal(turned.mask[::-1].transpose(1, 2, 0), axial.mask)


class Torn(torch.nn.Module):
    """Marks what is bright, but has no number for the top of the head."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        marked = (image > 0.7).float()
        torn = torch.where(torch.arange(image.shape[-1]) > 215, torch.nan, marked)
        return torch.cat([1 - marked, torn], dim=1)


def test_a_network_without_a_number_somewhere_is_not_believed_elsewhere(
    volume: Volume, small_brain: Package, tmp_path: Path
) -> None:
    folder = shutil.copytree(small_brain.folder, tmp_path / "brain-t1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Torn()).save(str(folder / "model.pt"))
    manifest = (folder / "model.toml").read_text(encoding="utf-8")
    pinned = next(entry.sha256 for entry in small_brain.manifest.weights if entry.file == "model.pt")
    digest = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    (folder / "model.toml").write_text(manifest.replace(pinned, digest), encoding="utf-8")

    with pytest.raises(Rejected, match="no numbers"):
        extract(volume, open_package(folder), Runtime(device="cpu"))


@pytest.mark.parametrize(
    ("part", "face"),
    [(np.s_[:45], "top"), (np.s_[20:], "bottom"), (np.s_[:, 15:], "front"), (np.s_[:, :, :40], "left")],
)
def test_a_head_that_is_cut_is_refused(volume: Volume, small_brain: Package, part: object, face: str) -> None:
    raw = extract(_changed(volume, np.ascontiguousarray(volume.voxels[part])), small_brain, Runtime(device="cpu"))  # type: ignore[index]
    assert raw.refusal is not None
    assert raw.refusal.code.value == "130576"
    assert f"at the {face}" in raw.refusal.text
    assert (raw.mask, raw.values) == (None, {})


@pytest.mark.parametrize("level", [0, 100])
def test_an_even_image_holds_no_brain(volume: Volume, small_brain: Package, level: int) -> None:
    raw = extract(_changed(volume, np.full_like(volume.voxels, level)), small_brain, Runtime(device="cpu"))
    assert raw.refusal is not None
    assert raw.refusal.code.value == "110522"
    assert (raw.mask, raw.values) == (None, {})


def test_a_joint_is_no_brain(small_brain: Package, tmp_path: Path) -> None:
    raw = extract(load(write(tmp_path, head(radii=(60.0, 50.0, 45.0)))), small_brain, Runtime(device="cpu"))
    assert raw.refusal is not None
    assert (raw.mask, raw.values) == (None, {})


@pytest.mark.parametrize(("spacing", "words"), [(2.5, "100 mm across"), (5.0, "200 mm across")])
def test_what_has_not_the_size_of_a_brain_is_refused(spacing: float, words: str) -> None:
    reason = doubt(dataclasses.replace(_evidence(0), spacing=(spacing,) * 3))
    assert reason is not None
    assert reason.code.value == "110522"
    assert words in reason.text


def _evidence(shift: int) -> Evidence:
    mask = np.zeros((64, 64, 64), bool)
    mask[12:52, 8:56, 12:52] = True
    coarse = np.zeros((32, 32, 32), np.float32)
    coarse[6:26, 4 + shift : 28 + shift, 6:26] = 0.9
    return Evidence(coarse=coarse, mask=mask, spacing=(3.5, 3.5, 3.5))


def test_networks_that_disagree_are_not_believed() -> None:
    assert agreement(_evidence(0)) == 1.0
    assert doubt(_evidence(0)) is None
    reason = doubt(_evidence(3))
    assert reason is not None
    assert reason.code.value == "110531"
    assert "do not agree" in reason.text


def test_a_device_that_is_not_there_is_a_wrong_setting() -> None:
    assert device_of("cpu").type == "cpu"
    for name in ("cuda:99", "toaster"):
        with pytest.raises(Misconfigured):
            device_of(name)
