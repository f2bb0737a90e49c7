"""Raises a study in the reading worklist: an Interpretation workitem by UPS Push (PS3.4 Annex CC)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from dicom_node.deliver import command
from dicom_node.deliver.association import EXPLICIT, IMPLICIT, Association, Body, Proposal
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.refusal import meaning
from storage.facts.errors import Rejected, Transient
from storage.facts.study import Header, Urgency

PUSH = "1.2.840.10008.5.1.4.34.6.1"

#: Scheduled Procedure Step Priority (0074,1200) has three values; STAT is said in the label.
PRIORITIES = {Urgency.STAT: "HIGH", Urgency.HIGH: "HIGH", Urgency.ROUTINE: "MEDIUM"}

_DUPLICATE = 0x0111
_LATER = {0x0110, 0x0213}  #: processing failure, resource limitation

#: Type 2 attributes that are sent without a value (PS3.4 Table CC.2.5-3, column N-CREATE).
_EMPTY_SEQUENCES = (
    "ScheduledProcessingParametersSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledHumanPerformersSequence",
    "OtherPatientIDsSequence",
    "IssuerOfPatientIDQualifiersSequence",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesCodeSequence",
    "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)
_FROM_HEADER = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AdmissionID",
    "AdmittingDiagnosesDescription",
    "MedicalAlerts",
    "PregnancyStatus",
    "SpecialNeeds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What is to be read: a series, and where it can be fetched."""

    study_uid: str
    series_uid: str
    retrieve_ae: str  #: AE title that has it: as a rule the PACS that sent it
    references: tuple[tuple[str, str], ...]  #: SOP class and SOP instance UID of its objects, one at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Why the study is raised."""

    urgency: Urgency
    label: str  #: what is asked of the reader, e.g. ``Read first: lung densitometry``
    reason: str  #: one sentence; it follows the label and is also the comment
    at: float  #: seconds since the epoch
    worklist: str = "AI triage"  #: name of the worklist (Worklist Label)


def workitem(call: Call, header: Header, inputs: tuple[Input, ...]) -> Dataset:
    """The attributes of an N-CREATE (PS3.4 Table CC.2.5-3); ``header`` is the source series', for patient and order."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.TransactionUID = None
    for keyword in _EMPTY_SEQUENCES:
        setattr(dataset, keyword, Sequence())
    for keyword in _FROM_HEADER:
        _copy(header, keyword, dataset)
    _schedule(dataset, call)
    dataset.InputInformationSequence = Sequence([_input(item) for item in inputs])
    if inputs:
        dataset.StudyInstanceUID = UID(inputs[0].study_uid)
    dataset.ReferencedRequestSequence = Sequence([_order(header, inputs[0].study_uid)] if inputs else [])
    return dataset


def create(destination: Destination, sop_instance_uid: str, dataset: Dataset) -> bool:
    """Create the workitem; False when the destination has it already, from an earlier attempt: that is as good.

    Raises Rejected when UPS Push is not offered or the workitem is refused, Transient when the destination cannot be
    reached or cannot take it now.
    """
    proposal = Proposal(abstract_syntax=PUSH, transfer_syntaxes=(EXPLICIT, IMPLICIT))
    with Association(destination, [proposal]) as association:
        context = association.context(PUSH)
        if context is None:
            raise Rejected(f"{destination} does not offer UPS Push to this node: allow it there, "
                           "or unset worklist.ups_destination")  # fmt: skip
        data = encode(dataset, context.transfer_syntax == IMPLICIT, True)
        if data is None:
            raise Rejected(f"workitem {sop_instance_uid} cannot be encoded: a value of its source is malformed")
        fields: command.Fields = {
            command.COMMAND_FIELD: command.N_CREATE_RQ,
            command.AFFECTED_CLASS: PUSH,
            command.AFFECTED_INSTANCE: sop_instance_uid,
        }
        status = association.ask(context, fields, Body.of(data)).number(command.STATUS) or 0
    if status in _LATER or status & 0xFF00 == 0xA700:
        raise Transient(f"{destination} did not take workitem {sop_instance_uid}: {meaning(status)}")
    if status not in (0x0000, 0x0001, 0x0107, 0x0116, _DUPLICATE) and status & 0xF000 != 0xB000:
        raise Rejected(f"{destination} refused workitem {sop_instance_uid}: {meaning(status)}")
    return status != _DUPLICATE


def _schedule(dataset: Dataset, call: Call) -> None:
    stat = "STAT: " if call.urgency is Urgency.STAT else ""
    dataset.ScheduledProcedureStepPriority = PRIORITIES[call.urgency]
    label = f"{stat}{call.label}; {call.reason}" if call.reason else f"{stat}{call.label}"
    dataset.ProcedureStepLabel = label.replace("\\", "/")[:64]  # LO: 64 characters, a backslash would part it in two
    dataset.WorklistLabel = call.worklist.replace("\\", "/")[:64]
    dataset.CommentsOnTheScheduledProcedureStep = call.reason[:1024]
    dataset.ScheduledProcedureStepStartDateTime = time.strftime("%Y%m%d%H%M%S+0000", time.gmtime(call.at))
    dataset.ScheduledWorkitemCodeSequence = Sequence([_code("110005", "DCM", "Interpretation")])
    dataset.InputReadinessState = "READY"
    dataset.ProcedureStepState = "SCHEDULED"


def _input(item: Input) -> Dataset:
    """One item of the Input Information Sequence (PS3.4 Table CC.2.5-2c)."""
    dataset, place = Dataset(), Dataset()
    dataset.TypeOfInstances = "DICOM"
    dataset.StudyInstanceUID = UID(item.study_uid)
    dataset.SeriesInstanceUID = UID(item.series_uid)
    dataset.ReferencedSOPSequence = Sequence()
    for sop_class, sop_instance in item.references:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = UID(sop_class), UID(sop_instance)
        dataset.ReferencedSOPSequence.append(reference)
    place.RetrieveAETitle = item.retrieve_ae
    dataset.DICOMRetrievalSequence = Sequence([place])
    return dataset


def _order(header: Header, study_uid: str) -> Dataset:
    """One item of the Referenced Request Sequence: the order that the study answers."""
    dataset = Dataset()
    dataset.StudyInstanceUID = UID(study_uid)
    dataset.IssuerOfAccessionNumberSequence = Sequence()
    dataset.RequestedProcedureCodeSequence = Sequence()
    for keyword in ("AccessionNumber", "RequestedProcedureID", "RequestedProcedureDescription"):
        _copy(header, keyword, dataset)
    return dataset


def _code(value: str, scheme: str, meaning_: str) -> Dataset:
    dataset = Dataset()
    dataset.CodeValue, dataset.CodingSchemeDesignator, dataset.CodeMeaning = value, scheme, meaning_
    return dataset


def _copy(header: Header, keyword: str, target: Dataset) -> None:
    """Carry a value over as it is, empty where there is none, the first where there are several.

    It is not validated: a workitem must not fail because a modality wrote an ID that is too long.
    """
    value = header.get(keyword)
    if isinstance(value, list):
        value = value[0] if value else None
    tag = Tag(keyword)
    target.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
