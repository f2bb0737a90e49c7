"""Builds a network by a name that a manifest gives, from a list of networks that may be built; nothing else can be.

Arguments are plain values. Where a network wants a class (``conv_op`` of nnU-Net's) its name stands for it, and only
those below are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import JsonValue
from torch import nn

from inference.networks.meshnet import MeshNet
from inference.packages.network import Architecture
from storage.facts.errors import Misconfigured

_MONAI = (
    "AHNet", "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "Classifier", "DenseNet", "DenseNet121", "DenseNet169",
    "DenseNet201", "DenseNet264", "DynUNet", "EfficientNetBN", "FlexibleUNet", "HighResNet", "Regressor", "ResNet",
    "SEResNet50", "SEResNet101", "SegResNet", "SegResNetDS", "SegResNetVAE", "SENet154", "SwinUNETR", "UNet", "UNETR",
    "ViT", "VNet", "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
)  # fmt: skip
_NNUNET = {
    "PlainConvUNet": "inference.networks.unet",
    "ResidualEncoderUNet": "inference.networks.unet",
}
#: Name in ``model.toml`` to module and name.
NETWORKS: Mapping[str, tuple[str, str]] = {
    **{f"monai.{name}": ("monai.networks.nets", name) for name in _MONAI},
    **{f"nnunet.{name}": (module, name) for name, module in _NNUNET.items()},
}
_CLASSES: Mapping[str, type[nn.Module]] = {
    f"torch.nn.{one.__name__}": one
    for one in (
        nn.BatchNorm2d, nn.BatchNorm3d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Dropout2d,
        nn.Dropout3d, nn.ELU, nn.GELU, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LeakyReLU, nn.PReLU, nn.ReLU, nn.SiLU,
    )
}  # fmt: skip


def build(architecture: Architecture) -> nn.Module:
    """The network, with random weights. Raises Misconfigured when it is not on the list, or refuses its arguments."""
    name = architecture.name
    if name == "MeshNet":
        make: Any = MeshNet
    elif name in NETWORKS:
        module, attribute = NETWORKS[name]
        try:
            make = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise Misconfigured(
                f"network {name} needs {module.partition('.')[0]}: install it beside the worker"
            ) from error
    else:
        raise Misconfigured(f"network {name!r} is not on the list (there: MeshNet, {', '.join(sorted(NETWORKS))})")
    try:
        built: nn.Module = make(**{key: _plain(value) for key, value in architecture.arguments.items()})
    except ImportError as error:  # what MONAI itself needs for some networks, e.g. einops
        raise Misconfigured(f"network {name} needs more than is installed: {str(error).splitlines()[0]}") from error
    except (TypeError, ValueError, AttributeError, LookupError, NotImplementedError) as error:
        raise Misconfigured(f"network {name} refuses its arguments: {error}") from error
    return built


def _plain(value: JsonValue) -> Any:
    """The value, with names of classes replaced."""
    if isinstance(value, str) and value.startswith("torch."):
        try:
            return _CLASSES[f"torch.nn.{value.rpartition('.')[2]}"]
        except KeyError:
            raise Misconfigured(f"{value} cannot be named (there: {', '.join(sorted(_CLASSES))})") from None
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
