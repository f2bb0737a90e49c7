"""From the receiving process to the index, which is a process of its own.

The index shares no interpreter with the threads that receive, so that a commit never holds up a fragment. What was told
is kept until the index says that the ledger has it: when the index dies, its successor is told again.

An index that falls behind, or is away, costs a bounded amount of memory and of disk, in three steps. Beyond ``BACKLOG``
objects are no longer told of one by one: they lie in ``incoming``, and the index is asked to look there, a slice at a
time, while it goes on with what it is told. From there on senders are slowed, each object by up to ``PAUSE_SECONDS``;
its response comes later, and nothing is lost. Beyond ``FULL`` objects are refused (0xA700): the PACS keeps them.
"""

from __future__ import annotations

import logging
import marshal
import queue
import select
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dicom_node.receive.events import Closed, Event, Missed, decode, encode
from dicom_node.receive.landing import Landed
from storage.facts.errors import Transient

log = logging.getLogger(__name__)

BATCH = 2000  #: events that are handed over together: a commit costs the same for one as for all of them
BATCH_SECONDS = 0.5  #: what a batch waits for more, unless an association ends: a series may be complete then
IDLE_SECONDS = 1.0  #: without an event, after which the index may do what it put off
BACKLOG = 10_000  #: events that wait for the index before objects are left to ``incoming``: some 8 MB
PAUSE_SECONDS = 0.25  #: what an object waits at most while more than that are behind
FULL = 200_000  #: objects and events behind from which C-STORE is refused
STOP_SECONDS = 10.0  #: for the ledger to take what is left
ALONE_SECONDS = 1.0  #: the same when there is no index just now

_LENGTH = struct.Struct("<L")


@dataclass(slots=True)
class _Told:
    """An event on its way, and whether somebody waits for an answer."""

    raw: bytes
    answered: threading.Event | None = None
    answer: int | None = field(default=None)


class Feed:
    """The node's end. Any thread may ``tell``; one thread of its own talks to the index."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[_Told | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._hurry, self._stopping, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._eased = threading.Condition()
        self._untold = 0  # objects that were not told of since the index was last asked to look; under _eased
        self._unseen = 0  # of those that it was asked to look for, how many it has still to enter
        self._link: socket.socket | None = None
        self._linked = threading.Condition()

    def start(self) -> None:
        """Begin to talk as soon as there is somebody to talk to."""
        self._thread.start()

    def connect(self) -> socket.socket:
        """The other end for a new index process; the earlier one is forgotten."""
        ours, theirs = socket.socketpair()
        with self._linked:
            if self._link is not None:
                self._link.close()
            self._link = ours
            self._linked.notify_all()
        return theirs

    def tell(self, event: Event) -> None:
        """Hand over something that happened; returns at once."""
        if isinstance(event, Landed) and self._events.qsize() > BACKLOG:
            with self._eased:
                self._untold += 1
            return
        self._events.put(_Told(encode(event)))
        if isinstance(event, Closed):
            self._hurry.set()

    def ask(self, event: Event, seconds: float) -> int | None:
        """The same, and wait until the ledger has it: the index's answer, None when none came in time."""
        told = _Told(encode(event), threading.Event())
        assert told.answered is not None
        self._events.put(told)
        self._hurry.set()
        told.answered.wait(seconds)
        return told.answer

    @property
    def behind(self) -> int:
        """Objects and events that the ledger does not have yet."""
        return self._events.qsize() + self._untold + self._unseen

    @property
    def is_behind(self) -> bool:
        """Whether ``make_way`` holds senders up."""
        return self.behind > BACKLOG

    def make_way(self) -> bool:
        """Before an object is taken: hold its sender up for a moment while the index is behind.

        False: it is so far behind that the object must be refused.
        """
        behind = self.behind
        if behind > FULL:
            return False
        if behind > BACKLOG:
            with self._eased:
                self._eased.wait(PAUSE_SECONDS)
        return True

    def stop(self) -> None:
        """Let the ledger have what is left, then send the index away. A second call changes nothing."""
        self._stopping.set()
        self._events.put(None)
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS if self._link is not None else ALONE_SECONDS)
        with self._linked:
            self._given_up.set()
            self._linked.notify_all()
            if self._link is not None:
                try:
                    self._link.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the index is gone already
                self._link.close()
                self._link = None

    def _run(self) -> None:
        while not self._given_up.is_set() and not (self._stopping.is_set() and self._events.empty()):
            batch = self._gather()
            if batch and self._hand_over(batch):
                self._ease(batch[-1])

    def _gather(self) -> list[_Told]:
        batch: list[_Told] = []
        if not self._untold + self._unseen:
            first = self._events.get()
            if first is None:
                return []
            batch.append(first)
            # Asleep, not waiting for each event: to be woken for each would take the GIL from those who receive.
            if self._events.qsize() < BATCH:
                self._hurry.wait(BATCH_SECONDS)
        self._hurry.clear()
        while len(batch) < BATCH:
            try:
                told = self._events.get_nowait()
            except queue.Empty:
                break
            if told is not None:
                batch.append(told)
        if self._untold + self._unseen:
            self._begin_look()
            batch.append(_Told(encode(Missed())))
        return batch

    def _begin_look(self) -> None:
        """A look begins where none goes on: what is untold from now on needs another one."""
        with self._eased:
            if not self._unseen:
                self._unseen, self._untold = self._untold, 0

    def _ease(self, last: _Told) -> None:
        """The ledger has a batch: let senders go on, and note how much a look left."""
        with self._eased:
            if last.raw == encode(Missed()):
                self._unseen = last.answer or 0
            self._eased.notify_all()

    def _hand_over(self, batch: Sequence[_Told]) -> bool:
        """Tell the index, whichever process it is by then, until one says that the ledger has it."""
        frame = marshal.dumps([told.raw for told in batch])
        while (link := self._await_link()) is not None:
            try:
                _send(link, frame)
                answers = marshal.loads(_receive(link))
            except (OSError, EOFError):
                self._forget(link)
                continue
            for told, answer in zip(batch, answers, strict=True):
                told.answer = answer
                if told.answered is not None:
                    told.answered.set()
            return True
        return False

    def _await_link(self) -> socket.socket | None:
        with self._linked:
            self._linked.wait_for(lambda: self._link is not None or self._given_up.is_set())
            return None if self._given_up.is_set() else self._link

    def _forget(self, link: socket.socket) -> None:
        with self._linked:
            link.close()
            if self._link is link:
                self._link = None


