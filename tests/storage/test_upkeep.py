"""What retention removes, and what it must leave to others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, text

from storage import upkeep, views
from storage.facts.arrival import AVAILABLE, Arrival, Notice, NoticeKind
from storage.facts.errors import Transient
from storage.facts.prediction import Array, DerivedImage, Heatmap, Mask, Shown
from storage.facts.study import Instance
from storage.ledger import Ledger, Transaction
from storage.tables import InstanceRow
from tests.storage.predicting import CT, prediction_of

OLD, NEW = 1000.0, 5000.0  #: when an object came; between them lies what is kept
BEFORE = 2000.0


def instance(study: str, number: int = 1) -> Instance:
    uid = f"{study}.1.{number}"
    return Instance(
        sop_instance_uid=uid, sop_class_uid=CT, transfer_syntax_uid="1.2.840.10008.1.2.1", series_uid=f"{study}.1",
        study_uid=study, path=f"instances/{study}/{study}.1/{uid}.0badcafe.dcm", size=4, digest="00", header={},
    )  # fmt: skip


def place(ledger: Ledger, study: str, number: int = 1) -> Path:
    """An object's file, as the index links it before it enters the row."""
    path = ledger.data / instance(study, number).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"DICM")
    return path


def enter(tx: Transaction, study: str, at: float, number: int = 1) -> None:
    arrival = Arrival(
        instance=instance(study, number), association=None, calling_ae="CT1", called_ae="NODE", received_at=at
    )
    tx.studies.record([arrival])


def predict(tx: Transaction, study: str, blob: str) -> None:
    """A run on the study with a mask."""
    tx.predictions.save(prediction_of(study, blob))


def aged(ledger: Ledger, data: bytes) -> str:
    """A blob that was put long ago."""
    digest = ledger.blobs.put(data)
    os.utime(ledger.blobs.path(digest), (OLD, OLD))
    return digest


def study(ledger: Ledger, uid: str, at: float, mask: str = "") -> Path:
    file = place(ledger, uid)
    with ledger.begin("test") as tx:
        enter(tx, uid, at)
        if mask:
            predict(tx, uid, mask)
    return file


def test_a_mask_that_two_studies_share_stays_until_the_last_of_them_goes(ledger: Ledger) -> None:
    empty = aged(ledger, b"an empty mask is the same in every study")
    study(ledger, "1.2.1", OLD, empty)
    study(ledger, "1.2.2", NEW, empty)

    assert upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE)).studies == 1
    assert ledger.blobs.get(empty)

    assert upkeep.retain(ledger, "test", upkeep.Horizon(before=NEW + 1)).studies == 1
    assert not ledger.blobs.path(empty).exists()


def test_a_mask_that_somebody_put_just_now_is_not_taken_from_under_them(ledger: Ledger) -> None:
    blob = aged(ledger, b"mask")
    file = study(ledger, "1.2.1", OLD, blob)
    ledger.blobs.put(b"mask")  # a worker, before it says for which study

    assert upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE)).studies == 0
    assert ledger.blobs.get(blob) == b"mask"
    assert file.exists()


def test_a_study_goes_with_its_files_its_masks_and_what_they_took_up(ledger: Ledger) -> None:
    blob = aged(ledger, b"mask")
    file = study(ledger, "1.2.1", OLD, blob)
    other = study(ledger, "1.2.2", NEW)

    freed = upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE))

    assert (freed.studies, freed.bytes) == (1, 4)
    assert not file.exists()
    assert not ledger.blobs.path(blob).exists()
    assert other.exists()
    assert ledger.verify().faults == ()
    assert not list((ledger.data / "removing").iterdir())


def test_an_object_that_comes_while_its_old_study_is_removed_keeps_its_file(ledger: Ledger) -> None:
    """The index links a file to its place before it enters it; what it was told of lies in incoming until then."""
    old = study(ledger, "1.2.1", OLD)
    late = place(ledger, "1.2.1", number=2)
    incoming = ledger.data / "incoming"
    incoming.mkdir()
    os.link(late, incoming / "1.2.1.1.2.7b-0.dcm")

    upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE))
    with ledger.begin("index") as tx:
        enter(tx, "1.2.1", NEW, number=2)

    assert late.read_bytes() == b"DICM"
    assert not old.exists()


