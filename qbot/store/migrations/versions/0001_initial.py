"""initial"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "alerts",
        sa.Column(
            "alert_id", sa.Text(), nullable=False, comment="deterministic: the same trouble alerts once a period"
        ),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("triggered_at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acknowledged", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
    )
    op.create_index(op.f("ix_alerts_expires_at_wall"), "alerts", ["expires_at_wall"], unique=False)
    op.create_table(
        "bars",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("ts", sa.DateTime(timezone=True), nullable=False, comment="start of the bar"),
        sa.Column("open", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("close", sa.Float(), nullable=False),
        sa.Column("volume", sa.Float(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "ts", name=op.f("pk_bars")),
    )
    op.create_index(op.f("ix_bars_ts"), "bars", ["ts"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("cycle_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("numbers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "signal",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="the signal with its reasons, as the gate saw it",
        ),
        sa.Column("forecast_id", sa.Text(), nullable=True),
        sa.Column("settings_revision", sa.BigInteger(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decisions")),
    )
    op.create_index(op.f("ix_decisions_decided_at"), "decisions", ["decided_at"], unique=False)
    op.create_table(
        "equity",
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("equity_usd", sa.Numeric(precision=20, scale=6), nullable=False),
        sa.Column("cash_usd", sa.Numeric(precision=20, scale=6), nullable=False),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_equity")),
    )
    op.create_table(
        "fills",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("broker_order_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("qty", sa.Numeric(precision=20, scale=6), nullable=False),
        sa.Column("price_usd", sa.Numeric(precision=20, scale=6), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_fills")),
    )
    op.create_index(op.f("ix_fills_at"), "fills", ["at"], unique=False)
    op.create_table(
        "handled",
        sa.Column("kind", sa.Text(), nullable=False, comment="emergency|manual_order"),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("outcome", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_handled")),
        comment="what a frontend asked for once and must never be done twice",
    )
    op.create_table(
        "orders",
        sa.Column("broker_order_id", sa.Text(), nullable=False),
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("time_in_force", sa.Text(), nullable=False),
        sa.Column("qty", sa.Numeric(precision=20, scale=6), nullable=False),
        sa.Column("filled_qty", sa.Numeric(precision=20, scale=6), nullable=False),
        sa.Column("filled_avg_price_usd", sa.Numeric(precision=20, scale=6), nullable=True),
        sa.Column("limit_price_usd", sa.Numeric(precision=20, scale=6), nullable=True),
        sa.Column("stop_price_usd", sa.Numeric(precision=20, scale=6), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("broker_order_id", name=op.f("pk_orders")),
        sa.UniqueConstraint("client_order_id", name=op.f("uq_orders_client_order_id")),
    )
    op.create_index(op.f("ix_orders_created_at"), "orders", ["created_at"], unique=False)
    op.create_index(op.f("ix_orders_status"), "orders", ["status"], unique=False)
    op.create_table(
        "settings_revisions",
        sa.Column("revision", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("effective", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("made_at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_settings_revisions")),
    )
    op.create_table(
        "switch",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("on", sa.Boolean(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("latched", sa.Boolean(), nullable=False, comment="emergency stop: trading needs a human's new start"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "seen",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="fingerprints of the inputs last acted upon",
        ),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="grows with every change; intents name theirs"),
        sa.Column("changed_at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("one", name=op.f("ck_switch_one_row")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_switch")),
    )
    op.create_table(
        "switch_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_switch_log")),
    )
    op.create_table(
        "task_ticks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="wall time"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_task_ticks")),
    )
    op.create_table(
        "trainings",
        sa.Column("training_id", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="running|success|failed"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at_wall", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stats", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("training_id", name=op.f("pk_trainings")),
    )
    op.create_table(
        "artifacts",
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("horizon_minutes", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("features", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("metrics", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("skilled", sa.Boolean(), nullable=False),
        sa.Column("training_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("standing", sa.Boolean(), nullable=False, comment="serves forecasts; one a horizon"),
        sa.ForeignKeyConstraint(["training_id"], ["trainings.training_id"], name=op.f("fk_artifacts_training_id")),
        sa.PrimaryKeyConstraint("artifact_id", name=op.f("pk_artifacts")),
    )
    op.create_index(
        "uq_artifacts_standing", "artifacts", ["horizon_minutes"], unique=True, postgresql_where=sa.text("standing")
    )
    op.create_table(
        "intents",
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="entry|exit"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("qty", sa.Numeric(precision=20, scale=6), nullable=False),
        sa.Column(
            "reserved_usd",
            sa.Numeric(precision=20, scale=6),
            nullable=False,
            comment="what the caps count until the order is closed",
        ),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "status", sa.Text(), nullable=False, comment="committed|in_doubt|sent|rejected|denied|closed|abandoned"
        ),
        sa.Column("broker_order_id", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("market_day", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at_wall", sa.DateTime(timezone=True), nullable=False),
        sa.Column("switch_epoch", sa.BigInteger(), nullable=False),
        sa.Column("filled_usd", sa.Numeric(precision=20, scale=6), server_default="0", nullable=False),
        sa.Column("closed_at_wall", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.decision_id"], name=op.f("fk_intents_decision_id")),
        sa.PrimaryKeyConstraint("client_order_id", name=op.f("pk_intents")),
    )
    op.create_index(op.f("ix_intents_market_day_symbol"), "intents", ["market_day", "symbol"], unique=False)
    op.create_index(
        "ix_intents_unsettled",
        "intents",
        ["status"],
        unique=False,
        postgresql_where=sa.text("status IN ('committed', 'in_doubt', 'sent')"),
    )
    op.create_table(
        "forecasts",
        sa.Column("forecast_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("horizon_minutes", sa.Integer(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("eta", sa.DateTime(timezone=True), nullable=False),
        sa.Column("current_price_usd", sa.Float(), nullable=False),
        sa.Column("return_pct", sa.Float(), nullable=False),
        sa.Column("low_return_pct", sa.Float(), nullable=False),
        sa.Column("high_return_pct", sa.Float(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("skilled", sa.Boolean(), nullable=False),
        sa.Column("actual_price_usd", sa.Float(), nullable=True, comment="known once matured"),
        sa.Column("matured_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.artifact_id"], name=op.f("fk_forecasts_artifact_id")),
        sa.PrimaryKeyConstraint("forecast_id", name=op.f("pk_forecasts")),
    )
    op.create_index(op.f("ix_forecasts_issued_at"), "forecasts", ["issued_at"], unique=False)
    op.create_index(
        "ix_forecasts_pending", "forecasts", ["eta"], unique=False, postgresql_where=sa.text("matured_at IS NULL")
    )


def downgrade() -> None:

    op.drop_index("ix_forecasts_pending", table_name="forecasts", postgresql_where=sa.text("matured_at IS NULL"))
    op.drop_index(op.f("ix_forecasts_issued_at"), table_name="forecasts")
    op.drop_table("forecasts")
    op.drop_index(
        "ix_intents_unsettled",
        table_name="intents",
        postgresql_where=sa.text("status IN ('committed', 'in_doubt', 'sent')"),
    )
    op.drop_index(op.f("ix_intents_market_day_symbol"), table_name="intents")
    op.drop_table("intents")
    op.drop_index("uq_artifacts_standing", table_name="artifacts", postgresql_where=sa.text("standing"))
    op.drop_table("artifacts")
    op.drop_table("trainings")
    op.drop_table("task_ticks")
    op.drop_table("switch_log")
    op.drop_table("switch")
    op.drop_table("settings_revisions")
    op.drop_index(op.f("ix_orders_status"), table_name="orders")
    op.drop_index(op.f("ix_orders_created_at"), table_name="orders")
    op.drop_table("orders")
    op.drop_table("handled")
    op.drop_index(op.f("ix_fills_at"), table_name="fills")
    op.drop_table("fills")
    op.drop_table("equity")
    op.drop_index(op.f("ix_decisions_decided_at"), table_name="decisions")
    op.drop_table("decisions")
    op.drop_index(op.f("ix_bars_ts"), table_name="bars")
    op.drop_table("bars")
    op.drop_index(op.f("ix_alerts_expires_at_wall"), table_name="alerts")
    op.drop_table("alerts")
