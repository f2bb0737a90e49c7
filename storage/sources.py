"""The book of what the sources have: what they said, what the node lacks of it, and at which pace they send."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from sqlalchemy import Select, case, delete, func, insert, select, update
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.arrival import (
    CANCELED,
    IN_PROGRESS,
    INCOMPLETE,
    UNAVAILABLE,
    Absence,
    AbsenceState,
    Holding,
    Look,
    Notice,
    NoticeKind,
    Stated,
    Tally,
    pause_bin,
)
from storage.facts.errors import Rejected
from storage.facts.study import Header, Series
from storage.facts.task import Kind, State
from storage.source_tables import AbsenceRow, AgreedRow, CountRow, LookRow, NoticedObjectRow, NoticeRow, PauseRow
from storage.tables import (
    AuditRow,
    InstanceRow,
    ObjectRow,
    RemovalRow,
    SeriesRow,
    TaskRow,
)

NOT_YET = (IN_PROGRESS, INCOMPLETE, UNAVAILABLE)
LOOKUP = 500  #: UIDs in one question
_NOTICES = 100  #: that are dropped in one transaction
STALE_SECONDS = 12 * 3600.0  #: after which a step that was never ended is no evidence any more
LONGEST_PAUSE = 900.0  #: seconds; what comes later is another transfer, not a pause of this one
MEMORY_SERIES = 1000.0  #: counted of a source and protocol before older ones count half


class Sources:
    """Appends and questions, inside one transaction."""

    def __init__(self, session: Session, trail: Trail) -> None:
        self._session, self._trail = session, trail

    def notice(self, notice: Notice) -> tuple[str, ...]:
        """Note what a peer said; what it names is added to what it named before. Returns the series that it bears on.

        The input of a UPS that is named again is another list, not more of it.
        Raises Rejected when another peer said it first: a step belongs to the one that created it.
        """
        row, now = self._session.get(NoticeRow, notice.sop_instance_uid), time.time()
        if row is None:
            row = NoticeRow(
                sop_instance_uid=notice.sop_instance_uid,
                kind=notice.kind.value,
                peer=notice.peer,
                study_uid=notice.study_uid,
                told_at=now,
            )
            self._session.add(row)
        elif row.peer != notice.peer or row.kind != notice.kind:
            raise Rejected(f"{row.kind} {notice.sop_instance_uid} was created by another peer than {notice.peer}")
        row.state, row.changed_at = notice.state, now
        row.modality = notice.modality or row.modality or ""
        row.study_uid = row.study_uid or notice.study_uid
        self._session.flush()
        self._name(notice)
        self._trail.append(
            "notice received", study=row.study_uid or None, kind=notice.kind.value, notice=notice.sop_instance_uid,
            state=notice.state, peer=notice.peer, objects=len(notice.objects),
        )  # fmt: skip
        named = select(NoticedObjectRow.series_uid).where(NoticedObjectRow.notice_uid == notice.sop_instance_uid)
        places = tuple(self._session.scalars(named.distinct()))
        mine = select(SeriesRow.series_uid).where(SeriesRow.study_uid.in_({row.study_uid, *notice.wholes}))
        return tuple(dict.fromkeys([*self._session.scalars(mine), *places]))

    def _name(self, notice: Notice) -> None:
        mine = NoticedObjectRow.notice_uid == notice.sop_instance_uid
        named = dict(notice.objects) | {uid: uid for uid in notice.wholes}
        if named and notice.kind is NoticeKind.UPS:
            self._session.execute(delete(NoticedObjectRow).where(mine))
        there = set(self._session.scalars(select(NoticedObjectRow.sop_instance_uid).where(mine)))
        fresh = [
            {"notice_uid": notice.sop_instance_uid, "sop_instance_uid": uid, "series_uid": place}
            for uid, place in named.items()
            if uid not in there
        ]
        if fresh:
            self._session.execute(insert(NoticedObjectRow), fresh)

    def withdraw(self, study_uid: str) -> None:
        """The files of a study are being removed: what was said of it counts no more."""
        mine = update(NoticeRow).where(NoticeRow.study_uid == study_uid)
        self._session.execute(mine.values(state=CANCELED).execution_options(synchronize_session=False))

    def forget_some(self, study_uid: str, most: int) -> bool:
        """Drop notices of a study that were withdrawn, so many rows at most; whether there may be more."""
        mine = (NoticeRow.study_uid == study_uid, NoticeRow.state == CANCELED)
        return self._drop_some(select(NoticeRow.sop_instance_uid).where(*mine), most)

    def forget_older(self, before: float, most: int) -> bool:
        """Drop notices that nobody changed since a time, so many rows at most; whether there may be more."""
        return self._drop_some(select(NoticeRow.sop_instance_uid).where(NoticeRow.changed_at < before), most)

    def _drop_some(self, notices: Select[str], most: int) -> bool:
        """One notice may name tens of thousands of objects: it goes after the last of them."""
        uids = self._session.scalars(notices.limit(_NOTICES)).all()
        for number, uid in enumerate(uids):
            mine = NoticedObjectRow.notice_uid == uid
            named = select(NoticedObjectRow.sop_instance_uid).where(mine).order_by(NoticedObjectRow.sop_instance_uid)
            some = self._session.scalars(named.limit(most)).all()
            if some:
                first = delete(NoticedObjectRow).where(mine, NoticedObjectRow.sop_instance_uid <= some[-1])
                self._session.execute(first.execution_options(synchronize_session=False))
            most -= len(some)
            if most <= 0:
                uids = uids[:number]
                break
        gone = delete(NoticeRow).where(NoticeRow.sop_instance_uid.in_(uids))
        self._session.execute(gone.execution_options(synchronize_session=False))
        return most <= 0 or len(uids) == _NOTICES

    def set_back(self, now: float, seconds: float) -> None:
        """The clock was set back so far: what lies in the future of ``now`` is brought back from there."""
        self._session.execute(update(NoticeRow).where(NoticeRow.changed_at > now).values(changed_at=now))
        earlier = AbsenceRow.next_at - seconds
        late = update(AbsenceRow).where(AbsenceRow.next_at > now)
        self._session.execute(late.values(next_at=case((earlier > now, earlier), else_=now)))

    def state_of(self, notice_uid: str) -> str | None:
        """The state of a notice; None for one that nobody sent."""
        return self._session.scalar(select(NoticeRow.state).where(NoticeRow.sop_instance_uid == notice_uid))

    def stated(self, series: Series, last_at: float) -> Stated:
        """What the notices about a series come to; ``last_at`` is when its last object came."""
        here = (series.series_uid, series.study_uid)
        naming = select(NoticedObjectRow.notice_uid).where(NoticedObjectRow.series_uid.in_(here))
        told = select(NoticeRow).where(
            (NoticeRow.study_uid == series.study_uid) | NoticeRow.sop_instance_uid.in_(naming),
            NoticeRow.state != CANCELED,
        )
        notices = list(self._session.scalars(told.order_by(NoticeRow.changed_at.desc())))
        if not notices:
            return Stated()
        over = {n.sop_instance_uid: n for n in notices if n.state not in NOT_YET}
        named = (
            select(NoticedObjectRow.sop_instance_uid, InstanceRow.sop_instance_uid, NoticedObjectRow.notice_uid)
            .outerjoin(InstanceRow, InstanceRow.sop_instance_uid == NoticedObjectRow.sop_instance_uid)
            .where(NoticedObjectRow.series_uid.in_(here), NoticedObjectRow.notice_uid.in_(over))
        )
        rows = list(self._session.execute(named))
        saying = next((n for uid, n in over.items() if any(row[2] == uid for row in rows)), None)
        waiting = None if saying else self._not_yet(notices, series, last_at)
        return Stated(
            objects=len({row[0] for row in rows if row[0] not in here}),
            missing=len({row[0] for row in rows if row[1] is None and row[0] not in here}),
            by="" if saying is None else f"{saying.kind} {saying.state} of {saying.peer}",
            awaits="" if waiting is None else f"{waiting.kind} {waiting.state} of {waiting.peer}",
            whole=any(row[0] in here for row in rows),
        )

    def _not_yet(self, notices: Sequence[NoticeRow], series: Series, last_at: float) -> NoticeRow | None:
        """The notice by which more of the series is to come.

        One that names the series, or its study, means it; one that names nothing means the latest series of the study.
        """
        waiting = [n for n in notices if n.state in NOT_YET and time.time() - n.changed_at < STALE_SECONDS]
        latest = bool(waiting) and not self._moved_on(series, last_at)
        for notice in waiting:
            named = select(NoticedObjectRow.series_uid).where(NoticedObjectRow.notice_uid == notice.sop_instance_uid)
            places = set(self._session.scalars(named.distinct())) if notice.kind == NoticeKind.UPS else set()
            if (latest and not places) or places & {series.series_uid, series.study_uid}:
                return notice
        return None

    def _moved_on(self, series: Series, last_at: float) -> bool:
        later = select(SeriesRow.series_uid).where(
            SeriesRow.study_uid == series.study_uid, SeriesRow.first_at > last_at,
            SeriesRow.series_uid != series.series_uid,
        )  # fmt: skip
        return self._session.scalar(later.limit(1)) is not None

    def learn(self, series_uid: str, protocols: Sequence[str], earlier: int) -> float | None:
        """Count the longest pause between the objects of a series; returns it, seconds.

        ``earlier`` is how many objects the series had when it was last complete: pauses among them were counted then.
        """
        series = self._session.get(SeriesRow, series_uid)
        query = select(InstanceRow.received_at).where(InstanceRow.series_uid == series_uid)
        times = list(self._session.scalars(query.order_by(InstanceRow.received_at)))[max(earlier - 1, 0) :]
        if series is None or len(times) < 2:
            return None
        longest = max(b - a for a, b in pairwise(times))
        if longest > LONGEST_PAUSE:
            return None
        for protocol in protocols:
            self._count(series.calling_ae, protocol, pause_bin(longest))
        return longest

    def _count(self, source: str, protocol: str, number: int) -> None:
        mine = (PauseRow.source == source, PauseRow.protocol == protocol)
        row = self._session.get(PauseRow, (source, protocol, number))
        if row is None:
            row = PauseRow(source=source, protocol=protocol, bin=number, series=0.0)
            self._session.add(row)
        row.series += 1.0
        self._session.flush()
        if (self._session.scalar(select(func.sum(PauseRow.series)).where(*mine)) or 0.0) > MEMORY_SERIES:
            self._session.execute(update(PauseRow).where(*mine).values(series=PauseRow.series / 2))

    def count_kept(self, source: str, protocols: Sequence[str], kept: bool) -> None:
        """Note whether the number of images that the headers of a series stated was that of the series."""
        for protocol in protocols:
            row = self._session.get(CountRow, (source, protocol))
            if row is None:
                row = CountRow(source=source, protocol=protocol, kept=0.0, broken=0.0)
                self._session.add(row)
            row.kept, row.broken = row.kept + kept, row.broken + (not kept)
            if row.kept + row.broken > MEMORY_SERIES:
                row.kept, row.broken = row.kept / 2, row.broken / 2

    def counts(self, source: str, protocol: str) -> Tally | None:
        """How such numbers of a source and protocol turned out; None where none was stated."""
        row = self._session.get(CountRow, (source, protocol))
        return None if row is None else Tally(kept=row.kept, broken=row.broken)

    def first_header(self, series_uid: str) -> Header:
        """What the index has of one object of a series."""
        query = select(InstanceRow.header).where(InstanceRow.series_uid == series_uid).limit(1)
        return self._session.scalar(query) or {}

    def pauses(self, source: str, protocol: str) -> dict[int, float]:
        """How many series of a source and protocol had their longest pause in which bin."""
        query = select(PauseRow).where(PauseRow.source == source, PauseRow.protocol == protocol)
        return {row.bin: row.series for row in self._session.scalars(query)}

    def holding(self, study_uids: Iterable[str]) -> dict[str, Holding]:
        """What the node has of some studies."""
        return {uid: self._holding(uid) for uid in study_uids}

    def _holding(self, study_uid: str) -> Holding:
        counted = (
            select(SeriesRow.series_uid, func.count(InstanceRow.sop_instance_uid))
            .outerjoin(InstanceRow, InstanceRow.series_uid == SeriesRow.series_uid)
            .where(SeriesRow.study_uid == study_uid)
            .group_by(SeriesRow.series_uid)
        )
        busy = select(TaskRow.series_uid).where(
            TaskRow.study_uid == study_uid,
            TaskRow.kind == Kind.ASSEMBLE,
            TaskRow.state.in_([State.WAITING.value, State.RUNNING.value]),
        )
        own = select(ObjectRow.series_uid).where(ObjectRow.study_uid == study_uid).distinct()
        leaving = select(RemovalRow.study_uid).where(RemovalRow.study_uid == study_uid)
        gone = select(AuditRow.seq).where(AuditRow.study_uid == study_uid, AuditRow.action == "files removed").limit(1)
        return Holding(
            here={row[0]: row[1] for row in self._session.execute(counted)},
            arriving=frozenset(uid for uid in self._session.scalars(busy) if uid),
            excluded=frozenset(self._session.scalars(own)),
            removed=self._session.scalar(leaving) is not None or self._session.scalar(gone) is not None,
        )

    def agreed(self, peer: str) -> dict[str, int]:
        """By study: how many objects the source had when the node had all that it wants of it."""
        query = select(AgreedRow.study_uid, AgreedRow.instances).where(AgreedRow.peer == peer)
        return {row.study_uid: row.instances for row in self._session.execute(query)}

    def agree(self, peer: str, studies: Mapping[str, int], before: float) -> None:
        """Remember that nothing lacks of these studies; what was remembered before that time is forgotten."""
        self._session.execute(delete(AgreedRow).where(AgreedRow.peer == peer, AgreedRow.at < before))
        for study_uid, instances in studies.items():
            row = AgreedRow(peer=peer, study_uid=study_uid, instances=instances, at=time.time())
            self._session.merge(row)

    def looked(self, look: Look) -> None:
        """Remember the last look at a source."""
        self._session.merge(
            LookRow(
                peer=look.peer, at=look.at, studies=look.studies, lacking=look.lacking, fetched=look.fetched,
                why=look.why,
            )
        )  # fmt: skip

    def absences(self, peer: str) -> dict[str, Absence]:
        """What the node lacks of a source, by series; also what was given up."""
        query = select(AbsenceRow).where(AbsenceRow.peer == peer, AbsenceRow.state != AbsenceState.CLOSED)
        return {row.series_uid: absence_of(row) for row in self._session.scalars(query)}

    def keep(self, absence: Absence) -> None:
        """Remember an absence as it is now; the trail has a row when it is new or its state changes."""
        key = (absence.peer, absence.series_uid)
        row = self._session.get(AbsenceRow, key)
        before = None if row is None else (row.state, row.tries)
        values = {name: getattr(absence, name) for name in Absence.__slots__}
        self._session.merge(AbsenceRow(**(values | {"state": absence.state.value})))
        self._session.flush()
        if before is None or before[0] != absence.state:
            what = {
                AbsenceState.WAITING: "objects lacking",
                AbsenceState.GIVEN_UP: "lacking objects given up",
                AbsenceState.CLOSED: "lacking objects here",
            }[absence.state]
            self._audit(what, absence, outcome=0 if absence.state is AbsenceState.CLOSED else 4)
        elif absence.tries > before[1]:
            self._audit("lacking objects asked for", absence)

    def fetched(self, absence: Absence, completed: int, failed: int) -> None:
        """Note how many objects a source says it sent, and how many it could not."""
        self._audit("objects fetched", absence, outcome=4 if failed else 0, completed=completed, failed=failed)

    def _audit(self, what: str, absence: Absence, outcome: int = 0, **more: int) -> None:
        self._trail.append(
            what, outcome=outcome, study=absence.study_uid, series=absence.series_uid, peer=absence.peer,
            expected=absence.expected, here=absence.here, tries=absence.tries, **more,
        )  # fmt: skip


def absence_of(row: AbsenceRow) -> Absence:
    """A row as the fact that it keeps."""
    values = {name: getattr(row, name) for name in Absence.__slots__}
    return Absence(**(values | {"state": AbsenceState(row.state)}))
