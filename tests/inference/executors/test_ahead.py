"""Compressed slices are decoded while others still arrive; whatever goes wrong with it costs time alone."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.uid import JPEGLSLossless
from sqlalchemy import event

from inference.arriving import LedgerArrivals
from inference.executors import ahead, vitals
from inference.executors.ahead import COMMAND, Ahead, Plan
from inference.imaging.native import place_of
from inference.worker import Worker
from storage.facts.arrival import Arrival
from storage.facts.errors import Transient
from storage.facts.prediction import Status
from storage.facts.study import Instance
from storage.facts.task import Kind, Next
from storage.ledger import Ledger
from tests import builders
from tests.inference.executors.rig import SLICES, Rig
from tests.inference.imaging.test_decoded import spoil

ODD = (sys.executable, "-m", "tests.inference.executors.decoder_main")


@dataclass
class Here:
    """What has arrived, by series."""

    there: dict[str, list[Path]] = field(default_factory=dict)
    unsuitable: set[str] = field(default_factory=set)
    down: bool = False

    def news(self, since: int | None) -> tuple[int, Collection[str]]:
        return (since or 0) + 1, list(self.there)

    def awaited(self) -> Collection[str]:
        if self.down:
            raise Transient("the database is away")
        return list(self.there)

    def suits(self, series: str) -> bool | None:
        return series not in self.unsuitable if self.there[series] else None

    def files(self, series: Collection[str]) -> Mapping[str, Sequence[Path]]:
        return {uid: list(self.there[uid]) for uid in series}


def compressed(folder: Path, series: str, count: int = 3) -> list[Path]:
    """A series of small compressed slices in a folder of its own."""
    (folder / series).mkdir(parents=True)
    paths = []
    for number, dataset in enumerate(builders.slices(count, 40, 48)):
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
        paths.append(folder / series / f"{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


@contextmanager
def decoding(folder: Path, here: Here, number: int = 1, command: Sequence[str] = COMMAND) -> Iterator[Ahead]:
    """An Ahead at work in this process."""
    stop, made = threading.Event(), Ahead(Plan(folder=folder, number=number, arrivals=here, command=command))
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


def wait(until, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    """Until it is so."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


