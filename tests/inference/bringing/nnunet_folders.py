"""Trained model folders as nnU-Net v2 leaves them, with small random networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

CT = {
    "percentile_00_5": -958.0,
    "percentile_99_5": 326.0,
    "mean": -40.0,
    "std": 214.0,
    "median": 0.0,
    "min": -1024,
    "max": 3000,
}


def architecture(dimensions: int, residual: bool = False) -> dict[str, Any]:
    """As the plans give it."""
    first = [1, 3, 3] if dimensions == 3 else [3, 3]
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet."
        + ("ResidualEncoderUNet" if residual else "PlainConvUNet"),
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 8, 12],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [first, [3] * dimensions, [3] * dimensions],
            "strides": [[1] * dimensions, [1, 2, 2][-dimensions:] if dimensions == 3 else [2, 2], [2] * dimensions],
            blocks: [1, 2, 2],
            "n_conv_per_stage_decoder": [1, 2],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(name: str = "3d_fullres", **change: Any) -> dict[str, Any]:
    """plans.json of one configuration; ``change`` goes into the configuration."""
    dimensions = 2 if name == "2d" else 3
    configuration = {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 32, 32][-dimensions:],
        "median_image_size_in_voxels": [24.0, 48.0, 48.0][-dimensions:],
        "spacing": [2.5, 1.5, 1.25][-dimensions:],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": architecture(dimensions),
        "batch_dice": True,
        **change,
    }
    return {
        "dataset_name": "Dataset777_Tests",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.5, 1.5, 1.5],
        "original_median_shape_after_transp": [24, 48, 48],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": CT, "1": CT},
    }


def dataset(**change: Any) -> dict[str, Any]:
    """dataset.json."""
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "kidney_left": 2},
        "numTraining": 10,
        "file_ending": ".nii.gz",
        "licence": "CC-BY 4.0",
        **change,
    }


def write(
    folder: Path, plan: dict[str, Any], data: dict[str, Any], states: list[dict[str, torch.Tensor]], **more: Any
) -> Path:
    """The folder with a checkpoint for each fold; checkpoints hold what training leaves, numpy's numbers too."""
    (name,) = plan["configurations"]
    place = folder / "Dataset777_Tests" / f"nnUNetTrainer__nnUNetPlans__{name}"
    for fold, state in enumerate(states):
        (place / f"fold_{fold}").mkdir(parents=True)
        checkpoint = {
            "network_weights": state,
            "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
            "grad_scaler_state": None,
            "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)], "epoch_end_timestamps": [1.0]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1000,
            "init_args": {
                "configuration": name,
                "fold": fold,
                "plans": plan,
                "dataset_json": data,
                "device": torch.device("cpu"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2) if name != "2d" else (0, 1),
            **more,
        }
        torch.save(checkpoint, place / f"fold_{fold}" / "checkpoint_final.pth")
    (place / "plans.json").write_text(json.dumps(plan), encoding="utf-8")
    (place / "dataset.json").write_text(json.dumps(data), encoding="utf-8")
    return place


def as_trained(state: dict[str, torch.Tensor], heads: int) -> dict[str, torch.Tensor]:
    """Weights of our network under all the names that nnU-Net gives them, with the outputs of the lower stages."""
    full = dict(state)
    for key, value in state.items():
        for name, number in ((".conv.", "0"), (".norm.", "1")):
            if name in key:
                full[key.replace(name, f".all_modules.{number}.")] = value
    full |= {f"decoder.{key}": value for key, value in full.items() if key.startswith("encoder.")}
    full["decoder.seg_layers.0.weight"] = torch.zeros(heads, 8, *[1] * (state["decoder.seg_layers.1.weight"].ndim - 2))
    full["decoder.seg_layers.0.bias"] = torch.zeros(heads)
    return full
