"""What questions and retrievals of the Study Root model share (PS3.4 Annex C): identifiers, requests, responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from dicom_node.deliver import command
from dicom_node.deliver.association import EXPLICIT, IMPLICIT, Association, Body, Context, Proposal
from dicom_node.deliver.command import Message
from dicom_node.deliver.destination import Destination
from storage.facts.errors import Rejected, Transient

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
PENDING = frozenset({0xFF00, 0xFF01})

_REQUESTS = {FIND: (0x0020, "C-FIND"), MOVE: (0x0021, "C-MOVE"), GET: (0x0010, "C-GET")}  #: PS3.7 E.1


def proposal(sop_class: str) -> Proposal:
    """The presentation context of an information model, which is asked for alone or beside others."""
    return Proposal(abstract_syntax=sop_class, transfer_syntaxes=(EXPLICIT, IMPLICIT))


def associated(destination: Destination, sop_class: str) -> Association:
    """An association for one operation alone. Raises Transient."""
    return Association(destination, [proposal(sop_class)])


def not_offered(destination: Destination, *operations: str) -> tuple[str, ...]:
    """Which of these operations the PACS does not offer to this node, by name. Raises Transient."""
    with Association(destination, [proposal(uid) for uid in operations]) as association:
        return tuple(_REQUESTS[uid][1] for uid in operations if association.context(uid) is None)


def context_of(association: Association, sop_class: str) -> Context:
    """The context of an operation. Raises Rejected where it is not offered."""
    context = association.context(sop_class)
    if context is None:
        what = _REQUESTS[sop_class][1]
        raise Rejected(f"{association.destination} does not offer {what} (Study Root) to this node: allow it there")
    return context


def identifier(level: str, study_uid: str, *empty: str) -> Dataset:
    """What is asked for, with keys that the answer shall fill in."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    dataset.StudyInstanceUID = UID(study_uid)
    for keyword in empty:
        setattr(dataset, keyword, None)
    return dataset


def request_of(sop_class: str) -> dict[int, int | str]:
    """The command of an operation, of medium priority."""
    return {command.COMMAND_FIELD: _REQUESTS[sop_class][0], command.AFFECTED_CLASS: sop_class, command.PRIORITY: 0}


def body_of(dataset: Dataset, context: Context) -> Body:
    """An identifier as it is sent. Raises Rejected where a UID in it is none."""
    raw = encode(dataset, context.transfer_syntax == IMPLICIT, True)
    if raw is None:
        raise Rejected("the query cannot be encoded: a UID is malformed")
    return Body.of(raw)


def answers(association: Association, request: Mapping[int, int | str], message_id: int) -> Iterator[Message]:
    """Every response to a request, until the caller has had the last. Raises Transient."""
    while True:
        message = association.receive(association.destination.answer_seconds)
        if message is None:
            raise Transient(f"{association.destination} released the association instead of answering")
        association.check_answer(message, request, message_id)
        yield message
