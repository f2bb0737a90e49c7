"""What bounds pynetdicom's own reception, where the streaming path does not fit: see ``stream`` for the limits.

It leans on what pynetdicom documents: its events, and ``recv`` of AssociationSocket.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from queue import Queue
from typing import Any, cast
from weakref import WeakKeyDictionary

from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import AssociationSocket

from dicom_node.receive.message import C_STORE_RQ as STORE
from dicom_node.receive.message import NO_DATA_SET, parse_command
from dicom_node.receive.reception import COMMAND_BYTES, TOO_EARLY, TOO_MANY, WITHIN, WRONG_CONTEXT
from dicom_node.receive.stream import ASSOCIATE_BYTES, MESSAGE_BYTES, MESSAGES_BYTES, unique
from dicom_node.receive.wire import TOO_LONG, Gone, Pace, Patience

ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))  #: A-ABORT of the service provider, reason not given (PS3.8 9.3.8)
PIECE_BYTES = 64 * 1024  #: asked for at a time

_CANCEL, _RESPONSE = 0x0FFF, 0x8000
_REQUESTS = {0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150}  #: PS3.7 E.1
_COMMANDS = {_CANCEL, *_REQUESTS, *(_RESPONSE | kind for kind in _REQUESTS)}

#: Called with the address of a peer that is cut off, and why.
TurnedAway = Callable[[str, str], None]


class BoundedSocket(AssociationSocket):
    """pynetdicom's socket, which believes no length beyond what was agreed and waits for no byte without an end."""

    def begin(self, patience: Patience, maximum_pdu: int, turned_away: TurnedAway) -> None:
        """Set up after pynetdicom has made the socket."""
        assert self.socket is not None
        self.pace, self._maximum_pdu, self._turned_away = Pace(patience), maximum_pdu, turned_away
        self._stall_seconds = patience.stall_seconds
        self.socket.settimeout(patience.association_seconds)

    def recv(self, nr_bytes: int) -> bytearray:
        """See AssociationSocket: a PDU's header, or what follows it; fewer bytes when the peer is gone or cut off."""
        if nr_bytes > (self._maximum_pdu if self.assoc.is_established else ASSOCIATE_BYTES):
            self._turned_away(str(self.assoc.requestor.address), TOO_LONG)
            self._cut()
            return bytearray()
        try:
            return self._exactly(nr_bytes)
        except (Gone, TimeoutError):
            self._cut()
            return bytearray()

    def _exactly(self, size: int) -> bytearray:
        """Raises Gone from a peer that is too slow, TimeoutError from a silent one, OSError when it is gone."""
        assert self.socket is not None
        if self.assoc.is_established:
            self.pace.begin()
            self.socket.settimeout(self._stall_seconds)
        got = bytearray()
        while len(got) < size:
            piece = self.socket.recv(min(size - len(got), PIECE_BYTES))
            if not piece:
                break
            got += piece
            self.pace.count(len(piece))
        return got

    def _cut(self) -> None:
        """Abort and close: pynetdicom finds fewer bytes than it asked for, and takes the peer to be gone."""
        if self.socket is None:
            return
        try:
            self.socket.sendall(ABORT)
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone already
        self.socket.close()
        self.socket, self._is_connected = None, False


class Bounds:
    """Puts a BoundedSocket under each connection; use ``open`` for evt.EVT_CONN_OPEN."""

    def __init__(self, patience: Patience, maximum_pdu: int, turned_away: TurnedAway) -> None:
        self._patience, self._maximum_pdu, self._turned_away = patience, maximum_pdu, turned_away

    def open(self, event: Any) -> None:
        """A connection was accepted; nothing was read from it yet. Its name tells the second, not which it is."""
        event.assoc.name = unique(event.assoc.name)
        link: Any = event.assoc.dul.socket
        link.__class__ = BoundedSocket
        link.begin(self._patience, self._maximum_pdu, self._turned_away)


