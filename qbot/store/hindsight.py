"""Forecasts whose outcome is known, all at once, to look back on."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.store import bars
from qbot.store.tables import bars as bars_table
from qbot.store.tables import forecasts


def matured(connection: Connection, since: datetime | None = None) -> pd.DataFrame:
    """Matured forecasts issued at or after `since`: symbol, known_at (aware UTC), session (New York day),
    horizon_minutes, predicted and actual (returns, fractions), confidence, close (USD), by time."""
    query = sa.select(
        forecasts.c.symbol,
        forecasts.c.issued_at.label("known_at"),
        forecasts.c.horizon_minutes,
        forecasts.c.return_pct.label("predicted"),
        (forecasts.c.actual_price_usd / forecasts.c.current_price_usd - 1.0).label("actual"),
        forecasts.c.confidence,
        forecasts.c.current_price_usd.label("close"),
    ).where(forecasts.c.actual_price_usd.is_not(None))
    if since is not None:
        query = query.where(forecasts.c.issued_at >= since)
    found = connection.execute(query.order_by(forecasts.c.issued_at, forecasts.c.symbol))
    frame = pd.DataFrame(found.all(), columns=list(found.keys()))
    frame["known_at"] = pd.to_datetime(frame["known_at"], utc=True)
    return frame.assign(session=frame["known_at"].dt.tz_convert("America/New_York").dt.date)


def all_bars(connection: Connection) -> pd.DataFrame:
    """Every bar there is, by symbol and time, with the columns of `bars.load`."""
    columns = [bars_table.c[name] for name in bars.LOADED]
    rows = connection.execute(sa.select(*columns).order_by(bars_table.c.symbol, bars_table.c.ts)).all()
    frame = pd.DataFrame(rows, columns=list(bars.LOADED))
    return frame.assign(ts=pd.to_datetime(frame["ts"], utc=True))
