"""A slot that knows the stand-ins; its device ``shaky:FILE`` works only while that file is there."""

from __future__ import annotations

import sys
from pathlib import Path

from inference.executors import slot
from inference.executors.device import Device, Processor
from storage.facts.errors import Misconfigured
from tests.inference.executors.standins import register

_open = slot.open_device


def open_device(name: str, limit: int) -> Device:
    """The CPU under another name."""
    if not name.startswith("shaky:"):
        return _open(name, limit)
    if not Path(name.removeprefix("shaky:")).exists():
        raise Misconfigured("there is no such device")
    return Processor(limit)


if __name__ == "__main__":
    register()
    slot.open_device = open_device
    sys.exit(slot.main())
