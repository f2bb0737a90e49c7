"""Turns of the threads that receive, of which only a few work at a time.

Each call of the operating system lets go of the interpreter, and with many associations another thread takes it: some
40 changes of thread an object, for calls of a few microseconds. A thread that waits for its turn does not compete;
those that have one keep their caches. An association gives its turn back whenever it has to wait for its peer or for
the disk, so that a slow one holds up nobody.
"""

from __future__ import annotations

import os
from queue import SimpleQueue

MOST = 4  #: more threads than that only compete for the interpreter


class Turns:
    """So many threads work at a time; the others wait in ``take``, roughly in their order."""

    def __init__(self, number: int | None = None) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()  # a semaphore without Python's own overhead
        self.number = number or min(len(os.sched_getaffinity(0)) + 1, MOST)
        for _ in range(self.number):
            self._free.put(None)

    @property
    def free(self) -> int:
        """How many may be taken at once."""
        return self._free.qsize()

    def turn(self) -> Turn:
        """One association's part in it."""
        return Turn(self._free)


class Turn:
    """The turn of one association, taken and given by its own thread; both may be called twice.

    Without a queue it is never held.
    """

    __slots__ = ("_free", "held")

    def __init__(self, free: SimpleQueue[None] | None = None) -> None:
        self._free, self.held = free, False

    def take(self) -> None:
        """Wait until fewer than the allowed number work."""
        if not self.held and self._free is not None:
            self._free.get()
            self.held = True

    def give(self) -> None:
        """Let another one work."""
        if self.held and self._free is not None:
            self.held = False
            self._free.put(None)
