"""``python -m inference``: a worker process. ``check`` verifies the packages and says what is wrong."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from inference.bringing.command import main as models
from inference.config import WorkerConfig, load
from storage.exits import spoken
from storage.facts.errors import Misconfigured


def main() -> int:
    """Run a worker until it is told to stop, or do one of the ``models`` commands."""
    if sys.argv[1:2] == ["models"]:
        return models(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m inference", description="A worker: runs models on complete series."
    )
    parser.add_argument("command", nargs="?", choices=("work", "check"), default="work")
    parser.add_argument("-c", "--config", type=Path, required=True, help="worker.toml: data, database, models, device")
    arguments = parser.parse_args()
    with spoken():
        config = load(arguments.config)
        logging.basicConfig(
            level=config.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
        )
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote element values
        if arguments.command == "check":
            return _check(config)
        return _work(config)


def _check(config: WorkerConfig) -> int:
    from inference.packages.store import store_of  # argument errors should not wait for it

    store = store_of(config)
    for package in store.packages:
        print(
            f"ok    {package.manifest.id}@{package.manifest.version}  {package.digest[:12]}  {package.manifest.title}"
        )
    for fault in store.faults:
        print(f"wrong {fault}")
    faults = list(_check_slots(config))
    for fault in faults:
        print(f"fault {fault}")
    return 1 if store.faults or faults else 0


def _check_slots(config: WorkerConfig) -> Iterator[str]:
    from inference.executors.inspection import slots

    try:
        for one in slots(config):
            if one.fault:
                yield one.fault
            else:
                print(f"slot  {one.device}  {one.memory >> 20} MB  {one.name}")
    except Misconfigured as error:
        yield str(error)


def _work(config: WorkerConfig) -> int:
    from inference.worker import ACTOR, Worker
    from storage.ledger import Ledger
    from storage.lifeline import hold

    stop = threading.Event()
    hold(stop)
    ledger = Ledger(config.data, config.database)
    try:
        worker = Worker(config, ledger)
        worker.register()
        logging.getLogger(ACTOR).info("ready")
        worker.run(stop)
    finally:
        ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
