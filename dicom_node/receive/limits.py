"""What a peer may use up: its SOP classes, its associations at a time, its rate and its bytes a day."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dicom_node.config import ReceiveSection
from dicom_node.peers import PeerSection
from dicom_node.receive.policy import section_of

DAY = 86400.0
BURST_SECONDS = 1.0  #: of its rate that a peer may send at once after a pause
LONGEST_PAUSE = 0.5  #: one hold-back, so that a stop of the node is not waited for


class Allowance:
    """Rate and quota of one peer, shared by its associations. ``now`` and ``pause`` are the clock's, for tests."""

    def __init__(
        self, peer: PeerSection, now: Callable[[], float] = time.time, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.peer = peer
        self._rate, self._quota = peer.maximum_mb_per_second * 1e6, peer.quota_gb_per_day * 1e9
        self._now, self._pause = now, pause
        self._lock = threading.Lock()
        self._day, self._today = 0, 0
        self._debt_until = 0.0  # when what was sent so far is paid for at the allowed rate

    @property
    def paced(self) -> bool:
        """Whether the peer has a rate, and ``spend`` may hold it back."""
        return self._rate > 0

    def forbids(self, sop_class: str, transfer_syntax: str) -> str | None:
        """Why no such object is ever taken, None when it is. By DIMSE none comes: nothing else was negotiated."""
        if self.peer.sop_classes and sop_class not in self.peer.sop_classes:
            return "SOP Class is not among its sop_classes"
        if self.peer.transfer_syntaxes and transfer_syntax not in self.peer.transfer_syntaxes:
            return "transfer syntax is not among its transfer_syntaxes"
        return None

    def refusal(self) -> str | None:
        """Why no object is taken now, None when one is."""
        if not self._quota:
            return None
        with self._lock:
            self._turn_page()
            full = self._today >= self._quota
        return f"quota of {self.peer.quota_gb_per_day:g} GB a day is used up" if full else None

    def spend(self, size: int) -> None:
        """So many bytes were taken: holds the peer back where it is above its rate."""
        if not (self._rate or self._quota):
            return
        with self._lock:
            self._turn_page()
            self._today += size
            if not self._rate:
                return
            now = self._now()
            self._debt_until = max(self._debt_until, now - BURST_SECONDS) + size / self._rate
            wait = self._debt_until - now
        if wait > 0:
            self._pause(min(wait, LONGEST_PAUSE))

    def give_back(self, size: int) -> None:
        """So many bytes were not kept after all: they leave the quota untouched; the rate was paid."""
        with self._lock:
            self._today = max(self._today - size, 0)

    def _turn_page(self) -> None:
        day = int(self._now() // DAY)
        if day != self._day:
            self._day, self._today = day, 0


class Limits:
    """The allowances of the peers that are configured, by AE title and address."""

    def __init__(self, receive: ReceiveSection) -> None:
        self._allowances: dict[str, list[Allowance]] = {}
        for peer in receive.peers:
            self._allowances.setdefault(peer.ae_title, []).append(Allowance(peer))

    def of(self, calling_ae: str, address: str = "") -> Allowance | None:
        """What is allowed to a peer that calls from there (see ``section_of``); None for one that is not configured."""
        named = self._allowances.get(calling_ae)
        if named is None or len(named) == 1 or not address:
            return named[0] if named else None
        section = section_of(calling_ae, address, [one.peer for one in named])
        return next(one for one in named if one.peer is section)
