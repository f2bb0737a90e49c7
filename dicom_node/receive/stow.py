"""STOW-RS: objects over HTTP into the same landing folder, with the same guarantees (PS3.18 10.5).

A thread a connection, in the receiving process: the parsers only look for boundaries, at gigabytes a second. An object
named in ReferencedSOPSequence survives a power cut, as one answered by 0x0000 does.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from email.message import Message
from typing import Protocol

import h11

from dicom_node.config import NodeConfig, StowClientSection
from dicom_node.deliver.tls import Files
from dicom_node.receive.events import Closed, Event, Opened
from dicom_node.receive.intake import FrontDesk
from dicom_node.receive.landing import DiskFull, Origin
from dicom_node.receive.parts import BadBody, Parts
from dicom_node.receive.refusals import Refusals
from dicom_node.receive.stow_answer import document, media_type, status_of
from dicom_node.receive.tls import Credentials, names_of
from storage.facts.errors import Misconfigured

log = logging.getLogger(__name__)

READ_BYTES = 256 * 1024
HEADER_BYTES = 64 * 1024  #: longest request line with headers
LINGER_SECONDS = 2.0  #: for a refused sender to read why, while it still sends
RETRY = ("Retry-After", "60")  #: seconds that a sender is asked to wait when there is no room

_PATH = re.compile(r"/studies(?:/([0-9.]{1,64}))?/?(?:\?.*)?")


class Room(Protocol):
    """The landing folder."""

    def check_space(self) -> None:
        """Raises DiskFull under the watermark."""


class _Refusal(Exception):
    """The request is answered with an HTTP status other than its result."""

    def __init__(self, status: int, why: str, *headers: tuple[str, str]) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers


class _Gone(Exception):
    """The sender went away, stalled, or does not speak HTTP any more."""


class Stow:
    """Listens for STOW-RS. Nothing is listened for where ``stow.port`` is not set."""

    def __init__(self, config: NodeConfig, desk: FrontDesk, room: Room, tell: Callable[[Event], None]) -> None:
        self._config, self._settings = config, config.stow
        self._desk, self._room, self._tell = desk, room, tell
        self._refusals = Refusals(tell, desk.counters)
        self._places = threading.BoundedSemaphore(config.stow.maximum_requests)
        self._server: socket.socket | None = None
        self._credentials: Credentials | None = None
        self._links: set[socket.socket] = set()
        self._stopping = False

    @property
    def port(self) -> int | None:
        """The TCP port that is listened on."""
        return None if self._server is None else int(self._server.getsockname()[1])

    def start(self) -> None:
        """Listen. Raises Misconfigured when the address cannot be bound or the certificate cannot be used."""
        settings, tls, bind = self._settings, self._config.tls, self._config.node.bind
        if settings.port is None:
            return
        if not settings.clear:
            self._credentials = Credentials(Files(certificate=tls.certificate, key=tls.key, trusted=tls.trusted))
        try:
            self._server = _listening(bind, settings.port)
        except OSError as error:
            raise Misconfigured(
                f"cannot listen on {bind}:{settings.port}: {error.strerror}. Change stow.port"
            ) from error
        threading.Thread(target=self._accept, args=(self._server,), name="stow", daemon=True).start()
        log.info("STOW-RS listens on %s:%d", bind, self.port)

    def stop(self) -> None:
        """Stop listening, cut what is still connected."""
        self._stopping = True
        if self._server is not None:
            _cut(self._server)
            self._server.close()
        for link in list(self._links):
            _cut(link)

    def _accept(self, server: socket.socket) -> None:
        while not self._stopping:
            try:
                link, address = server.accept()
            except OSError:
                if self._stopping:
                    return
                time.sleep(0.1)
                continue
            if not self._places.acquire(blocking=False):
                self._refusals.note("connection refused", _origin("", "", address[0]), "too many STOW-RS requests")
                link.close()
                continue
            threading.Thread(target=self._serve, args=(link, address[0]), name="stow", daemon=True).start()

    def _serve(self, link: socket.socket, address: str) -> None:
        try:
            link.settimeout(self._config.receive.association_seconds)
            if self._credentials is not None:
                link = self._secured(link, address, self._credentials())
            self._links.add(link)
            _Exchange(self, link, address).run()
        except (OSError, _Gone) as error:
            log.info("STOW-RS connection of %s ended: %s", address, type(error).__name__)
        finally:
            self._links.discard(link)
            link.close()
            self._places.release()

    def _secured(self, link: socket.socket, address: str, context: ssl.SSLContext) -> ssl.SSLSocket:
        """The connection by TLS. Raises _Gone."""
        context.verify_mode = ssl.CERT_OPTIONAL  # a token may stand for a certificate
        try:
            return context.wrap_socket(link, server_side=True)
        except (OSError, ValueError) as error:
            self.refused(address, f"no TLS connection ({getattr(error, 'reason', '') or error})")
            raise _Gone from error

    def admit(self, token: str, names: frozenset[str]) -> StowClientSection | None:
        """The client that shows that token and certificate; None for nobody who is known."""
        shown = hashlib.sha256(token.encode("latin-1", "replace")).hexdigest()
        for client in self._settings.clients:
            by_token = not client.token_sha256 or hmac.compare_digest(shown, client.token_sha256.lower())
            by_name = not client.certificate_name or client.certificate_name.lower() in names
            if by_token and by_name and (client.token_sha256 or client.certificate_name):
                return client
        return None

    def store(self, exchange: _Exchange, boundary: bytes, client: str, study_uid: str | None) -> Parts:
        """Take the body of an admitted request. Raises BadBody, _Refusal, _Gone."""
        origin = _origin(f"stow-{uuid.uuid4().hex}", client, exchange.address, self._config.node.ae_title)
        parts = Parts(boundary, self._desk, origin, study_uid)
        self._tell(Opened(origin=origin, at=time.time()))
        ending = "aborted"
        try:
            exchange.read_body(parts.write, self.limit)
            parts.end()
            ending = "released"
        finally:
            parts.abort()
            self._tell(Closed(association=origin.association, ending=ending))
        return parts

    def check_room(self) -> None:
        """Raises _Refusal while the disk is too full."""
        try:
            self._room.check_space()
        except DiskFull as error:
            raise _Refusal(503, str(error), RETRY) from error

    def refused(self, address: str, why: str) -> None:
        """Count and audit what was turned away."""
        self._refusals.note("connection refused", _origin("", "", address), why)

    @property
    def limit(self) -> int:
        """Bytes of one request."""
        return int(self._settings.maximum_gb * 1e9)

    @property
    def head_seconds(self) -> float:
        """How long a sender may take for the head of a request: a byte now and then must not hold a place."""
        return self._config.receive.association_seconds

    @property
    def patience(self) -> tuple[float, float]:
        """Seconds that a sender may be silent; bytes a second that it must send over that time."""
        receive = self._config.receive
        return receive.stall_seconds, receive.least_kb_per_second * 1000


class _Exchange:
    """The requests of one connection, one after the other."""

    def __init__(self, stow: Stow, link: socket.socket, address: str) -> None:
        self._stow, self._link, self.address = stow, link, address
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
        self._bare = False  # whether the request at hand has the head of an answer alone

    def run(self) -> None:
        """Serve until the sender has no more."""
        while self._serve_one() and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()

    def _serve_one(self) -> bool:
        try:
            request = self._next(until=time.monotonic() + self._stow.head_seconds)
            if not isinstance(request, h11.Request):
                return False
            self._bare = request.method == b"HEAD"
            self._link.settimeout(self._stow.patience[0])
            status, body, media = self._handle(request)
            self._answer(status, body, media, *([RETRY] if status == 503 else []))
            self._link.settimeout(self._stow.head_seconds)
        except _Refusal as refusal:
            self._refuse(refusal)
            return False
        except BadBody as error:
            self._refuse(_Refusal(400, f"the body was not taken: {error}"))
            return False
        return True

    def _handle(self, request: h11.Request) -> tuple[int, bytes, str]:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
        target = _PATH.fullmatch(request.target.decode("latin-1"))
        if target is None:
            raise _Refusal(404, "store to /studies or /studies/{StudyInstanceUID} (PS3.18 10.5)")
        if request.method != b"POST":
            raise _Refusal(405, "only POST is served", ("Allow", "POST"))
        client = self._client(headers.get("authorization", ""))
        boundary = _boundary(headers.get("content-type", ""))
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._stow.limit:
            raise _Refusal(413, f"more than {self._stow.limit / 1e9:g} GB a request: send fewer objects at once")
        self._stow.check_room()
        parts = self._stow.store(self, boundary, client.ae_title, target[1])
        media = media_type(headers.get("accept", ""))
        return status_of(parts.stored), document(parts.stored, media), media

    def _client(self, authorization: str) -> StowClientSection:
        kind, _, token = authorization.partition(" ")
        certificate = self._link.getpeercert() if isinstance(self._link, ssl.SSLSocket) else None
        client = self._stow.admit(token.strip() if kind.lower() == "bearer" else "", names_of(certificate))
        if client is None:
            self._stow.refused(self.address, "STOW-RS without a token or certificate of stow.clients")
            raise _Refusal(401, "show a bearer token or a certificate that stow.clients names",
                           ("WWW-Authenticate", "Bearer"))  # fmt: skip
        return client

    def read_body(self, take: Callable[[bytes], None], limit: int) -> None:
        """Hand over the body as it arrives. Raises _Refusal above the limit, _Gone for one that stalls or breaks."""
        if self._http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))
        taken, began, checked = 0, time.monotonic(), 0
        seconds, rate = self._stow.patience
        while not isinstance(event := self._next(until=time.monotonic() + seconds), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise _Gone
            taken += len(event.data)
            if taken > limit:
                raise _Refusal(413, f"more than {limit / 1e9:g} GB a request: send fewer objects at once")
            take(bytes(event.data))
            if time.monotonic() - began > seconds:
                if taken - checked < rate * seconds:
                    raise _Gone
                began, checked = time.monotonic(), taken

    def _next(self, until: float) -> object:
        """What comes next of the request, before that monotonic time. Raises _Refusal, _Gone, OSError.

        Also in a body: the heads of its chunks and its trailer may come in drops, and are no data.
        """
        while time.monotonic() < until:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    raise _Refusal(error.error_status_hint or 400, "the request is no valid HTTP/1.1") from error
                raise _Gone from error
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(self._link.recv(READ_BYTES))
        raise _Gone

    def _refuse(self, refusal: _Refusal) -> None:
        """Say why, then let the sender read it: to close at once would have its system throw the answer away."""
        self._answer(
            refusal.status, refusal.why.encode() + b"\n", "text/plain", *refusal.headers, ("Connection", "close")
        )
        self._link.settimeout(LINGER_SECONDS)
        if not isinstance(self._link, ssl.SSLSocket):
            self._link.shutdown(socket.SHUT_WR)
        until = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < until and self._link.recv(READ_BYTES):
            pass

    def _answer(self, status: int, body: bytes, media: str, *headers: tuple[str, str]) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise _Gone
        head = [("Content-Type", media), ("Content-Length", str(len(body))), *headers]
        self._send(h11.Response(status_code=status, headers=head))
        if not self._bare:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._link.sendall(data)


def _listening(bind: str, port: int) -> socket.socket:
    """A socket for the address; "::" takes callers of either family, as the SCP does. Raises OSError."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    return socket.create_server((bind, port), family=family, backlog=64, dualstack_ipv6=bind == "::")


def _boundary(content_type: str) -> bytes:
    """The boundary of a body of DICOM files (PS3.18 8.6.1.2). Raises _Refusal for any other body."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    kind = str(message.get_param("type", "application/dicom")).lower()
    if message.get_content_type() != "multipart/related" or kind != "application/dicom":
        raise _Refusal(415, 'send multipart/related; type="application/dicom"')
    if not isinstance(boundary, str) or not boundary:
        raise _Refusal(400, "the Content-Type names no boundary")
    return boundary.encode("latin-1", "replace")


def _origin(association: str, client: str, address: str, called: str = "") -> Origin:
    return Origin(association=association, calling_ae=client, called_ae=called, address=address)


def _cut(link: socket.socket) -> None:
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone already
