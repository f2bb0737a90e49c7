"""C-STORE at the speed of the wire, on pynetdicom's own associations.

pynetdicom keeps listening, negotiation, release, abort, timers and every other message. For C-STORE its PDU and message
objects are stepped over: fragments go from one receive buffer to the sink while they arrive (PS3.8 9.3.5, Annex E;
PS3.7 9.3.1), and the response is sent from the same thread. Memory stays flat whatever the size of the object.

This leans on names that pynetdicom does not promise; ``LEANS_ON`` lists them and ``fits`` checks them.
"""

from __future__ import annotations

import select
import socket
import struct
import time
import uuid
from collections.abc import Mapping
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from dicom_node.receive.intake import Desk, Intake, Request, Status
from dicom_node.receive.landing import Origin

BUFFER_BYTES = 320 * 1024
ASSOCIATE_BYTES = 1024 * 1024  #: more than any A-ASSOCIATE-RQ; a length is believed no further
COMMAND_BYTES = 16 * 1024
STOCK_SECONDS = 0.25  #: after a message that pynetdicom serves, it keeps the link this long
POLL_MS = 100

LEANS_ON: dict[type, tuple[str, ...]] = {
    RequestHandler: ("_create_association",),
    DULServiceProvider: ("_read_pdu_data", "_is_transport_event", "run_reactor", "idle_timer_expired"),
    AssociationSocket: ("recv", "ready", "close"),
    AssociationServer: ("server_bind", "verify_request", "get_request"),
    Association: ("kill", "abort"),
}

_U32 = struct.Struct(">L").unpack_from
_COMMAND = struct.Struct("<HHL").unpack_from
_C_STORE_RQ = b"\x01\x00"
_NO_DATA_SET = b"\x01\x01"


def fits() -> list[str]:
    """What this pynetdicom lacks of what the streaming path leans on; empty when it fits."""
    missing = [f"{cls.__name__}.{name}" for cls, names in LEANS_ON.items() for name in names if not hasattr(cls, name)]
    probe = Association.__init__.__code__.co_names
    missing += [f"Association.{name}" for name in ("_accepted_cx", "_reactor_checkpoint") if name not in probe]
    probe = DULServiceProvider.__init__.__code__.co_names
    needed = ("_idle_timer", "_kill_thread", "state_machine", "event_queue", "to_provider_queue")
    return missing + [f"DULServiceProvider.{name}" for name in needed if name not in probe]


class BrokenProtocol(Exception):
    """The peer sent what PS3.8 does not allow: the association is aborted."""


class Gone(Exception):
    """The peer closed the connection, or stopped in the middle of a message."""


class StreamSocket(AssociationSocket):
    """pynetdicom's socket over one reusable buffer: may read ahead, never loses a byte."""

    def begin(self, stall_seconds: float, maximum_pdu: int) -> None:
        """Set up after pynetdicom has made the socket."""
        assert self.socket is not None
        self.peer = self.socket  # pynetdicom sets its own to None when it closes; ours then raises OSError
        self.buffer = bytearray(max(BUFFER_BYTES, 2 * maximum_pdu + 64))
        self.view = memoryview(self.buffer)
        self.start = self.end = 0
        self.maximum_pdu = maximum_pdu
        seconds, fraction = divmod(stall_seconds, 1)
        timeout = struct.pack("@ll", int(seconds), int(fraction * 1e6))
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.acknowledge()

    def acknowledge(self) -> None:
        """Acknowledge at once: a sender with Nagle's algorithm waits for it, 40 ms an object. Not sticky."""
        quick = getattr(socket, "TCP_QUICKACK", None)
        if quick is not None:
            self.peer.setsockopt(socket.IPPROTO_TCP, quick, 1)

    @property
    def unread(self) -> int:
        """Bytes that lie in the buffer."""
        return self.end - self.start

    @property
    def ready(self) -> bool:
        """See AssociationSocket: whether there is something to read."""
        if self.socket is not None and self.unread:
            return True
        return bool(super().ready)

    def recv(self, nr_bytes: int) -> bytearray:
        """See AssociationSocket: exactly ``nr_bytes``, fewer when the peer closed."""
        got = bytearray(self.view[self.start : self.start + nr_bytes])
        self.start += len(got)
        while len(got) < nr_bytes:
            chunk = self.peer.recv(min(65536, nr_bytes - len(got)))
            if not chunk:
                break
            got += chunk
        return got

    def fill(self, need: int) -> None:
        """Have at least ``need`` unread bytes in one piece. Raises Gone."""
        if self.unread >= need:
            return
        if self.start == self.end:
            self.start = self.end = 0
        elif len(self.buffer) - self.start < need:
            rest = bytes(self.view[self.start : self.end])
            self.view[: len(rest)] = rest
            self.start, self.end = 0, len(rest)
        while self.unread < need:
            self._receive()

    def more(self) -> None:
        """Read what there is into the empty buffer, at least a byte. Raises Gone."""
        self.start = self.end = 0
        self._receive()

    def _receive(self) -> None:
        try:
            got = self.peer.recv_into(self.view[self.end :])
        except OSError as error:
            raise Gone(str(error)) from error
        if not got:
            raise Gone("closed")
        self.end += got

    def _shutdown_socket(self) -> None:
        """Close it, too, after the peer has reset it: the base class then leaves the descriptor open."""
        super()._shutdown_socket()
        self.peer.close()

    def answer(self, data: bytes) -> None:
        """Send a response. Raises Gone."""
        try:
            self.peer.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error
        self.acknowledge()


