"""Makes a package of a trained nnU-Net v2 model folder: plans.json, dataset.json and a checkpoint for each fold.

What nnU-Net does around its network (Isensee et al. 2021, Nat Methods 18:203; nnunetv2 2.8) is said in our declarative
form: crop to what is not zero, normalise, resample by cubic splines with the coarse axis apart, half-overlapping
windows with Gaussian weights, mirroring, mean of the folds' logits, linear resampling back. What cannot be said is
refused with its name. The result needs nnU-Net neither here nor at run time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.bringing.checkpoint import read_checkpoint, tensors_of, write_safetensors
from inference.bringing.draft import Draft, identifier_of, write_draft
from inference.packages.manifest import Manifest
from storage.facts.errors import Misconfigured

#: How the training images lay in memory, by axis (slice, row, column), is recorded nowhere: it has to be told.
ORIENTATIONS = ("SPL", "SAR", "SAL", "SPR")
_NETWORKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
_FLOOR = 6e-9  #: least weight in a window, of the greatest: what half precision leaves
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_RESAMPLING = {
    "resampling_fn_data": ("resample_data_or_seg_to_shape", {"is_seg": False, "order": 3, "order_z": 0}),
    "resampling_fn_probabilities": ("resample_data_or_seg_to_shape", {"is_seg": False, "order": 1, "order_z": 0}),
}
_TRAINERS = "nnUNetTrainer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the folder does not say."""

    orientation: str  #: of the training images: letters of ORIENTATIONS
    identifier: str = ""
    version: str = "1.0.0"
    modality: str = ""  #: only needed where the channel names do not say it
    folds: tuple[str, ...] = ()  #: default: all that are there
    licence: str = ""


def is_nnunet(folder: Path) -> bool:
    """Whether this is a trained model of nnU-Net v2."""
    return (folder / "plans.json").is_file() and (folder / "dataset.json").is_file()


