"""When a series counts as complete, and what follows."""

from __future__ import annotations

import time

import pytest

from dicom_node.config import ReceiveSection
from dicom_node.receive.assembly import QuietTime, assemble, expect, representative
from dicom_node.receive.policy import admit
from storage.facts.arrival import Arrival, Evidence
from storage.facts.study import Instance, Series
from storage.facts.task import Kind, Later
from storage.ledger import Ledger
from storage.stage import Done

SETTINGS = ReceiveSection(quiet_seconds=2, quiet_seconds_open=20, quiet_seconds_broken=15)


def an_instance(number: int, series: str = "1.2.3.1") -> Instance:
    return Instance(
        sop_instance_uid=f"{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_uid=series,
        study_uid="1.2.3",
        path=f"instances/{number}.dcm",
        size=10,
        digest=f"{number:064x}",
        header={"Modality": "CT", "InstanceNumber": number},
    )


def arrive(ledger: Ledger, *numbers: int) -> None:
    arrivals = [
        Arrival(instance=an_instance(n), association=None, calling_ae="PACS", called_ae="N", received_at=time.time())
        for n in numbers
    ]
    with ledger.begin("receive") as tx:
        tx.studies.record(arrivals)
        expect(QuietTime(settings=SETTINGS))(tx, ["1.2.3.1"])


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
    handler = assemble(ledger, lambda _evidence: _Now(), lambda _path: {"Modality": "CT"})
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
    arrive(ledger, 1)
    handler = assemble(ledger, QuietTime(settings=SETTINGS), lambda _path: {})
    with ledger.begin("test") as tx:
        assert tx.queue.claim([Kind.ASSEMBLE], 30) is None  # not due
        tx.queue.hasten(Kind.ASSEMBLE, "1.2.3.1/1", 0.0)
        task = _claim(tx)

    result = handler.work(task)

    assert isinstance(result, Later)
    assert result.at == pytest.approx(time.time() + 2, abs=0.5)


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

    refusal = admit(calling, called, address, "NODE", settings)

    assert (refusal.reason if refusal else None) == reason


class _Now:
    at = 0.0
    why = "now"


def _claim(tx: object) -> object:
    task = tx.queue.claim([Kind.ASSEMBLE], 30) or _hasten(tx)  # type: ignore[attr-defined]
    assert task is not None
    return task


def _hasten(tx: object) -> object:
    for key in ("1.2.3.1/1", "1.2.3.1/2"):
        tx.queue.hasten(Kind.ASSEMBLE, key, 0.0)  # type: ignore[attr-defined]
    return tx.queue.claim([Kind.ASSEMBLE], 30)  # type: ignore[attr-defined]
