"""A database that cannot be opened is said so in a sentence, without what the address holds."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from storage.facts.errors import Misconfigured
from storage.ledger import Ledger


@pytest.mark.parametrize("url", ["", "secret", "postgresql//u:secret@h/d", "postgresql://u:secret@h:port/d"])
def test_an_address_that_cannot_be_read(tmp_path: Path, url: str) -> None:
    with pytest.raises(Misconfigured, match="postgresql://user@host/name") as told:
        Ledger(tmp_path, url or "://")
    assert "secret" not in str(told.value)


def test_another_database(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="must be SQLite or PostgreSQL"):
        Ledger(tmp_path, "oracle://u@h/d")


def test_postgresql_without_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'", name=name)
        return load(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Misconfigured, match="needs psycopg"):
        Ledger(tmp_path, "postgresql://u@h/d")
