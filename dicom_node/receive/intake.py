"""One C-STORE request: from its first byte to its status (PS3.4 B.2.3), whichever path the bytes come by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dicom_node.config import ReceiveSection
from dicom_node.receive.events import Event, Refused
from dicom_node.receive.landing import DiskFull, Incoming, Mismatch, Origin, Sink
from dicom_node.receive.limits import Allowance, Limits
from storage.facts.errors import NodeError, Transient

log = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
SOP_CLASS_NOT_SUPPORTED = 0x0122


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a C-STORE-RQ says, and the presentation context that it came on."""

    origin: Origin
    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The answer: a status code and, unless it is success, a comment (0000,0902) for the sender's log."""

    code: int
    comment: str = ""


STORED = Status(code=SUCCESS)


@dataclass(slots=True)
class Counters:
    """What the receiver has done since its start."""

    stored: int = 0
    bytes: int = 0
    refused: dict[str, int] = field(default_factory=dict)  #: objects, by status
    turned_away: dict[str, int] = field(default_factory=dict)  #: associations and connections, by what is wrong

    def count(self, table: dict[str, int], what: str) -> None:
        """One more in ``refused`` or ``turned_away``."""
        table[what] = table.get(what, 0) + 1


class Desk(Protocol):
    """Takes C-STORE requests."""

    @property
    def may_wait(self) -> bool:
        """Whether ``begin`` may hold a sender up."""

    def begin(self, request: Request) -> Intake:
        """Start one object."""


class Books(Protocol):
    """Where what happened is told to; ``Feed`` is the one of the receiving process."""

    @property
    def is_behind(self) -> bool:
        """Whether ``make_way`` holds senders up."""

    def make_way(self) -> bool:
        """Before an object is taken. False: so much waits to be entered that it must be refused."""

    def tell(self, event: Event) -> None:
        """Something happened."""


class FrontDesk:
    """The node's desk: checks, lands, tells the index."""

    def __init__(self, incoming: Incoming, books: Books) -> None:
        self._incoming, self._books = incoming, books
        self.counters = Counters()
        self.limits = Limits(ReceiveSection())  #: the SCP, which knows the peers, puts theirs

    @property
    def may_wait(self) -> bool:
        """See Desk."""
        return self._books.is_behind

    def begin(self, request: Request) -> Intake:
        """See Desk."""
        allowance = self.limits.of(request.origin.calling_ae, request.origin.address)
        intake = Intake(request, self._books.tell, self.counters, allowance)
        over = allowance.refusal() if allowance is not None else None
        never = allowance.forbids(request.sop_class_uid, request.transfer_syntax) if allowance is not None else None
        if request.sop_class_uid != request.abstract_syntax:
            intake.refuse(SOP_CLASS_NOT_SUPPORTED, "SOP Class differs from the presentation context")
        elif never is not None:
            intake.refuse(SOP_CLASS_NOT_SUPPORTED, never)
        elif over is not None:
            intake.refuse(OUT_OF_RESOURCES, over)
        elif self._books.make_way():
            intake.open(self._incoming)
        else:
            intake.refuse(OUT_OF_RESOURCES, "the node's ledger is behind; send again later")
        return intake


class Intake:
    """Takes the bytes of one object. Never raises for what the object is: what is wrong becomes its status.

    At its end comes ``close``, and after the answer ``tell``; or ``finish``, which does both.
    """

    __slots__ = ("_allowance", "_counters", "_request", "_sink", "_spent", "_status", "_tell")

    def __init__(
        self,
        request: Request,
        tell: Callable[[Event], None],
        counters: Counters,
        allowance: Allowance | None = None,
    ) -> None:
        self._request, self._tell, self._counters, self._allowance = request, tell, counters, allowance
        self._sink: Sink | None = None
        self._status: Status | None = None
        self._spent = 0  # bytes of the peer's allowance; what is not kept is given back

    @property
    def may_pause(self) -> bool:
        """Whether ``write`` may sleep, as its peer has a rate to keep to."""
        return self._allowance is not None and self._allowance.paced

    @property
    def may_wait(self) -> bool:
        """Whether ``close`` waits for the disk."""
        return self._sink is not None and self._sink.durable

    def open(self, incoming: Incoming) -> None:
        """Make room for the object."""
        request = self._request
        try:
            self._sink = incoming.open(
                request.origin, request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax
            )
        except NodeError as error:
            self._fail(error)

    def write(self, pieces: Sequence[memoryview]) -> None:
        """Take bytes of the data set; those of an object that is refused already are let go."""
        if self._allowance is not None:
            size = sum(map(len, pieces))
            self._spent += size
            self._allowance.spend(size)
        if self._sink is None:
            return
        try:
            self._sink.write(pieces)
        except NodeError as error:
            self._fail(error)

    def close(self) -> Status:
        """All bytes are here: the status that the sender is told. After 0x0000 the object is durable."""
        if self._sink is not None:
            try:
                self._sink.close()
            except NodeError as error:
                self._fail(error)
            else:
                return STORED
        self._status = self._status or Status(code=CANNOT_UNDERSTAND, comment="no data set")
        return self._status

    def tell(self) -> None:
        """Tell the index what became of the object. The sender need not wait for it: a restart would find the file."""
        if self._sink is None:
            assert self._status is not None
            self._give_back()
            self._note(self._status)
            return
        landed = self._sink.landed()
        self._tell(landed)
        self._counters.stored += 1
        self._counters.bytes += landed.instance.size

    def finish(self) -> Status:
        """Close, tell the index, and say the status."""
        status = self.close()
        self.tell()
        return status

    def abort(self) -> None:
        """The sender went away in the middle: nothing is kept."""
        self._give_back()
        if self._sink is not None:
            self._sink.abort()
            self._sink = None

    def refuse(self, code: int, comment: str) -> None:
        """Turn the object away; its bytes are still read off the wire."""
        self._status = Status(code=code, comment=comment[:64])

    def _give_back(self) -> None:
        if self._allowance is not None:
            self._allowance.give_back(self._spent)
        self._spent = 0

    def _fail(self, error: NodeError) -> None:
        self._sink = None
        if isinstance(error, DiskFull | Transient):
            self.refuse(OUT_OF_RESOURCES, str(error))
        elif isinstance(error, Mismatch):
            self.refuse(DOES_NOT_MATCH, str(error))
        else:
            self.refuse(CANNOT_UNDERSTAND, str(error))
        log.warning("object refused: %s", error)

    def _note(self, status: Status) -> None:
        name = f"{status.code:04X}"
        self._counters.count(self._counters.refused, name)
        request = self._request
        self._tell(
            Refused(
                what="object refused",
                origin=request.origin,
                why=f"0x{name} {status.comment}",
                object=request.sop_instance_uid[:64],
            )
        )
