"""Keeps the child processes alive: the stages and the workers."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from storage.exits import CONFIGURATION

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  #: seconds between restarts of a child that keeps ending
HEALTHY_SECONDS = 60.0
TERM_SECONDS = 10.0


@dataclass(slots=True)
class Child:
    """One process that should always run."""

    name: str
    command: Sequence[str]
    link: Callable[[], socket.socket] | None = None  #: its standard input, made anew for each start; None: a pipe
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    again: float = 0.0  #: monotonic time of the next start
    pause: float = FIRST_PAUSE
    hopeless: bool = field(default=False)


class Supervisor:
    """Starts children, starts them again when they end, stops them together."""

    def __init__(self, children: Sequence[Child], on_death: Callable[[int], None]) -> None:
        self._children, self._on_death = children, on_death
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every child."""
        for child in self._children:
            self._spawn(child)
        self._thread.start()

    def stop(self) -> None:
        """Ask every child to end, wait, then make it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        alive = [child.process for child in self._children if child.process is not None]
        for process in alive:
            process.terminate()
        until = time.monotonic() + TERM_SECONDS
        for process in alive:
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                log.warning("process %d does not end: killed; its task is done again at the next start", process.pid)
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()

    @property
    def hopeless(self) -> bool:
        """Whether some child cannot run with this configuration."""
        return any(child.hopeless for child in self._children)

    def alive(self) -> dict[str, bool]:
        """Which children run."""
        return {child.name: child.process is not None and child.process.poll() is None for child in self._children}

    def _spawn(self, child: Child) -> None:
        # The pipe or the link is the lifeline: when this process is gone, the child reads end-of-file.
        if child.link is None:
            child.process = subprocess.Popen(child.command, stdin=subprocess.PIPE)
        else:
            with child.link() as theirs:
                child.process = subprocess.Popen(child.command, stdin=theirs.fileno())
        child.started = time.monotonic()
        log.info("%s runs as process %d", child.name, child.process.pid)

    def _spawn_again(self, child: Child) -> None:
        """Where the machine has no process or descriptor left, the other children must be tended all the same."""
        try:
            self._spawn(child)
        except OSError as error:
            child.pause = min(child.pause * 2, LONGEST_PAUSE)
            child.again = time.monotonic() + child.pause
            log.error("%s cannot be started (%s): tried again in %.1f s", child.name, error.strerror, child.pause)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for child in self._children:
                self._tend(child)

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if not child.hopeless and now >= child.again:
                self._spawn_again(child)
            return
        code = child.process.poll()
        if code is None:
            return
        self._on_death(child.process.pid)
        if child.process.stdin is not None:
            child.process.stdin.close()
        child.pause = FIRST_PAUSE if now - child.started > HEALTHY_SECONDS else min(child.pause * 2, LONGEST_PAUSE)
        child.again, child.process = now + child.pause, None
        child.hopeless = code == CONFIGURATION
        if child.hopeless:
            log.error("%s cannot run with this configuration: mend it, then restart the node", child.name)
        else:
            log.error("%s ended with code %d; it is started again in %.1f s", child.name, code, child.pause)
