"""Recent studies of a source are looked after: what it has and the node lacks is fetched, politely."""

from __future__ import annotations

import datetime
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import pytest

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig, ReconcileSection, UpkeepSection
from dicom_node.deliver.query import SeriesEntry, StudyEntry
from dicom_node.receive.reconcile import Archive, Reconciliation, settle, weigh
from dicom_node.wiring import archives_of, fetches_of, gathering_of, looked_after
from storage import views
from storage.facts.arrival import Absence, AbsenceState, Arrival, Holding
from storage.facts.errors import Transient
from storage.facts.study import Instance
from storage.facts.task import Kind, Next
from storage.ledger import Ledger
from storage.stage import Done

SETTINGS = ReconcileSection(settle_minutes=0, tries=2, every_minutes=1)
STUDY, SERIES = "1.2.3", "1.2.3.1"


class Source:
    """An archive that says what it is told to say, and stores into the ledger what is fetched."""

    def __init__(self, ledger: Ledger, *series: SeriesEntry, total: int | None = 5, sends: int = 5) -> None:
        self.ledger, self.entries, self.total, self.sends = ledger, series, total, sends
        self.down = False
        self.asked: list[str] = []
        self.fetched: list[str] = []
        self.had: list[str] = []

    @contextmanager
    def ask(self) -> Iterator[Source]:
        if self.down:
            raise Transient("nothing listens there")
        yield self

    def studies(self, since: datetime.date, until: datetime.date) -> Sequence[StudyEntry]:
        assert since < datetime.date.today() <= until
        return [StudyEntry(study_uid=STUDY, instances=self.total)]

    def series(self, study_uid: str) -> Sequence[SeriesEntry]:
        self.asked.append(study_uid)
        return self.entries

    def fetch(self, study_uid: str, series_uid: str, here: Collection[str]) -> tuple[int, int]:
        assert study_uid == STUDY
        self.had = sorted(here)
        self.fetched.append(series_uid)
        arrive(self.ledger, *range(1, self.sends + 1), series=series_uid)
        return self.sends, 0


def entry(series: str = SERIES, number: int = 5, modality: str = "CT") -> SeriesEntry:
    return SeriesEntry(series_uid=series, modality=modality, instances=number)


def arrive(ledger: Ledger, *numbers: int, series: str = SERIES) -> None:
    arrivals = [
        Arrival(
            instance=Instance(
                sop_instance_uid=f"{series}.{n}", sop_class_uid="1.2", transfer_syntax_uid="1.2", series_uid=series,
                study_uid=STUDY, path=f"{series}/{n}", size=1, digest=f"{n:064x}", header={"Modality": "CT"},
            ),
            association=None, calling_ae="PACS", called_ae="N", received_at=time.time(),
        )
        for n in numbers
    ]  # fmt: skip
    with ledger.begin("test") as tx:
        tx.studies.record(arrivals)


def look(ledger: Ledger, source: Source, *, scope: str = "all", fetches: bool = True) -> Done:
    """One look, as the stage would have it done."""
    archive = Archive(scope=scope, ask=source.ask, fetch=source.fetch if fetches else None)  # type: ignore[arg-type]
    stage = Reconciliation(ledger=ledger, settings=SETTINGS, archives={"PACS": archive})
    with ledger.begin("test") as tx:
        tx.queue.enqueue(Next(kind=Kind.RECONCILE, key=f"PACS/{time.time()}", payload={"peer": "PACS"}))
        task = tx.queue.claim([Kind.RECONCILE], 30)
    assert task is not None
    done = stage.work(task)
    with ledger.begin("test") as tx:
        if done.record is not None:
            done.record(tx)
        tx.queue.finish(task, done.follow, done.note)
    return done


def actions(ledger: Ledger) -> list[str]:
    with ledger.read() as session:
        return [row.action for row in views.trail(session, study=STUDY) if "lacking" in row.action]


def test_a_series_of_which_nothing_came_is_fetched_at_the_second_look_and_no_more(any_ledger: Ledger) -> None:
    source = Source(any_ledger, entry())
    looks = [look(any_ledger, source).note for _ in range(4)]

    assert source.fetched == [SERIES]
    assert source.had == []
    assert [(n["lacking"], n["fetched"]) for n in looks] == [(1, 0), (1, 1), (0, 0), (0, 0)]
    assert actions(any_ledger) == ["objects lacking", "lacking objects asked for", "lacking objects here"]
    with any_ledger.read() as session:
        assert views.absences(session) == []
        [absence] = views.absences(session, study=STUDY)
    assert (absence.state, absence.here, absence.tries) == (AbsenceState.CLOSED, 5, 1)


def test_a_study_of_which_all_is_here_is_not_asked_for_again_until_it_changes(ledger: Ledger) -> None:
    arrive(ledger, 1, 2, 3, 4, 5)
    source = Source(ledger, entry(), entry("1.2.3.9", 1, "SR"), total=6)
    for _ in range(3):
        look(ledger, source)
    unchanged = len(source.asked)
    source.total = 7
    look(ledger, source)

    assert (unchanged, len(source.asked), source.fetched) == (1, 2, [])


