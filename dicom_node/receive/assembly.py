"""The ASSEMBLE stage: gathers the evidence, asks the source, and closes a series that is complete."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from dicom_node.receive import gaps, notice_reading, notices
from dicom_node.receive.completeness import Completeness, Judgement, QuietTime, exhaustive, judge
from dicom_node.receive.events import Noticed
from dicom_node.receive.shape import Shape, holds, kept, shape_of
from storage.facts.arrival import Evidence
from storage.facts.errors import NodeError, Rejected
from storage.facts.study import MISSING, UNREADABLE, Header, Instance, Series
from storage.facts.task import Kind, Later, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

log = logging.getLogger(__name__)

MEMORY = 10_000  #: series of which it is remembered what their source said
SLOW_SECONDS = 2.0  #: a question without an answer that takes longer keeps other series waiting
TURN_SECONDS = 0.1  #: at least until the next look, where the source is being asked: one that hangs holds up one loop
REST = 5.0  #: times as long as such a question took, its source is not asked

ACTOR = "receive"

#: Called inside the transaction with the series to which something happened: sees to their ASSEMBLE tasks.
Expect = Callable[[Transaction, Sequence[str]], None]
#: Reads the whole header of a stored file as plain data.
ReadHeader = Callable[[Path], Header]


class Source(Protocol):
    """A peer that can be asked what it has."""

    def count(self, study_uid: str, series_uid: str) -> int | None:
        """How many objects it has of a series; None when it does not know the series. Raises NodeError."""


Sources = Mapping[str, Source]  #: by calling AE title


def evidence_of(tx: Transaction, series_uid: str) -> Evidence | None:
    """Everything that bears on whether a series is complete, from all books; None for an unknown series."""
    evidence = tx.studies.evidence(series_uid)
    if evidence is None:
        return None
    series = evidence.series
    protocols = gaps.protocols_of(series.modality, tx.sources.first_header(series_uid))
    habits = (gaps.habit_of(tx.sources.pauses(series.calling_ae, protocol)) for protocol in protocols)
    counts = (tx.sources.counts(series.calling_ae, protocol) for protocol in protocols)
    return replace(
        evidence,
        stated=tx.sources.stated(series, evidence.last_at),
        habit=next(filter(None, habits), None),
        counts=next((tally for tally in counts if holds(tally) is not None), None),
    )


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
    fetching: Container[str] = frozenset()  #: calling AE titles of sources that shall send what lacks
    said: dict[str, tuple[int, float]] = field(default_factory=dict)  #: by series: the source's number, since when
    asking: dict[str, tuple[int, float]] = field(default_factory=dict)  #: sources: for which task, since when
    resting: dict[str, float] = field(default_factory=dict)  #: sources that are not asked until then, monotonic

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
        shape, calling = shape_of(instances), evidence.series.calling_ae
        mine = task.id, time.monotonic()
        other, began = self.asking.setdefault(calling, mine)
        if other != task.id:
            pause = max(mine[1] - began, TURN_SECONDS)
            return Later(at=time.time() + pause, why="its source is being asked about another series")
        try:
            judgement = self._judge(evidence, shape)
        finally:
            del self.asking[calling]
        if not judgement.complete:
            return Later(at=judgement.again, why=judgement.why)
        if len(instances) <= evidence.complete_instances:
            return Done(note={"why": "nothing new has come"})
        with self.ledger.begin_reading() as tx:
            grown = len(tx.studies.object_uids(series_uid)) > len(instances)
        if grown:  # an archive may take seconds to answer
            return Later(at=time.time(), why="objects came while it was judged")
        return self._close(evidence, instances, judgement, None if judgement.missing else kept(shape))

    def _judge(self, evidence: Evidence, shape: Shape) -> Judgement:
        series, settings = evidence.series, self.quiet.settings
        source = self.sources.get(series.calling_ae)
        if exhaustive(evidence) or source is None:
            return judge(evidence, None, settings, time.time(), shape, asked=False)
        expected = self._ask(source, series)
        since = self._since(series.series_uid, expected)
        judgement = judge(evidence, expected, settings, time.time(), shape, since)
        if judgement.complete:
            self.said.pop(series.series_uid, None)
        elif judgement.missing and series.calling_ae in self.fetching and time.time() > self.quiet(evidence).at:
            self._want(series)
        return judgement

    def _ask(self, source: Source, series: Series) -> int | None:
        """What the source has of the series; None where it does not tell.

        One that kept us waiting for nothing is left alone for a while, or the series of others would wait for it, too.
        What it said before that is missing here is not taken back by its silence.
        """
        said, _ = self.said.get(series.series_uid, (0, 0.0))
        known = said if said > series.instances else None
        began = time.monotonic()
        if began < self.resting.get(series.calling_ae, 0.0):
            return known
        try:
            return source.count(series.study_uid, series.series_uid)
        except NodeError as error:
            took = time.monotonic() - began
            if took > SLOW_SECONDS:
                self.resting[series.calling_ae] = time.monotonic() + REST * took
            log.warning("series %s: the source cannot be asked: %s", series.series_uid, error)
            return known

    def _since(self, series_uid: str, expected: int | None) -> float:
        """Since when the source has said that number. A restart forgets it: then it is asked for longer."""
        if expected is None:
            return math.inf
        if self.said.get(series_uid, (None,))[0] != expected:
            if len(self.said) >= MEMORY:
                self.said.clear()
            self.said[series_uid] = expected, time.time()
        return self.said[series_uid][1]

    def _want(self, series: Series) -> None:
        """Nothing came for the quiet time, and the source has more: an ordinary PACS does not try again by itself."""
        item = Next(
            kind=Kind.FETCH,
            key=f"{series.series_uid}/{series.revision + 1}",
            payload={"peer": series.calling_ae},
            series_uid=series.series_uid,
            study_uid=series.study_uid,
        )
        with self.ledger.begin(ACTOR) as tx:
            if not tx.queue.enqueue(item) and not tx.queue.hasten(Kind.FETCH, item.key, time.time()):
                tx.queue.again(item)

    def _close(
        self, evidence: Evidence, instances: Sequence[Instance], judgement: Judgement, held: bool | None
    ) -> Done:
        """``held``: whether the count that its headers stated did; None where nothing can be said of that."""
        series_uid, revision = evidence.series.series_uid, evidence.series.revision + 1
        header, unreadable = _header(self.ledger.data, representative(instances), self.read_header)
        if judgement.missing:
            header = {**header, MISSING: judgement.missing}
        route = Next(kind=Kind.ROUTE, key=f"{series_uid}/{revision}", payload={"revision": revision})

        protocols = gaps.protocols_of(evidence.series.modality, instances[0].header)

        def record(tx: Transaction) -> None:
            tx.sources.learn(series_uid, protocols, evidence.complete_instances)
            if held is not None:
                tx.sources.count_kept(evidence.series.calling_ae, protocols, held)
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
