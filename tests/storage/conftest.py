"""The books are tested on both databases."""

from __future__ import annotations

import pytest

from storage.ledger import Ledger


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    """A ledger on SQLite, then one on PostgreSQL."""
    return any_ledger
