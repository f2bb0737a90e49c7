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
from dicom_node.receive.stow import Stow
from dicom_node.supervisor import Supervisor
from storage.facts.errors import Transient

START_SECONDS = 60.0
Web = tuple[int, str]  #: a port for STOW-RS, and the SHA-256 of the token of who stores there


@contextmanager
def receiving(data: Path, port: int, durability: str, web: Web | None = None) -> Iterator[Scp]:
    """A receiver from its start, recovery included, to its stop; its index is a process of its own."""
    path = configure(data, port, durability, web)
    feed = Feed()
    index = Supervisor([index_child(path, feed)], lambda _pid: None)
    with _doors(load(path), feed) as (scp, stow):
        index.start()
        try:
            if feed.ask(Began(ae_title="DICOM_NODE"), START_SECONDS) is None:
                raise Transient("the index does not start")
            scp.start()
            stow.start()
            yield scp
        finally:
            scp.stop()
            stow.stop()
            feed.stop()
            index.stop()


@contextmanager
def listening(config: NodeConfig, feed: Feed) -> Iterator[Scp]:
    """The receiver and its feed; what listens to the feed is the caller's, and so is the start of the receiver."""
    with _doors(config, feed) as (scp, _):
        yield scp


@contextmanager
def _doors(config: NodeConfig, feed: Feed) -> Iterator[tuple[Scp, Stow]]:
    durable = config.receive.durability == "fdatasync"
    incoming = Incoming(config.node.data, durable=durable, refuse_below=2**20)
    incoming.sweep()
    feed.start()
    desk = FrontDesk(incoming, feed)
    yield Scp(config, desk, feed, lambda _kind, _information: 0), Stow(config, desk, incoming, feed.tell)


def configure(data: Path, port: int, durability: str, web: Web | None = None) -> Path:
    """Write the settings of such a receiver into its folder."""
    path = data / "node.toml"
    settings = {"port": port, "bind": "127.0.0.1", "data": str(data)}
    data.mkdir(parents=True, exist_ok=True)
    # A JSON string or number is also a TOML one.
    lines = ["[node]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items()), "[receive]"]
    lines += ["accept_unknown_peers = true", "refuse_below_mb = 1", f"durability = {json.dumps(durability)}"]
    if web is not None:
        client = f'{{ae_title = "BENCHMARK", token_sha256 = "{web[1]}"}}'
        lines += ["[stow]", f"port = {web[0]}", "clear = true", f"clients = [{client}]"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Receive into the folder, on the port and with the durability that the command line gives, until SIGTERM.

    A second port and the digest of a token, where they are given, are for STOW-RS.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    folder, port, durability, *web = sys.argv[1:]
    with receiving(Path(folder), int(port), durability, (int(web[0]), web[1]) if web else None):
        stop.wait()
