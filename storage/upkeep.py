"""What the clock asks for: freeing what the retention policy allows, and re-computing the trail."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from storage.facts.errors import Rejected
from storage.facts.task import State
from storage.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What one round of retention removed."""

    studies: int
    bytes: int


def retain(ledger: Ledger, actor: str, before: float) -> Freed:
    """Remove received images and result files of studies that went quiet before a time (seconds since the epoch).

    The rows that tell the story stay. A study with open or dead tasks is kept. Files go first: a crash in between makes
    the next round do it again.
    """
    with ledger.begin_reading() as tx:
        due = tx.studies.quiet_since(before, (State.WAITING, State.RUNNING, State.FAILED))
    freed = 0
    for study_uid in due:
        with ledger.begin_reading() as tx:
            blobs = tx.predictions.blobs(study_uid)
        folder = ledger.data / "instances" / study_uid
        freed += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder, ignore_errors=True)
        for blob in blobs:
            ledger.blobs.path(blob).unlink(missing_ok=True)
        with ledger.begin(actor) as tx:
            tx.studies.forget_files(study_uid)
            tx.sources.forget((study_uid,), before)
    return Freed(studies=len(due), bytes=freed)


def verify(ledger: Ledger) -> int:
    """Re-compute the whole trail; returns its rows. Raises Rejected with the first faults when it was altered."""
    verdict = ledger.verify()
    if verdict.faults:
        shown = "; ".join(verdict.faults[:3])
        raise Rejected(f"the audit trail was altered: {shown}. Keep the database as it is and call whoever must know")
    ledger.checkpoint()
    return verdict.rows
