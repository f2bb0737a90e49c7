"""Packages get a life: which version is in use, why it changed, proofs, retirement."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the tables; the newest version of each package is the one that was in use."""
    for name, kind in (
        ("origin", sa.Text()),
        ("signer", sa.Text()),
        ("files", sa.JSON()),
        ("report", sa.Text()),
        ("retired_at", sa.Double()),
        ("retired_reason", sa.Text()),
    ):
        op.add_column("package", sa.Column(name, kind, nullable=True))
    op.create_table(
        "release",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("package", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("move", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("restores", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint("move IN ('first', 'promoted', 'rolled back', 'withdrawn')", name="ck_release_move"),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_release_package"), "release", ["package"], unique=False)
    op.create_table(
        "proof",
        sa.Column("package", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["package", "version"], ["package.package", "package.version"]),
        sa.PrimaryKeyConstraint("package", "version", "device"),
    )
    _note_what_is_in_use()


def _note_what_is_in_use() -> None:
    connection = op.get_bind()
    package = sa.table(
        "package",
        sa.column("package", sa.Text()),
        sa.column("version", sa.Text()),
        sa.column("registered_at", sa.Double()),
    )
    release = sa.table(
        "release",
        sa.column("number", sa.BigInteger()), sa.column("package", sa.Text()), sa.column("version", sa.Text()),
        sa.column("move", sa.Text()), sa.column("reason", sa.Text()), sa.column("author", sa.Text()),
        sa.column("evidence", sa.JSON()), sa.column("at", sa.Double()),
    )  # fmt: skip
    rows = connection.execute(sa.select(package).order_by(package.c.registered_at)).all()
    newest = {row.package: row.version for row in rows}
    for number, (name, version) in enumerate(newest.items(), 1):
        values = {"number": number, "package": name, "version": version, "move": "first", "evidence": {}}
        values |= {"reason": "in use before versions were promoted", "author": "migration", "at": time.time()}
        connection.execute(release.insert().values(**values))
