"""Rules choose among the series of a study; earlier studies of a patient are found by a digest."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_AT_ONCE = 500  #: series whose digest is written together


def upgrade() -> None:
    """Create the table of choices; the patient's digest is added to what is known of each series."""
    op.create_table(
        "choice",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("explanation", sa.JSON(), nullable=False),
        sa.Column("rules_version", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint("outcome IN ('chosen', 'stands', 'none')", name="ck_choice_outcome"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(op.f("ix_choice_study_uid"), "choice", ["study_uid"], unique=False)
    op.create_index(op.f("ix_choice_run"), "choice", ["run"], unique=False)
    op.add_column("series_fact", sa.Column("patient", sa.Text(), nullable=True))
    op.create_index(op.f("ix_series_fact_patient"), "series_fact", ["patient"], unique=False)
    _note_patients()


def _note_patients() -> None:
    connection = op.get_bind()
    facts = sa.table("series_fact", sa.column("series_uid", sa.Text()), sa.column("patient", sa.Text()))
    series = sa.table("series", sa.column("series_uid", sa.Text()), sa.column("header", sa.JSON()))
    known = list(connection.scalars(sa.select(facts.c.series_uid)))
    for start in range(0, len(known), _AT_ONCE):
        query = sa.select(series).where(series.c.series_uid.in_(known[start : start + _AT_ONCE]))
        found = [(row.series_uid, _digest(row.header)) for row in connection.execute(query)]
        change = facts.update().where(facts.c.series_uid == sa.bindparam("uid")).values(patient=sa.bindparam("digest"))
        rows = [{"uid": uid, "digest": digest} for uid, digest in found if digest]
        if rows:
            connection.execute(change, rows)


def _digest(header: dict[str, Any]) -> str | None:
    """As storage.facts.routing.patient_digest was when this was written."""
    identifier, issuer = (header.get(keyword) for keyword in ("PatientID", "IssuerOfPatientID"))
    if not isinstance(identifier, str) or not identifier.strip():
        return None
    named = issuer.strip() if isinstance(issuer, str) else ""
    return hashlib.sha256(f"{named}\0{identifier.strip()}".encode()).hexdigest()[:32]
