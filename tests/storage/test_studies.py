"""The book of what arrived: told twice, entered once."""

from __future__ import annotations

import dataclasses

from storage.facts.arrival import Arrival
from storage.facts.study import Instance
from storage.ledger import Ledger, Transaction
from storage.views import trail

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY, SERIES = "1.2.826.0.9", "1.2.826.0.9.1"


def arrival(number: int, *, digest: str = "00", series: str = SERIES) -> Arrival:
    instance = Instance(
        sop_instance_uid=f"{SERIES}.{number}", sop_class_uid=CT, transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_uid=series, study_uid=STUDY, path=f"instances/{number}.{digest}.dcm", size=10 + number, digest=digest,
        header={"Modality": "CT", "ImagePositionPatient": [0.0, 0.0, float(number)]},
    )  # fmt: skip
    return Arrival(instance=instance, association="A", calling_ae="PACS", called_ae="NODE", received_at=100.0 + number)


def received(tx: Transaction, *arrivals: Arrival) -> dict[str, str]:
    tx.studies.open_association("A", "PACS", "NODE", "127.0.0.1", 99.0)
    return tx.studies.record(arrivals)


def test_a_batch_that_is_entered_again_after_a_crash_changes_no_row_of_the_book(ledger: Ledger) -> None:
    batch = [arrival(n) for n in range(700)]
    with ledger.begin("receive") as tx:
        first = received(tx, *batch)
    with ledger.begin_reading() as tx:
        before = (tx.studies.instances(SERIES), tx.studies.evidence(SERIES))
    with ledger.begin("receive") as tx:
        again = received(tx, *batch)
    with ledger.begin_reading() as tx:
        after = (tx.studies.instances(SERIES), tx.studies.evidence(SERIES))

    assert set(first.values()) == {"new"}
    assert set(again.values()) == {"known"}
    assert before == after
    assert before[1] is not None
    assert (before[1].series.instances, before[1].open_associations) == (700, 1)


def test_the_same_object_twice_in_one_batch_is_one_instance_and_other_bytes_are_a_variant(ledger: Ledger) -> None:
    with ledger.begin("receive") as tx:
        fates = received(tx, arrival(1), arrival(2), arrival(1))
    with ledger.begin("receive") as tx:
        other = received(tx, arrival(2, digest="ff"))

    assert fates == {f"{SERIES}.1": "new", f"{SERIES}.2": "new"}
    assert other == {f"{SERIES}.2": "variant"}
    with ledger.begin_reading() as tx:
        assert [i.digest for i in tx.studies.instances(SERIES)] == ["00", "00"]


def test_what_comes_after_a_series_was_complete_stands_behind_it_whatever_the_clock_says(ledger: Ledger) -> None:
    """A run takes the first so many objects; the clock may be set back, and objects may be entered late."""
    with ledger.begin("receive") as tx:
        received(tx, arrival(5), arrival(6), arrival(7))
        tx.studies.complete(SERIES, {"Modality": "CT"})
    for late in (1, 7000, 3, 2):
        again = dataclasses.replace(arrival(late), received_at=100.0 + min(late, 7))
        with ledger.begin("receive") as tx:
            received(tx, again)

    with ledger.begin_reading() as tx:
        found = [int(i.sop_instance_uid.rpartition(".")[2]) for i in tx.studies.instances(SERIES)]
    assert found == [5, 6, 7, 1, 7000, 3, 2]


def test_the_trail_names_every_object_of_a_batch_with_its_digest_in_one_row_a_series(ledger: Ledger) -> None:
    there = dataclasses.replace(arrival(9, digest="ab"), instance=arrival(9, digest="ab", series="1.2.5").instance)
    with ledger.begin("receive") as tx:
        received(tx, arrival(1), arrival(2), there)

    with ledger.read() as session:
        rows = [row for row in trail(session) if row.action == "instances received"]
    assert {row.series_uid: row.details["instances"] for row in rows} == {
        SERIES: {f"{SERIES}.1": "00", f"{SERIES}.2": "00"},
        "1.2.5": {f"{SERIES}.9": "ab"},
    }
    assert ledger.verify().faults == ()
