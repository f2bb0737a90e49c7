"""Models that stay loaded between runs: the least recently used go when memory is wanted for others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from inference.executors.device import Device
from inference.executors.memory import ran_out
from storage.facts.errors import Transient

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    model: Any
    size: int  #: bytes on the device, as measured when it was loaded


def _package(key: Hashable) -> str:
    """The digest of the package that a model belongs to: the first part of its key."""
    return str(key[0] if isinstance(key, tuple) else key)


class Warm:
    """The models of one slot (inference.runtime.Models).

    ``budget``: bytes that idle models may fill. Pinned packages' models go only when memory has run out.
    """

    def __init__(self, device: Device, budget: int) -> None:
        self._device, self._budget = device, budget
        self._loaded: OrderedDict[Hashable, _Loaded] = OrderedDict()
        self.pinned: frozenset[str] = frozenset()  #: digests of packages

    @property
    def packages(self) -> frozenset[str]:
        """Digests of the packages of which a model is loaded."""
        return frozenset(map(_package, self._loaded))

    def size(self, digest: str | None = None) -> int:
        """Bytes of the models of a package; of all models by default."""
        return sum(one.size for key, one in self._loaded.items() if digest in (None, _package(key)))

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """See inference.runtime.Models. Where memory runs out while loading, all else goes and it is tried again."""
        if key in self._loaded:
            self._loaded.move_to_end(key)
            found: T = self._loaded[key].model
            return found
        before = self._device.used()
        try:
            model = load()
        except (MemoryError, RuntimeError, OSError, Transient) as error:
            if not ran_out(error) or not self.free():
                raise
            before = self._device.used()
            model = load()
        self._loaded[key] = _Loaded(model=model, size=max(self._device.used() - before, 0))
        self._shrink(self._budget, keep=_package(key))
        return model

    def make_room(self, need: int, digest: str) -> None:
        """Before a run of a package that fills ``need`` bytes, its own models included."""
        own = self.size(digest)
        while self._device.total() - self._device.used() + own < need:
            if not self._drop_one(keep=digest):
                return

    def free(self) -> bool:
        """Drop every model, pinned ones too. Returns whether there was any."""
        had = bool(self._loaded)
        self._loaded.clear()
        self._device.give_back()
        return had

    def _shrink(self, budget: int, keep: str) -> None:
        while self.size() > budget:
            if not self._drop_one(keep=keep):
                return

    def _drop_one(self, keep: str) -> bool:
        spared = self.pinned | {keep}
        key = next((key for key in self._loaded if _package(key) not in spared), None)
        if key is None:
            return False
        del self._loaded[key]
        self._device.give_back()
        return True
