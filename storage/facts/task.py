"""The one state machine: every stage of the product is a task of some kind in some state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from storage.facts.errors import IllegalTransition
from storage.facts.study import Urgency


class Kind(StrEnum):
    """What a task asks for. A new stage is a new kind, a handler, and a line in SUCCESSORS."""

    ASSEMBLE = "assemble"  #: a series that is still arriving: is it complete?
    FETCH = "fetch"  #: a series that lacks objects which its source has: it shall send them
    ROUTE = "route"  #: a complete series: which models, and why?
    CHOOSE = "choose"  #: a study: which of its series does a rule take, and with which others?
    INFER = "infer"  #: one model on one series
    REPORT = "report"  #: a prediction, to be said in DICOM
    DELIVER = "deliver"  #: a report's objects, to be sent to one destination
    COMMIT = "commit"  #: delivered objects, to be committed by the archive (PS3.4 Annex J)
    ANNOUNCE = "announce"  #: an urgent result, to be raised in the reading worklist (UPS, PS3.4 Annex CC)
    RETAIN = "retain"  #: periodic: free what the retention policy allows
    RECONCILE = "reconcile"  #: periodic: what has a source of its recent studies that the node lacks?
    VERIFY = "verify"  #: periodic: re-compute the audit chain


class State(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"  #: to be claimed once its time has come
    RUNNING = "running"  #: claimed by one worker, under a lease
    DONE = "done"
    FAILED = "failed"  #: a dead letter: its reason is kept, an operator may retry it
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a task."""

    CLAIM = "claim"  #: waiting -> running
    FINISH = "finish"  #: running -> done
    DEFER = "defer"  #: running -> waiting; not yet time, no failure is counted
    RETRY = "retry"  #: running -> waiting; a transient failure, later again
    EXPIRE = "expire"  #: running -> waiting; the lease ran out: its worker is dead
    FAIL = "fail"  #: running -> failed
    CANCEL = "cancel"  #: waiting or running -> cancelled
    REVIVE = "revive"  #: failed -> waiting; an operator tries a dead letter again


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.WAITING, Event.CLAIM): State.RUNNING,
    (State.WAITING, Event.CANCEL): State.CANCELLED,
    (State.RUNNING, Event.FINISH): State.DONE,
    (State.RUNNING, Event.DEFER): State.WAITING,
    (State.RUNNING, Event.RETRY): State.WAITING,
    (State.RUNNING, Event.EXPIRE): State.WAITING,
    (State.RUNNING, Event.FAIL): State.FAILED,
    (State.RUNNING, Event.CANCEL): State.CANCELLED,
    (State.FAILED, Event.REVIVE): State.WAITING,
}

#: What may follow what; a handler can enqueue no other kind.
SUCCESSORS: dict[Kind, frozenset[Kind]] = {
    Kind.ASSEMBLE: frozenset({Kind.FETCH, Kind.ROUTE}),
    Kind.FETCH: frozenset(),
    Kind.ROUTE: frozenset({Kind.CHOOSE, Kind.INFER}),
    Kind.CHOOSE: frozenset({Kind.INFER}),
    Kind.INFER: frozenset({Kind.REPORT}),
    Kind.REPORT: frozenset({Kind.DELIVER, Kind.ANNOUNCE}),
    Kind.DELIVER: frozenset({Kind.COMMIT}),
    Kind.COMMIT: frozenset(),
    Kind.ANNOUNCE: frozenset(),
    Kind.RETAIN: frozenset(),
    Kind.RECONCILE: frozenset(),
    Kind.VERIFY: frozenset(),
}


def advance(state: State, event: Event) -> State:
    """The state after ``event``; raises IllegalTransition where TRANSITIONS has no arrow."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a {state} task cannot {event}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One claimed piece of work, as its handler sees it."""

    id: int
    kind: Kind
    key: str  #: unique within its kind: enqueueing the same key twice makes one task
    payload: Mapping[str, Any]
    urgency: Urgency
    attempt: int  #: fences the lease: grows with every claim
    failures: int  #: transient failures so far; drives back-off and the dead letter
    study_uid: str | None
    series_uid: str | None
    created_at: float  #: seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """A task that follows from another: enqueued in the transaction that finishes its parent."""

    kind: Kind
    key: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    urgency: Urgency | None = None  #: None: the parent's
    series_uid: str | None = None  #: None: the parent's
    study_uid: str | None = None  #: None: the parent's
    not_before: float = 0.0  #: seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What a handler returns when it is not yet time: claimed again at ``at``, no failure counted."""

    at: float  #: seconds since the epoch
    why: str
