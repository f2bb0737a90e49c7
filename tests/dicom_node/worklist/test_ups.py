"""Raising a study in the reading worklist by UPS Push."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.demo.pacs import StandInPacs
from dicom_node.worklist.ups import PUSH, Call, Input, create, workitem
from storage.facts.errors import Rejected, Transient
from storage.facts.study import Urgency
from tests.dicom_node.deliver.making import free_port, new_uid, to

HEADER: dict[str, Any] = {
    "PatientName": "Müller^Jörg",
    "PatientID": "4711",
    "PatientBirthDate": "19700101",
    "PatientSex": "M",
    "AccessionNumber": "ACC1",
    "RequestedProcedureID": "RP1",
    "PregnancyStatus": 4,
}

#: PS3.4 Table CC.2.5-3, N-CREATE: with a value (Type 1), and present with or without one (Type 2).
TYPE_1 = ["ScheduledProcedureStepPriority", "ProcedureStepLabel", "WorklistLabel", "InputReadinessState",
          "ScheduledProcedureStepStartDateTime", "ProcedureStepState"]  # fmt: skip
TYPE_2 = [
    "TransactionUID", "ScheduledProcessingParametersSequence", "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence", "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledWorkitemCodeSequence", "CommentsOnTheScheduledProcedureStep", "InputInformationSequence", "PatientName",
    "PatientBirthDate", "PatientSex", "OtherPatientIDsSequence", "AdmissionID", "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "ReferencedRequestSequence",
    "ProcedureStepProgressInformationSequence", "UnifiedProcedureStepPerformedProcedureSequence",
]  # fmt: skip
NOT_ALLOWED = ["SOPClassUID", "SOPInstanceUID", "ScheduledProcedureStepModificationDateTime"]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandInPacs]:
    with StandInPacs(tmp_path / "pacs") as running:
        yield running


def item(urgency: Urgency = Urgency.STAT, header: dict[str, Any] | None = None) -> Dataset:
    reference = ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5")
    source = Input(study_uid="1.2.3", series_uid="1.2.3.4", retrieve_ae="PACS", references=(reference,))
    call = Call(urgency=urgency, label="Read first", reason="emphysema index above 20 %", at=0.0)
    return workitem(call, HEADER if header is None else header, (source,))


def test_a_workitem_carries_all_that_n_create_asks_for() -> None:
    made = item()

    assert [k for k in TYPE_1 if not made.get(k)] == []
    assert [k for k in TYPE_2 if k not in made] == []
    assert [k for k in NOT_ALLOWED if k in made] == []
    assert not made.TransactionUID
    assert len(made.UnifiedProcedureStepPerformedProcedureSequence) == 0


@pytest.mark.parametrize(
    ("urgency", "priority", "label"),
    [(Urgency.STAT, "HIGH", "STAT: Read first; emphysema index above 20 %"),
     (Urgency.HIGH, "HIGH", "Read first; emphysema index above 20 %"),
     (Urgency.ROUTINE, "MEDIUM", "Read first; emphysema index above 20 %")],
)  # fmt: skip
def test_urgency_becomes_priority_and_the_reason_stands_in_the_label(
    urgency: Urgency, priority: str, label: str
) -> None:
    made = item(urgency)

    assert (made.ScheduledProcedureStepPriority, made.ProcedureStepLabel) == (priority, label)


def test_what_was_created_reads_back_whole(pacs: StandInPacs) -> None:
    uid = new_uid()

    assert create(to(pacs.port), uid, item())

    [held] = pacs.workitems()
    kept = dcmread(pacs.folder / "workitems" / f"{uid}.dcm")
    assert (held.sop_instance_uid, held.priority, held.study_uid) == (uid, "HIGH", "1.2.3")
    assert (kept.SOPClassUID, kept.SOPInstanceUID) == (PUSH, uid)
    assert str(kept.PatientName) == "Müller^Jörg"
    assert kept.ReferencedRequestSequence[0].AccessionNumber == "ACC1"
    assert kept.ScheduledWorkitemCodeSequence[0].CodeValue == "110005"
    source = kept.InputInformationSequence[0]
    assert (source.SeriesInstanceUID, source.DICOMRetrievalSequence[0].RetrieveAETitle) == ("1.2.3.4", "PACS")
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert kept.ScheduledProcedureStepStartDateTime == "19700101000000+0000"


def test_a_second_create_finds_it_there_and_is_as_good(pacs: StandInPacs) -> None:
    uid = new_uid()

    assert create(to(pacs.port), uid, item()) is True
    assert create(to(pacs.port), uid, item()) is False
    assert len(pacs.workitems()) == 1


def test_a_header_without_patient_or_order_still_makes_a_workitem(pacs: StandInPacs) -> None:
    assert create(to(pacs.port), new_uid(), item(header={}))


def test_a_value_that_the_standard_forbids_does_not_keep_a_study_from_being_raised(pacs: StandInPacs) -> None:
    odd = HEADER | {
        "PatientID": "4" * 80,
        "PatientSex": "male",
        "PatientBirthDate": "1.1.1970",
        "AccessionNumber": ["A", "B"],
    }

    assert create(to(pacs.port), new_uid(), item(header=odd))

    assert len(pacs.workitems()[0].dataset.get_item("PatientID").value) == 80


def test_a_pacs_without_ups_is_rejected_with_what_to_set(pacs: StandInPacs) -> None:
    pacs.stop()
    pacs.misbehaviour.refuse = frozenset({PUSH})
    pacs.start()

    with pytest.raises(Rejected, match=r"does not offer UPS Push.*worklist\.ups_destination"):
        create(to(pacs.port), new_uid(), item())


def test_a_worklist_that_is_down_is_tried_again() -> None:
    with pytest.raises(Transient, match="nothing listens there"):
        create(to(free_port()), new_uid(), item())


def test_a_workitem_in_another_state_is_refused(pacs: StandInPacs) -> None:
    begun = item()
    begun.ProcedureStepState = "IN PROGRESS"

    with pytest.raises(Rejected, match="0xC309, it takes new workitems only in the state SCHEDULED"):
        create(to(pacs.port), new_uid(), begun)
