"""What modalities and archives say of objects: MPPS and Instance Availability Notification, over real associations."""

from __future__ import annotations

import time

import pytest
from pydicom.dataset import Dataset

from dicom_node.receive.completeness import judge
from dicom_node.receive.contexts import AVAILABILITY, PERFORMED_STEP
from dicom_node.receive.events import Noticed, decode, encode
from storage.facts.arrival import Evidence, Notice, NoticeKind, Stated
from storage.facts.study import Series
from storage.facts.task import Kind
from storage.ledger import Ledger
from tests.dicom_node.receive.conftest import Receiver
from tests.dicom_node.receive.noticing import (
    POLICY,
    SERIES,
    SETTINGS,
    STUDY,
    arrive,
    associated,
    receiver,
    references,
    stated,
)

__all__ = ["receiver"]  # a fixture
STEP = "1.2.3.99"


def a_step(status: str, numbers: range = range(0)) -> Dataset:
    dataset, scheduled, series = Dataset(), Dataset(), Dataset()
    scheduled.StudyInstanceUID = STUDY
    dataset.ScheduledStepAttributesSequence = [scheduled]
    dataset.PerformedProcedureStepStatus, dataset.Modality = status, "CT"
    series.SeriesInstanceUID, series.ReferencedImageSequence = SERIES, references(numbers)
    dataset.PerformedSeriesSequence = [series] if numbers else []
    return dataset


def an_availability(numbers: range) -> Dataset:
    dataset, series = Dataset(), Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = SERIES, references(numbers)
    for item in series.ReferencedSOPSequence:
        item.InstanceAvailability, item.RetrieveAETitle = "ONLINE", "PACS"
    dataset.StudyInstanceUID, dataset.ReferencedSeriesSequence = STUDY, [series]
    return dataset


def test_a_performed_step_is_followed_from_its_begin_to_its_end(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2)
    with associated(receiver) as assoc:
        begun, _ = assoc.send_n_create(a_step("IN PROGRESS"), PERFORMED_STEP, STEP)
        assert stated(receiver.ledger) == Stated(awaits="MPPS IN PROGRESS of SCANNER")
        ended, _ = assoc.send_n_set(a_step("COMPLETED", range(1, 4)), PERFORMED_STEP, STEP)
    waiting = stated(receiver.ledger)
    arrive(receiver.ledger, 3)

    assert (begun.Status, ended.Status) == (0, 0)
    assert (waiting.objects, waiting.missing, waiting.awaits) == (3, 1, "")
    assert waiting.by == "MPPS COMPLETED of SCANNER"
    assert stated(receiver.ledger).missing == 0


def test_the_end_of_a_step_makes_its_series_due_at_once(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2, 3, at=time.time() - 5)
    with associated(receiver) as assoc:
        assoc.send_n_create(a_step("IN PROGRESS"), PERFORMED_STEP, STEP)
        with receiver.ledger.begin_reading() as tx:
            before = tx.queue.next_due([Kind.ASSEMBLE])
        assoc.send_n_set(a_step("COMPLETED", range(1, 4)), PERFORMED_STEP, STEP)
        with receiver.ledger.begin_reading() as tx:
            after = tx.queue.next_due([Kind.ASSEMBLE])

    assert before is not None
    assert after is not None
    assert after <= time.time() < before


def test_an_archive_says_what_it_has(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1)
    with associated(receiver, calling="ARCHIVE") as assoc:
        status, _ = assoc.send_n_create(an_availability(range(1, 3)), AVAILABILITY, "1.2.3.98")

    said = stated(receiver.ledger)
    assert status.Status == 0
    assert (said.objects, said.missing, said.by) == (2, 1, "IAN AVAILABLE of ARCHIVE")


@pytest.mark.parametrize(
    ("availability", "objects"), [("OFFLINE", 3), ("NEARLINE ", 3), ("UNAVAILABLE", 0), ("UNAVAILABLE ", 0)]
)
def test_an_archive_that_lacks_something_of_a_series_does_not_say_that_the_rest_is_all(
    receiver: Receiver, availability: str, objects: int
) -> None:
    arrive(receiver.ledger, 1, 2)
    told = an_availability(range(1, 4))
    told.ReferencedSeriesSequence[0].ReferencedSOPSequence[2].InstanceAvailability = availability
    with associated(receiver, calling="ARCHIVE") as assoc:
        status, _ = assoc.send_n_create(told, AVAILABILITY, "1.2.3.98")

    assert status.Status == 0
    assert stated(receiver.ledger).objects == objects


