"""When would inference have started? Replays arrival traces against our completeness policy and fixed quiet times.

``python -m benchmarks.arrival [--traces 1300] [--seed 1]`` prints a table: median and 99th percentile of (start minus
last object), and how often a series was started before its last object had come.

What the generator assumes: a scanner makes the objects of a series one after another; the archive has each at once; it
forwards each after a lag of its own, over one association or one an object. Series have 20 to 800 objects, made every
5 to 400 ms.

- stalls: 90 s in the middle, over two associations; of the archive's forwarding, or of the scanner itself, which no
  question to the archive can tell, but its MPPS, which ends a second after its last object; or, of a source that
  cannot be asked, a workflow manager, which reports by UPS that the input is incomplete, and a second after the last
  object that it is READY, naming its objects;
- forwarded whole: the archive forwards only when the scanner has ended, as after a stable time;
- duplicates: an association is aborted in the middle, another sends everything again;
- out of order: objects are forwarded in random order over four associations;
- never released: the archive keeps its association;
- counts: the headers state how many images the series has, as those of this source have always done;
- cannot be asked: steady, bursty or forwarded whole, from a source without C-FIND.

A second table is about sources without C-FIND alone: 40 senders, each with habits of its own (pace 5 to 400 ms; after
one object in fifty a pause, log-normal with a median of 0.4 times 0, 0.5, 2, 4, 8 or 20 s and a long tail; one
association a series or one an object; some never release). The policy learns from 100 series of each and is replayed on
30 others.
"""

from __future__ import annotations

import argparse
import bisect
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from dicom_node.config import ReceiveSection
from dicom_node.receive.completeness import AskTheSource, QuietTime, judge
from dicom_node.receive.gaps import habit_of
from dicom_node.receive.shape import UNSAID, Shape
from storage.facts.arrival import Evidence, Habit, Stated, Tally, pause_bin
from storage.facts.study import Series

