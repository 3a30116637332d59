"""adjustment of bars, sessions that were answered, corporate actions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column(
        "bars", sa.Column("adjustment", sa.Text(), server_default="split", nullable=False, comment="split|raw")
    )
    op.create_check_constraint(op.f("ck_bars_adjustment"), "bars", "adjustment IN ('split', 'raw')")
    different = "volumes of different sources are not the same volume"
    op.alter_column("bars", "source", existing_type=sa.Text(), existing_nullable=False, comment=different)
    op.create_table(
        "bars_answered",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("begin", Time, nullable=False, comment="of the session"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("bars", sa.Integer(), nullable=False, comment="as many as it has of that session"),
        sa.Column("answered_at_wall", Time, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "begin", "source", name=op.f("pk_bars_answered")),
        comment="sessions with fewer bars than five minutes, of which a source has told all it has: not asked again",
    )
    op.create_index(op.f("ix_bars_answered_begin"), "bars_answered", ["begin"])
    op.create_table(
        "corporate_actions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("ex_day", sa.Date(), nullable=False, comment="the first day of the new shares, as far as bars tell"),
        sa.Column("kind", sa.Text(), nullable=False, comment="split|reverse_split"),
        sa.Column("ratio", sa.Numeric(12, 6), nullable=False, comment="new shares for an old one"),
        sa.Column("source", sa.Text(), nullable=False, comment="whose bars told of it"),
        sa.Column("bars", sa.Integer(), nullable=False, comment="that were put on the new scale"),
        sa.Column("noted_at", Time, nullable=False),
        sa.Column("noted_at_wall", Time, nullable=False),
        sa.CheckConstraint("ratio > 0 AND ratio <> 1", name=op.f("ck_corporate_actions_ratio")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corporate_actions")),
        comment="splits that were seen in bars, each once",
    )
    op.create_index(op.f("ix_corporate_actions_symbol"), "corporate_actions", ["symbol"])


def downgrade() -> None:
    op.drop_table("corporate_actions")
    op.drop_table("bars_answered")
    op.alter_column("bars", "source", existing_type=sa.Text(), existing_nullable=False, comment=None)
    op.drop_column("bars", "adjustment")
