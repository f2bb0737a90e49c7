"""What peers say of objects beside sending them: MPPS of the modality, Instance Availability of the archive, and the
input readiness of a Unified Procedure Step of the workflow manager.

The node is their SCP (PS3.4 Annexes F, R and CC): an N-CREATE, N-SETs until an MPPS is over, N-EVENT-REPORTs of a UPS.
The receiving process passes the bytes on; they are read where the ledger is. Of UPS Push, N-GET tells the two states
that are kept of a step and a request to cancel ends it; whatever else is asked has its status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.receive.contexts import UPS_EVENT, UPS_PUSH
from dicom_node.receive.events import Asked, Event, Noticed
from storage.facts.arrival import CANCELED, INCOMPLETE, READY, UNAVAILABLE
from storage.facts.errors import Rejected

SUCCESS = 0x0000
#: PS3.7 Annex C.
INVALID_VALUE, PROCESSING_FAILURE, DUPLICATE, NO_SUCH_INSTANCE = 0x0106, 0x0110, 0x0111, 0x0112
NO_SUCH_EVENT, NO_SUCH_CLASS, MISSING_VALUE, RESOURCES = 0x0113, 0x0118, 0x0121, 0x0213
NO_SUCH_ACTION, NOT_AUTHORIZED, NO_SUCH_OPERATION = 0x0123, 0x0124, 0x0211
#: PS3.4 CC.2: it may no longer be updated; no such UPS; it is created in another state than SCHEDULED.
OVER, NO_SUCH_STEP, NOT_SCHEDULED = 0xC300, 0xC307, 0xC309
#: PS3.4 CC.2: nobody has begun to perform it; the SCP sends no event reports; it is cancelled already (a warning).
NOT_BEGUN, NO_REPORTS, CANCELED_ALREADY = 0xC310, 0xC315, 0xB304
NOT_ALL = 0x0001  #: a warning of N-GET: attributes that were asked for are not kept (PS3.4 Table CC.2.7-2)

STATE_REPORT = 1  #: Event Type ID (PS3.4 Table CC.2.4-1)
OTHER_REPORTS = (2, 3, 4, 5)  #: cancel requested, progress, SCP status, assigned: they say nothing of input
CANCEL = 2  #: Action Type ID of a request to cancel (PS3.4 CC.2.2)
SUBSCRIPTIONS = (3, 4, 5)  #: subscribe, unsubscribe, suspend (PS3.4 CC.2.3)
STATES = (READY, INCOMPLETE, UNAVAILABLE, CANCELED)  #: of a UPS; the answer to an N-GET is a place in it

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
    """Takes the messages in the receiving process; use its methods as handlers of pynetdicom."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def create(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle evt.EVT_N_CREATE."""
        request = event.request
        return self._pass_on(event, request.AffectedSOPInstanceUID, request.AttributeList, created=True)

    def set(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle evt.EVT_N_SET."""
        request = event.request
        return self._pass_on(event, request.RequestedSOPInstanceUID, request.ModificationList)

    def report(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle evt.EVT_N_EVENT_REPORT of a UPS, whichever of its SOP classes the association has."""
        request = event.request
        if request.EventTypeID in OTHER_REPORTS:
            return SUCCESS, None
        if request.EventTypeID != STATE_REPORT:
            return NO_SUCH_EVENT, None
        return self._pass_on(event, request.AffectedSOPInstanceUID, request.EventInformation, sop_class=UPS_EVENT)

    def get(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle evt.EVT_N_GET: the states of a step. What else is asked for is not kept, and a warning says so."""
        if event.context.abstract_syntax != UPS_PUSH:
            return NO_SUCH_OPERATION, None
        answer = self._ask_about(event, cancel=False)
        if answer >= len(STATES):
            return answer, None
        state, found = STATES[answer], Dataset()
        found.ProcedureStepState = CANCELED if state == CANCELED else "SCHEDULED"
        if state != CANCELED:
            found.InputReadinessState = state
        kept = set(found.keys())
        listed = event.request.AttributeIdentifierList or kept
        wanted = {listed} if isinstance(listed, int) else set(listed)  # pynetdicom's single one is no list
        for tag in kept - wanted:
            del found[tag]
        return SUCCESS if wanted <= kept else NOT_ALL, found

    def act(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle evt.EVT_N_ACTION: a step that nobody performs is cancelled at once; no other action is served."""
        action = event.request.ActionTypeID
        if event.context.abstract_syntax != UPS_PUSH:
            return NO_SUCH_OPERATION, None
        if action in SUBSCRIPTIONS:
            return NO_REPORTS, None
        return (self._ask_about(event, cancel=True) if action == CANCEL else NO_SUCH_ACTION), None

    def find(self, event: Any) -> Iterator[tuple[int, None]]:
        """Handle evt.EVT_C_FIND: this node has no worklist to query."""
        del event
        yield NO_SUCH_OPERATION, None

    def _ask_about(self, event: Any, *, cancel: bool) -> int:
        peer = str(event.assoc.requestor.primitive.calling_ae_title).strip()
        uid = str(event.request.RequestedSOPInstanceUID)
        answer = self._ask(Asked(peer=peer, sop_instance_uid=uid, cancel=cancel), ANSWER_SECONDS)
        return PROCESSING_FAILURE if answer is None else answer

    def _pass_on(
        self, event: Any, uid: Any, data: Any, *, created: bool = False, sop_class: str = ""
    ) -> tuple[int, Dataset | None]:
        if not uid or data is None:
            return MISSING_VALUE, None
        raw = data.getvalue()
        if len(raw) > MOST_BYTES:
            return RESOURCES, None
        noticed = Noticed(
            peer=str(event.assoc.requestor.primitive.calling_ae_title).strip(),
            sop_class_uid=sop_class or str(event.context.abstract_syntax),
            sop_instance_uid=str(uid),
            implicit=bool(event.context.transfer_syntax.is_implicit_VR),
            created=created,
            data=raw,
        )
        status = self._ask(noticed, ANSWER_SECONDS)
        return PROCESSING_FAILURE if status is None else status, None
