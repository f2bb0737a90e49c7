"""Algorithms that behave as badly as a model can; what each does stands in its package's parameters."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from inference.algorithms.raw import Raw
from inference.algorithms.registry import ALGORITHMS
from inference.imaging.volume import Volume
from inference.packages.package import Package
from inference.runtime import OutOfMemory, Runtime

NAME = "stand-in"


def register() -> None:
    """Let packages name it."""
    ALGORITHMS[NAME] = (__name__, "act")


def act(volume: Volume, package: Package, runtime: Runtime) -> Raw:
    """Do what the parameters say: ``first`` once, if its flag file is not there yet, and ``do`` ever after."""
    given = package.manifest.parameters
    what = given.get("do", "work")
    flag = Path(given.get("flag", "/nonexistent/flag"))
    if "first" in given and not flag.exists():
        flag.touch()
        what = given["first"]
    note(given, "begin", volume)
    made = _WAYS[what](volume, package, runtime)
    note(given, "end", volume)
    return made


def note(given: dict[str, str], event: str, volume: Volume) -> None:
    """One line a moment, for the tests to read."""
    if "journal" in given:
        line = f"{time.time()} {event} {os.getpid()} {volume.frames[0].sop_instance_uid}\n"
        with Path(given["journal"]).open("a", encoding="utf-8") as file:
            file.write(line)


def _work(volume: Volume, package: Package, runtime: Runtime) -> Raw:
    given = package.manifest.parameters
    runtime.models.get((package.digest, "net"), lambda: _load(float(given.get("load", "0"))))
    for _ in range(int(given.get("patches", "1"))):
        runtime.checkpoint()
        time.sleep(float(given.get("patch", "0")))
    return Raw(mask=np.ones(volume.voxels.shape, np.uint8), values={"size": 1.0}, device=runtime.device)


def _load(seconds: float) -> bytes:
    time.sleep(seconds)
    return bytes(10**6)


def _variant(volume: Volume, _package: Package, runtime: Runtime) -> Raw:
    """Say how it was told to compute."""
    mask = np.ones(volume.voxels.shape, np.uint8)
    return Raw(mask=mask, values={"size": 1.0}, device=runtime.device, warnings=runtime.variant)


def _quiet(volume: Volume, package: Package, runtime: Runtime) -> Raw:
    """As ``work``, without a checkpoint."""
    time.sleep(float(package.manifest.parameters["patch"]))
    return _answer(volume, runtime)


def _answer(volume: Volume, runtime: Runtime) -> Raw:
    return Raw(mask=np.ones(volume.voxels.shape, np.uint8), values={"size": 1.0}, device=runtime.device)


def _signal(number: int) -> Callable[[Volume, Package, Runtime], Raw]:
    def way(volume: Volume, _package: Package, runtime: Runtime) -> Raw:
        os.kill(os.getpid(), number)
        time.sleep(60)
        return _answer(volume, runtime)

    return way


def _exit(*_: object) -> Raw:
    os._exit(3)


def _hang(_volume: Volume, _package: Package, runtime: Runtime) -> Raw:
    runtime.checkpoint()
    time.sleep(1000)
    raise AssertionError


def _freeze(*_: object) -> Raw:
    """Foreign code that never gives the interpreter back."""
    ctypes.PyDLL(None).sleep(1000)
    raise AssertionError


def _spin(*_: object) -> Raw:
    while True:
        pass


def _eat(_volume: Volume, _package: Package, runtime: Runtime) -> Raw:
    eaten = []
    while True:
        eaten.append(np.ones(2**20, np.float64))
        runtime.checkpoint()
        time.sleep(0.005)


def _oom(*_: object) -> Raw:
    raise MemoryError


def _tiles(volume: Volume, _package: Package, runtime: Runtime) -> Raw:
    """Too large at first: works in tiles of half the size."""
    if runtime.tile_scale > 0.5:
        raise OutOfMemory("too large a tile")
    return _answer(volume, runtime)


def _nan(volume: Volume, _package: Package, _runtime: Runtime) -> Raw:
    return Raw(mask=np.ones(volume.voxels.shape, np.uint8), values={"size": float("nan")})


def _shape(_volume: Volume, _package: Package, _runtime: Runtime) -> Raw:
    return Raw(mask=np.ones((1, 2, 3), np.uint8), values={"size": 1.0})


def _weights(volume: Volume, package: Package, runtime: Runtime) -> Raw:
    package.read_weights("net")
    return _answer(volume, runtime)


def _full(volume: Volume, _package: Package, runtime: Runtime) -> Raw:
    """From now on this process can write little: a full disk, as far as it can tell."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
    return _answer(volume, runtime)


def _freed(volume: Volume, _package: Package, runtime: Runtime) -> Raw:
    """And now it can again."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return _answer(volume, runtime)


def _unforeseen(*_: object) -> Raw:
    raise KeyError("secret")


_WAYS: dict[str, Callable[[Volume, Package, Runtime], Raw]] = {
    "variant": _variant,
    "work": _work,
    "quiet": _quiet,
    "segv": _signal(signal.SIGSEGV),
    "kill": _signal(signal.SIGKILL),
    "exit": _exit,
    "hang": _hang,
    "freeze": _freeze,
    "spin": _spin,
    "eat": _eat,
    "oom": _oom,
    "tiles": _tiles,
    "nan": _nan,
    "shape": _shape,
    "weights": _weights,
    "full": _full,
    "freed": _freed,
    "unforeseen": _unforeseen,
}
