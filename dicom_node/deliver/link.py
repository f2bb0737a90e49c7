"""The TCP or TLS connection under an association: every wait has an end, every fault is a Transient that says where."""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        self._timeout: float | None = destination.connect_seconds
        self._ahead = bytearray()  # read and not yet asked for
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if destination.tls is not None:
                self._socket = destination.tls.wrap_socket(self._socket, server_hostname=destination.host)
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
        with self._sending():
            self._socket.sendall(data)

    def send_file(self, heads: Sequence[bytes], handle: int, at: int, sizes: Sequence[int]) -> None:
        """The same for pieces of a file, each after a head of its own; they do not pass through this process.

        Raises Rejected, too, when the file is shorter.
        """
        with self._sending():
            target = self._socket.fileno()
            for head, size in zip(heads, sizes, strict=True):
                self._socket.sendall(head, socket.MSG_MORE)
                end = at + size
                while at < end:
                    at += self._put(target, handle, at, end - at)

    def _put(self, target: int, handle: int, at: int, size: int) -> int:
        while True:
            try:
                sent = os.sendfile(target, handle, at, size)
            except BlockingIOError:
                if not select.select([], [target], [], self._to.answer_seconds)[1]:
                    raise TimeoutError from None
                continue
            if not sent:
                raise Rejected("a file became shorter while it was sent: check the disk of this node")
            return sent

    @contextmanager
    def _sending(self) -> Iterator[None]:
        try:
            self._wait_at_most(self._to.answer_seconds)
            yield
        except TimeoutError as error:
            raise Transient(f"{self._to} took nothing for {self._to.answer_seconds:g} s in the middle of a message: "
                            "look whether it hangs or its disk is full") from error  # fmt: skip
        except OSError as error:
            raise Lost(f"{self._to} closed the connection in the middle of a message: look into its log") from error

    def receive(self, seconds: float) -> tuple[int, bytes]:
        """The next PDU: its type and what follows its header. Raises Transient, Silent after so many seconds."""
        deadline = time.monotonic() + seconds
        kind, length = _HEADER.unpack(self._exactly(6, deadline, seconds))
        if length > (self._to.max_pdu if kind == 4 else ASSOCIATE_BYTES):
            raise Transient(f"{self._to} sent a PDU of {length} bytes, more than agreed: is it a DICOM port?")
        return kind, self._exactly(length, deadline, seconds)

    def _exactly(self, size: int, deadline: float, seconds: float) -> bytes:
        patience = seconds  # for the first piece, so that in a quick conversation no time-out needs to be set
        while len(self._ahead) < size:
            try:
                self._wait_at_most(patience)
                self._acknowledge()
                got = self._socket.recv(max(size - len(self._ahead), AHEAD_BYTES))
            except TimeoutError as error:
                raise Silent(f"{self._to} gave no answer within {seconds:g} s: look whether it hangs, "
                             "or give it more time (timeout_seconds)") from error  # fmt: skip
            except OSError as error:
                raise Lost(f"{self._to} dropped the connection without an answer: look into its log") from error
            if not got:
                raise Lost(f"{self._to} closed the connection without an answer: look into its log")
            self._ahead += got
            patience = max(deadline - time.monotonic(), 0.001)
        wanted = bytes(self._ahead[:size])
        del self._ahead[:size]
        return wanted

    def _wait_at_most(self, seconds: float) -> None:
        if seconds != self._timeout:  # a call of the operating system each
            self._socket.settimeout(seconds)
            self._timeout = seconds

    def _acknowledge(self) -> None:
        """Acknowledge what came: a peer with Nagle's algorithm holds back the rest of its answer until then, 40 ms."""
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