def serve(link: socket.socket, take: Callable[[Sequence[Event]], Sequence[int]]) -> None:
    """The index's end: hand batches to ``take``, which answers for each event, until the node is gone.

    A batch that fails with Transient is tried again: the node keeps receiving meanwhile. While nothing happens,
    ``take`` gets an empty batch now and then.
    """
    while True:
        try:
            events = [decode(raw) for raw in _await_batch(link)]
        except (OSError, EOFError):
            return
        answers = _persist(link, events, take)
        if answers is None:
            return
        if not events:
            continue
        try:
            _send(link, marshal.dumps(list(answers)))
        except OSError:
            return


def _await_batch(link: socket.socket) -> list[bytes]:
    """The next batch, empty when nothing came for a while. Raises EOFError when the node is gone."""
    readable, _, _ = select.select([link], [], [], IDLE_SECONDS)
    batch: list[bytes] = marshal.loads(_receive(link)) if readable else []
    return batch


def _persist(
    link: socket.socket, events: Sequence[Event], take: Callable[[Sequence[Event]], Sequence[int]]
) -> Sequence[int] | None:
    """The answers; None when the node went away before the ledger took the batch: the files are in ``incoming``."""
    while True:
        try:
            return take(events)
        except Transient as error:
            log.error("the ledger does not take %d events of the receiver: %s", len(events), error)
            readable, _, _ = select.select([link], [], [], 1.0)
            if readable:
                return None  # the node waits for the answer and says nothing: this is its end


def _send(link: socket.socket, frame: bytes) -> None:
    link.sendall(_LENGTH.pack(len(frame)) + frame)


def _receive(link: socket.socket) -> bytes:
    """One frame. Raises EOFError when the other end is gone."""
    size = _LENGTH.unpack(_exactly(link, _LENGTH.size))[0]
    return _exactly(link, size)


def _exactly(link: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view, at = memoryview(buffer), 0
    while at < size:
        got = link.recv_into(view[at:])
        if not got:
            raise EOFError("the other end is gone")
        at += got
    return bytes(buffer)
