"""What the exchange must not forget, in SQLite: written before a client gets its answer.

WAL without fsync on each commit: a commit survives `kill -9` of the process at any moment, though not a power failure,
which a paper account can bear.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from qbot.exchange.account import Holding, Ledger
from qbot.exchange.book import Book
from qbot.exchange.orders import Booking, Changes, Fill, Order

TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, client_order_id TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fills (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS equity (at INTEGER PRIMARY KEY, usd TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL);
"""
SAVE_ORDER = """INSERT INTO orders (id, client_order_id, seq, body) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET body = excluded.body"""
SAVE_STATE = "INSERT INTO state (id, body) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
TYPES: dict[type, dict[str, str]] = {
    kind: {f.name: str(f.type) for f in fields(kind)} for kind in (Order, Fill, Booking)
}


class Journal:
    """The file of one exchange. One process writes it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(TABLES)

    def save(self, book: Book, changes: Changes) -> None:
        """Write what has changed, and the ledger, as one transaction. Raises sqlite3.Error: then the exchange ends."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(SAVE_ORDER, [(o.id, o.client_order_id, o.seq, _dump(o)) for o in changes.orders.values()])
        self._db.executemany("INSERT INTO fills VALUES (?, ?, ?)", [(f.seq, f.id, _dump(f)) for f in changes.fills])
        self._db.executemany("INSERT OR REPLACE INTO equity VALUES (?, ?)", [(t, str(v)) for t, v in changes.equity])
        self._db.execute(SAVE_STATE, (_dump_state(book),))
        self._db.execute("COMMIT")

    def load(self, book: Book) -> bool:
        """Put everything into an empty book. False if nothing was ever written."""
        row = self._db.execute("SELECT body FROM state").fetchone()
        if row is None:
            return False
        _load_state(book, json.loads(row[0]))
        for (body,) in self._db.execute("SELECT body FROM orders ORDER BY seq"):
            book.add(Order(**_load(Order, body)))
        for (body,) in self._db.execute("SELECT body FROM fills ORDER BY seq"):
            book.fills.append(Fill(**_load(Fill, body)))
        rows = self._db.execute("SELECT at, usd FROM equity ORDER BY at")
        book.equity.extend((at, Decimal(usd)) for at, usd in rows)
        return True

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _dump(value: Order | Fill | Booking) -> str:
    return json.dumps({name: _text(getattr(value, name)) for name in TYPES[type(value)]})


def _text(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _load(kind: type[Order] | type[Fill] | type[Booking], body: str) -> dict[str, Any]:
    return {name: _value(TYPES[kind][name], value) for name, value in json.loads(body).items()}


def _value(declared: str, value: Any) -> Any:
    if value is None:
        return None
    if declared.startswith("Decimal"):
        return Decimal(value)
    return datetime.fromisoformat(value) if declared.startswith("datetime") else value


def _dump_state(book: Book) -> str:
    ledger = book.ledger
    holdings = {s: [str(h.qty), str(h.cost_usd), str(h.overnight_qty)] for s, h in ledger.holdings.items()}
    return json.dumps({
        "time_s": book.time_s, "cash_usd": str(ledger.cash_usd), "last_equity_usd": str(ledger.last_equity_usd),
        "realized_usd": str(ledger.realized_usd), "holdings": holdings, "bookings": [_dump(b) for b in book.bookings],
    })  # fmt: skip


def _load_state(book: Book, state: dict[str, Any]) -> None:
    holdings = {symbol: Holding(*map(Decimal, numbers)) for symbol, numbers in state["holdings"].items()}
    cash, last, realized = (Decimal(state[name]) for name in ("cash_usd", "last_equity_usd", "realized_usd"))
    book.ledger = Ledger(cash, last, realized, holdings)
    book.time_s = state["time_s"]
    book.bookings.extend(Booking(**_load(Booking, body)) for body in state.get("bookings", ()))
