"""Runs a package on series whose truth is known, as production does, and keeps what it said beside what is true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from inference.bringing.validation.folder import Series
from inference.bringing.validation.labelmaps import marked_in
from inference.bringing.validation.truth import Known, Labels, Lesion
from inference.imaging.volume import Volume
from inference.monitor.froc import Candidate, Marked
from inference.packages.expected import middle
from inference.packages.located import scored
from inference.packages.manifest import FindingEntry, MeasurementEntry, SegmentEntry
from inference.packages.outputs import ConditionEntry, DetectionEntry, GradeEntry
from inference.packages.package import Package
from inference.packages.raw import Raw
from inference.pipeline import Request, predict
from inference.runtime import Runtime
from storage.facts.errors import Rejected, Transient
from storage.facts.prediction import Code, Finding, Grade, Prediction, Presence, Reason, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A condition in one series."""

    true: bool
    score: float  #: calibrated probability, or the measurement that decides
    said: Presence
    uncertainty: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A grade of one series."""

    true: int  #: number of the class
    said: int | None  #: None where the model abstained
    probabilities: tuple[float, ...]  #: calibrated
    uncertainty: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A number of one series, in its unit."""

    true: float
    found: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A segment in one series."""

    dice: float  #: Dice, Ecology 26(3):297-302 (1945); 1 where both mark nothing
    true_ml: float
    found_ml: float


Seen = Called | Graded | Measured | Overlap | Marked


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One series: what came out, by the name of the target; or why nothing did."""

    series: Series
    known: tuple[Known, ...]
    seen: Mapping[str, Seen] = field(default_factory=dict)
    status: Status = Status.SUCCEEDED
    reason: Reason | None = None
    seconds: float = 0.0
    device: str = ""


def observe(series: Series, known: tuple[Known, ...], package: Package, runtime: Runtime) -> Observed:
    """Run the package on one series.

    Raises Rejected, with its line, when a label map is none of that series, Misconfigured when the package is wrong.
    """
    seen: dict[str, Seen] = {}
    values: dict[str, float] = {}

    def look(volume: Volume, raw: Raw) -> None:
        values.update(raw.values)
        for one in known:
            seen.update(_early(one, volume, raw))

    request = Request(
        key="validation", study_uid=series.study_uid, series_uid=series.series_uid, revision=1,
        paths=tuple(series.paths),
    )  # fmt: skip
    try:
        said = predict(request, package, runtime, look).prediction
    except Transient as error:
        reason = Reason(code=_GIVEN_UP, text=str(error))
        return Observed(series=series, known=known, status=Status.FAILED, reason=reason)
    if said.status is not Status.SUCCEEDED:
        return Observed(series=series, known=known, status=said.status, reason=said.reason)
    for one in known:
        seen.update(_late(one, said, values))
    seconds = sum(said.seconds.values())
    return Observed(series=series, known=known, seen=seen, seconds=seconds, device=said.device)


_GIVEN_UP = Code(value="110527", scheme="DCM", meaning="Resource inadequate")  # CID 9300


def _early(known: Known, volume: Volume, raw: Raw) -> Iterator[tuple[str, Seen]]:
    """Segments and detections: judged while voxels and candidates are there."""
    entry = known.target.entry
    if isinstance(entry, SegmentEntry):
        assert isinstance(known.value, Labels)
        try:
            truth = marked_in(known.value, entry, volume)
        except Rejected as error:
            raise Rejected(f"the truth table, line {known.line}: {error}") from error
        found = np.zeros_like(truth)
        for labels in raw.maps_of_segments:
            found |= labels == entry.number
        yield known.target.name, _overlap(truth, found, volume.voxel_ml)
    if isinstance(entry, DetectionEntry):
        assert isinstance(known.value, tuple)
        yield known.target.name, _marked(known.value, entry, raw, volume.affine)


def _overlap(truth: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_], voxel_ml: float) -> Overlap:
    sizes = int(np.count_nonzero(truth)), int(np.count_nonzero(found))
    common = int(np.count_nonzero(truth & found))
    dice = 2 * common / sum(sizes) if any(sizes) else 1.0
    return Overlap(dice=dice, true_ml=sizes[0] * voxel_ml, found_ml=sizes[1] * voxel_ml)


def _marked(lesions: Sequence[Lesion], entry: DetectionEntry, raw: Raw, affine: npt.NDArray[np.float64]) -> Marked:
    """Candidates of every probability; each hits the nearest lesion within whose radius its middle lies."""
    candidates = []
    for box, score in scored(entry, raw.boxes):
        gaps = [float(np.linalg.norm(np.subtract(middle(box, affine), one.place))) for one in lesions]
        near = [number for number, one in enumerate(lesions) if gaps[number] <= one.diameter / 2]
        candidates.append(Candidate(score=score, lesion=min(near, key=lambda n: gaps[n], default=None)))
    return Marked(lesions=len(lesions), candidates=tuple(candidates))


def _late(known: Known, said: Prediction, values: Mapping[str, float]) -> Iterator[tuple[str, Seen]]:
    """What was said in codes; nothing where the package did not speak of it."""
    entry, name = known.target.entry, known.target.name
    if isinstance(entry, ConditionEntry | FindingEntry):
        finding = next((f for f in said.findings if f.condition == entry.condition.code()), None)
        score = values.get(entry.measurement) if isinstance(entry, FindingEntry) else _probability(finding)
        if finding is not None and score is not None:
            yield (
                name,
                Called(true=bool(known.value), score=score, said=finding.presence, uncertainty=finding.uncertainty),
            )
    elif isinstance(entry, GradeEntry):
        grade = next((g for g in said.grades if g.question == entry.question.code() and g.detection is None), None)
        if grade is not None:
            assert isinstance(known.value, int)
            yield name, _graded(grade, known.value)
    elif isinstance(entry, MeasurementEntry):
        assert isinstance(known.value, float)
        if entry.key in values:
            yield name, Measured(true=known.value, found=values[entry.key])


def _probability(finding: Finding | None) -> float | None:
    return None if finding is None else finding.probability


def _graded(grade: Grade, true: int) -> Graded:
    classes = [one.value for one in grade.probabilities]
    return Graded(
        true=true,
        said=None if grade.answer is None else classes.index(grade.answer),
        probabilities=tuple(one.probability for one in grade.probabilities),
        uncertainty=grade.uncertainty,
    )
