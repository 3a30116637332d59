"""prices of several sources, how the sources do, and the tickers that are looked at"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
Money = sa.Numeric(20, 6)
STAMPED, SYMBOL = "when the venue stamped it", "symbol"


def upgrade() -> None:
    op.create_table(
        "universe",
        sa.Column(SYMBOL, sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False, comment="the most important first"),
        sa.Column("why", sa.Text(), nullable=False, comment="what names it"),
        sa.Column("since_wall", Time, nullable=False),
        sa.PrimaryKeyConstraint(SYMBOL, name=op.f("pk_universe")),
        comment="the tickers that are looked at",
    )
    op.create_table(
        "source_quotes",
        sa.Column(SYMBOL, sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        *_quote(),
        sa.Column("pass_at", Time, nullable=False, comment="begin of the pass that asked for it"),
        sa.Column("day", JSONB(), nullable=False, comment="what the same answer told of the session"),
        sa.Column("refused", sa.Text(), nullable=True, comment="why it is not used; null while it is"),
        sa.PrimaryKeyConstraint(SYMBOL, "source", name=op.f("pk_source_quotes")),
        comment="what each source told of a ticker last",
    )
    op.create_table(
        "prices",
        sa.Column(SYMBOL, sa.Text(), nullable=False),
        *_quote(),
        sa.Column("source", sa.Text(), nullable=False, comment="whose quote it is"),
        sa.Column("sources", JSONB(), nullable=False, comment="who agrees with it, its own source first"),
        sa.Column("basis", sa.Text(), nullable=False, comment="majority|alone|last"),
        sa.PrimaryKeyConstraint(SYMBOL, name=op.f("pk_prices")),
        comment="the last accepted price of each ticker",
    )
    op.create_table(
        "data_needs",
        sa.Column(SYMBOL, sa.Text(), nullable=False),
        sa.Column("need", sa.Text(), nullable=False, comment="price|bars|close|news|fundamentals"),
        sa.Column("got_at", Time, nullable=True, comment="when a source last answered"),
        sa.Column("confirmed_at", Time, nullable=True, comment="when two sources last agreed"),
        sa.Column("disputed", sa.Boolean(), nullable=False, comment="the last answers disagree"),
        sa.PrimaryKeyConstraint(SYMBOL, "need", name=op.f("pk_data_needs")),
        comment="when each ticker last got what is asked for again and again",
    )
    _sources()
    op.create_table(
        "company_facts",
        sa.Column(SYMBOL, sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="fundamentals|news|days"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("known_at", Time, nullable=False),
        sa.Column("body", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint(SYMBOL, "kind", name=op.f("pk_company_facts")),
        comment="what sources tell of companies besides prices",
    )


def _quote() -> list[sa.Column[object]]:
    return [
        sa.Column("price_usd", Money, nullable=False),
        sa.Column("bid_usd", Money, nullable=False),
        sa.Column("ask_usd", Money, nullable=False),
        sa.Column("at", Time, nullable=False, comment=STAMPED),
        sa.Column("received_wall", Time, nullable=False),
    ]


def _sources() -> None:
    op.create_table(
        "source_refusals",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(SYMBOL, sa.Text(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False, comment="unknown_symbol|plan"),
        sa.Column("since_wall", Time, nullable=False),
        sa.PrimaryKeyConstraint("source", SYMBOL, name=op.f("pk_source_refusals")),
        comment="tickers that a source does not know, or not on this plan: not asked for again for a while",
    )
    op.create_table(
        "source_outcomes",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("answered_wall", Time, nullable=True, comment="when it last answered"),
        sa.Column("failed_wall", Time, nullable=True, comment="when it last did not"),
        sa.Column("fault", sa.Text(), nullable=True, comment="why, the last time"),
        sa.Column("words", sa.Text(), nullable=True, comment="the same for a human"),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_source_outcomes")),
        comment="how each source of market data does",
    )
    told = "of each: answered, failed, refused quotes by reason"
    op.create_table(
        "fetch_passes",
        sa.Column("began_at", Time, nullable=False),
        sa.Column("took_s", sa.Float(), nullable=False, comment="wall time"),
        sa.Column("tickers", sa.Integer(), nullable=False, comment="whose price was asked for"),
        sa.Column("priced", sa.Integer(), nullable=False, comment="of them, those that have one"),
        sa.Column("unanswered", sa.Integer(), nullable=False, comment="of them, those that no source answered for"),
        sa.Column("sources", JSONB(), nullable=False, comment=told),
        sa.PrimaryKeyConstraint("began_at", name=op.f("pk_fetch_passes")),
        comment="what came of each pass over the tickers",
    )


def downgrade() -> None:
    for name in (
        "company_facts", "fetch_passes", "source_outcomes", "source_refusals", "data_needs", "prices", "source_quotes",
        "universe",
    ):  # fmt: skip
        op.drop_table(name)
