"""closed trades and open lots, the account the ledger is of, what changes it besides trades"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
Money = sa.Numeric(20, 6)
Shares = sa.Numeric(24, 9)
WIDER = (("orders", "qty"), ("orders", "filled_qty"), ("fills", "qty"))


def upgrade() -> None:
    for table, column in WIDER:
        op.alter_column(table, column, type_=Shares)
    replaces = sa.Column("replaces", sa.Text(), comment="broker's id of the order it took the place of")
    op.add_column("orders", replaces)
    expected = "what the ledger made the cash come to; null: not reckoned"
    op.add_column("equity", sa.Column("expected_cash_usd", Money, comment=expected))
    op.create_index("ix_fills_symbol_at", "fills", ["symbol", "at"])
    op.create_index("ix_fills_broker_order_id", "fills", ["broker_order_id"])
    _trades()
    _accounts()


def downgrade() -> None:
    for table in ("activities", "adjustments", "broker_accounts", "lots", "trades"):
        op.drop_table(table)
    op.drop_index("ix_fills_broker_order_id", table_name="fills")
    op.drop_index("ix_fills_symbol_at", table_name="fills")
    op.drop_column("equity", "expected_cash_usd")
    op.drop_column("orders", "replaces")
    for table, column in WIDER:
        op.alter_column(table, column, type_=Money)


def _trades() -> None:
    op.create_table(
        "trades",
        sa.Column("entry_id", sa.Text(), comment="the execution, or adjustment, that opened the shares"),
        sa.Column("exit_id", sa.Text(), comment="the execution that closed them"),
        sa.Column("entry_order_id", sa.Text(), nullable=False),
        sa.Column("exit_order_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False, comment="of the entry: buy is a long trade"),
        sa.Column("qty", Shares, nullable=False),
        sa.Column("entry_price_usd", Money, nullable=False),
        sa.Column("exit_price_usd", Money, nullable=False),
        sa.Column("fees_usd", Money, nullable=False, comment="by order the venue charges none; see activities"),
        sa.Column("pnl_usd", Money, nullable=False),
        sa.Column("pnl_pct", sa.Float(), comment="fraction of what the shares cost; null where they cost nothing"),
        sa.Column("opened_at", Time, nullable=False),
        sa.Column("closed_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "exit_id", name="pk_trades"),
        comment="closed round trips, first in first out: written with the fills they are made of",
    )
    for columns in (["symbol", "closed_at"], ["closed_at"], ["exit_id"], ["entry_order_id"], ["exit_order_id"]):
        op.create_index(f"ix_trades_{'_'.join(columns)}", "trades", columns)
    op.create_table(
        "lots",
        sa.Column("entry_id", sa.Text()),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("qty", Shares, nullable=False, comment="of it still held, or owed"),
        sa.Column("price_usd", Money, nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_lots"),
        comment="what is open, by the execution that opened it",
    )
    op.create_index("ix_lots_symbol", "lots", ["symbol"])


def _accounts() -> None:
    op.create_table(
        "broker_accounts",
        sa.Column("opening", sa.BigInteger(), sa.Identity()),
        sa.Column("account_id", sa.Text(), comment="the venue's id; null where it tells none"),
        sa.Column("number", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False, comment="paper|live|unknown"),
        sa.Column("positions_from", Time, comment="fills up to then stand in the adjustments; null: every fill counts"),
        sa.Column("cash_usd", Money, comment="cash before every fill and activity that counts; null: not reckoned yet"),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_at", Time, nullable=False),
        sa.Column("opened_at_wall", Time, nullable=False),
        sa.Column(
            "other_account_id", sa.Text(), comment="another account that answers in its place; null: it does itself"
        ),
        sa.Column("other_number", sa.Text()),
        sa.PrimaryKeyConstraint("opening", name="pk_broker_accounts"),
        comment="which account the ledger is of, and from when: one row an opening, the newest counts",
    )
    opening = sa.ForeignKeyConstraint(["opening"], ["broker_accounts.opening"], name="fk_adjustments_opening")
    op.create_table(
        "adjustments",
        sa.Column("adjustment_id", sa.Text()),
        sa.Column("opening", sa.BigInteger(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("qty_before", Shares, nullable=False, comment="what the ledger held for its own"),
        sa.Column("qty", Shares, nullable=False, comment="what is held from then on"),
        sa.Column("price_usd", Money, nullable=False, comment="what a share of it cost, by the broker"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("at_wall", Time, nullable=False),
        sa.PrimaryKeyConstraint("adjustment_id", name="pk_adjustments"),
        opening,
        comment="what a human took over from the broker, past orders and fills",
    )
    op.create_index("ix_adjustments_opening", "adjustments", ["opening"])
    op.create_table(
        "activities",
        sa.Column("activity_id", sa.Text()),
        sa.Column("opening", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="the venue's word: FEE, DIV, CSD, JNLC, SPLIT, INT …"),
        sa.Column("sub_kind", sa.Text(), comment="the venue's word: REG, TAF, CAT, CDIV …"),
        sa.Column("symbol", sa.Text()),
        sa.Column("qty", Shares),
        sa.Column("amount_usd", Money, nullable=False, comment="into the account; negative: out of it"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("at", Time, nullable=False, comment="when the venue made it"),
        sa.PrimaryKeyConstraint("activity_id", name="pk_activities"),
        sa.ForeignKeyConstraint(["opening"], ["broker_accounts.opening"], name="fk_activities_opening"),
        comment="what changed the account besides trades: fees, dividends, transfers, interest, splits",
    )
    op.create_index("ix_activities_opening", "activities", ["opening"])
    op.create_index("ix_activities_day", "activities", ["day"])