def test_what_is_out_of_order_is_refused_with_the_status_of_the_standard(receiver: Receiver) -> None:
    with associated(receiver) as assoc:
        answers = [
            assoc.send_n_set(a_step("COMPLETED"), PERFORMED_STEP, STEP)[0].Status,
            assoc.send_n_create(a_step("COMPLETED"), PERFORMED_STEP, STEP)[0].Status,
            assoc.send_n_create(a_step("IN PROGRESS"), PERFORMED_STEP, STEP)[0].Status,
            assoc.send_n_create(a_step("IN PROGRESS"), PERFORMED_STEP, STEP)[0].Status,
            assoc.send_n_set(a_step("BUSY"), PERFORMED_STEP, STEP)[0].Status,
            assoc.send_n_set(a_step("DISCONTINUED"), PERFORMED_STEP, STEP)[0].Status,
            assoc.send_n_set(a_step("COMPLETED"), PERFORMED_STEP, STEP)[0].Status,
        ]
    with associated(receiver, calling="OTHER") as assoc:
        assoc.send_n_create(a_step("IN PROGRESS"), PERFORMED_STEP, "1.2.3.97")
    with associated(receiver) as assoc:
        answers.append(assoc.send_n_set(a_step("COMPLETED"), PERFORMED_STEP, "1.2.3.97")[0].Status)

    assert [hex(a) for a in answers] == ["0x112", "0x106", "0x0", "0x111", "0x106", "0x0", "0x110", "0x110"]


def test_a_step_that_goes_on_holds_back_its_latest_series_only(ledger: Ledger) -> None:
    arrive(ledger, 1, at=1000.0)
    notice = Noticed(peer="S", sop_class_uid=PERFORMED_STEP, sop_instance_uid=STEP, implicit=True, created=True,
                     data=b"")  # fmt: skip
    assert decode(encode(notice)) == notice
    with ledger.begin("test") as tx:
        tx.sources.notice(
            Notice(sop_instance_uid=STEP, kind=NoticeKind.MPPS, state="IN PROGRESS", peer="S", study_uid=STUDY)
        )
    assert stated(ledger).awaits
    arrive(ledger, 1, series="1.2.3.2", at=1010.0)

    assert not stated(ledger).awaits
    assert stated(ledger, "1.2.3.2").awaits


def evidence(said: Stated, here: int = 3, *, calling: str = "OTHER", opened: int = 0) -> Evidence:
    series = Series(
        series_uid=SERIES, study_uid=STUDY, modality="CT", calling_ae=calling, called_ae="N", revision=0,
        instances=here, header={},
    )  # fmt: skip
    return Evidence(
        series=series, complete_instances=0, last_at=100.0, open_associations=opened, last_closed_at=101.0,
        last_ending="released", associations=1, gap=0.1, stated=said,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "opened", "due"),
    [
        (Stated(objects=3, missing=0, by="IAN"), 0, 100.0),
        (Stated(objects=3, missing=0, by="IAN"), 1, 100.7),
        (Stated(objects=1, missing=0, by="MPPS"), 0, 106.0),  # one image named for each series says nothing
        (Stated(awaits="MPPS"), 0, 220.0),
        (Stated(), 0, 106.0),
    ],
)
def test_notices_move_the_moment_of_completeness(said: Stated, opened: int, due: float) -> None:
    assert POLICY(evidence(said, opened=opened)).at == pytest.approx(due)


@pytest.mark.parametrize(
    ("said", "expected", "now", "complete", "missing"),
    [
        (Stated(objects=3, missing=0, by="MPPS"), None, 100.1, True, 0),
        (Stated(objects=5, missing=2, by="MPPS"), None, 110.0, False, 2),
        (Stated(objects=5, missing=2, by="MPPS"), 3, 110.0, False, 2),  # the archive itself has not all yet
        (Stated(objects=5, missing=2, by="MPPS"), 6, 110.0, False, 3),
        (Stated(objects=5, missing=2, by="MPPS"), None, 700.0, True, 2),
    ],
)
def test_what_notices_name_is_weighed_with_what_the_source_has(
    said: Stated, expected: int | None, now: float, complete: bool, missing: int
) -> None:
    judgement = judge(evidence(said, calling="PACS"), expected, SETTINGS, now)

    assert (judgement.complete, judgement.missing) == (complete, missing)