def there(folder: Path, paths: Sequence[Path]) -> bool:
    """Whether all are decoded."""
    return all(place_of(folder, path).exists() for path in paths)


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to wait for looks."""
    monkeypatch.setattr(ahead, "LOOK_SECONDS", 0.05)


def test_what_arrives_is_decoded_and_goes_when_nobody_wants_it(tmp_path: Path) -> None:
    folder, here = tmp_path / "decoded", Here()
    one, two = compressed(tmp_path, "1.1"), compressed(tmp_path, "1.2")
    left = folder / "0.9" / "old.pixels"
    left.parent.mkdir(parents=True)
    left.touch()
    here.there = {"1.1": one[:1], "1.2": [], "1.3": compressed(tmp_path, "1.3")}
    here.unsuitable = {"1.3"}
    with decoding(folder, here, 2):
        wait(lambda: there(folder, one[:1]))
        here.there["1.1"], here.there["1.2"] = one, two
        wait(lambda: there(folder, [*one, *two]))
        assert sorted(path.name for path in folder.iterdir()) == ["1.1", "1.2"], "nothing of before, or unasked for"
        del here.there["1.1"]
        wait(lambda: not (folder / "1.1").exists())
        assert there(folder, two)
    assert not folder.exists()


def test_a_decoder_that_crashes_or_hangs_costs_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ahead, "OBJECT_SECONDS", 3.0)
    folder = tmp_path / "decoded"
    crash, hang, good = (compressed(tmp_path, name, 1) for name in ("crash", "hang", "good"))
    with decoding(folder, Here({"1": crash, "2": hang, "3": good}), command=ODD) as made:
        wait(lambda: there(folder, good))
        time.sleep(0.3)
        assert [decoder.path for decoder in made._decoders] == [None], "neither is tried again"
    assert not there(folder, [*crash, *hang])
    said = [record.getMessage() for record in caplog.records]
    assert sum("a decoder ended over 0.dcm" in text for text in said) == 1
    assert sum("took more than 3 s for 0.dcm" in text for text in said) == 1


def test_a_full_disk_and_a_database_that_is_away_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FREE_BYTES", 2**60)
    folder, here = tmp_path / "decoded", Here({"1.1": compressed(tmp_path, "1.1")})
    with decoding(folder, here) as made:
        wait(folder.exists)
        time.sleep(0.3)
        assert list(folder.iterdir()) == []
        assert made._decoders == [], "nothing is started for nothing"
        here.down = True
        monkeypatch.setattr(ahead, "FREE_BYTES", 0)
        time.sleep(0.3)
        assert list(folder.iterdir()) == []
        here.down = False
        wait(lambda: there(folder, here.there["1.1"]))


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "KEPT_BYTES", 1)
    folder, here = tmp_path / "decoded", Here({"1.1": compressed(tmp_path, "1.1", 1)})
    with decoding(folder, here):
        wait(lambda: there(folder, here.there["1.1"]))
        here.there["1.2"] = compressed(tmp_path, "1.2", 1)
        time.sleep(0.4)
        assert not there(folder, here.there["1.2"])
        del here.there["1.1"]
        wait(lambda: there(folder, here.there["1.2"]))


def test_decoders_end_when_there_is_nothing_to_do_and_with_their_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, here = tmp_path / "decoded", Here({"1.1": compressed(tmp_path, "1.1")})
    monkeypatch.setattr(ahead, "IDLE_SECONDS", 0.2)
    with decoding(folder, here) as made:
        wait(lambda: there(folder, here.there["1.1"]))
        wait(lambda: made._decoders == [])
    decoder = ahead.Decoder(folder, COMMAND)
    pid = decoder._process.pid
    assert decoder._process.stdin is not None
    decoder._process.stdin.close()  # as the kernel does when the worker is killed
    wait(lambda: decoder._process.poll() is not None)
    assert vitals.exists(pid) is False
    decoder.end()


@contextmanager
def asked(ledger: Ledger) -> Iterator[list[tuple[str, str]]]:
    """The questions that the database is asked meanwhile, and what they are asked about."""
    found: list[tuple[str, str]] = []

    def note(*given: object) -> None:
        if given[2] != "BEGIN":
            found.append((str(given[2]), str(given[3])))

    event.listen(ledger._engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(ledger._engine, "before_cursor_execute", note)


def test_a_look_costs_one_small_question_while_nothing_happens_and_misses_nothing(rig: Rig) -> None:
    rig.package("model")
    worker = Worker(rig.config(), rig.ledger)
    worker.register()
    arrivals = LedgerArrivals(rig.ledger, worker._packages)
    made = Ahead(Plan(folder=rig.ledger.data / "run" / "decoded", number=1, arrivals=arrivals))
    folder = rig.ledger.data / "instances"
    one, other = compressed(folder, "1.9.7"), compressed(folder, "1.9.8")
    for paths in (one, other):
        receive(rig.ledger, paths[0])

    made._look()
    assert made._queue == {"1.9.7": one[:1], "1.9.8": other[:1]}

    with asked(rig.ledger) as questions:
        for _ in range(10):
            made._look()
    assert len(questions) == 10
    assert all("FROM audit_head" in statement for statement, _ in questions), "a row each"

    receive(rig.ledger, other[1])
    with asked(rig.ledger) as questions:
        made._look()
    assert made._queue == {"1.9.7": one[:1], "1.9.8": other[:2]}
    (about,) = [about for statement, about in questions if "FROM instance" in statement]
    assert "1.9.8" in about
    assert "1.9.7" not in about, "nothing came of it"

    with rig.ledger.begin("receive") as tx:
        task = tx.queue.claim([Kind.ASSEMBLE], 30)
        assert task is not None
        tx.queue.finish(task)
    made._look()
    assert list(made._queue) == ["1.9.8"], "nobody waits for the other any more"


def test_a_series_that_could_not_be_judged_is_asked_about_again_though_nothing_is_new(rig: Rig) -> None:
    rig.package("model")
    worker = Worker(rig.config(), rig.ledger)
    worker.register()
    made = Ahead(
        Plan(folder=rig.ledger.data / "decoded", number=1, arrivals=LedgerArrivals(rig.ledger, worker._packages))
    )
    path, late = (rig.ledger.data / "instances" / uid / "0.dcm" for uid in ("1.9.7", "1.9.8"))
    compressed(rig.ledger.data / "instances", "1.9.7", 2)
    receive(rig.ledger, path)
    receive(rig.ledger, late)
    made._look()
    assert made._queue == {"1.9.7": [path]}

    compressed(rig.ledger.data / "instances", "1.9.8", 1)
    receive(rig.ledger, path.with_name("1.dcm"))
    made._look()
    assert made._queue == {"1.9.7": [path, path.with_name("1.dcm")], "1.9.8": [late]}


def receive(ledger: Ledger, path: Path) -> None:
    """As the index does."""
    with ledger.begin("receive") as tx:
        came = arrival(path)
        tx.studies.record([came])
        uid, study = came.instance.series_uid, came.instance.study_uid
        tx.queue.enqueue(Next(kind=Kind.ASSEMBLE, key=uid, series_uid=uid, study_uid=study))


def test_a_run_uses_what_was_decoded_while_its_series_arrived(rig: Rig) -> None:
    rig.package("model")
    paths = [rig.ledger.data / "instances" / "1.9.7" / f"{number}.dcm" for number in range(SLICES)]
    written = compressed(rig.ledger.data / "instances", "1.9.7", SLICES)
    assert written == paths
    folder = rig.ledger.data / "run" / "decoded"
    with rig.working():
        for path in paths:
            receive(rig.ledger, path)
            wait(lambda path=path: there(folder, [path]))  # type: ignore[misc]
            spoil(path)
        with rig.ledger.begin("receive") as tx:
            tx.studies.complete("1.9.7", {"Modality": "CT"})
        rig.ask_also("7", "model", like="7")
        rig.wait_over(["7"])
        with rig.ledger.begin("receive") as tx:
            assembled = tx.queue.claim([Kind.ASSEMBLE], 30)
            assert assembled is not None
            tx.queue.finish(assembled)
        rig.wait(lambda: not (folder / "1.9.7").exists())
    assert rig.said("7").status is Status.SUCCEEDED, "its own pixels were spoilt by then"


def arrival(path: Path) -> Arrival:
    """As the index tells of it."""
    series = path.parent.name
    number = series.rpartition(".")[2]
    instance = Instance(
        sop_instance_uid=f"1.2.{path.stem}.{number}",
        sop_class_uid=builders.CT,
        transfer_syntax_uid=JPEGLSLossless,
        series_uid=series,
        study_uid=f"1.8.{number}",
        path=str(path.relative_to(path.parents[2])),
        size=1,
        digest="00",
        header={"Modality": "CT"},
    )
    return Arrival(instance=instance, association=None, calling_ae="CT1", called_ae="NODE", received_at=time.time())
