"""A node and a stand-in PACS on this machine, for as long as the demo lasts."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dicom_node.config import NodeConfig, load
from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.dimse import Sent, check, send
from dicom_node.demo.pacs import StandInPacs
from dicom_node.demo.rules import BRAIN_T1, CHEST_CT
from storage import views
from storage.facts.errors import Misconfigured, NodeError, Transient
from storage.facts.routing import Rule
from storage.facts.study import Urgency
from storage.ledger import Ledger

NODE, PACS = "DICOM_NODE", "DEMO_PACS"
READY_SECONDS = 60.0

_TOML = """\
# Written by `dicom-node demo`. A node for one machine, with a stand-in PACS.
[node]
ae_title = "{node}"
bind = "127.0.0.1"
port = {node_port}
data = "data"
{database}

[receive]
refuse_below_mb = 200
quiet_seconds = 1

[[receive.peers]]
ae_title = "{pacs}"
addresses = ["127.0.0.1"]

[destinations.pacs]
ae_title = "{pacs}"
host = "127.0.0.1"
port = {port}
storage_commitment = true

[worklist]
ups_destination = "pacs"
research_may_raise = true

[workers]
models = {models}

[log]
format = "text"
"""


class Failed(NodeError):
    """The demo cannot go on; the text says what happened and where to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where one study stands."""

    received: int  #: objects that are in the ledger
    stage: str  #: what is being done, for people
    over: bool  #: nothing more will happen by itself
    failed: tuple[str, ...]  #: reasons of dead letters


class Session:
    """Use as a context manager. ``folder`` is emptied of an earlier session first; ``more`` is further TOML."""

    def __init__(
        self, folder: Path, models: Path, *, database: str | None = None, more: str = "", port: int = 0
    ) -> None:
        self.folder, self._models, self._database, self._more = folder, models, database, more
        self._node_port = port  # to listen on; 0 takes a free one
        self.path, self.log = folder / "node.toml", folder / "node.log"
        self.pacs = StandInPacs(folder / "pacs", ae_title=PACS)
        self.config: NodeConfig
        self.ledger: Ledger
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Session:
        self._clear()
        self.pacs.start()
        with ExitStack() as undone:
            undone.callback(self._stop)
            text = _TOML.format(
                node=NODE,
                pacs=PACS,
                port=self.pacs.port,
                node_port=self._node_port,
                models=json.dumps(str(self._models)),
                database="" if self._database is None else f"database = {json.dumps(self._database)}",
            )
            self.path.write_text(text + self._more, encoding="utf-8")
            self.config = load(self.path)
            self.start_node()
            self.ledger = Ledger(self.config.node.data, self.config.database_url())
            self._put_rules()
            undone.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _clear(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()) and not self.path.exists():
            raise Misconfigured(f"{self.folder} holds something else than a demo: give another --folder")
        for name in ("data", "pacs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.log.unlink(missing_ok=True)

    def start_node(self) -> None:
        """Start the node, and wait until it listens. Raises Failed when it does not."""
        ready = self.config.node.data / "run" / "ready.json"
        ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "dicom_node", "serve", "-c", str(self.path)]
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + READY_SECONDS
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise Failed(f"the node did not start: {self.last_log_line()} (its log: {self.log})")
            time.sleep(0.02)
        self.port = int(json.loads(ready.read_text(encoding="utf-8"))["port"])
        self.pacs.node = Destination(name="node", ae_title=NODE, host="127.0.0.1", port=self.port, calling_ae=PACS)

    def _put_rules(self) -> None:
        chest = CHEST_CT.replace(" && !is_phantom", "")  # the demo's chest is one
        with self.ledger.begin("demo") as tx:
            for name, expression, package in (
                ("brain-t1", BRAIN_T1, "brain-t1"),
                ("chest-ct", chest, "ct-lung-densitometry"),
            ):
                tx.catalogue.put_rule(
                    Rule(
                        name=name,
                        expression=expression,
                        package=package,
                        destinations=("pacs",),
                        urgency=Urgency.ROUTINE,
                    )
                )

    def last_log_line(self) -> str:
        """What the node said last."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"

    def send(self, files: Sequence[Outgoing], progress: Callable[[Sent], None] | None = None) -> None:
        """Send files to the node as the PACS would. Raises Failed when the node does not take them."""
        node = Destination(name="node", ae_title=NODE, host="127.0.0.1", port=self.port, calling_ae=PACS)
        try:
            check(send(files, node, progress), node)
        except (NodeError, Transient) as error:
            raise Failed(f"the node did not take the study: {error}") from error

    def alive(self) -> bool:
        """Whether the node still runs."""
        return self.process is not None and self.process.poll() is None

    def progress(self, study_uid: str) -> Progress:
        """Where a study stands."""
        with self.ledger.read() as session:
            tasks = views.tasks(session, study=study_uid, limit=10_000)
            series = views.study_series(session, study_uid)
        received = sum(s.instances for s in series)
        pending = [t for t in tasks if t.state in ("waiting", "running")]
        settled = bool(series) and all(s.complete_instances == s.instances for s in series)
        running = [t for t in pending if t.state == "running"] or pending
        stage = _STAGES.get(running[0].kind, running[0].kind) if running else "done" if settled else "receiving"
        return Progress(
            received=received,
            stage=stage,
            over=settled and not pending,
            failed=tuple(t.reason or "" for t in tasks if t.state == "failed"),
        )

    def _stop(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
        self.stop_node()
        self.pacs.stop()

    def stop_node(self) -> None:
        """End the node in good order."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


_STAGES = {
    "assemble": "is it complete?",
    "route": "routing",
    "choose": "which series?",
    "infer": "the model runs",
    "report": "writing SR and SEG",
    "deliver": "sending to the PACS",
    "commit": "storage commitment",
    "announce": "raising in the worklist",
}
