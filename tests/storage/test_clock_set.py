"""Clocks that jump: what is kept, what waits, and who came first."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from storage import upkeep
from storage.facts.arrival import Arrival
from storage.facts.task import Kind, Next
from storage.ledger import Ledger, Transaction
from tests.storage.test_upkeep import instance, place

HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
TODAY = 1_795_000_000.0
KEEP = 14 * DAY


class Node:
    """A node that runs under a clock: it ticks once an hour, and studies arrive."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger, self.now, self.ticks = ledger, TODAY, 0
        monkeypatch.setattr(time, "time", lambda: self.now)

    def tick(self) -> None:
        with self.ledger.begin("clock") as tx:
            self.ticks += 1
            tx.queue.enqueue(Next(kind=Kind.RETAIN, key=f"retain/{self.ticks}"))

    def run(self, hours: int) -> None:
        """Ticks at its start, as the clock does, and then each hour."""
        self.tick()
        for _ in range(hours):
            self.now += HOUR
            self.tick()

    def receive(self, study: str) -> Path:
        path = place(self.ledger, study)
        os.utime(path, (self.now, self.now))
        with self.ledger.begin("receive") as tx:
            tx.studies.record([arrival(study, self.now)])
        return path

    def retain(self) -> int:
        since = upkeep.horizon(self.ledger, KEEP, self.now)
        return upkeep.retain(self.ledger, "retention", since).studies


def arrival(study: str, at: float, number: int = 1) -> Arrival:
    given = instance(study, number)
    return Arrival(instance=given, association=None, calling_ae="CT1", called_ae="NODE", received_at=at)