def test_a_study_that_got_something_new_since_the_round_began_is_kept(ledger: Ledger) -> None:
    """Removing the studies before it may take minutes."""
    old = study(ledger, "1.2.1", OLD)
    with ledger.begin_reading() as tx:
        due = tx.studies.quiet_outside(BEFORE, 1e12, ())
    late = place(ledger, "1.2.1", number=2)
    with ledger.begin("index") as tx:
        enter(tx, "1.2.1", NEW, number=2)

    assert due == ("1.2.1",)
    assert not upkeep.forget(ledger, "test", "1.2.1", upkeep.Horizon(before=BEFORE), {})
    assert old.exists()
    assert late.exists()


def test_what_a_crash_left_half_removed_is_finished_and_what_is_known_comes_back(ledger: Ledger) -> None:
    known = study(ledger, "1.2.1", NEW)
    apart = ledger.data / "removing" / "1.2.1"
    apart.parent.mkdir()
    os.rename(ledger.data / "instances" / "1.2.1", apart)
    forgotten = apart / "1.2.1.1" / "1.2.1.1.9.0badcafe.dcm"
    forgotten.write_bytes(b"DICM")

    upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE))

    assert known.read_bytes() == b"DICM"
    assert not apart.exists()
    assert not (known.parent / forgotten.name).exists()


def test_a_series_that_came_under_two_studies_goes_with_its_own_and_not_with_the_other(ledger: Ledger) -> None:
    """Its objects lie where each of them says, in the folders of both studies; its row belongs to the first."""
    stray = replace(instance("1.2.1", 2), study_uid="1.2.2", path="instances/1.2.2/1.2.1.1/1.2.1.1.2.0badcafe.dcm")
    other = study(ledger, "1.2.2", OLD)
    study(ledger, "1.2.1", NEW)
    file = ledger.data / stray.path
    file.parent.mkdir()
    file.write_bytes(b"DICM")
    with ledger.begin("test") as tx:
        tx.studies.record(
            [Arrival(instance=stray, association=None, calling_ae="CT1", called_ae="NODE", received_at=NEW)]
        )

    assert upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE)).studies == 1
    assert (other.exists(), file.exists()) == (False, True)

    freed = upkeep.retain(ledger, "test", upkeep.Horizon(before=NEW + 1))
    assert (freed.studies, freed.bytes) == (1, 8)
    assert not list(ledger.data.glob("instances/*"))


def test_other_bytes_of_an_object_that_name_another_study_go_with_it(ledger: Ledger) -> None:
    moved = replace(
        instance("1.2.1"), study_uid="1.2.2", path="instances/1.2.2/1.2.2.1/1.2.1.1.1.0other.dcm", digest="1"
    )
    study(ledger, "1.2.1", OLD)
    file = ledger.data / moved.path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"DICM")
    with ledger.begin("test") as tx:
        tx.studies.record(
            [Arrival(instance=moved, association=None, calling_ae="CT1", called_ae="NODE", received_at=OLD)]
        )

    upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE))

    assert not list(ledger.data.glob("instances/*"))
    with ledger.begin_reading() as tx:
        assert tx.studies.paths([moved.sop_instance_uid]) == set()


