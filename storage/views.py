"""Read-only questions that people ask: what is queued, what came of a study, what does the trail say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from storage.facts.arrival import Absence, AbsenceState, Look
from storage.facts.prediction import Prediction
from storage.facts.study import Urgency
from storage.facts.task import State
from storage.facts.wire import from_json
from storage.source_tables import AbsenceRow, LookRow, NoticedObjectRow, NoticeRow
from storage.sources import LOOKUP, absence_of
from storage.tables import (
    AuditRow,
    ChoiceRow,
    DecisionRow,
    DeliveryRow,
    InstanceRow,
    ObjectRow,
    PredictionRow,
    SeriesRow,
    TaskRow,
    WorkitemRow,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """A task as an operator sees it."""

    id: int
    kind: str
    state: str
    key: str
    urgency: Urgency
    attempt: int
    failures: int
    study_uid: str | None
    series_uid: str | None
    reason: str | None
    created_at: float
    not_before: float
    ready_at: float
    claimed_at: float | None
    ended_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """A row of the trail."""

    seq: int
    at: float
    actor: str
    action: str
    outcome: int
    study_uid: str | None
    series_uid: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistItem:
    """A result in the node's own reading worklist."""

    study_uid: str
    series_uid: str
    urgency: Urgency
    made_at: float
    prediction: Prediction
    delivered: int  #: deliveries acknowledged, over all destinations
    objects: int
    workitems: int  #: UPS created for it


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesView:
    """A series of a study."""

    series_uid: str
    modality: str
    instances: int
    bytes: int
    revision: int
    complete_instances: int
    last_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeView:
    """What a modality, an archive or a workflow manager said."""

    kind: str  #: MPPS, IAN or UPS
    state: str
    peer: str
    modality: str
    objects: int  #: that it names
    wholes: int  #: series and studies that it names as a whole
    changed_at: float


def tasks(
    session: Session, *, states: Sequence[State] = (), study: str | None = None, limit: int = 200
) -> list[TaskView]:
    """Tasks, the newest first."""
    query = select(TaskRow).order_by(TaskRow.id.desc()).limit(limit)
    if states:
        query = query.where(TaskRow.state.in_([s.value for s in states]))
    if study:
        query = query.where(TaskRow.study_uid == study)
    return [_task(row) for row in session.scalars(query)]


def counts(session: Session) -> dict[tuple[str, str], int]:
    """How many tasks there are of each kind and state."""
    query = select(TaskRow.kind, TaskRow.state, func.count()).group_by(TaskRow.kind, TaskRow.state)
    return {(kind, state): number for kind, state, number in session.execute(query)}


def trail(session: Session, study: str | None = None, limit: int = 1000) -> list[AuditView]:
    """Rows of the trail in order; of one study if given."""
    query = select(AuditRow).order_by(AuditRow.seq.desc()).limit(limit)
    if study:
        query = query.where(AuditRow.study_uid == study)
    rows = [
        AuditView(
            seq=r.seq,
            at=r.at,
            actor=r.actor,
            action=r.action,
            outcome=r.outcome,
            study_uid=r.study_uid,
            series_uid=r.series_uid,
            details=r.details,
        )
        for r in session.scalars(query)
    ]
    return rows[::-1]


def worklist(session: Session, *, since: float = 0.0, study: str | None = None, limit: int = 200) -> list[WorklistItem]:
    """Results, the most urgent first, then the longest waiting; of one study if given. Superseded ones are left out."""
    later = aliased(PredictionRow)
    superseded = select(later.key).where(
        later.series_uid == PredictionRow.series_uid,
        later.package == PredictionRow.package,
        later.revision > PredictionRow.revision,
    )
    order = (PredictionRow.urgency.desc(), PredictionRow.made_at)
    first = select(PredictionRow.key).where(PredictionRow.made_at >= since, ~superseded.exists())
    if study:
        first = first.where(PredictionRow.study_uid == study)
    keys = session.scalars(first.order_by(*order).limit(limit)).all()  # documents are long: none is sorted
    rows: list[PredictionRow] = []
    for start in range(0, len(keys), LOOKUP):
        some = PredictionRow.key.in_(keys[start : start + LOOKUP])
        rows += session.scalars(select(PredictionRow).where(some).order_by(*order))
    chosen = select(ChoiceRow.explanation).where(ChoiceRow.study_uid.in_({row.study_uid for row in rows}))
    replaced = {str(key) for told in session.scalars(chosen) for key in told.get("replaces", ())}
    return [_worklist_item(session, row) for row in rows if row.key not in replaced]


