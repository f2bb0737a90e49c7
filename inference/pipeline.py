"""One model on one series: from files to a prediction. Pure: no ledger, no network; callable in a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.algorithms.registry import Raw, find
from inference.imaging.irregular import Irregular
from inference.imaging.planes import read_headers
from inference.imaging.volume import Volume, assemble
from inference.packages.answer import answer
from inference.packages.arrays import pictures
from inference.packages.choosing import choose
from inference.packages.counting import in_frame
from inference.packages.joining import Input, join
from inference.packages.keeping import Put, keep
from inference.packages.manifest import Manifest
from inference.packages.package import Package
from inference.packages.raw import Labels
from inference.packages.soundness import unsound
from inference.runtime import Runtime
from storage.facts.errors import Rejected, Transient
from storage.facts.prediction import SOFTWARE_FAILURE, Frame, Prediction, Reason, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to run on."""

    key: str  #: of the INFER task
    study_uid: str
    series_uid: str
    revision: int
    paths: tuple[Path, ...]
    inputs: tuple[Input, ...] = ()  #: further series
    missing: tuple[tuple[str, str], ...] = ()  #: roles that no series was found for, and why
    decoded: Path | None = None  #: the folder of pixels that were decoded while slices still arrived


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """A prediction whose arrays still have to be stored, and those arrays."""

    prediction: Prediction  #: its ``mask`` is None and its arrays have no blob: the caller fills them in
    mask: Labels | None = None  #: segment numbers (frames, rows, columns); None where nothing is marked
    over: tuple[Labels, ...] = ()  #: further maps where segments overlap
    mask_frames: tuple[Frame, ...] = ()  #: source of each frame of the mask
    arrays: tuple[npt.NDArray[Any], ...] = ()  #: of ``prediction.arrays``, in that order

    def kept(self, put: Put) -> Prediction:
        """The prediction with everything in blobs; ``put`` keeps bytes and returns their SHA-256."""
        mask = None if self.mask is None else ((self.mask, *self.over), self.mask_frames)
        return keep(put, self.prediction, mask, self.arrays)


class _Refused(Exception):
    """Ends a run early with what is to be reported."""

    def __init__(self, status: Status, reason: Reason) -> None:
        super().__init__(reason.text)
        self.status, self.reason = status, reason


#: Shown what a successful run computed, before that becomes codes: a validation reads scores below operating points.
Look = Callable[[Volume, Raw], None]


def predict(request: Request, package: Package, runtime: Runtime | None = None, look: Look | None = None) -> Outcome:
    """Judge, load, compute, and say it in codes.

    A series that the package must not be run on is NOT_ATTEMPTED; a run whose content or numbers cannot be trusted is
    FAILED, without any number or mask. Raises Transient when the same run may succeed later, Misconfigured when the
    package or the device is wrong.
    """
    run = _Run(request, package, look)
    try:
        return run.attempt(runtime or Runtime())
    except _Refused as refused:
        return run.refused(refused)
    except MemoryError as error:
        raise Transient(f"{package.manifest.id} ran out of memory on series {request.series_uid}") from error


