"""The book of what arrived: associations, instances, series."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

from sqlalchemy import Table, Text, func, insert, select, update
from sqlalchemy import cast as cast_to
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.arrival import Arrival, Evidence
from storage.facts.study import Header, Instance, Series
from storage.facts.task import Kind, State
from storage.studies.removal import LOOKUP, Removals, stays
from storage.tables import AssociationRow, AssociationSeriesRow, InstanceRow, SeriesRow, TaskRow, VariantRow

AHEAD = 60.0  #: seconds: what lies less ahead of the clock is left alone
_TICK = 1e-6  #: seconds; the least that times of today differ by as floats is a quarter of it
_INSTANCES = cast("Table", InstanceRow.__table__)  # inserted past the mapper: a tenth less of all that an object costs


class Studies(Removals):
    """Appends and questions, inside one transaction."""

    def __init__(self, session: Session, trail: Trail) -> None:
        self._session, self._trail = session, trail

    def open_association(self, association: str, calling_ae: str, called_ae: str, address: str, at: float) -> None:
        """Note that a peer is connected since ``at``, seconds since the epoch. Told twice, it is noted once."""
        there = select(AssociationRow.id).where(AssociationRow.id == association)
        if self._session.scalar(there) is None:
            values = {"calling_ae": calling_ae, "called_ae": called_ae, "address": address, "opened_at": at}
            self._session.execute(insert(AssociationRow).values(id=association, **values))

    def close_association(self, association: str, ending: str) -> tuple[str, ...]:
        """Note how an association ended; returns the series it carried."""
        mine = AssociationRow.id == association
        asked = select(AssociationRow.calling_ae, AssociationRow.address, AssociationRow.closed_at).where(mine)
        row = self._session.execute(asked).one_or_none()
        if row is None or row.closed_at is not None:
            return ()
        self._session.execute(update(AssociationRow).where(mine).values(closed_at=time.time(), ending=ending))
        query = select(AssociationSeriesRow.series_uid).where(AssociationSeriesRow.association_id == association)
        series = tuple(self._session.scalars(query))
        self._trail.append(
            "association ended", outcome=0 if ending == "released" else 4, peer=row.calling_ae, ending=ending,
            address=row.address, carried=list(series),
        )  # fmt: skip
        return series

    def lose_associations(self, beginning: str = "") -> tuple[str, ...]:
        """After a restart: those that were open, and are named so, are gone. Returns the series they carried."""
        query = select(AssociationRow.id).where(AssociationRow.closed_at.is_(None))
        query = query.where(AssociationRow.id.startswith(beginning, autoescape=True))
        lost = [self.close_association(association, "lost") for association in list(self._session.scalars(query))]
        return tuple({series for carried in lost for series in carried})

    def record(self, arrivals: Sequence[Arrival]) -> dict[str, str]:
        """Enter stored instances. Returns, for each SOP Instance UID, ``new``, ``known`` or ``variant``.

        What is there already is looked up once for all of them: a question for each costs a millisecond an object.
        What of it is being removed is removed first: it comes anew. Raises Transient where a removal came between.
        """
        self._make_way(arrivals)
        known = self._known(arrivals)
        series = self._series_rows(arrivals)
        now = time.time()
        self.set_back(now, [uid for uid, row in series.items() if row.last_at > now + AHEAD])
        linked = self._linked(arrivals)
        latest = {uid: row.last_at for uid, row in series.items()}
        fresh: list[dict[str, Any]] = []
        again: list[Arrival] = []
        fates: dict[str, str] = {}
        for arrival in arrivals:
            instance = arrival.instance
            row = self._series_row(series, arrival)
            if arrival.association:
                linked.setdefault((arrival.association, instance.series_uid), False)
            digest = known.get(instance.sop_instance_uid)
            if digest is not None:
                seen = fates.get(instance.sop_instance_uid, "known")  # new, when it came twice in this batch
                fates[instance.sop_instance_uid] = seen if digest == instance.digest else "variant"
                again.append(arrival)
                continue
            known[instance.sop_instance_uid] = instance.digest
            entered = _instance_row(arrival, latest.get(instance.series_uid, 0.0))
            row.last_at = max(row.last_at, entered["received_at"])
            fresh.append(entered)
            fates[instance.sop_instance_uid] = "new"
        self._session.flush()  # the series first: their instances refer to them
        if fresh:
            self._session.execute(insert(_INSTANCES), fresh)
        self._link(key for key, there in linked.items() if not there)
        for arrival in again:
            if known[arrival.instance.sop_instance_uid] != arrival.instance.digest:
                self._record_variant(arrival)
        self._session.flush()
        self._audit(arrivals, fates)
        self._stand_firm(series, again)
        return fates

    def _known(self, arrivals: Sequence[Arrival]) -> dict[str, str]:
        """The digests of the instances that are there already."""
        found: dict[str, str] = {}
        wanted = list({a.instance.sop_instance_uid for a in arrivals})
        for start in range(0, len(wanted), LOOKUP):
            here = InstanceRow.sop_instance_uid.in_(wanted[start : start + LOOKUP])
            query = select(InstanceRow.sop_instance_uid, InstanceRow.digest).where(here)
            for row in self._session.execute(query):
                found[row.sop_instance_uid] = row.digest
        return found

    def _series_rows(self, arrivals: Sequence[Arrival]) -> dict[str, SeriesRow]:
        wanted = sorted({a.instance.series_uid for a in arrivals})
        found: dict[str, SeriesRow] = {}
        for start in range(0, len(wanted), LOOKUP):
            query = select(SeriesRow).where(SeriesRow.series_uid.in_(wanted[start : start + LOOKUP]))
            found.update((row.series_uid, row) for row in self._session.scalars(query))
        return found

    def _linked(self, arrivals: Sequence[Arrival]) -> dict[tuple[str, str], bool]:
        """Which series each association carries: True for those that SQL has."""
        associations = {a.association for a in arrivals if a.association}
        query = select(AssociationSeriesRow).where(AssociationSeriesRow.association_id.in_(associations))
        return {(row.association_id, row.series_uid): True for row in self._session.scalars(query)}

    def _series_row(self, series: dict[str, SeriesRow], arrival: Arrival) -> SeriesRow:
        instance = arrival.instance
        row = series.get(instance.series_uid)
        if row is None:
            row = SeriesRow(
                series_uid=instance.series_uid,
                study_uid=instance.study_uid,
                modality=str(instance.header.get("Modality", "")),
                calling_ae=arrival.calling_ae,
                called_ae=arrival.called_ae,
                header={},
                first_at=arrival.received_at,
                last_at=arrival.received_at,
                revision=0,
                complete_instances=0,
            )
            self._session.add(row)
            series[instance.series_uid] = row
        return row

    def _link(self, missing: Iterable[tuple[str, str]]) -> None:
        wanted = list(missing)
        if not wanted:
            return
        known = AssociationRow.id.in_({association for association, _ in wanted})
        there = set(self._session.scalars(select(AssociationRow.id).where(known)))
        rows = [{"association_id": a, "series_uid": uid} for a, uid in wanted if a in there]
        if rows:
            self._session.execute(insert(AssociationSeriesRow), rows)

    def _record_variant(self, arrival: Arrival) -> None:
        """Other bytes under a known UID: kept beside, and counted."""
        instance = arrival.instance
        if self._session.get(VariantRow, (instance.sop_instance_uid, instance.digest)) is None:
            row = VariantRow(
                sop_instance_uid=instance.sop_instance_uid,
                digest=instance.digest,
                path=instance.path,
                size=instance.size,
                received_at=arrival.received_at,
            )
            self._session.add(row)

    def _audit(self, arrivals: Sequence[Arrival], fates: dict[str, str]) -> None:
        """One row for each series and peer (PS3.15 A.5.3.4, DICOM Instances Transferred)."""
        batches: dict[tuple[str, str, str], list[Arrival]] = {}
        for arrival in arrivals:
            key = (arrival.instance.study_uid, arrival.instance.series_uid, arrival.calling_ae)
            batches.setdefault(key, []).append(arrival)
        for (study, series, peer), batch in batches.items():
            self._trail.append(
                "instances received",
                outcome=4 if any(fates[a.instance.sop_instance_uid] == "variant" for a in batch) else 0,
                study=study,
                series=series,
                peer=peer,
                instances={a.instance.sop_instance_uid: a.instance.digest for a in batch},
                fates=sorted({fates[a.instance.sop_instance_uid] for a in batch}),
            )

    def evidence(self, series_uid: str) -> Evidence | None:
        """Everything that bears on whether the series is complete; None for an unknown series."""
        row = self._session.get(SeriesRow, series_uid)
        if row is None:
            return None
        number, ended, last = self._carried(series_uid)
        series = self._series(row)
        return Evidence(
            series=series,
            complete_instances=row.complete_instances,
            last_at=row.last_at,
            open_associations=number - ended,
            last_closed_at=last[0],
            last_ending=last[1],
            associations=number,
            gap=(row.last_at - row.first_at) / max(series.instances - 1, 1),
        )

    def _carried(self, series_uid: str) -> tuple[int, int, tuple[float, str]]:
        """How many associations carried a series, how many of them ended, when and how the last one did.

        Counted by the database: a modality that opens one for each image makes thousands.
        """
        theirs = AssociationSeriesRow.association_id == AssociationRow.id
        mine = AssociationSeriesRow.series_uid == series_uid
        counts = select(func.count(), func.count(AssociationRow.closed_at)).join(AssociationSeriesRow, theirs)
        number, ended = self._session.execute(counts.where(mine)).one()
        if not ended:
            return number, ended, (0.0, "")
        query = select(AssociationRow.closed_at, AssociationRow.ending).join(AssociationSeriesRow, theirs)
        query = query.where(mine, AssociationRow.closed_at.is_not(None)).order_by(AssociationRow.closed_at.desc())
        at, ending = self._session.execute(query.limit(1)).one()
        return number, ended, (at or 0.0, ending or "")

    def complete(self, series_uid: str, header: Header) -> Series:
        """Close the series at what is here now: its revision grows by one."""
        row = self._session.get_one(SeriesRow, series_uid)
        row.revision += 1
        row.complete_instances = self._count(series_uid)
        row.header = dict(header)
        row.modality = str(header.get("Modality", row.modality))
        self._session.flush()
        self._trail.append(
            "series complete", study=row.study_uid, series=series_uid, revision=row.revision,
            instances=row.complete_instances,
        )  # fmt: skip
        return self._series(row)

    def series(self, series_uid: str) -> Series | None:
        """The series as the node knows it."""
        row = self._session.get(SeriesRow, series_uid)
        return None if row is None else self._series(row)

    def instances(self, series_uid: str) -> list[Instance]:
        """The instances of a series, in order of arrival."""
        query = (
            select(InstanceRow)
            .where(InstanceRow.series_uid == series_uid, stays(InstanceRow.series_uid))
            .order_by(InstanceRow.received_at, InstanceRow.sop_instance_uid)
        )
        return [_instance(row) for row in self._session.scalars(query)]

    def object_uids(self, series_uid: str) -> frozenset[str]:
        """The SOP Instance UIDs of a series."""
        mine = (InstanceRow.series_uid == series_uid, stays(InstanceRow.series_uid))
        query = select(InstanceRow.sop_instance_uid).where(*mine)
        return frozenset(self._session.scalars(query))

    def undecided(self) -> tuple[str, ...]:
        """Series that have more than when they were last complete, and no task that would see to it."""
        number = select(func.count()).where(InstanceRow.series_uid == SeriesRow.series_uid).scalar_subquery()
        key = SeriesRow.series_uid + "/" + cast_to(SeriesRow.revision + 1, Text)
        seen_to = select(TaskRow.id).where(TaskRow.kind == Kind.ASSEMBLE, TaskRow.key == key)
        waiting = (number > SeriesRow.complete_instances, ~seen_to.exists(), stays(SeriesRow.series_uid))
        query = select(SeriesRow.series_uid).where(*waiting)
        return tuple(self._session.scalars(query))

    def ahead(self, now: float, most: int) -> tuple[str, ...]:
        """Series that still arrive and whose last object came later than now; so many at most."""
        open_ = TaskRow.state.in_([State.WAITING.value, State.RUNNING.value])
        query = (
            select(SeriesRow.series_uid)
            .join(TaskRow, TaskRow.series_uid == SeriesRow.series_uid)
            .where(TaskRow.kind == Kind.ASSEMBLE, open_, SeriesRow.last_at > now + AHEAD)
        )
        return tuple(self._session.scalars(query.distinct().limit(most)))

    def set_back(self, now: float, series_uids: Iterable[str]) -> None:
        """Move what came in the future so that its last object came now; the order of the objects stays.

        As a whole: pauses are as long as they were, and who came first still did.
        """
        moved = list(series_uids)
        for row in self._session.scalars(select(SeriesRow).where(SeriesRow.series_uid.in_(moved))):
            seconds = row.last_at - now
            mine = update(InstanceRow).where(InstanceRow.series_uid == row.series_uid)
            earlier = mine.values(received_at=InstanceRow.received_at - seconds)
            self._session.execute(earlier.execution_options(synchronize_session=False))
            row.first_at, row.last_at = row.first_at - seconds, now
        theirs = select(AssociationSeriesRow.association_id).where(AssociationSeriesRow.series_uid.in_(moved))
        closed = update(AssociationRow).where(AssociationRow.closed_at > now, AssociationRow.id.in_(theirs))
        self._session.execute(closed.values(closed_at=now).execution_options(synchronize_session=False))
        self._session.flush()

    def _count(self, series_uid: str) -> int:
        mine = (InstanceRow.series_uid == series_uid, stays(InstanceRow.series_uid))
        return self._session.scalar(select(func.count()).select_from(InstanceRow).where(*mine)) or 0

    def _series(self, row: SeriesRow) -> Series:
        return Series(
            series_uid=row.series_uid,
            study_uid=row.study_uid,
            modality=row.modality,
            calling_ae=row.calling_ae,
            called_ae=row.called_ae,
            revision=row.revision,
            instances=self._count(row.series_uid),
            header=row.header,
        )


def _instance_row(arrival: Arrival, latest: float) -> dict[str, Any]:
    """``latest`` is when the last object of its series came that was entered before, seconds since the epoch.

    None comes before what is here, whatever the clock says: runs take the first so many objects of a series, those
    that were here when it was complete.
    """
    instance = arrival.instance
    received_at = arrival.received_at if arrival.received_at > latest else latest + _TICK
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "series_uid": instance.series_uid,
        "study_uid": instance.study_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "path": instance.path,
        "size": instance.size,
        "digest": instance.digest,
        "header": dict(instance.header),
        "received_at": received_at,
    }


def _instance(row: InstanceRow) -> Instance:
    return Instance(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        series_uid=row.series_uid,
        study_uid=row.study_uid,
        path=row.path,
        size=row.size,
        digest=row.digest,
        header=row.header,
    )
