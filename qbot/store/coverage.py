"""How often outcomes lay outside the interval that was forecast, day by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.store.tables import forecasts

NEW_YORK = "America/New_York"


def daily_outside(connection: Connection, artifact_ids: Collection[str], before: str) -> dict[str, list[float]]:
    """By artifact the share of its outcomes outside the interval on each New York day before `before`, oldest first."""
    day = sa.cast(sa.func.timezone(NEW_YORK, forecasts.c.issued_at), sa.Date)
    happened = forecasts.c.actual_price_usd / forecasts.c.current_price_usd - 1.0
    outside = sa.not_(happened.between(forecasts.c.low_return_pct, forecasts.c.high_return_pct))
    query = (
        sa.select(forecasts.c.artifact_id, sa.func.avg(sa.cast(outside, sa.Integer)).label("share"))
        .where(
            forecasts.c.artifact_id.in_(artifact_ids),
            forecasts.c.actual_price_usd.is_not(None),
            day < sa.cast(before, sa.Date),
        )
        .group_by(forecasts.c.artifact_id, day)
        .order_by(day)
    )
    shares: dict[str, list[float]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        shares[row["artifact_id"]].append(float(row["share"]))
    return dict(shares)
