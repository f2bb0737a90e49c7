"""What is periodic. Each tick only enqueues a task, never works.

Ticks are due by the machine's clock, and so is much of the ledger. Where that clock is set back, by NTP after a start
for example, it is told so: what waits would otherwise wait for a time that comes once more.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable, Sequence

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.config import UpkeepSection
from storage import upkeep, views
from storage.facts.errors import Transient
from storage.facts.task import Kind, Next
from storage.ledger import Ledger, Transaction

log = logging.getLogger(__name__)

ACTOR = "clock"
WATCH_SECONDS = 5.0  #: between two looks at whether the clock was set
HOUR = 3600.0  #: seconds
LEAST_STEP = 2.0  #: seconds; less is no step
LEAST_AHEAD = 60.0  #: seconds that the trail is ahead at the start: less may be another node's clock

Now = Callable[[], float]  #: seconds


class Clock:
    """The node's APScheduler."""

    def __init__(
        self,
        ledger: Ledger,
        settings: UpkeepSection,
        sources: Sequence[str] = (),
        every_minutes: float = 0.0,
        *,
        now: Now = time.time,
        steady: Now = time.monotonic,
    ) -> None:
        """``sources`` are looked at every so often, and at once: what was sent while the node was down is lacking."""
        self._ledger, self._now, self._steady = ledger, now, steady
        self._offset = now() - steady()
        self._keeps = settings.keep_days > 0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="clock", daemon=True)
        self._scheduler = BackgroundScheduler(timezone="UTC")
        at_once = datetime.datetime.now(datetime.UTC)
        hours = max(settings.verify_hours, 0.01)
        # A late tick is better than none: the node may have been busy or down.
        common = {"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        self._scheduler.add_job(
            self._enqueue, "interval", hours=hours, args=[Kind.VERIFY, hours * 3600], id="verify", **common
        )
        if settings.keep_days:
            self._scheduler.add_job(self._enqueue, "interval", hours=1, args=[Kind.RETAIN, HOUR], id="retain", **common)

        for peer in sources if every_minutes else ():
            self._scheduler.add_job(
                self._enqueue, "interval", minutes=every_minutes, args=[Kind.RECONCILE, every_minutes * 60, peer],
                id=f"reconcile {peer}", next_run_time=at_once, **common,
            )  # fmt: skip

    def start(self) -> None:
        """Begin to tick. Raises Transient when the database does not answer."""
        with self._ledger.read() as session:
            latest = max((row.at for row in views.trail(session, limit=1)), default=0.0)
        if latest > self._now() + LEAST_AHEAD:
            self._set_back(latest - self._now())
        self._show()
        self._scheduler.start()
        self._watcher.start()

    def stop(self) -> None:
        """Tick no more."""
        self._over.set()
        self._scheduler.shutdown(wait=False)

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            try:
                self.look()
            except Transient as error:
                log.warning("the clock was set, and the ledger cannot be told: %s", error)

    def look(self) -> None:
        """Whether the clock was set since the last look, and what that means for what waits.

        Raises Transient when the database does not answer: the next look then sees the same.
        """
        offset = self._now() - self._steady()
        step = offset - self._offset
        if step >= LEAST_STEP:
            log.warning("the machine's clock was set ahead by %.0f s", step)
            self._show()
        if step <= -LEAST_STEP:
            self._show()
            self._set_back(-step)
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=job.next_run_time + datetime.timedelta(seconds=step))
        self._offset = offset

    def _show(self) -> None:
        """Note what the clock says now: retention must know what came by it (see ``upkeep.horizon``)."""
        if self._keeps:
            with self._ledger.begin(ACTOR) as tx:
                self._tick(tx, Kind.RETAIN, HOUR, Kind.RETAIN.value, {})

    def _set_back(self, seconds: float) -> None:
        log.warning("the machine's clock was set back by %.0f s: what waits is made due as if it had not been", seconds)
        upkeep.set_back(self._ledger, ACTOR, self._now(), seconds)

    def _enqueue(self, kind: Kind, period: float, peer: str | None = None) -> None:
        about, payload = (kind.value, {}) if peer is None else (peer, {"peer": peer})
        try:
            with self._ledger.begin(ACTOR) as tx:
                self._tick(tx, kind, period, about, payload)
        except Transient as error:
            log.warning("the tick %s was missed: %s", kind, error)

    def _tick(self, tx: Transaction, kind: Kind, period: float, about: str, payload: dict[str, str]) -> None:
        """One task a period, whatever the number of nodes on the same ledger."""
        now = self._now()
        key = f"{about}/{int(now // period)}"
        if tx.queue.enqueue(Next(kind=kind, key=key, payload=payload)):
            return
        last = tx.queue.latest(kind, f"{about}/")
        if last is not None and abs(now - last[1]) > period:  # that hour has been before
            tx.queue.enqueue(Next(kind=kind, key=f"{key}#{last[0]}", payload=payload))
