"""What the catalogue knows of choices within a study: what may still come, earlier studies, and what was taken."""

from __future__ import annotations

import time

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.routing import Arriving, Choice, Outcome
from storage.facts.task import Kind, State
from storage.tables import AssociationRow, AssociationSeriesRow, ChoiceRow, SeriesFactRow, SeriesRow, TaskRow

_OPEN = (State.WAITING.value, State.RUNNING.value)
_PRIORS = 200  #: series of earlier studies that are looked at, the newest


class Choices:
    """Appends and questions, inside one transaction."""

    def __init__(self, session: Session, trail: Trail) -> None:
        self._session, self._trail = session, trail

    def choice_tasks(self, study_uid: str, prefix: str) -> list[tuple[str, int, State]]:
        """The CHOOSE tasks of a study whose keys begin so: key, generation and state, the oldest first."""
        query = (
            select(TaskRow.key, TaskRow.payload, TaskRow.state)
            .where(
                TaskRow.kind == Kind.CHOOSE.value,
                TaskRow.study_uid == study_uid,
                TaskRow.key.startswith(prefix, autoescape=True),
            )
            .order_by(TaskRow.id)
        )
        rows = self._session.execute(query)
        return [(key, int(payload.get("generation", 1)), State(state)) for key, payload, state in rows]

    def record_choice(self, choice: Choice) -> None:
        """Keep which series was taken and why; the same key again keeps the first."""
        if self._session.get(ChoiceRow, choice.key) is not None:
            return
        row = ChoiceRow(
            key=choice.key,
            study_uid=choice.study_uid,
            rule=choice.rule,
            outcome=choice.outcome.value,
            series_uid=choice.series_uid or None,
            run=choice.run or None,
            explanation=dict(choice.explanation),
            rules_version=choice.rules_version,
            at=time.time(),
        )
        self._session.add(row)
        self._session.flush()
        self._trail.append(
            "series chosen", study=choice.study_uid, series=choice.series_uid or None, rule=choice.rule,
            outcome_of_choice=choice.outcome.value, run=choice.run or None, version=choice.rules_version,
            explanation=dict(choice.explanation),
        )  # fmt: skip

    def choices(self, study_uid: str, rule: str = "") -> list[Choice]:
        """What was chosen in a study, the oldest first; by one rule if asked."""
        query = select(ChoiceRow).where(ChoiceRow.study_uid == study_uid).order_by(ChoiceRow.at, ChoiceRow.key)
        if rule:
            query = query.where(ChoiceRow.rule == rule)
        return [_choice(row) for row in self._session.scalars(query)]

    def arriving(self, study_uid: str) -> Arriving:
        """Whether more of a study may come."""
        tasks = select(func.count()).where(
            TaskRow.study_uid == study_uid,
            TaskRow.kind.in_([Kind.ASSEMBLE.value, Kind.ROUTE.value]),
            TaskRow.state.in_(_OPEN),
        )
        associations = (
            select(func.count(AssociationRow.id.distinct()))
            .join(AssociationSeriesRow, AssociationSeriesRow.association_id == AssociationRow.id)
            .join(SeriesRow, SeriesRow.series_uid == AssociationSeriesRow.series_uid)
            .where(SeriesRow.study_uid == study_uid, AssociationRow.closed_at.is_(None))
        )
        last = select(func.max(SeriesRow.last_at)).where(SeriesRow.study_uid == study_uid)
        return Arriving(
            open_series=self._session.scalar(tasks) or 0,
            open_associations=self._session.scalar(associations) or 0,
            last_at=self._session.scalar(last) or 0.0,
        )

    def of_same_patient(self, study_uid: str) -> list[str]:
        """Complete series of the patient's other studies whose files are here, the last to arrive first."""
        patients = (
            select(SeriesFactRow.patient)
            .join(SeriesRow, SeriesRow.series_uid == SeriesFactRow.series_uid)
            .where(SeriesRow.study_uid == study_uid, SeriesFactRow.patient.is_not(None))
        )
        known = set(self._session.scalars(patients))
        if len(known) != 1:  # a study of two patients is nobody's
            return []
        query = (
            select(SeriesRow.series_uid)
            .join(SeriesFactRow, SeriesFactRow.series_uid == SeriesRow.series_uid)
            .where(SeriesFactRow.patient.in_(known), SeriesRow.study_uid != study_uid, SeriesRow.complete_instances > 0)
            .order_by(SeriesRow.last_at.desc())
            .limit(_PRIORS)
        )
        return list(self._session.scalars(query))

    def complete_instances(self, study_uid: str) -> dict[str, int]:
        """The complete series of a study whose files are here, with the number of their objects at completion."""
        query = select(SeriesRow.series_uid, SeriesRow.complete_instances).where(
            SeriesRow.study_uid == study_uid, SeriesRow.revision > 0, SeriesRow.complete_instances > 0
        )
        return {uid: number for uid, number in self._session.execute(query)}  # noqa: C416


def _choice(row: ChoiceRow) -> Choice:
    return Choice(
        key=row.key,
        study_uid=row.study_uid,
        rule=row.rule,
        outcome=Outcome(row.outcome),
        explanation=row.explanation,
        series_uid=row.series_uid or "",
        run=row.run or "",
        rules_version=row.rules_version,
        at=row.at,
    )
