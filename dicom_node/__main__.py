"""``dicom-node`` and ``python -m dicom_node``."""

from __future__ import annotations

from dicom_node.cli import cli
from storage.exits import spoken


def main() -> None:
    """Run a command; what an administrator can act on is said in a sentence, not in a traceback."""
    with spoken("dicom-node"):
        cli(prog_name="dicom-node", standalone_mode=True)


if __name__ == "__main__":
    main()