def test_notices_of_a_study_go_with_it_and_old_ones_of_no_study_too(ledger: Ledger) -> None:
    study(ledger, "1.2.1", OLD)
    for number in range(120):
        notice = Notice(
            sop_instance_uid=f"1.3.{number}", kind=NoticeKind.IAN, state=AVAILABLE, peer="PACS",
            study_uid="1.2.1" if number % 2 else "1.2.9", objects={f"1.2.1.1.{number}": "1.2.1.1"},
        )  # fmt: skip
        with ledger.begin("test") as tx:
            tx.sources.notice(notice)

    upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE))
    with ledger.begin_reading() as tx:
        left = [number for number in range(120) if tx.sources.state_of(f"1.3.{number}")]
    upkeep.retain(ledger, "test", upkeep.Horizon(before=time.time() + 1))

    assert left == list(range(0, 120, 2))
    with ledger.begin_reading() as tx:
        assert not any(tx.sources.state_of(f"1.3.{number}") for number in range(120))


#: Removes what is due two rows at a time, and is killed after so many transactions.
KILLED = """
import os, signal, sys, types
from pathlib import Path
from storage import upkeep
from storage.ledger import Ledger

left = int(sys.argv[3])

def sleep(_seconds):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

upkeep._ROWS = 2
upkeep.time = types.SimpleNamespace(sleep=sleep, time=upkeep.time.time)
upkeep.retain(Ledger(Path(sys.argv[1]), sys.argv[2]), "killed", upkeep.Horizon(before=float(sys.argv[4])))
"""


def killed_while_removing(ledger: Ledger, slices: int) -> None:
    """A study of seven objects is due, and the process that removes it dies after so many slices."""
    for number in range(1, 8):
        place(ledger, "1.2.1", number)
        with ledger.begin("test") as tx:
            enter(tx, "1.2.1", OLD, number)
    with ledger.begin("test") as tx:
        tx.studies.complete("1.2.1.1", {})
        tx.sources.notice(
            Notice(sop_instance_uid="1.3.1", kind=NoticeKind.IAN, state=AVAILABLE, peer="PACS", study_uid="1.2.1",
                   objects={f"1.2.1.1.{number}": "1.2.1.1" for number in range(1, 8)})
        )  # fmt: skip
    given = [str(ledger.data), ledger.url, str(slices + 1), str(time.time() + 60)]
    done = subprocess.run([sys.executable, "-c", KILLED, *given], check=False)
    assert done.returncode == -signal.SIGKILL


def rows(ledger: Ledger) -> list[str]:
    with ledger.read() as session:
        return sorted(session.scalars(select(InstanceRow.sop_instance_uid)))


def said(ledger: Ledger) -> list[int]:
    """How many objects the trail says were removed, each time."""
    with ledger.read() as session:
        return [row.details["instances"] for row in views.trail(session, "1.2.1") if row.action == "files removed"]


@pytest.mark.parametrize("slices", [1, 4, 6])
def test_a_large_study_whose_removal_was_killed_is_removed_by_the_next_round(ledger: Ledger, slices: int) -> None:
    killed_while_removing(ledger, slices)
    with ledger.begin_reading() as tx:
        evidence, open_ = tx.studies.evidence("1.2.1.1"), tx.studies.undecided()
        holding, stated = tx.sources.holding(["1.2.1"])["1.2.1"], tx.sources.state_of("1.3.1")

    assert len(rows(ledger)) == {1: 7, 4: 5, 6: 1}[slices]  # the notice goes first, with the objects that it names
    assert said(ledger) == []
    assert evidence is not None
    assert (evidence.series.instances, evidence.complete_instances, open_) == (0, 0, ())  # its files are gone
    assert holding.removed
    assert stated in ("CANCELED", None)

    freed = upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE))

    assert (rows(ledger), said(ledger)) == ([], [7])
    assert (freed.studies, freed.bytes) == (1, 28)
    assert not list(ledger.data.glob("instances/*"))
    assert not list(ledger.data.glob("removing/*"))
    assert upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE)).studies == 0
    assert said(ledger) == [7]
    with ledger.begin_reading() as tx:
        assert tx.sources.state_of("1.3.1") is None
    assert ledger.verify().faults == ()


