"""The index process: what was received enters the ledger here, beside the receiving process, which has no SQL in it.

It is started by the node with a link as its standard input, and ends when the node closes it, however that came.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
import sys
from io import BytesIO
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import decode

from dicom_node import logs
from dicom_node.clock import Clock
from dicom_node.config import NodeConfig, load
from dicom_node.deliver.stage import UNKNOWN_TRANSACTION, take_reports
from dicom_node.receive.assembly import expect
from dicom_node.receive.feed import serve
from dicom_node.receive.index import Index, TakeReport
from dicom_node.unreadable import UNREADABLE
from dicom_node.wiring import completeness_of, looked_after
from storage.exits import spoken
from storage.ledger import Ledger

log = logging.getLogger(__name__)

ACTOR = "node"


def run(config: NodeConfig, link: socket.socket) -> None:
    """Keep the books until the node is gone; the clock ticks here, too."""
    ledger = Ledger(config.node.data, config.database_url(), migrate_apart=True)
    clock = Clock(ledger, config.upkeep, looked_after(config), config.reconcile.every_minutes)
    clock.start()
    gc.freeze()  # what a ledger loads lives on: looking through it again and again costs two fifths of the index's CPU
    try:
        index = index_of(config, ledger)
        index.resume()
        serve(link, index.take)
    finally:
        clock.stop()
        ledger.close()


def index_of(config: NodeConfig, ledger: Ledger) -> Index:
    """The index of this site."""
    durable = config.receive.durability == "fdatasync"
    return Index(ledger, expect(completeness_of(config)), durable, _reports(ledger))


def _reports(ledger: Ledger) -> TakeReport:
    take = take_reports(ledger, ACTOR)

    def read(event_type: int, data: bytes) -> int:
        try:
            information = decode(BytesIO(data), ExplicitVRLittleEndian.is_implicit_VR, True)
        except UNREADABLE as error:
            log.warning("a commitment report cannot be read (%s)", type(error).__name__)
            return UNKNOWN_TRANSACTION
        return take(event_type, information)

    return read


def _link() -> socket.socket:
    """Standard input, which is a socket here. Nobody else shall read from it."""
    link = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    return link


def main() -> None:
    """Run with the configuration file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", dest="path", type=Path, required=True)
    path: Path = parser.parse_args().path
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the node hears them, too, and still has something to tell
    with spoken("dicom-node"):
        config = load(path)
        logs.begin(config.log.level, config.log.format)
        run(config, _link())


if __name__ == "__main__":
    main()
