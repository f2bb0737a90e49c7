"""The FETCH stage: a source sends what it has of a series and the node lacks.

A stage of its own, for a retrieval takes minutes at times, and nothing shall wait for it but its own series.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from storage.facts.errors import NodeError
from storage.facts.task import Task
from storage.ledger import Ledger
from storage.stage import Done, Handler

log = logging.getLogger(__name__)

#: Has a source send what lacks of a study's series beside the objects that are here: how many it sent, and could not.
Fetch = Callable[[str, str, Collection[str]], tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """What the stage works with."""

    ledger: Ledger
    sources: Mapping[str, Fetch]  #: by calling AE title

    def handler(self) -> Handler:
        """See storage.stage."""
        return Handler(work=self.work)

    def work(self, task: Task) -> Done:
        """One retrieval. One that fails is asked for again by whoever waits for it, as long as he does."""
        peer, series_uid = str(task.payload.get("peer", "")), task.series_uid or ""
        fetch = self.sources.get(peer)
        if fetch is None:
            return Done(note={"why": f"{peer} is asked no more"})
        with self.ledger.begin_reading() as tx:
            here = tx.studies.object_uids(series_uid)
        try:
            completed, failed = fetch(task.study_uid or "", series_uid, here)
        except NodeError as error:
            log.warning("series %s: what is missing cannot be fetched: %s", series_uid, error)
            return Done(note={"why": str(error)})
        log.info("series %s: fetched %d objects, %d failed", series_uid, completed, failed)
        return Done(note={"why": f"{peer} was asked for what is missing", "fetched": completed, "failed": failed})