SETTINGS = ReceiveSection()
FOREVER = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One series on its way; times in seconds from the first object."""

    kind: str
    made: tuple[float, ...]  #: when the archive has each object
    arrived: tuple[tuple[float, int], ...]  #: when which object reached the node, in order
    opened: tuple[float, ...]  #: associations
    closed: tuple[float, ...]
    askable: bool = True
    teller: str = ""  #: MPPS or UPS: who says that it begins and, a second after its last object, what was made
    habit: Habit | None = None  #: what was learned of its source
    counted: bool = False  #: whether its headers state how many images it has

    @property
    def last(self) -> float:
        """When the last object that the node had not seen before came."""
        seen: set[int] = set()
        last = 0.0
        for at, number in self.arrived:
            if number not in seen:
                seen.add(number)
                last = at
        return last


def steady(dice: random.Random, kind: str) -> Trace:
    """One association; objects follow each other as they are made."""
    made = _made(dice)
    lag = dice.uniform(0.01, 0.5)
    arrived = [(at + lag + dice.uniform(0, 0.05), n) for n, at in enumerate(made)]
    return _trace(kind, made, arrived, [(0.0, arrived[-1][0] + dice.uniform(0.01, 0.3))])


def bursty(dice: random.Random, kind: str) -> Trace:
    """Objects come in bursts, with pauses of up to 8 s while the association stays open."""
    made = _made(dice)
    at, arrived = 0.0, []
    for n, ready in enumerate(made):
        at = max(at + 0.005, ready) + (dice.uniform(1, 8) if dice.random() < 0.02 else 0)
        arrived.append((at, n))
    return _trace(kind, made, arrived, [(0.0, at + 0.1)])


def one_each(dice: random.Random, kind: str) -> Trace:
    """One association an object, forwarded while the scanner still works."""
    made = _made(dice)
    arrived = [(at + dice.uniform(0.02, 0.6), n) for n, at in enumerate(made)]
    return _trace(kind, made, arrived, [(at - 0.01, at + 0.005) for at, _ in arrived])


def scanner_stall(dice: random.Random, kind: str) -> Trace:
    """The scanner pauses 90 s in the middle; the archive has no more and releases its association meanwhile."""
    made = list(_made(dice))
    middle = len(made) // 2
    made[middle:] = [at + 90 for at in made[middle:]]
    arrived = [(at + 0.1, n) for n, at in enumerate(made)]
    first, second = arrived[middle - 1][0], arrived[-1][0]
    return _trace(kind, tuple(made), arrived, [(0.0, first + 0.2), (arrived[middle][0] - 0.1, second + 0.2)])


def stall_with_step(dice: random.Random, kind: str) -> Trace:
    """The same from a scanner that sends MPPS."""
    return replace(scanner_stall(dice, kind), teller="MPPS")


def stall_with_manager(dice: random.Random, kind: str) -> Trace:
    """The same from a source that cannot be asked, in a department whose workflow manager sends UPS."""
    return replace(scanner_stall(dice, kind), teller="UPS", askable=False)


def one_each_counted(dice: random.Random, kind: str) -> Trace:
    """One association an object, from a scanner that states how many it makes."""
    return replace(one_each(dice, kind), counted=True)


def stall_counted(dice: random.Random, kind: str) -> Trace:
    """A scanner that pauses 90 s and states how many it makes; every other source cannot be asked."""
    return replace(scanner_stall(dice, kind), counted=True, askable=dice.random() < 0.5)


def never_released_counted(dice: random.Random, kind: str) -> Trace:
    """The association stays open for ever; how many are made is stated."""
    return replace(never_released(dice, kind), counted=True)


def unaskable_counted(dice: random.Random, kind: str) -> Trace:
    """From a source without C-FIND, of scanners that state how many they make."""
    return replace(unaskable(dice, kind), counted=True)


def forwarding_stall(dice: random.Random, kind: str) -> Trace:
    """The archive has everything but pauses 90 s in the middle of forwarding, in a second association."""
    made = _made(dice)
    middle = len(made) // 2
    arrived = [(at + (0.1 if n < middle else 90.0), n) for n, at in enumerate(made)]
    first, second = arrived[middle - 1][0], arrived[-1][0]
    return _trace(kind, made, arrived, [(0.0, first + 0.2), (arrived[middle][0] - 0.1, second + 0.2)])


def forwarded_whole(dice: random.Random, kind: str) -> Trace:
    """Forwarded only once the archive has everything, at the speed of the wire."""
    made = _made(dice)
    start = made[-1] + dice.uniform(1, 60)
    arrived = [(start + n * dice.uniform(0.002, 0.02), n) for n in range(len(made))]
    arrived.sort()
    return _trace(kind, made, arrived, [(start - 0.1, arrived[-1][0] + 0.05)])


def out_of_order(dice: random.Random, kind: str) -> Trace:
    """Forwarded in random order over four associations at once."""
    whole = forwarded_whole(dice, kind)
    numbers = list(range(len(whole.made)))
    dice.shuffle(numbers)
    arrived = [(at, n) for (at, _), n in zip(whole.arrived, numbers, strict=True)]
    end = arrived[-1][0]
    spans = [(whole.opened[0], end + dice.uniform(0.01, 0.3)) for _ in range(4)]
    return _trace(kind, whole.made, arrived, spans)


def duplicates(dice: random.Random, kind: str) -> Trace:
    """A part comes twice, over an association that is aborted and one that repeats it."""
    whole = forwarded_whole(dice, kind)
    cut = len(whole.made) // 2
    middle = whole.arrived[cut][0]
    again = [(at + 5.0, n) for at, n in whole.arrived]
    arrived = [*whole.arrived[:cut], *again]
    return _trace(kind, whole.made, sorted(arrived), [(whole.opened[0], middle), (middle + 4, again[-1][0] + 0.05)])


def never_released(dice: random.Random, kind: str) -> Trace:
    """The association stays open for ever."""
    trace = steady(dice, kind)
    return _trace(kind, trace.made, list(trace.arrived), [(0.0, FOREVER)])


def never_released_known(dice: random.Random, kind: str) -> Trace:
    """The same from a source of which 100 series were seen."""
    return replace(never_released(dice, kind), habit=_known())


def unaskable(dice: random.Random, kind: str) -> Trace:
    """From a source without C-FIND."""
    trace = dice.choice((steady, bursty, forwarded_whole))(dice, kind)
    return Trace(
        kind=kind, made=trace.made, arrived=trace.arrived, opened=trace.opened, closed=trace.closed, askable=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A source that cannot be asked, with its habits."""

    pace: float  #: seconds between two objects
    pause: float  #: what its pauses are multiples of, seconds
    one_each: bool  #: an association an object
    releases: bool

    def series(self, dice: random.Random, kind: str) -> Trace:
        """One series as it sends them."""
        at, arrived = 0.0, []
        for n in range(dice.randint(20, 400)):
            at += self.pace * dice.uniform(0.5, 1.5)
            at += self.pause * dice.lognormvariate(-0.9, 0.5) if dice.random() < 0.02 else 0.0
            arrived.append((at, n))
        end = at + dice.uniform(0.01, 0.3) if self.releases else FOREVER
        spans = [(at - 0.001, at + 0.001) for at, _ in arrived] if self.one_each else [(0.0, end)]
        trace = _trace(kind, tuple(at for at, _ in arrived), arrived, spans)
        return replace(trace, askable=False)


