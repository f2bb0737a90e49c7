"""``dicom-node`` and ``python -m dicom_node``."""

from __future__ import annotations

import sys

from dicom_node.cli import cli
from storage.facts.errors import Misconfigured, NodeError

CONFIGURATION = 78  # EX_CONFIG of sysexits


def main() -> None:
    """Run a command; what an administrator can act on is said in a sentence, not in a traceback."""
    try:
        cli(prog_name="dicom-node", standalone_mode=True)
    except Misconfigured as error:
        print(f"dicom-node: {error}", file=sys.stderr)
        sys.exit(CONFIGURATION)
    except NodeError as error:
        print(f"dicom-node: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
