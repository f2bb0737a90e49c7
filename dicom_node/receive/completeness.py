"""When is a series complete? One interface, ``Completeness``, and what a source's answers mean. All of it is pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from dicom_node.config import ReceiveSection
from dicom_node.receive import gaps
from dicom_node.receive.shape import UNSAID, Shape, holds
from storage.facts.arrival import Evidence

ASK_SECONDS = 0.2  #: after the end of an association, before the source is asked
ASK_OPEN_SECONDS = 3.0  #: after the last object, while an association stays open
ASK_AGAIN_SECONDS = (1.0, 30.0)  #: the least and the most between two questions
#: That equal numbers must last where several associations brought the series, at least; and wherever, at most.
SETTLE_SECONDS, SETTLED_SECONDS = 0.7, 2.0
STEADY_SECONDS = 5.0  #: after which a number that the source said before everything was here is its last
#: The same in times the mean gap between objects: after one association, after several, while one is still open.
ONE_GAPS, CLOSED_GAPS, OPEN_GAPS = 3.0, 6.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """When the series counts as complete if nothing more is heard, and why then."""

    at: float  #: seconds since the epoch
    why: str


class Completeness(Protocol):
    """Decides from evidence. Asked again whenever something happens to the series."""

    def __call__(self, evidence: Evidence) -> Due:
        """The moment from which the series is complete, or from which its source should be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietTime:
    """A quiet time after the last association ended; longer ones where less is certain. See receive.gaps."""

    settings: ReceiveSection

    def __call__(self, evidence: Evidence) -> Due:
        """See Completeness."""
        habit = evidence.habit
        if habit is not None and evidence.last_ending not in ("aborted", "lost"):
            why = f"{habit.series:.0f} series of this source made no pause longer than {habit.pause:.1f} s"
            if evidence.open_associations:
                return Due(at=evidence.last_at + gaps.quiet_time(habit, ASK_OPEN_SECONDS), why=why)
            return Due(at=max(evidence.last_at, evidence.last_closed_at) + gaps.quiet_time(habit), why=why)
        if evidence.open_associations:
            return Due(
                at=evidence.last_at + self.settings.quiet_seconds_open,
                why="an association that carried it is still open",
            )
        if evidence.last_ending in ("aborted", "lost"):
            return Due(
                at=max(evidence.last_at, evidence.last_closed_at) + self.settings.quiet_seconds_broken,
                why=f"its last association was {evidence.last_ending}: the sender may try again",
            )
        return Due(
            at=max(evidence.last_at, evidence.last_closed_at) + self.settings.quiet_seconds,
            why="its associations were released",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTheSource:
    """The moment from which notices, the source's own word or its headers decide; a quiet time where there is none."""

    quiet: QuietTime
    askable: frozenset[str]  #: calling AE titles

    def __call__(self, evidence: Evidence) -> Due:
        """See Completeness."""
        stated, ended = evidence.stated, max(evidence.last_at, evidence.last_closed_at)
        if exhaustive(evidence):
            pause = SETTLE_SECONDS if evidence.open_associations else 0.0
            return Due(at=evidence.last_at + pause, why=f"{stated.by}: all that it names is here")
        if stated.awaits:
            at = evidence.last_at + self.quiet.settings.quiet_seconds_step
            return Due(at=at, why=f"more of it is to come: {stated.awaits}")
        who = "the source can be asked" if evidence.series.calling_ae in self.askable else "its headers state a number"
        if evidence.series.calling_ae not in self.askable and not holds(evidence.counts):
            return self.quiet(evidence)
        if evidence.open_associations:
            usual = ASK_OPEN_SECONDS if evidence.habit is None else gaps.quiet_time(evidence.habit)
            pause = SETTLE_SECONDS if holds(evidence.counts) else min(usual, ASK_OPEN_SECONDS)
            return Due(at=evidence.last_at + pause, why=f"its association is open, {who}")
        return Due(at=ended + ASK_SECONDS, why=who)


def exhaustive(evidence: Evidence) -> bool:
    """Whether a finished step, an archive or a ready input names just what is here.

    One that names less says nothing of the rest.
    """
    stated = evidence.stated
    return stated.objects > 0 and not stated.missing and stated.objects == evidence.series.instances


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the source's answer means."""

    complete: bool
    why: str
    again: float = 0.0  #: seconds since the epoch; when to look again
    missing: int = 0


def judge(
    evidence: Evidence,
    expected: int | None,
    settings: ReceiveSection,
    now: float,
    shape: Shape = UNSAID,
    said_since: float = math.inf,
    asked: bool = True,
) -> Judgement:
    """Weigh what the source says it has, and what the headers say there is, against what is here.

    ``expected`` is None where the source does not tell, or is not ``asked``; it has said that number ``said_since``.
    Times are seconds since the epoch.
    """
    here = evidence.series.instances
    if exhaustive(evidence):
        return Judgement(complete=True, why=f"{evidence.stated.by} names {here} objects of it, all are here")
    if evidence.stated.missing and (expected is None or expected <= here):
        named = here + evidence.stated.missing
        return _lacking(evidence, named, f"{evidence.stated.by} names {named} objects", settings, now)
    if expected is not None and expected > here:
        return _lacking(evidence, expected, f"the source has {expected} objects of it", settings, now)
    if holds(evidence.counts) and shape.whole:
        pause = SETTLE_SECONDS if evidence.open_associations else 0.0
        return _from(evidence.last_at + pause, now, f"its headers state {shape.stated} images, all are here")
    patience, cut = _patience(evidence, shape, settings, expected == here)
    if expected == here:
        settled = max(_settled(evidence, settings, said_since), patience)
        why = f"the source has {expected} objects of it, all are here"
        return _from(settled, now, why, cut or "but the source may still receive")
    quiet = QuietTime(settings=settings)(evidence)
    never = shape.lacking if holds(evidence.counts) else 0
    says = ("the source does not tell" if asked else "", quiet.why, cut)
    return _from(max(quiet.at, patience), now, "; ".join(filter(None, says)), missing=never)


def _from(at: float, now: float, why: str, until: str = "", missing: int = 0) -> Judgement:
    """Complete from a moment on; what is missing then never came."""
    if now >= at:
        return Judgement(complete=True, why=why, missing=missing)
    return Judgement(complete=False, why=", ".join(filter(None, (why, until))), again=at, missing=missing)


def _patience(evidence: Evidence, shape: Shape, settings: ReceiveSection, equal: bool) -> tuple[float, str]:
    """Until when more is waited for that the headers speak of, and what they say; ``equal``: the source has no more."""
    sure = holds(evidence.counts)
    if shape.lacking and sure:
        wait, why = settings.quiet_seconds_step, f"its headers state {shape.stated} images, {shape.here} came"
    elif shape.holes:
        wait = settings.quiet_seconds if equal else settings.quiet_seconds_broken
        why = f"{shape.holes} places within it have no image"
    elif shape.lacking and sure is None and not equal:
        wait, why = settings.quiet_seconds_broken, f"its headers may mean {shape.stated} images, {shape.here} came"
    else:
        return 0.0, ""
    return evidence.last_at + wait, why


def _lacking(evidence: Evidence, expected: int, says: str, settings: ReceiveSection, now: float) -> Judgement:
    """More exists than is here: it is waited for, up to a limit."""
    missing, give_up = expected - evidence.series.instances, evidence.last_at + settings.incomplete_after_seconds
    if now >= give_up:
        return Judgement(complete=True, why=f"given up: {says}, {missing} never came", missing=missing)
    least, most = ASK_AGAIN_SECONDS
    again = now + min(max((now - evidence.last_at) / 2, least), most)
    return Judgement(
        complete=False, why=f"{says}, {missing} are not here yet", again=min(again, give_up), missing=missing
    )


def _settled(evidence: Evidence, settings: ReceiveSection, said_since: float) -> float:
    """From when equal numbers are believed.

    The source may itself still be receiving, object by object, and have released its association meanwhile. So equal
    numbers must last for some times the pace at which the objects came; that is short where a whole series was sent at
    once, longer where several associations brought it, unless the source has said its number for long. By a workflow
    manager to which it is ready, it has no more.
    """
    if evidence.stated.whole:
        return evidence.last_at + (SETTLE_SECONDS if evidence.open_associations else 0.0)
    if evidence.open_associations:
        longest = settings.quiet_seconds_open if evidence.habit is None else gaps.quiet_time(evidence.habit)
        return evidence.last_at + min(max(OPEN_GAPS * evidence.gap, ASK_OPEN_SECONDS), longest)
    ended = max(evidence.last_at, evidence.last_closed_at)
    if evidence.associations <= 1 and evidence.series.instances > 1:
        return ended + min(ONE_GAPS * evidence.gap, SETTLED_SECONDS)
    return min(
        ended + min(max(CLOSED_GAPS * evidence.gap, SETTLE_SECONDS), SETTLED_SECONDS), said_since + STEADY_SECONDS
    )
