"""What a run may use: a device, models that are already there, and the moment to make way for something urgent."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from storage.facts.errors import Transient

T = TypeVar("T")


class GaveWay(Exception):
    """Raised by a checkpoint: the run ends here, to be started again later, without a failure being counted."""


class OutOfMemory(Transient):
    """The device has no memory left for this run: it may succeed with fewer models around it, or in smaller tiles."""


class Models(Protocol):
    """Loaded models that outlive a run."""

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """The model of that key, loaded now unless it is warm.

        Keys begin with the package's digest, so that another version never gets the weights of this one.
        """
        ...


@dataclass(frozen=True, slots=True)
class Cold:
    """Keeps nothing: each run loads its models. For notebooks and tests."""

    def get(self, key: Hashable, load: Callable[[], T]) -> T:  # noqa: ARG002
        """Load it."""
        return load()


class Kept:
    """Keeps every model until it is forgotten itself: for many runs of one package."""

    def __init__(self) -> None:
        self._models: dict[Hashable, Any] = {}

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """See Models."""
        if key not in self._models:
            self._models[key] = load()
        found: T = self._models[key]
        return found


def _go_on() -> None:
    """Nothing waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Given to every algorithm."""

    device: str = "auto"  #: torch device: auto, cpu, cuda, cuda:1 …
    models: Models = field(default_factory=Cold)
    #: To be called between patches, at least once a second: renews the proof of life, raises GaveWay when told to stop.
    checkpoint: Callable[[], None] = _go_on
    #: How large tiles and batches may be, as a part of what the package says: below 1 after memory ran out. A network
    #: that works in patches takes that part of them in a batch, then the smallest patch that its package allows.
    tile_scale: float = 1.0
    #: Faster ways of computing that a proof has chosen for this package on this device, e.g. ``channels-last``; empty
    #: for eager float32.
    variant: tuple[str, ...] = ()
