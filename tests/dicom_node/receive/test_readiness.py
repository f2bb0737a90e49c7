"""What a department's workflow manager says of the input of its steps (UPS), over real associations."""

from __future__ import annotations

import time

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pynetdicom import AE

from dicom_node.receive.assembly import evidence_of
from dicom_node.receive.completeness import judge
from dicom_node.receive.contexts import STORAGE_COMMITMENT, UPS_EVENT, UPS_PUSH
from storage import views
from storage.facts.arrival import Stated
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
STEP = "1.2.3.97"


def a_workitem(readiness: str, *inputs: Dataset, state: str = "SCHEDULED") -> Dataset:
    dataset = Dataset()
    dataset.ProcedureStepState, dataset.InputReadinessState = state, readiness
    dataset.InputInformationSequence = list(inputs)
    return dataset


def an_input(numbers: range = range(0), *, study: str = STUDY, series: str = SERIES) -> Dataset:
    """One item of the Input Information Sequence; without numbers it names no object, without a series the study."""
    item = Dataset()
    item.TypeOfInstances, item.StudyInstanceUID = "DICOM", study
    if series:
        item.SeriesInstanceUID = series
    if numbers:
        item.ReferencedSOPSequence = references(numbers)
    return item


def a_report(readiness: str, state: str = "SCHEDULED") -> Dataset:
    """The Event Information of a UPS State Report, which names no input."""
    dataset = Dataset()
    dataset.ProcedureStepState, dataset.InputReadinessState = state, readiness
    return dataset


def push(receiver: Receiver, workitem: Dataset, uid: str = STEP, *, calling: str = "MANAGER") -> int:
    with associated(receiver, calling=calling) as assoc:
        return int(assoc.send_n_create(workitem, UPS_PUSH, uid)[0].Status)


def report(receiver: Receiver, information: Dataset, *, event: int = 1, calling: str = "MANAGER") -> int:
    """Send it as managers do: the context is of UPS Event, the affected SOP class UPS Push (PS3.4 CC.1.1)."""
    with associated(receiver, calling=calling) as assoc:
        answer, _ = assoc.send_n_event_report(information, event, UPS_PUSH, STEP, meta_uid=UPS_EVENT)
        return int(answer.Status)


def test_what_a_ready_input_names_is_what_is_complete(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2, at=time.time() - 5)
    status = push(receiver, a_workitem("READY", an_input(range(1, 4))))
    before = stated(receiver.ledger)
    arrive(receiver.ledger, 3)
    after = stated(receiver.ledger)

    assert status == 0
    assert (before.objects, before.missing, before.by) == (3, 1, "UPS READY of MANAGER")
    assert (after.objects, after.missing) == (3, 0)
    with receiver.ledger.begin_reading() as tx:
        evidence = evidence_of(tx, SERIES)
    assert evidence is not None
    assert POLICY(evidence).at <= time.time()
    assert (
        judge(evidence, None, SETTINGS, time.time()).why == "UPS READY of MANAGER names 3 objects of it, all are here"
    )


def test_an_input_that_is_not_ready_is_waited_for_until_its_manager_reports_that_it_is(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2)
    push(receiver, a_workitem("UNAVAILABLE", an_input(range(1, 3))))
    waiting = stated(receiver.ledger)
    status = report(receiver, a_report("READY"))
    ready = stated(receiver.ledger)

    assert status == 0
    assert waiting == Stated(awaits="UPS UNAVAILABLE of MANAGER")
    assert (ready.objects, ready.missing, ready.awaits) == (2, 0, "")


def test_a_report_that_comes_after_the_end_of_its_step_brings_nothing_back(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2)
    push(receiver, a_workitem("INCOMPLETE", an_input(range(1, 3))))
    statuses = [report(receiver, a_report("INCOMPLETE", state)) for state in ("CANCELED", "SCHEDULED")]

    assert statuses == [0, 0]
    assert stated(receiver.ledger) == Stated()


def test_only_the_series_of_an_input_wait_for_it(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, at=time.time() - 50)
    arrive(receiver.ledger, 1, series="1.2.3.2")
    push(receiver, a_workitem("INCOMPLETE", an_input(range(1, 3))))

    assert stated(receiver.ledger).awaits == "UPS INCOMPLETE of MANAGER"
    assert not stated(receiver.ledger, "1.2.3.2").awaits


