"""What a source sends on an association of ours (C-GET): it lands as what is pushed does, with the same promises.

The stages process asks, so it is the stages process that lands and enters these objects. What it leaves when it dies is
found by its successor: files and associations bear its mark.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import StoragePresentationContexts

from dicom_node.config import NodeConfig
from dicom_node.deliver.association import Context, Proposal
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.retrieval import get
from dicom_node.peers import PeerSection
from dicom_node.receive.assembly import Expect
from dicom_node.receive.contexts import TRANSFER_SYNTAXES, storage_classes
from dicom_node.receive.events import Closed, Event, Opened
from dicom_node.receive.index import ACTOR, Index
from dicom_node.receive.intake import FrontDesk, Intake, Request
from dicom_node.receive.landing import Incoming, Origin
from dicom_node.receive.limits import Limits
from storage.facts.errors import Rejected, Transient
from storage.ledger import Ledger

log = logging.getLogger(__name__)

MARK = "get-"  #: of associations, and of files under ``incoming``
MOST_CONTEXTS = 127  #: beside that of the retrieval (PS3.8 9.3.2.2)
BATCH = 200  #: objects that are entered together
BATCH_SECONDS = 0.5  #: what they wait for more
BACKLOG = 5000  #: objects that the ledger did not take, beyond which more are refused
ENTER_SECONDS = 60.0  #: for the ledger to take the last of them

#: In this order each has a context of its own, as far as contexts go: a PACS sends what it has without converting it.
COMMON = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000Lossless, JPEG2000, JPEGBaseline8Bit,
    JPEGLSLossless, RLELossless, JPEGExtended12Bit, JPEGLossless,
)  # fmt: skip


class Gathering:
    """Fetches by C-GET, for any number of sources."""

    def __init__(self, config: NodeConfig, ledger: Ledger, expect: Expect) -> None:
        receive = config.receive
        self.ledger, self._expect, self.called_ae = ledger, expect, config.node.ae_title
        self._receive, self._limits = receive, dict[PeerSection, Limits]()
        self.incoming = Incoming(
            config.node.data,
            durable=receive.durability == "fdatasync",
            refuse_below=receive.refuse_below_mb * 2**20,
            mark=MARK,
        )
        self._left: list[Event] = []
        self._lock = threading.Lock()

    def resume(self) -> None:
        """See to what an earlier process left: its associations are gone, what it acknowledged is entered."""
        self.incoming.sweep()
        entered = self.index().recover(MARK)
        with self.ledger.begin(ACTOR) as tx:
            self._expect(tx, tx.studies.lose_associations(MARK))
        if entered:
            log.info("picked up from an earlier run: %d fetched objects", entered)

    def index(self) -> Index:
        """Enters what landed."""
        return Index(self.ledger, self._expect, self.incoming.durable)

    def retrieve(
        self, peer: PeerSection, destination: Destination, study_uid: str, series_uid: str, objects: Sequence[str]
    ) -> tuple[int, int]:
        """Fetch a series, or some of its objects. See deliver.retrieval.get."""
        with self._visit(peer, destination) as visit:
            return get(destination, visit, study_uid, series_uid, objects)

    @contextmanager
    def _visit(self, peer: PeerSection, destination: Destination) -> Iterator[Visit]:
        origin = Origin(
            association=f"{MARK}{uuid.uuid4().hex[:12]}",
            calling_ae=peer.ae_title,
            called_ae=self.called_ae,
            address=destination.host,
        )
        with self._lock:
            left, self._left = self._left, []
            limits = self._limits.setdefault(peer, Limits(self._receive.model_copy(update={"peers": (peer,)})))
        visit = Visit(self, peer, limits, origin, left)
        ending = "aborted"
        try:
            yield visit
            ending = "released"
        finally:
            left = visit.end(ending)
            with self._lock:
                self._left += left


class Visit:
    """One retrieval: its objects land, and are entered batch by batch. See deliver.retrieval.Storage, and Books."""

    is_behind = False

    def __init__(
        self, gathering: Gathering, peer: PeerSection, limits: Limits, origin: Origin, left: Sequence[Event]
    ) -> None:
        self._peer, self._origin = peer, origin
        self._desk = FrontDesk(gathering.incoming, self)
        self._desk.limits = limits
        self._index = gathering.index()
        self._events: list[Event] = [*left, Opened(origin=origin, at=time.time())]
        self._entered_at = 0.0

    def offer(self, sop_classes: Collection[str]) -> Sequence[Proposal]:
        """See Storage. Raises Rejected where the peer may send none of these."""
        return offer(sop_classes, self._peer)

    def begin(self, context: Context, sop_class: str, sop_instance: str) -> Intake:
        """See Storage."""
        request = Request(
            origin=self._origin,
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            abstract_syntax=context.abstract_syntax,
            transfer_syntax=context.transfer_syntax,
        )
        return self._desk.begin(request)

    def make_way(self) -> bool:
        """See Books."""
        if len(self._events) >= BATCH or time.monotonic() - self._entered_at > BATCH_SECONDS:
            self._enter()
        return len(self._events) < BACKLOG

    def tell(self, event: Event) -> None:
        """See Books."""
        self._events.append(event)

    def end(self, ending: str) -> list[Event]:
        """Enter what is left; returns what the ledger did not take: it lies in ``incoming``."""
        self.tell(Closed(association=self._origin.association, ending=ending))
        until = time.monotonic() + ENTER_SECONDS
        while not self._enter() and time.monotonic() < until:
            time.sleep(1.0)
        return self._events

    def _enter(self) -> bool:
        """Whether the ledger took what happened so far."""
        try:
            self._index.take(self._events)
        except Transient as error:
            log.error("the ledger does not take %d events of a retrieval: %s", len(self._events), error)
            return False
        finally:
            self._entered_at = time.monotonic()
        self._events = []
        return True


def offer(sop_classes: Collection[str], peer: PeerSection) -> Sequence[Proposal]:
    """Presentation contexts for objects of these SOP classes; where none is known, of the common ones.

    Few classes have a context for each transfer syntax, of many each has a single one. Raises Rejected where the peer
    may send none of these.
    """
    known = [uid for uid in storage_classes() if uid in sop_classes]
    wanted = known or [str(context.abstract_syntax) for context in StoragePresentationContexts]
    classes = [uid for uid in wanted if not peer.sop_classes or uid in peer.sop_classes][:MOST_CONTEXTS]
    if not classes:
        raise Rejected(f"its SOP classes are not among the sop_classes of peer {peer.ae_title}: add them there")
    ordered = dict.fromkeys(map(str, (*COMMON, *TRANSFER_SYNTAXES)))
    syntaxes = [uid for uid in ordered if not peer.transfer_syntaxes or uid in peer.transfer_syntaxes]
    alone = min(MOST_CONTEXTS // len(classes), len(syntaxes)) - 1
    groups = [(uid,) for uid in syntaxes[:alone]] + [tuple(syntaxes[alone:])]
    return [
        Proposal(abstract_syntax=uid, transfer_syntaxes=group, scp_role=True, scu_role=False)
        for uid in classes
        for group in groups
    ]
