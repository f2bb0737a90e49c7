"""Trained nnU-Net folders become packages that give the same labels as nnU-Net itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from inference.algorithms.network import run
from inference.bringing.foreign import Wishes, import_model
from inference.bringing.nnunet import Asked, import_nnunet
from inference.imaging.volume import Volume
from inference.networks.architectures import build
from inference.packages.manifest import Manifest
from inference.packages.network import Architecture
from inference.packages.package import open_package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from tests.inference.bringing import nnunet_folders as folders

Json = dict[str, Any]


def states(plan: Json, channels: int, heads: int, folds: int = 1) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(5)
    (configuration,) = plan["configurations"].values()
    given = folders.architecture(len(configuration["patch_size"]))["arch_kwargs"]
    arguments = {key: value for key, value in given.items() if value is not None}
    made = []
    for _ in range(folds):
        named = Architecture(
            name="nnunet.PlainConvUNet", arguments={"input_channels": channels, "num_classes": heads, **arguments}
        )
        made.append(folders.as_trained(build(named).state_dict(), heads))
    return made


def imported(
    tmp_path: Path, plan: Json, data: Json, *, heads: int = 3, folds: int = 1, **more: Any
) -> tuple[Path, Manifest]:
    channels = len(data["channel_names"])
    source = folders.write(tmp_path, plan, data, states(plan, channels, heads, folds), **more)
    return source, import_model(source, tmp_path / "package", Wishes(orientation="SPL"))


def volume(plan_roles: tuple[str, ...] = (), shape: tuple[int, int, int] = (24, 50, 60)) -> Volume:
    noise = np.random.default_rng(0).normal(size=(1 + len(plan_roles), *shape))
    voxels = ndimage.gaussian_filter(noise, (0, 2, 4, 4))
    voxels = (voxels / voxels.std() * 300).astype(np.int16)
    voxels[:, :2] = 0
    voxels[:, :, :, :4] = 0
    affine = np.array([[0, 0, 1.0, 0], [0, 1.2, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    others = {role: voxels[n].astype(np.float32) for n, role in enumerate(plan_roles, 1)}
    return Volume(voxels=voxels[0], affine=affine, frames=(), header=None, others=others)  # type: ignore[arg-type]


def test_a_trained_folder_becomes_a_package_with_all_folds(tmp_path: Path) -> None:
    source, manifest = imported(tmp_path, folders.plans(), folders.dataset(), folds=2)

    assert (manifest.id, manifest.licence, manifest.accepts.modality) == ("tests", "CC-BY 4.0", ("CT",))
    assert [s.type.meaning for s in manifest.segments] == ["Liver", "Left kidney"]
    network = manifest.network
    assert network is not None
    assert [model.weights for model in network.models] == ["fold0", "fold1"]
    assert (network.average, network.windows.size, network.mirror) == ("logits", (16, 32, 32), (0, 1, 2))
    raw = run(volume(), open_package(tmp_path / "package"), Runtime(device="cpu"))
    assert raw.mask is not None
    assert raw.mask.shape == (24, 50, 60)
    assert source.is_dir(), "the source is left alone"


def test_plans_of_before_version_2_4_say_the_network_in_another_form(tmp_path: Path) -> None:
    plan = folders.plans()
    (configuration,) = plan["configurations"].values()
    shape = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 12,
        "n_conv_per_stage_encoder": shape["n_conv_per_stage"], "conv_kernel_sizes": shape["kernel_sizes"],
        "n_conv_per_stage_decoder": shape["n_conv_per_stage_decoder"], "pool_op_kernel_sizes": shape["strides"],
    }  # fmt: skip
    _, manifest = imported(tmp_path, plan, folders.dataset())

    assert manifest.network is not None
    architecture = manifest.network.models[0].architecture
    assert architecture is not None
    assert architecture.arguments["features_per_stage"] == [4, 8, 12]
    assert architecture.arguments["norm_op"] == "torch.nn.InstanceNorm3d"


def test_axes_channels_masks_and_regions_are_taken_over(tmp_path: Path) -> None:
    plan = folders.plans(normalization_schemes=["ZScoreNormalization"] * 2, use_mask_for_norm=[True, True])
    plan |= {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    data = folders.dataset(
        channel_names={"0": "T1", "1": "FLAIR"},
        labels={"background": 0, "whole tumor": [1, 2], "core": [2]},
        regions_class_order=[1, 2],
    )
    _, manifest = imported(tmp_path, plan, data, heads=2)

    network = manifest.network
    assert network is not None
    assert network.prepare[0].model_dump() == {"do": "orient", "to": "LSP"}
    assert [step.model_dump().get("over") for step in network.prepare if step.do == "z-score"] == ["foreground"] * 2
    assert [channel.role for channel in network.channels] == [None, "flair"]
    assert [entry.role for entry in manifest.inputs] == ["flair"]
    assert network.output.model_dump()["activation"] == "sigmoid"
    assert network.output.model_dump()["segments"] == (1, 2)
    assert manifest.accepts.modality == ("MR",)


@pytest.mark.parametrize(
    ("plan", "data", "more", "words"),
    [
        (folders.plans(resampling_fn_data="resample_torch_fornnunet"), {}, {}, "resampling_fn_data"),
        (folders.plans(normalization_schemes=["MyNormalization"]), {}, {}, "MyNormalization"),
        (folders.plans(previous_stage="3d_lowres"), {}, {}, "cascade"),
        (folders.plans(inherits_from="nowhere"), {}, {}, "leads nowhere"),
        (folders.plans(), {"labels": {"background": 0, "liver": 5}}, {}, "without gaps"),
        (folders.plans(), {"channel_names": {"0": "noise"}}, {}, "give the DICOM modality"),
        (folders.plans(), {}, {"trainer_name": "MyTrainer"}, "MyTrainer"),
        (folders.plans(), {}, {"logging": Path("x")}, "more than weights and plain values"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_with_its_name(
    tmp_path: Path, plan: Json, data: Json, more: Json, words: str
) -> None:
    with pytest.raises(Misconfigured, match=words):
        imported(tmp_path, plan, folders.dataset(**data), **more)
    assert not (tmp_path / "package").exists()


def test_how_the_training_images_lay_must_be_told(tmp_path: Path) -> None:
    plan, data = folders.plans(), folders.dataset()
    source = folders.write(tmp_path, plan, data, states(plan, 1, 3))
    with pytest.raises(Misconfigured, match="give --orientation"):
        import_nnunet(source, tmp_path, Asked(orientation=""))
    with pytest.raises(Misconfigured, match="folds: 0; asked: 3"):
        import_nnunet(source, tmp_path, Asked(orientation="SPL", folds=("3",)))
    (source / "plans.json").write_text(json.dumps([1]))
    with pytest.raises(Misconfigured, match="no JSON object"):
        import_nnunet(source, tmp_path, Asked(orientation="SPL"))


class _Evil:
    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self._canary),))


def test_a_checkpoint_that_is_a_program_is_refused_and_not_run(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="more than weights"):
        imported(tmp_path, folders.plans(), folders.dataset(), logging=_Evil(tmp_path / "CANARY"))
    assert not (tmp_path / "CANARY").exists()


@pytest.mark.parametrize("case", ["3d", "2d", "regions"])
def test_labels_are_those_of_nnunet_itself(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows have equal weights here: nnU-Net keeps Gaussian ones in half precision, which is lost at its corners."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    predicting = pytest.importorskip("nnunetv2.inference.predict_from_raw_data")
    plan = folders.plans("2d" if case == "2d" else "3d_fullres")
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
    data = folders.dataset(**(regions if case == "regions" else {}))
    source, _ = imported(tmp_path, plan, data, heads=2 if case == "regions" else 3, folds=2 if case == "3d" else 1)
    manifest = tmp_path / "package" / "model.toml"
    text = manifest.read_text()
    assert 'steps = "even"' in text
    manifest.write_text(text.replace('steps = "even"', 'steps = "even"\nblending = "constant"'))
    seen = volume()

    mask = run(seen, open_package(tmp_path / "package"), Runtime(device="cpu")).mask

    predictor = predicting.nnUNetPredictor(
        use_gaussian=False, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(source), None)
    image = seen.voxels[None].astype(np.float32)
    expected = predictor.predict_single_npy_array(image, {"spacing": list(seen.spacing)}, None, None, False)
    assert mask is not None
    assert (mask == expected).mean() >= 0.999
