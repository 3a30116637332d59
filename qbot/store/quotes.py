"""What each source told of a ticker last, and the price that was accepted of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import prices, source_quotes
from qbot.types import Day, Quote


@dataclass(frozen=True, slots=True)
class Accepted:
    """The last accepted price of a ticker; `sources`: who agrees with it, its own first. `basis`: see aggregation."""

    quote: Quote
    sources: tuple[str, ...]
    basis: str


_REFUSE = sa.text(
    """
    UPDATE source_quotes SET refused = named.words
    FROM unnest(CAST(:symbols AS text[]), CAST(:sources AS text[]), CAST(:words AS text[]))
        AS named(symbol, source, words)
    WHERE source_quotes.symbol = named.symbol AND source_quotes.source = named.source
    """
)


def note(connection: Connection, told: Iterable[Quote], days: Mapping[tuple[str, str], Day], pass_at: datetime) -> None:
    """Remember what sources told, in the place of what they told before. `days`: by symbol and source."""
    rows = [
        _row(quote)
        | {"pass_at": pass_at, "day": asdict(days.get((quote.symbol, quote.source), Day())), "refused": None}
        for quote in told
    ]
    _put(connection, source_quotes, rows)


def refuse(connection: Connection, why: Mapping[tuple[str, str], str], pass_at: datetime) -> None:
    """Mark what is not used of the quotes of a pass, by symbol and source. What is not named is used."""
    here = source_quotes.c
    marked = sa.and_(here.pass_at == pass_at, here.refused.is_not(None))
    connection.execute(source_quotes.update().where(marked).values(refused=None))
    if why:
        symbols, names = zip(*why, strict=True)
        connection.execute(_REFUSE, {"symbols": list(symbols), "sources": list(names), "words": list(why.values())})


def refused(
    connection: Connection, source: str, symbols: Collection[str], since: datetime, until: datetime
) -> dict[str, str]:
    """Of what a source told in passes from `since` to `until` and what is not used: the reason's name, by symbol."""
    here = source_quotes.c
    query = sa.select(here.symbol, here.refused).where(here.source == source, here.symbol.in_(list(symbols)))
    query = query.where(here.pass_at.between(since, until), here.refused.is_not(None))
    return {symbol: words.partition(":")[0] for symbol, words in connection.execute(query)}


def verdicts(
    connection: Connection, symbols: Collection[str], since: datetime, until: datetime
) -> dict[str, list[str | None]]:
    """What became of all that was told of a symbol in the newest pass from `since` to `until` that heard of it: of each
    quote the name of the reason why it is not used; None: it is.
    """
    here = source_quotes.c
    query = sa.select(here.symbol, here.pass_at, here.refused)
    query = query.where(here.symbol.in_(list(symbols)), here.pass_at.between(since, until)).order_by(here.pass_at)
    newest: dict[str, tuple[datetime, list[str | None]]] = {}
    for symbol, pass_at, words in connection.execute(query):
        if symbol not in newest or newest[symbol][0] != pass_at:
            newest[symbol] = (pass_at, [])
        newest[symbol][1].append(words.partition(":")[0] if words else None)
    return {symbol: reasons for symbol, (_, reasons) in newest.items()}


def of_pass(connection: Connection, pass_at: datetime) -> list[Quote]:
    """What sources told in one pass."""
    found = connection.execute(source_quotes.select().where(source_quotes.c.pass_at == pass_at)).mappings()
    return [_quote(row) for row in found]


def told(
    connection: Connection, symbols: Collection[str], since: datetime, until: datetime
) -> dict[str, dict[str, Decimal]]:
    """What each source said last of the price of a symbol, USD, used or not, where it is stamped in that time."""
    here = source_quotes.c
    query = sa.select(here.symbol, here.source, here.price_usd).where(here.symbol.in_(list(symbols)))
    found: dict[str, dict[str, Decimal]] = {}
    for symbol, source, price in connection.execute(query.where(here.at >= since, here.at <= until)):
        found.setdefault(symbol, {})[source] = price
    return found


def days(connection: Connection, symbols: Collection[str], since: datetime) -> dict[str, list[tuple[str, Day]]]:
    """What sources told of the session of a symbol, with the source's name, of quotes stamped since then."""
    here = source_quotes.c
    query = sa.select(here.symbol, here.source, here.day).where(here.symbol.in_(list(symbols)), here.at >= since)
    found: dict[str, list[tuple[str, Day]]] = {}
    for symbol, source, day in connection.execute(query):
        found.setdefault(symbol, []).append((source, Day(**day)))
    return found


def accept(connection: Connection, found: Iterable[Accepted]) -> None:
    """Put these prices in the place of the ones before."""
    rows = [_row(one.quote) | {"sources": list(one.sources), "basis": one.basis} for one in found]
    _put(connection, prices, rows)


def withdraw(connection: Connection, symbols: Collection[str]) -> None:
    """Of these no price is accepted any more."""
    connection.execute(prices.delete().where(prices.c.symbol.in_(list(symbols))))


def accepted(connection: Connection, symbols: Collection[str]) -> dict[str, Accepted]:
    """The last accepted price of each symbol that has one, however old."""
    found = connection.execute(prices.select().where(prices.c.symbol.in_(list(symbols)))).mappings()
    return {row["symbol"]: Accepted(_quote(row), tuple(row["sources"]), row["basis"]) for row in found}


def _row(quote: Quote) -> dict[str, Any]:
    return {
        "symbol": quote.symbol,
        "source": quote.source,
        "price_usd": quote.price_usd,
        "bid_usd": quote.bid_usd,
        "ask_usd": quote.ask_usd,
        "at": quote.at,
        "received_wall": quote.received_at,
    }


def _quote(row: Mapping[Any, Any]) -> Quote:
    price, bid, ask = (row[name].normalize() for name in ("price_usd", "bid_usd", "ask_usd"))
    return Quote(row["symbol"], price, bid, ask, row["at"], row["received_wall"], row["source"])


def _put(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert, or replace what has the same key; of several rows with one key the newest price counts.

    Ordered, so that two writers never wait for each other.
    """
    if not rows:
        return
    names = [column.name for column in table.primary_key.columns]
    newest: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:  # one statement changes a row once
        key = tuple(row[name] for name in names)
        if key not in newest or newest[key]["at"] <= row["at"]:
            newest[key] = row
    statement = insert(table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in names}
    ordered = [newest[key] for key in sorted(newest)]
    connection.execute(statement.on_conflict_do_update(index_elements=names, set_=changed), ordered)
