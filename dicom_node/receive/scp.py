"""The SCP: admits peers, answers C-ECHO and C-STORE, takes Storage Commitment reports; in the clear and by TLS."""

from __future__ import annotations

import ctypes
import gc
import logging
import ssl
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer

from dicom_node.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, NodeConfig, own_titles
from dicom_node.deliver.tls import Files
from dicom_node.peers import PeerSection
from dicom_node.receive import contexts, stream
from dicom_node.receive.events import Closed, Opened
from dicom_node.receive.feed import Feed
from dicom_node.receive.intake import FrontDesk, Request
from dicom_node.receive.landing import Origin
from dicom_node.receive.limits import Limits
from dicom_node.receive.notices import NoticeDesk
from dicom_node.receive.plain import Bounds, Collected
from dicom_node.receive.policy import Caller, Refusal, admit, section_of
from dicom_node.receive.reception import origin_of
from dicom_node.receive.refusals import Refusals
from dicom_node.receive.tls import Credentials, names_of
from dicom_node.receive.wire import Patience
from storage.facts.errors import Misconfigured

log = logging.getLogger(__name__)

LEAVING_SECONDS = 1.5  #: for which a caller that finds no place waits; the end of a lost connection takes 1 s
SPARE = 64  #: connections beyond the associations allowed, so that the surplus is told why it is refused

M_ARENA_MAX = -8  #: malloc.h of glibc

#: What a caller is told of whom the node could not decide: a temporary fault (PS3.8 Table 9-21).
UNDECIDED = Refusal(result=2, source=1, reason=1, why="")
#: pynetdicom would stumble over it while it negotiates, and nobody be left to answer.
NAMELESS = Refusal(result=1, source=2, reason=1, why="a presentation context without an abstract syntax")

#: Called with an N-EVENT-REPORT's event type and data set; returns the DIMSE status.
OnReport = Callable[[int, Any], int]