@pytest.mark.parametrize(
    "why", ["nothing came and only started studies are looked after", "its own result", "another modality",
            "retention removed it", "it still arrives", "it is only told"],
)  # fmt: skip
def test_what_is_not_to_be_fetched_is_not_fetched(ledger: Ledger, why: str) -> None:
    source = Source(ledger, entry(modality="SR") if why == "another modality" else entry())
    scope, fetches = "all", True
    if why == "nothing came and only started studies are looked after":
        scope = "started"
    elif why == "its own result":
        source.entries = ()
        assert not Reconciliation(ledger=ledger, settings=SETTINGS, archives={})._lacks(
            entry(), Holding(here={}, arriving=frozenset(), excluded=frozenset({SERIES}))
        )
    elif why == "retention removed it":
        arrive(ledger, 1, 2, 3, 4, 5)
        with ledger.begin("test") as tx:
            tx.studies.forget_files(STUDY)
    elif why == "it still arrives":
        arrive(ledger, 1)
        with ledger.begin("test") as tx:
            tx.queue.enqueue(Next(kind=Kind.ASSEMBLE, key="a", series_uid=SERIES, study_uid=STUDY, not_before=9e9))
    else:
        fetches = why != "it is only told"
    for _ in range(3):
        look(ledger, source, scope=scope, fetches=fetches)

    assert source.fetched == []


def test_what_the_source_cannot_send_is_given_up_after_some_tries(ledger: Ledger) -> None:
    source = Source(ledger, entry(), sends=0)
    look(ledger, source)
    look(ledger, source)
    for _ in range(5):
        with ledger.begin("test") as tx:
            for absence in tx.sources.absences("PACS").values():
                tx.sources.keep(absence_due(absence))
        look(ledger, source)

    assert source.fetched == [SERIES, SERIES]
    assert actions(ledger)[-1] == "lacking objects given up"
    with ledger.read() as session:
        assert [a.state for a in views.absences(session)] == [AbsenceState.GIVEN_UP]


def absence_due(absence: Absence) -> Absence:
    return Absence(**{name: getattr(absence, name) for name in Absence.__slots__} | {"next_at": 0.0})  # type: ignore[arg-type]


def test_a_source_that_is_down_is_asked_again_at_the_next_tick(ledger: Ledger) -> None:
    source = Source(ledger, entry())
    source.down = True
    done = look(ledger, source)

    assert done.note["why"] == "nothing listens there"
    with ledger.read() as session:
        [seen] = views.looks(session)
    assert (seen.peer, seen.why) == ("PACS", "nothing listens there")


def lacking(here: int, *, tries: int = 0, next_at: float = 0.0, expected: int = 9) -> Absence:
    return Absence(
        peer="PACS", series_uid=SERIES, study_uid=STUDY, modality="CT", expected=expected, here=here, tries=tries,
        seen_at=1000.0, next_at=next_at, state=AbsenceState.WAITING,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("known", "fetched", "next_at"),
    [
        (None, False, 2120.0),
        (lacking(3, next_at=2001.0), False, 2001.0),
        (lacking(3, next_at=2000.0), True, 2000.0),
        (lacking(2, next_at=1.0), False, 2120.0),  # more came: it is on its way
        (lacking(3, next_at=1.0, expected=8), False, 2120.0),  # the source itself still receives
    ],
)
def test_only_what_does_not_change_any_more_is_fetched(known: Absence | None, fetched: bool, next_at: float) -> None:
    absence, due = weigh(lacking(3), known, ReconcileSection(), now=2000.0)

    assert (due, absence.next_at) == (fetched, next_at)


def test_an_absence_that_is_out_of_the_window_is_given_up() -> None:
    holding = Holding(here={SERIES: 3}, arriving=frozenset(), excluded=frozenset())

    assert settle(lacking(3), holding, before=999.0).state is AbsenceState.WAITING
    assert settle(lacking(3), holding, before=1001.0).state is AbsenceState.GIVEN_UP


def test_the_clock_asks_for_a_look_at_each_source_at_once(ledger: Ledger) -> None:
    clock = Clock(ledger, UpkeepSection(), ("PACS", "OTHER"), 60.0)
    clock.start()
    until = time.monotonic() + 10
    peers: set[str] = set()
    while len(peers) < 2 and time.monotonic() < until:
        time.sleep(0.02)
        with ledger.read() as session:
            peers = {t.key.partition("/")[0] for t in views.tasks(session) if t.kind == "reconcile"}
    clock.stop()

    assert peers == {"PACS", "OTHER"}


@pytest.mark.parametrize("by", ["C-MOVE", "C-GET"])
def test_only_peers_that_can_be_asked_are_looked_after(ledger: Ledger, by: str) -> None:
    peers = [{"ae_title": "A", "query": "a", "fetch": True, "fetch_by": by, "reconcile": "all"}, {"ae_title": "B"}]
    config = NodeConfig.model_validate(
        {
            "node": {"data": str(ledger.data)},
            "receive": {"peers": peers},
            "destinations": {"a": {"ae_title": "A", "host": "h", "port": 104}},
        }
    )
    never = config.model_copy(update={"reconcile": ReconcileSection(every_minutes=0)})
    fetches = fetches_of(config, gathering_of(config, ledger))
    archives = archives_of(config, fetches)

    assert {name: (a.scope, a.fetch is not None) for name, a in archives.items()} == {"A": ("all", True)}
    assert archives_of(never, fetches) == {}
    assert (looked_after(config), looked_after(never)) == (("A",), ())