def import_nnunet(folder: Path, target: Path, asked: Asked) -> Manifest:
    """Write the package into ``target``, an empty folder.

    Raises Misconfigured with what is missing, damaged, or cannot be said in our form.
    """
    plans, dataset = _json(folder / "plans.json"), _json(folder / "dataset.json")
    if asked.orientation not in ORIENTATIONS:
        raise Misconfigured(
            f"{folder.name}: nnU-Net does not record how its training images lay: give --orientation, one of "
            f"{', '.join(ORIENTATIONS)} (SPL: read from DICOM; SAR: NIfTI stored as RAS; SAL: NIfTI stored as LAS)"
        )
    folds = _folds(folder, asked.folds)
    first = _checkpoint(folds[0])
    name, configuration = _configuration(plans, first)
    labels = _Labels.of(dataset)
    network, roles = _network(plans, configuration, dataset, asked.orientation)
    network |= _output(labels, first, configuration)
    weights = {}
    for place, fold in enumerate(folds):
        state = _state(first if place == 0 else _checkpoint(fold), fold.name)
        key = fold.name.replace("fold_", "fold")
        weights[key] = write_safetensors(state, target / f"{key}.safetensors")
    architecture = _architecture(configuration, len(dataset["channel_names"]), len(labels.heads))
    network["models"] = [{"weights": key, "format": "safetensors", "architecture": architecture} for key in weights]
    title = str(plans.get("dataset_name") or folder.parent.name)
    draft = Draft(
        identifier=asked.identifier or identifier_of(re.sub(r"^Dataset\d+_", "", title)),
        version=asked.version,
        title=f"{title}, nnU-Net {name}",
        manufacturer=str(dataset.get("reference") or "nnU-Net model"),
        modality=asked.modality or _modality(dataset),
        licence=asked.licence or str(dataset.get("licence") or dataset.get("license") or "not stated: ask its maker"),
        intended_use=f"Marks {', '.join(labels.names)}. {dataset.get('description') or ''} For research.".replace(
            "  ", " "
        ),
        labels=labels.names,
        network=network,
        parameters={
            "Imported from": f"nnU-Net v2, configuration {name}, {len(folds)} fold(s)",
            "Method": "nnU-Net (Isensee et al. 2021, Nat Methods 18:203)",
        },
        weights=weights,
        roles=roles,
        notes=(
            f"orientation {asked.orientation} was told at import; a wrong one swaps sides: prove it by a self-test",
        ),
    )
    return write_draft(draft, target, f"nnU-Net folder {folder.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """What the network's channels mean."""

    names: tuple[str, ...]  #: of the segments 1, 2, 3 …
    heads: tuple[int, ...]  #: segment of each channel
    regions: bool  #: channels count by themselves and lie over each other

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> _Labels:
        given = {str(n): value for n, value in dataset.get("labels", {}).items() if n not in ("background", "ignore")}
        if not given:
            raise Misconfigured("dataset.json names no labels")
        if any(isinstance(value, list) and len(value) > 1 for value in given.values()):
            order = [int(number) for number in dataset.get("regions_class_order", ())]
            if len(order) != len(given) or sorted(order) != list(range(1, len(order) + 1)):
                raise Misconfigured("dataset.json: regions_class_order must number the regions 1, 2, 3 …")
            named = dict(zip(order, given, strict=True))
            return cls(names=tuple(named[n] for n in sorted(named)), heads=tuple(order), regions=True)
        numbers = {int(value[0] if isinstance(value, list) else value): name for name, value in given.items()}
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            raise Misconfigured("dataset.json: labels must be numbered 1, 2, 3 … without gaps")
        return cls(
            names=tuple(numbers[n] for n in sorted(numbers)), heads=tuple(range(len(numbers) + 1)), regions=False
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Misconfigured(f"{path.name} cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise Misconfigured(f"{path.name} is no JSON object")
    return found


def _folds(folder: Path, asked: Sequence[str]) -> list[Path]:
    there = sorted(path for path in folder.glob("fold_*") if any((path / name).is_file() for name in _CHECKPOINTS))
    found = [path for path in there if not asked or path.name.removeprefix("fold_") in asked]
    if not found or (asked and len(found) < len(asked)):
        known = ", ".join(path.name.removeprefix("fold_") for path in there) or "none"
        raise Misconfigured(
            f"{folder.name}: there are checkpoints of these folds: {known}; asked: {', '.join(asked) or 'any'}"
        )
    numbered = [path for path in found if path.name != "fold_all"]
    return numbered or found


def _checkpoint(fold: Path) -> Mapping[str, Any]:
    path = next(fold / name for name in _CHECKPOINTS if (fold / name).is_file())
    found = read_checkpoint(path)
    if "network_weights" not in found or not isinstance(found.get("init_args"), Mapping):
        raise Misconfigured(f"{fold.name}/{path.name} is no checkpoint of nnU-Net v2: network_weights is missing")
    trainer = str(found.get("trainer_name", ""))
    if not trainer.startswith(_TRAINERS):
        raise Misconfigured(f"{fold.name}: trained by {trainer}, whose network is not known here")
    return found


def _configuration(plans: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    name = str(checkpoint["init_args"].get("configuration"))
    found = plans.get("configurations", {})
    if name not in found:
        raise Misconfigured(f"plans.json has no configuration {name}, of which the checkpoint is")
    if found[name].get("previous_stage"):
        raise Misconfigured(
            f"configuration {name} goes on from the answer of another network (cascade): use 3d_fullres"
        )
    merged: dict[str, Any] = {}
    chain = [name]
    while parent := found[chain[-1]].get("inherits_from"):
        if parent in chain or parent not in found:
            raise Misconfigured(f"plans.json: configuration {chain[-1]} inherits from {parent}, which leads nowhere")
        chain.append(parent)
    for one in reversed(chain):
        merged |= found[one]
    return name, merged


def _architecture(configuration: Mapping[str, Any], channels: int, heads: int) -> dict[str, Any]:
    """The network by name with plain arguments; plans of before 2.4 give them in another form."""
    given = configuration.get("architecture") or _older(configuration)
    name = str(given["network_class_name"]).rpartition(".")[2]
    if name not in _NETWORKS:
        raise Misconfigured(f"plans.json: the network {name} is not known here (known: {', '.join(_NETWORKS)})")
    arguments = {key: value for key, value in given["arch_kwargs"].items() if value is not None}
    for training in ("dropout_op", "dropout_op_kwargs", "deep_supervision"):
        arguments.pop(training, None)
    return {"name": f"nnunet.{name}", "arguments": {"input_channels": channels, "num_classes": heads, **arguments}}


def _older(configuration: Mapping[str, Any]) -> dict[str, Any]:
    try:
        name = str(configuration["UNet_class_name"])
        counts = configuration["n_conv_per_stage_encoder"]
        base, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
        dimensions = len(configuration["patch_size"])
        arguments = {
            "n_stages": len(counts),
            "features_per_stage": [min(base * 2**stage, most) for stage in range(len(counts))],
            "conv_op": f"torch.nn.Conv{dimensions}d",
            "kernel_sizes": configuration["conv_kernel_sizes"],
            "strides": configuration["pool_op_kernel_sizes"],
            _NETWORKS.get(name, "n_conv_per_stage"): counts,
            "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }
    except KeyError as error:
        raise Misconfigured(f"plans.json says nothing of the network's shape ({error} is missing)") from error
    return {"network_class_name": name, "arch_kwargs": arguments}


def _state(checkpoint: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The weights that answer: without the second names that nnU-Net gives them, and training's outputs."""
    state = tensors_of(checkpoint["network_weights"], what)
    state = {key.removeprefix("_orig_mod.").removeprefix("module."): value for key, value in state.items()}
    last = max(
        (int(match[1]) for key in state if (match := re.match(r"decoder\.seg_layers\.(\d+)\.", key))), default=None
    )
    if last is None:
        raise Misconfigured(f"{what}: its weights are not those of a U-Net of nnU-Net")
    return {
        key: value
        for key, value in state.items()
        if ".all_modules." not in key
        and not key.startswith("decoder.encoder.")
        and not (key.startswith("decoder.seg_layers.") and not key.startswith(f"decoder.seg_layers.{last}."))
    }


def _network(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], dataset: Mapping[str, Any], orientation: str
) -> tuple[dict[str, Any], list[str]]:
    """The ``[network]`` table but for models and output, and the roles of its further inputs."""
    for key, (function, arguments) in _RESAMPLING.items():
        given = {k: v for k, v in configuration.get(f"{key}_kwargs", arguments).items() if v is not None}
        if configuration.get(key, function) != function or given != arguments:
            raise Misconfigured(f"plans.json: {key} is {configuration.get(key)} {given}, which is not known here")
    forward = [int(axis) for axis in plans.get("transpose_forward", (0, 1, 2))]
    letters = "".join(orientation[axis] for axis in forward)
    spacing = [float(length) for length in configuration["spacing"]]
    plane = len(configuration["patch_size"]) == 2
    steps: list[dict[str, Any]] = [{"do": "orient", "to": letters}, {"do": "crop"}]
    steps += _normalisation(plans, configuration)
    steps.append(
        {
            "do": "resample",
            "spacing": [0.0, *spacing] if plane else spacing,
            "interpolation": "spline",
            "coarse": 3.0,
        }
    )  # fmt: skip
    windows = {
        "dimensions": 2 if plane else 3,
        "size": [int(length) for length in configuration["patch_size"]],
        "overlap": 0.5,
        "steps": "even",
        "sigma": 0.125,
        "floor": _FLOOR,
    }
    channels: list[dict[str, str]] = [{}]
    channels += [{"role": _role(str(name))} for _, name in sorted(dataset["channel_names"].items(), key=_number)[1:]]
    network = {"channels": channels, "prepare": steps, "windows": windows, "average": "logits"}
    return network, [channel["role"] for channel in channels[1:]]


def _number(item: tuple[str, Any]) -> int:
    return int(item[0])


def _role(name: str) -> str:
    role = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return role if role and role[0].isalpha() else f"channel_{role}"


def _normalisation(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps on values, channel by channel."""
    schemes, masks = configuration["normalization_schemes"], configuration["use_mask_for_norm"]
    steps: list[dict[str, Any]] = []
    for channel, (scheme, is_masked) in enumerate(zip(schemes, masks, strict=True)):
        only = {"channels": [channel]} if len(schemes) > 1 else {}
        match scheme:
            case "CTNormalization":
                seen = plans["foreground_intensity_properties_per_channel"][str(channel)]
                low, high = float(seen["percentile_00_5"]), float(seen["percentile_99_5"])
                steps.append({"do": "clip", "low": low, "high": high, **only})
                mean, deviation = float(seen["mean"]), max(float(seen["std"]), 1e-8)
                steps.append({"do": "z-score", "mean": mean, "deviation": deviation, **only})
            case "ZScoreNormalization":
                steps.append({"do": "z-score", "over": "foreground" if is_masked else "all", **only})
            case "NoNormalization":
                continue
            case "RescaleTo01Normalization":
                steps.append({"do": "range", "to": [0.0, 1.0], **only})
            case _:
                raise Misconfigured(f"plans.json: the normalisation {scheme} is not known here")
    return steps


def _output(labels: _Labels, checkpoint: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Mirroring and the meaning of the answer."""
    shift = 1 if len(configuration["patch_size"]) == 2 else 0
    mirror = [int(axis) + shift for axis in checkpoint.get("inference_allowed_mirroring_axes") or ()]
    output = {
        "kind": "segmentation",
        "activation": "sigmoid" if labels.regions else "softmax",
        "segments": list(labels.heads),
        "back": "logits",
    }
    return {"mirror": mirror, "output": output}


def _modality(dataset: Mapping[str, Any]) -> str:
    """Of DICOM, as the first channel's name says it."""
    first = str(min(dataset["channel_names"].items(), key=_number)[1]).upper()
    if first == "CT":
        return "CT"
    if re.search(r"\b(MRI?|T1|T2|FLAIR|DWI|ADC|T1W|T2W|T1GD|T1C)\b", first):
        return "MR"
    raise Misconfigured(f"the first channel is called {first}: give the DICOM modality by --modality")
