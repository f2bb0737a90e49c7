"""Enters what has landed into the ledger, in batches, from one thread of its own.

The sender was already told 0x0000: from then on nothing may be lost. Order of deeds for a batch: link each file to its
place under ``instances``, commit the rows, remove the file from ``incoming``. A crash between any two of them leaves
files in ``incoming``, and entering them again changes nothing.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.receive.landing import Landed, Origin, Unreadable, read_landed
from storage.blobs import sync_folder
from storage.facts.arrival import Arrival
from storage.facts.errors import NodeError, Transient
from storage.ledger import Ledger, Transaction

log = logging.getLogger(__name__)

BATCH = 500
BATCH_SECONDS = 0.1  #: what a batch waits for more, unless an association ends: a series may be complete then
BACKLOG = 20_000  #: objects that may wait for the ledger before C-STORE is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A peer was accepted."""

    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """An association ended: released or aborted."""

    association: str
    ending: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Something was turned away; the trail keeps it."""

    what: str
    origin: Origin
    why: str
    object: str | None = None


Event = Opened | Closed | Refused | Landed
#: Called inside the transaction with the series to which something happened: sees to their ASSEMBLE tasks.
Expect = Callable[[Transaction, Sequence[str]], None]


class Index:
    """The writer: events in, rows out, in the order in which they happened."""

    def __init__(self, ledger: Ledger, expect: Expect, durable: bool = True) -> None:
        self._ledger, self._expect, self._durable = ledger, expect, durable
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._stopping = threading.Event()
        self._hurry = threading.Event()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, then end."""
        self._stopping.set()
        self._events.put(None)
        self._hurry.set()
        self._thread.join()

    def tell(self, event: Event) -> None:
        """Hand over something that happened; returns at once."""
        self._events.put(event)
        if isinstance(event, Closed):
            self._hurry.set()

    @property
    def lagging(self) -> bool:
        """The ledger is too far behind, or its writer has died: refuse objects."""
        return self._events.qsize() > BACKLOG or (self._thread.ident is not None and not self._thread.is_alive())

    def recover(self, incoming: Path) -> int:
        """After a restart: end the associations that were open, enter what was acknowledged. Returns how many objects.

        A file that cannot be read is moved aside, to ``quarantine``, and reported: it is never deleted.
        """
        with self._ledger.begin("receive") as tx:
            self._expect(tx, tx.studies.lose_associations())
        number = 0
        batch: list[Landed] = []
        for path in sorted(incoming.glob("*.dcm")):
            try:
                batch.append(read_landed(path))
            except (Unreadable, OSError) as error:
                _set_aside(path, str(error))
                continue
            number += 1
            if len(batch) >= BATCH:
                self._write(batch)
                batch = []
        if batch:
            self._write(batch)
        return number

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._events.empty()):
            batch = self._gather()
            while batch:
                try:
                    self._write(batch)
                    break
                except Transient as error:
                    # The files are safe in incoming; try until the ledger is back, or leave them to the next start.
                    log.error("the ledger does not take %d received objects: %s", len(batch), error)
                    if self._stopping.wait(1.0):
                        return

    def _gather(self) -> list[Event]:
        first = self._events.get()
        if first is None:
            return []
        batch: list[Event] = [first]
        # Asleep, not waiting for each event: to be woken for each would take the GIL from those who receive.
        self._hurry.wait(BATCH_SECONDS)
        self._hurry.clear()
        while len(batch) < BATCH:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
            if event is None:
                break
            batch.append(event)
        return batch

    def _write(self, batch: Sequence[Event]) -> None:
        landed = [event for event in batch if isinstance(event, Landed)]
        try:
            self._place(landed)
        except OSError as error:
            raise Transient(f"received files cannot be moved to their place: {error.strerror}") from error
        with self._ledger.begin("receive") as tx:
            touched: dict[str, None] = {}
            for run in _runs(batch):
                touched.update(dict.fromkeys(_enter(tx, run)))
            self._expect(tx, tuple(touched))
        for item in landed:
            item.path.unlink(missing_ok=True)

    def _place(self, landed: Sequence[Landed]) -> None:
        folders: set[Path] = set()
        for item in landed:
            target = self._ledger.data / item.instance.path
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                folders.update({target.parent.parent, target.parent.parent.parent})
            folders.add(target.parent)
            try:
                os.link(item.path, target)
            except FileExistsError:
                pass  # the same bytes came before, or this batch was begun before a crash
        if self._durable:
            for folder in folders:
                sync_folder(folder)


def _runs(batch: Sequence[Event]) -> list[Sequence[Event]]:
    """The batch cut so that objects stay together and everything keeps its order."""
    runs: list[list[Event]] = []
    for event in batch:
        if runs and isinstance(event, Landed) and isinstance(runs[-1][-1], Landed):
            runs[-1].append(event)
        else:
            runs.append([event])
    return list(runs)


def _enter(tx: Transaction, run: Sequence[Event]) -> Sequence[str]:
    """Write one run of events; returns the series whose completeness they bear on."""
    first = run[0]
    if isinstance(first, Opened):
        origin = first.origin
        tx.studies.open_association(origin.association, origin.calling_ae, origin.called_ae, origin.address)
        return ()
    if isinstance(first, Closed):
        return tx.studies.close_association(first.association, first.ending)
    if isinstance(first, Refused):
        tx.trail.append(
            first.what, outcome=4, peer=first.origin.calling_ae, called=first.origin.called_ae,
            address=first.origin.address, why=first.why, object=first.object,
        )  # fmt: skip
        return ()
    arrivals = [_arrival(event) for event in run if isinstance(event, Landed)]
    fates = tx.studies.record(arrivals)
    return [a.instance.series_uid for a in arrivals if fates[a.instance.sop_instance_uid] == "new"]


def _arrival(landed: Landed) -> Arrival:
    return Arrival(
        instance=landed.instance,
        association=landed.origin.association or None,
        calling_ae=landed.origin.calling_ae,
        called_ae=landed.origin.called_ae,
        received_at=landed.at,
    )


def _set_aside(path: Path, why: str) -> None:
    folder = path.parent.parent / "quarantine"
    try:
        folder.mkdir(exist_ok=True)
        os.replace(path, folder / path.name)
    except OSError as error:
        raise NodeError(f"{path.name} in {path.parent} cannot be moved to {folder}: {error.strerror}") from error
    log.error("%s was acknowledged but cannot be read again (%s): it lies in %s", path.name, why, folder)