class _Run:
    """One run and its stop-watch."""

    def __init__(self, request: Request, package: Package, look: Look | None) -> None:
        self._request, self._package, self._look = request, package, look
        self._seconds: dict[str, float] = {}
        self._warnings: tuple[str, ...] = ()
        self._parameters: tuple[tuple[str, str], ...] = ()

    def attempt(self, runtime: Runtime) -> Outcome:
        manifest = self._package.manifest
        with self._step("judge"), _not_attempted():
            chosen = choose(manifest, read_headers(self._request.paths, self._request.decoded))
            self._warnings = chosen.warnings
        with self._step("load"), _not_attempted():
            volume = assemble(chosen.header, chosen.stack, self._request.decoded)
        if manifest.inputs or self._request.inputs:
            with self._step("align"), _not_attempted():
                volume = self._joined(volume, runtime)
        with self._step("compute"):
            raw = self._compute(volume, runtime)
        reason = raw.refusal or _broken(manifest, raw, volume)
        absent = () if reason is not None else _absent(manifest, raw.maps_of_segments)
        reason = reason or unsound(manifest, raw, absent, volume.voxels.shape)
        if reason is not None:
            raise _Refused(Status.FAILED, reason)
        if self._look is not None:
            self._look(volume, raw)
        return self._said(raw, volume, absent)

    def _said(self, raw: Raw, volume: Volume, absent: tuple[int, ...]) -> Outcome:
        said, shown = answer(self._package.manifest, raw, absent), pictures(self._package.manifest, raw)
        placed = bool(said.detections or shown.arrays)
        prediction = replace(
            self._prediction(Status.SUCCEEDED),
            findings=said.findings,
            segments=said.segments,
            measurements=said.measurements,
            detections=said.detections,
            grades=said.grades,
            heatmaps=shown.heatmaps,
            images=shown.images,
            frames=volume.frames if placed else (),
            urgency=said.urgency,
            urgency_reason=said.urgency_reason,
            warnings=(*self._warnings, *said.warnings),
            device=raw.device,
        )
        if not any(one.any() for one in raw.maps_of_segments):
            return Outcome(prediction=prediction, arrays=shown.arrays)
        return Outcome(
            prediction=prediction, mask=raw.mask, over=raw.over, mask_frames=volume.frames, arrays=shown.arrays
        )

    def refused(self, refused: _Refused) -> Outcome:
        return Outcome(prediction=replace(self._prediction(refused.status), reason=refused.reason))

    def _joined(self, volume: Volume, runtime: Runtime) -> Volume:
        request = self._request
        joined = join(self._package.manifest, volume, request.inputs, dict(request.missing), runtime.checkpoint)
        self._warnings, self._parameters = (*self._warnings, *joined.warnings), joined.parameters
        return joined.volume

    def _compute(self, volume: Volume, runtime: Runtime) -> Raw:
        try:
            return find(self._package.manifest.algorithm)(volume, self._package, runtime)
        except Irregular as error:
            raise _Refused(Status.FAILED, error.reason) from error
        except Rejected as error:
            raise _Refused(Status.FAILED, Reason(code=SOFTWARE_FAILURE, text=str(error))) from error

    def _prediction(self, status: Status) -> Prediction:
        request, algorithm = self._request, self._package.algorithm()
        return Prediction(
            key=request.key,
            study_uid=request.study_uid,
            series_uid=request.series_uid,
            revision=request.revision,
            algorithm=replace(algorithm, parameters=(*algorithm.parameters, *self._parameters)),
            status=status,
            seconds=dict(self._seconds),
        )

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = round(time.perf_counter() - start, 3)


@contextmanager
def _not_attempted() -> Iterator[None]:
    try:
        yield
    except Irregular as error:
        raise _Refused(Status.NOT_ATTEMPTED, error.reason) from error


def _absent(manifest: Manifest, maps: Sequence[Labels]) -> tuple[int, ...]:
    """Segments that have no voxel, while others have."""
    left = {segment.number for segment in manifest.segments}
    for frame in (frame for one in maps for frame in one):
        if not left:
            return ()
        left.difference_update(np.flatnonzero(in_frame(frame)).tolist())
    empty = tuple(segment.number for segment in manifest.segments if segment.number in left)
    return empty if len(empty) < len(manifest.segments) else ()


def _broken(manifest: Manifest, raw: Raw, volume: Volume) -> Reason | None:
    """Why the mask is not what the manifest promises, which only a faulty algorithm makes."""
    for mask in raw.maps_of_segments:
        if mask.dtype not in (np.uint8, np.uint16) or mask.shape != volume.voxels.shape:
            text = f"The algorithm's mask is {mask.dtype} {mask.shape}, not on the grid of the series."
            return Reason(code=SOFTWARE_FAILURE, text=text)
        if int(mask.max(initial=0)) > len(manifest.segments):
            text = "The algorithm's mask has segments that its package does not name."
            return Reason(code=SOFTWARE_FAILURE, text=text)
    return None
