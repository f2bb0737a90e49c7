"""The receiving process: SCP, index, clock, and the supervisor of the processes that do the rest.

It never loads torch or highdicom: what it holds in memory is bounded, whatever is sent.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.deliver.stage import take_reports
from dicom_node.receive.assembly import expect
from dicom_node.receive.index import Index
from dicom_node.receive.intake import FrontDesk
from dicom_node.receive.landing import Incoming
from dicom_node.receive.scp import Scp
from dicom_node.supervisor import Child, Supervisor
from dicom_node.wiring import completeness_of
from storage.facts.errors import Misconfigured, Transient
from storage.ledger import Ledger, this_host

log = logging.getLogger(__name__)

ACTOR = "node"


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
        self.ledger = Ledger(config.node.data, config.database_url(), migrate_apart=True)
        receive = config.receive
        incoming = Incoming(
            config.node.data,
            durable=receive.durability == "fdatasync",
            refuse_below=receive.refuse_below_mb * 2**20,
        )
        self._incoming = incoming
        self._index = Index(self.ledger, expect(completeness_of(config)), durable=incoming.durable)
        self.desk = FrontDesk(incoming, self._index)
        self.scp = Scp(config, self.desk, self._index, take_reports(self.ledger, ACTOR))
        self._clock = Clock(self.ledger, config.upkeep)
        self._supervisor = Supervisor(_children(config, path), self._died)

    def start(self) -> None:
        """Pick up what an earlier process left, then open for business."""
        with self.ledger.begin(ACTOR) as tx:
            left = tx.queue.orphan(f"{this_host()}:")
            tx.trail.append("node started", ae_title=self._config.node.ae_title)
        self._incoming.sweep()
        entered = self._index.recover(self._incoming.folder)
        if left or entered:
            log.info("picked up from an earlier run: %d tasks, %d received objects", left, entered)
        self._index.start()
        self._supervisor.start()
        self._clock.start()
        self.scp.start()
        node = self._config.node
        log.info("ready: %s listens on %s:%d, data in %s", node.ae_title, node.bind, self.scp.port, node.data)
        _write_ready(node.data, {"pid": os.getpid(), "port": self.scp.port, "streaming": self.scp.streaming})

    def stop(self) -> None:
        """Stop receiving, write what is known, end the children."""
        (self._config.node.data / "run" / "ready.json").unlink(missing_ok=True)
        self.scp.stop()
        self._index.stop()
        self._clock.stop()
        self._supervisor.stop()
        try:
            with self.ledger.begin(ACTOR) as tx:
                tx.trail.append("node stopped")
            self.ledger.checkpoint()
        except Transient as error:
            log.warning("the stop was not noted: %s", error)
        self.ledger.close()
        self._lock.close()
        log.info("stopped")

    def _died(self, pid: int) -> None:
        """A child is gone: nobody needs to wait for its leases."""
        try:
            with self.ledger.begin(ACTOR) as tx:
                tx.queue.orphan(f"{this_host()}:{pid}")
        except Transient as error:
            log.warning("the tasks of process %d wait for their leases to run out: %s", pid, error)


def serve(config: NodeConfig, path: Path) -> None:
    """Run the node until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    node = Node(config, path)
    try:
        node.start()
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
    threads = config.workers.threads or max((os.cpu_count() or 1) // config.workers.count, 1)
    values: dict[str, Any] = {
        "data": str(config.node.data),
        "database": config.database_url(),
        "models": str(config.workers.models),
        "threads": threads,
        "device": config.workers.device,
        "log_level": config.log.level,
    }
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
