"""Memory and health of what a slot computes on: one protocol for a GPU and for the processor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from inference.executors import vitals
from storage.facts.errors import Misconfigured, Transient

_GPU_FILES = ("nvidia[0-9]*", "dxg")  #: below /dev: NVIDIA's driver, and its Windows Subsystem for Linux form


class Device(Protocol):
    """Where models run. All numbers are bytes."""

    name: str  #: for torch: ``cpu``, ``cuda:0`` …
    kind: str  #: what was measured on one holds for others of the same kind

    def total(self) -> int:
        """What this slot may fill."""
        ...

    def used(self) -> int:
        """What is filled now."""
        ...

    def peak(self) -> int:
        """The most that was filled since ``forget_peak``."""
        ...

    def forget_peak(self) -> None:
        """Measure the peak from now on."""
        ...

    def give_back(self) -> None:
        """Return what is cached but not used."""
        ...

    def probe(self) -> None:
        """A small sum. Raises Transient when it does not come out right."""
        ...


class Processor:
    """The CPU: memory is that of this process."""

    name = kind = "cpu"

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def total(self) -> int:
        """See Device."""
        return self._limit

    def used(self) -> int:
        """See Device."""
        return vitals.resident_bytes(os.getpid())

    def peak(self) -> int:
        """See Device."""
        return max(vitals.peak_bytes(), self.used())

    def forget_peak(self) -> None:
        """See Device."""
        vitals.forget_peak()

    def give_back(self) -> None:
        """See Device."""
        vitals.give_back_memory()

    def probe(self) -> None:
        """A process that answers is a processor that works."""


class Gpu:
    """One CUDA device, through torch: given from outside, so that tests need none."""

    def __init__(self, torch: Any, name: str) -> None:
        self._torch, self.name = torch, name
        self._index = int(name.partition(":")[2] or 0)
        self.kind = str(torch.cuda.get_device_name(self._index))

    def total(self) -> int:
        """All of the device but what other programs hold."""
        free, _ = self._torch.cuda.mem_get_info(self._index)
        return int(free + self._torch.cuda.memory_reserved(self._index))

    def used(self) -> int:
        """See Device."""
        return int(self._torch.cuda.memory_allocated(self._index))

    def peak(self) -> int:
        """See Device."""
        return int(self._torch.cuda.max_memory_allocated(self._index))

    def forget_peak(self) -> None:
        """See Device."""
        self._torch.cuda.reset_peak_memory_stats(self._index)

    def give_back(self) -> None:
        """See Device."""
        vitals.give_back_memory()
        self._torch.cuda.empty_cache()

    def probe(self) -> None:
        """See Device."""
        try:
            found = int(self._torch.arange(1000, device=self.name).sum().item())
        except RuntimeError as error:  # what torch raises for every fault of CUDA
            raise Transient(f"{self.name} does not compute: {str(error).splitlines()[0]}") from error
        if found != 499500:
            raise Transient(f"{self.name} computes wrongly: take it out of service")


def open_device(name: str, limit: int) -> Device:
    """The device of that name; ``limit`` bounds the memory of this process, bytes.

    Raises Misconfigured when there is no such device.
    """
    if name == "cpu":
        return Processor(limit)
    torch = _torch(name)
    try:
        torch.cuda.init()
        return Gpu(torch, name)
    except (RuntimeError, AssertionError, ValueError) as error:  # AssertionError: no CUDA in torch, or no such number
        raise Misconfigured(f"there is no device {name}: {str(error).splitlines()[0]}") from error


def _torch(name: str) -> Any:
    try:
        import torch  # takes seconds: only slots that need it pay
    except ImportError as error:
        raise Misconfigured(f"device {name} needs torch: install the worker's dependencies") from error
    return torch


def has_gpu(folder: Path = Path("/dev")) -> bool:
    """Whether a GPU's driver is there, told without loading torch."""
    return any(next(folder.glob(pattern), None) is not None for pattern in _GPU_FILES)


def gpus() -> int:
    """How many GPUs torch can use. To be asked in a process that ends afterwards: it loads torch."""
    torch = _torch("cuda")
    return int(torch.cuda.device_count())
