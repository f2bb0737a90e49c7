"""The TCP or TLS connection under an association: every wait has an end, every fault is a Transient that says where."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from types import TracebackType

from dicom_node.deliver.destination import Destination
from storage.facts.errors import Transient

_HEADER = struct.Struct(">BxL")
ASSOCIATE_BYTES = 1 << 20  #: longest PDU taken that is not P-DATA-TF


class Link:
    """A connection that sends bytes and receives PDUs (PS3.8 9.3)."""

    def __init__(self, destination: Destination) -> None:
        self._to = destination
        try:
            self._socket = socket.create_connection((destination.host, destination.port), destination.connect_seconds)
        except OSError as error:
            raise Transient(_unreachable(destination, error)) from error
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

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Raises Transient when the peer is gone or takes nothing for answer_seconds."""
        try:
            self._socket.settimeout(self._to.answer_seconds)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise Transient(f"{self._to} took nothing for {self._to.answer_seconds:g} s in the middle of a message: "
                            "look whether it hangs or its disk is full") from error  # fmt: skip
        except OSError as error:
            raise Lost(f"{self._to} closed the connection in the middle of a message: look into its log") from error

    def receive(self, seconds: float) -> tuple[int, bytes]:
        """The next PDU: its type and what follows its header. Raises Transient, Silent after so many seconds."""
        deadline = time.monotonic() + seconds
        self._acknowledge()
        kind, length = _HEADER.unpack(self._exactly(6, deadline, seconds))
        if length > (self._to.max_pdu if kind == 4 else ASSOCIATE_BYTES):
            raise Transient(f"{self._to} sent a PDU of {length} bytes, more than agreed: is it a DICOM port?")
        return kind, self._exactly(length, deadline, seconds)

    def _exactly(self, size: int, deadline: float, seconds: float) -> bytes:
        buffer = bytearray(size)
        view = memoryview(buffer)
        at = 0
        while at < size:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                got = self._socket.recv_into(view[at:])
            except TimeoutError as error:
                raise Silent(f"{self._to} gave no answer within {seconds:g} s: look whether it hangs, "
                             "or give it more time (timeout_seconds)") from error  # fmt: skip
            except OSError as error:
                raise Lost(f"{self._to} dropped the connection without an answer: look into its log") from error
            if not got:
                raise Lost(f"{self._to} closed the connection without an answer: look into its log")
            at += got
        return bytes(buffer)

    def _acknowledge(self) -> None:
        """Acknowledge at once: a peer that leaves Nagle's algorithm on holds its answer back until then."""
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
