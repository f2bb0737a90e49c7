"""When is a series complete? One interface, ``Completeness``; and the ASSEMBLE stage that asks it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from dicom_node.config import ReceiveSection
from dicom_node.receive import gaps, notice_reading, notices
from dicom_node.receive.events import Noticed
from storage.facts.arrival import Evidence, Habit
from storage.facts.errors import NodeError, Rejected
from storage.facts.study import MISSING, UNREADABLE, Header, Instance, Series
from storage.facts.task import Kind, Later, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

log = logging.getLogger(__name__)

ASK_SECONDS = 0.2  #: after the end of an association, before the source is asked
ASK_OPEN_SECONDS = 3.0  #: after the last object, while an association stays open
ASK_AGAIN_SECONDS = (1.0, 30.0)  #: the least and the most between two questions
#: That equal numbers must last where several associations brought the series, at least; and wherever, at most.
SETTLE_SECONDS, SETTLED_SECONDS = 0.7, 2.0
#: The same in times the mean gap between objects: after one association, after several, while one is still open.
ONE_GAPS, CLOSED_GAPS, OPEN_GAPS = 3.0, 6.0, 30.0

ACTOR = "receive"

#: Called inside the transaction with the series to which something happened: sees to their ASSEMBLE tasks.
Expect = Callable[[Transaction, Sequence[str]], None]
#: Reads the whole header of a stored file as plain data.
ReadHeader = Callable[[Path], Header]


class Source(Protocol):
    """A peer that can be asked what it has."""

    def count(self, study_uid: str, series_uid: str) -> int | None:
        """How many objects it has of a series; None when it does not know the series. Raises NodeError."""

    def fetch(self, study_uid: str, series_uid: str, here: Collection[str]) -> bool:
        """Have it send what lacks beside those SOP Instance UIDs; False when that is not wanted. Raises NodeError."""


Sources = Mapping[str, Source]  #: by calling AE title


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """When the series counts as complete if nothing more is heard, and why then."""

    at: float  #: seconds since the epoch
    why: str


class Completeness(Protocol):
    """Decides from evidence. Asked again whenever something happens to the series."""

    def __call__(self, evidence: Evidence) -> Due:
        """The moment from which the series is complete, or from which its source should be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietTime:
    """A quiet time after the last association ended; longer ones where less is certain. See receive.gaps."""

    settings: ReceiveSection

    def __call__(self, evidence: Evidence) -> Due:
        """See Completeness."""
        habit = evidence.habit
        if habit is not None and evidence.last_ending not in ("aborted", "lost"):
            why = f"{habit.series:.0f} series of this source made no pause longer than {habit.pause:.1f} s"
            if evidence.open_associations:
                return Due(at=evidence.last_at + gaps.quiet_time(habit, ASK_OPEN_SECONDS), why=why)
            return Due(at=max(evidence.last_at, evidence.last_closed_at) + gaps.quiet_time(habit), why=why)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTheSource:
    """The moment from which notices or the source's own word decide; a quiet time where there is neither."""

    quiet: QuietTime
    askable: frozenset[str]  #: calling AE titles

    def __call__(self, evidence: Evidence) -> Due:
        """See Completeness."""
        stated, ended = evidence.stated, max(evidence.last_at, evidence.last_closed_at)
        if exhaustive(evidence):
            pause = SETTLE_SECONDS if evidence.open_associations else 0.0
            return Due(at=evidence.last_at + pause, why=f"{stated.by}: all that it names is here")
        if stated.awaits:
            at = evidence.last_at + self.quiet.settings.quiet_seconds_step
            return Due(at=at, why=f"more of it is to come: {stated.awaits}")
        if evidence.series.calling_ae not in self.askable:
            return self.quiet(evidence)
        if evidence.open_associations:
            return Due(at=evidence.last_at + ASK_OPEN_SECONDS, why="its association is open, the source can be asked")
        return Due(at=ended + ASK_SECONDS, why="the source can be asked")


def exhaustive(evidence: Evidence) -> bool:
    """Whether a finished step, an archive or a ready input names just what is here.

    One that names less says nothing of the rest.
    """
    stated = evidence.stated
    return stated.objects > 0 and not stated.missing and stated.objects == evidence.series.instances


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the source's answer means."""

    complete: bool
    why: str
    again: float = 0.0  #: seconds since the epoch; when to look again
    missing: int = 0


