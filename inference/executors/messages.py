"""What the worker and its slots say to each other over a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from inference.packages.package import Package
from inference.pipeline import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """To a slot: run this package on this series."""

    number: int  #: fences orders and answers
    request: Request
    package: Package
    need: int  #: bytes that a run is expected to fill
    processor: bool  #: whether it may run on the CPU when the device has no memory for it
    pinned: frozenset[str]  #: digests of packages whose models should stay
    scratch: Path  #: file for the arrays of the answer
    variant: tuple[str, ...] = ()  #: faster ways of computing that were proven on the slot's own device


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveWay:
    """To a slot: end that run at its next checkpoint."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """From a slot: it works and waits for a job."""

    device: str
    kind: str  #: of device
    total: int  #: bytes that a run may fill


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """From a slot: its run has passed a checkpoint."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run took."""

    seconds: float
    peak: int  #: bytes, its own models included and those of others not
    on_processor: bool = False  #: it had to leave the device


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """From a slot: the answer, whose arrays lie in the scratch file."""

    number: int
    answer: bytes  #: inference.executors.parcel
    sizes: tuple[int, ...]  #: of the arrays, bytes
    measured: Measured
    warm: frozenset[str]  #: digests of packages that are loaded now


class Remedy(StrEnum):
    """What can be done about a failure: storage.facts.errors, and how memory is told apart."""

    RETRY = "retry"
    MEMORY = "memory"
    REJECT = "reject"
    MEND = "mend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """From a slot: there is no answer."""

    number: int
    remedy: Remedy
    why: str
    warm: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeWay:
    """From a slot: the run ended early, as it was told to."""

    number: int
    warm: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """From a slot, its last words: a fault that nobody foresaw, or a device that does not work."""

    why: str