def test_an_object_that_comes_again_while_its_study_is_removed_is_new(ledger: Ledger) -> None:
    """What is left of its series has no files any more: nothing may be made of it, and it must not go with it."""
    killed_while_removing(ledger, 5)
    last = rows(ledger)[-1]
    again = place(ledger, "1.2.1", int(last.rpartition(".")[2]))

    with ledger.begin("index") as tx:
        enter(tx, "1.2.1", NEW, int(last.rpartition(".")[2]))
        seen = tx.studies.evidence("1.2.1.1")

    assert (rows(ledger), said(ledger)) == ([last], [7])
    assert seen is not None
    assert (seen.series.instances, seen.last_at) == (1, NEW)
    upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE))
    assert (rows(ledger), again.exists()) == ([last], True)


def waits(ledger: Ledger) -> bool:
    """Whether some transaction waits for another, on PostgreSQL; on SQLite none begins while another writes."""
    with ledger.read() as session:
        if session.get_bind().dialect.name != "postgresql":
            return True
        return bool(session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


@pytest.mark.parametrize("most", [100, 2], ids=["at once", "in slices"])
@pytest.mark.parametrize("number", [3, 8], ids=["again", "anew"])
def test_an_object_that_is_entered_while_a_removal_begins_stays(ledger: Ledger, number: int, most: int) -> None:
    """The other transaction has seen what the first removes, and waits for it."""
    for n in range(1, 8):
        with ledger.begin("test") as tx:
            enter(tx, "1.2.1", OLD, n)
    tries: list[str] = []

    def record() -> None:
        while True:
            try:
                with ledger.begin("index") as tx:
                    enter(tx, "1.2.1", NEW, number)
            except Transient:
                tries.append("overtaken")
                continue
            return

    entering = threading.Thread(target=record)
    with ledger.begin("retention") as tx:
        tx.studies.hold("1.2.1")
        entering.start()
        while not waits(ledger):
            time.sleep(0.01)
        tx.studies.begin_removal("1.2.1")
        more = tx.studies.remove_some("1.2.1", most)
    entering.join()
    while more:
        with ledger.begin("retention") as tx:
            more = tx.studies.remove_some("1.2.1", most)

    assert (rows(ledger), said(ledger)) == ([f"1.2.1.1.{number}"], [7])
    assert len(tries) <= 1


def test_no_file_of_a_half_removed_study_is_put_back(ledger: Ledger) -> None:
    killed_while_removing(ledger, 5)
    left = rows(ledger)

    upkeep._settle_all(ledger)

    assert rows(ledger) == left
    assert not list(ledger.data.glob("instances/*"))


def test_masks_of_overlapping_segments_and_maps_go_with_their_study(ledger: Ledger) -> None:
    first, over, heat, made = (aged(ledger, data) for data in (b"first", b"over", b"heat", b"made"))
    study(ledger, "1.2.1", OLD)
    shape = {"shape": (1, 2, 2), "dtype": "int16"}
    code = prediction_of("1.2.1").algorithm.family
    with ledger.begin("test") as tx:
        known = prediction_of("1.2.1", first)
        assert known.mask is not None
        prediction = replace(
            known,
            mask=Mask(blob=first, shape=(1, 2, 2), frames=known.mask.frames, over=(over,)),
            heatmaps=(Heatmap(shown=Shown.SALIENCY, label="S", method="M", array=Array(blob=heat, **shape)),),
            images=(DerivedImage(label="D", method=code, text="T", array=Array(blob=made, **shape)),),
        )
        tx.predictions.save(prediction)
    study(ledger, "1.2.2", NEW, over)
    with ledger.begin_reading() as tx:
        assert tx.predictions.holders() == {
            first: {"1.2.1"}, over: {"1.2.1", "1.2.2"}, heat: {"1.2.1"}, made: {"1.2.1"},
        }  # fmt: skip

    upkeep.retain(ledger, "test", upkeep.Horizon(before=BEFORE))

    assert [ledger.blobs.path(blob).exists() for blob in (first, over, heat, made)] == [False, True, False, False]
    with ledger.begin_reading() as tx:
        assert set(tx.predictions.holders()) == {over}