def judge(evidence: Evidence, expected: int | None, settings: ReceiveSection, now: float) -> Judgement:
    """Weigh what the source says it has against what is here. Times are seconds since the epoch."""
    here, quiet = evidence.series.instances, QuietTime(settings=settings)(evidence)
    if exhaustive(evidence):
        return Judgement(complete=True, why=f"{evidence.stated.by} names {here} objects of it, all are here")
    if evidence.stated.missing and (expected is None or expected <= here):
        named = here + evidence.stated.missing
        return _lacking(evidence, named, f"{evidence.stated.by} names {named} objects", settings, now)
    if expected is None or expected < here:
        if now >= quiet.at:
            return Judgement(complete=True, why=f"{quiet.why}; the source does not tell more")
        return Judgement(complete=False, why=f"the source does not tell; {quiet.why}", again=quiet.at)
    if expected == here:
        settled = _settled(evidence, settings)
        if now >= settled:
            return Judgement(complete=True, why=f"the source has {expected} objects of it, all are here")
        why = f"all {expected} are here, but the source may still receive"
        return Judgement(complete=False, why=why, again=settled)
    return _lacking(evidence, expected, f"the source has {expected} objects of it", settings, now)


def _lacking(evidence: Evidence, expected: int, says: str, settings: ReceiveSection, now: float) -> Judgement:
    """More exists than is here: it is waited for, up to a limit."""
    missing, give_up = expected - evidence.series.instances, evidence.last_at + settings.incomplete_after_seconds
    if now >= give_up:
        return Judgement(complete=True, why=f"given up: {says}, {missing} never came", missing=missing)
    least, most = ASK_AGAIN_SECONDS
    again = now + min(max((now - evidence.last_at) / 2, least), most)
    return Judgement(
        complete=False, why=f"{says}, {missing} are not here yet", again=min(again, give_up), missing=missing
    )


def _settled(evidence: Evidence, settings: ReceiveSection) -> float:
    """From when equal numbers are believed.

    The source may itself still be receiving, object by object, and have released its association meanwhile. So equal
    numbers must last for some times the pace at which the objects came; that is short where a whole series was sent at
    once, longer where several associations brought it. By a workflow manager to which it is ready, it has no more.
    """
    if evidence.stated.whole:
        return evidence.last_at + (SETTLE_SECONDS if evidence.open_associations else 0.0)
    if evidence.open_associations:
        return evidence.last_at + min(max(OPEN_GAPS * evidence.gap, ASK_OPEN_SECONDS), settings.quiet_seconds_open)
    ended = max(evidence.last_at, evidence.last_closed_at)
    if evidence.associations <= 1 and evidence.series.instances > 1:
        return ended + min(ONE_GAPS * evidence.gap, SETTLED_SECONDS)
    return ended + min(max(CLOSED_GAPS * evidence.gap, SETTLE_SECONDS), SETTLED_SECONDS)


def evidence_of(tx: Transaction, series_uid: str) -> Evidence | None:
    """Everything that bears on whether a series is complete, from all books; None for an unknown series."""
    evidence = tx.studies.evidence(series_uid)
    if evidence is None:
        return None
    series = evidence.series
    return replace(evidence, stated=tx.sources.stated(series, evidence.last_at), habit=_habit(tx, series))


def _habit(tx: Transaction, series: Series) -> Habit | None:
    header = tx.sources.first_header(series.series_uid)
    for protocol in gaps.protocols_of(series.modality, header):
        habit = gaps.habit_of(tx.sources.pauses(series.calling_ae, protocol))
        if habit is not None:
            return habit
    return None


def expect(completeness: Completeness) -> Expect:
    """What the index calls for every series to which something happened: its ASSEMBLE task is made, or moved."""

    def see_to(tx: Transaction, touched: Sequence[str]) -> None:
        for series_uid in touched:
            evidence = evidence_of(tx, series_uid)
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
            if not tx.queue.enqueue(item) and not tx.queue.hasten(Kind.ASSEMBLE, item.key, due.at, item.payload):
                tx.queue.again(item)  # it ended without closing the revision: given up, or cancelled

    return see_to


