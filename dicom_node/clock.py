"""What is periodic. Each tick only enqueues a task, never works."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Sequence

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.config import UpkeepSection
from storage.facts.errors import Transient
from storage.facts.task import Kind, Next
from storage.ledger import Ledger

log = logging.getLogger(__name__)

ACTOR = "clock"


class Clock:
    """The node's APScheduler."""

    def __init__(
        self, ledger: Ledger, settings: UpkeepSection, sources: Sequence[str] = (), every_minutes: float = 0.0
    ) -> None:
        """``sources`` are looked at every so often, and at once: what was sent while the node was down is lacking."""
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

        for peer in sources if every_minutes else ():
            self._scheduler.add_job(
                self._enqueue, "interval", minutes=every_minutes, args=[Kind.RECONCILE, every_minutes * 60, peer],
                id=f"reconcile {peer}", next_run_time=datetime.datetime.now(datetime.UTC), **common,
            )  # fmt: skip

    def start(self) -> None:
        """Begin to tick."""
        self._scheduler.start()

    def stop(self) -> None:
        """Tick no more."""
        self._scheduler.shutdown(wait=False)

    def _enqueue(self, kind: Kind, period: float, peer: str | None = None) -> None:
        """One task a period, whatever the number of nodes on the same ledger."""
        about = kind.value if peer is None else peer
        payload = {} if peer is None else {"peer": peer}
        item = Next(kind=kind, key=f"{about}/{int(time.time() // period)}", payload=payload)
        try:
            with self._ledger.begin(ACTOR) as tx:
                tx.queue.enqueue(item)
        except Transient as error:
            log.warning("the tick %s was missed: %s", kind, error)
