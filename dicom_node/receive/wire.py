"""The receiver's end of one connection: a reusable buffer, and no wait without an end.

A peer may be slow, silent or hostile. Three things are held against it: a whole association request within
``association_seconds``, a message that keeps moving (``Pace``), and lengths that were agreed on (see ``reception``).
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from dataclasses import dataclass

from pynetdicom.transport import AssociationSocket

from dicom_node.receive.turns import Turn

AHEAD_BYTES = 64 * 1024  #: read beyond one PDU of the announced maximum
TOO_LONG = "a PDU is longer than allowed"  #: what is noted of its sender
TICK_SECONDS = 0.25  #: a read that gets nothing is looked at so often, and an abort of ours noticed so late


class BrokenProtocol(Exception):
    """The peer sent what PS3.8 does not allow: the association is aborted."""


class Gone(Exception):
    """The peer closed the connection, stopped in the middle of a message, or was too slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a peer is waited for."""

    association_seconds: float  #: from the connection to the end of the association request
    stall_seconds: float  #: in the middle of a message: over any such time the least rate must be reached
    least_rate: int  #: bytes a second


class Pace:
    """Whether a message keeps moving: over each window it must bring what the least rate asks, at least a byte."""

    def __init__(self, patience: Patience) -> None:
        self._window, self._least = patience.association_seconds, 0.0
        self._message = (patience.stall_seconds, max(patience.least_rate * patience.stall_seconds, 1.0))
        self._since, self._bytes = time.monotonic(), 0

    def begin(self) -> None:
        """A message begins, or moves on after a wait that was ours."""
        self._window, self._least = self._message
        self._since, self._bytes = time.monotonic(), 0

    def count(self, size: int) -> None:
        """So many bytes came. Raises Gone at the end of a window that brought too few."""
        self._bytes += size
        now = time.monotonic()
        if now - self._since < self._window:
            return
        if not self._least or self._bytes < self._least:
            raise Gone(f"only {self._bytes} bytes in {self._window:g} s")
        self._since, self._bytes = now, 0


class StreamSocket(AssociationSocket):
    """pynetdicom's socket over one reusable buffer: may read ahead, never loses a byte."""

    def begin(self, patience: Patience, maximum_pdu: int, turn: Turn | None = None) -> None:
        """Set up after pynetdicom has made the socket."""
        assert self.socket is not None
        self.peer = self.socket  # pynetdicom sets its own to None when it closes; ours then raises OSError
        self.buffer = bytearray(maximum_pdu + AHEAD_BYTES)
        self.view = memoryview(self.buffer)
        self.start = self.end = 0
        self.maximum_pdu = maximum_pdu
        self.pace = Pace(patience)
        self._stall_seconds = patience.stall_seconds
        self._drained = True  #: whether the last read took all that there was
        self._secure = isinstance(self.peer, ssl.SSLSocket)
        #: By TLS a read cannot tell at once that there is nothing: such associations work without turns.
        self.turn = Turn() if turn is None or self._secure else turn
        if self._secure:
            self.peer.settimeout(TICK_SECONDS)  # the kernel's own time-outs make the TLS layer try for ever
        else:
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(TICK_SECONDS))
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(patience.stall_seconds))
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.acknowledge()

    def end_of_use(self) -> None:
        """Give back the buffer: the association lies in reference cycles, which are collected much later."""
        self.view.release()
        self.buffer = bytearray()
        self.start = self.end = 0

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
        """See AssociationSocket: exactly ``nr_bytes``, fewer when the peer is gone."""
        got = bytearray()
        try:
            while len(got) < nr_bytes:
                if not self.unread:
                    self.more()
                size = min(nr_bytes - len(got), self.unread)
                got += self.view[self.start : self.start + size]
                self.start += size
        except Gone:
            pass
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

    def listen(self) -> None:
        """Wait a tick for a message to begin, in the empty buffer. Raises Gone."""
        self.start = self.end = 0
        self._read()

    def _receive(self) -> None:
        """Read at least a byte in the middle of a message. Raises Gone.

        Where more is waiting than was read, the sender is not held up: the kernel acknowledges by itself.
        """
        if self._drained:
            try:
                self.acknowledge()
            except OSError as error:
                raise Gone(str(error)) from error
        while not (got := self._read()):
            self.pace.count(0)
        self.pace.count(got)

    def _read(self) -> int:
        """What there is, nothing after a tick. Raises Gone."""
        room = self.view[self.end :]
        try:
            got = self._read_on(room) if self.turn.held else self.peer.recv_into(room)
        except (BlockingIOError, TimeoutError, InterruptedError):
            return 0
        except (OSError, ValueError) as error:
            raise Gone(str(error)) from error
        if not got:
            raise Gone("closed")
        self.end += got
        self._drained = got < len(room)
        return got

    def _read_on(self, room: memoryview) -> int:
        """Read what there is already; only what has to be waited for is waited for without a turn."""
        try:
            return self.peer.recv_into(room, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self.turn.give()
        try:
            return self.peer.recv_into(room)
        finally:
            self.turn.take()

    def _shutdown_socket(self) -> None:
        """Close it, too, after the peer has reset it: the base class then leaves the descriptor open."""
        super()._shutdown_socket()
        self.peer.close()

    def send(self, bytestream: bytes) -> None:
        """See AssociationSocket."""
        try:
            self.answer(bytestream)
        except Gone:
            self.event_queue.put("Evt17")

    def answer(self, data: bytes) -> None:
        """Send a response. Raises Gone."""
        try:
            if self._secure:
                self.peer.settimeout(self._stall_seconds)
            self.peer.sendall(data)
            if self._secure:
                self.peer.settimeout(TICK_SECONDS)
            self.acknowledge()
        except OSError as error:
            raise Gone(str(error)) from error


def _timeval(seconds: float) -> bytes:
    whole, fraction = divmod(seconds, 1)
    return struct.pack("@ll", int(whole), int(fraction * 1e6))
