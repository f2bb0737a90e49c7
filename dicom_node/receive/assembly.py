"""When is a series complete? One interface, ``Completeness``; and the ASSEMBLE stage that asks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dicom_node.config import ReceiveSection
from storage.facts.arrival import Evidence
from storage.facts.errors import Rejected
from storage.facts.study import UNREADABLE, Header, Instance
from storage.facts.task import Kind, Later, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

#: Reads the whole header of a stored file as plain data.
ReadHeader = Callable[[Path], Header]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """When the series counts as complete if nothing more is heard, and why then."""

    at: float  #: seconds since the epoch
    why: str


class Completeness(Protocol):
    """Decides from evidence. Asked again whenever something happens to the series."""

    def __call__(self, evidence: Evidence) -> Due:
        """The moment from which the series is complete, on this evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietTime:
    """A short quiet time after the last association ended; longer ones where less is certain."""

    settings: ReceiveSection

    def __call__(self, evidence: Evidence) -> Due:
        """See Completeness."""
        if evidence.open_associations:
            return Due(
                at=evidence.last_at + self.settings.quiet_seconds_open,
                why="an association that carried it is still open",
            )
        if evidence.last_ending in ("aborted", "lost"):
            return Due(
                at=max(evidence.last_at, evidence.last_closed_at) + self.settings.quiet_seconds_broken,
                why=f"its last association was {evidence.last_ending}: the sender may try again",
            )
        return Due(
            at=max(evidence.last_at, evidence.last_closed_at) + self.settings.quiet_seconds,
            why="its associations were released",
        )


def expect(completeness: Completeness) -> Callable[[Transaction, Sequence[str]], None]:
    """What the index calls for every series to which something happened: its ASSEMBLE task is made, or moved."""

    def see_to(tx: Transaction, touched: Sequence[str]) -> None:
        for series_uid in touched:
            evidence = tx.studies.evidence(series_uid)
            if evidence is None or evidence.series.instances <= evidence.complete_instances:
                continue
            due = completeness(evidence)
            item = Next(
                kind=Kind.ASSEMBLE,
                key=f"{series_uid}/{evidence.series.revision + 1}",
                payload={"touched": time.time()},
                series_uid=series_uid,
                study_uid=evidence.series.study_uid,
                not_before=due.at,
            )
            if not tx.queue.enqueue(item):
                tx.queue.hasten(Kind.ASSEMBLE, item.key, due.at, item.payload)

    return see_to


def assemble(ledger: Ledger, completeness: Completeness, read_header: ReadHeader) -> Handler:
    """The ASSEMBLE stage: waits until the series is complete, then closes its revision and lets it be routed."""

    def work(task: Task) -> Done | Later:
        series_uid = task.series_uid or ""
        with ledger.begin_reading() as tx:
            evidence = tx.studies.evidence(series_uid)
            instances = tx.studies.instances(series_uid)
        if evidence is None or not instances:
            raise Rejected(f"series {series_uid} is not in the ledger")
        due = completeness(evidence)
        if due.at > time.time():
            return Later(at=due.at, why=due.why)
        if len(instances) <= evidence.complete_instances:
            return Done(note={"why": "nothing new has come"})
        header, unreadable = _header(ledger.data, representative(instances), read_header)
        revision = evidence.series.revision + 1
        route = Next(kind=Kind.ROUTE, key=f"{series_uid}/{revision}", payload={"revision": revision})

        def record(tx: Transaction) -> None:
            tx.studies.complete(series_uid, header)

        note = {"why": due.why, "instances": len(instances), "unreadable": unreadable or None}
        return Done(follow=(route,), record=record, note=note)

    return Handler(work=work)


def _header(data: Path, instance: Instance, read_header: ReadHeader) -> tuple[Header, str]:
    """The whole header; of a file that cannot be read what the index has, so that the rules can still say why not."""
    try:
        return read_header(data / instance.path), ""
    except Rejected as error:
        return {"SOPClassUID": instance.sop_class_uid, **instance.header, UNREADABLE: str(error)}, str(error)


def representative(instances: Sequence[Instance]) -> Instance:
    """The instance whose header speaks for the series: the middle one by number, as scouts come first."""

    def number(instance: Instance) -> tuple[int, str]:
        value = instance.header.get("InstanceNumber")
        return (value if isinstance(value, int) else 0, instance.sop_instance_uid)

    return sorted(instances, key=number)[len(instances) // 2]
