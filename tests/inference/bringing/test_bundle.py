"""MONAI bundles become packages without anything of them being run."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.algorithms.network import run
from inference.bringing.bundle import Asked, import_bundle
from inference.bringing.foreign import Wishes, import_model
from inference.imaging.volume import Volume
from inference.networks.architectures import build
from inference.packages.network import Architecture, Segmentation
from inference.packages.package import open_package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from tests.inference.bringing import bundles

monai = pytest.importorskip("monai")

HOSTILE = "$__import__('os').mkdir('CANARY')"  #: Python in a bundle: it would leave a folder


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    arguments = {key: value for key, value in bundles.NETWORK.items() if key != "_target_"}
    return build(Architecture(name="monai.UNet", arguments=arguments)).state_dict()


def changed(part: str, number: int, **change: Any) -> dict[str, Any]:
    """The usual configuration with one transform changed."""
    config = bundles.inference()
    transforms = [dict(t) for t in config[part]["transforms"]]
    transforms[number] |= change
    return {**config, part: {**config[part], "transforms": transforms}}


def test_a_usual_bundle_becomes_a_package_that_runs(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    source = bundles.write(tmp_path / "bundle", bundles.inference(), bundles.metadata(), state)
    manifest = import_model(source, tmp_path / "package", Wishes())

    assert (manifest.id, manifest.version) == ("abdomen-ct-segmentation", "0.5.3")
    assert [(s.label, s.type.meaning) for s in manifest.segments] == [("liver", "Liver"), ("liver tumor", "Neoplasm")]
    assert manifest.accepts.modality == ("CT",)
    assert manifest.research
    network = manifest.network
    assert network is not None
    assert [step.do for step in network.prepare] == ["orient", "resample", "range"]
    assert network.windows.size == (32, 32, 16)
    package = open_package(tmp_path / "package")
    voxels = np.random.default_rng(0).integers(-200, 300, (10, 20, 24)).astype(np.int16)
    affine = np.array([[0, 0, 1.0, 0], [0, 1.2, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    raw = run(Volume(voxels=voxels, affine=affine, frames=(), header=None), package, Runtime(device="cpu"))  # type: ignore[arg-type]
    assert raw.mask is not None
    assert raw.mask.shape == voxels.shape
    assert set(raw.values) == {"volume_1", "volume_2"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (changed("preprocessing", 4, a_min=HOSTILE), "preprocessing#transforms#4#a_min"),
        (changed("preprocessing", 2, _target_="os.mkdir", path="CANARY"), "os.mkdir"),
        (changed("preprocessing", 4, _disabled_=HOSTILE), "_disabled_"),
        (changed("preprocessing", 4, secret="$1"), "secret"),
        (changed("preprocessing", 3, _target_="Rotate90d"), "Rotate90d"),
        (changed("postprocessing", 2, argmax=HOSTILE), "postprocessing#transforms#2#argmax"),
        ({**bundles.inference(), "inferer": HOSTILE}, "inferer"),
        ({**bundles.inference(), "inferer": {"_target_": "SliceInferer"}}, "SliceInferer"),
        ({**bundles.inference(), "network_def": {"_target_": "scripts.net.Net"}}, "scripts.net.Net"),
        (
            {**bundles.inference(), "network_def": {**bundles.NETWORK, "channels": HOSTILE}},
            "network_def#channels",
        ),
        ({**bundles.inference(), "network_def": {**bundles.NETWORK, "norm": "@round"}}, "leads nowhere"),
        (changed("preprocessing", 4, a_min="@a", _x="y") | {"a": "@b", "b": "@a"}, "circle"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_with_its_place_and_nothing_is_run(
    tmp_path: Path, state: dict[str, torch.Tensor], config: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = bundles.write(tmp_path / "bundle", config, bundles.metadata(), state)

    with pytest.raises(Misconfigured, match="nothing of it was run") as caught:
        import_model(source, tmp_path / "package", Wishes())

    assert words in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"], "no canary, no package"


def test_expressions_of_parts_that_are_not_needed_are_never_run_either(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {**bundles.inference(), "imports": [HOSTILE], "initialize": [HOSTILE], "run": [HOSTILE], "device": HOSTILE}
    about = bundles.metadata(changelog=HOSTILE)
    source = bundles.write(tmp_path / "bundle", config, about, state)

    import_bundle(source, _made(tmp_path / "package"), Asked())
    package = open_package(tmp_path / "package")
    voxels = np.zeros((8, 16, 16), np.int16)
    run(Volume(voxels=voxels, affine=np.eye(4), frames=(), header=None), package, Runtime(device="cpu"))  # type: ignore[arg-type]

    assert not (tmp_path / "CANARY").exists()
    assert "$" not in (tmp_path / "package" / "model.toml").read_text()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class _Evil:
    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self._canary),))


def test_weights_that_are_a_program_are_refused_and_not_run(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    source = bundles.write(tmp_path / "bundle", bundles.inference(), bundles.metadata(), state)
    torch.save({"model": state, "more": _Evil(tmp_path / "CANARY")}, source / "models" / "model.pt")

    with pytest.raises(Misconfigured, match="more than weights and plain values"):
        import_model(source, tmp_path / "package", Wishes())
    (source / "models" / "model.pt").write_bytes(pickle.dumps(_Evil(tmp_path / "CANARY")))
    with pytest.raises(Misconfigured):
        import_model(source, tmp_path / "package", Wishes())
    assert not (tmp_path / "CANARY").exists()


def test_labels_are_those_of_monai_itself(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    pytest.importorskip("nibabel")
    source = bundles.write(tmp_path / "bundle", bundles.inference(), bundles.metadata(), state)
    import_bundle(source, _made(tmp_path / "package"), Asked())
    volume = _volume()

    mask = run(volume, open_package(tmp_path / "package"), Runtime(device="cpu")).mask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own, of defaults that will change
        expected = by_monai(bundles.inference(), volume, state)
    assert mask is not None
    assert np.bincount(expected.ravel(), minlength=3).min() > 20
    assert (mask == expected).mean() >= 0.999


def multi_label(threshold: float, *more: dict[str, Any]) -> dict[str, Any]:
    """The usual configuration with classes that count by themselves."""
    config = changed("postprocessing", 0, softmax=False, sigmoid=True)
    transforms = list(config["postprocessing"]["transforms"])
    transforms[2] = {"_target_": "AsDiscreted", "keys": "pred", "threshold": threshold}
    return {**config, "postprocessing": {"_target_": "Compose", "transforms": [*transforms[:3], *more, transforms[3]]}}


@pytest.fixture(scope="module")
def even(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A network, each channel of which lies about its threshold of 0.45."""
    arguments = {key: value for key, value in bundles.NETWORK.items() if key != "_target_"}
    network = build(Architecture(name="monai.UNet", arguments=arguments)).eval()
    network.load_state_dict(state)
    image = torch.rand((1, 1, 32, 32, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        middle = network(image).mean(dim=(0, 2, 3, 4))
    last = "model.2.1.conv.unit0.conv.bias"
    return {**state, last: state[last] - middle + float(np.log(0.45 / 0.55))}


def about(*names: str) -> dict[str, Any]:
    """metadata.json with these channels."""
    found = bundles.metadata()
    channels = {str(number): name for number, name in enumerate(names)}
    found["network_data_format"]["outputs"]["pred"] |= {"num_channels": len(names), "channel_def": channels}
    return found


PARTS = ("whole liver", "tumor", "vessels")


@pytest.mark.parametrize("cleaned", [False, True])
def test_channels_by_themselves_overlap_as_they_do_in_monai(
    tmp_path: Path, even: dict[str, torch.Tensor], cleaned: bool
) -> None:
    pytest.importorskip("nibabel")
    filled = {"_target_": "FillHolesd", "keys": "pred", "applied_labels": [0, 2], "connectivity": 1}
    config = multi_label(0.45, *([filled] if cleaned else []))
    source = bundles.write(tmp_path / "bundle", config, about(*PARTS), even)
    manifest = import_bundle(source, _made(tmp_path / "package"), Asked())
    assert manifest.network is not None
    output = manifest.network.output
    assert isinstance(output, Segmentation)
    assert (output.overlapping, output.threshold, output.segments) == (True, 0.45, (1, 2, 3))
    assert [step.segments for step in output.clean] == ([(3,)] if cleaned else [])
    volume = _volume()

    raw = run(volume, open_package(tmp_path / "package"), Runtime(device="cpu"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own, of defaults that will change
        expected = channels_by_monai(config, volume, even) > 0
    assert (expected.sum(axis=0) > 1).sum() > 100, "channels that do not overlap would prove nothing"
    for number, wanted in enumerate(expected, 1):
        found = np.logical_or.reduce([one == number for one in raw.maps_of_segments])
        assert 50 < wanted.sum() < 0.95 * wanted.size
        assert (found == wanted).mean() >= 0.999


def test_classes_that_exclude_each_other_do_not_overlap(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    source = bundles.write(tmp_path / "bundle", bundles.inference(), bundles.metadata(), state)

    manifest = import_bundle(source, _made(tmp_path / "package"), Asked())

    assert manifest.network is not None
    output = manifest.network.output
    assert isinstance(output, Segmentation)
    assert (output.overlapping, output.activation, output.segments) == (False, "softmax", (0, 1, 2))


@pytest.mark.parametrize("threshold", [[0.5, 0.4, 0.3], 0, 1.5, True])
def test_thresholds_that_cannot_be_said_are_refused(
    tmp_path: Path, state: dict[str, torch.Tensor], threshold: Any
) -> None:
    source = bundles.write(tmp_path / "bundle", multi_label(threshold), about(*PARTS), state)

    with pytest.raises(Misconfigured, match=r"postprocessing#transforms#2.*threshold"):
        import_bundle(source, _made(tmp_path / "package"), Asked())


def _volume() -> Volume:
    """Smooth noise on an oblong grid, axial, read as DICOM."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(24, 50, 60)), (1, 3, 3))
    affine = np.array([[0, 0, 1.0, -20], [0, 1.2, 0, -40], [3.0, 0, 0, 7], [0, 0, 0, 1]])
    voxels = (noise / noise.std() * 80 + 50).astype(np.int16)
    return Volume(voxels=voxels, affine=affine, frames=(), header=None)  # type: ignore[arg-type]


def by_monai(config: dict[str, Any], volume: Volume, state: dict[str, torch.Tensor]) -> np.ndarray[Any, Any]:
    """The labels of the same configuration as MONAI reads and runs it."""
    return channels_by_monai(config, volume, state)[0]


def channels_by_monai(config: dict[str, Any], volume: Volume, state: dict[str, torch.Tensor]) -> np.ndarray[Any, Any]:
    """All channels (channel, frame, row, column), from the grid of the volume to it and back."""
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor
    from monai.transforms import Compose

    config = {key: dict(config[key]) for key in ("network_def", "preprocessing", "inferer", "postprocessing")}
    config["preprocessing"]["transforms"] = config["preprocessing"]["transforms"][2:]  # there is no file
    config["postprocessing"]["transforms"] = config["postprocessing"]["transforms"][:-1]
    parser = ConfigParser(config)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(state)
    turn = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    affine = np.diag([-1, -1, 1, 1.0]) @ volume.affine @ turn  # indices (column, row, frame) to RAS
    image = torch.from_numpy(volume.voxels.transpose(2, 1, 0).astype(np.float32))[None]
    data = parser.get_parsed_content("preprocessing")({"image": MetaTensor(image, affine=torch.from_numpy(affine))})
    with torch.inference_mode():
        answer = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    data["pred"] = MetaTensor(
        answer.as_tensor(), affine=data["image"].affine, applied_operations=data["image"].applied_operations
    )
    post: Compose = parser.get_parsed_content("postprocessing")
    found: np.ndarray[Any, Any] = post(data)["pred"].numpy().transpose(0, 3, 2, 1)
    return found.astype(np.uint8)
