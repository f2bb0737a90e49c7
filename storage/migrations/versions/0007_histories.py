"""Results are found by series and by time; the rows of a large study are removed bit by bit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table and the indexes."""
    op.create_table(
        "removal",
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("instances", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid"),
    )
    op.create_index("ix_prediction_series", "prediction", ["series_uid", "package", "revision"])
    op.create_index("ix_prediction_made_at", "prediction", ["made_at"])