def take_notice(ledger: Ledger, see_to: Expect, event: Noticed) -> int:
    """Write down what a peer said by MPPS, IAN or UPS; the status that it is told. Raises Transient."""
    with ledger.begin(ACTOR) as tx:
        try:
            notice = notice_reading.read(event, tx.sources.state_of(event.sop_instance_uid))
            touched = tx.sources.notice(notice)
        except notices.Refused as error:
            log.warning("notice %s of %s refused: %s", event.sop_instance_uid, event.peer, error)
            return error.status
        except Rejected as error:
            log.warning("notice refused: %s", error)
            return notices.PROCESSING_FAILURE
        see_to(tx, touched)
    return notices.SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What the ASSEMBLE stage works with."""

    ledger: Ledger
    completeness: Completeness
    quiet: QuietTime
    sources: Sources
    read_header: ReadHeader

    def handler(self) -> Handler:
        """The ASSEMBLE stage: waits until the series is complete, then closes its revision and lets it be routed."""
        return Handler(work=self.work)

    def work(self, task: Task) -> Done | Later:
        """See Handler."""
        series_uid = task.series_uid or ""
        with self.ledger.begin_reading() as tx:
            evidence = evidence_of(tx, series_uid)
            instances = tx.studies.instances(series_uid)
        if evidence is None or not instances:
            raise Rejected(f"series {series_uid} is not in the ledger")
        due = self.completeness(evidence)
        if due.at > time.time():
            return Later(at=due.at, why=due.why)
        judgement = self._judge(evidence, [one.sop_instance_uid for one in instances])
        if not judgement.complete:
            return Later(at=judgement.again, why=judgement.why)
        if len(instances) <= evidence.complete_instances:
            return Done(note={"why": "nothing new has come"})
        with self.ledger.begin_reading() as tx:
            grown = len(tx.studies.object_uids(series_uid)) > len(instances)
        if grown:  # an archive may take seconds to answer
            return Later(at=time.time(), why="objects came while it was judged")
        return self._close(evidence, instances, judgement)

    def _judge(self, evidence: Evidence, here: Collection[str]) -> Judgement:
        series, quiet = evidence.series, self.quiet(evidence)
        source = self.sources.get(series.calling_ae)
        if exhaustive(evidence) or (source is None and evidence.stated.missing):
            return judge(evidence, None, self.quiet.settings, time.time())
        if source is None:
            return Judgement(complete=time.time() >= quiet.at, why=quiet.why, again=quiet.at)
        try:
            expected = source.count(series.study_uid, series.series_uid)
        except NodeError as error:
            log.warning("series %s: the source cannot be asked: %s", series.series_uid, error)
            expected = None
        judgement = judge(evidence, expected, self.quiet.settings, time.time())
        if judgement.missing and not judgement.complete and time.time() > quiet.at:
            self._fetch(source, evidence, here)
        return judgement

    def _fetch(self, source: Source, evidence: Evidence, here: Collection[str]) -> None:
        """Nothing came for the quiet time, and the source has more: an ordinary PACS does not try again by itself."""
        series = evidence.series
        try:
            if source.fetch(series.study_uid, series.series_uid, here):
                log.info("series %s: asked the source to send what is missing", series.series_uid)
        except NodeError as error:
            log.warning("series %s: what is missing cannot be fetched: %s", series.series_uid, error)

    def _close(self, evidence: Evidence, instances: Sequence[Instance], judgement: Judgement) -> Done:
        series_uid, revision = evidence.series.series_uid, evidence.series.revision + 1
        header, unreadable = _header(self.ledger.data, representative(instances), self.read_header)
        if judgement.missing:
            header = {**header, MISSING: judgement.missing}
        route = Next(kind=Kind.ROUTE, key=f"{series_uid}/{revision}", payload={"revision": revision})

        protocols = gaps.protocols_of(evidence.series.modality, instances[0].header)

        def record(tx: Transaction) -> None:
            tx.sources.learn(series_uid, protocols, evidence.complete_instances)
            tx.studies.complete(series_uid, header)

        note = {
            "why": judgement.why,
            "instances": len(instances),
            "missing": judgement.missing or None,
            "unreadable": unreadable or None,
        }
        return Done(follow=(route,), record=record, note=note)


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
