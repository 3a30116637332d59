"""What sources tell of companies besides prices: fundamentals, headlines, daily bars."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import company_facts


class Kind(StrEnum):
    """What is told."""

    FUNDAMENTALS = "fundamentals"
    NEWS = "news"
    DAYS = "days"


@dataclass(frozen=True, slots=True)
class Fact:
    """What a source told last of one kind, as JSON."""

    source: str
    known_at: datetime
    body: Any


def note(connection: Connection, kind: Kind, bodies: Mapping[str, Any], source: str, known_at: datetime) -> None:
    """Remember what a source told, by symbol, in the place of what was told before."""
    rows = [
        {"symbol": symbol, "kind": str(kind), "source": source, "known_at": known_at, "body": body}
        for symbol, body in sorted(bodies.items())
    ]
    if rows:
        statement = insert(company_facts)
        changed = {name: statement.excluded[name] for name in ("source", "known_at", "body")}
        connection.execute(statement.on_conflict_do_update(index_elements=["symbol", "kind"], set_=changed), rows)


def facts(connection: Connection, kind: Kind, symbols: Collection[str]) -> dict[str, Fact]:
    """What is known of each symbol, however old."""
    columns = company_facts.c
    query = sa.select(columns.symbol, columns.source, columns.known_at, columns.body)
    query = query.where(columns.kind == str(kind), columns.symbol.in_(list(symbols)))
    return {symbol: Fact(*rest) for symbol, *rest in connection.execute(query)}