@pytest.mark.parametrize("series", [SERIES, ""], ids=["series", "study"])
def test_equal_numbers_need_not_last_where_the_manager_names_the_whole(receiver: Receiver, series: str) -> None:
    arrive(receiver.ledger, 1, 2)
    with receiver.ledger.begin_reading() as tx:
        before = evidence_of(tx, SERIES)
    push(receiver, a_workitem("READY", an_input(series=series)))
    with receiver.ledger.begin_reading() as tx:
        after = evidence_of(tx, SERIES)
    with receiver.ledger.read() as session:
        [notice] = views.notices(session, STUDY)

    assert before is not None
    assert after is not None
    assert after.stated == Stated(by="UPS READY of MANAGER", whole=True)
    assert not judge(before, 2, SETTINGS, before.last_at).complete
    assert judge(after, 2, SETTINGS, after.last_at).complete
    assert not judge(after, 3, SETTINGS, after.last_at + 100).complete
    assert not judge(after, None, SETTINGS, after.last_at).complete, "its numbers are not known: the quiet time holds"
    assert (notice.objects, notice.wholes) == (0, 1)


def test_an_input_of_several_studies_counts_for_each(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2)
    other = an_input(range(0), study="1.2.9", series="1.2.9.1")
    push(receiver, a_workitem("READY", other, an_input(range(1, 3))))
    with receiver.ledger.read() as session:
        here, there = views.notices(session, STUDY), views.notices(session, "1.2.9")

    assert stated(receiver.ledger).objects == 2
    assert [n.state for n in here] == [n.state for n in there] == ["READY"]


def test_input_that_is_named_again_is_another_list(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2)
    push(receiver, a_workitem("INCOMPLETE", an_input(range(1, 10))))
    report(receiver, a_workitem("READY", an_input(range(1, 3))))

    assert (stated(receiver.ledger).objects, stated(receiver.ledger).missing) == (2, 0)


def test_nobody_waits_for_the_input_of_a_step_that_was_cancelled(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1)
    push(receiver, a_workitem("INCOMPLETE", an_input(range(1, 3))))
    status = report(receiver, a_report("INCOMPLETE", "CANCELED"))

    assert status == 0
    assert stated(receiver.ledger) == Stated()


def test_a_report_by_itself_counts_where_it_names_the_input(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2)
    unknown = report(receiver, a_report("READY"))
    known = report(receiver, a_workitem("READY", an_input(range(1, 3))))

    assert (unknown, known) == (0x0112, 0)
    assert stated(receiver.ledger).objects == 2


def test_what_cannot_be_taken_is_refused_with_the_status_of_the_standard(receiver: Receiver) -> None:
    ready = a_workitem("READY", an_input(range(1, 3)))
    with associated(receiver, calling="MANAGER") as assoc:
        unknown = assoc.send_n_set(ready, UPS_PUSH, STEP)[0].Status
    answers = [
        unknown,
        push(receiver, a_workitem("READY", state="IN PROGRESS")),
        push(receiver, a_workitem("SOON")),
        push(receiver, ready),
        push(receiver, ready),
        report(receiver, a_report("READY"), event=9),
        report(receiver, a_report("READY"), event=3),
        report(receiver, a_report("READY"), calling="OTHER"),
    ]

    expected = ["0xc307", "0xc309", "0x106", "0x0", "0x111", "0x113", "0x0", "0x110"]
    assert [hex(a) for a in answers] == expected


def inquire(receiver: Receiver, *keywords: str, uid: str = STEP) -> tuple[int, Dataset]:
    with associated(receiver, calling="MANAGER") as assoc:
        status, found = assoc.send_n_get([Tag(k) for k in keywords], UPS_PUSH, uid)
    return int(status.Status), found or Dataset()


def act(receiver: Receiver, action: int, uid: str = STEP, *, calling: str = "MANAGER") -> int:
    information = Dataset()
    information.ReasonForCancellation = "ordered twice"
    with associated(receiver, calling=calling) as assoc:
        answer, _ = assoc.send_n_action(information, action, UPS_PUSH, uid)
        assert assoc.is_established, "it is answered, not aborted"
        return int(answer.Status)