class Scp:
    """A listening AE. ``stop`` lets associations end, then cuts them."""

    def __init__(
        self, config: NodeConfig, desk: FrontDesk, feed: Feed, on_report: OnReport, *, streaming: bool = True
    ) -> None:
        self._config, self._desk, self._feed, self._on_report = config, desk, feed, on_report
        self._open: dict[str, tuple[PeerSection | None, Association]] = {}  # by name
        self._lock = threading.Condition()  # of ``_open``; told whenever a place becomes free
        self._servers: list[AssociationServer] = []
        self._refusals = Refusals(feed.tell, desk.counters)
        self._contexts = stream.SharedContexts(contexts.accepted())
        self._notices = NoticeDesk(feed.ask)
        self._offers: dict[PeerSection, stream.SharedContexts] = {}  #: of peers that may not send everything
        desk.limits = Limits(config.receive)
        self.streaming = streaming and not stream.fits()
        self._stopping = False

    @property
    def port(self) -> int:
        """The TCP port that is listened on; the one that speaks TLS where that is the only one."""
        return int(self._servers[0].server_address[1])

    @property
    def tls_port(self) -> int | None:
        """The TCP port that speaks TLS, None where no TLS is spoken."""
        return int(self._servers[-1].server_address[1]) if self._config.tls.port is not None else None

    @property
    def associations(self) -> int:
        """Associations that are open now."""
        return len(self._open)

    def start(self) -> None:
        """Listen. Raises Misconfigured when an address cannot be bound or the certificate cannot be used."""
        _config.LOG_HANDLER_LEVEL = "none"  # its handlers print data sets, and cost time for each PDU
        _share_arenas()
        gc.freeze()  # what the start made lives on: looking through it again and again costs each object 5 %
        _silence_pydicom()
        tls = self._config.tls
        if not tls.only:
            self._listen(self._config.node.port, None)
        if tls.port is not None:
            files = Files(certificate=tls.certificate, key=tls.key, trusted=tls.trusted)
            self._listen(tls.port, Credentials(files))
        if not self.streaming and stream.fits():
            log.warning("this pynetdicom release lacks %s: receiving works, but slowly", ", ".join(stream.fits()))

    def _listen(self, port: int, credentials: Credentials | None) -> None:
        ae, node = self._entity(), self._config.node
        try:
            server = ae.make_server(
                (node.bind, port),
                contexts=self._contexts,
                evt_handlers=self._handlers(),
                server_class=stream.StreamServer,
                request_handler=stream.StreamHandler if self.streaming else None,
            )
        except OSError as error:
            raise Misconfigured(
                f"cannot listen on {node.bind}:{port}: {error.strerror}. Is another node running? "
                "Change node.port or tls.port, or stop what uses it"
            ) from error
        assert isinstance(server, stream.StreamServer)
        self._prepare(server, credentials)
        ae._servers.append(server)  # type: ignore[arg-type]  # shutdown() removes it again
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()

    def _entity(self) -> AE:
        settings, node = self._config.receive, self._config.node
        ae = AE(ae_title=node.ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = settings.maximum_pdu
        ae.maximum_associations = 10 * settings.maximum_associations  # ours is counted in _admit
        ae.acse_timeout = settings.association_seconds
        ae.network_timeout = settings.idle_seconds
        ae.dimse_timeout = settings.stall_seconds
        return ae

    def _prepare(self, server: stream.StreamServer, credentials: Credentials | None) -> None:
        settings = self._config.receive
        server.desk, server.credentials = self._desk, credentials
        server.room = settings.maximum_associations + SPARE
        server.turned_away = self._turned_away
        server.patience = self._patience()

    def _patience(self) -> Patience:
        settings = self._config.receive
        return Patience(
            association_seconds=settings.association_seconds,
            stall_seconds=settings.stall_seconds,
            least_rate=int(settings.least_kb_per_second * 1000),
        )

    def stop(self) -> None:
        """Stop listening, cut what is still connected."""
        gc.unfreeze()
        for server in self._servers:
            server.shutdown()
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
            remaining = [assoc for _, assoc in self._open.values()]
        for assoc in remaining:
            assoc.abort()

    def _handlers(self) -> list[Any]:
        return [
            *([] if self.streaming else self._bounds()),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_RELEASED, self._ended),
            (evt.EVT_ABORTED, self._ended),
            (evt.EVT_CONN_CLOSE, self._cut),
            (evt.EVT_C_ECHO, lambda _event: 0x0000),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
            (evt.EVT_N_CREATE, self._notices.create),
            (evt.EVT_N_SET, self._notices.set),
            (evt.EVT_N_GET, self._notices.get),
            (evt.EVT_N_ACTION, self._notices.act),
            (evt.EVT_C_FIND, self._notices.find),
        ]

    def _bounds(self) -> list[Any]:
        opened = Bounds(self._patience(), self._config.receive.maximum_pdu, self._turned_away).open
        return [(evt.EVT_CONN_OPEN, opened), (evt.EVT_PDU_RECV, Collected(self._turned_away).look)]

    def _requested(self, event: evt.Event) -> None:
        assoc = event.assoc
        refusal: Refusal | None = UNDECIDED
        try:
            decided = self._decide(assoc)
            if decided is not None:
                self._refusals.note("association refused", origin_of(assoc), decided.why)
            refusal = decided
        finally:
            if refusal is not None:  # also after an error: pynetdicom would log it and accept
                ACSE(assoc).send_reject(refusal.result, refusal.source, refusal.reason)
                assoc.is_rejected = True
                assoc.kill()

    def _decide(self, assoc: Association) -> Refusal | None:
        primitive: Any = assoc.requestor.primitive
        if any(context.abstract_syntax is None for context in primitive.presentation_context_definition_list):
            return NAMELESS
        caller = Caller(
            calling=str(primitive.calling_ae_title).strip(),
            called=str(primitive.called_ae_title).strip(),
            address=str(assoc.requestor.address),
            names=names_of(_certificate(assoc)),
        )
        refusal = admit(caller, own_titles(self._config), self._config.receive)
        if refusal is not None:
            return refusal
        peer = section_of(caller.calling, caller.address, self._config.receive.peers)
        refusal = self._find_room(assoc, peer)
        if refusal is None and peer is not None:
            self._narrow(assoc, peer)
        return refusal

    def _find_room(self, assoc: Association, peer: PeerSection | None) -> Refusal | None:
        """Have a place for it. One that is being left is waited for: a peer may call again before its end is seen."""
        most, until = self._config.receive.maximum_associations, time.monotonic() + LEAVING_SECONDS
        self._give_back()
        with self._lock:
            while True:
                mine = sum(other is peer for other, _ in self._open.values())
                why = _crowded(len(self._open), mine, most, peer)
                if why is None and not self._stopping:
                    self._open[assoc.name] = (peer, assoc)
                    return None
                if self._stopping or not self._lock.wait(until - time.monotonic()):
                    why = why or "the node stops"
                    return Refusal(result=2, source=3, reason=2, why=why)

    def _narrow(self, assoc: Association, peer: PeerSection) -> None:
        """Offer a peer with a list of SOP classes or transfer syntaxes no other storage."""
        if not (peer.sop_classes or peer.transfer_syntaxes):
            return
        if peer not in self._offers:
            self._offers[peer] = stream.SharedContexts(contexts.offered(self._contexts, peer))
        assoc.acceptor.supported_contexts = self._offers[peer]

    def _established(self, event: evt.Event) -> None:
        origin = origin_of(event.assoc)
        self._feed.tell(Opened(origin=origin, at=time.time()))
        peer = section_of(origin.calling_ae, origin.address, self._config.receive.peers)
        if peer is None:
            return
        refused = {str(c.abstract_syntax) for c in event.assoc.rejected_contexts}
        others = sorted(refused.difference(peer.sop_classes)) if peer.sop_classes else []
        if others:
            self._refusals.note("SOP class refused", origin, f"not among its sop_classes: {', '.join(others[:10])}")
        taken = {str(c.abstract_syntax) for c in event.assoc.accepted_contexts}
        left = sorted(refused.difference(others, taken)) if peer.transfer_syntaxes else []
        if left:
            why = f"proposed in none of its transfer_syntaxes: {', '.join(left[:10])}"
            self._refusals.note("transfer syntax refused", origin, why)

    def _ended(self, event: evt.Event) -> None:
        self._forget(event.assoc)

    def _forget(self, assoc: Association) -> None:
        with self._lock:
            known = self._open.pop(assoc.name, None)
            self._lock.notify_all()
        if known is not None:
            ending = "released" if assoc.is_released else "aborted"
            self._feed.tell(Closed(association=assoc.name, ending=ending))

    def _cut(self, event: evt.Event) -> None:
        """The connection is closed. A release or an abort is told by its own event, a moment before or after."""
        if event.assoc.name in self._open:
            self._forget_soon(event.assoc)

    def _forget_soon(self, assoc: Association) -> None:
        later = threading.Timer(1.0, self._forget, (assoc,))
        later.daemon = True
        later.start()

    def _give_back(self) -> None:
        """Free the places of associations whose thread ended on a message that pynetdicom cannot read."""
        with self._lock:
            dead = [a for _, a in self._open.values() if a.dul.ident is not None and not a.dul.is_alive()]
        for assoc in dead:
            assoc._kill = True  # its other thread waits for what never comes
            self._forget_soon(assoc)

    def _turned_away(self, address: str, why: str) -> None:
        origin = Origin(association="", calling_ae="", called_ae="", address=address)
        self._refusals.note("connection refused", origin, why)

    def _store(self, event: evt.Event) -> Any:
        """The plain path: same guarantees, the object is in memory once."""
        message: Any = event.request
        request = Request(
            origin=origin_of(event.assoc),
            sop_class_uid=str(message.AffectedSOPClassUID),
            sop_instance_uid=str(message.AffectedSOPInstanceUID),
            abstract_syntax=str(event.context.abstract_syntax),
            transfer_syntax=str(event.context.transfer_syntax),
        )
        intake = self._desk.begin(request)
        if message.DataSet is not None:
            intake.write([message.DataSet.getbuffer()])
        return intake.finish().code

    def _report(self, event: evt.Event) -> tuple[int, Any]:
        if event.context.abstract_syntax in (contexts.UPS_EVENT, contexts.UPS_PUSH):
            return self._notices.report(event)
        return self._on_report(event.event_type or 0, event.event_information), None


def _crowded(open_now: int, of_peer: int, maximum: int, peer: PeerSection | None) -> str | None:
    """Why there is no room for one more association, None when there is."""
    if open_now >= maximum:
        return f"{open_now} associations are open, receive.maximum_associations allows no more"
    if peer is not None and peer.maximum_associations and of_peer >= peer.maximum_associations:
        return f"{of_peer} associations of it are open, its maximum_associations allows no more"
    return None


def _share_arenas() -> None:
    """Let threads share two heaps: glibc gives each its own, and what many associations left there is not reused."""
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
    except (AttributeError, OSError, TypeError):
        pass  # not glibc


def _silence_pydicom() -> None:
    """Keep pydicom from warning of what peers send.

    Python remembers each text that it warned of, and these texts quote the peer: memory would grow with every damaged
    message (250 bytes each), and values, patients' among them, would stand in the log.
    """
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.ERROR)


def _certificate(assoc: Association) -> dict[str, Any] | None:
    link = assoc.dul.socket.socket if assoc.dul.socket is not None else None
    return link.getpeercert() if isinstance(link, ssl.SSLSocket) else None
