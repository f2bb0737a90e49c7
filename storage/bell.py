"""Wakes whoever waits for work, across threads and processes, so that hand-offs need no fast polling.

SQLite: a datagram to every socket in the installation's ``run`` folder. PostgreSQL: LISTEN / NOTIFY. A bell that is not
heard loses nothing: waiters look again after a second or so by themselves.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

CHANNEL = "dicom_node"
_PATH_LIMIT = 100  #: sockaddr_un holds 108 bytes


class Bell(Protocol):
    """Rung after a commit; waited for by the stages."""

    def ring(self) -> None:
        """Wake every waiter of this installation."""

    def wait(self, seen: int, timeout: float) -> int:
        """Return the number of rings once it differs from ``seen``, or after ``timeout`` seconds."""

    def close(self) -> None:
        """Stop listening."""


class _Rings:
    """The in-process half: a counter under a condition."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def ring(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, seen: int, timeout: float) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._count != seen, timeout)
            return self._count


class _Listener:
    """A thread that hears the other processes; started when somebody waits for the first time."""

    def __init__(self, listen: Callable[[], None]) -> None:
        self._listen = listen
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="bell", daemon=True)
                self._thread.start()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()


class SocketBell:
    """Datagrams between the processes of one machine."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._rings = folder, _Rings()
        # A path through a descriptor of the folder stays short wherever the folder lies.
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._name = f"{os.getpid()}-{id(self):x}.bell"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._address(self._name))
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._closed = threading.Event()
        self._listener = _Listener(self._listen)

    def _address(self, name: str) -> str:
        plain = str(self._folder / name)
        return plain if len(plain) <= _PATH_LIMIT else f"/proc/self/fd/{self._descriptor}/{name}"

    def ring(self) -> None:
        """Wake the waiters here, then those in the other processes; sockets nobody reads any more are removed."""
        self._rings.ring()
        for name in os.listdir(self._descriptor):
            if not name.endswith(".bell") or name == self._name:
                continue
            try:
                self._sender.sendto(b"!", self._address(name))
            except ConnectionRefusedError:
                (self._folder / name).unlink(missing_ok=True)
            except OSError:
                pass  # its buffer is full: it will wake anyway

    def wait(self, seen: int, timeout: float) -> int:
        """See Bell."""
        self._listener.start()
        return self._rings.wait(seen, timeout)

    def _listen(self) -> None:
        while not self._closed.is_set():
            readable, _, _ = select.select([self._socket], [], [], 0.5)
            if readable and not self._closed.is_set():
                self._socket.recv(16)
                self._rings.ring()

    def close(self) -> None:
        """Stop listening and remove the socket; a second call changes nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._listener.join()
        self._socket.close()
        self._sender.close()
        (self._folder / self._name).unlink(missing_ok=True)
        os.close(self._descriptor)


class PostgresBell:
    """LISTEN / NOTIFY through connections of its own; both are opened on first use."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect, self._rings = connect, _Rings()
        self._closed = threading.Event()
        self._listener = _Listener(self._listen)

    def ring(self) -> None:
        """Only the waiters here: the transaction itself has told the others (NOTIFY is sent at commit)."""
        self._rings.ring()

    def wait(self, seen: int, timeout: float) -> int:
        """See Bell."""
        self._listener.start()
        return self._rings.wait(seen, timeout)

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._rings.ring()  # what was told while nobody listened
                    while not self._closed.is_set():
                        for _ in connection.notifies(timeout=0.5, stop_after=1):
                            self._rings.ring()
            except OSError:
                time.sleep(1)

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._listener.join()
