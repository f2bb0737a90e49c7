"""A stand-in PACS for the tests of delivery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.demo.pacs import StandInPacs


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandInPacs]:
    """Up and well-behaved until told otherwise."""
    with StandInPacs(tmp_path / "pacs") as running:
        yield running
