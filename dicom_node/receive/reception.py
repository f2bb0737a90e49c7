"""The link of one association while it carries C-STORE requests (PS3.8 9.3.5 and Annex E, PS3.7 9.3.1).

Fragments go from the receive buffer to the sink while they arrive, and the response is sent from the same thread:
memory stays flat whatever the size of the object.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, cast

from pynetdicom.dul import DULServiceProvider

from dicom_node.receive.intake import Desk, Intake, Request
from dicom_node.receive.landing import Origin
from dicom_node.receive.message import C_STORE_RQ, NO_DATA_SET, parse_command, store_response, uid
from dicom_node.receive.wire import TOO_LONG, BrokenProtocol, StreamSocket

COMMAND_BYTES = 16 * 1024

_U32 = struct.Struct(">L").unpack_from
_PDU = struct.Struct(">BxL").unpack_from
_PDV = struct.Struct(">LBB").unpack_from


class Reception:
    """Serves C-STORE requests on one link until something else comes."""

    def __init__(self, dul: DULServiceProvider, desk: Desk) -> None:
        self._dul, self._desk = dul, desk
        self._link = cast(StreamSocket, dul.socket)
        self._assoc = dul.assoc
        self._command = bytearray()
        self._fields: Mapping[int, bytes] = {}
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
                if not self._take_message():
                    break
        finally:
            self._let_go()
        return served

    def _await_command(self) -> bool:
        """Wait for a C-STORE request. False: give the link back to pynetdicom."""
        link = self._link
        if not link.unread and not self._await_byte():
            return False
        link.pace.begin()
        link.fill(6)
        kind, length = _PDU(link.buffer, link.start)
        if kind != 4:
            return False
        self._check(length)
        link.fill(6 + length)
        return length >= 6 and self._read_command(length)

    def _await_byte(self) -> bool:
        """Wait, without spinning, for the next message to begin. False: something else is to be done."""
        link, dul = self._link, self._dul
        while not link.unread:
            if dul._kill_thread or dul.to_provider_queue.queue or dul._idle_timer.expired or self._assoc._kill:
                return False
            link.listen()
        return True

    def _read_command(self, length: int) -> bool:
        """Whether the PDU in the buffer begins with the whole command of a C-STORE request with a data set."""
        link = self._link
        at = link.start + 12
        size, context, control = _PDV(link.buffer, at - 6)
        if control & 3 != 3 or not 2 <= size <= length - 4:
            return False
        if size > COMMAND_BYTES:
            raise BrokenProtocol("an endless command")
        self._fields = fields = parse_command(link.view[at : at + size - 2])
        if fields.get(0x0100) != C_STORE_RQ or fields.get(0x0800) == NO_DATA_SET:
            return False
        if 0x0110 not in fields:
            raise BrokenProtocol("a C-STORE request without a message ID")
        link.start = at + size - 2
        self._left = length - 4 - size
        self._intake = self._begin(context)
        return True

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

    def _begin(self, context: int) -> Intake:
        accepted = self._assoc._accepted_cx.get(context)
        if accepted is None:
            raise BrokenProtocol("a presentation context that was not accepted")
        if self._origin is None:
            self._origin = origin_of(self._assoc)
        request = Request(
            origin=self._origin,
            sop_class_uid=uid(self._fields.get(0x0002, b"")),
            sop_instance_uid=uid(self._fields.get(0x1000, b"")),
            abstract_syntax=str(accepted.abstract_syntax),
            transfer_syntax=str(accepted.transfer_syntax[0]),
        )
        return self._desk.begin(request)

    def _take_message(self) -> bool:
        """The data set, fragment by fragment (PS3.8 Figure 9-2), and its answer. False: something else came."""
        link, buffer = self._link, self._link.buffer
        left, control, context = self._left, 0, 0
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
                raise BrokenProtocol("a command inside of a data set")
            link.start += 6
            left -= 4 + length
            self._take_data(length - 2)
        if left:
            raise BrokenProtocol("more than one message in a PDU")
        self._answer(context)
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

    def _answer(self, context: int) -> None:
        """The data set is whole: close it and say what became of it, then tell the index, which nobody waits for."""
        intake, link = self._intake, self._link
        assert intake is not None
        self._hand_on()
        self._intake = None
        status = intake.close()
        try:
            link.answer(store_response(context, self._fields, status.code, status.comment))
        finally:
            intake.tell()
        self._dul._idle_timer.restart()


def origin_of(assoc: Any) -> Origin:
    """Who is at the other end of an association."""
    return Origin(
        association=assoc.name,
        calling_ae=str(assoc.requestor.primitive.calling_ae_title).strip(),
        called_ae=str(assoc.requestor.primitive.called_ae_title).strip(),
        address=str(assoc.requestor.address),
    )
