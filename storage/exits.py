"""How a process that cannot go on ends: with a code that its supervisor knows and a sentence for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from storage.facts.errors import Misconfigured, NodeError

#: EX_CONFIG of sysexits.h: starting it again will not help until an operator has mended something.
CONFIGURATION = 78
#: EX_TEMPFAIL of sysexits.h: the same may succeed later.
TEMPORARY = 75


@contextmanager
def spoken(program: str = "") -> Iterator[None]:
    """End the process with one sentence on standard error, not with a traceback, when the node raised on purpose.

    ``program`` stands before the sentence. Raises SystemExit: :data:`CONFIGURATION`, or 1 for every other NodeError.
    """
    try:
        yield
    except NodeError as error:
        print(f"{program}: {error}" if program else error, file=sys.stderr)
        sys.exit(CONFIGURATION if isinstance(error, Misconfigured) else 1)
