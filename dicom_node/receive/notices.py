"""What peers say of objects beside sending them: MPPS of the modality, Instance Availability of the archive.

Both are SOP classes of the Service Class Provider kind (PS3.4 Annexes F and R): an N-CREATE, and for MPPS N-SETs until
the step is over. The receiving process passes the bytes on; they are read where the ledger is.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode

from dicom_node.deliver.body import UNREADABLE
from dicom_node.receive.contexts import AVAILABILITY, PERFORMED_STEP
from dicom_node.receive.events import Event, Noticed
from storage.facts.arrival import AVAILABLE, COMPLETED, DISCONTINUED, IN_PROGRESS, Notice, NoticeKind
from storage.facts.errors import Rejected

SUCCESS = 0x0000
#: PS3.7 Annex C.
INVALID_VALUE, PROCESSING_FAILURE, DUPLICATE, NO_SUCH_INSTANCE = 0x0106, 0x0110, 0x0111, 0x0112
NO_SUCH_CLASS, MISSING_VALUE, RESOURCES = 0x0118, 0x0121, 0x0213

MOST_BYTES = 8 * 2**20  #: of one notice: 50,000 objects
ANSWER_SECONDS = 10.0  #: for the ledger to have it

#: Hands an event to the ledger and waits: its answer, None when none came in time.
Ask = Callable[[Event, float], int | None]


class Refused(Rejected):
    """The notice cannot be taken; ``status`` is what its sender is told."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class NoticeDesk:
    """Takes N-CREATE and N-SET in the receiving process; use its methods as handlers of pynetdicom."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def create(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle evt.EVT_N_CREATE."""
        request = event.request
        return self._pass_on(event, request.AffectedSOPInstanceUID, request.AttributeList, created=True)

    def set(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle evt.EVT_N_SET."""
        request = event.request
        return self._pass_on(event, request.RequestedSOPInstanceUID, request.ModificationList, created=False)

    def _pass_on(self, event: Any, uid: Any, data: Any, *, created: bool) -> tuple[int, Dataset | None]:
        if not uid or data is None:
            return MISSING_VALUE, None
        raw = data.getvalue()
        if len(raw) > MOST_BYTES:
            return RESOURCES, None
        noticed = Noticed(
            peer=str(event.assoc.requestor.primitive.calling_ae_title).strip(),
            sop_class_uid=str(event.context.abstract_syntax),
            sop_instance_uid=str(uid),
            implicit=bool(event.context.transfer_syntax.is_implicit_VR),
            created=created,
            data=raw,
        )
        status = self._ask(noticed, ANSWER_SECONDS)
        return PROCESSING_FAILURE if status is None else status, None


def read(event: Noticed, before: str | None) -> Notice:
    """What the bytes say, given the state that the notice had before. Raises Refused."""
    kind = {PERFORMED_STEP: NoticeKind.MPPS, AVAILABILITY: NoticeKind.IAN}.get(event.sop_class_uid)
    if kind is None or (kind is NoticeKind.IAN and not event.created):
        raise Refused(NO_SUCH_CLASS, "it is neither a performed procedure step nor an availability notification")
    _check_order(event, before)
    try:
        dataset = decode(io.BytesIO(event.data), event.implicit, True)
        objects = dict(_referenced(dataset, kind))
        state = AVAILABLE if kind is NoticeKind.IAN else str(dataset.get("PerformedProcedureStepStatus", "") or "")
        study_uid, modality = _study(dataset), str(dataset.get("Modality", "") or "")
    except UNREADABLE as error:
        raise Refused(PROCESSING_FAILURE, f"it cannot be read ({type(error).__name__})") from error
    if kind is NoticeKind.MPPS:
        state = state or before or ""
        if state not in ((IN_PROGRESS,) if event.created else (IN_PROGRESS, COMPLETED, DISCONTINUED)):
            raise Refused(INVALID_VALUE, "its Performed Procedure Step Status is not one that it may have now")
    return Notice(
        sop_instance_uid=event.sop_instance_uid,
        kind=kind,
        state=state,
        peer=event.peer,
        study_uid=study_uid,
        modality=modality,
        objects=objects,
    )


def _check_order(event: Noticed, before: str | None) -> None:
    if event.created and before is not None:
        raise Refused(DUPLICATE, "it was created before")
    if not event.created and before is None:
        raise Refused(NO_SUCH_INSTANCE, "it was never created")
    if not event.created and before != IN_PROGRESS:
        raise Refused(PROCESSING_FAILURE, "it is over and may no longer be updated (PS3.4 F.7.2.2)")


def _study(dataset: Dataset) -> str:
    """The study, which an MPPS names in its scheduled step (PS3.3 C.4.13), an IAN by itself (PS3.3 C.4.23)."""
    uid = dataset.get("StudyInstanceUID")
    for step in dataset.get("ScheduledStepAttributesSequence") or ():
        uid = uid or step.get("StudyInstanceUID")
    return str(uid or "")


def _referenced(dataset: Dataset, kind: NoticeKind) -> Iterator[tuple[str, str]]:
    """Each object that is named, with its series."""
    if kind is NoticeKind.IAN:
        outer, inner = "ReferencedSeriesSequence", ["ReferencedSOPSequence"]
    else:
        outer = "PerformedSeriesSequence"
        inner = ["ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"]
    for one in dataset.get(outer) or ():
        series_uid = str(one.get("SeriesInstanceUID", "") or "")
        for keyword in inner:
            for item in one.get(keyword) or ():
                uid = str(item.get("ReferencedSOPInstanceUID", "") or "")
                if uid and series_uid and item.get("InstanceAvailability", "ONLINE") != "UNAVAILABLE":
                    yield uid, series_uid
