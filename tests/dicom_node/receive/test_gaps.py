"""The quiet time of a source that cannot be asked follows the pace at which it sends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.config import ReceiveSection
from dicom_node.receive.assembly import evidence_of
from dicom_node.receive.completeness import QuietTime
from dicom_node.receive.gaps import LEAST_SERIES, LONGEST, SHORTEST, habit_of, protocols_of, quiet_time
from storage.facts.arrival import Arrival, Evidence, Habit, bin_edge, pause_bin
from storage.facts.study import Instance, Series
from storage.ledger import Ledger

HEADER = {"Modality": "CT", "ImageType": ["ORIGINAL"], "Rows": 512}


def arrive(ledger: Ledger, series: str, times: list[float], first: int = 0) -> None:
    arrivals = [
        Arrival(
            instance=Instance(
                sop_instance_uid=f"{series}.{n}", sop_class_uid="1.2", transfer_syntax_uid="1.2", series_uid=series,
                study_uid="1.2", path=f"{series}/{n}", size=1, digest=f"{n:064x}", header=HEADER,
            ),
            association=None, calling_ae="SCANNER", called_ae="N", received_at=at,
        )
        for n, at in enumerate(times, first)
    ]  # fmt: skip
    with ledger.begin("test") as tx:
        tx.studies.record(arrivals)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 1.0, 7.3, 90.0])
def test_a_bin_holds_what_falls_into_it_within_a_quarter(seconds: float) -> None:
    edge = bin_edge(pause_bin(seconds))

    assert seconds <= edge * (1 + 1e-9)
    assert edge <= max(seconds * 1.25, 0.05) * (1 + 1e-9)


def test_little_is_not_believed_and_a_rare_stall_among_many_is_passed_over() -> None:
    usual, stall = pause_bin(2.0), pause_bin(90.0)

    assert habit_of({usual: LEAST_SERIES - 1.0}) is None
    few, many = habit_of({usual: 99.0, stall: 1.0}), habit_of({usual: 999.0, stall: 1.0})
    assert few is not None
    assert many is not None
    assert few.pause == pytest.approx(bin_edge(stall))
    assert many.pause == pytest.approx(bin_edge(usual))


def test_the_more_is_known_the_less_is_added_and_it_stays_within_bounds() -> None:
    times = [quiet_time(Habit(series=n, pause=2.0)) for n in (20, 60, 100, 1000)]

    assert times == sorted(times, reverse=True)
    assert times[0] > times[2] == times[3] > 2.0
    assert quiet_time(Habit(series=500, pause=0.05)) == SHORTEST
    assert quiet_time(Habit(series=500, pause=300.0)) == LONGEST


def test_the_longest_pause_of_each_series_is_learned_for_its_protocol(any_ledger: Ledger) -> None:
    protocols = protocols_of("CT", HEADER)
    for number in range(LEAST_SERIES):
        series = f"1.2.{number}"
        arrive(any_ledger, series, [100.0, 100.1, 103.1, 103.2])
        with any_ledger.begin("test") as tx:
            learned = tx.sources.learn(series, protocols, 0)
        assert learned == pytest.approx(3.0)
    arrive(any_ledger, "1.2.99", [200.0])
    with any_ledger.begin_reading() as tx:
        evidence = evidence_of(tx, "1.2.99")

    assert evidence is not None
    assert evidence.habit == Habit(series=LEAST_SERIES, pause=bin_edge(pause_bin(3.0)))
    due = QuietTime(settings=ReceiveSection())(evidence)
    assert due.at == pytest.approx(200.0 + quiet_time(evidence.habit))
    assert "20 series of this source" in due.why


def test_a_pause_that_made_a_second_revision_is_learned_then_and_the_earlier_ones_not_again(ledger: Ledger) -> None:
    arrive(ledger, "1.2.1", [100.0, 104.0])
    with ledger.begin("test") as tx:
        first = tx.sources.learn("1.2.1", ("p",), 0)
    arrive(ledger, "1.2.1", [130.0, 131.0], first=2)
    with ledger.begin("test") as tx:
        second = tx.sources.learn("1.2.1", ("p",), 2)
    arrive(ledger, "1.2.1", [90_000.0], first=4)
    with ledger.begin("test") as tx:
        third = tx.sources.learn("1.2.1", ("p",), 4)
        pauses = tx.sources.pauses("SCANNER", "p")

    assert (first, second, third) == (pytest.approx(4.0), pytest.approx(26.0), None)
    assert pauses == {pause_bin(4.0): 1.0, pause_bin(26.0): 1.0}


def test_old_habits_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.sources.MEMORY_SERIES", 10.0)
    for number in range(12):
        arrive(ledger, f"1.2.{number}", [100.0, 101.0])
        with ledger.begin("test") as tx:
            tx.sources.learn(f"1.2.{number}", ("p",), 0)

    with ledger.begin_reading() as tx:
        assert sum(tx.sources.pauses("SCANNER", "p").values()) < 10.0


def test_a_broken_association_is_waited_for_whatever_is_usual() -> None:
    series = Series(
        series_uid="1", study_uid="1", modality="CT", calling_ae="S", called_ae="N", revision=0, instances=3, header={}
    )
    known = Evidence(
        series=series, complete_instances=0, last_at=100.0, open_associations=0, last_closed_at=101.0,
        last_ending="released", habit=Habit(series=500, pause=0.1),
    )  # fmt: skip
    quiet = QuietTime(settings=ReceiveSection())

    assert quiet(known).at == pytest.approx(102.0)
    assert quiet(replace(known, open_associations=1)).at == pytest.approx(103.0)
    assert quiet(replace(known, last_ending="aborted")).at == pytest.approx(116.0)


def test_a_protocol_says_nothing_of_the_patient() -> None:
    mine, others = protocols_of("CT", HEADER | {"PatientName": "A^B"}), protocols_of("CT", HEADER)

    assert mine == others
    assert mine != protocols_of("CT", HEADER | {"Rows": 256})
    assert mine[1] == "modality CT"
