"""Has compressed slices decoded while others of their series still arrive, so that a run finds them decoded.

600 slices of JPEG 2000 take a core 18 s. What is decoded lies in a folder as long as a task may read it, and no longer;
a run decodes by itself what is not there. Nothing depends on this: every fault costs time alone.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

from inference.executors.decoder import Said
from storage.facts.errors import Transient

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-X", "faulthandler", "-m", "inference.executors.decoder")
LOOK_SECONDS = 0.5  #: between looks at what arrives
OBJECT_SECONDS = 60.0  #: for one object; a decoder that takes longer hangs
IDLE_SECONDS = 60.0  #: a decoder without work ends after so long: it holds 100 MB
REST_SECONDS = 30.0  #: without decoding, after the disk refused
KEPT_BYTES = 4 * 2**30  #: of decoded pixels at a time
FREE_BYTES = 2 * KEPT_BYTES  #: that must be left on the disk: it is there to receive


class Arrivals(Protocol):
    """What is here of what a run may be asked for soon. All raise Transient."""

    def news(self, since: int | None) -> tuple[int, Collection[str]]:
        """A number that differs from ``since`` if anything changed, and the series to which something happened since.

        Cheap where nothing did: it is asked at each look.
        """
        ...

    def awaited(self) -> Collection[str]:
        """Series that still arrive, are routed, or have a run that has not ended."""
        ...

    def suits(self, series: str) -> bool | None:
        """Whether it is compressed, and some package may take it; None where nothing of it is here."""
        ...

    def files(self, series: Collection[str]) -> Mapping[str, Sequence[Path]]:
        """The objects that are here of each series, in the order of their arrival."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is decoded, where, by how many."""

    folder: Path
    number: int  #: of decoders
    arrivals: Arrivals
    command: Sequence[str] = COMMAND