def study_series(session: Session, study: str) -> list[SeriesView]:
    """The series of a study with what is here of each."""
    query = (
        select(SeriesRow, func.count(InstanceRow.sop_instance_uid), func.coalesce(func.sum(InstanceRow.size), 0))
        .outerjoin(InstanceRow, InstanceRow.series_uid == SeriesRow.series_uid)
        .where(SeriesRow.study_uid == study)
        .group_by(SeriesRow.series_uid)
        .order_by(SeriesRow.first_at)
    )
    return [
        SeriesView(
            series_uid=row.series_uid,
            modality=row.modality,
            instances=number,
            bytes=int(size),
            revision=row.revision,
            complete_instances=row.complete_instances,
            last_at=row.last_at,
        )
        for row, number, size in session.execute(query)
    ]


def studies(session: Session, limit: int = 50) -> list[str]:
    """Study Instance UIDs, the latest arrival first."""
    query = (
        select(SeriesRow.study_uid)
        .group_by(SeriesRow.study_uid)
        .order_by(func.max(SeriesRow.last_at).desc())
        .limit(limit)
    )
    return list(session.scalars(query))


def looks(session: Session) -> list[Look]:
    """The last look at each source."""
    return [
        Look(peer=row.peer, at=row.at, studies=row.studies, lacking=row.lacking, fetched=row.fetched, why=row.why)
        for row in session.scalars(select(LookRow).order_by(LookRow.peer))
    ]


def absences(session: Session, *, study: str | None = None, limit: int = 50) -> list[Absence]:
    """What lacks of sources, the latest first; of one study also what came in the end."""
    query = select(AbsenceRow).order_by(AbsenceRow.seen_at.desc()).limit(limit)
    if study is None:
        query = query.where(AbsenceRow.state != AbsenceState.CLOSED)
    else:
        query = query.where(AbsenceRow.study_uid == study)
    return [absence_of(row) for row in session.scalars(query)]


def notices(session: Session, study: str) -> list[NoticeView]:
    """What modalities, archives and workflow managers said of a study, in order."""
    mine = NoticedObjectRow.notice_uid == NoticeRow.sop_instance_uid
    whole = NoticedObjectRow.sop_instance_uid == NoticedObjectRow.series_uid
    objects = select(func.count()).where(mine, ~whole).scalar_subquery()
    wholes = select(func.count()).where(mine, whole).scalar_subquery()
    series = select(SeriesRow.series_uid).where(SeriesRow.study_uid == study)
    place = NoticedObjectRow.series_uid
    naming = select(NoticedObjectRow.notice_uid).where(place.in_(series) | (place == study))
    here = (NoticeRow.study_uid == study) | NoticeRow.sop_instance_uid.in_(naming)
    query = select(NoticeRow, objects, wholes).where(here).order_by(NoticeRow.told_at)
    return [
        NoticeView(kind=row.kind, state=row.state, peer=row.peer, modality=row.modality, objects=named, wholes=all_of,
                   changed_at=row.changed_at)
        for row, named, all_of in session.execute(query)
    ]  # fmt: skip


def decisions(session: Session, series_uid: str) -> list[dict[str, Any]]:
    """Why each rule did or did not match the latest revision of a series."""
    newest = select(func.max(DecisionRow.revision)).where(DecisionRow.series_uid == series_uid).scalar_subquery()
    query = select(DecisionRow).where(DecisionRow.series_uid == series_uid, DecisionRow.revision == newest)
    return [
        {"rule": r.rule, "matched": r.matched, "revision": r.revision, **r.explanation} for r in session.scalars(query)
    ]


def _task(row: TaskRow) -> TaskView:
    return TaskView(
        id=row.id,
        kind=row.kind,
        state=row.state,
        key=row.key,
        urgency=Urgency(row.urgency),
        attempt=row.attempt,
        failures=row.failures,
        study_uid=row.study_uid,
        series_uid=row.series_uid,
        reason=row.reason,
        created_at=row.created_at,
        not_before=row.not_before,
        ready_at=row.ready_at,
        claimed_at=row.claimed_at,
        ended_at=row.ended_at,
    )


def _worklist_item(session: Session, row: PredictionRow) -> WorklistItem:
    delivered = (
        select(func.count())
        .select_from(DeliveryRow)
        .join(ObjectRow, ObjectRow.sop_instance_uid == DeliveryRow.sop_instance_uid)
        .where(ObjectRow.prediction_key == row.key)
    )
    made = select(func.count()).select_from(ObjectRow).where(ObjectRow.prediction_key == row.key)
    raised = select(func.count()).select_from(WorkitemRow).where(WorkitemRow.prediction_key == row.key)
    return WorklistItem(
        study_uid=row.study_uid,
        series_uid=row.series_uid,
        urgency=Urgency(row.urgency),
        made_at=row.made_at,
        prediction=from_json(Prediction, row.document),
        delivered=session.scalar(delivered) or 0,
        objects=session.scalar(made) or 0,
        workitems=session.scalar(raised) or 0,
    )