def a_sender(dice: random.Random) -> Sender:
    """A source with habits."""
    return Sender(
        pace=dice.uniform(0.005, 0.4),
        pause=dice.choice((0.0, 0.5, 2.0, 4.0, 8.0, 20.0)),
        one_each=dice.random() < 0.4,
        releases=dice.random() < 0.8,
    )


@cache
def _known() -> Habit | None:
    return learned(Sender(pace=0.4, pause=0.0, one_each=False, releases=False), random.Random(1), 100)


def learned(sender: Sender, dice: random.Random, series: int) -> Habit | None:
    """What the node knows of a sender after some series."""
    histogram: dict[int, float] = {}
    for _ in range(series):
        arrived = sender.series(dice, "").arrived
        number = pause_bin(max(b[0] - a[0] for a, b in pairwise(arrived)))
        histogram[number] = histogram.get(number, 0.0) + 1.0
    return habit_of(histogram)


GENERATORS: dict[str, Callable[[random.Random, str], Trace]] = {
    "steady": steady, "bursty": bursty, "one association an object": one_each,
    "forwarding stalls 90 s": forwarding_stall, "scanner stalls 90 s": scanner_stall,
    "scanner stalls 90 s, MPPS": stall_with_step, "scanner stalls 90 s, UPS": stall_with_manager,
    "forwarded whole": forwarded_whole, "out of order, 4 associations": out_of_order, "duplicates": duplicates,
    "never released": never_released, "never released, learned": never_released_known, "cannot be asked": unaskable,
    "one association an object, counts": one_each_counted, "scanner stalls 90 s, counts": stall_counted,
    "never released, counts": never_released_counted, "cannot be asked, counts": unaskable_counted,
}  # fmt: skip


def _made(dice: random.Random) -> tuple[float, ...]:
    step = dice.uniform(0.005, 0.4)
    at, made = 0.0, []
    for _ in range(dice.randint(20, 800)):
        made.append(at)
        at += step * dice.uniform(0.5, 1.5)
    return tuple(made)


def _trace(
    kind: str, made: tuple[float, ...], arrived: list[tuple[float, int]], spans: list[tuple[float, float]]
) -> Trace:
    return Trace(
        kind=kind,
        made=made,
        arrived=tuple(sorted(arrived)),
        opened=tuple(a for a, _ in spans),
        closed=tuple(b for _, b in spans),
    )


def ours(trace: Trace, habit: Habit | None = None) -> Iterator[float]:
    """When our policy starts the series: the first time it is complete on what is known."""
    quiet = QuietTime(settings=SETTINGS)
    policy = AskTheSource(quiet=quiet, askable=frozenset({"A"}) if trace.askable else frozenset())
    watch = Watch(trace)
    told = {trace.made[-1] + 1} if trace.teller else set()
    moments = sorted({at for at, _ in trace.arrived} | {c for c in trace.closed if c < FOREVER} | told)
    now = moments[0]
    index, said, since = 0, -1, FOREVER
    while True:
        while index < len(moments) and moments[index] <= now:
            index += 1
        upcoming = moments[index] if index < len(moments) else FOREVER
        evidence = replace(watch.evidence(now), habit=habit or trace.habit)
        due = policy(evidence).at
        if due > now:
            now = min(due, upcoming)
            continue
        expected = bisect.bisect_right(trace.made, now) if trace.askable else None
        if expected is not None and expected != said:
            said, since = expected, now
        judgement = judge(evidence, expected, SETTINGS, now, watch.shape(evidence), since, trace.askable)
        if judgement.complete:
            yield now
            return
        now = min(max(judgement.again, now + 0.01), upcoming)


def fixed(seconds: float) -> Callable[[Trace], Iterator[float]]:
    """A timer that starts anew with each object: what others do."""

    def start(trace: Trace) -> Iterator[float]:
        previous = trace.arrived[0][0]
        for at, _ in trace.arrived[1:]:
            if at - previous > seconds:
                break
            previous = at
        yield previous + seconds

    return start


