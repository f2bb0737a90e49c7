"""Measures what a package takes on this device: time by step, memory, and against its bare forward passes."""

from __future__ import annotations

import datetime
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.algorithms.registry import find
from inference.bringing.validation.folder import series_in
from inference.imaging.pixels import stored_frames
from inference.imaging.planes import read_headers
from inference.imaging.volume import Volume
from inference.packages.package import Package
from inference.packages.raw import Raw
from inference.pipeline import Request, predict
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.prediction import Status

Say = Callable[[str], None]
#: Steps in their order. ``compute`` is of algorithms without a network; of others, ``stitch`` is all that is done with
#: its answers: windows put together, classes, the way back.
STEPS = ("headers", "decode", "volume", "align", "compute", "prepare", "forward", "stitch", "results")
_REPEATED = 3  #: bare passes of each kind that are timed, as their time varies little


@dataclass(slots=True)
class Passes:
    """The forward passes of one run."""

    first: float | None = None  #: when the first one began, seconds of ``time.perf_counter``
    seconds: float = 0.0
    #: Of the bare passes: by network and shape of the input, the network, an input, and how often it was given.
    seen: dict[tuple[int, tuple[int, ...]], list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run."""

    seconds: float
    steps: Mapping[str, float]


def benchmark(package: Package, folder: Path | None, runtime: Runtime, rounds: int, say: Say) -> dict[str, Any]:
    """What was found, as plain data; times in seconds, memory in bytes.

    ``folder`` holds one series; without it the package's self-test is run, whose files are not read again and again.
    Raises Rejected when the package does not take the series, Misconfigured when it has no self-test.
    """
    run, source, shapes = _series(package, folder, runtime) if folder is not None else _case(package, runtime)
    has_networks = bool(package.manifest.weights)
    with _watched(runtime.device) if has_networks else nullcontext(Passes()) as passes:
        first = run(passes)
        _forget_peak(has_networks)
        say(f"first run  {first.seconds:.3f} s")
        runs = []
        for number in range(1, rounds + 1):
            runs.append(run(passes))
            say(f"run {number}/{rounds}  {runs[-1].seconds:.3f} s")
    peak, device, kind = _place(runtime.device, has_networks)
    forward = _bare(passes, runtime.device) if passes.seen else None
    seconds = statistics.median(one.seconds for one in runs)
    return {
        "package": package.manifest.id,
        "version": package.manifest.version,
        "package_digest": package.digest,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": device,
        "kind": kind,
        "variant": list(runtime.variant),
        "source": source,
        "shape": list(shapes[0]),
        "rounds": rounds,
        "first": round(first.seconds, 4),
        "seconds": round(seconds, 4),
        "runs": [round(one.seconds, 4) for one in runs],
        "steps": _steps(runs, seconds),
        "forward": None if forward is None else round(forward, 4),
        "ratio": None if not forward else round(seconds / forward, 3),
        "peak": peak,
    }


Run = Callable[[Passes], Measured]
Shapes = list[tuple[int, ...]]  #: of the volume, one a run


def _series(package: Package, folder: Path, runtime: Runtime) -> tuple[Run, str, Shapes]:
    """Runs as in production: from files to what would be kept."""
    found = series_in(folder)
    if len(found) > 1:
        raise Rejected(f"{folder} holds {len(found)} series: give the folder of one")
    (series,) = found.values()
    uid, paths = series.series_uid, tuple(series.paths)
    request = Request(key="benchmark", study_uid=series.study_uid, series_uid=uid, revision=1, paths=paths)
    shapes: Shapes = []
    decode = _decoding(paths)

    def look(volume: Volume, _raw: Raw) -> None:
        shapes.append(volume.voxels.shape)

    def run(passes: Passes) -> Measured:
        passes.first, passes.seconds = None, 0.0
        passes.seen.clear()
        start = time.perf_counter()
        outcome = predict(request, package, runtime, look)
        outcome.kept(lambda _content: "")
        whole = time.perf_counter() - start
        said = outcome.prediction
        if said.status is not Status.SUCCEEDED:
            raise Rejected(f"the package does not take the series: {said.reason.text if said.reason else said.status}")
        return Measured(seconds=whole, steps=_split(start, whole, said.seconds, passes, decode))

    return run, f"series {uid}", shapes


def _case(package: Package, runtime: Runtime) -> tuple[Run, str, Shapes]:
    """Runs on the voxels of the self-test."""
    from inference.algorithms.proof import read_case  # torch: a package without networks is measured without it

    test = package.manifest.selftest
    if test is None:
        raise Misconfigured(f"{package.manifest.id} brings no self-test: give a folder with a series (--series)")
    volume = read_case(package, test).volume
    algorithm = find(package.manifest.algorithm)

    def run(passes: Passes) -> Measured:
        passes.first, passes.seconds = None, 0.0
        passes.seen.clear()
        start = time.perf_counter()
        algorithm(volume, package, runtime)
        whole = time.perf_counter() - start
        return Measured(seconds=whole, steps=_split(start, whole, {"compute": whole}, passes, 0.0))

    return run, "its self-test", [volume.voxels.shape]


def _split(start: float, whole: float, seconds: Mapping[str, float], passes: Passes, decode: float) -> dict[str, float]:
    """The time of a run by step: the pipeline's own marks, and when the network was at work."""
    headers, load, align = (seconds.get(name, 0.0) for name in ("judge", "load", "align"))
    compute = seconds["compute"]
    before = headers + load + align
    is_watched = passes.first is not None
    prepare = max(0.0, (passes.first or 0.0) - start - before) if is_watched else 0.0
    steps = {
        "headers": headers,
        "decode": min(decode, load),
        "volume": max(0.0, load - decode),
        "align": align,
        "compute": 0.0 if is_watched else compute,
        "prepare": prepare,
        "forward": passes.seconds,
        "stitch": max(0.0, compute - prepare - passes.seconds) if is_watched else 0.0,
        "results": max(0.0, whole - before - compute),
    }
    return {name: value for name, value in steps.items() if value}


def _decoding(paths: Sequence[Path]) -> float:
    """Seconds that decoding all frames takes by itself, with the files in the cache."""
    frames: dict[Path, list[int]] = {}
    for plane in read_headers(paths).planes():
        frames.setdefault(plane.path, []).append(plane.index)
    found = []
    for _ in range(_REPEATED):
        start = time.perf_counter()
        for path, indices in frames.items():
            for _frame in stored_frames(path, sorted(indices)):
                pass
        found.append(time.perf_counter() - start)
    return min(found)


@contextmanager
def _watched(device: str) -> Iterator[Passes]:
    """Times every call of a network, not those inside of it; waits for the GPU each time."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    passes, begun = Passes(), []

    def before(module: Any, given: Any) -> None:
        _wait(device)
        begun.append(time.perf_counter())
        if len(begun) == 1:
            passes.first = passes.first or begun[0]
            _note(passes, module, given)

    def after(_module: Any, _given: Any, _answer: Any) -> None:
        _wait(device)
        start = begun.pop()
        if not begun:
            passes.seconds += time.perf_counter() - start

    handles = [register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _note(passes: Passes, module: Any, given: Sequence[Any]) -> None:
    if len(given) != 1 or not hasattr(given[0], "shape"):
        return
    key = id(module), tuple(given[0].shape)
    if key not in passes.seen:
        passes.seen[key] = [module, given[0].detach().clone(), 0]
    passes.seen[key][2] += 1


def _bare(passes: Passes, device: str) -> float:
    """Seconds of the same forward passes, one after the other, and nothing else."""
    import torch

    total = 0.0
    with torch.inference_mode():
        for module, given, times in passes.seen.values():
            module(given)
            _wait(device)
            found = []
            for _ in range(_REPEATED):
                start = time.perf_counter()
                module(given)
                _wait(device)
                found.append(time.perf_counter() - start)
            total += min(found) * times
    return total


def _wait(device: str) -> None:
    import torch

    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.synchronize()


def _forget_peak(has_networks: bool) -> None:
    if has_networks:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()


def _place(device: str, has_networks: bool) -> tuple[int, str, str]:
    """Most memory, bytes: allocated on a GPU, else held by this process; the device; and what it is called."""
    if has_networks:
        import torch

        from inference.networks.device import device_of

        chosen = device_of(device)
        if chosen.type == "cuda":
            return torch.cuda.max_memory_allocated(chosen), str(chosen), torch.cuda.get_device_name(chosen)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "cpu", "cpu"


def _steps(runs: Sequence[Measured], seconds: float) -> list[dict[str, Any]]:
    found = []
    for step in STEPS:
        values = [run.steps.get(step, 0.0) for run in runs]
        if any(values):
            middle = statistics.median(values)
            found.append({"step": step, "seconds": round(middle, 4), "share": round(middle / seconds, 4)})
    return found