@dataclass(slots=True)
class Course:
    """How far a message has come (PS3.8 Annex E.2): pynetdicom joins fragments without asking what they belong to."""

    context: int = 0  #: that of its command; 0: no message has begun
    command: bytearray = field(default_factory=bytearray)
    awaits_data: bool = False  #: the command is whole, and its data set comes
    is_over: bool = False  #: the association is being aborted: what still comes is not looked at

    def fault(self, fragments: Sequence[tuple[int, bytes]], accepted: Collection[int]) -> str:
        """What is wrong with the fragments of the next PDU, each a context ID and a value; empty where nothing is.

        ``accepted`` are the IDs of the presentation contexts that were accepted.
        """
        if not fragments:
            return "a PDU without a fragment" if self.context else ""
        for number, (context, value) in enumerate(fragments):
            if not value:
                return "a fragment without a header"
            wrong = self._of_data(context, value) if self.awaits_data else self._of_command(context, value, accepted)
            if wrong:
                return wrong
            if not self.context and number + 1 < len(fragments):
                return TOO_MANY
        return ""

    def _of_data(self, context: int, value: bytes) -> str:
        if value[0] & 1:
            return WITHIN
        if context != self.context:
            return WRONG_CONTEXT
        if value[0] & 2:
            self._end()
        return ""

    def _of_command(self, context: int, value: bytes, accepted: Collection[int]) -> str:
        if not value[0] & 1:
            return TOO_EARLY
        if context not in accepted:
            return "a presentation context that was not accepted"
        self.context = context
        self.command += value[1:]
        if len(self.command) > COMMAND_BYTES:
            return "an endless command"
        if not value[0] & 2:
            return ""
        fields = parse_command(self.command)
        if fields.get(0x0800) == NO_DATA_SET:
            self._end()
        else:
            self.awaits_data = True
        return _lacking(fields)

    def _end(self) -> None:
        self.context, self.awaits_data = 0, False
        self.command.clear()


def _lacking(fields: dict[int, bytes]) -> str:
    """What a command lacks without which pynetdicom gives no answer, or ends its thread; empty where it is whole."""
    kind = int.from_bytes(fields.get(0x0100, b""), "little")
    if len(fields.get(0x0100, b"")) != 2 or kind not in _COMMANDS:
        return "an unknown command"
    if len(fields.get(0x0800, b"")) != 2:
        return "a command that does not say whether a data set follows"
    if kind in _REQUESTS and len(fields.get(0x0110, b"")) != 2:
        return "a request without a message ID"
    if fields[0x0100] == STORE and not (fields.get(0x0002) and fields.get(0x1000)):
        return "a request to store that does not name its object"
    return ""


class Nowhere(Queue[Any]):
    """What an association that is being aborted has still to say, as the answer to an earlier message, is dropped.

    pynetdicom's state machine would stumble over it, and its thread end before the association does.
    """

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """See Queue."""


class Collected:
    """Looks at each PDU before pynetdicom does, see ``Course``; use ``look`` for evt.EVT_PDU_RECV.

    It counts the bytes of messages that are no C-STORE, too, which pynetdicom collects. An association that breaks the
    protocol, or whose message grows too long, is aborted (PS3.8 Table 9-10, Evt19).
    """

    def __init__(self, turned_away: TurnedAway) -> None:
        self._turned_away = turned_away
        self._bytes: WeakKeyDictionary[Association, int] = WeakKeyDictionary()
        self._courses: WeakKeyDictionary[Association, Course] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def look(self, event: Any) -> None:
        """A PDU was read, in the thread of its association; pynetdicom has not looked at it yet."""
        assoc: Association = event.assoc
        with self._lock:
            course = self._courses.setdefault(assoc, Course())
        if course.is_over or not isinstance(event.pdu, P_DATA_TF):
            return
        items: Any = event.pdu.presentation_data_value_items
        fragments = [(item.presentation_context_id, item.presentation_data_value) for item in items]
        accepted = {one.context_id for one in assoc.accepted_contexts if one.context_id is not None}
        why = course.fault(fragments, accepted) or self._too_long(assoc, event.pdu.pdu_length)
        if why:
            course.is_over = True
            self._turned_away(str(assoc.requestor.address), why)
            assoc.dul.to_provider_queue = cast(Any, Nowhere())
            assoc.dul.event_queue.put("Evt19")

    def _too_long(self, assoc: Association, length: int) -> str:
        if isinstance(assoc.dimse.message, C_STORE_RQ):
            return ""
        with self._lock:
            self._bytes[assoc] = mine = self._of(assoc) + length
            everybodys = sum(self._of(one) for one in self._bytes if one is not assoc) + mine
        too_long = mine > MESSAGE_BYTES or everybodys > MESSAGES_BYTES
        return "a message that is no C-STORE is too long" if too_long else ""

    def _of(self, assoc: Association) -> int:
        """Bytes of messages that were not served yet."""
        dimse = assoc.dimse
        waits = dimse.message is not None or not dimse.msg_queue.empty()
        return self._bytes.get(assoc, 0) if waits and assoc.is_alive() else 0