class Watch:
    """What the node knows of a trace as time goes on."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._times = [at for at, _ in trace.arrived]
        self._opened, self._closed = sorted(trace.opened), sorted(trace.closed)
        seen: set[int] = set()
        self._objects = []  # different ones, after each arrival
        for _, number in trace.arrived:
            seen.add(number)
            self._objects.append(len(seen))

    def evidence(self, now: float) -> Evidence:
        """What would be read from the ledger."""
        came = bisect.bisect_right(self._times, now)
        opened, closed = bisect.bisect_right(self._opened, now), bisect.bisect_right(self._closed, now)
        objects = self._objects[came - 1] if came else 0
        series = Series(
            series_uid="1", study_uid="1", modality="CT", calling_ae="A", called_ae="N", revision=0, instances=objects,
            header={},
        )  # fmt: skip
        last_at = self._times[came - 1] if came else 0.0
        return Evidence(
            series=series,
            complete_instances=0,
            last_at=last_at,
            open_associations=opened - closed,
            last_closed_at=self._closed[closed - 1] if closed else 0.0,
            last_ending="released",
            associations=opened,
            gap=(last_at - self._times[0]) / max(objects - 1, 1),
            stated=self._stated(now, objects),
            counts=Tally(kept=100.0) if self._trace.counted else None,
        )

    def shape(self, evidence: Evidence) -> Shape:
        """What its headers say."""
        if not self._trace.counted:
            return UNSAID
        return Shape(stated=len(self._trace.made), here=evidence.series.instances, telling=True)

    def _stated(self, now: float, here: int) -> Stated:
        made, teller = self._trace.made, self._trace.teller
        if not teller:
            return Stated()
        if now < made[-1] + 1:
            return Stated(awaits=teller)
        return Stated(objects=len(made), missing=len(made) - here, by=teller)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    each = arguments.traces // len(GENERATORS) + 1
    policies = {"ours": ours, "fixed 5 s": fixed(5.0), "fixed 60 s": fixed(60.0)}
    print("| trace | policy | median s | 99 % s | premature |")
    print("|-|-|-|-|-|")
    total: dict[str, list[tuple[float, bool]]] = {name: [] for name in policies}
    for kind, generate in GENERATORS.items():
        traces = [generate(dice, kind) for _ in range(each)]
        for name, policy in policies.items():
            starts = [(next(iter(policy(t))), t.last) for t in traces]
            total[name] += [(start - last, start < last) for start, last in starts]
            _row(kind, name, total[name][-each:])
    for name, rows in total.items():
        _row("all", name, rows)
    without_query(dice)


def without_query(dice: random.Random, senders: int = 40, known: int = 100, replayed: int = 30) -> None:
    """The table of sources that cannot be asked, by the pauses that they make."""
    print("\n| pauses of the sender | policy | median s | 99 % s | premature |")
    print("|-|-|-|-|-|")
    found: dict[tuple[float, str], list[tuple[float, bool]]] = {}
    for _ in range(senders):
        sender = a_sender(dice)
        habit = learned(sender, dice, known)
        for _ in range(replayed):
            trace = sender.series(dice, "")
            starts = {
                "ours, nothing known": ours(trace), "ours, learned": ours(trace, habit),
                "fixed 5 s": fixed(5.0)(trace), "fixed 60 s": fixed(60.0)(trace),
            }  # fmt: skip
            for name, start in starts.items():
                at = next(start)
                found.setdefault((sender.pause, name), []).append((at - trace.last, at < trace.last))
    for (pause, name), rows in sorted(found.items(), key=lambda item: item[0][0]):
        _row(f"{pause:g} s", name, rows)
    for name in ("ours, nothing known", "ours, learned", "fixed 5 s", "fixed 60 s"):
        _row("all", name, [row for (_, n), rows in found.items() if n == name for row in rows])


def _row(kind: str, name: str, rows: list[tuple[float, bool]]) -> None:
    waits = sorted(wait for wait, premature in rows if not premature)
    early = 100 * sum(premature for _, premature in rows) / len(rows)
    median = statistics.median(waits) if waits else float("nan")
    worst = waits[min(int(len(waits) * 0.99), len(waits) - 1)] if waits else float("nan")
    print(f"| {kind} | {name} | {median:.2f} | {worst:.2f} | {early:.1f} % |")


if __name__ == "__main__":
    main()
