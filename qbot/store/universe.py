"""The tickers that are looked at, and why each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import universe


def tickers(connection: Connection) -> tuple[str, ...]:
    """The most important first; empty before the first fetch."""
    query = sa.select(universe.c.symbol).order_by(universe.c.rank, universe.c.symbol)
    return tuple(connection.execute(query).scalars())


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