@pytest.fixture
def node(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(ledger, monkeypatch)


def test_by_a_clock_that_nobody_sets_studies_go_after_their_time(node: Node) -> None:
    node.tick()
    study = node.receive("1.2.1")
    node.run(14 * 24 - 2)
    early = node.retain()
    node.run(5)

    assert early == 0
    assert node.retain() == 1
    assert not study.exists()


def test_a_clock_that_jumps_ahead_by_years_ages_nothing_by_years(node: Node) -> None:
    node.run(24)
    study = node.receive("1.2.1")
    node.run(24)
    node.now += 10 * YEAR
    node.run(24)

    assert node.retain() == 0
    assert study.exists()
    assert upkeep.horizon(node.ledger, KEEP, node.now).held > 9 * YEAR

    node.run(14 * 24)
    assert node.retain() == 1


def test_what_came_while_the_clock_was_dead_is_as_young_as_it_is(node: Node) -> None:
    """A machine without a battery begins in 2000, receives, and has its time set by NTP a little later."""
    node.run(20 * 24)
    for _ in range(2):  # each start begins at the same date
        today = node.now
        node.now = 946_684_800.0
        node.tick()
        node.now += 300.0
        study = node.receive(f"1.2.{node.ticks}")
        node.now = today + 600.0
        node.run(24)

        assert node.retain() == 0
        assert study.exists()


def test_a_node_that_was_off_for_weeks_keeps_what_it_has_for_a_while(node: Node) -> None:
    study = node.receive("1.2.1")
    node.run(24)
    node.now += 30 * DAY
    node.run(1)

    assert node.retain() == 0
    assert study.exists()


def test_what_came_by_a_clock_that_was_ahead_goes_in_its_time(node: Node) -> None:
    node.run(24)
    node.now += 10 * YEAR
    node.tick()
    study = node.receive("1.2.1")
    node.now -= 10 * YEAR
    node.tick()
    upkeep.set_back(node.ledger, "clock", node.now, 10 * YEAR)
    node.run(13 * 24)
    early = node.retain()
    node.run(2 * 24)

    assert early == 0
    assert node.retain() == 1
    assert not study.exists()


def test_a_clock_that_is_set_back_by_mistake_and_right_again_costs_no_study(node: Node) -> None:
    """All that is here then lies in the future; some of it still arrives."""
    node.run(20 * 24)
    studies = [node.receive(f"1.2.{n}") for n in range(1, 4)]
    with node.ledger.begin("test") as tx:
        tx.queue.enqueue(Next(kind=Kind.ASSEMBLE, key="1.2.1.1/1", series_uid="1.2.1.1"))
    right, node.now = node.now, 946_684_800.0
    upkeep.set_back(node.ledger, "clock", node.now, right - node.now)
    with node.ledger.begin("test") as tx:
        assert claim(tx, Kind.ASSEMBLE) == "1.2.1.1/1"  # it is due
        tx.studies.record([arrival("1.2.2", node.now, 2)])
    node.run(24)
    removed = [node.retain()]
    node.now = right + DAY
    node.run(1)
    removed.append(node.retain())
    node.run(10 * 24)
    removed.append(node.retain())
    node.run(5 * 24)

    assert removed == [0, 0, 0]
    assert all(study.exists() for study in studies)
    assert node.retain() == 3


def test_objects_stay_in_order_when_their_times_are_brought_back(node: Node) -> None:
    with node.ledger.begin("receive") as tx:
        tx.queue.enqueue(Next(kind=Kind.ASSEMBLE, key="1.2.1.1/1", series_uid="1.2.1.1"))
        tx.studies.record([arrival("1.2.1", TODAY - 10, 9)])
        tx.studies.record([arrival("1.2.1", TODAY + YEAR, 5)])
        tx.studies.record([arrival("1.2.1", TODAY + YEAR + 7, 1)])
    upkeep.set_back(node.ledger, "clock", TODAY, YEAR)
    with node.ledger.begin("receive") as tx:
        tx.studies.record([arrival("1.2.1", TODAY + 1, 3)])
        evidence = tx.studies.evidence("1.2.1.1")
        order = [one.sop_instance_uid.rpartition(".")[2] for one in tx.studies.instances("1.2.1.1")]

    assert order == ["9", "5", "1", "3"]
    assert evidence is not None
    assert evidence.last_at == TODAY + 1
    assert node.ledger.verify().faults == ()


def test_what_waits_is_due_as_soon_as_was_meant(any_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(any_ledger, monkeypatch)
    with node.ledger.begin("test") as tx:
        tx.queue.enqueue(Next(kind=Kind.DELIVER, key="soon", not_before=TODAY + 30))
        tx.queue.enqueue(Next(kind=Kind.DELIVER, key="later", not_before=TODAY + 300))
        tx.queue.enqueue(Next(kind=Kind.INFER, key="runs"))
        assert claim(tx, Kind.INFER) == "runs"
        tx.studies.record([arrival("1.2.1", TODAY)])
        tx.queue.enqueue(Next(kind=Kind.ASSEMBLE, key="1.2.1.1/1", series_uid="1.2.1.1"))
    node.now = TODAY - DAY
    upkeep.set_back(node.ledger, "clock", node.now, DAY)

    found = []
    for _ in range(2):
        with node.ledger.begin("test") as tx:
            found += [claim(tx, Kind.DELIVER), claim(tx, Kind.INFER)]
        node.now += 31
    with node.ledger.begin_reading() as tx:
        evidence = tx.studies.evidence("1.2.1.1")
    assert evidence is not None
    assert evidence.last_at == TODAY - DAY
    assert found == [None, None, "soon", "runs"]  # of a worker that has died, the lease has ended


def claim(tx: Transaction, kind: Kind) -> str | None:
    task = tx.queue.claim([kind], 30.0)
    return None if task is None else task.key


def test_a_mask_from_the_future_does_not_keep_its_study_for_ever(node: Node) -> None:
    blob = node.ledger.blobs.put(b"mask")
    os.utime(node.ledger.blobs.path(blob), (TODAY + YEAR, TODAY + YEAR))

    assert not node.ledger.blobs.is_young(blob, HOUR)
