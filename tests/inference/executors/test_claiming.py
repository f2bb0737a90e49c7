"""What the queue offers to a choice, and what it makes of it; on both databases."""

from __future__ import annotations

from threading import Event

import pytest

from storage import queue
from storage.facts.study import Urgency
from storage.facts.task import Kind, Later, Next
from storage.ledger import Ledger
from storage.stage import Done, Handler, Stage


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    """SQLite, then PostgreSQL."""
    return any_ledger


def fill(ledger: Ledger, *urgencies: Urgency) -> None:
    with ledger.begin("test") as tx:
        for number, urgency in enumerate(urgencies):
            tx.queue.enqueue(Next(kind=Kind.INFER, key=str(number), urgency=urgency))


def test_a_choice_is_claimed_instead_of_the_most_urgent(ledger: Ledger) -> None:
    fill(ledger, Urgency.STAT, Urgency.ROUTINE)
    with ledger.begin("test") as tx:
        task = tx.queue.claim([Kind.INFER], 60, lambda tasks: next(t for t in tasks if t.key == "1"))
        assert task is not None
        assert (task.key, task.attempt) == ("1", 1)
        assert tx.queue.claim([Kind.INFER], 60, lambda _: None) is None
        assert [t.key for t in tx.queue.due([Kind.INFER])] == ["0"]
        assert tx.queue.due([Kind.DELIVER]) == []


def test_what_another_has_taken_meanwhile_is_not_claimed_twice(ledger: Ledger) -> None:
    fill(ledger, Urgency.ROUTINE)
    with ledger.begin_reading() as tx:
        [seen] = tx.queue.due([Kind.INFER])
    with ledger.begin("a") as tx:
        assert tx.queue.claim([Kind.INFER], 60) is not None
    with ledger.begin("b") as tx:
        assert tx.queue.claim([Kind.INFER], 60, lambda _: seen) is None


def test_the_oldest_are_offered_beside_the_most_urgent(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "CANDIDATES", 2)
    fill(ledger, Urgency.ROUTINE, Urgency.ROUTINE, Urgency.ROUTINE, Urgency.HIGH, Urgency.HIGH, Urgency.STAT)
    with ledger.begin_reading() as tx:
        assert sorted(t.key for t in tx.queue.due([Kind.INFER])) == ["0", "1", "3", "5"]
        assert [t.key for t in tx.queue.due([Kind.INFER], Urgency.STAT)] == ["5"]


def test_a_run_that_is_put_back_is_told_and_counts_no_failure(ledger: Ledger) -> None:
    fill(ledger, Urgency.ROUTINE)
    answers = iter([Later(at=0.0, why="put back: something urgent came"), Done()])
    handlers = {Kind.INFER: Handler(work=lambda _: next(answers))}
    stage = Stage(ledger=ledger, handlers=handlers, actor="test", stop=Event())
    assert stage.step()
    with ledger.begin_reading() as tx:
        [task] = tx.queue.due([Kind.INFER])
    assert (task.attempt, task.failures) == (1, 0)
    task = stage.take()  # type: ignore[assignment]
    assert task is not None
    stage.see_through(task)
    assert stage.take() is None