class Ahead:
    """Looks at what arrives, keeps the decoders busy, removes what is no longer wanted."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._decoders: list[Decoder] = []
        self._asked: dict[str, set[Path]] = {}  #: what was given to a decoder, by series
        self._suits: dict[str, bool] = {}  #: by series that is awaited
        self._has_room = True
        self._queue: dict[str, list[Path]] = {}  #: what no decoder was given yet, by series in the order of arrival
        self._seen: int | None = None  #: of the news
        self._is_unsure = False  #: a series could not be judged: it is asked about again, whether there are news or not
        self._rest_until = 0.0

    def run(self, stop: threading.Event) -> None:
        """Decode until told to stop."""
        shutil.rmtree(self._plan.folder, ignore_errors=True)
        looked = 0.0
        try:
            while not stop.is_set():
                if time.monotonic() - looked >= LOOK_SECONDS:
                    self._look()
                    looked = time.monotonic()
                self._hand_out()
                self._collect(stop)
        finally:
            for decoder in self._decoders:
                decoder.end()
            shutil.rmtree(self._plan.folder, ignore_errors=True)

    def _look(self) -> None:
        """What is new goes into the queue; what no task wants any more goes from the disk."""
        try:
            self._look_at_news()
        except Transient as error:
            log.info("what arrives cannot be looked at: %s", error)
        self._has_room = not any(self._queue.values()) or self._finds_room()

    def _look_at_news(self) -> None:
        arrivals, known = self._plan.arrivals, self._queue.keys()
        latest, touched = arrivals.news(self._seen)
        if latest == self._seen and not self._is_unsure:
            return
        awaited = arrivals.awaited()
        judged = {s: self._suits[s] if s in self._suits else arrivals.suits(s) for s in awaited}
        wanted = [series for series, suits in judged.items() if suits]
        files = arrivals.files([series for series in wanted if series in touched or series not in known])
        self._suits = {series: suits for series, suits in judged.items() if suits is not None}
        for series in self._asked.keys() - judged.keys():
            for folder in {path.parent.name for path in self._asked.pop(series)}:
                shutil.rmtree(self._plan.folder / folder, ignore_errors=True)
        self._queue = {series: paths for series, paths in self._queue.items() if series in judged}
        for series, paths in files.items():
            asked = self._asked.get(series, ())
            self._queue[series] = [path for path in paths if path not in asked]
        self._seen, self._is_unsure = latest, len(self._suits) < len(judged)

    def _hand_out(self) -> None:
        while self._has_room and time.monotonic() >= self._rest_until:
            series = next((series for series, paths in self._queue.items() if paths), None)
            if series is None:
                return
            decoder = self._idle()
            if decoder is None:
                return
            path = self._queue[series].pop(0)
            self._asked.setdefault(series, set()).add(path)
            decoder.ask(path)

    def _idle(self) -> Decoder | None:
        """A decoder that waits for work, started now if there are too few; None where all are busy."""
        for decoder in self._decoders:
            if decoder.path is None:
                return decoder
        if len(self._decoders) >= self._plan.number:
            return None
        try:
            started = Decoder(self._plan.folder, self._plan.command)
        except OSError as error:
            log.warning("no decoder can be started: %s", error.strerror or type(error).__name__)
            self._rest_until = time.monotonic() + REST_SECONDS
            return None
        self._decoders.append(started)
        return started

    def _finds_room(self) -> bool:
        folder = self._plan.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            kept = sum(entry.stat().st_size for series in os.scandir(folder) for entry in os.scandir(series))
        except OSError:  # something was removed in between, or the disk does not answer
            return False
        return free >= FREE_BYTES and kept < KEPT_BYTES

    def _collect(self, stop: threading.Event) -> None:
        """Wait for an answer until the next look; end who hangs, and who had nothing to do for long."""
        busy = {decoder.pipe: decoder for decoder in self._decoders if decoder.path is not None}
        if not busy:
            stop.wait(LOOK_SECONDS)
        ready = wait(list(busy), LOOK_SECONDS) if busy else ()
        for pipe, decoder in busy.items():
            if pipe in ready and decoder.answer() is Said.NO_ROOM:
                self._rest_until = time.monotonic() + REST_SECONDS
        for decoder in self._decoders:
            if decoder.is_over():
                decoder.end()
        self._decoders = [decoder for decoder in self._decoders if not decoder.ended]


class Decoder:
    """One decoder process as the worker holds it. Its standard input is its lifeline."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                [*command, "--pipe", str(theirs.fileno()), "--folder", str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), process_group=0,
            )  # fmt: skip
            self.pipe = Connection(ours.detach())
        self.path: Path | None = None  #: that it works on
        self.ended = False
        self._since = time.monotonic()

    def ask(self, path: Path) -> None:
        """Give it an object."""
        self.path, self._since = path, time.monotonic()
        try:
            self.pipe.send_bytes(os.fsencode(path))
        except OSError:
            pass  # it is gone, which its answer tells

    def answer(self) -> Said:
        """What it says of its object; one that is gone says nothing and ends."""
        assert self.path is not None
        path, self.path, self._since = self.path, None, time.monotonic()
        try:
            return Said(self.pipe.recv_bytes(64).decode("ascii"))
        except (EOFError, OSError, ValueError):
            log.warning("a decoder ended over %s: a run has to decode it", path.name)
            self.end()
            return Said.NOT

    def is_over(self) -> bool:
        """Whether it hangs, or had nothing to do for long."""
        waited = time.monotonic() - self._since
        if self.path is not None and waited > OBJECT_SECONDS:
            log.warning("a decoder took more than %g s for %s: a run has to decode it", OBJECT_SECONDS, self.path.name)
            return True
        return self.path is None and waited > IDLE_SECONDS

    def end(self) -> None:
        """End the process; harmless when it has ended."""
        if self.ended:
            return
        self.ended = True
        self._process.kill()
        self._process.wait()
        self.pipe.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
