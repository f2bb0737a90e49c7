"""Finds the device that a run is to use, and translates what it raises when memory ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inference.runtime import OutOfMemory
from storage.facts.errors import Misconfigured


def device_of(wanted: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one. Raises Misconfigured when it is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise Misconfigured(f"there is no device {wanted!r}: use auto, cpu or cuda") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Misconfigured(f"device {wanted} is not there ({torch.cuda.device_count()} GPUs): use auto or cpu")
    return device


@contextmanager
def memory(what: str) -> Iterator[None]:
    """Raises OutOfMemory where the memory of the device, or of the machine, does not suffice for ``what``."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(f"the GPU has no memory left for {what}") from error
    except RuntimeError as error:
        if "alloc" in str(error) or "memory" in str(error):
            raise OutOfMemory(f"there is no memory left for {what}") from error
        raise
