"""Remembers what destinations were seen to refuse, so that the next delivery begins with what they take.

A file a destination, beside the ledger, for it is no state of the node's but what it believes of another program: to
lose one costs a refusal that is learned again, `destinations list` reads it where the database does not answer, and two
processes need not agree on it. What was refused and what went instead stands in the audit trail.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

from dicom_node.deliver.destination import Destination

KEPT_SECONDS = 30 * 86400.0  #: an archive that was updated is asked again within a month

#: What is asked for in negotiation: a SOP class and a transfer syntax.
Offer = tuple[str, str]


class Refusals:
    """What is remembered in one folder. Threads may share it; of two processes that learn at once, one may win."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def of(self, destination: Destination) -> frozenset[Offer]:
        """What it does not take; nothing for one that has another address than what was learned."""
        return frozenset(self._read(destination))

    def learn(self, destination: Destination, refused: Collection[Offer], taken: Collection[Offer]) -> list[Offer]:
        """Note what it refused, and forget of what it took that it ever did. Returns what was not known."""
        with self._lock:
            known = self._read(destination)
            news = sorted(set(refused) - set(known))
            if news or set(taken) & set(known):
                kept = {offer: at for offer, at in known.items() if offer not in taken}
                self._write(destination, kept | dict.fromkeys(news, time.time()))
            return news

    def forget(self, destination: Destination) -> frozenset[Offer]:
        """Begin anew with it. Returns what was known."""
        with self._lock:
            known = self.of(destination)
            self._file(destination).unlink(missing_ok=True)
            return known

    def _file(self, destination: Destination) -> Path:
        return self._folder / f"{quote(destination.name, safe='')}.json"

    def _read(self, destination: Destination) -> dict[Offer, float]:
        """Each with the time when it was learned; a file that cannot be read tells nothing."""
        try:
            written = json.loads(self._file(destination).read_text(encoding="utf-8"))
            offers = {(str(sop_class), str(syntax)): float(at) for sop_class, syntax, at in written["refused"]}
            address = written["address"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        since = time.time() - KEPT_SECONDS
        return {offer: at for offer, at in offers.items() if at > since} if address == str(destination) else {}

    def _write(self, destination: Destination, offers: dict[Offer, float]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        refused = [[*offer, at] for offer, at in sorted(offers.items())]
        file = self._file(destination)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({"address": str(destination), "refused": refused}), encoding="utf-8")
        new.replace(file)
