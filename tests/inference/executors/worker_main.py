"""A worker whose slots know the stand-ins, as a process of its own."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

from inference.config import load
from inference.worker import Worker
from storage.ledger import Ledger
from storage.lifeline import hold
from tests.inference.executors.rig import SLOT

if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    stop = threading.Event()
    hold(stop)
    config = load(Path(sys.argv[1]))
    ledger = Ledger(config.data, config.database)
    worker = Worker(config, ledger, SLOT)
    worker.register()
    worker.run(stop)
    ledger.close()
