"""what only the board knew: progress and outcome of trainings, quality of forecasts, the newest cycle"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    progress = sa.Column("progress", postgresql.JSONB(), comment="the last event of the training process")
    op.add_column("trainings", progress)
    op.add_column("trainings", sa.Column("begun", sa.Text(), comment="for a human: what it set out with"))
    op.add_column("trainings", sa.Column("outcome", sa.Text(), comment="for a human: what came of it"))
    known = sa.text("actual_price_usd IS NOT NULL")
    op.create_index("ix_forecasts_known", "forecasts", ["eta"], postgresql_where=known)
    op.create_table(
        "forecast_quality",
        sa.Column("at", Time, nullable=False),
        sa.Column("window_hours", sa.Float(), nullable=False),
        sa.Column("per_horizon", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_forecast_quality")),
    )
    op.create_table(
        "newest_cycle",
        sa.Column("one", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("ran_at", Time, nullable=False),
        sa.Column("error", sa.Text(), comment="why the cycle ended early; null when it did not"),
        sa.Column("worker_pid", sa.Integer(), nullable=False),
        sa.CheckConstraint("one", name=op.f("ck_newest_cycle_one_row")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_newest_cycle")),
    )


def downgrade() -> None:
    op.drop_table("newest_cycle")
    op.drop_table("forecast_quality")
    op.drop_index("ix_forecasts_known", table_name="forecasts")
    for name in ("outcome", "begun", "progress"):
        op.drop_column("trainings", name)
