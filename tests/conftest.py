"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on embedded SQLite in a folder of its own."""
    made = Ledger(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real studies beside the checkout; tests that want them are skipped elsewhere."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real studies are not here")
    return folder
