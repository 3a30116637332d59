"""the calls of Grok with what they cost, and what of its answers counted"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
Usd = sa.Numeric(14, 10)


def upgrade() -> None:
    reserved = "its worst case, which counts while its cost is not known"
    op.create_table(
        "grok_calls",
        sa.Column("call_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("asked_at", Time, nullable=False),
        sa.Column("asked_at_wall", Time, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("search", sa.Boolean(), nullable=False),
        sa.Column("reserved_usd", Usd, nullable=False, comment=reserved),
        sa.Column("cost_usd", Usd, comment="as xAI told; null while or where that is not known"),
        sa.Column("outcome", sa.Text(), comment="answered|unusable, or what failed; null while it is out"),
        sa.Column("retry_after_s", sa.Float(), comment="where xAI said how long to wait"),
        sa.Column("dropped", postgresql.JSONB(), comment="how much of the answer counts for nothing, by reason"),
        sa.Column("known_at", Time, comment="when the answer was there; null without a usable one"),
        sa.Column("known_at_wall", Time),
        sa.CheckConstraint("reserved_usd > 0 AND cost_usd >= 0", name=op.f("ck_grok_calls_usd")),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_grok_calls")),
        comment="every call of Grok: what it may spend is counted here, over restarts and for all workers",
    )
    op.create_index(op.f("ix_grok_calls_asked_at_wall"), "grok_calls", ["asked_at_wall"])
    op.create_index(
        "ix_grok_calls_answered",
        "grok_calls",
        ["known_at_wall", "call_id"],
        postgresql_where=sa.text("known_at_wall IS NOT NULL"),
    )
    known = "as of the call: no row of features before it may know this"
    price = "the newest close; null where QBot had none of the last minutes"
    bounds = (
        "score BETWEEN 0 AND 1 AND sentiment BETWEEN -1 AND 1 AND confidence BETWEEN 0 AND 1 "
        "AND risk_level BETWEEN 1 AND 5"
    )
    op.create_table(
        "grok_candidates",
        sa.Column("call_id", sa.BigInteger(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False, comment="its place in the answer"),
        sa.Column("known_at", Time, nullable=False, comment=known),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("sentiment", sa.Float(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("expected_return_pct", sa.Float(), nullable=False),
        sa.Column("risk_level", sa.Integer(), nullable=False),
        sa.Column("price_usd", sa.Float(), comment=price),
        sa.Column("reason", sa.Text(), nullable=False, comment="plain words, for humans to read"),
        sa.CheckConstraint(bounds, name=op.f("ck_grok_candidates_bounds")),
        sa.ForeignKeyConstraint(["call_id"], ["grok_calls.call_id"], name=op.f("fk_grok_candidates_call_id")),
        sa.PrimaryKeyConstraint("call_id", "symbol", name=op.f("pk_grok_candidates")),
        comment="what of Grok's answers counted; kept, since past sentiment is a feature",
    )
    op.create_index(op.f("ix_grok_candidates_symbol_known_at"), "grok_candidates", ["symbol", "known_at"])


def downgrade() -> None:
    op.drop_table("grok_candidates")
    op.drop_table("grok_calls")
