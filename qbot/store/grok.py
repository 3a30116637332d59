"""Calls of Grok and what they cost, what of its answers counted, and the sentiment that was known at each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.grok import Candidate, Judged
from qbot.grok_budget import ANSWERED, UNUSABLE, Call
from qbot.store import locks
from qbot.store.tables import grok_calls, grok_candidates

LOOK_BACK = timedelta(days=1)  # holds all calls of a UTC day, and every pause and lease


@dataclass(frozen=True, slots=True)
class Answer:
    """The newest usable answer. `known_at`: market time. `prices_usd`: the closes of then, where QBot had any."""

    known_at: datetime
    candidates: tuple[Candidate, ...]
    prices_usd: Mapping[str, float]


def lock(connection: Connection) -> None:
    """Only one transaction at a time may count the budget and reserve; held to the end of the transaction."""
    locks.within(connection, locks.GROK)


def calls(connection: Connection, wall: datetime) -> list[Call]:
    """The calls of the last LOOK_BACK, and those of a time to come, oldest first."""
    names = [grok_calls.c[name] for name in Call.__dataclass_fields__]
    query = sa.select(*names).where(grok_calls.c.asked_at_wall > wall - LOOK_BACK).order_by(grok_calls.c.call_id)
    return [Call(**row) for row in connection.execute(query).mappings()]


def reserve(
    connection: Connection, usd: Decimal, model: str, asked_at: datetime, asked_at_wall: datetime, *, search: bool
) -> int:
    """Record that a call is about to be made, and its worst case; its id."""
    row = {"asked_at": asked_at, "asked_at_wall": asked_at_wall, "reserved_usd": usd, "model": model, "search": search}
    return int(connection.execute(grok_calls.insert().values(**row).returning(grok_calls.c.call_id)).scalar_one())


def failed(
    connection: Connection, call_id: int, fault: str, cost_usd: Decimal | None, retry_after_s: float | None
) -> None:
    """Record that a call brought no answer, why, and what it cost; None: nobody knows."""
    _end(connection, call_id, outcome=fault, cost_usd=cost_usd, retry_after_s=retry_after_s)


def answered(
    connection: Connection,
    call_id: int,
    found: Judged,
    cost_usd: Decimal | None,
    known_at_wall: datetime,
    prices_usd: Mapping[str, float],
) -> None:
    """Record an answer: what it cost, what counted of it and from when on, and how much was dropped."""
    dropped = {str(name): count for name, count in (*found.dropped.items(), *found.altered.items())}
    if not found.usable:
        _end(connection, call_id, outcome=UNUSABLE, cost_usd=cost_usd, dropped=dropped)
        return
    known = {"known_at": found.known_at, "known_at_wall": known_at_wall}
    _end(connection, call_id, outcome=ANSWERED, cost_usd=cost_usd, dropped=dropped, **known)
    fields = Candidate.__dataclass_fields__
    rows = [
        {name: getattr(one, name) for name in fields}
        | {"call_id": call_id, "rank": rank, "known_at": found.known_at, "price_usd": prices_usd.get(one.symbol)}
        for rank, one in enumerate(found.candidates)
    ]
    connection.execute(grok_candidates.insert(), rows)


def newest_answer(connection: Connection) -> Answer | None:
    """The newest usable answer, however old; None before the first."""
    told = sa.select(grok_calls.c.call_id, grok_calls.c.known_at).where(grok_calls.c.known_at_wall.is_not(None))
    newest = connection.execute(told.order_by(grok_calls.c.known_at_wall.desc(), grok_calls.c.call_id.desc()).limit(1))
    row = newest.first()
    if row is None:
        return None
    mine = grok_candidates.select().where(grok_candidates.c.call_id == row.call_id).order_by(grok_candidates.c.rank)
    found = connection.execute(mine).mappings().all()
    candidates = tuple(Candidate(**{name: one[name] for name in Candidate.__dataclass_fields__}) for one in found)
    prices = {one["symbol"]: one["price_usd"] for one in found if one["price_usd"] is not None}
    return Answer(row.known_at, candidates, prices)


def last_outcome(connection: Connection) -> str | None:
    """How the last call that is over ended; None before the first."""
    over = sa.select(grok_calls.c.outcome).where(grok_calls.c.outcome.is_not(None))
    return connection.execute(over.order_by(grok_calls.c.call_id.desc()).limit(1)).scalar()


def sentiment(connection: Connection, symbols: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
    """What was known of the sentiment from `start` to `end`: symbol, time (from when on it was known), sentiment."""
    table = grok_candidates.c
    wanted = sa.and_(table.symbol.in_(list(symbols)), table.known_at >= start, table.known_at <= end)
    query = sa.select(table.symbol, table.known_at, table.sentiment).where(wanted)
    rows = connection.execute(query.order_by(table.known_at, table.call_id, table.symbol)).all()
    frame = pd.DataFrame([tuple(row) for row in rows], columns=["symbol", "time", "sentiment"])
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    return frame


def _end(connection: Connection, call_id: int, **values: object) -> None:
    """Once: what a call came to is not changed afterwards."""
    mine = sa.and_(grok_calls.c.call_id == call_id, grok_calls.c.outcome.is_(None))
    connection.execute(grok_calls.update().where(mine).values(**values))
