"""Storage Commitment: the archive's word that it keeps what was sent (PS3.4 Annex J).

The request is an N-ACTION on an association of ours; the archive reports later by N-EVENT-REPORT, as a rule on an
association that it opens to this node in the role of SCP. A report can be there before the request returns, so the
caller has to know the transaction UID beforehand.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from dicom_node.deliver import command
from dicom_node.deliver.association import EXPLICIT, IMPLICIT, Association, Body, Context, Proposal
from dicom_node.deliver.command import Message
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.link import Lost, Silent
from dicom_node.deliver.refusal import meaning
from dicom_node.unreadable import UNREADABLE
from storage.facts.errors import Rejected, Transient

log = logging.getLogger(__name__)

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
UNKNOWN_TRANSACTION = 0x0110  #: processing failure (PS3.7 Annex C)
_REQUEST_ACTION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An object whose commitment is asked for."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitReport:
    """What the archive says of one request."""

    transaction_uid: str
    committed: tuple[str, ...]  #: SOP Instance UIDs
    failed: tuple[tuple[str, int], ...]  #: SOP Instance UID and Failure Reason


#: Takes a report on a request of another association; whether it was made here.
Take = Callable[[CommitReport], bool]


def request(
    destination: Destination,
    transaction_uid: str,
    references: Sequence[Reference],
    linger_seconds: float = 2.0,
    others: Take = lambda _report: False,
) -> CommitReport | None:
    """Ask for commitment. None: accepted, the report comes later, on an association that the archive opens.

    An archive that reports on the same association has ``linger_seconds`` to do so; its report is then returned.
    Reports on earlier requests, which it may send along, go to ``others``. Raises Rejected when the archive does not
    offer Storage Commitment or refuses the request, Transient when it cannot be reached or is out of resources.
    """
    proposal = Proposal(abstract_syntax=PUSH_MODEL, transfer_syntaxes=(EXPLICIT, IMPLICIT))
    with Association(destination, [proposal]) as association:
        context = association.context(PUSH_MODEL)
        if context is None:
            raise Rejected(f"{destination} does not offer Storage Commitment to this node: allow it there, "
                           "or set storage_commitment = false for this destination")  # fmt: skip
        return _Conversation(association, context, transaction_uid, others).hold(references, linger_seconds)


def parse_report(dataset: Dataset) -> CommitReport:
    """The event information of an N-EVENT-REPORT (PS3.4 Table J.3-2).

    Raises Rejected where it cannot be read or names no transaction: it comes from outside.
    """
    try:
        report = CommitReport(
            transaction_uid=str(dataset.get("TransactionUID") or ""),
            committed=tuple(str(i.ReferencedSOPInstanceUID) for i in dataset.get("ReferencedSOPSequence") or ()),
            failed=tuple(
                (str(i.ReferencedSOPInstanceUID), int(i.get("FailureReason") or 0x0110))
                for i in dataset.get("FailedSOPSequence") or ()
            ),
        )
    except UNREADABLE as error:
        raise Rejected(f"a Storage Commitment report cannot be read ({type(error).__name__})") from error
    if not report.transaction_uid:
        raise Rejected("a Storage Commitment report names no transaction: it cannot be matched to a delivery")
    return report


def action_information(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """What is asked for (PS3.4 Table J.3-1)."""
    dataset = Dataset()
    dataset.TransactionUID = UID(transaction_uid)
    dataset.ReferencedSOPSequence = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = UID(reference.sop_class_uid)
        item.ReferencedSOPInstanceUID = UID(reference.sop_instance_uid)
        dataset.ReferencedSOPSequence.append(item)
    return dataset


def send_report(node: Destination, report: Dataset) -> None:
    """The archive's half: N-EVENT-REPORT as SCP, on an association that the SCP opens. Raises Transient."""
    proposal = Proposal(abstract_syntax=PUSH_MODEL, transfer_syntaxes=(EXPLICIT, IMPLICIT), scp_role=True)
    with Association(node, [proposal]) as association:
        context = association.context(PUSH_MODEL)
        if context is None:
            raise Transient(f"{node} does not take Storage Commitment reports")
        data = encode(report, context.transfer_syntax == IMPLICIT, True) or b""
        fields: command.Fields = {
            command.COMMAND_FIELD: command.N_EVENT_REPORT_RQ,
            command.AFFECTED_CLASS: PUSH_MODEL,
            command.AFFECTED_INSTANCE: PUSH_MODEL_INSTANCE,
            command.EVENT_TYPE: 2 if "FailedSOPSequence" in report else 1,
        }
        status = association.ask(context, fields, Body.of(data)).number(command.STATUS)
        if status:
            raise Transient(f"{node} answered the report with status 0x{status:04X}")


