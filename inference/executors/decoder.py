"""A process that decodes compressed objects while others of their series still arrive: see ``ahead``.

Decoders are foreign code and are fed what strangers send: a crash or a hang ends this process alone. It runs when
nothing else wants the processor.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path

from inference.executors import vitals
from inference.imaging.decoded import decode
from inference.imaging.irregular import Irregular
from storage.facts.errors import Transient

log = logging.getLogger(__name__)

NICENESS = 10  #: receiving and running models go first


class Said(StrEnum):
    """How the decoding of an object ended."""

    DONE = "done"
    NOT = "not"  #: a run will say why
    NO_ROOM = "no room"


def main(arguments: Sequence[str] | None = None) -> int:
    """Decode what comes through the pipe, an object after the other, until the worker ends."""
    parser = argparse.ArgumentParser(prog="python -m inference.executors.decoder", description="Started by the worker.")
    parser.add_argument("--pipe", type=int, required=True, help="descriptor of the pipe to the worker")
    parser.add_argument("--folder", type=Path, required=True, help="for the decoded pixels")
    given = parser.parse_args(arguments)
    vitals.die_with(sys.stdin.fileno())
    vitals.offer_to_the_killer()
    os.nice(NICENESS)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote element values
    pipe = Connection(given.pipe)
    while True:
        try:
            path = Path(os.fsdecode(pipe.recv_bytes()))
            pipe.send_bytes(_decoded(path, given.folder).encode("ascii"))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return 0


def _decoded(path: Path, folder: Path) -> Said:
    try:
        decode(path, folder)
    except Irregular as error:
        log.debug("%s is not decoded ahead: %s", path.name, error)
        return Said.NOT
    except Transient as error:
        log.warning("%s is not decoded ahead: %s", path.name, error)
        return Said.NO_ROOM
    return Said.DONE


if __name__ == "__main__":
    sys.exit(main())
