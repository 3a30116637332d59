"""Manual orders, user interface sessions, inputs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "input_sightings",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "elements",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="at the last look: only news is a heartbeat",
        ),
        sa.Column("seen_wall", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_input_sightings")),
    )
    op.create_table(
        "last_good_inputs",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("seen_wall", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_last_good_inputs")),
        comment="the last valid value of inputs that go on to matter while the key is invalid",
    )
    op.create_table(
        "manual_orders",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column(
            "number", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="in the order first seen"
        ),
        sa.Column(
            "body", sa.JSON(), nullable=False, comment="the order as first seen; json, not jsonb: kept as it came"
        ),
        sa.Column("first_seen_wall", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "final_shown_wall",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when its final status stood on the board; from then on it may go",
        ),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_manual_orders")),
        sa.UniqueConstraint("number", name=op.f("uq_manual_orders_number")),
        comment="what a frontend asked for by hand outlives the shared array it was read from",
    )
    op.create_index(
        "ix_manual_orders_owed",
        "manual_orders",
        ["number"],
        unique=False,
        postgresql_where=sa.text("final_shown_wall IS NULL"),
    )
    op.create_table(
        "ui_sessions",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("first_seen_wall", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_wall", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "ended_at_wall",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was found stale; a later write opens it again",
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_ui_sessions")),
    )
    op.create_index(op.f("ix_ui_sessions_last_seen_wall"), "ui_sessions", ["last_seen_wall"], unique=False)
    op.create_table(
        "training_requests",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("asked_at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.Column("training_id", sa.Text(), nullable=True, comment="null while it waits"),
        sa.ForeignKeyConstraint(
            ["training_id"], ["trainings.training_id"], name=op.f("fk_training_requests_training_id")
        ),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_training_requests")),
    )
    op.create_index(
        "ix_training_requests_waiting",
        "training_requests",
        ["asked_at_wall"],
        unique=False,
        postgresql_where=sa.text("training_id IS NULL"),
    )
    op.add_column(
        "alerts",
        sa.Column(
            "acknowledged_by",
            sa.Text(),
            nullable=True,
            comment="the UI session of the human who saw it, where it was named",
        ),
    )
    op.add_column("alerts", sa.Column("acknowledged_at_wall", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("alerts", "acknowledged_at_wall")
    op.drop_column("alerts", "acknowledged_by")
    op.drop_index(
        "ix_training_requests_waiting", table_name="training_requests", postgresql_where=sa.text("training_id IS NULL")
    )
    op.drop_table("training_requests")
    op.drop_index(op.f("ix_ui_sessions_last_seen_wall"), table_name="ui_sessions")
    op.drop_table("ui_sessions")
    op.drop_index(
        "ix_manual_orders_owed", table_name="manual_orders", postgresql_where=sa.text("final_shown_wall IS NULL")
    )
    op.drop_table("manual_orders")
    op.drop_table("last_good_inputs")
    op.drop_table("input_sightings")
