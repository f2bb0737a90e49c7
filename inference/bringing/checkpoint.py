"""Reads the weights out of a training checkpoint without running anything that it holds, and writes safetensors.

Checkpoints are pickles. torch reads them with ``weights_only``: a small interpreter that builds tensors and plain
values and calls nothing else. Checkpoints of training also hold numbers of numpy (losses, scores), which that
interpreter does not know; the stand-ins below take their place, so that not even numpy's own code is called with what
a stranger wrote.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from storage.facts.errors import Misconfigured, Transient

Tensor = torch.Tensor


class _Kind:
    """Stands for ``numpy.dtype`` and its classes: remembers nothing."""

    def __init__(self, *_given: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _number(*_given: object) -> None:
    """Stands for a scalar of numpy, whose value nobody needs here."""


_KINDS = ("Float64DType", "Float32DType", "Float16DType", "Int64DType", "Int32DType", "UInt8DType", "BoolDType")
_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
    (_Kind, "numpy.dtype"),
    *((_Kind, f"numpy.dtypes.{name}") for name in _KINDS),
]


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """A checkpoint as plain values and tensors; numbers of numpy come as None.

    Raises Misconfigured when it holds anything else, and says what.
    """
    try:
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickle protocols that it may not know: then it says so
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Misconfigured(
            f"{path.name}: it holds more than weights and plain values, and is not read ({_why(error)}): save the "
            "network's state_dict() alone"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(
            f"{path.name} is no file of weights that torch can read ({type(error).__name__})"
        ) from error
    except OSError as error:
        raise Transient(f"{path.name} cannot be read: {error.strerror}") from error
    if not isinstance(found, Mapping):
        raise Misconfigured(f"{path.name} holds a {type(found).__name__}, not a state dict")
    return found


def tensors_of(found: Mapping[str, Any], what: str) -> dict[str, Tensor]:
    """A state dict. Raises Misconfigured when a value is no tensor."""
    if not found or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()):
        raise Misconfigured(f"{what} holds no state dict: each value must be a tensor")
    return dict(found)


def write_safetensors(state: Mapping[str, Tensor], path: Path) -> Path:
    """The same weights as bytes that can hold nothing else; shared ones are written once for each name."""
    try:
        save_file({key: value.detach().clone().contiguous() for key, value in state.items()}, path)
    except OSError as error:
        raise Transient(f"{path} cannot be written: {error.strerror}") from error
    return path


def _why(error: pickle.UnpicklingError) -> str:
    """What the pickle wanted, from torch's words."""
    text = str(error)
    for line in text.splitlines():
        for start in ("GLOBAL ", "Unsupported global: GLOBAL "):
            place = line.find(start)
            if place >= 0:
                return line[place + len(start) :].split(" was ")[0].strip()[:120]
    return text.splitlines()[0][:160] if text else "no reason given"
