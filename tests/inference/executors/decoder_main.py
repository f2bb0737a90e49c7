"""A decoder that dies of what lies in a folder ``crash`` and hangs over what lies in ``hang``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from inference.executors import decoder
from inference.imaging.decoded import decode


def odd(path: Path, decoded: Path) -> int:
    """As foreign decoders do."""
    if path.parent.name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.parent.name == "hang":
        time.sleep(600)
    return decode(path, decoded)


if __name__ == "__main__":
    decoder.decode = odd
    sys.exit(decoder.main())
