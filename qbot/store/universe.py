"""The tickers that are looked at, and why each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store import account, order_book
from qbot.store.tables import universe


def tickers(connection: Connection) -> tuple[str, ...]:
    """The most important first; empty before the first fetch."""
    query = sa.select(universe.c.symbol).order_by(universe.c.rank, universe.c.symbol)
    return tuple(connection.execute(query).scalars())


def urgent(connection: Connection) -> frozenset[str]:
    """What is held, or has an open order: whose price is needed first, whatever else is looked at."""
    ordered = (row["symbol"] for row in order_book.open_orders(connection))
    return frozenset({*account.net_quantities(connection), *ordered})


def replace(connection: Connection, why: Mapping[str, str], wall: datetime) -> None:
    """These and no others, in this order, and what names each."""
    connection.execute(universe.delete().where(universe.c.symbol.not_in(list(why))))
    rows = [
        {"symbol": symbol, "rank": rank, "why": words, "since_wall": wall}
        for rank, (symbol, words) in enumerate(why.items())
    ]
    if rows:
        statement = insert(universe)
        changed = {name: statement.excluded[name] for name in ("rank", "why")}
        connection.execute(statement.on_conflict_do_update(index_elements=["symbol"], set_=changed), rows)
