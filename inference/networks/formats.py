"""Weights to functions: torch.export, TorchScript, state dicts, safetensors, ONNX; none of them by running pickles.

- ``export``: the archive is looked through first (see ``exported``); its guards are not executed.
- ``torchscript``: code, but of an interpreter of its own that knows tensors alone; read without pickle.
- ``state-dict``: read with ``weights_only``; ``safetensors``: raw bytes by nature.
- ``onnx``: a graph that ONNX Runtime checks and runs; without custom operators.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from inference.networks.architectures import build
from inference.networks.exported import sift
from inference.packages.network import Model
from inference.packages.package import Package
from storage.facts.errors import Misconfigured

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Net:
    """One loaded network."""

    call: Callable[[Tensor], Any]
    device: torch.device
    select: int = 0
    module: nn.Module | None = field(default=None)  #: for gradients and saliency; None for ONNX

    def __call__(self, image: Tensor) -> Tensor:
        """(windows, channels, …) to (windows, classes, …); raises Misconfigured when the answer is no tensor."""
        return self.pick(self.call(image))

    def pick(self, answer: Any) -> Tensor:
        """The output that is meant, of one or several; raises as a call does."""
        if isinstance(answer, Mapping):
            answer = list(answer.values())
        if isinstance(answer, Sequence):
            if len(answer) <= self.select:
                raise Misconfigured(f"the network gives {len(answer)} outputs: select = {self.select} is not there")
            answer = answer[self.select]
        if not isinstance(answer, Tensor):
            raise Misconfigured(f"the network gives a {type(answer).__name__}, not a tensor")
        return answer


def load(package: Package, model: Model, device: torch.device, variant: Sequence[str] = ()) -> Net:
    """The network of one model entry, for inference. Raises Misconfigured when the weights are not what they say."""
    if "int8" in variant and model.int8 is not None:
        quantised = model.model_copy(update={"weights": model.int8, "format": "onnx"})
        return Net(call=_onnx(package.read_weights(model.int8), quantised, device), device=device, select=model.select)
    content = package.read_weights(model.weights)
    if model.format == "onnx":
        return Net(call=_onnx(content, model, device), device=device, select=model.select)
    module = _module(content, model, device)
    return Net(call=module, module=module, device=device, select=model.select)


def _module(content: bytes, model: Model, device: torch.device) -> nn.Module:
    if model.format == "export":
        return _exported(content, model, device)
    if model.format == "torchscript":
        return _scripted(content, model, device)
    assert model.architecture is not None
    built = build(model.architecture)
    state = _safe_tensors(content, model) if model.format == "safetensors" else _state(content, model)
    state = {key.removeprefix(model.prefix): value for key, value in state.items()}
    try:
        built.load_state_dict(state)
    except RuntimeError as error:
        raise Misconfigured(
            f"weights {model.weights} do not fit {model.architecture.name}: {str(error)[:300]}"
        ) from error
    return built.to(device).eval().requires_grad_(False)


def _exported(content: bytes, model: Model, device: torch.device) -> nn.Module:
    sift(content, model.weights)
    try:
        program = torch.export.load(io.BytesIO(content))
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return program.module(check_guards=False)
    except (RuntimeError, KeyError, ValueError, AssertionError, AttributeError, TypeError) as error:
        raise Misconfigured(
            f"weights {model.weights} cannot be loaded by torch {torch.__version__} ({type(error).__name__}): export "
            "them again"
        ) from error


def _scripted(content: bytes, model: Model, device: torch.device) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript: the format that many weights have
            module: nn.Module = torch.jit.load(io.BytesIO(content), map_location=device)  # type: ignore[no-untyped-call]
            return module.eval()
    except RuntimeError as error:
        raise Misconfigured(f"weights {model.weights} are no TorchScript network") from error


def _state(content: bytes, model: Model) -> Mapping[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that are refused next
            state: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        for key in model.inside.split("/") if model.inside else ():
            state = state[key]
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"weights {model.weights} are no state dict of tensors alone ({type(error).__name__}): save "
            "module.state_dict(), or use safetensors"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise Misconfigured(f"weights {model.weights} hold no state dict: say where under inside")
    return state


def _safe_tensors(content: bytes, model: Model) -> Mapping[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load as read
    except ImportError as error:
        raise Misconfigured("format safetensors needs the package safetensors: install it beside the worker") from error
    try:
        return read(content)
    except SafetensorError as error:
        raise Misconfigured(f"weights {model.weights} are no safetensors file") from error


def _onnx(content: bytes, model: Model, device: torch.device) -> Callable[[Tensor], list[Tensor]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise Misconfigured("format onnx needs the package onnxruntime: install it beside the worker") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except _onnx_errors() as error:
        raise Misconfigured(f"weights {model.weights} are no ONNX network ({type(error).__name__})") from error
    entry = session.get_inputs()[0].name

    def call(image: Tensor) -> list[Tensor]:
        try:
            answers = session.run(None, {entry: image.float().cpu().numpy()})
        except _onnx_errors() as error:
            raise Misconfigured(f"network {model.weights} refuses its input {tuple(image.shape)}: {error}") from error
        return [torch.from_numpy(answer).to(device) for answer in answers]

    return call


def _onnx_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its errors share no class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NotImplemented,
        state.RuntimeException,
    )
