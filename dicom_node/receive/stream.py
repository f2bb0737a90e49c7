"""C-STORE at the speed of the wire, on pynetdicom's own associations.

pynetdicom keeps listening, negotiation, release, abort, timers and every other message. For C-STORE its PDU and message
objects are stepped over: see ``reception``. TLS connections take the same path; their handshake is done beside the
accept loop.

This leans on names that pynetdicom does not promise; ``LEANS_ON`` lists them and ``fits`` checks them.
"""

from __future__ import annotations

import errno
import logging
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, cast

from pydicom.errors import InvalidDicomError
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from dicom_node.receive.intake import Desk
from dicom_node.receive.reception import Reception
from dicom_node.receive.turns import Turns
from dicom_node.receive.wire import TOO_LONG, BrokenProtocol, Gone, Patience, StreamSocket
from dicom_node.unreadable import BAD_VALUE

log = logging.getLogger(__name__)

ASSOCIATE_BYTES = 1024 * 1024  #: more than any A-ASSOCIATE-RQ; a length is believed no further
STOCK_SECONDS = 0.25  #: after a message that pynetdicom serves, it keeps the link this long
MESSAGE_BYTES = 4 * 1024 * 1024  #: of a message that is no C-STORE: pynetdicom collects it in memory
MESSAGES_BYTES = 8 * MESSAGE_BYTES  #: of all such messages that were not served yet
TITLES_END = 42  #: bytes of an A-ASSOCIATE-RQ up to the end of its AE titles (PS3.8 Table 9-11)
WAITING = 32  #: connections of one address that have not asked for an association yet

#: What pynetdicom lets out, ending its thread, on a message that is none or comes out of turn.
UNREADABLE = (*BAD_VALUE, InvalidEventError, InvalidDicomError, EOFError, OSError)

LEANS_ON: dict[type, tuple[str, ...]] = {
    RequestHandler: ("_create_association",),
    DULServiceProvider: ("_read_pdu_data", "_is_transport_event", "run_reactor", "idle_timer_expired"),
    AssociationSocket: ("recv", "ready", "close", "send", "_shutdown_socket"),
    AssociationServer: ("verify_request", "get_request", "process_request"),
    Association: ("kill", "abort"),
}


def fits() -> list[str]:
    """What this pynetdicom lacks of what the streaming path leans on; empty when it fits."""
    missing = [f"{cls.__name__}.{name}" for cls, names in LEANS_ON.items() for name in names if not hasattr(cls, name)]
    probe = Association.__init__.__code__.co_names
    missing += [f"Association.{name}" for name in ("_accepted_cx", "_reactor_checkpoint") if name not in probe]
    probe = DULServiceProvider.__init__.__code__.co_names
    needed = ("_idle_timer", "_kill_thread", "state_machine", "event_queue", "to_provider_queue", "to_user_queue")
    return missing + [f"DULServiceProvider.{name}" for name in needed if name not in probe]


class StreamDUL(DULServiceProvider):
    """pynetdicom's upper layer, which gives the link to a Reception while C-STORE requests come."""

    last_stock = 0.0
    awaited = False  #: whether the peer has yet to ask for an association
    _broken = False
    _collected = 0

    def run(self) -> None:
        """See Thread; the base class bound another function at its construction."""
        link = cast(StreamSocket, self.socket)
        try:
            self.run_reactor()
        except UNREADABLE as error:
            log.info("association aborted: pynetdicom cannot read a message (%s)", type(error).__name__)
            self.assoc.is_aborted, self.assoc.is_established = True, False
            evt.trigger(self.assoc, evt.EVT_ABORTED, {})
            self.assoc._kill = True
        link.end_of_use()
        self._notice_end()

    def _is_transport_event(self) -> bool:
        """See the base class. An established link that is quiet is waited for without spinning."""
        self._notice_end()
        state = self.state_machine.current_state
        if state == "Sta3":
            self._see_that_it_is_answered()
            return False  # its request is being answered: what it sends before that is read then
        if state == "Sta13":
            link = cast(StreamSocket, self.socket)
            link.start = link.end = 0  # the association is over: what it still sends is not looked at
            link.close()
            return True
        if self._mine() and time.monotonic() - self.last_stock > STOCK_SECONDS:
            return self._stream()
        return bool(super()._is_transport_event())

    def _read_pdu_data(self) -> None:
        """See the base class; lengths are checked before a byte is stored."""
        link = cast(StreamSocket, self.socket)
        if self.assoc.is_established:
            link.pace.begin()
        try:
            link.fill(6)
            if link.buffer[link.start] == 1:
                _end_titles(link)
        except Gone:
            self.event_queue.put("Evt17")
            return
        kind, length = link.buffer[link.start], int.from_bytes(link.view[link.start + 2 : link.start + 6])
        if length > (link.maximum_pdu if kind == 4 else ASSOCIATE_BYTES):
            if not self._broken:  # until the state machine has heard of it, it asks again
                self._broken = True
                self._turn_away(TOO_LONG)
                self.event_queue.put("Evt19")
            return
        if kind == 4 and self._mine() and self._stream():
            return
        if kind == 4 and self._is_too_much(length):
            self.event_queue.put("Evt19")
            return
        self.last_stock = time.monotonic()
        super()._read_pdu_data()

    @property
    def collected(self) -> int:
        """Bytes that pynetdicom was given of messages which it has not served yet."""
        dimse = self.assoc.dimse
        return 0 if dimse.message is None and dimse.msg_queue.empty() else self._collected

    def _is_too_much(self, length: int) -> bool:
        """Whether so many bytes more of a message that is no C-STORE would be more than the node has memory for."""
        server = cast(StreamServer, self.assoc._server)
        self._collected = self.collected + length
        others = sum(cast(StreamDUL, assoc.dul).collected for assoc in server.live if assoc is not self.assoc)
        if self._collected <= MESSAGE_BYTES and self._collected + others <= MESSAGES_BYTES:
            return False
        self._turn_away("a message that is no C-STORE is too long")
        return True

    def _turn_away(self, why: str) -> None:
        cast(StreamServer, self.assoc._server).turned_away(str(self.assoc.requestor.address), why)

    def _see_that_it_is_answered(self) -> None:
        """A request that pynetdicom cannot understand, as one without abstract syntax, ends the thread that answers."""
        if self.assoc.is_alive() or self._broken or self.to_provider_queue.queue:
            return
        self._broken = True
        self._turn_away("a request for an association that cannot be understood")
        self.event_queue.put("Evt19")

    def _notice_end(self) -> None:
        """Tell the association's thread when its peer is gone before it asked: it would hold its place for long."""
        state = self.state_machine.current_state
        if state == "Sta2":
            self.awaited = True
        elif state == "Sta1" and self._broken and not self.assoc.is_alive():
            self.kill_dul()  # as the thread would have that is gone
        elif self.awaited:
            self.awaited = False
            if state in ("Sta1", "Sta13"):
                self.to_user_queue.put(cast(Any, None))  # what it takes for the end of its patience

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
            served = Reception(self, cast(StreamServer, assoc._server).desk).run()
        except Gone:
            self.event_queue.put("Evt17")
        except BrokenProtocol as error:
            self._turn_away(str(error))
            self.event_queue.put("Evt19")
        else:
            if cast(StreamSocket, self.socket).unread:
                self.last_stock = time.monotonic()  # it is pynetdicom's turn
            return served
        finally:
            assoc._reactor_checkpoint.set()
        return True


