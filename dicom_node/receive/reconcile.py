"""Closes the gaps that forwarding leaves: recent studies of a source are compared with what came, the rest is fetched.

An ordinary PACS does not repeat a failed forward. So each source that can be asked is asked now and then for its recent
studies; a series of which it has more than the node, and of which nothing changes any more, is fetched by C-MOVE.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from dicom_node.config import ReconcileSection
from dicom_node.deliver.query import SeriesEntry, StudyEntry
from dicom_node.receive.fetching import Fetch
from storage.facts.arrival import Absence, AbsenceState, Holding, Look
from storage.facts.errors import NodeError
from storage.facts.task import Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

log = logging.getLogger(__name__)

ACTOR = "reconcile"
LONGEST_PAUSE = 6 * 3600.0  #: between two requests for the same series, seconds
TIME_ZONES = 86400.0  #: the source may be that far away in its dates, seconds


class Questions(Protocol):
    """An association on which a source answers."""

    def studies(self, since: datetime.date, until: datetime.date) -> Sequence[StudyEntry]:
        """Its studies of some days, both included. Raises NodeError."""

    def series(self, study_uid: str) -> Sequence[SeriesEntry]:
        """The series of a study. Raises NodeError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A source of studies, as reconciliation needs it."""

    scope: Literal["started", "all"]  #: studies of which the node has something, or all
    ask: Callable[[], AbstractContextManager[Questions]]
    fetch: Fetch | None  #: None: what lacks is only told


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The RECONCILE stage: one task is one look at one source."""

    ledger: Ledger
    settings: ReconcileSection
    archives: Mapping[str, Archive]  #: by calling AE title

    def handler(self) -> Handler:
        """See storage.stage."""
        return Handler(work=self.work)

    def work(self, task: Task) -> Done:
        """Look at the source that the task names. A source that cannot be asked is asked again at the next tick."""
        peer = str(task.payload.get("peer", ""))
        archive = self.archives.get(peer)
        if archive is None:
            return Done(note={"why": f"{peer} is asked no more"})
        if time.time() - task.created_at > self.settings.every_minutes * 60:
            return Done(note={"why": "overtaken by the next look"})
        look = self._look(peer, archive)

        def record(tx: Transaction) -> None:
            tx.sources.looked(look)

        return Done(record=record, note={k: v for k, v in dataclasses.asdict(look).items() if k != "at"})

    def _look(self, peer: str, archive: Archive) -> Look:
        now = time.time()
        try:
            studies, found, holdings = self._ask(peer, archive, now)
        except NodeError as error:
            log.warning("%s cannot be asked for its recent studies: %s", peer, error)
            return Look(peer=peer, at=now, why=str(error))
        lacking, due = self._weigh(peer, found, holdings, now)
        fetched = 0
        if archive.fetch is not None:
            for absence in due[: self.settings.series_per_look]:
                fetched += self._fetch(absence, archive.fetch, now)
        return Look(peer=peer, at=now, studies=len(studies), lacking=lacking, fetched=fetched)

    def _ask(
        self, peer: str, archive: Archive, now: float
    ) -> tuple[Sequence[StudyEntry], dict[StudyEntry, Sequence[SeriesEntry]], dict[str, Holding]]:
        """Its recent studies; the series of those that may lack something; what is here of them."""
        with self.ledger.begin_reading() as tx:
            agreed = tx.sources.agreed(peer)
            waiting = {absence.study_uid for absence in tx.sources.absences(peer).values()}
        first = now - self.settings.window_hours * 3600 - TIME_ZONES
        with archive.ask() as questions:
            studies = questions.studies(_day(first), _day(now + TIME_ZONES))
            doubtful = [s for s in studies if s.instances is None or agreed.get(s.study_uid) != s.instances]
            with self.ledger.begin_reading() as tx:
                holdings = tx.sources.holding({*(s.study_uid for s in doubtful), *waiting})
            asked = [s for s in doubtful if _concerns(archive, s, holdings[s.study_uid])]
            if len(asked) > self.settings.studies_per_look:
                asked = random.sample(asked, self.settings.studies_per_look)  # each has its turn
            found = {study: questions.series(study.study_uid) for study in asked}
        return studies, found, holdings

    def _weigh(
        self, peer: str, found: Mapping[StudyEntry, Sequence[SeriesEntry]], holdings: Mapping[str, Holding], now: float
    ) -> tuple[int, list[Absence]]:
        """Bring what is known to lack up to date. Returns how many series do, and those to be fetched now."""
        window = self.settings.window_hours * 3600 + 2 * TIME_ZONES
        with self.ledger.begin(ACTOR) as tx:
            known = tx.sources.absences(peer)
            seen: dict[str, Absence] = {}
            well: dict[str, int] = {}
            for study, entries in found.items():
                holding = holdings[study.study_uid]
                lacking = [e for e in entries if self._lacks(e, holding)]
                if not lacking and study.instances is not None:
                    well[study.study_uid] = study.instances
                for entry in lacking:
                    if entry.series_uid not in holding.arriving:
                        seen[entry.series_uid] = _absence(peer, study, entry, holding, now)
            weighed = [weigh(a, known.get(a.series_uid), self.settings, now) for a in seen.values()]
            weighed += [
                (settle(a, holdings[a.study_uid], now - window), False)
                for a in known.values()
                if a.series_uid not in seen
            ]
            for absence, _ in weighed:
                if absence != known.get(absence.series_uid):
                    tx.sources.keep(absence)
            tx.sources.agree(peer, well, before=now - 2 * window)
        return sum(a.state is not AbsenceState.CLOSED for a, _ in weighed), [a for a, due in weighed if due]

    def _lacks(self, entry: SeriesEntry, holding: Holding) -> bool:
        wanted = entry.modality in self.settings.modalities and entry.series_uid not in holding.excluded
        return wanted and holding.here.get(entry.series_uid, 0) < entry.instances

    def _fetch(self, absence: Absence, fetch: Fetch, now: float) -> int:
        """Have the source send what lacks, once noted that it was asked: a crash must not make us impolite."""
        pause = self.settings.every_minutes * 60 * 2.0**absence.tries
        asked = dataclasses.replace(absence, tries=absence.tries + 1, next_at=now + min(pause, LONGEST_PAUSE))
        with self.ledger.begin(ACTOR) as tx:
            tx.sources.keep(asked)
            here = tx.studies.object_uids(absence.series_uid)
        try:
            completed, failed = fetch(absence.study_uid, absence.series_uid, here)
        except NodeError as error:
            log.warning("series %s lacks objects that cannot be fetched: %s", absence.series_uid, error)
            return 0
        log.info("series %s: fetched %d objects, %d failed", absence.series_uid, completed, failed)
        with self.ledger.begin(ACTOR) as tx:
            tx.sources.fetched(asked, completed, failed)
        return 1


