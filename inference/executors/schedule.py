"""Which waiting run a slot takes next, and which running one gives way. Pure: decided on values, without a clock.

STAT comes first, always. Below it a HIGH run counts as one that has waited ``ageing`` seconds longer than it has, so
that a routine run waits at most that much longer than the urgent ones that came after it. Among runs of nearly the same
rank a slot takes one whose model it has loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.facts.study import Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the order is made; all in seconds."""

    ageing: float  #: what HIGH is worth in waiting
    warm: float  #: by how much a run may overtake an older one because its model is loaded
    worth: float  #: what a HIGH run must gain at least, for a routine one to be stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A run that waits."""

    task: int
    package: str  #: digest
    urgency: Urgency
    since: float  #: seconds since the epoch
    places: frozenset[int]  #: slots that may take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that goes on."""

    task: int
    urgency: Urgency
    elapsed: float  #: seconds
    expected: float | None  #: seconds from start to end, as measured before; None where nothing is known
    giving_way: bool = False
    gave_way: bool = False  #: it was stopped before: for HIGH it is not stopped twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A slot."""

    number: int
    free: bool  #: it could begin now
    warm: frozenset[str] = frozenset()  #: digests of packages
    run: Run | None = None


def rank(wish: Wish, policy: Policy, now: float) -> tuple[bool, float]:
    """The greater, the sooner."""
    head_start = policy.ageing if wish.urgency is Urgency.HIGH else 0.0
    return wish.urgency is Urgency.STAT, now - wish.since + head_start


def pick(me: Place, wishes: Iterable[Wish], places: Sequence[Place], policy: Policy, now: float) -> Wish | None:
    """What this slot should take; None when there is nothing, or when another free slot has the model."""
    mine = sorted((w for w in wishes if me.number in w.places), key=lambda w: rank(w, policy, now), reverse=True)
    if not mine:
        return None
    stat, first = rank(mine[0], policy, now)
    patience = 0.0 if stat else policy.warm  # a STAT is not overtaken
    near = [w for w in mine if rank(w, policy, now) >= (stat, first - patience)]
    warm = [w for w in near if w.package in me.warm]
    if warm:
        return warm[0]
    others = [place for place in places if place.number != me.number]
    cold = [w for w in near if not _warm_at(w, others)]
    if cold:
        return cold[0]
    # All of them are loaded elsewhere: leave them to slots that are free, take one from a slot that is at work.
    return next((w for w in near if not _warm_at(w, [p for p in others if p.free])), None)


def make_way(wishes: Iterable[Wish], places: Sequence[Place], policy: Policy, now: float) -> list[int]:
    """Slots whose run should end at its next checkpoint, so that something more urgent can begin."""
    ordered = sorted((w for w in wishes if w.urgency is not Urgency.ROUTINE), key=lambda w: rank(w, policy, now))
    left, stopped = {place.number: place for place in places}, []
    while ordered:
        wish = ordered.pop()
        suitable = [left[number] for number in sorted(wish.places) if number in left]
        ready = next((p for p in suitable if p.free or (p.run is not None and p.run.giving_way)), None)
        chosen = ready or min((p for p in suitable if _yields(p, wish, policy)), key=_loss, default=None)
        if chosen is None:
            continue
        if ready is None:
            stopped.append(chosen.number)
        del left[chosen.number]
    return stopped


def _warm_at(wish: Wish, places: Iterable[Place]) -> bool:
    return any(wish.package in place.warm and place.number in wish.places for place in places)


def _loss(place: Place) -> tuple[int, float]:
    return (0, 0.0) if place.run is None else (int(place.run.urgency), place.run.elapsed)


def _yields(place: Place, wish: Wish, policy: Policy) -> bool:
    run = place.run
    if run is None or run.urgency >= wish.urgency:
        return False
    if wish.urgency is Urgency.STAT:
        return True
    if run.expected is None or run.gave_way:
        return False
    remaining = run.expected - run.elapsed
    return remaining >= max(policy.worth, run.elapsed)  # more is gained than is thrown away
