"""The book of work: tasks under lease, fenced by their attempt number."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, select, update
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.errors import LeaseLost, Rejected
from storage.facts.study import Urgency
from storage.facts.task import SUCCESSORS, Event, Kind, Next, State, Task, advance
from storage.tables import TaskRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a kind of task is retried: exponential back-off with jitter, then a dead letter."""

    failures: int  #: transient failures after which the task is a dead letter
    first: float  #: seconds before the first retry
    longest: float  #: seconds between retries at most

    def delay(self, failures: int) -> float:
        """Seconds to wait after the given number of failures; jittered so that tasks do not return in step."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 20)) * random.uniform(0.5, 1.0)


#: A dead PACS is worth a day's patience; a crashing model is not.
PATIENCE: dict[Kind, Patience] = {
    Kind.ASSEMBLE: Patience(failures=20, first=1, longest=60),
    Kind.FETCH: Patience(failures=3, first=10, longest=60),
    Kind.ROUTE: Patience(failures=5, first=1, longest=60),
    Kind.CHOOSE: Patience(failures=5, first=1, longest=60),
    Kind.INFER: Patience(failures=3, first=2, longest=60),
    Kind.REPORT: Patience(failures=3, first=1, longest=60),
    Kind.DELIVER: Patience(failures=300, first=2, longest=300),
    Kind.COMMIT: Patience(failures=50, first=5, longest=1800),
    Kind.ANNOUNCE: Patience(failures=100, first=2, longest=300),
    Kind.RETAIN: Patience(failures=3, first=60, longest=600),
    Kind.RECONCILE: Patience(failures=3, first=10, longest=60),
    Kind.VERIFY: Patience(failures=3, first=60, longest=600),
}

#: Kinds that look again and again while they wait for others: a row in the trail for each look would say nothing.
_LOOKS_AGAIN = frozenset({Kind.ASSEMBLE.value, Kind.CHOOSE.value})

#: Picks one of the tasks that are due, or none of them.
Choose = Callable[[Sequence[Task]], Task | None]
CANDIDATES = 200  #: tasks that are shown to a choice, twice: a longer queue is chosen from as it gets shorter


class Queue:
    """Every move of every task, inside one transaction. The thing that changes the state writes the trail."""

    def __init__(self, session: Session, trail: Trail, owner: str) -> None:
        self._session, self._trail, self._owner = session, trail, owner
        self.rung = False  #: something became claimable: ring after the commit

    def enqueue(self, item: Next, *, after: Task | None = None) -> bool:
        """Add a task unless its key is known. Returns whether it is new. Raises ValueError where no arrow allows it."""
        if after is not None and item.kind not in SUCCESSORS[after.kind]:
            raise ValueError(f"{item.kind} cannot follow {after.kind}")
        if self._session.scalar(select(TaskRow.id).where(TaskRow.kind == item.kind, TaskRow.key == item.key)):
            return False
        now = time.time()
        inherited = after.urgency if after else Urgency.ROUTINE
        row = TaskRow(
            kind=item.kind.value,
            key=item.key,
            state=State.WAITING.value,
            urgency=int(inherited if item.urgency is None else item.urgency),
            payload=dict(item.payload),
            not_before=item.not_before,
            parent_id=after.id if after else None,
            study_uid=item.study_uid or (after.study_uid if after else None),
            series_uid=item.series_uid or (after.series_uid if after else None),
            created_at=now,
            ready_at=max(now, item.not_before),
            attempt=0,
            failures=0,
        )
        self._session.add(row)
        self._session.flush()
        self._audit(row, "enqueue")
        self.rung = True
        return True

    def claim(self, kinds: Iterable[Kind], lease: float, choose: Choose | None = None) -> Task | None:
        """Take the most urgent task that is due, for ``lease`` seconds; expired leases are given back first.

        ``choose`` takes another of those that are due, or none.
        """
        self._expire(and_(TaskRow.state == State.RUNNING, TaskRow.lease_until < time.time()), "its lease ran out")
        now = time.time()
        query = self._due(kinds, now).order_by(TaskRow.urgency.desc(), TaskRow.not_before, TaskRow.id).limit(1)
        if choose is not None:
            chosen = choose(self.due(kinds))
            if chosen is None:
                return None
            query = self._due(kinds, now).where(TaskRow.id == chosen.id, TaskRow.attempt == chosen.attempt)
        row = self._session.scalar(query.with_for_update(skip_locked=True))
        if row is None:
            return None
        row.attempt += 1
        row.lease_until, row.owner, row.claimed_at = now + lease, self._owner, now
        self._move(row, Event.CLAIM)
        return _task(row)

    def due(self, kinds: Iterable[Kind], least: Urgency = Urgency.ROUTINE) -> list[Task]:
        """Tasks that could be claimed now: the most urgent ones, and the oldest ones, for they may be due by age."""
        query = self._due(kinds, time.time()).where(TaskRow.urgency >= int(least)).limit(CANDIDATES)
        urgent = self._session.scalars(query.order_by(TaskRow.urgency.desc(), TaskRow.not_before, TaskRow.id))
        found = {row.id: row for row in urgent}
        if len(found) == CANDIDATES:
            found |= {row.id: row for row in self._session.scalars(query.order_by(TaskRow.created_at, TaskRow.id))}
        return [_task(row) for row in found.values()]

    def renew(self, task: Task, lease: float) -> None:
        """Keep a running task. Raises LeaseLost when it was given to another."""
        self._mine(task).lease_until = time.time() + lease

    def finish(self, task: Task, follow: Iterable[Next] = (), note: Mapping[str, Any] | None = None) -> None:
        """Mark the task done and enqueue what follows. Raises LeaseLost when it was given to another."""
        row = self._mine(task)
        for item in follow:
            self.enqueue(item, after=task)
        self._end(row, Event.FINISH, **(note or {}))

    def defer(self, task: Task, at: float, why: str) -> None:
        """Put the task back until ``at``; no failure is counted and nothing is written to the trail but the state."""
        row = self._mine(task)
        if row.payload.get("touched", 0) != task.payload.get("touched", 0):  # not >: a clock may be set back
            at = min(at, row.not_before) if row.not_before > time.time() else time.time()
        self._wait(row, Event.DEFER, at, why)

    def retry(self, task: Task, why: str) -> bool:
        """Count a transient failure: waits with back-off, or is a dead letter. Returns whether it lives on."""
        row = self._mine(task)
        row.failures += 1
        patience = PATIENCE[task.kind]
        if row.failures >= patience.failures:
            self._end(row, Event.FAIL, why=f"{why} (given up after {row.failures} failures)")
            return False
        self._wait(row, Event.RETRY, time.time() + patience.delay(row.failures), why)
        return True

    def fail(self, task: Task, why: str) -> None:
        """Make the task a dead letter."""
        self._end(self._mine(task), Event.FAIL, why=why)

    def revive(self, task_id: int) -> None:
        """An operator tries a dead letter again; what it left behind makes room for what follows from it now.

        Raises Rejected when there is no task of that number, or while what it left behind is at work.
        """
        row = self._session.get(TaskRow, task_id, with_for_update=True)
        if row is None:
            raise Rejected(f"there is no task {task_id}: see `dicom-node tasks list`")
        row.failures = 0
        self._wait(row, Event.REVIVE, 0.0, None)
        row.ended_at = None
        self._make_room(row)

    def _make_room(self, revived: TaskRow) -> None:
        """End the tasks below and give them another key: what follows now under the old one would be taken for known.

        What waits would else go on with the earlier outcome, and a dead letter below would stay one for ever.
        """
        below, why = [revived.id], f"overtaken: task {revived.id} is tried again"
        while below:
            mine = (TaskRow.study_uid == revived.study_uid, TaskRow.parent_id.in_(below))  # the study has an index
            rows = list(self._session.scalars(select(TaskRow).where(*mine).with_for_update()))
            for row in rows:
                if row.state == State.RUNNING:
                    raise Rejected(
                        f"what task {revived.id} left behind is at work as task {row.id}: try again in a moment"
                    )
                if row.state == State.FAILED:
                    self._move(row, Event.REVIVE)
                if row.state == State.WAITING:
                    self._end(row, Event.CANCEL, why=why)
                _stand_aside(row)
            below = [row.id for row in rows]
        self._session.flush()

    def cancel(self, task_id: int) -> None:
        """An operator stops a task that waits or runs."""
        row = self._session.get(TaskRow, task_id, with_for_update=True)
        if row is None:
            raise Rejected(f"there is no task {task_id}: see `dicom-node tasks list`")
        self._end(row, Event.CANCEL, why="cancelled by an operator")

    def again(self, item: Next) -> None:
        """Ask once more for what was asked for under a known key, and has ended: a dead letter is tried again."""
        row = self._session.scalar(
            select(TaskRow).where(TaskRow.kind == item.kind, TaskRow.key == item.key).with_for_update()
        )
        if row is not None and row.state == State.FAILED:
            self.revive(row.id)
            self.hasten(item.kind, item.key, item.not_before, item.payload)
            return
        if row is not None:
            _stand_aside(row)
            self._session.flush()
        self.enqueue(item)

    def hasten(self, kind: Kind, key: str, at: float, payload: Mapping[str, Any] | None = None) -> bool:
        """Set when a waiting task is due. Returns whether there was one."""
        row = self._session.scalar(select(TaskRow).where(TaskRow.kind == kind, TaskRow.key == key).with_for_update())
        if row is None or row.state not in (State.WAITING, State.RUNNING):
            return False
        row.not_before = at
        row.ready_at = max(time.time(), at)
        row.payload = {**row.payload, **(payload or {})}
        self.rung = True
        return True

    def hasten_all(self, kind: Kind) -> int:
        """Make every waiting task of a kind due now. Returns how many there were."""
        rows = list(self._session.scalars(select(TaskRow).where(TaskRow.kind == kind, TaskRow.state == State.WAITING)))
        now = time.time()
        for row in rows:
            row.not_before = row.ready_at = now
            self.rung = True
        return len(rows)

    def raise_urgency(self, study_uid: str, urgency: Urgency) -> None:
        """Let every task of a study that still waits overtake."""
        query = select(TaskRow).where(
            TaskRow.study_uid == study_uid, TaskRow.state == State.WAITING, TaskRow.urgency < int(urgency)
        )
        for row in self._session.scalars(query):
            row.urgency = int(urgency)

    def orphan(self, owner_prefix: str) -> int:
        """Give back the tasks of workers known to be dead. Returns how many there were."""
        return self._expire(
            and_(TaskRow.state == State.RUNNING, TaskRow.owner.startswith(owner_prefix, autoescape=True)),
            "its worker died",
        )

    def latest(self, kind: Kind, prefix: str) -> tuple[int, float] | None:
        """Number of the last task of a kind whose key begins so, and when it was made; None when there is none."""
        query = select(TaskRow.id, TaskRow.created_at).where(
            TaskRow.kind == kind, TaskRow.key.startswith(prefix, autoescape=True)
        )
        row = self._session.execute(query.order_by(TaskRow.id.desc()).limit(1)).one_or_none()
        return None if row is None else (row.id, row.created_at)

    def ticks(self, kinds: Iterable[Kind]) -> Sequence[float]:
        """When the tasks of periodic kinds were made, seconds since the epoch, the newest first."""
        query = select(TaskRow.created_at).where(TaskRow.kind.in_([kind.value for kind in kinds]))
        return self._session.scalars(query.order_by(TaskRow.id.desc())).all()

    def set_back(self, now: float, seconds: float) -> None:
        """The clock was set back so far: what would wait for the earlier time waits as long as was meant."""
        waiting = update(TaskRow).where(TaskRow.state == State.WAITING, TaskRow.not_before > now)
        due = case((TaskRow.not_before - seconds > now, TaskRow.not_before - seconds), else_=now)
        self._session.execute(waiting.values(not_before=due, ready_at=due))
        # A worker that lives has renewed its lease by the new time, or does so in a moment.
        leased = update(TaskRow).where(TaskRow.state == State.RUNNING, TaskRow.lease_until > now + seconds / 2)
        self._session.execute(leased.values(lease_until=TaskRow.lease_until - seconds))
        # Who waits for others gives up so long after it was made. Ticks stay: they say what the clock said.
        made = update(TaskRow).where(TaskRow.kind == Kind.CHOOSE, TaskRow.created_at > now)
        self._session.execute(made.where(TaskRow.state == State.WAITING).values(created_at=now))
        self.rung = True

    def next_due(self, kinds: Iterable[Kind]) -> float | None:
        """When the next waiting task of these kinds is due, or the next lease ends; None when there is neither."""
        waiting = select(func.min(TaskRow.not_before)).where(
            TaskRow.state == State.WAITING, TaskRow.kind.in_([k.value for k in kinds])
        )
        leased = select(func.min(TaskRow.lease_until)).where(TaskRow.state == State.RUNNING)
        found = [t for t in (self._session.scalar(waiting), self._session.scalar(leased)) if t is not None]
        return min(found, default=None)

    def _due(self, kinds: Iterable[Kind], now: float) -> Select[TaskRow]:
        return select(TaskRow).where(
            TaskRow.state == State.WAITING, TaskRow.kind.in_([k.value for k in kinds]), TaskRow.not_before <= now
        )

    def _expire(self, dead: ColumnElement[bool], why: str) -> int:
        rows = list(self._session.scalars(select(TaskRow).where(dead).with_for_update(skip_locked=True)))
        for row in rows:
            row.failures += 1
            self._wait(row, Event.EXPIRE, time.time(), why)
        return len(rows)

    def _mine(self, task: Task) -> TaskRow:
        row = self._session.get(TaskRow, task.id, with_for_update=True, populate_existing=True)
        if row is None or row.attempt != task.attempt or row.state != State.RUNNING:
            raise LeaseLost(f"{task.kind} task {task.id}: attempt {task.attempt} was overtaken")
        return row

    def _wait(self, row: TaskRow, event: Event, at: float, why: str | None) -> None:
        now = time.time()
        row.not_before, row.ready_at, row.lease_until, row.owner, row.reason = at, max(now, at), None, None, why
        self._move(row, event, why=why)
        self.rung = True

    def _end(self, row: TaskRow, event: Event, **note: Any) -> None:
        row.lease_until, row.ended_at = None, time.time()
        row.reason = note.get("why")
        self._move(row, event, **note)

    def _move(self, row: TaskRow, event: Event, **note: Any) -> None:
        row.state = advance(State(row.state), event).value
        self._session.flush()
        quiet = event is Event.DEFER and row.kind != Kind.INFER  # a run that was stopped for another is told
        if not quiet and not (event is Event.CLAIM and row.kind in _LOOKS_AGAIN):
            self._audit(row, event.value, **note)

    def _audit(self, row: TaskRow, event: str, **note: Any) -> None:
        outcome = {"fail": 8, "retry": 4, "expire": 4}.get(event, 0)
        self._trail.append(
            f"task {event}", outcome=outcome, study=row.study_uid, series=row.series_uid, kind=row.kind, key=row.key,
            attempt=row.attempt, **{k: v for k, v in note.items() if v is not None},
        )  # fmt: skip


def _stand_aside(row: TaskRow) -> None:
    """Leave the key to another task; a row that stands aside already keeps the key that it has."""
    if not row.key.endswith(f"#{row.id}"):
        row.key = f"{row.key}#{row.id}"


def _task(row: TaskRow) -> Task:
    return Task(
        id=row.id,
        kind=Kind(row.kind),
        key=row.key,
        payload=row.payload,
        urgency=Urgency(row.urgency),
        attempt=row.attempt,
        failures=row.failures,
        study_uid=row.study_uid,
        series_uid=row.series_uid,
        created_at=row.created_at,
    )
