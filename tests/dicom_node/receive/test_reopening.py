"""A late object opens its series again, whatever became of the task that saw to it."""

from __future__ import annotations

import threading
import time

import pytest

from dicom_node.receive.assembly import expect
from dicom_node.receive.completeness import Due
from dicom_node.receive.events import Opened
from dicom_node.receive.index import Index
from dicom_node.receive.landing import Landed, Origin
from storage import views
from storage.facts.arrival import Arrival, Evidence
from storage.facts.task import Kind, Later, Task
from storage.ledger import Ledger
from storage.stage import Done
from tests.dicom_node.receive.test_assembly import an_instance, arrive, assembly

SERIES = "1.2.3.1"
ORIGIN = Origin(association="a", calling_ae="PACS", called_ae="N", address="::1")


def at_once(_evidence: Evidence) -> Due:
    return Due(at=0.0, why="now")


def states(ledger: Ledger) -> dict[str, str]:
    with ledger.read() as session:
        return {t.key: t.state for t in views.tasks(session) if t.kind == Kind.ASSEMBLE}


def number_of(ledger: Ledger) -> int:
    with ledger.read() as session:
        return next(t.id for t in views.tasks(session) if t.kind == Kind.ASSEMBLE)


def claimed(ledger: Ledger) -> Task:
    with ledger.begin("test") as tx:
        tx.queue.hasten(Kind.ASSEMBLE, f"{SERIES}/1", 0.0)
        task = tx.queue.claim([Kind.ASSEMBLE], 30)
    assert task is not None
    return task


def test_after_an_operator_stopped_it(ledger: Ledger) -> None:
    arrive(ledger, 1, 2)
    number = number_of(ledger)
    with ledger.begin("operator") as tx:
        tx.queue.cancel(number)
    arrive(ledger, 3)

    assert states(ledger) == {f"{SERIES}/1#{number}": "cancelled", f"{SERIES}/1": "waiting"}


def test_after_it_was_given_up(ledger: Ledger) -> None:
    arrive(ledger, 1, 2)
    task = claimed(ledger)
    with ledger.begin("test") as tx:
        tx.queue.fail(task, "the disk is broken")
    before = time.time()
    arrive(ledger, 3)

    assert states(ledger) == {f"{SERIES}/1": "waiting"}
    with ledger.begin_reading() as tx:
        due = tx.queue.next_due([Kind.ASSEMBLE])
    assert due is not None
    assert due > before


def test_while_its_archive_thinks_about_the_answer(ledger: Ledger) -> None:
    """What comes meanwhile was not judged: it is, before the series is closed."""

    class Slow:
        def count(self, study_uid: str, series_uid: str) -> int | None:
            del study_uid, series_uid
            arrive(ledger, 3)
            return 2

    arrive(ledger, 1, 2)
    time.sleep(0.05)
    result = assembly(ledger, at_once, Slow()).work(claimed(ledger))

    assert isinstance(result, Later)
    assert result.why == "objects came while it was judged"


def test_in_the_moment_in_which_it_is_closed(any_ledger: Ledger) -> None:
    """On PostgreSQL the index reads the series, then waits for the trail, which the closing transaction holds."""
    ledger = any_ledger
    arrive(ledger, 1, 2)
    done = assembly(ledger, at_once).work(task := claimed(ledger))
    assert isinstance(done, Done)
    assert done.record is not None
    late = threading.Thread(target=arrive, args=(ledger, 3))
    with ledger.begin("assembly") as tx:
        done.record(tx)
        tx.queue.finish(task, done.follow, done.note)
        late.start()
        if ledger.url.startswith("postgresql"):
            _wait_for_a_lock(ledger)
    late.join()

    assert states(ledger) == {f"{SERIES}/1": "done", f"{SERIES}/2": "waiting"}


def _wait_for_a_lock(ledger: Ledger) -> None:
    import psycopg

    with psycopg.connect(ledger.url, autocommit=True) as connection:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            row = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
            if row is not None and row[0]:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits for the trail")


def test_after_an_index_died_that_had_put_off_the_look(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of an open association are looked at now and then; nobody else may know that a look is due."""
    monkeypatch.setattr("dicom_node.receive.index.EXPECT_SECONDS", 1e9)
    index = Index(ledger, expect(at_once), durable=False)
    index.take([Opened(origin=ORIGIN, at=time.time()), landed(ledger, 1)])
    finish(ledger)
    index.take([landed(ledger, 2)])
    before = states(ledger)
    again = Index(ledger, expect(at_once), durable=False)
    again.resume()

    assert before == {f"{SERIES}/1": "done"}
    assert states(ledger) == {f"{SERIES}/1": "done", f"{SERIES}/2": "waiting"}
    with ledger.begin_reading() as tx:
        assert tx.studies.undecided() == ()


def landed(ledger: Ledger, number: int) -> Landed:
    path = ledger.data / "incoming" / f"{number}.dcm"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"DICM")
    return Landed(path=str(path), instance=an_instance(number), origin=ORIGIN, at=time.time())


def finish(ledger: Ledger) -> None:
    task = claimed(ledger)
    with ledger.begin("test") as tx:
        tx.studies.complete(SERIES, {})
        tx.queue.finish(task)


@pytest.mark.parametrize("ahead", [0.0, 1e8])
def test_an_object_never_comes_later_than_it_is_entered(ledger: Ledger, ahead: float) -> None:
    """The clock was set back while it lay in incoming."""
    index = Index(ledger, expect(at_once), durable=False)
    item = landed(ledger, 1)
    index.take([Landed(path=item.path, instance=item.instance, origin=ORIGIN, at=item.at + ahead)])
    with ledger.begin_reading() as tx:
        evidence = tx.studies.evidence(SERIES)

    assert evidence is not None
    assert evidence.last_at <= time.time()


def test_what_is_set_to_another_time_is_no_other_touch(ledger: Ledger) -> None:
    """A task that was touched while it ran is due then, also where the clock was set back meanwhile."""
    with ledger.begin("receive") as tx:
        tx.studies.record(
            [Arrival(instance=an_instance(1), association=None, calling_ae="P", called_ae="N", received_at=time.time())]
        )
    arrive(ledger, 2)
    task = claimed(ledger)
    with ledger.begin("receive") as tx:
        tx.queue.hasten(Kind.ASSEMBLE, task.key, 0.0, {"touched": 1.0})
    with ledger.begin("test") as tx:
        tx.queue.defer(task, time.time() + 1000, "no")
        assert tx.queue.claim([Kind.ASSEMBLE], 30) is not None
