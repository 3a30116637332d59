"""how each artifact does day by day, alarms about it, and why a forecast matured without a price"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    why = "why it matured without a price: closed|no bar|split"
    op.add_column("forecasts", sa.Column("incomparable", sa.Text(), comment=why))
    op.create_table(
        "forecast_days",
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment="New York"),
        sa.Column("scaled", sa.Float(), nullable=False, comment="mean absolute error in half widths of the intervals"),
        sa.Column("naive", sa.Float(), nullable=False, comment="the same of no change"),
        sa.Column("outside", sa.Float(), nullable=False, comment="share outside the 80 % interval"),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False, comment="moments of issue"),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.artifact_id"], name=op.f("fk_forecast_days_artifact_id")),
        sa.PrimaryKeyConstraint("artifact_id", "day", name=op.f("pk_forecast_days")),
        comment="how each artifact did on each day whose forecasts have all matured",
    )
    later = "New York; the last one it is about. Later days count anew"
    op.create_table(
        "deviation_alarms",
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment=later),
        sa.Column("kind", sa.Text(), nullable=False, comment="drift|bound"),
        sa.Column("why", sa.Text(), nullable=False, comment="for a human"),
        sa.Column("numbers", postgresql.JSONB(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("at_wall", Time, nullable=False),
        sa.Column("training_id", sa.Text(), comment="null while none has answered"),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifacts.artifact_id"], name=op.f("fk_deviation_alarms_artifact_id")
        ),
        sa.ForeignKeyConstraint(
            ["training_id"], ["trainings.training_id"], name=op.f("fk_deviation_alarms_training_id")
        ),
        sa.PrimaryKeyConstraint("artifact_id", "day", name=op.f("pk_deviation_alarms")),
    )


def downgrade() -> None:
    op.drop_table("deviation_alarms")
    op.drop_table("forecast_days")
    op.drop_column("forecasts", "incomparable")
