"""What is turned away is counted, logged and audited; a flood of the same makes few rows, not many."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from dicom_node.receive.events import Event, Refused
from dicom_node.receive.intake import Counters
from dicom_node.receive.landing import Origin

log = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0  #: the same refusal makes a row at most so often; the next row says how many there were
KINDS = 1000  #: different refusals that are told apart


class Refusals:
    """Takes note of associations and connections that were turned away."""

    def __init__(self, tell: Callable[[Event], None], counters: Counters) -> None:
        self._tell, self._counters = tell, counters
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}  # when it was told last, how many came since

    def note(self, what: str, origin: Origin, why: str) -> None:
        """Something was turned away, for that reason."""
        key = (what, origin.calling_ae, origin.address, why)
        now = time.monotonic()
        with self._lock:
            self._counters.count(self._counters.turned_away, what)
            told, since = self._seen.get(key, (-AGAIN_SECONDS, 0))
            if now - told < AGAIN_SECONDS:
                self._seen[key] = (told, since + 1)
                return
            if len(self._seen) >= KINDS:
                self._seen.clear()
            self._seen[key] = (now, 0)
        if since:
            why = f"{why} ({since} more times before)"
        log.warning("%s from %s: %s", what, origin.address, why)
        self._tell(Refused(what=what, origin=origin, why=why))
