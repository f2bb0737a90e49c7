"""The tables as declared and the tables as migrated are the same tables, on both databases."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from storage.ledger import Ledger
from storage.source_tables import Base


def differences(url: str) -> list[object]:
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, Base.metadata)
    engine.dispose()
    return list(found)


def test_migrating_an_empty_sqlite_gives_the_declared_tables(tmp_path: Path) -> None:
    Ledger(tmp_path).close()

    assert differences(f"sqlite:///{tmp_path / 'ledger.db'}") == []


def test_migrating_an_empty_postgresql_gives_the_declared_tables(tmp_path: Path, postgresql: str) -> None:
    Ledger(tmp_path, postgresql).close()

    assert differences(postgresql.replace("postgresql://", "postgresql+psycopg://")) == []