@dataclass(slots=True)
class _Conversation:
    """One request, and whatever the archive says on the same association."""

    association: Association
    context: Context
    transaction_uid: str
    others: Take
    report: CommitReport | None = None

    def hold(self, references: Sequence[Reference], linger_seconds: float) -> CommitReport | None:
        """Ask, wait for the answer, then for the report as long as that is asked for."""
        implicit = self.context.transfer_syntax == IMPLICIT
        data = encode(action_information(self.transaction_uid, references), implicit, True)
        if data is None:
            raise Rejected("the request for Storage Commitment cannot be encoded: a UID is malformed")
        fields: command.Fields = {
            command.COMMAND_FIELD: command.N_ACTION_RQ,
            command.REQUESTED_CLASS: PUSH_MODEL,
            command.REQUESTED_INSTANCE: PUSH_MODEL_INSTANCE,
            command.ACTION_TYPE: _REQUEST_ACTION,
        }
        message_id = self.association.send(self.context, fields, Body.of(data))
        self._await_answer(fields, message_id)
        self._await_report(linger_seconds)
        return self.report

    def _await_answer(self, fields: command.Fields, message_id: int) -> None:
        to = self.association.destination
        while True:
            message = self.association.receive(to.answer_seconds)
            if message is None:
                raise Transient(f"{to} released the association instead of answering: look into its log")
            if not self._take_report(message):
                break
        self.association.check_answer(message, fields, message_id)
        status = message.number(command.STATUS) or 0
        if status in (0x0110, 0x0213) or status & 0xFF00 == 0xA700:
            raise Transient(f"{to} did not take the request for Storage Commitment: {meaning(status)}")
        if status not in (0x0000, 0x0131):  # 0x0131: asked before under this transaction; the report is on its way
            raise Rejected(f"{to} refused the request for Storage Commitment: {meaning(status)}")

    def _await_report(self, seconds: float) -> None:
        """What ends this wait without a report is no fault: the request has been accepted."""
        until = time.monotonic() + seconds
        while self.report is None and (left := until - time.monotonic()) > 0:
            try:
                message = self.association.receive(left)
            except (Silent, Lost):
                return
            if message is None:
                return
            self._take_report(message)

    def _take_report(self, message: Message) -> bool:
        """Answer an N-EVENT-REPORT; False when the message is another one."""
        if message.number(command.COMMAND_FIELD) != command.N_EVENT_REPORT_RQ:
            return False
        status = 0x0000
        try:
            report = parse_report(self._decoded(message))
        except Rejected as error:
            log.warning("%s: %s", self.association.destination, error)
            status = UNKNOWN_TRANSACTION
        else:
            if report.transaction_uid == self.transaction_uid:
                self.report = report
            elif not self.others(report):
                status = UNKNOWN_TRANSACTION
        answer: dict[int, int | str] = {
            command.COMMAND_FIELD: command.N_EVENT_REPORT_RQ | command.RESPONSE,
            command.AFFECTED_CLASS: PUSH_MODEL,
            command.AFFECTED_INSTANCE: PUSH_MODEL_INSTANCE,
            command.ANSWERS: message.number(command.MESSAGE_ID) or 0,
            command.EVENT_TYPE: message.number(command.EVENT_TYPE) or 1,
            command.STATUS: status,
        }
        self.association.send(self.context, answer)
        return True

    def _decoded(self, message: Message) -> Dataset:
        try:
            return decode(io.BytesIO(message.data), self.context.transfer_syntax == IMPLICIT, True)
        except UNREADABLE as error:
            raise Rejected(f"a Storage Commitment report cannot be read ({type(error).__name__})") from error
