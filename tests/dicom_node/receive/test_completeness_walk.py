"""Random histories of series against a small oracle: nothing starts too early, twice, or never.

Real index, real stage, real files and SQL; only the time is the test's own.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import pytest

from dicom_node.config import ReceiveSection
from dicom_node.receive.assembly import Assembly, expect
from dicom_node.receive.completeness import AskTheSource, QuietTime
from dicom_node.receive.events import Began, Closed, Event, Opened
from dicom_node.receive.fetching import Fetching
from dicom_node.receive.index import Index
from dicom_node.receive.landing import Landed, Origin
from storage import upkeep
from storage.facts.arrival import AVAILABLE, COMPLETED, DISCONTINUED, IN_PROGRESS, INCOMPLETE, READY, Notice, NoticeKind
from storage.facts.errors import Transient
from storage.facts.study import Header, Instance
from storage.facts.task import Kind, Task
from storage.ledger import Ledger
from storage.stage import Done, Handler, Stage

SETTINGS = ReceiveSection(quiet_seconds=5, quiet_seconds_open=20, quiet_seconds_broken=15)
POLICY = AskTheSource(quiet=QuietTime(settings=SETTINGS), askable=frozenset({"PACS"}))


class Time:
    """The machine's clocks, as the test has them run."""

    def __init__(self) -> None:
        self.now, self.steady = 1_800_000_000.0, 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.steady += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(time, "time", lambda: made.now)
    monkeypatch.setattr(time, "monotonic", lambda: made.steady)
    return made