def _concerns(archive: Archive, study: StudyEntry, holding: Holding) -> bool:
    here = sum(holding.here.values())
    if holding.removed or here == study.instances:
        return False
    return archive.scope == "all" or here > 0


def _absence(peer: str, study: StudyEntry, entry: SeriesEntry, holding: Holding, now: float) -> Absence:
    return Absence(
        peer=peer,
        series_uid=entry.series_uid,
        study_uid=study.study_uid,
        modality=entry.modality,
        expected=entry.instances,
        here=holding.here.get(entry.series_uid, 0),
        tries=0,
        seen_at=now,
        next_at=0.0,
        state=AbsenceState.WAITING,
    )


def weigh(seen: Absence, known: Absence | None, settings: ReconcileSection, now: float) -> tuple[Absence, bool]:
    """What is seen to lack, against what was known of it: the absence to keep, and whether it is fetched now.

    Where something still changes, the source receives or sends by itself: it is then left alone for a while.
    """
    settled = now + settings.settle_minutes * 60
    if known is None:
        return dataclasses.replace(seen, next_at=settled), False
    kept = dataclasses.replace(seen, tries=known.tries, seen_at=known.seen_at, next_at=known.next_at)
    if (seen.here, seen.expected) != (known.here, known.expected):
        return dataclasses.replace(kept, next_at=settled, tries=0), False
    if now >= known.next_at and known.tries >= settings.tries:
        return dataclasses.replace(kept, state=AbsenceState.GIVEN_UP), False
    return kept, now >= known.next_at


def settle(known: Absence, holding: Holding, before: float) -> Absence:
    """What becomes of an absence that was not seen again: its objects came, or its study is too old to be asked for."""
    here = holding.here.get(known.series_uid, 0)
    if here >= known.expected:
        return dataclasses.replace(known, here=here, state=AbsenceState.CLOSED)
    if known.seen_at < before:
        return dataclasses.replace(known, state=AbsenceState.GIVEN_UP)
    return known


def _day(at: float) -> datetime.date:
    return datetime.datetime.fromtimestamp(at).date()
