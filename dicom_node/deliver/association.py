"""One outgoing association, owned by the thread that opened it: negotiate, ask, wait for the answer, release.

pynetdicom encodes and decodes the negotiation; the exchange of messages is done here, synchronously. Its own requestor
reads responses in a second thread, which now and then takes one away from the thread that waits for it; with a single
thread there is nobody to take it.
"""

from __future__ import annotations

import io
import logging
import os
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import build_context

from dicom_node.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.deliver import command
from dicom_node.deliver.command import Fields, Message
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.link import Link, Lost
from dicom_node.deliver.pieces import Begin, Parts
from dicom_node.deliver.refusal import CONTEXT_RESULTS, abortion, rejection
from storage.facts.errors import Rejected, Transient

log = logging.getLogger(__name__)

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

_P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = 4, 5, 6, 7
_PDV = struct.Struct(">BxLLBB")
_PDV_ITEM = struct.Struct(">LBB")
BUFFER_BYTES = 1 << 18  #: what is handed to the operating system at once
SMALL_BYTES = 1 << 16  #: up to here a file is read and sent in one piece with its command
_REPEATED = 100  #: answers to earlier requests that are passed over before one


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A presentation context to ask for (PS3.8 9.3.2.2)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scp_role: bool = False  #: also to act as SCP of the SOP class (PS3.7 D.3.3.4)
    scu_role: bool = True  #: where it is False, as SCP alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A presentation context that the peer accepted."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(slots=True)
class Body:
    """A data set to be sent: read piece by piece, from a source or from a descriptor."""

    source: BinaryIO | None
    size: int  #: bytes from the source's current position
    handle: int = -1  #: descriptor of a file, where there is no source
    at: int = 0  #: where in it

    @classmethod
    def of(cls, data: bytes) -> Body:
        """A data set that is in memory."""
        return cls(io.BytesIO(data), len(data))

    def fill(self, view: memoryview) -> None:
        """Read on, as much as the view holds. Raises Rejected where there is less."""
        done = 0
        while done < len(view):
            if self.source is None:
                got = os.preadv(self.handle, [view[done:]], self.at)
                self.at += got
            else:
                got = self.source.readinto(view[done:])  # type: ignore[attr-defined]  # every binary file has it
            if not got:
                raise Rejected("a file became shorter while it was sent: check the disk of this node")
            done += got


