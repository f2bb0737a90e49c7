"""What the clock asks for: freeing what the retention policy allows, and re-computing the trail."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.blobs import sync_folder
from storage.facts.errors import Rejected
from storage.facts.task import State
from storage.ledger import Ledger

_BUSY = (State.WAITING, State.RUNNING, State.FAILED)  #: a task in one of these keeps its study
_YOUNG = 3600.0  #: seconds: who puts a blob says what it is for within this time


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What one round of retention removed."""

    studies: int
    bytes: int


def retain(ledger: Ledger, actor: str, before: float) -> Freed:
    """Remove received images and result files of studies that went quiet before a time (seconds since the epoch).

    The rows that tell the story stay. A study with open or dead tasks is kept, and so is what another study needs: the
    masks of two studies are one blob where they are the same, as empty ones are. Raises Transient when the database
    does not answer; what a crash left half done, the next round finishes.
    """
    for apart in sorted(_apart(ledger, "").glob("*")):
        _settle(ledger, apart.name)
    with ledger.begin_reading() as tx:
        due = tx.studies.quiet_since(before, _BUSY)
        holders = tx.predictions.holders() if due else {}
    sizes: list[int] = []
    for study_uid in due:
        try:
            forgotten = forget(ledger, actor, study_uid, before, holders)
        finally:
            size = _settle(ledger, study_uid)
        if forgotten:
            sizes.append(size)
    return Freed(studies=len(sizes), bytes=sum(sizes))


def forget(ledger: Ledger, actor: str, study_uid: str, before: float, holders: Mapping[str, set[str]]) -> bool:
    """Forget one study and set its files apart; False where it is no longer due.

    ``holders`` are the blobs that several studies may share; the study is taken out of them.
    """
    with ledger.begin(actor) as tx:
        tx.trail.hold()  # whoever enters an object waits: what is seen here stays so until the end
        if not tx.studies.quiet_since(before, _BUSY, study_uid):
            return False
        alone = {blob for blob in tx.predictions.blobs(study_uid) if holders.get(blob, set()) <= {study_uid}}
        if any(ledger.blobs.is_young(blob, _YOUNG) for blob in alone):
            return False  # just made anew, or by somebody who has not said so yet: the next round sees
        for blob in alone:
            ledger.blobs.remove(blob, _YOUNG)
        folder = ledger.data / "instances" / study_uid
        if folder.exists():
            apart = _apart(ledger, study_uid)
            apart.parent.mkdir(exist_ok=True)
            os.rename(folder, apart)
        tx.studies.forget_files(study_uid)
        tx.sources.forget((study_uid,), before)
    for others in holders.values():
        others.discard(study_uid)
    return True


def _settle(ledger: Ledger, study_uid: str) -> int:
    """Remove what was set apart of a study, but for files that are still somebody's; the bytes that were removed.

    An object that comes again has its file before it has its row: until then it lies under ``incoming``, where names
    begin with its UID.
    """
    apart = _apart(ledger, study_uid)
    files = [file for file in apart.rglob("*") if file.is_file()]
    if not files:
        shutil.rmtree(apart, ignore_errors=True)
        return 0
    arriving = {_uid(landed.name) for landed in (ledger.data / "incoming").glob("*.dcm")}
    with ledger.begin_reading() as tx:  # after that look: what left incoming since has its row
        known = tx.studies.paths(study_uid)
    freed = 0
    for file in files:
        place = f"instances/{study_uid}/{file.relative_to(apart)}"
        if place in known or _uid(file.name) in arriving:
            _put_back(file, ledger.data / place)
        else:
            freed += file.stat().st_size
    shutil.rmtree(apart, ignore_errors=True)
    return freed


def _put_back(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(file, place)
    sync_folder(place.parent)


def _apart(ledger: Ledger, study_uid: str) -> Path:
    """Where the files of a study lie between being forgotten and being removed."""
    return ledger.data / "removing" / study_uid


def _uid(name: str) -> str:
    """The SOP Instance UID that the name of a received file begins with."""
    return name.rsplit(".", 2)[0]


def verify(ledger: Ledger) -> int:
    """Re-compute the whole trail; returns its rows. Raises Rejected with the first faults when it was altered."""
    verdict = ledger.verify()
    if verdict.faults:
        shown = "; ".join(verdict.faults[:3])
        raise Rejected(f"the audit trail was altered: {shown}. Keep the database as it is and call whoever must know")
    ledger.checkpoint()
    return verdict.rows
