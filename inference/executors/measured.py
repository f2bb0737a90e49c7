"""What runs of a package took on a kind of device: for admission, for the order of work, and for who gives way."""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from inference.executors.messages import Measured
from inference.packages.package import Package

log = logging.getLogger(__name__)

NEWEST = 0.3  #: weight of the newest run in the mean of the times
MARGIN = 1.2  #: of memory: another series may be larger than those that were seen
PER_WEIGHT = 4  #: an unknown network fills about so many times its weights: itself, its activations, a copy
UNKNOWN = 512 * 2**20  #: and the volume with it, bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What is known of one package on one kind of device."""

    seconds: float  #: mean, the newer the heavier
    peak: int  #: bytes, the most that was seen
    runs: int


class Costs:
    """The record, kept in a small file: lost, it is measured anew."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._known = _read(path)

    def cost(self, package: Package, kind: str) -> Cost | None:
        """What is known; None before the first run."""
        with self._lock:
            return self._known.get(f"{package.digest} {kind}")

    def need(self, package: Package, kind: str) -> int:
        """Bytes that a run will fill: measured, or guessed from the size of the weights."""
        known = self.cost(package, kind)
        if known is not None:
            return int(known.peak * MARGIN)
        return UNKNOWN + PER_WEIGHT * sum(_size(path) for path in package.weights.values())

    def note(self, package: Package, kind: str, measured: Measured) -> None:
        """Enter a run. What cannot be written is known until the worker ends."""
        with self._lock:
            key = f"{package.digest} {kind}"
            old = self._known.get(key, Cost(seconds=measured.seconds, peak=0, runs=0))
            self._known[key] = Cost(
                seconds=old.seconds + NEWEST * (measured.seconds - old.seconds),
                peak=max(old.peak, measured.peak),
                runs=old.runs + 1,
            )
            _write(self._path, self._known)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path) -> dict[str, Cost]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(key): Cost(seconds=float(v["seconds"]), peak=int(v["peak"]), runs=int(v["runs"]))
            for key, v in found.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): run times and memory are measured anew", path, type(error).__name__)
        return {}


def _write(path: Path, known: dict[str, Cost]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({key: asdict(cost) for key, cost in known.items()}, indent=1), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)
