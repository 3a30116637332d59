"""the risk engine: its log, its memory, and circuit breakers that stand until a human resumes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
SWITCH = {"breaker": "latched by a circuit breaker", "reducing": "the cycles' exits go on"}


def upgrade() -> None:
    for name, comment in SWITCH.items():
        off = sa.text("false")
        op.add_column("switch", sa.Column(name, sa.Boolean(), server_default=off, nullable=False, comment=comment))
    op.create_table(
        "risk_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("at_wall", Time, nullable=False),
        sa.Column("risk_factor", sa.Numeric(6, 4), nullable=False),
        sa.Column("reasons", postgresql.JSONB(), nullable=False),
        sa.Column("tripped", postgresql.JSONB(), nullable=False),
        sa.Column("rolling_loss_pct", sa.Numeric(9, 6), nullable=False),
        sa.Column("drawdown_pct", sa.Numeric(9, 6), nullable=False),
        sa.Column("numbers", postgresql.JSONB(), nullable=False, comment="what was measured"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_risk_log")),
        comment="every change of factor, reasons or breakers",
    )
    op.create_index(op.f("ix_risk_log_at"), "risk_log", ["at"])
    op.create_table(
        "risk_state",
        sa.Column("one", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("looked_at", Time, nullable=False),
        sa.Column("looked_at_wall", Time, nullable=False),
        sa.Column("peak_usd", sa.Numeric(20, 6), comment="the highest confirmed equity since the baseline"),
        sa.Column("baseline_at", Time, comment="losses, rejections and trades count from here: the last resume"),
        sa.Column("lasting", postgresql.JSONB(), nullable=False, comment="since when trouble lasts, by name"),
        sa.Column("report", postgresql.JSONB(), comment="what the engine said last"),
        sa.CheckConstraint("one", name=op.f("ck_risk_state_one_row")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_risk_state")),
    )
    op.create_table(
        "breakers",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tripped_at", Time, nullable=False),
        sa.Column("tripped_at_wall", Time, nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("advice", sa.Text(), nullable=False),
        sa.Column("numbers", postgresql.JSONB(), nullable=False),
        sa.Column("resumed_at", Time, comment="null while it stands"),
        sa.Column("resumed_at_wall", Time),
        sa.Column("resumed_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_breakers")),
    )
    standing = sa.text("resumed_at IS NULL")
    op.create_index("uq_breakers_standing", "breakers", ["name"], unique=True, postgresql_where=standing)


def downgrade() -> None:
    for table in ("breakers", "risk_state", "risk_log"):
        op.drop_table(table)
    for name in SWITCH:
        op.drop_column("switch", name)