class StreamDUL(DULServiceProvider):
    """pynetdicom's upper layer, which gives the link to a Reception while C-STORE requests come."""

    last_stock = 0.0

    def run(self) -> None:
        """See Thread; the base class bound another function at its construction."""
        self.run_reactor()

    def _is_transport_event(self) -> bool:
        """See the base class. An established link that is quiet is waited for without spinning."""
        if self._mine() and time.monotonic() - self.last_stock > STOCK_SECONDS:
            return self._stream()
        return bool(super()._is_transport_event())

    def _read_pdu_data(self) -> None:
        """See the base class; lengths are checked before a byte is stored."""
        link = cast(StreamSocket, self.socket)
        try:
            link.fill(6)
        except Gone:
            self.event_queue.put("Evt17")
            return
        kind, length = link.buffer[link.start], _U32(link.buffer, link.start + 2)[0]
        if length > (link.maximum_pdu if kind == 4 else ASSOCIATE_BYTES):
            self.event_queue.put("Evt19")
            return
        if kind == 4 and self._mine() and self._stream():
            return
        self.last_stock = time.monotonic()
        super()._read_pdu_data()

    def _mine(self) -> bool:
        """Established, and pynetdicom is not in the middle of a message."""
        assoc = self.assoc
        return (
            self.state_machine.current_state == "Sta6"
            and assoc.is_established
            and assoc.dimse.message is None
            and assoc.dimse.msg_queue.empty()
            and not self.to_provider_queue.queue
        )

    def _stream(self) -> bool:
        """Let a Reception have the link; returns whether it did something."""
        assoc = self.assoc
        assoc._reactor_checkpoint.clear()  # park the association's own 1 kHz loop meanwhile
        try:
            return Reception(self, cast(StreamServer, assoc._server).desk).run()
        except Gone:
            self.event_queue.put("Evt17")
        except BrokenProtocol:
            self.event_queue.put("Evt19")
        finally:
            assoc._reactor_checkpoint.set()
        return True


