"""The receiving process: SCP, feed of the index, and the supervisor of the processes that do the rest.

It never loads torch, highdicom or SQL: what it holds in memory is bounded, whatever is sent, and no fragment waits for
the ledger.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from dicom_node.config import NodeConfig, worker_settings
from dicom_node.receive.events import Began, Died, Reported, Stopped
from dicom_node.receive.feed import Feed
from dicom_node.receive.intake import FrontDesk
from dicom_node.receive.landing import Incoming
from dicom_node.receive.scp import Scp
from dicom_node.receive.stow import Stow
from dicom_node.supervisor import Child, Supervisor
from storage.facts.errors import Misconfigured

log = logging.getLogger(__name__)

START_SECONDS = 60.0  #: for the index to pick up what an earlier run left, before the SCP opens without it
REPORT_SECONDS = 10.0  #: for a commitment report to be written down, before the archive is told that it was not
PROCESSING_FAILURE = 0x0110  #: PS3.7 Annex C


def claim_folder(data: Path) -> IO[str]:
    """Take the data folder for this process. Raises Misconfigured when another node runs on it."""
    (data / "run").mkdir(parents=True, exist_ok=True)
    lock = (data / "run" / "node.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Misconfigured(f"another node runs on {data}: stop it, or give this one another node.data") from error
    return lock


class Node:
    """``dicom-node serve``: everything that runs, from start to stop."""

    def __init__(self, config: NodeConfig, path: Path) -> None:
        self._config = config
        self._lock = claim_folder(config.node.data)
        receive = config.receive
        self._incoming = Incoming(
            config.node.data,
            durable=receive.durability == "fdatasync",
            refuse_below=receive.refuse_below_mb * 2**20,
        )
        self._feed = Feed()
        self.desk = FrontDesk(self._incoming, self._feed)
        self.scp = Scp(config, self.desk, self._feed, self._report)
        self.stow = Stow(config, self.desk, self._incoming, self._feed.tell)
        self._index = Supervisor([index_child(path, self._feed)], self._died)
        self._supervisor = Supervisor(_children(config, path), self._died)

    def start(self, stop: threading.Event) -> None:
        """Pick up what an earlier process left, then open for business; not when ``stop`` is set meanwhile.

        Raises Misconfigured for a ledger, an address or a certificate that cannot be used.
        """
        (self._config.node.data / "run" / "ready.json").unlink(missing_ok=True)  # of a node that was killed
        self._incoming.sweep()
        self._feed.start()
        self._index.start()
        self._await_index(stop)
        if stop.is_set():
            return
        self._supervisor.start()
        self.scp.start()
        self.stow.start()
        node = self._config.node
        log.info("ready: %s listens on %s:%d, data in %s", node.ae_title, node.bind, self.scp.port, node.data)
        _write_ready(
            node.data,
            {"pid": os.getpid(), "port": self.scp.port, "stow": self.stow.port, "streaming": self.scp.streaming},
        )

    def _await_index(self, stop: threading.Event) -> None:
        """Have the ledger ready before anybody works on it; receiving can do without. Raises Misconfigured."""
        began = Began(ae_title=self._config.node.ae_title)
        waiting = threading.Thread(target=self._feed.ask, args=(began, START_SECONDS), daemon=True)
        waiting.start()
        until = time.monotonic() + START_SECONDS
        while waiting.is_alive() and time.monotonic() < until and not stop.is_set():
            waiting.join(0.05)
            if self._index.hopeless:
                raise Misconfigured("the ledger cannot be used: what is wrong with it was said above")
        if waiting.is_alive() and not stop.is_set():
            log.error("the ledger does not answer: objects are received all the same, and entered once it does")

    def stop(self) -> None:
        """Stop receiving, write what is known, end the children."""
        (self._config.node.data / "run" / "ready.json").unlink(missing_ok=True)
        self.stow.stop()
        self.scp.stop()
        self._supervisor.stop()
        self._feed.tell(Stopped())
        self._feed.stop()
        self._index.stop()
        self._lock.close()
        log.info("stopped")

    def _died(self, pid: int) -> None:
        """A child is gone: nobody needs to wait for its leases."""
        self._feed.tell(Died(pid=pid))

    def _report(self, event_type: int, information: Dataset) -> int:
        """Have a commitment report written down; the status that the archive is told."""
        data = encode(information, is_implicit_vr=False, is_little_endian=True)
        if data is None:
            log.warning("a commitment report cannot be passed on")
            return PROCESSING_FAILURE
        status = self._feed.ask(Reported(event_type=event_type, data=data), REPORT_SECONDS)
        return PROCESSING_FAILURE if status is None else status


def index_child(path: Path, feed: Feed) -> Child:
    """The process that enters what is received into the ledger."""
    command = [sys.executable, "-m", "dicom_node.bookkeeper", "-c", str(path)]
    return Child(name="index", command=command, link=feed.connect)


def serve(config: NodeConfig, path: Path) -> None:
    """Run the node until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    node = Node(config, path)
    try:
        node.start(stop)
        while not stop.wait(1.0):
            pass
    finally:
        node.stop()


def _children(config: NodeConfig, path: Path) -> list[Child]:
    stages = Child(name="stages", command=[sys.executable, "-m", "dicom_node", "stages", "-c", str(path)])
    if not config.workers.count:
        return [stages]
    worker = _write_worker_config(config)
    command = [sys.executable, "-m", "inference", "-c", str(worker)]
    return [stages, *(Child(name=f"worker {n + 1}", command=command) for n in range(config.workers.count))]


def _write_worker_config(config: NodeConfig) -> Path:
    """The workers' own settings, readable by this user alone: it may hold the database password."""
    values = worker_settings(config)
    path = config.node.data / "run" / "worker.toml"
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        # A JSON string or number is also a TOML one.
        file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in values.items() if value is not None)
    return path


def _write_ready(data: Path, facts: dict[str, Any]) -> None:
    part = data / "run" / "ready.part"
    part.write_text(json.dumps(facts), encoding="utf-8")
    part.replace(data / "run" / "ready.json")
