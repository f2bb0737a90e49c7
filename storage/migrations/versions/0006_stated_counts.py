"""Whether the numbers of images that headers state can be relied on is learned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "stated_count",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("protocol", sa.Text(), nullable=False),
        sa.Column("kept", sa.Double(), nullable=False),
        sa.Column("broken", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("source", "protocol"),
    )
