"""Enters what has landed into the ledger, in batches. It lives in a process of its own: see ``feed``.

The sender was already told 0x0000: from then on nothing may be lost. Order of deeds for a batch: link each file to its
place under ``instances``, commit the rows, remove the file from ``incoming``. A crash between any two of them leaves
files in ``incoming``, and entering them again changes nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_node.receive import workitems
from dicom_node.receive.assembly import Expect, take_notice
from dicom_node.receive.events import (
    Asked,
    Began,
    Closed,
    Died,
    Event,
    Missed,
    Noticed,
    Opened,
    Refused,
    Reported,
    Stopped,
)
from dicom_node.receive.landing import Landed, Unreadable, read_landed
from storage.blobs import sync_folder
from storage.facts.arrival import Arrival
from storage.facts.errors import NodeError, Transient
from storage.ledger import Ledger, Transaction, this_host

log = logging.getLogger(__name__)

ACTOR = "receive"
BATCH = 500  #: files of ``incoming`` that are entered together
EXPECT_SECONDS = 2.0  #: between two looks at the completeness of a series that goes on coming: a look costs 5 ms

#: Called with the type and the data set of an N-EVENT-REPORT; returns the status of its response.
TakeReport = Callable[[int, bytes], int]


def take_no_report(_event_type: int, _data: bytes) -> int:
    """For a node that asks for no commitment: processing failure (PS3.7 Annex C)."""
    return 0x0110


class Index:
    """Events in, rows out, in the order in which they happened. What is told twice is entered once."""

    def __init__(
        self, ledger: Ledger, expect: Expect, durable: bool = True, take_report: TakeReport = take_no_report
    ) -> None:
        self._ledger, self._expect, self._durable, self._take_report = ledger, expect, durable, take_report
        self._incoming = ledger.data / "incoming"
        self._known_folders: set[str] = set()
        self._looked: dict[str, float] = {}  # series to when its completeness was last looked at
        self._owed: dict[str, None] = {}  # series that wait for such a look
        self._found: list[Path] = []  # what a look into incoming has still to enter, last first

    def take(self, events: Sequence[Event]) -> list[int]:
        """Enter a batch; an answer for each event. Raises Transient; the same batch may then be given again.

        An empty batch is the occasion to do what was put off.
        """
        answers = [0] * len(events)
        arrivals: list[Event] = []
        for number, event in enumerate(events):
            if isinstance(event, Opened | Closed | Refused | Landed):
                arrivals.append(event)
                continue
            self._write(arrivals)
            arrivals = []
            answers[number] = self._obey(event)
        if arrivals or not events:
            self._write(arrivals)
        return answers

    def _obey(self, event: Began | Stopped | Died | Missed | Reported | Noticed | Asked) -> int:
        if isinstance(event, Reported):
            return self._take_report(event.event_type, event.data)
        if isinstance(event, Noticed):
            return take_notice(self._ledger, self._expect, event)
        if isinstance(event, Asked):
            return workitems.answer(self._ledger, self._expect, event)
        if isinstance(event, Began):
            self._begin(event)
        elif isinstance(event, Missed):
            return self._look_further()
        elif isinstance(event, Died):
            with self._ledger.begin("node") as tx:
                tx.queue.orphan(f"{this_host()}:{event.pid}")
        else:
            with self._ledger.begin("node") as tx:
                tx.trail.append("node stopped")
            self._ledger.checkpoint()
        return 0

    def _begin(self, event: Began) -> None:
        """Pick up what an earlier run left: its tasks, its open associations, what it acknowledged."""
        with self._ledger.begin("node") as tx:
            left = tx.queue.orphan(f"{this_host()}:")
            tx.trail.append("node started", ae_title=event.ae_title)
        with self._ledger.begin(ACTOR) as tx:
            self._expect(tx, tx.studies.lose_associations())
        entered = self.recover()
        if left or entered:
            log.info("picked up from an earlier run: %d tasks, %d received objects", left, entered)

    def resume(self) -> None:
        """See to series that nobody sees to: an index that died may have put off a look at them."""
        with self._ledger.begin_reading() as tx:
            left = tx.studies.undecided()
        for start in range(0, len(left), BATCH):
            with self._ledger.begin(ACTOR) as tx:
                self._expect(tx, left[start : start + BATCH])
        if left:
            log.info("%d series wait to be seen to", len(left))

    def recover(self, mark: str = "") -> int:
        """Enter every object that lies in ``incoming``, or those of a mark (see Incoming). Returns how many.

        A file that cannot be read is moved aside, to ``quarantine``, and reported: it is never deleted.
        """
        paths = sorted(self._incoming.glob(f"*.{mark}*.dcm" if mark else "*.dcm"))
        return sum(self._recover(paths[start : start + BATCH]) for start in range(0, len(paths), BATCH))

    def _recover(self, paths: Sequence[Path]) -> int:
        batch: list[Landed] = []
        for path in paths:
            try:
                batch.append(read_landed(path))
            except FileNotFoundError:
                pass  # it was told of, and entered, since incoming was listed
            except (Unreadable, OSError) as error:
                _set_aside(path, str(error))
        self._write(batch)
        return len(batch)

    def _look_further(self) -> int:
        """Enter some of what lies in ``incoming``; how many are left of what lay there when the look began.

        Bounded, so that what the node tells meanwhile does not wait for minutes.
        """
        if not self._found:
            self._found = sorted(self._incoming.glob("*.dcm"), reverse=True)
            log.info("%d received objects wait in incoming: entering them", len(self._found))
        self._recover(self._found[: -BATCH - 1 : -1])
        del self._found[-BATCH:]
        return len(self._found)

    def _write(self, batch: Sequence[Event]) -> None:
        due = self._due(time.monotonic())
        if not batch and not due:
            return
        batch = self._place(batch)
        touched = dict.fromkeys(due)
        later: dict[str, None] = {}
        with self._ledger.begin(ACTOR) as tx:
            for run in _runs(batch):
                (later if self._can_wait(run) else touched).update(dict.fromkeys(_enter(tx, run)))
            touched.update({uid: None for uid in later if uid not in self._looked})
            self._expect(tx, tuple(touched))
        self._looked.update(dict.fromkeys(touched, time.monotonic()))
        self._owed = {uid: None for uid in (*self._owed, *later) if uid not in touched}
        for event in batch:
            if isinstance(event, Landed):
                _remove(event.path)

    def _due(self, now: float) -> tuple[str, ...]:
        """The series that waited long enough for a look at their completeness; of others it is forgotten when."""
        self._looked = {uid: at for uid, at in self._looked.items() if now - at < EXPECT_SECONDS}
        return tuple(uid for uid in self._owed if uid not in self._looked)

    @staticmethod
    def _can_wait(run: Sequence[Event]) -> bool:
        """Whether what these events bear on may be looked at a little later.

        Objects of an association that is open: at its end, however it ends, its series are looked at in any case.
        """
        return all(isinstance(event, Landed) and event.origin.association for event in run)

    def _place(self, batch: Sequence[Event]) -> list[Event]:
        """Link the files to their place; the batch without what is nowhere any more. Raises Transient."""
        folders: set[str] = set()
        placed: list[Event] = []
        try:
            for event in batch:
                if not isinstance(event, Landed) or self._link(event, folders):
                    placed.append(event)
            if self._durable:
                for folder in folders:
                    sync_folder(Path(folder))
        except OSError as error:
            raise Transient(f"received files cannot be moved to their place: {error.strerror}") from error
        return placed

    def _link(self, item: Landed, folders: set[str]) -> bool:
        target = f"{self._ledger.data}/{item.instance.path}"
        series = os.path.dirname(target)
        if series not in self._known_folders:
            self._make(series, folders)
        folders.add(series)
        try:
            os.link(item.path, target)
        except FileExistsError:
            pass  # the same bytes came before, or this batch was begun before a crash
        except FileNotFoundError:
            if os.path.exists(target):
                return True  # a look into incoming was faster than the word of it
            if os.path.exists(item.path):
                self._known_folders.discard(series)
                return self._link(item, folders)  # retention took the folder away
            log.error("object %s is gone from incoming: somebody removed it", item.instance.sop_instance_uid)
            return False
        return True

    def _make(self, series: str, folders: set[str]) -> None:
        """The folders of a series; those that got a new name in them must be synced."""
        if not os.path.isdir(series):
            os.makedirs(series, exist_ok=True)
            study = os.path.dirname(series)
            folders.update((study, os.path.dirname(study)))
        if len(self._known_folders) >= BATCH:
            self._known_folders.clear()
        self._known_folders.add(series)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # told twice


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
        tx.studies.open_association(origin.association, origin.calling_ae, origin.called_ae, origin.address, first.at)
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
    return [a.instance.series_uid for a in arrivals if fates[a.instance.sop_instance_uid] != "known"]


def _arrival(landed: Landed) -> Arrival:
    return Arrival(
        instance=landed.instance,
        association=landed.origin.association or None,
        calling_ae=landed.origin.calling_ae,
        called_ae=landed.origin.called_ae,
        received_at=min(landed.at, time.time()),  # later than now only by a clock that was set back since
    )


def _set_aside(path: Path, why: str) -> None:
    folder = path.parent.parent / "quarantine"
    try:
        folder.mkdir(exist_ok=True)
        os.replace(path, folder / path.name)
    except OSError as error:
        raise NodeError(f"{path.name} in {path.parent} cannot be moved to {folder}: {error.strerror}") from error
    log.error("%s was acknowledged but cannot be read again (%s): it lies in %s", path.name, why, folder)
