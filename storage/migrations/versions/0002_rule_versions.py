"""Rules become versioned sets; derived facts are kept with their series."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_URGENCIES = ("ROUTINE", "HIGH", "STAT")


def upgrade() -> None:
    """Create the tables of versions, draft and facts; what stands in ``rule`` becomes version 1."""
    versions = op.create_table(
        "rule_version",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("approver", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("restores", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "rule_draft",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("authors", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("proposed", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_rule_draft_single"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "series_fact",
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("derivation", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["series_uid"], ["series.series_uid"]),
        sa.PrimaryKeyConstraint("series_uid"),
    )
    op.add_column("decision", sa.Column("version", sa.BigInteger(), nullable=True))
    op.add_column("decision", sa.Column("shadow", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index("ix_decision_at", "decision", ["at"], unique=False)
    _convert(versions)
    op.drop_table("rule")


def _convert(versions: sa.Table) -> None:
    connection = op.get_bind()
    rules = sa.table(
        "rule",
        sa.column("name", sa.Text()),
        sa.column("position", sa.BigInteger()),
        sa.column("enabled", sa.Boolean()),
        sa.column("expression", sa.Text()),
        sa.column("package", sa.Text()),
        sa.column("destinations", sa.JSON()),
        sa.column("urgency", sa.BigInteger()),
    )
    rows = connection.execute(sa.select(rules).order_by(rules.c.position, rules.c.name)).mappings().all()
    if rows:
        document = {"match": "all", "approval": False, "rules": [_rule(row) for row in rows]}
        connection.execute(
            versions.insert().values(
                number=1,
                document=document,
                author="migration",
                approver="",
                reason="the rules that were in force before rule sets had versions",
                restores=None,
                at=time.time(),
            )
        )


def _rule(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "name": row["name"],
        "when": row["expression"],
        "model": row["package"],
        "to": row["destinations"],
        "urgency": _URGENCIES[row["urgency"]],
        "enabled": row["enabled"],
        "shadow": False,
        "late": "rerun",
    }
