"""Ends a child process when its parent is gone, however the parent ended.

The parent keeps the writing end of a pipe to the child's standard input and never writes. When the parent dies, killed
or not, the kernel closes it, and the child reads end-of-file.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE_SECONDS = 5.0  #: to finish a transaction; what is unfinished then is done again by whoever comes next


def hold(stop: threading.Event) -> None:
    """Set ``stop`` on SIGTERM, on SIGINT, or when the parent is gone; in the last case leave after a grace time."""

    def ask(_signal: int, _frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, signal.SIG_IGN if not sys.stdin.isatty() else ask)
    if sys.stdin.isatty():
        return  # started by hand

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        stop.set()
        time.sleep(GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
