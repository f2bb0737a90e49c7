"""Read-only questions about those who run models: their devices, their pace, and how versions of a package agree."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, literal, select, tuple_
from sqlalchemy.orm import Session

from storage.facts.prediction import Prediction
from storage.facts.result import Kept
from storage.facts.task import Kind, State
from storage.facts.wire import from_json
from storage.tables import AuditHead, AuditRow, InstanceRow, PredictionRow, SeriesRow, TaskRow

#: Work that stands before a run, or is one.
_BEFORE = (Kind.ASSEMBLE, Kind.ROUTE, Kind.CHOOSE, Kind.INFER)
COMPARED = "versions compared"  #: action of the trail: two versions of a package spoke of the same series


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """What a worker last said of a device."""

    host: str
    device: str
    in_service: bool
    since: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateView:
    """How runs of a package went."""

    package: str
    version: str
    runs: int
    seconds: float  #: mean, from claim to recorded result
    longest: float  #: seconds
    waited: float  #: mean seconds from ready to claim


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapView:
    """How far two versions of a package marked the same voxels as a segment."""

    segment: str
    series: int  #: that both spoke of
    mean: float  #: Dice coefficient
    least: float


def news(session: Session, since: int | None) -> tuple[int, set[str]]:
    """Where the trail ends, and which series it named since such an end; none where ``since`` is None.

    Whatever changes what the other questions here answer writes the trail: where it has not grown, nothing has.
    """
    end = session.scalar(select(AuditHead.seq).where(AuditHead.id == 1)) or 0
    if since is None or end == since:
        return end, set()
    query = select(AuditRow.series_uid).where(AuditRow.seq > since, AuditRow.series_uid.is_not(None)).distinct()
    return end, {str(series) for series in session.scalars(query)}


def awaited_series(session: Session) -> list[str]:
    """Series that a run is asked for, or may be: they still arrive, are routed, or some model has yet to speak."""
    query = select(TaskRow.kind, TaskRow.series_uid, TaskRow.study_uid, TaskRow.payload).where(
        TaskRow.state.in_([State.WAITING.value, State.RUNNING.value]), TaskRow.kind.in_([k.value for k in _BEFORE])
    )
    found: dict[str, None] = {}
    studies = []
    for kind, series_uid, study_uid, payload in session.execute(query.order_by(TaskRow.id)):
        if kind == Kind.CHOOSE:
            studies.append(study_uid)
        elif series_uid:
            found[series_uid] = None
        found |= {str(each["series"]): None for each in payload.get("inputs", {}).values()}
    if studies:
        found |= dict.fromkeys(session.scalars(select(SeriesRow.series_uid).where(SeriesRow.study_uid.in_(studies))))
    return list(found)


def files_of(session: Session, series: Collection[str], most: int | None = None) -> dict[str, list[str]]:
    """The objects of some series, as places in the data folder, in the order of arrival; at most so many."""
    query = select(InstanceRow.series_uid, InstanceRow.path).where(InstanceRow.series_uid.in_(list(series)))
    found: dict[str, list[str]] = {}
    for series_uid, path in session.execute(query.order_by(InstanceRow.received_at).limit(most)):
        found.setdefault(series_uid, []).append(path)
    return found


def devices(session: Session) -> list[DeviceView]:
    """Devices that models run on, as their workers last spoke of them in the trail."""
    query = select(AuditRow).where(AuditRow.action.in_(("device in service", "device out of service")))
    latest: dict[tuple[str, str], DeviceView] = {}
    for row in session.scalars(query.order_by(AuditRow.seq)):
        host, device = str(row.details["host"]), str(row.details["device"])
        known = latest.get((host, device))
        in_service = row.action == "device in service"
        since = known.since if known is not None and known.in_service == in_service else row.at
        latest[host, device] = DeviceView(
            host=host, device=device, in_service=in_service, since=since, why=str(row.details["why"])
        )
    return list(latest.values())


def rates(session: Session, since: float) -> list[RateView]:
    """Runs that ended since a time (seconds since the epoch), by package."""
    took = TaskRow.ended_at - TaskRow.claimed_at
    query = (
        select(
            PredictionRow.package, PredictionRow.version, func.count(), func.avg(took), func.max(took),
            func.avg(TaskRow.claimed_at - TaskRow.ready_at),
        )
        .join(TaskRow, (TaskRow.key == PredictionRow.key) & (TaskRow.kind == Kind.INFER.value))
        .where(TaskRow.state == State.DONE.value, TaskRow.ended_at >= since)
        .group_by(PredictionRow.package, PredictionRow.version)
        .order_by(PredictionRow.package, PredictionRow.version)
    )  # fmt: skip
    return [
        RateView(
            package=package,
            version=version,
            runs=runs,
            seconds=float(mean),
            longest=float(longest),
            waited=float(waited),
        )
        for package, version, runs, mean, longest, waited in session.execute(query)
    ]


def rivals(session: Session, kept: Kept) -> list[Kept]:
    """What other versions of the same package said before it of the same revision of the series."""
    prediction = kept.prediction
    query = select(PredictionRow).where(
        PredictionRow.series_uid == prediction.series_uid,
        PredictionRow.revision == prediction.revision,
        PredictionRow.package == prediction.algorithm.package,
        PredictionRow.version != prediction.algorithm.version,
        tuple_(PredictionRow.made_at, PredictionRow.key) < tuple_(literal(kept.made_at), literal(prediction.key)),
    )
    return [Kept(prediction=from_json(Prediction, row.document), made_at=row.made_at) for row in session.scalars(query)]


def overlaps(session: Session, package: str, one: str, other: str) -> list[OverlapView]:
    """How far two versions agree on each segment, over all series that both spoke of."""
    query = select(AuditRow.details).where(AuditRow.action == COMPARED).order_by(AuditRow.seq)
    found: dict[str, list[float]] = {}
    for details in session.scalars(query):
        if details["package"] == package and set(details["versions"]) == {one, other}:
            for segment, dice in details["dice"].items():
                found.setdefault(segment, []).append(float(dice))
    return [
        OverlapView(segment=segment, series=len(values), mean=sum(values) / len(values), least=min(values))
        for segment, values in found.items()
    ]
