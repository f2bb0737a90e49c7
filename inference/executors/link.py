"""One slot process as the worker holds it: started, spoken to, watched, killed."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from inference.executors import parcel

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-X", "faulthandler", "-m", "inference.executors.slot")
LONGEST_MESSAGE = 64 * 2**20  #: bytes; arrays do not go through the pipe
END_SECONDS = 2.0  #: for a slot that was told to end


class Dead(Exception):
    """The process is gone: killed, crashed, or ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How slots are started."""

    limit: int  #: memory of the process, bytes
    threads: int  #: CPU threads for torch; 0: as many as it likes
    log_level: str
    command: Sequence[str] = COMMAND


class Link:
    """A running slot process and the pipe to it. Its standard input is its lifeline: closed, the kernel ends it."""

    def __init__(self, device: str, terms: Terms) -> None:
        ours, theirs = socket.socketpair()
        options = ["--device", device, "--limit", str(terms.limit), "--log-level", terms.log_level]
        command = [*terms.command, "--pipe", str(theirs.fileno()), "--threads", str(terms.threads), *options]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            process_group=0,  # a model may start processes of its own: they are killed with it
        )
        theirs.close()
        self._pipe = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, message: object) -> None:
        """Say something. Raises Dead when nobody is there to hear it."""
        try:
            self._pipe.send_bytes(pickle.dumps(message, protocol=5))
        except OSError as error:
            raise Dead(self._ending()) from error

    def receive(self, seconds: float) -> Any:
        """What the slot says, None if it says nothing for so long. Raises Dead, Rejected when it is not understood."""
        try:
            if not self._pipe.poll(seconds):
                return None
            return parcel.hear(self._pipe.recv_bytes(LONGEST_MESSAGE))
        except (EOFError, OSError) as error:
            raise Dead(self._ending()) from error

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it now, with everything that it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._close()

    def end(self) -> None:
        """Let it end by itself; a slot that does not is killed."""
        self._pipe.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def _close(self) -> None:
        self._process.wait()
        self._pipe.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _ending(self) -> str:
        """How the process ended, in words."""
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if code >= 0:
            return f"it ended with code {code}"
        try:
            return f"it was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"it was ended by signal {-code}"
