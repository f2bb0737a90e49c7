"""Claim, work, record: what must hold when a worker dies, is slow, or fails."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from storage import queue, views
from storage.facts.errors import IllegalTransition, LeaseLost, Rejected, Transient
from storage.facts.study import Urgency
from storage.facts.task import Kind, Later, Next, State, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler, Stage

CHAIN = (Kind.ASSEMBLE, Kind.ROUTE, Kind.INFER, Kind.REPORT, Kind.DELIVER, Kind.COMMIT)


def enqueue(ledger: Ledger, kind: Kind = Kind.ASSEMBLE, key: str = "1.2.3", **more: Any) -> None:
    with ledger.begin("test") as tx:
        tx.queue.enqueue(Next(kind=kind, key=key, **more))


def states(ledger: Ledger) -> dict[tuple[str, str], str]:
    with ledger.read() as session:
        return {(t.kind, t.key): t.state for t in views.tasks(session)}


def chain(sent: list[str]) -> dict[Kind, Handler]:
    """Every stage hands on to the next; ROUTE to two models."""

    def work(task: Task) -> Done:
        if task.kind is Kind.DELIVER:
            sent.append(task.key)
        if task.kind is Kind.COMMIT:
            return Done()
        after = CHAIN[CHAIN.index(task.kind) + 1]
        keys = [f"{task.key}/a", f"{task.key}/b"] if task.kind is Kind.ROUTE else [task.key]
        return Done(follow=tuple(Next(kind=after, key=key) for key in keys))

    return {kind: Handler(work=work) for kind in CHAIN}


def stage(ledger: Ledger, handlers: dict[Kind, Handler]) -> Stage:
    return Stage(ledger=ledger, handlers=handlers, actor="test", stop=threading.Event())


def drain(ledger: Ledger, handlers: dict[Kind, Handler]) -> None:
    while stage(ledger, handlers).step():
        pass


def one(work: Callable[[Task], Done | Later], kind: Kind = Kind.INFER, **more: Any) -> dict[Kind, Handler]:
    return {kind: Handler(work=work, **more)}


def test_a_series_becomes_two_committed_results(ledger: Ledger) -> None:
    sent: list[str] = []
    enqueue(ledger)
    drain(ledger, chain(sent))
    assert sorted(sent) == ["1.2.3/a", "1.2.3/b"]
    assert len(states(ledger)) == 10
    assert set(states(ledger).values()) == {"done"}
    assert ledger.verify().faults == ()


class PowerCut(BaseException):
    """Nothing catches it: the process is gone."""


@pytest.mark.parametrize("where", ["before the work", "after the work", "inside the commit", "after the commit"])
@pytest.mark.parametrize("nth", range(1, 11))
def test_a_crash_anywhere_loses_and_doubles_nothing(
    ledger: Ledger, where: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    ticks = itertools.count(1)

    def crash(here: str) -> None:
        if here == where and next(ticks) == nth:
            raise PowerCut

    def fragile(work: Callable[[Task], Done | Later]) -> Callable[[Task], Done | Later]:
        def wrapped(task: Task) -> Done | Later:
            crash("before the work")
            done = work(task)
            crash("after the work")
            return done

        return wrapped

    original = queue.Queue.finish

    def finish(self: queue.Queue, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        crash("inside the commit")

    begin = ledger.begin

    @contextmanager
    def crashing_begin(actor: str) -> Any:
        with begin(actor) as tx:
            yield tx
        crash("after the commit")

    enqueue(ledger)
    handlers = chain(sent)
    with monkeypatch.context() as patch:
        patch.setattr(queue.Queue, "finish", finish)
        patch.setattr(ledger, "begin", crashing_begin)
        with pytest.raises(PowerCut):
            drain(ledger, {k: Handler(work=fragile(h.work)) for k, h in handlers.items()})
    with ledger.begin("restart") as tx:
        tx.queue.orphan("")
    drain(ledger, handlers)

    assert len(states(ledger)) == 10
    assert set(states(ledger).values()) == {"done"}
    assert set(sent) == {"1.2.3/a", "1.2.3/b"}
    assert len(sent) <= 3  # a send may repeat with the same UIDs, never vanish
    assert ledger.verify().faults == ()


def test_the_same_key_makes_one_task(ledger: Ledger) -> None:
    enqueue(ledger)
    enqueue(ledger)
    assert len(states(ledger)) == 1


def test_no_stage_skips_another(ledger: Ledger) -> None:
    enqueue(ledger, Kind.ROUTE)
    with ledger.begin("test") as tx:
        task = tx.queue.claim([Kind.ROUTE], 60)
    with pytest.raises(ValueError, match="deliver cannot follow route"), ledger.begin("test") as tx:
        tx.queue.enqueue(Next(kind=Kind.DELIVER, key="x"), after=task)


def test_a_worker_that_was_given_up_cannot_finish(ledger: Ledger) -> None:
    enqueue(ledger, Kind.ROUTE)
    with ledger.begin("a") as tx:
        slow = tx.queue.claim([Kind.ROUTE], -1)
    with ledger.begin("b") as tx:
        other = tx.queue.claim([Kind.ROUTE], 60)
    assert slow is not None
    assert other is not None
    with pytest.raises(LeaseLost), ledger.begin("a") as tx:
        tx.queue.finish(slow, [Next(kind=Kind.INFER, key="late")])
    assert ("infer", "late") not in states(ledger)
    with ledger.begin("b") as tx:
        tx.queue.finish(other)
    assert states(ledger) == {("route", "1.2.3"): "done"}


def test_urgent_work_overtakes(ledger: Ledger) -> None:
    for key, urgency in (("1", Urgency.ROUTINE), ("2", Urgency.STAT), ("3", Urgency.HIGH)):
        enqueue(ledger, Kind.INFER, key, urgency=urgency)
    done: list[str] = []
    drain(ledger, one(lambda task: done.append(task.key) or Done()))  # type: ignore[func-returns-value]
    assert done == ["2", "3", "1"]


def test_a_transient_failure_waits_longer_each_time(ledger: Ledger) -> None:
    def down(_task: Task) -> Done:
        raise Transient("PACS-A does not answer")

    enqueue(ledger, Kind.DELIVER)
    waits = []
    for _ in range(4):
        assert stage(ledger, one(down, Kind.DELIVER)).step()
        with ledger.read() as session:
            task = views.tasks(session)[0]
        waits.append(task.not_before - time.time())
        with ledger.begin("test") as tx:
            tx.queue.hasten(Kind.DELIVER, "1.2.3", 0.0)
    assert task.state == "waiting"
    assert task.reason == "PACS-A does not answer"
    for failures, wait in enumerate(waits, 1):
        longest = 2 * 2 ** (failures - 1)
        assert 0.5 * longest - 0.5 < wait <= longest


def test_what_keeps_failing_is_a_dead_letter_that_can_be_retried(ledger: Ledger) -> None:
    answers = iter([Transient("out of memory")] * 3)

    def work(_task: Task) -> Done:
        try:
            raise next(answers)
        except StopIteration:
            return Done()

    enqueue(ledger, Kind.INFER)
    for _ in range(3):
        stage(ledger, one(work)).step()
        with ledger.begin("test") as tx:
            tx.queue.hasten(Kind.INFER, "1.2.3", 0.0)
    with ledger.read() as session:
        task = views.tasks(session)[0]
    assert (task.state, task.reason) == ("failed", "out of memory (given up after 3 failures)")
    with ledger.begin("operator") as tx:
        tx.queue.revive(task.id)
    drain(ledger, one(work))
    assert states(ledger) == {("infer", "1.2.3"): "done"}


def test_only_a_dead_letter_can_be_revived(ledger: Ledger) -> None:
    enqueue(ledger, Kind.INFER)
    with pytest.raises(IllegalTransition), ledger.begin("operator") as tx:
        tx.queue.revive(1)
    with pytest.raises(Rejected, match="there is no task 7"), ledger.begin("operator") as tx:
        tx.queue.revive(7)


def test_a_rejected_task_leaves_a_report_behind(ledger: Ledger) -> None:
    def work(_task: Task) -> Done:
        raise Rejected("the weights are corrupt")

    def bury(task: Task, why: str) -> Done:
        return Done(follow=(Next(kind=Kind.REPORT, key=task.key, payload={"why": why}),))

    enqueue(ledger, Kind.INFER)
    drain(ledger, one(work, bury=bury))
    assert states(ledger) == {("infer", "1.2.3"): "failed", ("report", "1.2.3"): "waiting"}


def test_a_worker_that_dies_three_times_is_not_given_the_task_again(ledger: Ledger) -> None:
    enqueue(ledger, Kind.INFER)
    for _ in range(3):
        with ledger.begin("worker") as tx:
            assert tx.queue.claim([Kind.INFER], 60) is not None
        with ledger.begin("supervisor") as tx:
            assert tx.queue.orphan("") == 1
    ran: list[Task] = []
    drain(ledger, one(lambda task: ran.append(task) or Done()))  # type: ignore[func-returns-value]
    assert ran == []
    assert states(ledger) == {("infer", "1.2.3"): "failed"}


def test_an_unexpected_exception_fails_the_task_and_not_the_queue(ledger: Ledger) -> None:
    def work(_task: Task) -> Done:
        raise KeyError("secret")

    enqueue(ledger, Kind.INFER)
    assert stage(ledger, one(work)).step()
    with ledger.read() as session:
        task = views.tasks(session)[0]
    assert (task.state, task.reason) == ("waiting", "internal error: KeyError (see the log)")


def test_a_deferred_task_counts_no_failure(ledger: Ledger) -> None:
    enqueue(ledger)
    soon = time.time() + 0.2
    answers = iter([Later(at=soon, why="still arriving"), Done()])
    handlers = one(lambda _: next(answers), Kind.ASSEMBLE)
    assert stage(ledger, handlers).step()
    assert not stage(ledger, handlers).step()
    time.sleep(0.25)
    assert stage(ledger, handlers).step()
    with ledger.read() as session:
        task = views.tasks(session)[0]
    assert (task.state, task.failures) == ("done", 0)


def test_a_lease_is_renewed_while_the_work_goes_on(ledger: Ledger) -> None:
    def slow(_task: Task) -> Done:
        time.sleep(0.8)
        return Done()

    enqueue(ledger, Kind.INFER)
    with ledger.begin("w") as tx:
        tx.queue.hasten(Kind.INFER, "1.2.3", 0.0)
    drain(ledger, one(slow, lease=0.3))
    with ledger.read() as session:
        assert views.tasks(session)[0].attempt == 1
    assert states(ledger) == {("infer", "1.2.3"): "done"}


def test_a_hand_off_is_woken_not_polled(ledger: Ledger) -> None:
    stop = threading.Event()
    done: list[float] = []
    handlers = one(lambda _: done.append(time.time()) or Done())  # type: ignore[func-returns-value]
    loop = Stage(ledger=ledger, handlers=handlers, actor="test", stop=stop)
    thread = threading.Thread(target=loop.run)
    thread.start()
    time.sleep(0.3)
    enqueue(ledger, Kind.INFER)
    deadline = time.time() + 5
    while states(ledger) != {("infer", "1.2.3"): "done"} and time.time() < deadline:
        time.sleep(0.01)
    stop.set()
    ledger.bell.ring()
    thread.join()
    with ledger.read() as session:
        task = views.tasks(session)[0]
    assert task.claimed_at is not None
    assert task.claimed_at - task.ready_at < 0.5  # generous: the loop by itself looks every 2 s


def test_a_record_and_the_end_of_its_task_are_one(ledger: Ledger) -> None:
    def record(tx: Transaction) -> None:
        tx.trail.append("deed")
        raise Transient("the disk is full")

    enqueue(ledger, Kind.INFER)
    stage(ledger, one(lambda _: Done(record=record))).step()
    with ledger.read() as session:
        assert "deed" not in [row.action for row in views.trail(session)]
        assert views.tasks(session)[0].state == State.WAITING