class SharedContexts(list[Any]):
    """Presentation contexts that all associations share: pynetdicom only reads them, but copies them deeply (60 ms)."""

    def __deepcopy__(self, _memo: object) -> SharedContexts:
        return self


class StreamHandler(RequestHandler):
    """Makes pynetdicom's association of a connection, on our socket and upper layer."""

    def _create_association(self) -> Association:
        assoc = super()._create_association()
        server = cast(StreamServer, self.server)
        assoc.name = unique(assoc.name)
        assoc.dul.__class__ = StreamDUL
        link = cast(Any, assoc.dul.socket)
        link.__class__ = StreamSocket
        link.begin(server.patience, server.ae.maximum_pdu_size, server.turns.turn())
        server.live.append(assoc)
        return assoc


class StreamServer(AssociationServer):
    """Listens; the desk takes what is stored. Connections are counted before anything is spent on them."""

    request_queue_size = 128
    desk: Desk
    patience = Patience(association_seconds=10.0, stall_seconds=60.0, least_rate=0)
    room = 128  #: connections at a time
    credentials: Callable[[], ssl.SSLContext] | None = None  #: of TLS, asked for each connection
    turned_away: Callable[[str, str], None] = staticmethod(lambda _address, _why: None)

    def __init__(self, *args: Any, **options: Any) -> None:
        self.live: list[Association] = []
        self._shaking: list[str] = []  # addresses
        self.turns = Turns()
        super().__init__(*args, **options)

    def get_request(self) -> tuple[Any, Any]:
        """See the base class; a handshake is not waited for here."""
        try:
            return cast(Any, self.socket).accept()  # type: ignore[no-any-return]
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(0.1)  # the connection waits in the backlog: do not spin on it
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for one more connection, and for one more from there."""
        del request
        self.live = [assoc for assoc in self.live if assoc.is_alive()]
        if len(self.live) + len(self._shaking) >= self.room:
            self.turned_away(client_address[0], "too many connections")
            return False
        waiting = sum(_waits(assoc) and assoc.requestor.address == client_address[0] for assoc in self.live)
        if waiting + self._shaking.count(client_address[0]) >= WAITING:
            self.turned_away(client_address[0], "too many connections that ask for no association")
            return False
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """See the base class; a TLS handshake has a thread of its own."""
        if self.credentials is None:
            super().process_request(request, client_address)
            return
        self._shaking.append(client_address[0])
        threading.Thread(target=self._secure, args=(request, client_address), daemon=True).start()

    def _secure(self, request: Any, client_address: Any) -> None:
        assert self.credentials is not None
        try:
            request.settimeout(self.patience.association_seconds)
            secured = self.credentials().wrap_socket(request, server_side=True)
        except (OSError, ValueError) as error:
            self.turned_away(client_address[0], f"no TLS connection ({getattr(error, 'reason', '') or error})")
            self.shutdown_request(request)
            return
        finally:
            self._shaking.remove(client_address[0])
        self.finish_request(secured, client_address)


def _end_titles(link: StreamSocket) -> None:
    """Let the AE titles of an A-ASSOCIATE-RQ end at a zero byte, as C has it: pynetdicom knows padding by spaces alone.

    Raises Gone.
    """
    if int.from_bytes(link.view[link.start + 2 : link.start + 6]) < TITLES_END - 6:
        return
    link.fill(TITLES_END)
    for at in (link.start + 10, link.start + 26):
        title = bytes(link.view[at : at + 16]).partition(b"\0")[0]
        link.view[at : at + 16] = title.ljust(16)


def unique(name: str) -> str:
    """Of an association: "AcceptorThread" must stay in it."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def _waits(assoc: Association) -> bool:
    """Connected, and no association yet. Its thread lives on for a while after the peer has gone."""
    begun = assoc.dul.ident is not None
    return not assoc.is_established and (assoc.dul.is_alive() or not begun)
