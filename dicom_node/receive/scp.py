"""The SCP: admits peers, answers C-ECHO and C-STORE, takes Storage Commitment reports."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer

from dicom_node.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, NodeConfig
from dicom_node.receive import contexts, stream
from dicom_node.receive.index import Closed, Index, Opened, Refused
from dicom_node.receive.intake import FrontDesk, Request
from dicom_node.receive.policy import Refusal, admit
from storage.facts.errors import Misconfigured

log = logging.getLogger(__name__)

#: Called with an N-EVENT-REPORT's event type and data set; returns the DIMSE status.
OnReport = Callable[[int, Any], int]


class Scp:
    """A listening AE. ``stop`` lets associations end, then cuts them."""

    def __init__(
        self, config: NodeConfig, desk: FrontDesk, index: Index, on_report: OnReport, *, streaming: bool = True
    ) -> None:
        self._config, self._desk, self._index, self._on_report = config, desk, index, on_report
        self._open: dict[str, Association] = {}
        self._lock = threading.Lock()
        self._server: AssociationServer | None = None
        self.streaming = streaming and not stream.fits()

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        """Associations that are open now."""
        return len(self._open)

    def start(self) -> None:
        """Listen. Raises Misconfigured when the address cannot be bound."""
        _config.LOG_HANDLER_LEVEL = "none"  # its handlers print data sets, and cost time for each PDU
        settings, node = self._config.receive, self._config.node
        ae = AE(ae_title=node.ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = settings.maximum_pdu
        ae.maximum_associations = 10 * settings.maximum_associations  # ours is counted in _admit
        ae.acse_timeout = settings.association_seconds
        ae.network_timeout = settings.idle_seconds
        ae.dimse_timeout = settings.stall_seconds
        try:
            self._server = ae.make_server(
                (node.bind, node.port),
                contexts=stream.SharedContexts(contexts.accepted()),
                evt_handlers=self._handlers(),
                server_class=stream.StreamServer if self.streaming else AssociationServer,
                request_handler=stream.StreamHandler if self.streaming else None,
            )
        except OSError as error:
            raise Misconfigured(
                f"cannot listen on {node.bind}:{node.port}: {error.strerror}. Is another node running? "
                "Change node.port, or stop what uses it"
            ) from error
        if isinstance(self._server, stream.StreamServer):
            self._server.desk, self._server.stall_seconds = self._desk, settings.stall_seconds
        elif stream.fits():
            log.warning("this pynetdicom release lacks %s: receiving works, but slowly", ", ".join(stream.fits()))
        ae._servers.append(self._server)  # type: ignore[arg-type]  # shutdown() removes it again
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()

    def stop(self) -> None:
        """Stop listening, cut what is still connected."""
        if self._server is None:
            return
        self._server.shutdown()
        with self._lock:
            remaining = list(self._open.values())
        for assoc in remaining:
            assoc.abort()

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_RELEASED, self._ended),
            (evt.EVT_ABORTED, self._ended),
            (evt.EVT_CONN_CLOSE, self._cut),
            (evt.EVT_C_ECHO, lambda _event: 0x0000),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
        ]

    def _requested(self, event: evt.Event) -> None:
        assoc = event.assoc
        primitive: Any = assoc.requestor.primitive
        calling, called = str(primitive.calling_ae_title).strip(), str(primitive.called_ae_title).strip()
        refusal = self._admit(assoc, calling, called)
        if refusal is None:
            return
        log.warning("association refused: %s", refusal.why)
        self._index.tell(Refused(what="association refused", origin=stream.origin_of(assoc), why=refusal.why))
        ACSE(assoc).send_reject(refusal.result, refusal.source, refusal.reason)
        assoc.is_rejected = True
        assoc.kill()

    def _admit(self, assoc: Association, calling: str, called: str) -> Refusal | None:
        settings = self._config.receive
        refusal = admit(calling, called, str(assoc.requestor.address), self._config.node.ae_title, settings)
        if refusal is not None:
            return refusal
        with self._lock:
            if len(self._open) >= settings.maximum_associations:
                why = f"{len(self._open)} associations are open, receive.maximum_associations allows no more"
                return Refusal(result=2, source=3, reason=2, why=why)
            self._open[assoc.name] = assoc
        return None

    def _established(self, event: evt.Event) -> None:
        self._index.tell(Opened(origin=stream.origin_of(event.assoc)))

    def _ended(self, event: evt.Event) -> None:
        with self._lock:
            known = self._open.pop(event.assoc.name, None)
        if known is not None:
            ending = "released" if event.assoc.is_released else "aborted"
            self._index.tell(Closed(association=event.assoc.name, ending=ending))

    def _cut(self, event: evt.Event) -> None:
        """The connection is closed. A release or an abort is told by its own event, a moment before or after."""
        if event.assoc.name in self._open:
            later = threading.Timer(1.0, self._ended, (event,))
            later.daemon = True
            later.start()

    def _store(self, event: evt.Event) -> Any:
        """The plain path: same guarantees, the object is in memory once."""
        message: Any = event.request
        request = Request(
            origin=stream.origin_of(event.assoc),
            sop_class_uid=str(message.AffectedSOPClassUID),
            sop_instance_uid=str(message.AffectedSOPInstanceUID),
            abstract_syntax=str(event.context.abstract_syntax),
            transfer_syntax=str(event.context.transfer_syntax),
        )
        intake = self._desk.begin(request)
        if message.DataSet is not None:
            intake.write(message.DataSet.getbuffer())
        return intake.close().code

    def _report(self, event: evt.Event) -> tuple[int, None]:
        return self._on_report(event.event_type or 0, event.event_information), None
