"""Forecasts beside what happened: each one, the figures over hours, and the days of an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.store.tables import bars

Row = Mapping[str, Any]
Place = tuple[datetime, str]  # the eta and id of a forecast, by which they are gone through
START: Place = (datetime(1, 1, 2, tzinfo=UTC), "")

# A forecast beside the closes of the bar it was made at and of the bar that ended at its eta.
_DUE = sa.text(
    """
    SELECT f.*, made.close AS close_made, ended.close AS close_ended
    FROM (
        SELECT forecast_id, symbol, issued_at, eta, current_price_usd FROM forecasts
        WHERE matured_at IS NULL AND eta <= :until AND (eta > :after OR (eta = :after AND forecast_id > :last))
        ORDER BY eta, forecast_id LIMIT :most
    ) AS f
    LEFT JOIN bars AS made ON made.symbol = f.symbol AND made.ts = f.issued_at - :bar
    LEFT JOIN bars AS ended ON ended.symbol = f.symbol AND ended.ts = f.eta - :bar
    ORDER BY f.eta, f.forecast_id
    """
)
_SETTLE = sa.text(
    """
    UPDATE forecasts AS f SET actual_price_usd = known.price, incomparable = known.why, matured_at = :at
    FROM unnest(CAST(:ids AS text[]), CAST(:prices AS float8[]), CAST(:whys AS text[])) AS known (id, price, why)
    WHERE f.forecast_id = known.id AND f.matured_at IS NULL
    """
)
_QUALITY = sa.text(
    """
    SELECT horizon_minutes, count(*) AS count, avg(abs(actual - target)) AS mae,
        avg(abs(actual - target) / actual) * 100 AS mape, sqrt(avg((actual - target) ^ 2)) AS rmse,
        avg((actual - target) / actual) * 100 AS avg_deviation, avg(abs(actual - current)) AS naive_mae,
        avg(CAST((actual - current) * return_pct > 0 AS int)) AS direction_right,
        avg(CAST(actual / current - 1 BETWEEN low_return_pct AND high_return_pct AS int)) AS inside_interval
    FROM (
        SELECT *, actual_price_usd AS actual, current_price_usd AS current,
            current_price_usd * (1 + return_pct) AS target
        FROM forecasts WHERE actual_price_usd IS NOT NULL AND eta > :since AND eta <= :until
    ) AS known
    GROUP BY horizon_minutes ORDER BY horizon_minutes
    """
)
_DAYS = sa.text(
    """
    WITH days AS (
        SELECT day, avg(abs(happened - return_pct) / half) AS scaled, avg(abs(happened) / half) AS naive,
            avg(CAST(happened NOT BETWEEN low_return_pct AND high_return_pct AS int)) AS outside,
            count(*) AS rows, count(DISTINCT issued_at) AS times
        FROM (
            SELECT *, CAST(issued_at AT TIME ZONE 'America/New_York' AS date) AS day,
                actual_price_usd / current_price_usd - 1 AS happened, (high_return_pct - low_return_pct) / 2 AS half
            FROM forecasts
            WHERE artifact_id = :artifact_id AND issued_at >= :since AND issued_at < :until
                AND actual_price_usd IS NOT NULL AND high_return_pct > low_return_pct
        ) AS known GROUP BY day
    ), open AS (
        SELECT min(CAST(issued_at AT TIME ZONE 'America/New_York' AS date)) AS day FROM forecasts
        WHERE artifact_id = :artifact_id AND matured_at IS NULL
    )
    INSERT INTO forecast_days (artifact_id, day, scaled, naive, outside, rows, times)
    SELECT :artifact_id, days.day, scaled, naive, outside, rows, times
    FROM days, open WHERE open.day IS NULL OR days.day < open.day
    ON CONFLICT DO NOTHING
    """
)


def newest_bar(connection: Connection) -> datetime | None:
    """The start of the newest bar of any ticker."""
    return connection.execute(sa.select(sa.func.max(bars.c.ts))).scalar()


def due(connection: Connection, until: datetime, bar: timedelta, most: int, after: Place = START) -> list[Row]:
    """Forecasts not yet compared whose eta is at most `until`, in the order of eta and id, those behind `after`.

    `close_made` and `close_ended`: the closes of the bars that ended at issue and at the eta, None where there is none.
    """
    place = {"after": after[0], "last": after[1]}
    found = connection.execute(_DUE, {"until": until, "bar": bar, "most": most, **place})
    return [dict(row) for row in found.mappings()]


def settle(connection: Connection, outcomes: Sequence[tuple[str, float | None, str | None]], at: datetime) -> None:
    """Record what happened: forecast id, price at the eta, and why there is none. What is settled stays as it is."""
    if outcomes:
        ids, prices, whys = (list(each) for each in zip(*outcomes, strict=True))
        connection.execute(_SETTLE, {"ids": ids, "prices": prices, "whys": whys, "at": at})


def quality(connection: Connection, since: datetime, until: datetime) -> dict[str, dict[str, float | int]]:
    """`per_horizon` of `prediction_quality_metrics_history`, over forecasts that matured after `since` up to `until`.

    mae and rmse in USD, mape and avg_deviation (the mean signed deviation: the bias) in percent; beside them the MAE
    of "no change", the share of right directions and the share inside the 80 % interval.
    """
    rows = connection.execute(_QUALITY, {"since": since, "until": until}).mappings()
    counts = ("horizon_minutes", "count")
    return {
        str(row["horizon_minutes"]): {"count": row["count"], **{k: float(v) for k, v in row.items() if k not in counts}}
        for row in rows
    }


def close_days(connection: Connection, artifact_id: str, since: datetime, until: datetime) -> None:
    """Record the days of an artifact, of forecasts issued in [since, until), up to its first day with an open one."""
    connection.execute(_DAYS, {"artifact_id": artifact_id, "since": since, "until": until})
