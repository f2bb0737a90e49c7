"""What retention removes, and what it must leave to others."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from storage import upkeep
from storage.facts.arrival import AVAILABLE, Arrival, Notice, NoticeKind
from storage.facts.study import Instance
from storage.ledger import Ledger, Transaction
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
