"""Keeps one slot: starts its process, gives it runs, kills it when it must, and starts it again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.executors import messages, parcel, vitals
from inference.executors.breaker import Breaker
from inference.executors.link import Dead, Link, Terms
from inference.executors.schedule import Place, Run
from inference.executors.watch import Limits, Verdict, Watch
from inference.packages.package import Package
from inference.pipeline import Outcome, Request
from inference.runtime import GaveWay, OutOfMemory
from storage.facts.errors import Misconfigured, NodeError, Rejected, Transient
from storage.facts.study import Urgency

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2  #: between looks at a run
START_SECONDS = 120.0  #: for a process to load torch from a cold disk
AGAIN_SECONDS = 1.0  #: after a process that did not start
_ENDS = (messages.Finished, messages.Failed, messages.MadeWay)
FULL_PART = 0.8  #: of a slot's memory: with more after a run it leaks, and starts afresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A run to be done."""

    task: int
    request: Request
    package: Package
    need: int  #: bytes
    processor: bool  #: whether it may leave the device when memory does not suffice
    pinned: frozenset[str]  #: digests of packages whose models stay
    variant: tuple[str, ...] = ()  #: faster ways of computing that were proven on the slot's device


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it."""

    outcome: Outcome
    measured: messages.Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNews:
    """A device goes out of service, or comes back."""

    device: str
    in_service: bool
    why: str


@dataclass(slots=True, kw_only=True)
class _Occupied:
    """The task that a slot was taken for; ``watch`` is set while its run goes on."""

    task: int
    urgency: Urgency
    since: float
    expected: float | None
    gave_way: bool
    asked: bool = False
    watch: Watch | None = None


class Keeper:
    """One slot. ``tend`` and ``run`` are called by one thread at a time; the rest by any."""

    def __init__(
        self,
        number: int,
        device: str,
        terms: Terms,
        limits: Limits,
        breaker: Breaker,
        tell: Callable[[DeviceNews], None],
    ) -> None:
        self.number, self.device = number, device
        self._terms, self._limits, self._breaker, self._tell = terms, limits, breaker, tell
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._started = self._again = 0.0
        self._ready: messages.Ready | None = None
        self._warm: frozenset[str] = frozenset()
        self._occupied: _Occupied | None = None
        self._job = 0
        self._told = False  #: that it is in service
        self._vacant = threading.Event()
        self._vacant.set()
        self.stopping: float | None = None  #: monotonic time from which runs have their grace

    @property
    def ready(self) -> messages.Ready | None:
        """What the running process said of its device; None while there is none."""
        return self._ready

    @property
    def pid(self) -> int | None:
        """Of the slot process."""
        link = self._link
        return None if link is None else link.pid

    def place(self) -> Place:
        """The slot as the schedule sees it."""
        with self._lock:
            taken = self._occupied
            run = None
            if taken is not None:
                run = Run(
                    task=taken.task, urgency=taken.urgency, elapsed=time.monotonic() - taken.since,
                    expected=taken.expected, giving_way=taken.asked, gave_way=taken.gave_way,
                )  # fmt: skip
            free = taken is None and self._ready is not None
            return Place(number=self.number, free=free, warm=self._warm, run=run)

    def occupy(self, task: int, urgency: Urgency, expected: float | None, gave_way: bool) -> None:
        """Take the slot for a task."""
        with self._lock:
            self._occupied = _Occupied(
                task=task, urgency=urgency, since=time.monotonic(), expected=expected, gave_way=gave_way
            )
            self._vacant.clear()

    def vacate(self, task: int) -> None:
        """Give the slot back, if that task has it."""
        with self._lock:
            if self._occupied is not None and self._occupied.task == task:
                self._occupied = None
                self._vacant.set()

    def wait_vacant(self, seconds: float) -> bool:
        """Wait until no task has it. Returns whether that is so."""
        return self._vacant.wait(seconds)

    def give_way(self) -> None:
        """Tell the run to end at its next checkpoint."""
        with self._lock:
            taken, link = self._occupied, self._link
            if taken is None or taken.asked:
                return
            taken.asked = True
            if taken.watch is None or link is None:
                return  # it has not begun: ``run`` will see it
            try:
                self._ask(link, taken.watch)
            except Dead:
                pass  # whoever waits for the run will notice

    def _ask(self, link: Link, watch: Watch) -> None:
        watch.asked = time.monotonic()
        link.send(messages.GiveWay(number=self._job))

    def tend(self) -> bool:
        """See to the process between runs. Returns whether the slot is ready for one."""
        link, now = self._link, time.monotonic()
        if link is None:
            self._start(now)
            return False
        if self._ready is None:
            return self._welcome(link, now)
        if vitals.resident_bytes(link.pid) > FULL_PART * self._limits.memory:
            log.warning("slot %d on %s keeps too much memory between runs: started afresh", self.number, self.device)
            self._drop()
        elif not link.alive():
            log.warning("slot %d on %s lost its process between runs", self.number, self.device)
            self._drop()
        return self._ready is not None

    def _start(self, now: float) -> None:
        if now < self._again or not self._breaker.may_start(now):
            return
        try:
            self._started, self._link = now, Link(self.device, self._terms)
        except OSError as error:
            self._lost(None, f"no process can be started: {error.strerror}")

    def _welcome(self, link: Link, now: float) -> bool:
        """Hear what a new process says of its device."""
        try:
            message = link.receive(LOOK_SECONDS)
        except (Dead, Rejected) as error:
            self._lost(None, str(error))
            return False
        if isinstance(message, messages.Broken):
            self._lost(None, message.why)
        elif isinstance(message, messages.Ready):
            self._ready = message
            log.info("slot %d on %s is process %d", self.number, self.device, link.pid)
            if self._breaker.out_since is not None or not self._told:
                self._breaker.worked()
                self._told = True
                self._tell(DeviceNews(device=self.device, in_service=True, why="it starts and computes"))
        elif now - self._started > START_SECONDS:
            self._lost(None, f"its process did not start within {START_SECONDS:g} s")
        return self._ready is not None

    def run(self, work: Work, scratch: Path) -> Answer:
        """See one run through. The slot is free again when this returns or raises.

        Raises GaveWay when it was stopped for something else; OutOfMemory, Transient, Rejected, Misconfigured when it
        failed, by itself or with its process.
        """
        try:
            return self._run(work, scratch)
        except _Killed as killed:
            self._after(killed, work)
            raise killed.error from None
        finally:
            scratch.unlink(missing_ok=True)
            self.vacate(work.task)

    def close(self) -> None:
        """End the process."""
        link, self._link, self._ready = self._link, None, None
        if link is not None:
            link.end()

    def _run(self, work: Work, scratch: Path) -> Answer:
        link, watch = self._begin(work, scratch)
        while True:
            try:
                message = link.receive(LOOK_SECONDS)
            except (Dead, Rejected) as error:
                raise _Killed(Transient(f"{_name(work)}: its process died: {error}"), blame=True) from error
            now = time.monotonic()
            if isinstance(message, messages.Alive) and message.number == self._job:
                watch.passed(now)
            elif message is not None:
                return self._end(message, work, scratch)
            verdict = watch.judge(now, vitals.cpu_seconds(link.pid), vitals.resident_bytes(link.pid))
            if verdict is not None:
                raise _killed_for(verdict, work)
            if self.stopping is not None and now - self.stopping > self._limits.grace:
                raise _Killed(GaveWay("the worker stops"), blame=False)

    def _begin(self, work: Work, scratch: Path) -> tuple[Link, Watch]:
        watch = Watch(started=time.monotonic(), deadline=work.package.manifest.deadline_seconds, limits=self._limits)
        with self._lock:
            link, taken = self._link, self._occupied
            if taken is None or taken.asked:
                raise GaveWay("something urgent came before it began")
            if link is None or self._ready is None:
                raise GaveWay("its slot lost its process before it began")
            self._job += 1
        job = messages.Job(
            number=self._job, request=work.request, package=work.package, need=work.need,
            processor=work.processor, pinned=work.pinned, scratch=scratch, variant=work.variant,
        )  # fmt: skip
        try:
            link.send(job)
            with self._lock:
                taken.watch = watch
                if taken.asked:
                    self._ask(link, watch)
        except Dead as error:
            raise _Killed(GaveWay("its slot lost its process before it began"), blame=False) from error
        return link, watch

    def _end(self, message: Any, work: Work, scratch: Path) -> Answer:
        if isinstance(message, messages.Broken):
            raise _Killed(Transient(f"{_name(work)}: its process ended: {message.why}"), blame=True)
        if not isinstance(message, _ENDS) or message.number != self._job:
            raise _Killed(Transient(f"{_name(work)}: its process answered another question"), blame=True)
        self._warm = message.warm
        self._breaker.worked()
        if isinstance(message, messages.MadeWay):
            raise GaveWay("something urgent came")
        if isinstance(message, messages.Failed):
            raise _error_of(message)
        try:
            outcome = parcel.unpack(message.answer, message.sizes, scratch)
        except Rejected as error:
            raise _Killed(Transient(f"{_name(work)}: {error}"), blame=True) from error
        if not isinstance(outcome, Outcome):
            raise _Killed(Transient(f"{_name(work)}: its process gave no outcome"), blame=True)
        return Answer(outcome=outcome, measured=message.measured)

    def _after(self, killed: _Killed, work: Work) -> None:
        if killed.blame:
            self._lost(work.package.digest, str(killed.error))
        else:
            self._drop()

    def _lost(self, package: str | None, why: str) -> None:
        """The process is of no use any more."""
        log.warning("slot %d on %s lost its process: %s", self.number, self.device, why)
        self._drop()
        now = time.monotonic()
        if package is None:
            self._again = now + AGAIN_SECONDS
        if self._breaker.failed(package, why, now):
            log.error("%s is out of service: %s", self.device, why)
            self._tell(DeviceNews(device=self.device, in_service=False, why=why))

    def _drop(self) -> None:
        with self._lock:
            link, self._link, self._ready, self._warm = self._link, None, None, frozenset()
        if link is not None:
            link.kill()


class _Killed(Exception):
    """The process must go; ``error`` is what the run ends with, ``blame`` whether it speaks against the device."""

    def __init__(self, error: NodeError | GaveWay, *, blame: bool) -> None:
        super().__init__(str(error))
        self.error, self.blame = error, blame


def _name(work: Work) -> str:
    return f"{work.package.manifest.id} on series {work.request.series_uid}"


def _killed_for(verdict: Verdict, work: Work) -> _Killed:
    text = f"{_name(work)} was stopped: {verdict.value}"
    if verdict is Verdict.WAY:
        return _Killed(GaveWay("something urgent came, and it reached no checkpoint"), blame=False)
    if verdict is Verdict.MEMORY:
        return _Killed(OutOfMemory(text), blame=False)
    return _Killed(Transient(text), blame=True)


def _error_of(failed: messages.Failed) -> NodeError:
    kinds: dict[messages.Remedy, type[NodeError]] = {
        messages.Remedy.RETRY: Transient,
        messages.Remedy.MEMORY: OutOfMemory,
        messages.Remedy.REJECT: Rejected,
        messages.Remedy.MEND: Misconfigured,
    }
    return kinds[failed.remedy](failed.why)
