"""what became of each artifact: its trial, its verdict, whether it can be loaded; every change of what serves"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    trial = "how many of its horizon there were, with it"
    op.add_column("artifacts", sa.Column("trial", sa.Integer(), server_default="1", nullable=False, comment=trial))
    op.add_column("artifacts", sa.Column("verdict", postgresql.JSONB(), comment="of its promotion, with the numbers"))
    unusable = "why it cannot be loaded; null when it can"
    op.add_column("artifacts", sa.Column("unusable", sa.Text(), comment=unusable))
    op.execute(
        """UPDATE artifacts SET trial = counted.number FROM (
            SELECT artifact_id, row_number() OVER (PARTITION BY horizon_minutes ORDER BY created_at, artifact_id) number
            FROM artifacts) counted
        WHERE counted.artifact_id = artifacts.artifact_id"""
    )
    op.create_table(
        "artifact_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("horizon_minutes", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False, comment="stands|refused|demoted|rolled_back"),
        sa.Column("before_id", sa.Text(), comment="what stood; null: nothing did"),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("at_wall", Time, nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.artifact_id"], name=op.f("fk_artifact_log_artifact_id")),
        sa.ForeignKeyConstraint(["before_id"], ["artifacts.artifact_id"], name=op.f("fk_artifact_log_before_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_log")),
        comment="every verdict, and every change of what serves",
    )
    op.create_index(op.f("ix_artifact_log_artifact_id"), "artifact_log", ["artifact_id"])


def downgrade() -> None:
    op.drop_table("artifact_log")
    for name in ("unusable", "verdict", "trial"):
        op.drop_column("artifacts", name)