class World:
    """One study that arrives in some way, and what is known of it beside the node."""

    def __init__(self, ledger: Ledger, clock: Time, seed: int, study: str, cuts: int = 0) -> None:
        self.ledger, self.clock, self.study, self.seed = ledger, clock, study, seed
        self.random, self.cuts = random.Random(seed), random.Random(cuts)  # what happens; how it is told
        self.decided: list[tuple[str, int, float]] = []
        self.series = [f"{study}.{n}" for n in range(1, 4)]
        self.open: list[str] = []
        self.closed: dict[str, tuple[float, str]] = {}
        self.carried: dict[str, set[str]] = defaultdict(set)  # series to associations
        self.home: dict[str, str] = {}  # object to the series that it came with first
        self.digests: dict[str, set[str]] = defaultdict(set)
        self.last: dict[str, float] = {}
        self.named: list[dict[str, str]] = []
        self.answer: int | None = None
        self.routed: list[str] = []
        self.pending: list[Event] = []
        self.number = 0
        self.index = self._index()
        (ledger.data / "incoming").mkdir(exist_ok=True)
        assembly = Assembly(
            ledger=ledger,
            completeness=POLICY,
            quiet=POLICY.quiet,
            sources={"PACS": self},
            fetching={"PACS"},
            read_header=_header,
        )
        self.stage = Stage(
            ledger=ledger,
            handlers={
                Kind.ASSEMBLE: Handler(work=assembly.work),
                Kind.FETCH: Fetching(ledger=ledger, sources={"PACS": self.fetch}).handler(),
                Kind.ROUTE: Handler(work=self._route),
            },
            actor="test",
            stop=threading.Event(),
        )

    def count(self, study_uid: str, series_uid: str) -> int | None:
        """See assembly.Source: odd at times, as archives are."""
        del study_uid
        here = sum(home == series_uid for home in self.home.values())
        odd = random.Random(f"{self.seed} {series_uid} {self.clock.now}")
        chosen = odd.choice((None, here, here, here + 2, -1, 0, "down"))
        if chosen == "down":
            raise Transient("it does not answer")
        self.answer = chosen if isinstance(chosen, int) else None
        return self.answer

    def fetch(self, study_uid: str, series_uid: str, here: Collection[str]) -> tuple[int, int]:
        """See fetching.Fetch: it promises, and sends nothing."""
        del study_uid, series_uid, here
        return 0, 0

    def tell(self, event: Event) -> None:
        """The index hears of it in a batch, sooner or later."""
        self.pending.append(event)
        if isinstance(event, Closed) or self.cuts.random() < 0.3:
            self.hand_over()

    def hand_over(self) -> None:
        batch, self.pending = self.pending, []
        if self.cuts.random() < 0.1:
            self.index.take(batch)  # it died before it could answer
            self.index = self._index()
        self.index.take(batch)

    def step(self) -> None:
        """One thing that happens."""
        what = self.random.random()
        if what < 0.12:
            name = f"{self.study}/a{self.number}"
            self.number += 1
            self.open.append(name)
            self.tell(Opened(origin=self._origin(name), at=self.clock.now))
        elif what < 0.55:
            self._land()
        elif what < 0.67 and self.open:
            name = self.open.pop(self.random.randrange(len(self.open)))
            self._close(name, self.random.choice(("released", "released", "aborted")))
            self.tell(Closed(association=name, ending=self.closed[name][1]))
        elif what < 0.72:
            self.hand_over()
            self._notice()
        elif what < 0.74:
            self.hand_over()
            for name in self.open:
                self._close(name, "lost")
            self.open = []
            self.index = self._index()
            self.index.take([Began(ae_title="N")])
        elif what < 0.76:
            self.hand_over()
            self.index = self._index()
        elif what < 0.77:
            self.clock.now += 3600.0
        elif what < 0.78:
            self._set_back(3600.0)
        else:
            self.hand_over()
            self.index.take([])
            self.work()
            self.clock.pass_by(self.random.choice((0.1, 1.0, 3.0, 6.0, 25.0)))

    def settle(self) -> None:
        """Nothing happens any more: every limit passes."""
        self.hand_over()
        for name in self.open:
            self._close(name, "released")
            self.index.take([Closed(association=name, ending="released")])
        self.open = []
        until = self.clock.now + SETTINGS.incomplete_after_seconds + SETTINGS.quiet_seconds_step + 3600
        while self.clock.now < until:
            self.index.take([])
            self.work()
            self.clock.pass_by(45.0)

    def work(self) -> None:
        while self.stage.step():
            pass

    def _index(self) -> Index:
        index = Index(self.ledger, expect(POLICY), durable=False)
        index.resume()
        return index

    def _origin(self, association: str) -> Origin:
        return Origin(association=association, calling_ae="PACS", called_ae="N", address="::1")

    def _close(self, name: str, ending: str) -> None:
        self.closed[name] = (self.clock.now, ending)

    def _land(self) -> None:
        series = self.random.choice(self.series)
        uid = f"{self.study}.9.{self.random.randrange(100, 112)}"  # an object may come in another series, too
        digest = self.random.choice(("aa", "aa", "aa", "bb")) + series[-1]  # its bytes name its series
        association = self.random.choice([*self.open, ""])
        path = self.ledger.data / "incoming" / f"{uid}.{self.number}.dcm"
        self.number += 1
        path.write_bytes(b"DICM")
        home = self.home.setdefault(uid, series)
        self.digests[uid].add(digest)
        if association:
            self.carried[series].add(association)
        if home == series and len(self.digests[uid]) == 1 and uid not in self.last:
            self.last[series] = self.clock.now
        self.last[uid] = self.clock.now
        instance = Instance(
            sop_instance_uid=uid, sop_class_uid="1.2", transfer_syntax_uid="1.2", series_uid=series,
            study_uid=self.study, path=f"instances/{self.study}/{series}/{uid}.{digest}.dcm", size=4, digest=digest,
            header={"Modality": "CT"},
        )  # fmt: skip
        self.tell(Landed(path=str(path), instance=instance, origin=self._origin(association), at=self.clock.now))

    def _notice(self) -> None:
        kind, state = self.random.choice(
            (
                (NoticeKind.IAN, AVAILABLE), (NoticeKind.MPPS, IN_PROGRESS), (NoticeKind.MPPS, COMPLETED),
                (NoticeKind.MPPS, DISCONTINUED), (NoticeKind.UPS, READY), (NoticeKind.UPS, INCOMPLETE),
            )
        )  # fmt: skip
        objects = {uid: home for uid, home in self.home.items() if self.random.random() < 0.8}
        if self.random.random() < 0.3:
            objects[f"{self.study}.9.99"] = self.series[0]
        study = self.random.choice((self.study, "1.9.9", ""))
        self.number += 1
        notice = Notice(
            sop_instance_uid=f"{self.study}.8.{self.number}", kind=kind, state=state, peer="PACS", study_uid=study,
            objects=objects,
        )  # fmt: skip
        if state not in (IN_PROGRESS, INCOMPLETE):
            self.named.append(objects)
        with self.ledger.begin("receive") as tx:
            expect(POLICY)(tx, tx.sources.notice(notice))

    def _set_back(self, seconds: float) -> None:
        self.clock.now -= seconds
        upkeep.set_back(self.ledger, "clock", self.clock.now, seconds)
        self.last = {uid: min(at, self.clock.now) for uid, at in self.last.items()}
        self.closed = {name: (min(at, self.clock.now), ending) for name, (at, ending) in self.closed.items()}

    def _route(self, task: Task) -> Done:
        self.routed.append(task.key)
        return Done()

    def may_close(self, series: str, here: set[str]) -> bool:
        """Whether anything says that the series is all there."""
        named = {uid for each in self.named for uid, place in each.items() if place == series}
        if self.answer == len(here) or (named and named <= set(self.home) and len(named) == len(here)):
            return True
        theirs = self.carried[series]
        if theirs & set(self.open):
            return self.clock.now >= self.last[series] + SETTINGS.quiet_seconds_open
        ended = max((self.closed[name] for name in theirs), default=(0.0, ""))
        quiet = SETTINGS.quiet_seconds_broken if ended[1] in ("aborted", "lost") else SETTINGS.quiet_seconds
        return self.clock.now >= max(self.last[series], ended[0]) + quiet


