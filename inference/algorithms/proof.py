"""Proves a package on this machine: its self-test is reproduced, and faster ways of computing keep its answer."""

from __future__ import annotations

import hashlib
import io
import resource
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
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
from inference.packages.axes import agreed, apart, differing
from inference.packages.expected import missed
from inference.packages.network import Limits, Network, Variant
from inference.packages.package import Package
from inference.packages.selftest import SelfTest
from inference.runtime import Kept, Runtime
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.prediction import Frame

Labels = npt.NDArray[Any]  #: numbers of segments
LARGEST = 2**30  #: bytes that a self-test may unpack to
_AXES = (1, 2, 0)  #: of an image as another scanner might store it; the first one is reversed, too
_IMAGE = "image_"  #: how the names of expected images begin


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
    mask: Labels | None  #: expected, on the volume's grid; maps first where segments overlap
    images: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)  #: expected, by key


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


def keep_case(
    path: Path, volume: Volume, mask: Labels | None = None, images: Mapping[str, npt.NDArray[Any]] | None = None
) -> str:
    """Write a self-test (.npz, no patient data but the voxels) and return its SHA-256 for the manifest.

    ``mask`` has a first axis of maps where segments overlap; ``images`` are expected new images, by key.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"voxels": volume.voxels, "affine": volume.affine}
    if mask is not None:
        arrays["mask"] = mask
    arrays |= {f"{_IMAGE}{key}": image for key, image in (images or {}).items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def turned(volume: Volume, mask: Labels | None = None) -> tuple[Volume, Labels | None]:
    """The same patient as another scanner might store it: other axes, some of them reversed."""
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, _AXES]
    size = volume.voxels.shape[_AXES[0]]
    affine[:3, 3] += affine[:3, 0] * (size - 1)
    affine[:3, 0] *= -1
    voxels = _turn(volume.voxels)
    frames = tuple(_frame(k) for k in range(voxels.shape[0]))
    others = {role: _turn(array) for role, array in volume.others.items()}
    other = replace(volume, voxels=voxels, affine=affine, frames=frames, others=others)
    return other, None if mask is None else _turn(mask)


def _turn(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(array.transpose(_AXES)[::-1])


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
        if {"bf16", "fp16"} <= {*chosen, variant} or "int8" in chosen:
            continue
        together = ("int8",) if variant == "int8" else (*chosen, variant)  # of the others it leaves nothing
        trial = _trial(case, plain, package, network.limits, runtime, together)
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
    elif parts := list(differing(plain, raw, 2 * (case.volume.affine,), near=limits.difference)):
        fault = f"what differs from eager float32: {'; '.join(parts)}"
    return replace(trial, agreement=agreement, difference=difference, fault=fault)


def _faults(package: Package, test: SelfTest, case: Case, raw: Raw) -> list[str]:
    """How the answer differs from the expected one."""
    if raw.refusal is not None:
        return [f"the self-test is refused: {raw.refusal.text}"]
    is_known = case.mask is not None or case.images or test.values or test.chances or test.grades or test.detections
    if not is_known:
        return ["the self-test expects nothing: give it values, chances, grades, detections, images or a mask"]
    return [
        *missed(package.manifest, test, raw, case.volume.affine),
        *_segments(test, case, raw),
        *_new(test, case, raw),
    ]


def _segments(test: SelfTest, case: Case, raw: Raw) -> Iterator[str]:
    """Every expected segment, in whichever map it is."""
    if case.mask is None:
        return
    if raw.mask is None:
        yield "there is no mask"
        return
    expected = case.mask.reshape(-1, *case.volume.voxels.shape)
    for number in np.unique(expected[expected > 0]).tolist():
        found = np.logical_or.reduce([labels == number for labels in raw.maps_of_segments])
        dice = _dice((expected == number).any(axis=0), found)
        if dice < test.agreement:
            yield (
                f"segment {number} has a Dice coefficient of {dice:.3f} with the expected mask (at least "
                f"{test.agreement:g}): are orientation, spacing and normalisation those of training?"
            )


def _new(test: SelfTest, case: Case, raw: Raw) -> Iterator[str]:
    """Every expected image."""
    made = {image.key: image.voxels for image in raw.images}
    for key, expected in case.images.items():
        if key not in made:
            yield f"there is no image {key}"
        elif (differs := apart(expected, made[key])) > test.tolerance:
            yield (
                f"image {key} differs from the expected one by {differs:.1%} of what that varies by (at most "
                f"{test.tolerance:.1%}): are orientation, spacing and normalisation those of training?"
            )


def _storage_notes(case: Case, plain: Raw, package: Package, runtime: Runtime) -> tuple[str, ...]:
    """Which parts of the answer depend on how a scanner stores the axes, which orient rules out."""
    volume, _ = turned(case.volume)
    try:
        found = find(package.manifest.algorithm)(volume, package, runtime)
    except Rejected as error:  # as a model that takes axial images alone
        return (f"of a patient whose axes are stored otherwise it says nothing: {error}",)
    parts = list(differing(plain, found, (case.volume.affine, volume.affine), _turn))
    if not parts:
        return ()
    return (
        f"its answer depends on how the axes are stored ({'; '.join(parts)}): name an orientation (orient) or accept "
        "only that one",
    )


def _agreed(one: Raw, other: Raw) -> float:
    """The least agreement of their maps."""
    ours, others = one.maps_of_segments, other.maps_of_segments
    if len(ours) != len(others):
        return 0.0
    return min((agreed(a, b) for a, b in zip(ours, others, strict=True)), default=1.0)


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
        mask = arrays["mask"].astype(np.uint16) if "mask" in arrays else None
        images = {name.removeprefix(_IMAGE): arrays[name] for name in arrays if name.startswith(_IMAGE)}
    if voxels.ndim != 3 or affine.shape != (4, 4) or not all(one.shape == voxels.shape for one in images.values()):
        raise ValueError("voxels and images need three axes and the same shape, affine 4 x 4")
    if mask is not None and (mask.shape[-3:] != voxels.shape or mask.ndim > 4):
        raise ValueError("the mask needs the shape of the voxels, with a first axis of maps where segments overlap")
    frames = tuple(_frame(k) for k in range(voxels.shape[0]))
    volume = Volume(voxels=voxels, affine=affine, frames=frames, header=Dataset())
    return Case(volume=volume, mask=mask, images=images)


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
                    mask = arrays["mask"].astype(np.uint16)
                continue
            paths.append(Path(folder) / f"{number}.dcm")  # never by the name that the archive gives
            paths[-1].write_bytes(archive.read(entry))
        volume = load(paths)
    if mask is not None and (mask.shape[-3:] != volume.voxels.shape or mask.ndim > 4):
        raise ValueError("the mask is not on the grid of the series")
    return Case(volume=volume, mask=mask)


def _frame(number: int) -> Frame:
    return Frame(sop_instance_uid=f"1.2.{number + 1}", sop_class_uid="1.2.840.10008.5.1.4.1.1.7")
