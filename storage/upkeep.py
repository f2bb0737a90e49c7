"""What the clock asks for: freeing what the retention policy allows, and re-computing the trail."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.blobs import sync_folder
from storage.facts.errors import Rejected
from storage.facts.task import Kind, State
from storage.ledger import Ledger, Transaction

_BUSY = (State.WAITING, State.RUNNING, State.FAILED)  #: a task in one of these keeps its study
_YOUNG = 3600.0  #: seconds: who puts a blob says what it is for within this time
_LONGEST_STEP = 86400.0  #: seconds that count between two ticks at most
_SLACK = 7200.0  #: seconds; the clock ticks once an hour, and when it was set
#: Seconds between two transactions. SQLite has no queue of writers: who waits would else find the lock taken again.
_BREATH = 0.05
_ROWS = 500  #: that are removed in one transaction: a study may have a hundred thousand
_SERIES = 50  #: that are moved in time in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What one round of retention removed."""

    studies: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The times that the clock showed while studies are kept: one that was quiet before, or after, is due."""

    before: float  #: seconds since the epoch
    after: float = math.inf  #: the same: the clock was once ahead
    held: float = 0.0  #: seconds of age that are not believed, as the node did not see them pass


def horizon(ledger: Ledger, keep: float, now: float) -> Horizon:
    """Which studies have been kept for ``keep`` seconds, whatever the clock did meanwhile.

    Files age while the node runs: its periodic tasks say what time it was. Between two of them not more counts than a
    day, nor an eighth of ``keep``: a clock that jumps ahead, or was dead at the start, ages nothing by years. And what
    came at a time that the clock showed since then is young, however far that time lies from now.
    """
    most = max(min(_LONGEST_STEP, keep / 8), _SLACK)
    with ledger.begin_reading() as tx:
        ticks = tx.queue.ticks((Kind.RETAIN, Kind.VERIFY))
    age, shown = 0.0, [now]
    for at in ticks:
        age += min(max(shown[-1] - at, 0.0), most)
        shown.append(at)
        if age >= keep:
            break
    before = min(now - keep, min(shown) - _SLACK)
    held = max(now - keep - before - _SLACK, 0.0)
    if age < keep:
        return Horizon(before=0.0, held=held)
    return Horizon(before=before, after=max(shown) + _SLACK, held=held)


def retain(ledger: Ledger, actor: str, since: Horizon) -> Freed:
    """Remove received images and result files of studies that went quiet outside of a horizon.

    The rows that tell the story stay. A study with open or dead tasks is kept, and so is what another study needs: the
    masks of two studies are one blob where they are the same, as empty ones are. Raises Transient when the database
    does not answer; what a crash left half done, the next round finishes.
    """
    with ledger.begin_reading() as tx:
        left = tx.studies.removals()
    for study_uid in left:
        _go_on(ledger, actor, study_uid)
    sizes = [_settle_all(ledger)]
    with ledger.begin_reading() as tx:
        due = tx.studies.quiet_outside(since.before, since.after, _BUSY)
        holders = tx.predictions.holders() if due else {}
    gone = len(left)
    for study_uid in due:
        time.sleep(_BREATH)
        try:
            gone += forget(ledger, actor, study_uid, since, holders)
        finally:
            sizes.append(_settle_all(ledger))
    more = True
    while more:
        time.sleep(_BREATH)
        with ledger.begin(actor) as tx:
            more = tx.sources.forget_older(since.before, _ROWS)
    return Freed(studies=gone, bytes=sum(sizes))


def forget(ledger: Ledger, actor: str, study_uid: str, since: Horizon, holders: Mapping[str, set[str]]) -> bool:
    """Forget one study and set its files apart; False where it is no longer due.

    The files go at once, and with them what says that the study is here; then its rows, some at a time. ``holders``
    are the blobs that several studies may share; the study is taken out of them.
    """
    with ledger.begin_reading() as tx:
        strays = tx.studies.strays(study_uid)  # not under the lock: what comes later makes the study young
    with ledger.begin(actor) as tx:
        tx.studies.hold(study_uid)  # whoever enters an object waits: what is seen here stays so until the end
        if not tx.studies.quiet_outside(since.before, since.after, _BUSY, study_uid):
            return False
        alone = {blob for blob in tx.predictions.blobs(study_uid) if holders.get(blob, set()) <= {study_uid}}
        if any(ledger.blobs.is_young(blob, _YOUNG) for blob in alone):
            return False  # just made anew, or by somebody who has not said so yet: the next round sees
        for blob in alone:
            ledger.blobs.remove(blob, _YOUNG)
        for place in (study_uid, *sorted(strays | tx.studies.stray_variants(study_uid))):
            _set_apart(ledger, place.removeprefix("instances/"))
        tx.studies.begin_removal(study_uid)
        tx.sources.withdraw(study_uid)
        more = _remove_some(tx, study_uid)
    for others in holders.values():
        others.discard(study_uid)
    if more:
        _go_on(ledger, actor, study_uid)
    return True


def _go_on(ledger: Ledger, actor: str, study_uid: str) -> None:
    """Remove what rows are left of a study whose removal has begun."""
    more = True
    while more:
        time.sleep(_BREATH)
        with ledger.begin(actor) as tx:
            more = _remove_some(tx, study_uid)


def _remove_some(tx: Transaction, study_uid: str) -> bool:
    """The notices first: with the last instance it is over, and the trail says so."""
    return tx.sources.forget_some(study_uid, _ROWS) or tx.studies.remove_some(study_uid, _ROWS)


def _set_apart(ledger: Ledger, place: str) -> None:
    """Move a study's folder, or a file of it that lies in another's, to where it is removed from."""
    here, apart = ledger.data / "instances" / place, ledger.data / "removing" / place
    if not here.exists():
        return
    apart.parent.mkdir(parents=True, exist_ok=True)
    os.rename(here, apart)
    if "/" in place:
        with contextlib.suppress(OSError):  # others have files there
            here.parent.rmdir()
            here.parent.parent.rmdir()


def _settle_all(ledger: Ledger) -> int:
    """Remove what was set apart, now or before a crash; the bytes that were removed."""
    return sum(_settle(ledger, apart) for apart in sorted((ledger.data / "removing").glob("*")))


def _settle(ledger: Ledger, apart: Path) -> int:
    """Remove what was set apart of a study, but for files that are still somebody's; the bytes that were removed.

    A series that came under two studies has files in the folders of both. And an object that comes again has its file
    before it has its row: until then it lies under ``incoming``, where names begin with its UID.
    """
    files = [file for file in apart.rglob("*") if file.is_file()]
    if not files:
        shutil.rmtree(apart, ignore_errors=True)
        return 0
    arriving = {_uid(landed.name) for landed in (ledger.data / "incoming").glob("*.dcm")}
    with ledger.begin_reading() as tx:  # after that look: what left incoming since has its row
        known = tx.studies.paths({_uid(file.name) for file in files})
    freed = 0
    for file in files:
        place = f"instances/{apart.name}/{file.relative_to(apart)}"
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


def _uid(name: str) -> str:
    """The SOP Instance UID that the name of a received file begins with."""
    return name.rsplit(".", 2)[0]


def set_back(ledger: Ledger, actor: str, now: float, seconds: float) -> None:
    """The clock was set back so far, to ``now``: nothing shall wait for a time that comes once more, or in years.

    Raises Transient when the database does not answer; it may then be done again.
    """
    while True:
        with ledger.begin_reading() as tx:
            ahead = tx.studies.ahead(now, _SERIES)
        if not ahead:
            break
        with ledger.begin(actor) as tx:
            tx.studies.set_back(now, ahead)
    with ledger.begin(actor) as tx:  # after the series: what looks at them now finds them as they are
        tx.sources.set_back(now, seconds)
        tx.predictions.set_back(now)
        tx.queue.set_back(now, seconds)
        tx.trail.append("clock set back", outcome=4, seconds=round(seconds))


def verify(ledger: Ledger) -> int:
    """Re-compute the whole trail; returns its rows. Raises Rejected with the first faults when it was altered."""
    verdict = ledger.verify()
    if verdict.faults:
        shown = "; ".join(verdict.faults[:3])
        raise Rejected(f"the audit trail was altered: {shown}. Keep the database as it is and call whoever must know")
    ledger.checkpoint()
    return verdict.rows
