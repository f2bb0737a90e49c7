"""The node's receiving side alone, with its ledger and without the stages: what ``bench ingest`` and tests start."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.config import NodeConfig, load
from dicom_node.node import index_child
from dicom_node.receive.events import Began
from dicom_node.receive.feed import Feed
from dicom_node.receive.intake import FrontDesk
from dicom_node.receive.landing import Incoming
from dicom_node.receive.scp import Scp
from dicom_node.supervisor import Supervisor
from storage.facts.errors import Transient

START_SECONDS = 60.0


@contextmanager
def receiving(data: Path, port: int, durability: str) -> Iterator[Scp]:
    """A receiver from its start, recovery included, to its stop; its index is a process of its own."""
    path = configure(data, port, durability)
    feed = Feed()
    index = Supervisor([index_child(path, feed)], lambda _pid: None)
    with listening(load(path), feed) as scp:
        index.start()
        try:
            if feed.ask(Began(ae_title="DICOM_NODE"), START_SECONDS) is None:
                raise Transient("the index does not start")
            scp.start()
            yield scp
        finally:
            scp.stop()
            feed.stop()
            index.stop()


@contextmanager
def listening(config: NodeConfig, feed: Feed) -> Iterator[Scp]:
    """The receiver and its feed; what listens to the feed is the caller's, and so is the start of the receiver."""
    durable = config.receive.durability == "fdatasync"
    incoming = Incoming(config.node.data, durable=durable, refuse_below=2**20)
    incoming.sweep()
    feed.start()
    yield Scp(config, FrontDesk(incoming, feed), feed, lambda _kind, _information: 0)


def configure(data: Path, port: int, durability: str) -> Path:
    """Write the settings of such a receiver into its folder."""
    path = data / "node.toml"
    settings = {"port": port, "bind": "127.0.0.1", "data": str(data)}
    data.mkdir(parents=True, exist_ok=True)
    # A JSON string or number is also a TOML one.
    lines = ["[node]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items()), "[receive]"]
    lines += ["accept_unknown_peers = true", "refuse_below_mb = 1", f"durability = {json.dumps(durability)}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Receive into the folder, on the port and with the durability that the command line gives, until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with receiving(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]):
        stop.wait()
