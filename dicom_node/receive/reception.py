"""The link of one association while it carries C-STORE requests (PS3.8 9.3.5 and Annex E, PS3.7 9.3.1).

Fragments go from the receive buffer to the sink while they arrive, and the response is sent from the same thread:
memory stays flat whatever the size of the object.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, cast

from pynetdicom.dul import DULServiceProvider
from pynetdicom.presentation import PresentationContext

from dicom_node.receive.intake import Desk, Intake, Request
from dicom_node.receive.landing import Origin
from dicom_node.receive.message import (
    C_STORE_RQ,
    N_DELETE_RQ,
    NO_DATA_SET,
    delete_response,
    parse_command,
    store_response,
    uid,
)
from dicom_node.receive.notices import NO_SUCH_OPERATION
from dicom_node.receive.wire import TOO_LONG, BrokenProtocol, StreamSocket

COMMAND_BYTES = 16 * 1024  #: with the headers of its fragments
SERVED = ((C_STORE_RQ, False), (N_DELETE_RQ, True))  #: here; whether without a data set
TOO_MANY = "more than one message in a PDU"
TOO_EARLY = "a data set before its command"
WITHIN = "a command inside of a data set"
WRONG_CONTEXT = "a data set on another presentation context than its command"

_PDU = struct.Struct(">BxL").unpack_from
_PDV = struct.Struct(">LBB").unpack_from


class Reception:
    """Serves C-STORE requests on one link, and says no to N-DELETE, until something else comes."""

    def __init__(self, dul: DULServiceProvider, desk: Desk) -> None:
        self._dul, self._desk = dul, desk
        self._link = cast(StreamSocket, dul.socket)
        self._assoc = dul.assoc
        self._fields: Mapping[int, bytes] = {}
        self._context = self._head = 0  #: the command's context ID, and how long it is with the headers around it
        self._left = 0  #: bytes of the PDU at hand that were not looked at yet
        self._intake: Intake | None = None
        self._pieces: list[memoryview] = []  # of the data set; they lie in the link's buffer
        self._origin: Origin | None = None

    def run(self) -> bool:
        """Serve; returns whether any byte was taken. Raises Gone or BrokenProtocol; nothing half-written stays."""
        served = False
        try:
            while self._await_command():
                served = True
                if not (self._refuse() if self._intake is None else self._take_message()):
                    break
        finally:
            self._link.turn.give()
            self._let_go()
        return served

    def _await_command(self) -> bool:
        """Wait for a request that is served here. False: give the link back to pynetdicom."""
        link = self._link
        if not link.unread and not self._await_byte():
            return False
        link.pace.begin()
        link.turn.take()
        return self._peek_command() and self._take_command()

    def _await_byte(self) -> bool:
        """Wait, without spinning, for the next message to begin. False: something else is to be done."""
        link, dul = self._link, self._dul
        while not link.unread:
            if dul._kill_thread or dul.to_provider_queue.queue or dul._idle_timer.expired or self._assoc._kill:
                return False
            link.listen()
        return True

    def _peek_command(self) -> bool:
        """Whether a command begins here; then ``_fields`` has it, of however many fragments. It is not taken yet.

        Raises BrokenProtocol where a data set comes instead. A message that pynetdicom is in the middle of never comes
        here, but a PDU that it has read and not looked at yet may be its command.
        """
        link, parts = self._link, list[bytes]()
        at = left = control = 0  # from the first unread byte: reading on may move them all
        while not control & 2:
            if not left:
                link.fill(at + 6)
                kind, left = _PDU(link.buffer, link.start + at)
                if kind != 4:
                    return False
                self._check(left)
                at += 6
            if left < 6:
                return False
            link.fill(at + 6)
            size, context, control = _PDV(link.buffer, link.start + at)
            if not control & 1 and (parts or self._dul.event_queue.empty()):
                raise BrokenProtocol(TOO_EARLY)
            if not control & 1 or not 2 <= size <= left - 4:
                return False
            if at + size > COMMAND_BYTES:
                raise BrokenProtocol("an endless command")
            link.fill(at + 4 + size)
            start = link.start + at
            parts.append(bytes(link.view[start + 6 : start + 4 + size]))
            at += 4 + size
            left -= 4 + size
        self._fields, self._context = parse_command(b"".join(parts)), context
        self._head, self._left = at, left
        return True

    def _take_command(self) -> bool:
        """Whether the command is a C-STORE request with a data set, or one that is answered here; then it is taken."""
        fields = self._fields
        kind = fields.get(0x0100)
        if (kind, fields.get(0x0800) == NO_DATA_SET) not in SERVED:
            self._look_ahead()
            return False
        if 0x0110 not in fields:
            raise BrokenProtocol("a request without a message ID")
        accepted = self._assoc._accepted_cx.get(self._context)
        if accepted is None:
            raise BrokenProtocol("a presentation context that was not accepted")
        self._link.start += self._head
        if kind == C_STORE_RQ:
            self._intake = self._begin(accepted)
        return True

    def _look_ahead(self) -> None:
        """pynetdicom, which serves this message, would take its data set from any presentation context."""
        follows = self._fields.get(0x0800, b"")
        if len(follows) != 2 or follows == NO_DATA_SET:
            return
        link, at, left = self._link, self._head, self._left
        if not left:
            link.fill(at + 6)
            kind, left = _PDU(link.buffer, link.start + at)
            if kind != 4:
                return
            self._check(left)
            at += 6
        if left < 6:
            return
        link.fill(at + 6)
        _, context, control = _PDV(link.buffer, link.start + at)
        if control & 1:
            raise BrokenProtocol(WITHIN)
        if context != self._context:
            raise BrokenProtocol(WRONG_CONTEXT)

    def _check(self, length: int) -> None:
        if length > self._link.maximum_pdu:
            raise BrokenProtocol(TOO_LONG)

    def _let_go(self) -> None:
        self._pieces.clear()
        if self._intake is not None:
            self._intake.abort()
            self._intake = None

    def _fill(self, need: int) -> None:
        """Have so many unread bytes. What was read before is handed on first: its place may be taken."""
        self._hand_on()
        self._link.fill(need)

    def _hand_on(self) -> None:
        if self._pieces and self._intake is not None:
            self._intake.write(self._pieces)
            self._pieces.clear()

    def _begin(self, accepted: PresentationContext) -> Intake:
        if self._origin is None:
            self._origin = origin_of(self._assoc)
        request = Request(
            origin=self._origin,
            sop_class_uid=uid(self._fields.get(0x0002, b"")),
            sop_instance_uid=uid(self._fields.get(0x1000, b"")),
            abstract_syntax=str(accepted.abstract_syntax),
            transfer_syntax=str(accepted.transfer_syntax[0]),
        )
        turn = self._link.turn
        if self._desk.may_wait:
            turn.give()
        intake = self._desk.begin(request)
        if intake.may_pause:
            turn.give()
        else:
            turn.take()
        return intake

    def _take_message(self) -> bool:
        """The data set, fragment by fragment (PS3.8 Figure 9-2), and its answer. False: something else came."""
        link, buffer = self._link, self._link.buffer
        left, control = self._left, 0
        while not control & 2:
            if not left:
                if link.end - link.start < 6:
                    self._fill(6)
                kind, left = _PDU(buffer, link.start)
                if kind != 4:
                    return False
                self._check(left)
                link.start += 6
            if link.end - link.start < 6:
                self._fill(6)
            length, context, control = _PDV(buffer, link.start)
            if length < 2 or length + 4 > left:
                raise BrokenProtocol("a fragment is longer than its PDU")
            if control & 1:
                raise BrokenProtocol(WITHIN)
            if context != self._context:
                raise BrokenProtocol(WRONG_CONTEXT)
            link.start += 6
            left -= 4 + length
            self._take_data(length - 2)
        if left:
            raise BrokenProtocol(TOO_MANY)
        self._answer()
        return True

    def _refuse(self) -> bool:
        """Answer an operation that no service of this node has: pynetdicom would abort (PS3.7 10.1.6)."""
        if self._left:
            raise BrokenProtocol(TOO_MANY)
        self._link.answer(delete_response(self._context, self._fields, NO_SUCH_OPERATION))
        self._link.turn.give()
        self._dul._idle_timer.restart()
        return True

    def _take_data(self, length: int) -> None:
        link, pieces = self._link, self._pieces
        while length:
            start = link.start
            size = min(length, link.end - start)
            if not size:
                self._hand_on()
                link.more()
                continue
            pieces.append(link.view[start : start + size])
            link.start = start + size
            length -= size

    def _answer(self) -> None:
        """The data set is whole: close it and say what became of it, then tell the index, which nobody waits for."""
        intake, link = self._intake, self._link
        assert intake is not None
        self._hand_on()
        self._intake = None
        if intake.may_wait:
            link.turn.give()
        status = intake.close()
        try:
            link.answer(store_response(self._context, self._fields, status.code, status.comment))
        finally:
            intake.tell()
        link.turn.give()
        self._dul._idle_timer.restart()


def origin_of(assoc: Any) -> Origin:
    """Who is at the other end of an association."""
    return Origin(
        association=assoc.name,
        calling_ae=str(assoc.requestor.primitive.calling_ae_title).strip(),
        called_ae=str(assoc.requestor.primitive.called_ae_title).strip(),
        address=str(assoc.requestor.address),
    )
