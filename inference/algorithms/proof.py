"""Proves a package on this machine: its self-test is reproduced, and faster ways of computing keep its answer."""

from __future__ import annotations

import hashlib
import io
import resource
import tempfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydicom.dataset import Dataset

from inference.algorithms.raw import Raw
from inference.algorithms.registry import find
from inference.imaging.volume import Volume, load
from inference.networks.device import device_of
from inference.packages.expected import missed
from inference.packages.network import Limits, Network, Variant
from inference.packages.package import Package
from inference.packages.selftest import SelfTest
from inference.runtime import Kept, Runtime
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.prediction import Frame

Labels = npt.NDArray[Any]  #: numbers of segments
LARGEST = 2**30  #: bytes that a self-test may unpack to


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One way of computing the self-test."""

    variant: tuple[Variant, ...]  #: empty: eager float32
    seconds: float  #: of a run with warm weights
    memory_mb: float  #: most that the GPU had allocated; on a CPU, that the process has held so far
    agreement: float  #: voxels with the same label as eager float32, of those where either marks something
    difference: float  #: greatest difference of a measurement, as a part of it
    fault: str = ""  #: why it is not used; empty where it may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found out about a package on a device."""

    package: str
    version: str
    digest: str  #: of the package: another content needs another proof
    device: str
    torch: str  #: version: another one needs another proof
    tested: bool  #: whether the package brings a self-test
    passed: bool  #: whether the self-test was reproduced; False without one
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  #: what an administrator should know
    trials: tuple[Trial, ...] = ()  #: eager float32 first
    chosen: tuple[Variant, ...] = ()  #: how to compute from now on

    def to_data(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A self-test, read."""

    volume: Volume
    mask: Labels | None  #: expected, on the volume's grid


def prove(package: Package, runtime: Runtime) -> Proof:
    """Run the self-test, then every variant that the package allows.

    What the package gets wrong is said in ``faults``; raises Misconfigured only where there is no such device.
    """
    device = str(device_of(runtime.device))
    manifest, test = package.manifest, package.manifest.selftest
    proof = Proof(
        package=manifest.id,
        version=manifest.version,
        digest=package.digest,
        device=device,
        torch=torch.__version__,
        tested=test is not None,
        passed=False,
    )
    if test is None:
        return replace(proof, notes=("there is no [selftest]: that it works as in training was not shown",))
    runtime = replace(runtime, models=Kept())
    try:
        case = read_case(package, test)
        plain, trial = _timed(case, package, runtime, ())
        faults = tuple(_faults(package, test, case, plain))
        notes = _storage_notes(case, plain, package, runtime)
    except (Misconfigured, Rejected) as error:
        return replace(proof, faults=(str(error),))
    proof = replace(proof, passed=not faults, faults=faults, notes=notes, trials=(trial,))
    if manifest.network is None or faults:
        return proof
    more, chosen = _variants(case, plain, trial, package, manifest.network, runtime)
    return replace(proof, trials=(trial, *more), chosen=chosen)


def read_case(package: Package, test: SelfTest) -> Case:
    """The self-test's volume and expected mask. Raises Misconfigured when its file is not what it says."""
    path = package.folder / test.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misconfigured(
            f"{package.manifest.id}: its self-test {test.file} cannot be read: {error.strerror}"
        ) from error
    if hashlib.sha256(content).hexdigest() != test.sha256:
        raise Misconfigured(
            f"{package.manifest.id}: its self-test {test.file} has other content than its manifest says"
        )
    try:
        return _from_dicom(content) if test.file.endswith(".zip") else _from_arrays(content)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Misconfigured(f"{package.manifest.id}: its self-test {test.file} cannot be used: {error}") from error


def keep_case(path: Path, volume: Volume, mask: Labels | None = None) -> str:
    """Write a self-test (.npz, no patient data but the voxels) and return its SHA-256 for the manifest."""
    arrays: dict[str, npt.NDArray[Any]] = {"voxels": volume.voxels, "affine": volume.affine}
    if mask is not None:
        arrays["mask"] = mask
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def turned(volume: Volume, mask: Labels | None = None) -> tuple[Volume, Labels | None]:
    """The same patient as another scanner might store it: other axes, some of them reversed."""
    axes = (1, 2, 0)
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, axes]
    size = volume.voxels.shape[axes[0]]
    affine[:3, 3] += affine[:3, 0] * (size - 1)
    affine[:3, 0] *= -1

    def turn(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(array.transpose(axes)[::-1])

    voxels = turn(volume.voxels)
    frames = tuple(_frame(k) for k in range(voxels.shape[0]))
    others = {role: turn(array) for role, array in volume.others.items()}
    other = replace(volume, voxels=voxels, affine=affine, frames=frames, others=others)
    return other, None if mask is None else turn(mask)


def _timed(case: Case, package: Package, runtime: Runtime, variant: tuple[Variant, ...]) -> tuple[Raw, Trial]:
    run = find(package.manifest.algorithm)
    chosen = replace(runtime, variant=variant)
    device = device_of(runtime.device)
    run(case.volume, package, chosen)  # loads, compiles, and lets the device choose its kernels
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    raw = run(case.volume, package, chosen)
    seconds = time.perf_counter() - start
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return raw, Trial(variant=variant, seconds=seconds, memory_mb=memory, agreement=1.0, difference=0.0)


def _variants(
    case: Case, plain: Raw, base: Trial, package: Package, network: Network, runtime: Runtime
) -> tuple[list[Trial], tuple[Variant, ...]]:
    """Add one variant after the other; keep what is faster and within the limits."""
    trials: list[Trial] = []
    chosen: tuple[Variant, ...] = ()
    fastest = base.seconds
    for variant in network.variants:
        if variant == "tf32" and device_of(runtime.device).type == "cpu":
            continue
        if {"bf16", "fp16"} <= {*chosen, variant}:
            continue
        trial = _trial(case, plain, package, network.limits, runtime, (*chosen, variant))
        if not trial.fault and trial.seconds >= fastest:
            trial = replace(trial, fault="it is not faster here")
        trials.append(trial)
        if not trial.fault:
            chosen, fastest = trial.variant, trial.seconds
    return trials, chosen


def _trial(
    case: Case, plain: Raw, package: Package, limits: Limits, runtime: Runtime, variant: tuple[Variant, ...]
) -> Trial:
    try:
        raw, trial = _timed(case, package, runtime, variant)
    except (RuntimeError, Misconfigured, Rejected) as error:  # what this device or its compiler cannot do
        fault = f"it does not run here ({type(error).__name__})"
        return Trial(variant=variant, seconds=0.0, memory_mb=0.0, agreement=0.0, difference=0.0, fault=fault)
    agreement, difference = _agreed(plain, raw), _difference(plain.values, raw.values)
    fault = ""
    if agreement < limits.agreement:
        fault = f"only {agreement:.5f} of the labels are those of eager float32 (at least {limits.agreement:g})"
    elif difference > limits.difference:
        fault = f"a measurement differs by {difference:.2%} from eager float32 (at most {limits.difference:.2%})"
    return replace(trial, agreement=agreement, difference=difference, fault=fault)


def _faults(package: Package, test: SelfTest, case: Case, raw: Raw) -> list[str]:
    """How the answer differs from the expected one."""
    if raw.refusal is not None:
        return [f"the self-test is refused: {raw.refusal.text}"]
    faults = list(missed(package.manifest, test, raw, case.volume.affine))
    if case.mask is None and not (test.values or test.chances or test.grades or test.detections):
        return ["the self-test expects nothing: give it values, chances, grades, detections or a mask"]
    if case.mask is None:
        return faults
    if raw.mask is None:
        return [*faults, "there is no mask"]
    for number in np.unique(case.mask)[1:] if case.mask.min() == 0 else np.unique(case.mask):
        found = np.logical_or.reduce([labels == number for labels in raw.maps_of_segments])
        dice = _dice(case.mask == number, found)
        if dice < test.agreement:
            faults.append(
                f"segment {number} has a Dice coefficient of {dice:.3f} with the expected mask (at least "
                f"{test.agreement:g}): are orientation, spacing and normalisation those of training?"
            )
    return faults


def _storage_notes(case: Case, plain: Raw, package: Package, runtime: Runtime) -> tuple[str, ...]:
    """Whether the answer depends on how a scanner stores the axes, which orient rules out."""
    if plain.mask is None:
        return ()
    volume, expected = turned(case.volume, plain.mask)
    found = find(package.manifest.algorithm)(volume, package, runtime)
    assert expected is not None
    if found.mask is not None and _agreement(expected, found.mask) >= 0.99:
        return ()
    return ("its answer depends on how the axes are stored: name an orientation (orient) or accept only that one",)


def _agreed(one: Raw, other: Raw) -> float:
    """The least agreement of their maps."""
    ours, others = one.maps_of_segments, other.maps_of_segments
    if len(ours) != len(others):
        return 0.0
    return min((_agreement(a, b) for a, b in zip(ours, others, strict=True)), default=1.0)


def _agreement(one: Labels | None, other: Labels | None) -> float:
    if one is None or other is None:
        return float(one is other)
    marked = (one > 0) | (other > 0)
    count = np.count_nonzero(marked)
    return float(np.count_nonzero((one == other) & marked) / count) if count else 1.0


def _difference(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    if one.keys() != other.keys():
        return float("inf")
    return max((abs(other[key] - value) / max(abs(value), 1e-9) for key, value in one.items()), default=0.0)


def _dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return float(2 * np.count_nonzero(one & other) / total) if total else 1.0


def _from_arrays(content: bytes) -> Case:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        if sum(info.file_size for info in arrays.zip.infolist()) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST >> 20} MB")
        voxels, affine = arrays["voxels"], np.asarray(arrays["affine"], np.float64)
        mask = arrays["mask"].astype(np.uint8) if "mask" in arrays else None
    if voxels.ndim != 3 or affine.shape != (4, 4) or (mask is not None and mask.shape != voxels.shape):
        raise ValueError("voxels and mask need three axes and the same shape, affine 4 x 4")
    frames = tuple(_frame(k) for k in range(voxels.shape[0]))
    return Case(volume=Volume(voxels=voxels, affine=affine, frames=frames, header=Dataset()), mask=mask)


def _from_dicom(content: bytes) -> Case:
    mask = None
    with zipfile.ZipFile(io.BytesIO(content)) as archive, tempfile.TemporaryDirectory() as folder:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if sum(entry.file_size for entry in entries) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST >> 20} MB")
        paths = []
        for number, entry in enumerate(entries):
            if entry.filename == "mask.npz":
                with np.load(io.BytesIO(archive.read(entry)), allow_pickle=False) as arrays:
                    mask = arrays["mask"].astype(np.uint8)
                continue
            paths.append(Path(folder) / f"{number}.dcm")  # never by the name that the archive gives
            paths[-1].write_bytes(archive.read(entry))
        volume = load(paths)
    if mask is not None and mask.shape != volume.voxels.shape:
        raise ValueError("the mask is not on the grid of the series")
    return Case(volume=volume, mask=mask)


def _frame(number: int) -> Frame:
    return Frame(sop_instance_uid=f"1.2.{number + 1}", sop_class_uid="1.2.840.10008.5.1.4.1.1.7")