def _header(path: Path) -> Header:
    del path
    return {"Modality": "CT"}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[World]:
    """The world at work: whenever a series is closed, the oracle is asked."""
    worlds: list[World] = []
    close = Assembly._close

    def closing(self: Assembly, evidence, instances, judgement, *more):  # type: ignore[no-untyped-def]
        series, world = evidence.series.series_uid, worlds[-1]
        here = {uid for uid, home in world.home.items() if home == series}
        assert {one.sop_instance_uid for one in instances} == here
        assert world.may_close(series, here), (series, judgement)
        world.decided.append((series, len(here), world.clock.now))
        return close(self, evidence, instances, judgement, *more)

    monkeypatch.setattr(Assembly, "_close", closing)
    return worlds


def check(world: World) -> None:
    with world.ledger.begin_reading() as tx:
        for series in world.series:
            here = {uid for uid, home in world.home.items() if home == series}
            assert tx.studies.object_uids(series) == here
            evidence = tx.studies.evidence(series)
            if not here:
                assert evidence is None or evidence.series.revision == 0
                continue
            assert evidence is not None
            assert evidence.complete_instances == len(here), series
            revisions = range(1, evidence.series.revision + 1)
            mine = [key for key in world.routed if key.startswith(f"{series}/")]
            assert sorted(mine) == sorted(f"{series}/{n}" for n in revisions)
        assert tx.studies.undecided() == ()
        files = {str(path.relative_to(world.ledger.data)) for path in world.ledger.data.rglob("instances/*/*/*.dcm")}
        assert tx.studies.paths(world.home) == files
    assert not list((world.ledger.data / "incoming").iterdir())


@pytest.mark.parametrize("seed", range(4))
def test_every_history_of_a_study_ends_complete_and_nothing_starts_too_early(
    any_ledger: Ledger, clock: Time, watched: list[World], seed: int
) -> None:
    ledger = any_ledger
    world = World(ledger, clock, seed, f"1.2.{seed}")
    watched.append(world)
    for _ in range(80):
        world.step()
    world.settle()

    check(world)
    assert ledger.verify().faults == ()


def test_how_events_are_batched_and_how_often_the_index_dies_changes_no_decision(
    tmp_path: Path, clock: Time, watched: list[World]
) -> None:
    began, decided = clock.now, []
    for cuts in range(3):
        ledger = Ledger(tmp_path / str(cuts))
        clock.now = began
        world = World(ledger, clock, 7, "1.2.7", cuts)
        watched.append(world)
        for _ in range(80):
            world.step()
        world.settle()
        check(world)
        ledger.close()
        decided.append(sorted(world.decided))

    assert len(decided[0]) > 3
    assert decided[0] == decided[1] == decided[2]
