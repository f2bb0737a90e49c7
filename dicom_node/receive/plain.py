"""What bounds pynetdicom's own reception, where the streaming path does not fit: see ``stream`` for the limits.

It leans on what pynetdicom documents: its events, and ``recv`` of AssociationSocket.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import AssociationSocket

from dicom_node.receive.stream import ASSOCIATE_BYTES, MESSAGE_BYTES, MESSAGES_BYTES, unique
from dicom_node.receive.wire import TOO_LONG, Gone, Pace, Patience

ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))  #: A-ABORT of the service provider, reason not given (PS3.8 9.3.8)
PIECE_BYTES = 64 * 1024  #: asked for at a time

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


class Collected:
    """Counts the bytes of messages that are no C-STORE, which pynetdicom collects; use ``look`` for evt.EVT_PDU_RECV.

    An association whose message grows too long is aborted, as one that breaks the protocol (PS3.8 Table 9-10, Evt19).
    """

    def __init__(self, turned_away: TurnedAway) -> None:
        self._turned_away = turned_away
        self._bytes: WeakKeyDictionary[Association, int] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def look(self, event: Any) -> None:
        """A PDU was read, in the thread of its association; pynetdicom has not looked at it yet."""
        assoc: Association = event.assoc
        if not isinstance(event.pdu, P_DATA_TF) or isinstance(assoc.dimse.message, C_STORE_RQ):
            return
        with self._lock:
            self._bytes[assoc] = mine = self._of(assoc) + event.pdu.pdu_length
            everybodys = sum(self._of(one) for one in self._bytes if one is not assoc) + mine
        if mine > MESSAGE_BYTES or everybodys > MESSAGES_BYTES:
            self._turned_away(str(assoc.requestor.address), "a message that is no C-STORE is too long")
            assoc.dul.event_queue.put("Evt19")

    def _of(self, assoc: Association) -> int:
        """Bytes of messages that were not served yet."""
        dimse = assoc.dimse
        waits = dimse.message is not None or not dimse.msg_queue.empty()
        return self._bytes.get(assoc, 0) if waits and assoc.is_alive() else 0
