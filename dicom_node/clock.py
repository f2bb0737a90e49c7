"""What is periodic. Each tick only enqueues a task, never works."""

from __future__ import annotations

import logging
import time

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.config import UpkeepSection
from storage.facts.errors import Transient
from storage.facts.task import Kind, Next
from storage.ledger import Ledger

log = logging.getLogger(__name__)

ACTOR = "clock"


class Clock:
    """The node's APScheduler."""

    def __init__(self, ledger: Ledger, settings: UpkeepSection) -> None:
        self._ledger = ledger
        self._scheduler = BackgroundScheduler(timezone="UTC")
        hours = max(settings.verify_hours, 0.01)
        # A late tick is better than none: the node may have been busy or down.
        common = {"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        self._scheduler.add_job(
            self._enqueue, "interval", hours=hours, args=[Kind.VERIFY, hours * 3600], id="verify", **common
        )
        if settings.keep_days:
            self._scheduler.add_job(
                self._enqueue, "interval", hours=1, args=[Kind.RETAIN, 3600.0], id="retain", **common
            )

    def start(self) -> None:
        """Begin to tick."""
        self._scheduler.start()

    def stop(self) -> None:
        """Tick no more."""
        self._scheduler.shutdown(wait=False)

    def _enqueue(self, kind: Kind, period: float) -> None:
        """One task a period, whatever the number of nodes on the same ledger."""
        item = Next(kind=kind, key=f"{kind}/{int(time.time() // period)}")
        try:
            with self._ledger.begin(ACTOR) as tx:
                tx.queue.enqueue(item)
        except Transient as error:
            log.warning("the tick %s was missed: %s", kind, error)
