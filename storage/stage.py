"""The stage loop of every process: claim under a lease, work outside any transaction, then record it all in one.

A handler is a function from a Task to what it did. It returns ``Done`` (what to record, what follows) or ``Later`` (not
yet), or raises one of storage.facts.errors. It must be idempotent: a killed process means that it runs again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from storage.facts.errors import Conflict, Misconfigured, Rejected, Transient
from storage.facts.task import Kind, Later, Next, Task
from storage.ledger import Ledger, Transaction
from storage.queue import PATIENCE, Choose

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 2.0  #: at the latest, even if no bell was heard
DECLINED_SECONDS = 0.25  #: until tasks that are due, but were not chosen, are offered again


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a handler did, to be recorded in the transaction that finishes its task."""

    follow: tuple[Next, ...] = ()
    record: Callable[[Transaction], None] | None = None
    note: Mapping[str, Any] = field(default_factory=dict)  #: for the audit row


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One kind of work."""

    work: Callable[[Task], Done | Later]
    #: What a dead letter leaves behind, so that no study ends in silence; recorded in the transaction that fails it.
    bury: Callable[[Task, str], Done] | None = None
    lease: float = LEASE_SECONDS  #: seconds; renewed while the work goes on
    deadline: float | None = None  #: seconds of work after which the lease is renewed no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A loop over some kinds of task, run by one thread at a time.

    ``take`` and ``see_through`` are for whoever has several tasks in flight: they may be called by different threads.
    """

    ledger: Ledger
    handlers: Mapping[Kind, Handler]
    actor: str
    stop: threading.Event
    choose: Choose | None = None  #: which of the tasks that are due; the most urgent one by default

    def run(self) -> None:
        """Work until told to stop."""
        seen = -1
        while not self.stop.is_set():
            try:
                if self.step():
                    continue
                seen = self.rest(seen)
            except Transient as error:  # the database itself: nothing can be recorded, so wait
                log.warning("%s: %s", self.actor, error)
                self.stop.wait(1.0)

    def rest(self, seen: int) -> int:
        """Wait for something to do. ``seen`` is what the last rest returned, -1 at first."""
        return self.ledger.bell.wait(seen, self._pause())

    def _pause(self) -> float:
        with self.ledger.begin_reading() as tx:
            due = tx.queue.next_due(self.handlers)
        least = 0.0 if self.choose is None else DECLINED_SECONDS
        return LOOK_AGAIN_SECONDS if due is None else min(max(due - time.time(), least), LOOK_AGAIN_SECONDS)

    def step(self) -> bool:
        """Take one task and see it through. Returns False when none was due."""
        task = self.take()
        if task is None:
            return False
        self.see_through(task)
        return True

    def take(self) -> Task | None:
        """Claim a task: whoever does so must see it through. Raises Transient when the database does not answer."""
        with self.ledger.begin_reading() as tx:
            due = tx.queue.next_due(self.handlers)
        if due is None or due > time.time():
            return None
        with self.ledger.begin(self.actor) as tx:
            return tx.queue.claim(self.handlers, LEASE_SECONDS, self.choose)

    def see_through(self, task: Task) -> None:
        """Do a claimed task and record what came of it. Raises Transient when the database does not answer."""
        try:
            self._see_through(task)
        except Conflict as error:
            log.info("%s: dropped: %s", self.actor, error)

    def _see_through(self, task: Task) -> None:
        handler = self.handlers[task.kind]
        if task.failures >= PATIENCE[task.kind].failures:
            self._fail(task, f"given up: its worker died or was lost {task.failures} times")
            return
        try:
            with _kept(self, task, handler):
                result = handler.work(task)
            self._finish(task, result)
        except Transient as error:
            self._retry(task, str(error))
        except (Rejected, Misconfigured) as error:
            self._fail(task, str(error))
        except Conflict:
            raise
        except Exception as error:  # the one place: a fault of ours must not stop the queue
            log.exception("%s: %s task %d failed unexpectedly", self.actor, task.kind, task.id)
            self._retry(task, f"internal error: {type(error).__name__} (see the log)")

    def _finish(self, task: Task, result: Done | Later) -> None:
        with self.ledger.begin(self.actor) as tx:
            if isinstance(result, Later):
                tx.queue.defer(task, result.at, result.why)
                return
            if result.record is not None:
                result.record(tx)
            tx.queue.finish(task, result.follow, result.note)

    def _retry(self, task: Task, why: str) -> None:
        with self.ledger.begin(self.actor) as tx:
            alive = tx.queue.retry(task, why)
            if not alive:
                self._bury(tx, task, why)
        log.warning("%s: %s task %d %s: %s", self.actor, task.kind, task.id, "waits" if alive else "failed", why)

    def _fail(self, task: Task, why: str) -> None:
        with self.ledger.begin(self.actor) as tx:
            tx.queue.fail(task, why)
            self._bury(tx, task, why)
        log.error("%s: %s task %d failed: %s", self.actor, task.kind, task.id, why)

    def _bury(self, tx: Transaction, task: Task, why: str) -> None:
        bury = self.handlers[task.kind].bury
        if bury is None:
            return
        left = bury(task, why)
        if left.record is not None:
            left.record(tx)
        for item in left.follow:
            tx.queue.enqueue(item, after=task)


@contextmanager
def _kept(stage: Stage, task: Task, handler: Handler) -> Iterator[None]:
    """Renew the lease from a thread of its own while the work goes on, up to its deadline."""
    over = threading.Event()
    started = time.monotonic()

    def renew() -> None:
        while not over.wait(min(handler.lease, LEASE_SECONDS) / 3):
            if handler.deadline is not None and time.monotonic() - started > handler.deadline:
                return
            try:
                with stage.ledger.begin(stage.actor) as tx:
                    tx.queue.renew(task, handler.lease)
            except Conflict:
                return
            except Transient as error:
                log.warning("%s: the lease of task %d was not renewed: %s", stage.actor, task.id, error)

    keeper = threading.Thread(target=renew, name=f"lease-{task.id}", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
