"""A package is proven where its self-test comes out, and faster ways only where they keep the answer."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.algorithms.network import run
from inference.algorithms.proof import Proof, keep_case, prove, turned
from inference.imaging.volume import Volume, load
from inference.packages.package import Package
from inference.runtime import Runtime
from tests import builders
from tests.inference.networks.making import Same, package, volume_of
from tests.inference.networks.test_formats import onnx as as_onnx
from tests.inference.networks.test_segment import SCRIPTED, scripted
from tests.inference.series import series_of, write

Tensor = torch.Tensor
CPU = Runtime(device="cpu")
TABLE = """
[[network.prepare]]
do = "orient"
to = "{letters}"
[network.output]
kind = "segmentation"
activation = "softmax"
segments = [0, 1, 2]
measures = [{{ key = "side", segments = [1] }}]
"""
TEST = """
[selftest]
file = "{file}"
sha256 = "{digest}"
values = {{ side = {value} }}
"""


class Sides(torch.nn.Module):
    """Marks what is bright: segment 1 in the first half of the last axis, which RAS calls the feet, 2 in the other."""

    def forward(self, image: Tensor) -> Tensor:
        bright = (image > 50).float()
        low = (torch.arange(image.shape[4]) < image.shape[4] / 2).float()
        return torch.cat([1 - bright, bright * low * 2, bright * (1 - low) * 2], dim=1)


def body() -> Volume:
    voxels = np.zeros((10, 12, 14), np.int16)
    voxels[1:9, 2:9, 3:12] = 100
    voxels[6:9, 2:9, 3:12] = 0
    return volume_of(voxels, (1.5, 1.0, 1.0))


def made(folder: Path, letters: str, more: str = "", network: str = "") -> Package:
    weights = {"net": scripted(Sides(), 14, 12, 10)}
    head = SCRIPTED.replace("[network]\n", f"[network]\n{network}\n")
    text = head + TABLE.format(letters=letters)
    return package(folder, text, weights, segments=2, measurements=("side",), more=more)


def proven(folder: Path, letters: str, *, network: str = "", change: Any = None) -> Proof:
    """Proof of a package whose self-test was made with the right orientation."""
    folder.mkdir(parents=True, exist_ok=True)
    volume = body()
    raw = run(volume, made(folder / "right", "RAS"), CPU)
    digest = keep_case(folder / "case.npz", volume, raw.mask)
    content = (folder / "case.npz").read_bytes()
    (folder / letters).mkdir()
    (folder / letters / "case.npz").write_bytes(content if change is None else change(content))
    test = TEST.format(file="case.npz", digest=digest, value=raw.values["side"])
    return prove(made(folder / letters, letters, test, network), CPU)


def test_a_self_test_is_reproduced(tmp_path: Path) -> None:
    proof = proven(tmp_path, "RAS")
    assert (proof.tested, proof.passed, proof.faults, proof.notes) == (True, True, (), ())
    assert (proof.device, proof.chosen, len(proof.trials)) == ("cpu", (), 1)
    assert proof.trials[0].seconds > 0
    assert proof.trials[0].memory_mb > 10
    assert proof.to_data()["trials"][0]["agreement"] == 1.0


@pytest.mark.parametrize("letters", ["RAI", "SAR", "IPR"])
def test_a_wrong_orientation_is_caught(letters: str, tmp_path: Path) -> None:
    proof = proven(tmp_path, letters)
    assert not proof.passed
    assert any("orientation" in fault for fault in proof.faults)


def test_a_changed_self_test_is_not_used(tmp_path: Path) -> None:
    proof = proven(tmp_path, "RAS", change=lambda content: content + b" ")
    assert not proof.passed
    assert "other content" in proof.faults[0]


def test_without_a_self_test_nothing_is_proven(tmp_path: Path) -> None:
    proof = prove(made(tmp_path, "RAS"), CPU)
    assert (proof.tested, proof.passed) == (False, False)
    assert "no [selftest]" in proof.notes[0]


def test_a_faster_way_is_measured_and_must_keep_the_answer(tmp_path: Path) -> None:
    proof = proven(tmp_path, "RAS", network='variants = ["channels-last", "bf16", "tf32"]')
    assert proof.passed
    tried = {trial.variant[-1]: trial for trial in proof.trials[1:]}
    assert set(tried) == {"channels-last", "bf16"}
    for trial in tried.values():
        assert trial.agreement == 1.0
        assert not trial.fault or "not faster" in trial.fault
    assert proof.chosen in {(), ("channels-last",), ("bf16",), ("channels-last", "bf16")}


def test_a_faster_way_that_changes_labels_is_not_used(tmp_path: Path) -> None:
    class Fine(Same):
        """Decides by a digit that bfloat16 does not have."""

        def forward(self, image: Tensor) -> Tensor:
            value = self.layer(image)
            return torch.cat([value * 0, (1000.5 - value).float()], dim=1)

    text = SCRIPTED.replace("[network]\n", '[network]\nvariants = ["bf16"]\n')
    text += '[network.output]\nkind = "segmentation"\nactivation = "softmax"\nsegments = [0, 1]\n'
    voxels = np.full((6, 6, 6), 1000, np.int16)
    voxels[3:] = 1001
    digest = _case(tmp_path, volume_of(voxels), voxels == 1000)
    more = f'[selftest]\nfile = "case.npz"\nsha256 = "{digest}"\n'
    proof = prove(package(tmp_path, text, {"net": scripted(Fine(), 6, 6, 6)}, segments=1, more=more), CPU)

    assert proof.passed
    assert proof.chosen == ()
    assert "of the labels are those of eager float32" in proof.trials[1].fault


def _case(folder: Path, volume: Volume, mask: Any = None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return keep_case(folder / "case.npz", volume, None if mask is None else np.asarray(mask, np.uint8))


def test_a_self_test_that_expects_nothing_proves_nothing(tmp_path: Path) -> None:
    text = SCRIPTED + '[network.output]\nkind = "segmentation"\nactivation = "softmax"\nsegments = [0, 1, 2]\n'
    more = f'[selftest]\nfile = "case.npz"\nsha256 = "{_case(tmp_path, body())}"\n'
    proof = prove(package(tmp_path, text, {"net": scripted(Sides(), 14, 12, 10)}, segments=2, more=more), CPU)

    assert not proof.passed
    assert "expects nothing" in proof.faults[0]


def test_an_answer_that_depends_on_storage_is_noted(tmp_path: Path) -> None:
    text = SCRIPTED + '[network.output]\nkind = "segmentation"\nactivation = "softmax"\nsegments = [0, 1, 2]\n'
    digest = _case(tmp_path, body(), body().voxels > 50)
    more = f'[selftest]\nfile = "case.npz"\nsha256 = "{digest}"\n'
    proof = prove(package(tmp_path, text, {"net": scripted(Sides(), 14, 12, 10)}, segments=2, more=more), CPU)
    assert "depends on how the axes are stored" in proof.notes[0]


def test_the_same_patient_stored_otherwise_keeps_its_places() -> None:
    volume = body()
    other, _ = turned(volume)
    place = np.argwhere(volume.voxels == 100)[7]
    here = volume.affine @ [*place, 1.0]
    there = np.linalg.inv(other.affine) @ here
    assert other.voxels[tuple(np.rint(there[:3]).astype(int))] == 100
    assert np.array_equal(np.sort(other.voxels.ravel()), np.sort(volume.voxels.ravel()))


def test_dicom_objects_can_be_a_self_test(tmp_path: Path) -> None:
    voxels = np.zeros((10, 12, 14), np.int16)
    voxels[1:6, 2:9, 3:12] = 100
    paths = write(tmp_path / "dicom", series_of(voxels, 1.5, 1.0, sop_class=builders.CT))
    raw = run(load(paths), made(tmp_path / "right", "RAS"), CPU)
    folder = tmp_path / "package"
    folder.mkdir()
    assert raw.mask is not None
    np.savez_compressed(tmp_path / "mask.npz", mask=raw.mask)
    with zipfile.ZipFile(folder / "case.zip", "w") as archive:
        for number, path in enumerate(paths):
            archive.write(path, f"../../outside{number}.dcm")
        archive.write(tmp_path / "mask.npz", "mask.npz")
    digest = hashlib.sha256((folder / "case.zip").read_bytes()).hexdigest()
    test = TEST.format(file="case.zip", digest=digest, value=raw.values["side"])

    proof = prove(made(folder, "RAS", test), CPU)

    assert proof.passed, proof.faults
    assert not list(tmp_path.rglob("outside*"))


class Halves(torch.nn.Module):
    """Segment 1 where the smoothed image is bright, by convolutions as they are quantised."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.smooth = torch.nn.Conv3d(1, 8, 3, padding=1)
        self.smooth.weight.data.fill_(1 / 27)
        self.smooth.bias.data.zero_()
        self.classes = torch.nn.Conv3d(8, 2, 1)
        self.classes.weight.data = torch.tensor([[0.0] * 8, [1 / 8] * 8])[:, :, None, None, None]
        self.classes.bias.data = torch.tensor([50.0, 0.0])

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.classes(self.smooth(image))
        return answer


