"""The node's receiving side alone, with its ledger and without the stages: what ``bench ingest`` and tests start."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.config import NodeConfig
from dicom_node.receive.assembly import QuietTime, expect
from dicom_node.receive.index import Index
from dicom_node.receive.intake import FrontDesk
from dicom_node.receive.landing import Incoming
from dicom_node.receive.scp import Scp
from storage.ledger import Ledger


@contextmanager
def receiving(data: Path, port: int, durability: str) -> Iterator[Scp]:
    """A receiver from its start, recovery included, to its stop."""
    config = NodeConfig.model_validate(
        {
            "node": {"port": port, "bind": "127.0.0.1", "data": str(data)},
            "receive": {"accept_unknown_peers": True, "refuse_below_mb": 1, "durability": durability},
        }
    )
    ledger = Ledger(data)
    incoming = Incoming(data, durable=durability == "fdatasync", refuse_below=2**20)
    index = Index(ledger, expect(QuietTime(settings=config.receive)), durable=incoming.durable)
    scp = Scp(config, FrontDesk(incoming, index), index, lambda _kind, _information: 0)
    incoming.sweep()
    index.recover(incoming.folder)
    index.start()
    scp.start()
    try:
        yield scp
    finally:
        scp.stop()
        index.stop()
        ledger.close()


def main() -> None:
    """Receive into the folder, on the port and with the durability that the command line gives, until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with receiving(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]):
        stop.wait()
