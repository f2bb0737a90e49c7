"""When a series counts as complete, and what follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

import pytest

from dicom_node import stages
from dicom_node.config import ReceiveSection
from dicom_node.receive.assembly import Assembly, Source, expect, representative
from dicom_node.receive.completeness import AskTheSource, Completeness, Due, QuietTime, judge
from dicom_node.receive.fetching import Fetching
from dicom_node.receive.policy import Caller, admit
from storage import views
from storage.facts.arrival import Arrival, Evidence
from storage.facts.errors import Transient
from storage.facts.study import Instance, Series
from storage.facts.task import Kind, Later
from storage.ledger import Ledger
from storage.stage import Done, Stage


class Pacs:
    """A source that can be asked."""

    def __init__(self, number: int | None, *, down: bool = False) -> None:
        self.number, self.down, self.asked = number, down, 0
        self.fetched: list[list[str]] = []  #: what was here, each time

    def count(self, study_uid: str, series_uid: str) -> int | None:
        del study_uid, series_uid
        self.asked += 1
        if self.down:
            raise Transient("it does not answer")
        return self.number

    def fetch(self, study_uid: str, series_uid: str, here: Collection[str]) -> tuple[int, int]:
        assert (study_uid, series_uid) == ("1.2.3", "1.2.3.1")
        self.fetched.append(sorted(here))
        if self.down:
            raise Transient("it does not send")
        return 2, 0


SETTINGS = ReceiveSection(quiet_seconds=2, quiet_seconds_open=20, quiet_seconds_broken=15)


def an_instance(number: int, series: str = "1.2.3.1") -> Instance:
    return Instance(
        sop_instance_uid=f"{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_uid=series,
        study_uid="1.2.3",
        path=f"instances/{series}/{number}.dcm",
        size=10,
        digest=f"{number:064x}",
        header={"Modality": "CT", "InstanceNumber": number},
    )


def assembly(ledger: Ledger, completeness: Completeness, source: Source | None = None) -> Assembly:
    patient = ReceiveSection(quiet_seconds=0, quiet_seconds_open=20, quiet_seconds_broken=0)
    return Assembly(
        ledger=ledger,
        completeness=completeness,
        quiet=QuietTime(settings=patient),
        sources={} if source is None else {"PACS": source},
        fetching={"PACS"},
        read_header=lambda _path: {"Modality": "CT"},
    )


def arrive(ledger: Ledger, *numbers: int, series: str = "1.2.3.1", calling: str = "PACS") -> None:
    arrivals = [
        Arrival(
            instance=an_instance(n, series), association=None, calling_ae=calling, called_ae="N",
            received_at=time.time(),
        )
        for n in numbers
    ]  # fmt: skip
    with ledger.begin("receive") as tx:
        tx.studies.record(arrivals)
        expect(QuietTime(settings=SETTINGS))(tx, [series])


@pytest.mark.parametrize(
    ("open_associations", "ending", "due"),
    [(0, "released", 112.0), (0, "aborted", 125.0), (0, "lost", 125.0), (1, "released", 120.0), (0, "", 112.0)],
)
def test_the_quiet_time_depends_on_how_sure_the_end_is(open_associations: int, ending: str, due: float) -> None:
    series = Series(
        series_uid="1", study_uid="1", modality="CT", calling_ae="P", called_ae="N", revision=0, instances=3, header={}
    )
    evidence = Evidence(
        series=series,
        complete_instances=0,
        last_at=100.0,
        open_associations=open_associations,
        last_closed_at=110.0,
        last_ending=ending,
    )

    assert QuietTime(settings=SETTINGS)(evidence).at == due


def test_a_complete_series_is_routed_and_a_late_object_makes_another_revision(ledger: Ledger) -> None:
    handler = assembly(ledger, lambda _evidence: Due(at=0.0, why="now"))
    routed: list[str] = []
    for numbers in ((1, 2, 3), (4,)):
        arrive(ledger, *numbers)
        with ledger.begin("test") as tx:
            task = _claim(tx)
        result = handler.work(task)
        assert isinstance(result, Done)
        with ledger.begin("test") as tx:
            assert result.record is not None
            result.record(tx)
            tx.queue.finish(task, result.follow, result.note)
        routed += [item.key for item in result.follow]

    assert routed == ["1.2.3.1/1", "1.2.3.1/2"]
    with ledger.begin_reading() as tx:
        series = tx.studies.series("1.2.3.1")
    assert series is not None
    assert (series.revision, series.instances, series.header) == (2, 4, {"Modality": "CT"})


def test_a_series_that_is_not_yet_quiet_is_looked_at_later(ledger: Ledger) -> None:
    before = time.time()
    arrive(ledger, 1)
    after = time.time()
    handler = assembly(ledger, QuietTime(settings=SETTINGS))
    with ledger.begin("test") as tx:
        assert tx.queue.claim([Kind.ASSEMBLE], 30) is None  # not due
        tx.queue.hasten(Kind.ASSEMBLE, "1.2.3.1/1", 0.0)
        task = _claim(tx)

    result = handler.work(task)

    assert isinstance(result, Later)
    assert before + 2 <= result.at <= after + 2


def test_each_new_object_moves_the_moment_of_completeness(ledger: Ledger) -> None:
    arrive(ledger, 1)
    with ledger.begin_reading() as tx:
        first = tx.queue.next_due([Kind.ASSEMBLE])
    time.sleep(0.05)
    arrive(ledger, 2)
    with ledger.begin_reading() as tx:
        second = tx.queue.next_due([Kind.ASSEMBLE])

    assert first is not None
    assert second is not None
    assert second >= first + 0.05


def evidence_of(here: int, *, associations: int = 1, open_associations: int = 0) -> Evidence:
    series = Series(
        series_uid="1", study_uid="1", modality="CT", calling_ae="PACS", called_ae="N", revision=0, instances=here,
        header={},
    )  # fmt: skip
    return Evidence(
        series=series, complete_instances=0, last_at=100.0, open_associations=open_associations, last_closed_at=100.5,
        last_ending="released", associations=associations, gap=0.2 if here > 1 else 0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("here", "associations", "opened", "expected", "now", "complete", "missing", "words"),
    [
        (5, 1, 0, 5, 100.7, False, 0, "may still receive"),
        (5, 1, 0, 5, 101.2, True, 0, "has 5 objects of it, all are here"),
        (1, 1, 0, 1, 100.7, False, 0, "may still receive"),
        (1, 1, 0, 1, 101.3, True, 0, "all are here"),
        (5, 3, 0, 5, 100.7, False, 0, "may still receive"),
        (5, 3, 0, 5, 101.8, True, 0, "all are here"),
        (5, 1, 1, 5, 103.5, False, 0, "may still receive"),
        (5, 1, 1, 5, 106.1, True, 0, "all are here"),
        (3, 1, 0, 5, 101.0, False, 2, "2 are not here yet"),
        (3, 1, 0, 5, 699.0, False, 2, "2 are not here yet"),
        (3, 1, 0, 5, 700.0, True, 2, "2 never came"),
        (5, 1, 0, None, 101.0, False, 0, "does not tell"),
        (5, 1, 0, None, 102.6, True, 0, "does not tell"),
        (5, 1, 0, 3, 101.0, False, 0, "does not tell"),
    ],
)
def test_what_the_source_says_is_weighed_against_what_is_here(
    here: int,
    associations: int,
    opened: int,
    expected: int | None,
    now: float,
    complete: bool,
    missing: int,
    words: str,
) -> None:
    evidence = evidence_of(here, associations=associations, open_associations=opened)

    judgement = judge(evidence, expected, SETTINGS, now)

    assert (judgement.complete, judgement.missing) == (complete, missing)
    assert words in judgement.why
    assert complete or now < judgement.again <= now + 30


def test_a_source_that_can_be_asked_is_asked_soon_and_others_are_given_the_quiet_time() -> None:
    completeness = AskTheSource(quiet=QuietTime(settings=SETTINGS), askable=frozenset({"PACS"}))

    assert completeness(evidence_of(3)).at == pytest.approx(100.7)
    assert completeness(evidence_of(3, open_associations=1)).at == pytest.approx(103.0)
    other = AskTheSource(quiet=QuietTime(settings=SETTINGS), askable=frozenset())
    assert other(evidence_of(3)).at == pytest.approx(102.5)


@pytest.mark.parametrize("source", [Pacs(3), Pacs(None), Pacs(3, down=True)], ids=["agrees", "silent", "down"])
def test_a_source_that_agrees_or_cannot_answer_lets_the_series_go(ledger: Ledger, source: Pacs) -> None:
    arrive(ledger, 1, 2, 3)
    with ledger.begin("test") as tx:
        task = _claim(tx)

    result = assembly(ledger, lambda _evidence: Due(at=0.0, why="asked"), source).work(task)

    assert isinstance(result, Done)
    assert fetch_tasks(ledger) == []


def fetch_tasks(ledger: Ledger) -> list[str]:
    with ledger.read() as session:
        return [task.state for task in views.tasks(session, limit=99) if task.kind == "fetch"]


def fetch_all(ledger: Ledger, source: Pacs) -> int:
    """What the stage does; how many tasks it did."""
    stage = Stage(
        ledger=ledger, handlers={Kind.FETCH: Fetching(ledger=ledger, sources={"PACS": source.fetch}).handler()},
        actor="test", stop=threading.Event(),
    )  # fmt: skip
    return sum(1 for _ in iter(stage.step, False))


def test_what_is_missing_is_fetched_and_waited_for(any_ledger: Ledger) -> None:
    arrive(any_ledger, 1, 2, 3)
    source = Pacs(5)
    with any_ledger.begin("test") as tx:
        task = _claim(tx)
    stage = assembly(any_ledger, lambda _evidence: Due(at=0.0, why="asked"), source)

    result = stage.work(task)
    assert isinstance(result, Later)
    assert "2 are not here yet" in result.why
    stage.work(task)
    assert fetch_tasks(any_ledger) == ["waiting"], "once, as long as nobody came to do it"
    assert fetch_all(any_ledger, source) == 1
    assert source.fetched == [["1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"]]

    source.down = True
    stage.work(task)
    assert fetch_tasks(any_ledger) == ["waiting", "done"], "they did not come, and are asked for again"
    assert fetch_all(any_ledger, source) == 1
    assert fetch_tasks(any_ledger) == ["done", "done"], "a source that fails is no dead letter"


def test_a_retrieval_that_takes_long_holds_up_no_other_series() -> None:
    loops = {kind: index for index, (_, kinds) in enumerate(stages.LOOPS) for kind in kinds}

    assert loops[Kind.FETCH] not in (loops[Kind.ASSEMBLE], loops[Kind.ROUTE], loops[Kind.RECONCILE])
    assert loops[Kind.ROUTE] != loops[Kind.ASSEMBLE]
    assert set(loops) == set(Kind) - {Kind.INFER}


def test_a_source_that_hangs_holds_up_its_own_series_alone(ledger: Ledger) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    class Hanging(Pacs):
        def count(self, study_uid: str, series_uid: str) -> int | None:
            hangs.set()
            assert goes_on.wait(60)
            return super().count(study_uid, series_uid)

    source = Hanging(3)
    policy = assembly(ledger, lambda _evidence: Due(at=0.0, why="asked"), source)
    for series, calling in (("1.2.3.1", "PACS"), ("1.2.3.2", "PACS"), ("1.2.3.3", "PACS"), ("1.2.3.4", "OTHER")):
        arrive(ledger, 1, 2, 3, series=series, calling=calling)
    stop = threading.Event()
    handlers = {Kind.ASSEMBLE: policy.handler()}
    loops = [
        threading.Thread(target=Stage(ledger=ledger, handlers=handlers, actor="test", stop=stop).run)
        for _, kinds in stages.LOOPS
        if Kind.ASSEMBLE in kinds
    ]
    for loop in loops:
        loop.start()
    assert hangs.wait(60)
    until = time.monotonic() + 60
    while "1.2.3.4" not in (closed := series_closed(ledger)) and time.monotonic() < until:
        time.sleep(0.01)
    goes_on.set()
    while len(everything := series_closed(ledger)) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    for loop in loops:
        loop.join()

    assert closed == {"1.2.3.4"}
    assert len(everything) == 4
    assert source.asked == 3


def series_closed(ledger: Ledger) -> set[str]:
    with ledger.read() as session:
        return {
            task.series_uid or "" for task in views.tasks(session) if (task.kind, task.state) == ("assemble", "done")
        }


def test_what_a_source_said_that_is_missing_is_not_taken_back_by_its_silence(ledger: Ledger) -> None:
    arrive(ledger, 1, 2, 3)
    source = Pacs(5)
    with ledger.begin("test") as tx:
        task = _claim(tx)
    stage = assembly(ledger, lambda _evidence: Due(at=0.0, why="asked"), source)
    stage.work(task)
    source.down = True

    silent = stage.work(task)
    assert isinstance(silent, Later)
    assert "2 are not here yet" in silent.why
    source.number, source.down = 3, False
    assert isinstance(stage.work(task), Done), "it has no more after all"


def test_a_source_that_keeps_us_waiting_for_nothing_is_left_alone_for_a_while(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("dicom_node.receive.assembly.time.monotonic", lambda: clock[0])

    class Hanging(Pacs):
        takes = 30.0

        def count(self, study_uid: str, series_uid: str) -> int | None:
            clock[0] += self.takes
            return super().count(study_uid, series_uid)

    arrive(ledger, 1, 2, 3)
    source = Hanging(5, down=True)
    with ledger.begin("test") as tx:
        task = _claim(tx)
    stage = assembly(ledger, lambda _evidence: Due(at=0.0, why="asked"), source)

    for later, asked in ((0.0, 1), (149.0, 1), (2.0, 2)):
        clock[0] += later
        assert isinstance(stage.work(task), Done)
        assert source.asked == asked
    source.takes = 0.1
    clock[0] += 151.0
    for asked in (3, 4, 5):
        stage.work(task)
        assert source.asked == asked, "one that says no at once may be asked again at once"


def test_the_middle_instance_speaks_for_the_series() -> None:
    assert representative([an_instance(n) for n in (9, 1, 5, 2, 7)]).header["InstanceNumber"] == 5


@pytest.mark.parametrize(
    ("calling", "called", "address", "reason"),
    [
        ("PACS", "NODE", "10.0.0.7", None),
        ("PACS ", "NODE", "::ffff:10.0.0.7", None),
        ("PACS", "NODE", "10.0.1.7", 3),
        ("OTHER", "NODE", "10.0.0.7", 3),
        ("", "NODE", "10.0.0.7", 3),
        ("PACS", "ELSE", "10.0.0.7", 7),
        ("MODALITY", "NODE", "192.168.1.1", None),
    ],
)
def test_who_may_associate(calling: str, called: str, address: str, reason: int | None) -> None:
    settings = ReceiveSection.model_validate(
        {"peers": [{"ae_title": "PACS", "addresses": ["10.0.0.0/24"]}, {"ae_title": "MODALITY"}]}
    )

    refusal = admit(Caller(calling=calling, called=called, address=address), ["NODE"], settings)

    assert (refusal.reason if refusal else None) == reason


def _claim(tx: object) -> object:
    task = tx.queue.claim([Kind.ASSEMBLE], 30) or _hasten(tx)  # type: ignore[attr-defined]
    assert task is not None
    return task


def _hasten(tx: object) -> object:
    for key in ("1.2.3.1/1", "1.2.3.1/2"):
        tx.queue.hasten(Kind.ASSEMBLE, key, 0.0)  # type: ignore[attr-defined]
    return tx.queue.claim([Kind.ASSEMBLE], 30)  # type: ignore[attr-defined]