def quantised(folder: Path, net: Halves, seen: list[np.ndarray]) -> bytes:  # type: ignore[type-arg]
    """The network in 8 bits, calibrated on what it shall see, as a maker does."""
    helper = pytest.importorskip("onnx.helper")
    tools = pytest.importorskip("onnxruntime.quantization")
    path, small = folder / "net.onnx", folder / "small.onnx"
    path.write_bytes(as_onnx(net))

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.left = iter(seen)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image}

    assert helper is not None
    tools.quantize_static(path, small, Reader(), per_channel=True, quant_format=tools.QuantFormat.QDQ)
    return small.read_bytes()


@pytest.mark.filterwarnings("ignore")  # of the tool that quantises
def test_a_network_in_8_bits_is_used_where_it_keeps_the_labels(tmp_path: Path) -> None:
    voxels = np.zeros((12, 12, 12), np.int16)
    voxels[3:9, 3:9, 3:9] = 100
    seen = [voxels.astype(np.float32)[None, None]]
    good = quantised(tmp_path, Halves(), seen)
    bad = quantised(tmp_path, Halves(), [image / 100 for image in seen])  # calibrated on other values: all saturate
    head = SCRIPTED.replace("[network]\n", '[network]\nvariants = ["int8", "bf16"]\n')
    head = head.replace('format = "torchscript"', 'format = "torchscript"\nint8 = "small"')
    text = head + '[network.output]\nkind = "segmentation"\nactivation = "softmax"\nsegments = [0, 1]\n'
    found = {}
    for name, small in (("good", good), ("bad", bad)):
        folder = tmp_path / name
        digest = _case(
            folder, volume_of(voxels), run(volume_of(voxels), _small(folder / "plain", text, small), CPU).mask
        )
        more = f'[selftest]\nfile = "case.npz"\nsha256 = "{digest}"\n'
        found[name] = prove(_small(folder, text, small, more), CPU).trials

    trial = found["good"][1]
    assert trial.variant == ("int8",)
    assert trial.agreement > 0.99
    assert trial.fault == "" or "not faster" in trial.fault
    assert "of the labels are those of eager float32" in found["bad"][1].fault
    assert {t.variant for t in found["bad"]} == {(), ("int8",), ("bf16",)}


def _small(folder: Path, text: str, small: bytes, more: str = "") -> Package:
    weights = {"net": scripted(Halves(), 12, 12, 12), "small": small}
    return package(folder, text, weights, segments=1, more=more)
