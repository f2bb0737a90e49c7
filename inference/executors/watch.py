"""Decides from the outside whether a run still deserves its process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may take; seconds, and bytes."""

    stall: float  #: without a checkpoint, or without any work
    give_way: float  #: from the order to end to the next checkpoint
    memory: int  #: of the process
    grace: float  #: to end by itself when the worker stops


class Verdict(StrEnum):
    """Why a process is killed."""

    DEADLINE = "it ran longer than its package allows"
    STALLED = "it passed no checkpoint any more"
    IDLE = "it did nothing"
    MEMORY = "it took more memory than a slot may have"
    WAY = "it did not make way"


@dataclass(slots=True, kw_only=True)
class Watch:
    """The signs of life of one run. Times are seconds on one clock."""

    started: float
    deadline: float  #: seconds of run
    limits: Limits
    checkpoints: int = 0
    asked: float | None = None  #: when it was told to give way
    _seen: float = 0.0  #: last checkpoint
    _worked: float = 0.0  #: when processor time was last seen to grow
    _used: float = 0.0  #: processor time, seconds

    def passed(self, now: float) -> None:
        """A checkpoint was reported."""
        self.checkpoints += 1
        self._seen = now

    def judge(self, now: float, used: float, resident: int) -> Verdict | None:
        """What is wrong, given the processor time (seconds) and the memory (bytes) of the process; None: nothing."""
        if used > self._used:
            self._used, self._worked = used, now
        if now - self.started > self.deadline:
            return Verdict.DEADLINE
        if resident > self.limits.memory:
            return Verdict.MEMORY
        if self.asked is not None and now - self.asked > self.limits.give_way:
            return Verdict.WAY
        # A run without checkpoints may compute in silence up to its deadline: not every algorithm has patches.
        if self.checkpoints and now - max(self._seen, self.started) > self.limits.stall:
            return Verdict.STALLED
        if now - max(self._seen, self._worked, self.started) > self.limits.stall:
            return Verdict.IDLE
        return None