def test_a_manager_may_look_up_the_states_of_a_step_and_is_told_what_is_not_kept(receiver: Receiver) -> None:
    push(receiver, a_workitem("INCOMPLETE", an_input(range(1, 3))))
    whole = inquire(receiver)
    part = inquire(receiver, "InputReadinessState")
    more = inquire(receiver, "ProcedureStepState", "PatientName")
    unknown = inquire(receiver, uid="1.2.3.4")

    assert whole[0] == part[0] == 0x0000
    assert (whole[1].ProcedureStepState, whole[1].InputReadinessState) == ("SCHEDULED", "INCOMPLETE")
    assert [e.keyword for e in part[1]] == ["InputReadinessState"]
    assert (more[0], [e.keyword for e in more[1]]) == (0x0001, ["ProcedureStepState"])
    assert unknown == (0xC307, Dataset())


def test_a_step_is_cancelled_on_request_and_its_input_is_waited_for_no_longer(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1)
    push(receiver, a_workitem("INCOMPLETE", an_input(range(1, 3))))
    stranger = act(receiver, 2, calling="OTHER")
    waiting = stated(receiver.ledger).awaits
    answers = [act(receiver, 2), act(receiver, 2), act(receiver, 2, "1.2.3.4")]

    assert (hex(stranger), waiting) == ("0x124", "UPS INCOMPLETE of MANAGER")
    assert [hex(a) for a in answers] == ["0x0", "0xb304", "0xc307"]
    assert stated(receiver.ledger) == Stated()
    assert inquire(receiver)[1].ProcedureStepState == "CANCELED"


def test_what_a_node_that_performs_no_steps_does_not_serve_has_a_status(receiver: Receiver) -> None:
    push(receiver, a_workitem("READY", an_input(range(1, 3))))
    performing, locked = a_workitem("READY", state="IN PROGRESS"), a_report("READY")
    locked.TransactionUID = "1.2.3.5"
    with associated(receiver, calling="MANAGER") as assoc:
        updates = [
            assoc.send_n_set(update, UPS_PUSH, STEP)[0].Status for update in (performing, locked, a_report("READY"))
        ]
        query = Dataset()
        query.ProcedureStepState = ""
        found = [status.Status for status, _ in assoc.send_c_find(query, UPS_PUSH)]
    act(receiver, 2)
    with associated(receiver, calling="MANAGER") as assoc:
        updates.append(assoc.send_n_set(a_report("READY"), UPS_PUSH, STEP)[0].Status)

    assert [hex(u) for u in updates] == ["0x106", "0xc310", "0x0", "0xc300"]
    assert {action: hex(act(receiver, action)) for action in (1, 3, 4, 5, 9)} == {
        1: "0x123", 3: "0xc315", 4: "0xc315", 5: "0xc315", 9: "0x123",
    }  # fmt: skip
    assert [hex(f) for f in found] == ["0x211"]


def test_a_node_that_keeps_no_archive_is_asked_for_commitment_in_vain(receiver: Receiver) -> None:
    ae = AE(ae_title="MANAGER")
    ae.add_requested_context(STORAGE_COMMITMENT)
    assoc = ae.associate("127.0.0.1", receiver.scp.port, ae_title="DICOM_NODE")
    asked = Dataset()
    asked.TransactionUID = "1.2.3.5"
    answer, _ = assoc.send_n_action(asked, 1, STORAGE_COMMITMENT, "1.2.840.10008.1.20.1.1")
    assoc.release()

    assert hex(answer.Status) == "0x211"


def test_a_ready_input_hastens_the_assembly_of_its_series(receiver: Receiver) -> None:
    arrive(receiver.ledger, 1, 2, at=time.time() - 2)
    push(receiver, a_workitem("INCOMPLETE", an_input(range(1, 3))))
    late = next_due(receiver.ledger)
    report(receiver, a_report("READY"))

    assert next_due(receiver.ledger) <= time.time() < late


def next_due(ledger: Ledger) -> float:
    with ledger.begin_reading() as tx:
        at = tx.queue.next_due([Kind.ASSEMBLE])
    assert at is not None
    return at
