"""How received files are forgotten: which studies are due, and their rows, bit by bit.

A study whose removal has begun has no files any more, and its rows are no evidence of anything: they go in slices, so
that nobody waits long. Until the last of them has gone a row says so, and whoever comes next goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, delete, func, select, update
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.arrival import Arrival
from storage.facts.errors import Transient
from storage.facts.task import State
from storage.tables import InstanceRow, RemovalRow, SeriesRow, TaskRow, VariantRow

LOOKUP = 500  #: UIDs in one question


class Removals:
    """Appends and questions, inside one transaction."""

    _session: Session
    _trail: Trail

    def quiet_outside(
        self, before: float, after: float, open_states: Iterable[State], study_uid: str = ""
    ) -> tuple[str, ...]:
        """Studies that still have files, got nothing new between these times, and have no task in one of those states.

        All of them, or the one named if it is such a study.
        """
        busy = select(TaskRow.study_uid).where(
            TaskRow.state.in_([state.value for state in open_states]), TaskRow.study_uid.is_not(None)
        )
        has_files = select(InstanceRow.series_uid).where(InstanceRow.series_uid == SeriesRow.series_uid)
        here = select(SeriesRow.study_uid).where(has_files.exists()).distinct()
        if study_uid:
            here = here.where(SeriesRow.study_uid == study_uid)
        due = here.where(SeriesRow.study_uid.not_in(busy), SeriesRow.study_uid.not_in(select(RemovalRow.study_uid)))
        young = here.where(SeriesRow.last_at.between(before, after))
        return tuple(sorted({*self._session.scalars(due)} - {*self._session.scalars(young)}))

    def strays(self, study_uid: str) -> set[str]:
        """Where received files of a study lie outside its folder, relative to the data folder.

        A series may come under two studies: each object lies where its own bytes say. Every row is looked at.
        """
        mine = InstanceRow.series_uid.in_(_series_of(study_uid))
        apart = ~InstanceRow.path.startswith(f"instances/{study_uid}/", autoescape=True)
        return {*self._session.scalars(select(InstanceRow.path).where(mine, apart))}

    def stray_variants(self, study_uid: str) -> set[str]:
        """The same of other bytes that came under a known UID: there are few in all."""
        mine = select(InstanceRow.series_uid).where(
            InstanceRow.sop_instance_uid == VariantRow.sop_instance_uid,
            InstanceRow.series_uid.in_(_series_of(study_uid)),
        )
        apart = ~VariantRow.path.startswith(f"instances/{study_uid}/", autoescape=True)
        return {*self._session.scalars(select(VariantRow.path).where(apart, mine.exists()))}

    def paths(self, object_uids: Iterable[str]) -> set[str]:
        """Where files of those SOP Instance UIDs lie, relative to the data folder; none of what is being removed."""
        wanted = list(object_uids)
        found: set[str] = set()
        of_instance = InstanceRow.sop_instance_uid == VariantRow.sop_instance_uid
        for query in (select(InstanceRow.path), select(VariantRow.path).join(InstanceRow, of_instance)):
            for start in range(0, len(wanted), LOOKUP):
                some = InstanceRow.sop_instance_uid.in_(wanted[start : start + LOOKUP])
                found.update(self._session.scalars(query.where(some, stays(InstanceRow.series_uid))))
        return found

    def hold(self, study_uid: str) -> None:
        """Let nobody change a study until this transaction ends: its series first, as who enters an object does."""
        rows = select(SeriesRow.series_uid).where(SeriesRow.study_uid == study_uid).order_by(SeriesRow.series_uid)
        self._session.scalars(rows.with_for_update()).all()
        self._trail.hold()

    def begin_removal(self, study_uid: str) -> None:
        """The received files of a study were set apart; its series start anew if they are sent again."""
        number = select(func.count()).where(InstanceRow.series_uid.in_(_series_of(study_uid)))
        row = RemovalRow(study_uid=study_uid, instances=self._session.scalar(number) or 0, begun_at=time.time())
        self._session.add(row)
        self._session.execute(update(SeriesRow).where(SeriesRow.study_uid == study_uid).values(complete_instances=0))
        self._session.flush()

    def forget_files(self, study_uid: str) -> None:
        """The same, and all its rows at once."""
        self.begin_removal(study_uid)
        self._end_removal(study_uid)

    def removals(self) -> tuple[str, ...]:
        """Studies whose removal has begun and is not over."""
        return tuple(self._session.scalars(select(RemovalRow.study_uid).order_by(RemovalRow.begun_at)))

    def remove_some(self, study_uid: str, most: int) -> bool:
        """Remove so many rows at most of a study whose removal has begun; whether there may be more.

        With the last of them the removal is over, and the trail says so.
        """
        row = self._session.get(RemovalRow, study_uid, with_for_update=True)
        if row is None:
            return False
        mine = select(InstanceRow.sop_instance_uid).where(InstanceRow.series_uid.in_(_series_of(study_uid)))
        uids = self._session.scalars(mine.limit(most)).all()
        self._drop(uids)
        if len(uids) == most:
            return True
        self._session.delete(row)
        self._session.flush()
        self._trail.append("files removed", study=study_uid, instances=row.instances)
        return False

    def _make_way(self, arrivals: Sequence[Arrival]) -> None:
        """End the removal of the studies that these objects, or their series, are of."""
        leaving = set(self.removals())
        if not leaving:
            return
        series = {a.instance.series_uid for a in arrivals} | set(self._places(arrivals).values())
        theirs = select(SeriesRow.study_uid).where(SeriesRow.series_uid.in_(series)).distinct()
        for study_uid in leaving.intersection(self._session.scalars(theirs)):
            self._end_removal(study_uid)

    def _end_removal(self, study_uid: str) -> None:
        while self.remove_some(study_uid, LOOKUP):
            pass

    def _stand_firm(self, entered: Iterable[str], known: Sequence[Arrival]) -> None:
        """Raise Transient where a removal takes the studies of what was entered, or took what was known before.

        Other transactions that append wait from now on, but on PostgreSQL one may have come between.
        """
        leaving = set(self.removals())
        places = self._places(known)
        if leaving:
            theirs = select(SeriesRow.study_uid).where(SeriesRow.series_uid.in_({*entered, *places.values()}))
            leaving.intersection_update(self._session.scalars(theirs))
        if leaving or len(places) < len({a.instance.sop_instance_uid for a in known}):
            raise Transient("objects came while their study was being removed: they are entered again")

    def _places(self, arrivals: Sequence[Arrival]) -> dict[str, str]:
        """The series of each of these objects that there is a row of."""
        uids = list({a.instance.sop_instance_uid for a in arrivals})
        found: dict[str, str] = {}
        for start in range(0, len(uids), LOOKUP):
            some = InstanceRow.sop_instance_uid.in_(uids[start : start + LOOKUP])
            query = select(InstanceRow.sop_instance_uid, InstanceRow.series_uid).where(some)
            found.update((uid, series) for uid, series in self._session.execute(query))
        return found

    def _drop(self, uids: Sequence[str]) -> None:
        for start in range(0, len(uids), LOOKUP):
            some = uids[start : start + LOOKUP]
            for table in (VariantRow, InstanceRow):
                gone = delete(table).where(table.sop_instance_uid.in_(some))
                self._session.execute(gone.execution_options(synchronize_session=False))


def stays(series_uid: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """The condition that nobody is removing the rows of a series."""
    theirs = select(SeriesRow.series_uid).join(RemovalRow, RemovalRow.study_uid == SeriesRow.study_uid)
    return series_uid.not_in(theirs)


def _series_of(study_uid: str) -> Select[str]:
    return select(SeriesRow.series_uid).where(SeriesRow.study_uid == study_uid)
