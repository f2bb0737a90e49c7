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
from dicom_node.receive.wire import BrokenProtocol, StreamSocket

COMMAND_BYTES = 16 * 1024

_U32 = struct.Struct(">L").unpack_from


class Reception:
    """Serves C-STORE requests on one link until something else comes."""

    def __init__(self, dul: DULServiceProvider, desk: Desk) -> None:
        self._dul, self._desk = dul, desk
        self._link = cast(StreamSocket, dul.socket)
        self._assoc = dul.assoc
        self._command = bytearray()
        self._fields: Mapping[int, bytes] = {}
        self._parsed = False  #: whether these are those of the command that comes next
        self._intake: Intake | None = None
        self._pieces: list[memoryview] = []  # of the data set; they lie in the link's buffer
        self._origin: Origin | None = None

    def run(self) -> bool:
        """Serve; returns whether any byte was taken. Raises Gone or BrokenProtocol; nothing half-written stays."""
        served = False
        try:
            while self._await_pdu():
                self._take_pdu()
                served = True
        finally:
            self._let_go()
        return served

    def _await_pdu(self) -> bool:
        """Wait for a PDU that is ours. False: give the link back to pynetdicom."""
        link = self._link
        between = self._intake is None and not self._command
        if between and not self._await_byte():
            return False
        self._fill(6)
        kind, length = link.buffer[link.start], _U32(link.buffer, link.start + 2)[0]
        if kind != 4:
            self._let_go()
            return False
        if length > link.maximum_pdu:
            raise BrokenProtocol("P-DATA-TF above the announced maximum")
        if not between:
            return True
        link.fill(6 + length)
        return self._is_store(length)

    def _await_byte(self) -> bool:
        """Wait, without spinning, for the next message to begin. False: something else is to be done."""
        link, dul = self._link, self._dul
        while not link.unread:
            if dul._kill_thread or dul.to_provider_queue.queue or dul._idle_timer.expired or self._assoc._kill:
                return False
            link.listen()
        link.pace.begin()
        return True

    def _let_go(self) -> None:
        self._pieces.clear()
        if self._intake is not None:
            self._intake.abort()
            self._intake = None

    def _is_store(self, length: int) -> bool:
        """Whether the PDU in the buffer begins with the whole command of a C-STORE request with a data set."""
        link = self._link
        if length < 6 or link.buffer[link.start + 11] & 3 != 3:
            return False
        size = _U32(link.buffer, link.start + 6)[0]
        self._fields = fields = parse_command(link.view[link.start + 12 : link.start + 10 + size])
        self._parsed = fields.get(0x0100) == C_STORE_RQ and fields.get(0x0800) != NO_DATA_SET
        return self._parsed

    def _fill(self, need: int) -> None:
        """Have so many unread bytes. What was read before is handed on first: its place may be taken."""
        if self._link.unread < need:
            self._hand_on()
            self._link.fill(need)

    def _hand_on(self) -> None:
        if self._pieces and self._intake is not None:
            self._intake.write(self._pieces)
            self._pieces.clear()

    def _take_pdu(self) -> None:
        """Take one P-DATA-TF, fragment by fragment (PS3.8 Figure 9-2)."""
        link = self._link
        left = _U32(link.buffer, link.start + 2)[0]
        link.start += 6
        while left:
            self._fill(6)
            buffer, at = link.buffer, link.start
            length, context, control = _U32(buffer, at)[0], buffer[at + 4], buffer[at + 5]
            if length < 2 or length + 4 > left:
                raise BrokenProtocol("a fragment is longer than its PDU")
            link.start = at + 6
            left -= 4 + length
            if control & 1:
                self._take_command(length - 2, context, bool(control & 2))
            else:
                self._take_data(length - 2, context, bool(control & 2))

    def _take_command(self, length: int, context: int, last: bool) -> None:
        link = self._link
        if self._intake is not None or len(self._command) + length > COMMAND_BYTES:
            raise BrokenProtocol("a command inside of a data set, or an endless one")
        link.fill(length)
        self._command += link.view[link.start : link.start + length]
        link.start += length
        if last:
            if not self._parsed:
                self._fields = parse_command(self._command)
            self._parsed = False
            if self._fields.get(0x0100) != C_STORE_RQ or 0x0110 not in self._fields:
                raise BrokenProtocol("not a C-STORE request")
            self._intake = self._begin(context)

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

    def _take_data(self, length: int, context: int, last: bool) -> None:
        link = self._link
        if self._intake is None:
            raise BrokenProtocol("a data set without a command")
        while length:
            start, end = link.start, link.end
            if start == end:
                self._hand_on()
                link.more()
                continue
            size = min(length, end - start)
            self._pieces.append(link.view[start : start + size])
            link.start = start + size
            length -= size
        if last:
            self._answer(context)

    def _answer(self, context: int) -> None:
        """The data set is whole: close it and say what became of it."""
        intake, link = self._intake, self._link
        assert intake is not None
        self._hand_on()
        self._intake = None
        self._command.clear()
        status = intake.close()
        link.answer(store_response(context, self._fields, status.code, status.comment))
        link.pace.begin()
        self._dul._idle_timer.restart()


def origin_of(assoc: Any) -> Origin:
    """Who is at the other end of an association."""
    return Origin(
        association=assoc.name,
        calling_ae=str(assoc.requestor.primitive.calling_ae_title).strip(),
        called_ae=str(assoc.requestor.primitive.called_ae_title).strip(),
        address=str(assoc.requestor.address),
    )
