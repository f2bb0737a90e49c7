"""What sources have and say: notices, looks, absences, and the pace at which they send."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=False)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "notice", _text("sop_instance_uid"), _text("kind"), _text("state"), _text("peer"), _text("study_uid"),
        _text("modality"), _time("told_at"), _time("changed_at"), sa.PrimaryKeyConstraint("sop_instance_uid"),
    )  # fmt: skip
    op.create_index(op.f("ix_notice_study_uid"), "notice", ["study_uid"], unique=False)
    op.create_table(
        "noticed_object", _text("notice_uid"), _text("sop_instance_uid"), _text("series_uid"),
        sa.ForeignKeyConstraint(["notice_uid"], ["notice.sop_instance_uid"]),
        sa.PrimaryKeyConstraint("notice_uid", "sop_instance_uid"),
    )  # fmt: skip
    op.create_index(op.f("ix_noticed_object_series_uid"), "noticed_object", ["series_uid"], unique=False)
    op.create_table(
        "look", _text("peer"), _time("at"), _number("studies"), _number("lacking"), _number("fetched"), _text("why"),
        sa.PrimaryKeyConstraint("peer"),
    )  # fmt: skip
    op.create_table(
        "agreed", _text("peer"), _text("study_uid"), _number("instances"), _time("at"),
        sa.PrimaryKeyConstraint("peer", "study_uid"),
    )  # fmt: skip
    op.create_table(
        "absence", _text("peer"), _text("series_uid"), _text("study_uid"), _text("modality"), _number("expected"),
        _number("here"), _number("tries"), _time("seen_at"), _time("next_at"), _text("state"),
        sa.CheckConstraint("state IN ('waiting', 'given up', 'closed')", name="ck_absence_state"),
        sa.PrimaryKeyConstraint("peer", "series_uid"),
    )  # fmt: skip
    op.create_index(op.f("ix_absence_study_uid"), "absence", ["study_uid"], unique=False)
    op.create_table(
        "pause", _text("source"), _text("protocol"), _number("bin"), _time("series"),
        sa.PrimaryKeyConstraint("source", "protocol", "bin"),
    )  # fmt: skip
