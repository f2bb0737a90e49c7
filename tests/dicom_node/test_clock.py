"""Ticks, and what becomes of them when the machine's clock is set."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dicom_node.clock import Clock
from dicom_node.config import UpkeepSection
from storage import views
from storage.facts.arrival import Arrival
from storage.facts.task import Kind, Next
from storage.ledger import Ledger
from tests.storage.test_upkeep import instance

HOUR, YEAR = 3600.0, 365 * 86400.0


class Machine:
    """A machine whose clock the test sets."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.ahead = ledger, 0.0
        self.clock = Clock(ledger, UpkeepSection(), ("PACS",), 60.0, now=self.now)

    def now(self) -> float:
        return time.time() + self.ahead

    def due(self) -> dict[str, float]:
        """Seconds from now until each job."""
        jobs = self.clock._scheduler.get_jobs()
        return {job.id: job.next_run_time.timestamp() - self.now() for job in jobs}

    def ticks(self, kind: Kind, least: int) -> list[str]:
        """Keys of the ticks of a kind, once there are so many."""
        until = time.monotonic() + 60
        found: list[str] = []
        while len(found) < least and time.monotonic() < until:
            with self.ledger.read() as session:
                found = [t.key for t in views.tasks(session) if t.kind == kind]
            time.sleep(0.02)
        return found


@pytest.fixture
def machine(ledger: Ledger) -> Iterator[Machine]:
    made = Machine(ledger)
    yield made
    made.clock.stop()


def test_a_clock_that_is_set_back_delays_no_job(machine: Machine) -> None:
    machine.clock.start()
    machine.ticks(Kind.RETAIN, 1)
    machine.ticks(Kind.RECONCILE, 1)
    machine.ahead = -YEAR
    machine.clock.look()

    due = machine.due()
    assert set(due) == {"verify", "retain", "reconcile PACS"}
    assert all(seconds <= 24 * HOUR + 60 for seconds in due.values())
    with machine.ledger.read() as session:
        assert [row.action for row in views.trail(session)].count("clock set back") == 1
    machine.clock.look()
    with machine.ledger.read() as session:
        assert [row.action for row in views.trail(session)].count("clock set back") == 1


def test_an_hour_that_comes_twice_has_two_ticks(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tick asks for is due again; and what the clock said then is noted, for retention."""
    at = 1_795_000_000.0
    monkeypatch.setattr(time, "time", lambda: at)
    tick = Clock(ledger, UpkeepSection(), now=lambda: at)._enqueue
    for step in (0.0, 60.0, -YEAR, 0.0, YEAR, 0.0):
        at += step
        tick(Kind.RECONCILE, HOUR, "PACS")
        tick(Kind.RECONCILE, HOUR, "OTHER")

    with ledger.read() as session:
        keys = [t.key for t in views.tasks(session) if t.key.startswith("PACS/")]
    assert len(keys) == len(set(keys)) == 3


def test_a_series_that_came_by_a_clock_ahead_is_seen_to_at_the_start(ledger: Ledger) -> None:
    """The machine was ahead, was switched off, and its clock was set before the node ran again."""
    came = time.time()
    arrival = Arrival(instance=instance("1.2.1"), association=None, calling_ae="P", called_ae="N", received_at=came)
    with ledger.begin("receive") as tx:
        tx.studies.record([arrival])
        tx.queue.enqueue(Next(kind=Kind.ASSEMBLE, key="1.2.1.1/1", series_uid="1.2.1.1", not_before=came + 30))
    clock = Clock(ledger, UpkeepSection(), now=lambda: time.time() - YEAR)
    clock.start()
    clock.stop()

    with ledger.begin_reading() as tx:
        evidence = tx.studies.evidence("1.2.1.1")
        due = tx.queue.next_due([Kind.ASSEMBLE])
    assert evidence is not None
    assert due is not None
    assert evidence.last_at <= time.time() - YEAR
    assert due <= came + 60 - YEAR


def test_the_clock_of_a_day_without_a_jump_changes_nothing(machine: Machine) -> None:
    machine.clock.start()
    before = machine.due()
    machine.ahead = -1.0
    machine.clock.look()
    machine.ahead = HOUR
    machine.clock.look()

    with machine.ledger.read() as session:
        assert "clock set back" not in [row.action for row in views.trail(session)]
    assert before.keys() == machine.due().keys()
