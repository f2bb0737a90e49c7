"""What the tests of the executor share."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.ledger import Ledger
from tests.inference.executors.rig import Rig


@pytest.fixture
def rig(ledger: Ledger, tmp_path: Path) -> Rig:
    """An empty ledger, no packages yet."""
    (tmp_path / "models").mkdir()
    return Rig(ledger=ledger, models=tmp_path / "models", journal=tmp_path / "journal")