class Association:
    """Use as a context manager: released at the end, aborted when an error leaves the block.

    Raises Transient when the peer cannot be reached, rejects the association, or falls silent.
    """

    def __init__(self, destination: Destination, proposals: Sequence[Proposal]) -> None:
        self.destination = destination
        self.accepted: list[Context] = []
        self.refused: dict[Proposal, str] = {}  #: with the peer's reason
        self._message_id = 0
        self._fragment = 0
        self._buffer = bytearray()
        self._rest = memoryview(b"")  #: of the last PDU, behind a message that ended in it
        self._link = Link(destination)
        with ExitStack() as undone:
            undone.callback(self._link.close)
            self._negotiate(proposals)
            undone.pop_all()

    def __enter__(self) -> Association:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._release()
            elif not isinstance(error, Lost):
                self._abort()
        finally:
            self._link.close()

    def context(self, abstract_syntax: str, *transfer_syntaxes: str) -> Context | None:
        """The accepted context of a SOP class; of several, that of the transfer syntax named first."""
        fitting = [c for c in self.accepted if c.abstract_syntax == abstract_syntax]
        if not transfer_syntaxes:
            return fitting[0] if fitting else None
        return next((c for wanted in transfer_syntaxes for c in fitting if c.transfer_syntax == wanted), None)

    def ask(self, context: Context, fields: Fields, body: Body | None = None) -> Message:
        """Send a request and wait for its response. Raises Transient when none comes, or one to something else."""
        message_id = self.send(context, fields, body)
        for _ in range(_REPEATED):
            message = self.receive(self.destination.answer_seconds)
            if message is None:
                raise Transient(f"{self.destination} released the association instead of answering: look into its log")
            if not self._again(message, message_id):
                self.check_answer(message, fields, message_id)
                return message
        raise Transient(f"{self.destination} answered what was answered before, again and again: look into its log")

    def _again(self, message: Message, message_id: int) -> bool:
        """Whether this is one more answer to an earlier request, which was answered: some peers say things twice."""
        answers = message.number(command.ANSWERS) or 0
        if not (message.number(command.COMMAND_FIELD) or 0) & command.RESPONSE or not 0 < answers < message_id:
            return False
        log.info("%s answered message %d once more", self.destination, answers)
        return True

    def check_answer(self, message: Message, fields: Fields, message_id: int) -> None:
        """Raises Transient unless the message is the complete response to that request."""
        wanted = int(fields[command.COMMAND_FIELD]) | command.RESPONSE
        if message.number(command.COMMAND_FIELD) != wanted or message.number(command.ANSWERS) != message_id:
            raise Transient(f"{self.destination} answered something that was not asked: look into its log")
        if message.number(command.STATUS) is None:
            raise Transient(f"{self.destination} answered without a status: look into its log")
        stored = fields.get(command.AFFECTED_INSTANCE) if wanted == command.STORED else None
        named = message.text(command.AFFECTED_INSTANCE)
        if stored and named not in ("", stored) and message.number(command.STATUS) != command.COERCED:
            raise Transient(f"{self.destination} answered for another object than was sent: look into its log")

    def send(self, context: Context, fields: Fields, body: Body | None = None) -> int:
        """Send a message; a request is given the next message ID, which is returned. Raises Transient."""
        complete = dict(fields)
        if not int(fields[command.COMMAND_FIELD]) & command.RESPONSE:
            self._message_id = self._message_id % 0xFFFF + 1
            complete[command.MESSAGE_ID] = self._message_id
        complete[command.DATA_SET_TYPE] = command.A_DATA_SET if body else command.NO_DATA_SET
        head = self._command(context, command.encode(complete))
        try:
            self._stream(context, head, body)
        except Lost:
            self._say_why()
            raise
        return self._message_id

    def receive(self, seconds: float, begin: Begin | None = None) -> Message | None:
        """The next message; None when the peer asked for release. Raises Transient, as Silent when nothing comes.

        A data set that ``begin`` has somebody take is handed on while it arrives, and is not in the message.
        """
        parts = Parts(begin)
        while (message := self._collect(parts)) is None:
            kind, data = self._link.receive(seconds)
            if kind == _RELEASE_RQ:
                self._link.send(struct.pack(">BxLL", _RELEASE_RP, 4, 0))
                return None
            if kind != _P_DATA:
                raise self._unexpected(kind, data)
            self._rest = memoryview(data)
        return message

    def _collect(self, parts: Parts) -> Message | None:
        """Add the fragments of the P-DATA-TF at hand; the message, when it is whole (PS3.8 E.2).

        What follows a message in its PDU is the next one's: PS3.8 E.1 forbids it, but to drop it would lose an answer.
        """
        pdu = self._rest
        while pdu:
            length, context_id, control = _PDV_ITEM.unpack_from(pdu) if len(pdu) >= 6 else (0, 0, 0)
            if not 2 <= length <= len(pdu) - 4:
                raise Transient(f"{self.destination} sent a fragment that does not fit its PDU: look into its log")
            if parts.write is not None and (control & 1 or context_id != parts.context_id):
                raise Transient(f"{self.destination} sent something else within a data set: look into its log")
            parts.add(pdu[6 : 4 + length], bool(control & 1))
            self._rest = pdu = pdu[4 + length :]
            if parts.is_too_long:
                raise Transient(f"{self.destination} sent an endless message: look into its log")
            if control & 2:
                fields = command.decode(bytes(parts.command))
                message = Message(context_id=context_id, fields=fields, data=bytes(parts.data))
                if not control & 1 or message.number(command.DATA_SET_TYPE) in (command.NO_DATA_SET, None):
                    return message
                if parts.begin is not None:
                    parts.write, parts.context_id = parts.begin(message), context_id
        return None

    def _negotiate(self, proposals: Sequence[Proposal]) -> None:
        self._link.send(_request(self.destination, proposals))
        kind, data = self._link.receive(self.destination.answer_seconds)
        if kind == 3 and len(data) >= 4:
            raise Transient(rejection(self.destination, data[1], data[2], data[3]))
        if kind != 2:
            raise self._unexpected(kind, data)
        try:
            pdu = A_ASSOCIATE_AC()
            pdu.decode(struct.pack(">BxL", kind, len(data)) + data)
            answer = pdu.to_primitive()
            longest = answer.maximum_length_received or 0
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
            raise Transient(f"{self.destination} accepted in a way that cannot be read: is it a DICOM port?") from error
        longest = min(longest or BUFFER_BYTES, self.destination.max_pdu)
        self._fragment = (longest - 6) & ~1  # fragments are even (PS3.8 9.3.5.1)
        if self._fragment <= 0:
            raise Transient(f"{self.destination} takes PDUs of no more than {longest} bytes: correct its PDU length")
        self._sort(proposals, answer)

    def _sort(self, proposals: Sequence[Proposal], answer: A_ASSOCIATE) -> None:
        results = {context.context_id: context for context in answer.presentation_context_definition_results_list}
        for number, proposal in enumerate(proposals):
            result = results.get(2 * number + 1)
            if result is not None and result.result == 0 and result.transfer_syntax:
                self.accepted.append(Context(context_id=2 * number + 1, abstract_syntax=proposal.abstract_syntax,
                                             transfer_syntax=str(result.transfer_syntax[0])))  # fmt: skip
            else:
                code = 2 if result is None or result.result is None else result.result
                self.refused[proposal] = CONTEXT_RESULTS.get(code, CONTEXT_RESULTS[2])

    def _command(self, context: Context, raw: bytes) -> bytes:
        """A command set in PDUs that the peer can take: nearly always one."""
        most = self._fragment
        pieces = [raw[at : at + most] for at in range(0, len(raw), most)]
        ends = [1] * (len(pieces) - 1) + [3]
        return b"".join(
            _PDV.pack(_P_DATA, len(piece) + 6, len(piece) + 2, context.context_id, control) + piece
            for piece, control in zip(pieces, ends, strict=True)
        )

    def _stream(self, context: Context, head: bytes, body: Body | None) -> None:
        """The command, then the data set in fragments that the peer can take, several to a send."""
        if body is None:
            self._link.send(head)
            return
        if not body.size:
            self._link.send(head + _PDV.pack(_P_DATA, 6, 2, context.context_id, 2))
            return
        if body.source is None and body.size > SMALL_BYTES and self._link.plain:
            self._stream_file(context, head, body)
            return
        if len(self._buffer) < len(head) + max(BUFFER_BYTES, self._fragment + 12):
            self._buffer = bytearray(len(head) + max(BUFFER_BYTES, self._fragment + 12))
        buffer = self._buffer
        view = memoryview(buffer)
        buffer[: len(head)] = head
        at, left = len(head), body.size
        while left:
            size = min(left, self._fragment)
            left -= size
            _PDV.pack_into(buffer, at, _P_DATA, size + 6, size + 2, context.context_id, 0 if left else 2)
            body.fill(view[at + 12 : at + 12 + size])
            at += 12 + size
            if not left or at + 12 + self._fragment > len(buffer):
                self._link.send(view[:at])
                at = 0

    def _stream_file(self, context: Context, head: bytes, body: Body) -> None:
        """The same from a file: its bytes go from the page cache to the network without passing through here."""
        fragment, context_id = self._fragment, context.context_id
        whole, rest = divmod(body.size - 1, fragment)
        last = rest + 1
        sizes = [fragment] * whole + [last]
        heads = [_PDV.pack(_P_DATA, fragment + 6, fragment + 2, context_id, 0)] * whole
        heads.append(_PDV.pack(_P_DATA, last + 6, last + 2, context_id, 2))
        heads[0] = head + heads[0]
        self._link.send_file(heads, body.handle, body.at, sizes)

    def _say_why(self) -> None:
        """The connection broke while sending: if the peer's abort lies in the buffer, raise what it says."""
        try:
            kind, data = self._link.receive(0.2)
        except Transient:
            return
        if kind == _ABORT:
            raise self._unexpected(kind, data)

    def _unexpected(self, kind: int, data: bytes) -> Transient:
        if kind == _ABORT and len(data) >= 4:
            return Lost(abortion(self.destination, data[2], data[3]))
        return Transient(f"{self.destination} sent PDU type {kind} out of turn: is it a DICOM port?")

    def _release(self) -> None:
        """End in good order. What was acknowledged stays so, whatever the peer makes of it."""
        try:
            self._link.send(struct.pack(">BxLL", _RELEASE_RQ, 4, 0))
            kind, _ = self._link.receive(min(self.destination.answer_seconds, 5.0))
            if kind == _RELEASE_RQ:  # both asked at once (PS3.8 9.2.3, Sta9)
                self._link.send(struct.pack(">BxLL", _RELEASE_RP, 4, 0))
        except Transient as error:
            log.info("%s did not release the association in good order: %s", self.destination, error)

    def _abort(self) -> None:
        try:
            self._link.send(struct.pack(">BxLL", _ABORT, 4, 0))
        except Transient:
            pass  # it is gone already


def _request(destination: Destination, proposals: Sequence[Proposal]) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    if not 0 < len(proposals) <= 128:
        raise ValueError("an association has 1 to 128 presentation contexts")
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title, primitive.called_ae_title = destination.calling_ae, destination.ae_title
    contexts = []
    for number, proposal in enumerate(proposals):
        context = build_context(proposal.abstract_syntax, list(proposal.transfer_syntaxes))
        context.context_id = 2 * number + 1
        contexts.append(context)
    primitive.presentation_context_definition_list = contexts
    length, implementation, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = destination.max_pdu
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    roles = []
    for uid, scu_role in {p.abstract_syntax: p.scu_role for p in proposals if p.scp_role}.items():
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = UID(uid), scu_role, True
        roles.append(role)
    primitive.user_information = [length, implementation, version, *roles]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())