class Reception:
    """The link of one association while it carries C-STORE requests."""

    def __init__(self, dul: StreamDUL, desk: Desk) -> None:
        self._dul, self._desk = dul, desk
        self._link = cast(StreamSocket, dul.socket)
        self._assoc = dul.assoc
        self._command = bytearray()
        self._fields: Mapping[int, bytes] = {}
        self._intake: Intake | None = None
        self._poll = select.poll()
        try:
            self._poll.register(self._link.peer, select.POLLIN)
        except ValueError as error:
            raise Gone("closed") from error

    def run(self) -> bool:
        """Serve C-STORE requests until something else comes; returns whether any byte was taken."""
        served = False
        try:
            while self._await_pdu():
                self._take_pdu()
                served = True
                self._dul._idle_timer.restart()
        finally:
            if self._intake is not None:
                self._intake.abort()
        return served

    def _await_pdu(self) -> bool:
        """Wait for a PDU that is ours. False: give the link back to pynetdicom."""
        link, dul = self._link, self._dul
        if self._intake is None and not self._command and not link.unread:
            while not self._poll.poll(POLL_MS):
                if dul._kill_thread or dul.to_provider_queue.queue or dul._idle_timer.expired or self._assoc._kill:
                    return False
        link.fill(6)
        kind, length = link.buffer[link.start], _U32(link.buffer, link.start + 2)[0]
        if kind != 4:
            return self._begin_other()
        if length > link.maximum_pdu:
            raise BrokenProtocol("P-DATA-TF above the announced maximum")
        if self._intake is None and not self._command:
            link.fill(6 + length)
            return self._is_store(length) or self._begin_other()
        return True

    def _begin_other(self) -> bool:
        self._dul.last_stock = time.monotonic()
        if self._intake is not None:
            self._intake.abort()
            self._intake = None
        return False

    def _is_store(self, length: int) -> bool:
        """Whether the PDU in the buffer begins with the whole command of a C-STORE request with a data set."""
        link = self._link
        if length < 6 or link.buffer[link.start + 11] & 3 != 3:
            return False
        size = _U32(link.buffer, link.start + 6)[0]
        fields = parse_command(link.view[link.start + 12 : link.start + 10 + size])
        return fields.get(0x0100) == _C_STORE_RQ and fields.get(0x0800) != _NO_DATA_SET

    def _take_pdu(self) -> None:
        """Take one P-DATA-TF, fragment by fragment (PS3.8 Figure 9-2)."""
        link = self._link
        left = _U32(link.buffer, link.start + 2)[0]
        link.start += 6
        while left:
            link.fill(6)
            length, context, control = _U32(link.buffer, link.start)[0], *link.buffer[link.start + 4 : link.start + 6]
            if length < 2 or length + 4 > left:
                raise BrokenProtocol("a fragment is longer than its PDU")
            link.start += 6
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
            self._fields = parse_command(memoryview(bytes(self._command)))
            if self._fields.get(0x0100) != _C_STORE_RQ or 0x0110 not in self._fields:
                raise BrokenProtocol("not a C-STORE request")
            link.acknowledge()
            self._intake = self._begin(context)

    def _begin(self, context: int) -> Intake:
        accepted = self._assoc._accepted_cx.get(context)
        if accepted is None:
            raise BrokenProtocol("a presentation context that was not accepted")
        request = Request(
            origin=origin_of(self._assoc),
            sop_class_uid=_uid(self._fields.get(0x0002, b"")),
            sop_instance_uid=_uid(self._fields.get(0x1000, b"")),
            abstract_syntax=str(accepted.abstract_syntax),
            transfer_syntax=str(accepted.transfer_syntax[0]),
        )
        return self._desk.begin(request)

    def _take_data(self, length: int, context: int, last: bool) -> None:
        link, intake = self._link, self._intake
        if intake is None:
            raise BrokenProtocol("a data set without a command")
        while length:
            if not link.unread:
                link.more()
            size = min(length, link.unread)
            intake.write(link.view[link.start : link.start + size])
            link.start += size
            length -= size
        if last:
            status = intake.close()
            self._intake = None
            self._command.clear()
            link.answer(store_response(context, self._fields, status))


class SharedContexts(list[Any]):
    """Presentation contexts that all associations share: pynetdicom only reads them, but copies them deeply (60 ms)."""

    def __deepcopy__(self, _memo: object) -> SharedContexts:
        return self


class StreamHandler(RequestHandler):
    """Makes pynetdicom's association of a connection, on our socket and upper layer."""

    def _create_association(self) -> Association:
        assoc = super()._create_association()
        server = cast(StreamServer, self.server)
        assoc.name = f"{assoc.name}-{uuid.uuid4().hex[:12]}"  # "AcceptorThread" must stay in it
        assoc.dul.__class__ = StreamDUL
        link = cast(Any, assoc.dul.socket)
        link.__class__ = StreamSocket
        link.begin(server.stall_seconds, server.ae.maximum_pdu_size)
        return assoc


class StreamServer(AssociationServer):
    """Listens; the desk takes what is stored."""

    request_queue_size = 128
    desk: Desk
    stall_seconds: float = 60.0


def origin_of(assoc: Any) -> Origin:
    """Who is at the other end of an association."""
    return Origin(
        association=assoc.name,
        calling_ae=str(assoc.requestor.primitive.calling_ae_title).strip(),
        called_ae=str(assoc.requestor.primitive.called_ae_title).strip(),
        address=str(assoc.requestor.address),
    )


def _uid(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0")


def parse_command(raw: memoryview | bytes) -> dict[int, bytes]:
    """The elements of a command set by element number (PS3.7 6.3.1: group 0000, implicit VR little endian)."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(raw):
        _, element, length = _COMMAND(raw, at)
        fields[element] = bytes(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return fields


def store_response(context: int, request: Mapping[int, bytes], status: Status) -> bytes:
    """A C-STORE-RSP (PS3.7 9.3.1.2) as one P-DATA-TF PDU."""

    def element(number: int, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    body = element(0x0002, request.get(0x0002, b"")) + element(0x0100, b"\x01\x80")
    body += element(0x0120, request[0x0110]) + element(0x0800, _NO_DATA_SET)
    body += element(0x0900, struct.pack("<H", status.code))
    if status.comment:
        body += element(0x0902, status.comment.encode("ascii", "replace"))
    body += element(0x1000, request.get(0x1000, b""))
    body = element(0x0000, struct.pack("<L", len(body))) + body
    return struct.pack(">BBLLBB", 4, 0, len(body) + 6, len(body) + 2, context, 3) + body
