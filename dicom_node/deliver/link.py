"""The TCP or TLS connection under an association: every wait has an end, every fault is a Transient that says where."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from types import TracebackType

from dicom_node.deliver.destination import Destination
from storage.facts.errors import Rejected, Transient

_HEADER = struct.Struct(">BxL")
ASSOCIATE_BYTES = 1 << 20  #: longest PDU taken that is not P-DATA-TF
AHEAD_BYTES = 1 << 14  #: asked for at a time: an answer is shorter, and needs one read


class Link:
    """A connection that sends bytes and receives PDUs (PS3.8 9.3)."""

    def __init__(self, destination: Destination) -> None:
        self._to = destination
        try:
            self._socket = socket.create_connection((destination.host, destination.port), destination.connect_seconds)
        except OSError as error:
            raise Transient(_unreachable(destination, error)) from error
        self._ahead = bytearray()  # read and not yet asked for
        self._patience = 0.0  # seconds that a read waits
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if destination.tls is not None:
                self._socket = destination.tls.wrap_socket(self._socket, server_hostname=destination.host)
            else:  # the kernel keeps the time: a socket with a time-out of Python's is polled before each call
                self._socket.settimeout(None)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(destination.answer_seconds))
        except OSError as error:
            self._socket.close()
            raise Transient(f"{destination}: no secure connection: {_tls_fault(error)}") from error

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    @property
    def plain(self) -> bool:
        """Whether the operating system itself can put a file on it."""
        return not isinstance(self._socket, ssl.SSLSocket)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Raises Transient when the peer is gone or takes nothing for answer_seconds."""
        try:
            if not self.plain:
                self._wait_at_most(self._to.answer_seconds)
            self._socket.sendall(data)
        except OSError as error:
            raise self._not_taken(error) from error

    def send_file(self, heads: Sequence[bytes], handle: int, at: int, sizes: Sequence[int]) -> None:
        """The same for pieces of a file, each after a head of its own; they do not pass through this process.

        Raises Rejected, too, when the file is shorter.
        """
        link, target = self._socket, self._socket.fileno()
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # whole segments, across heads and pieces
            for head, size in zip(heads, sizes, strict=True):
                link.sendall(head)
                end, began = at + size, time.monotonic()
                while (sent := os.sendfile(target, handle, at, end - at)) < end - at:
                    if not sent:
                        raise Rejected("a file became shorter while it was sent: check the disk of this node")
                    at += sent
                    self._check_time(began)  # a part alone is sent when the time is over, or a signal came
                at = end
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        except OSError as error:
            raise self._not_taken(error) from error

    def _check_time(self, began: float) -> None:
        if time.monotonic() - began >= self._to.answer_seconds:
            raise TimeoutError

    def _not_taken(self, error: OSError) -> Transient:
        if isinstance(error, TimeoutError | BlockingIOError):
            return Transient(f"{self._to} took nothing for {self._to.answer_seconds:g} s in the middle of a message: "
                             "look whether it hangs or its disk is full")  # fmt: skip
        return Lost(f"{self._to} closed the connection in the middle of a message: look into its log")

    def receive(self, seconds: float) -> tuple[int, bytes]:
        """The next PDU: its type and what follows its header. Raises Transient, Silent after so many seconds."""
        ahead = self._ahead
        self._have(6, seconds)
        kind, length = _HEADER.unpack_from(ahead)
        if length > (self._to.max_pdu if kind == 4 else ASSOCIATE_BYTES):
            raise Transient(f"{self._to} sent a PDU of {length} bytes, more than agreed: is it a DICOM port?")
        self._have(6 + length, seconds)
        wanted = bytes(ahead[6 : 6 + length])
        del ahead[: 6 + length]
        return kind, wanted

    def _have(self, size: int, seconds: float) -> None:
        """Have so many bytes ahead. From the first of them on, the rest has so many seconds in all."""
        deadline = 0.0
        while len(self._ahead) < size:
            if self._ahead:
                self._acknowledge()
                now = time.monotonic()
                deadline = deadline or now + seconds
                if now > deadline:
                    raise self._silent(seconds)
            self._read(seconds)

    def _read(self, seconds: float) -> None:
        """Read what there is, at least a byte."""
        try:
            self._wait_at_most(seconds)
            got = self._socket.recv(AHEAD_BYTES)
        except (TimeoutError, BlockingIOError) as error:
            raise self._silent(seconds) from error
        except OSError as error:
            raise Lost(f"{self._to} dropped the connection without an answer: look into its log") from error
        if not got:
            raise Lost(f"{self._to} closed the connection without an answer: look into its log")
        self._ahead += got

    def _silent(self, seconds: float) -> Silent:
        return Silent(f"{self._to} gave no answer within {seconds:g} s: look whether it hangs, "
                      "or give it more time (timeout_seconds)")  # fmt: skip

    def _wait_at_most(self, seconds: float) -> None:
        if seconds == self._patience:
            return  # each change is a call of the operating system
        if self.plain:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        else:
            self._socket.settimeout(seconds)
        self._patience = seconds

    def _acknowledge(self) -> None:
        """Acknowledge the part of a PDU that came: a peer with Nagle's algorithm holds the rest back until then."""
        if hasattr(socket, "TCP_QUICKACK"):
            try:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            except OSError:
                pass  # the connection is gone; the next read says so


class Silent(Transient):
    """The peer did not answer in time."""


class Lost(Transient):
    """The peer ended the connection."""


def _unreachable(destination: Destination, error: OSError) -> str:
    if isinstance(error, TimeoutError):
        todo = f"no connection within {destination.connect_seconds:g} s: check the address, and the firewall between"
    elif isinstance(error, ConnectionRefusedError):
        todo = "nothing listens there: check the port, and whether the DICOM service runs"
    elif isinstance(error, socket.gaierror):
        todo = "the host name is not known: check it, or the name service"
    else:
        todo = f"no connection: {error.strerror or error}"
    return f"{destination}: {todo}"


def _tls_fault(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}): check the CA file"
    return f"{error.strerror or error}: does this port speak TLS, and does it trust this node's certificate?"


def _timeval(seconds: float) -> bytes:
    """For SO_RCVTIMEO and SO_SNDTIMEO, which take none of 0 for what it says."""
    whole, fraction = divmod(max(seconds, 0.001), 1)
    return struct.pack("@ll", int(whole), int(fraction * 1e6))
