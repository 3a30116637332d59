"""Forecasts beside what happened, once it has: what surrounds the comparison itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import itemgetter

from qbot import clock, forecast, limits
from qbot.errors import CalendarUnavailable
from qbot.market import calendar
from qbot.runtime import Runtime
from qbot.store import maturing as store
from qbot.store import models
from qbot.store.engine import transaction
from qbot.types import BAR_MINUTES

BAR = timedelta(minutes=BAR_MINUTES)
OUTCOME_WAIT = timedelta(seconds=limits.OUTCOME_WAIT_S)
QUALITY_HOURS = 24.0
Outcome = tuple[str, float | None, str | None]


def mature(rt: Runtime, now: datetime) -> int:
    """Compare the forecasts whose time has come with the close of the bar that ended then; how many had one.

    None is given up for want of a bar that a fetch may still bring: after days away the forecasts wait until the bars
    of their time are there. What is left after MATURE_BATCHES_MAX batches is the next run's. Raises StoreUnavailable,
    CalendarUnavailable.
    """
    with transaction(rt.engine) as connection:
        newest = store.newest_bar(connection)
    if newest is None:
        return 0
    place, compared = store.START, 0
    for _ in range(limits.MATURE_BATCHES_MAX):
        with transaction(rt.engine) as connection:
            due = store.due(connection, min(now, newest + BAR), BAR, limits.MATURE_BATCH_ROWS, place)
            settled = outcomes(due, now)
            store.settle(connection, settled, now)
        compared += sum(price is not None for _, price, _ in settled)
        if len(due) < limits.MATURE_BATCH_ROWS:
            break
        place = due[-1]["eta"], due[-1]["forecast_id"]
    return compared


def outcomes(due: Sequence[models.Row], now: datetime) -> list[Outcome]:
    """Id, price and why there is none, of those that can be told by now; the others wait for a late bar."""
    if not due:
        return []
    made = [row["issued_at"] for row in due]
    try:
        sessions = calendar.sessions_between(min(made) - BAR, max(made) + BAR)
    except calendar.UNUSABLE as error:
        raise CalendarUnavailable(f"{calendar.CALENDAR}: {type(error).__name__}: {error}") from error
    today = clock.market_day(now)
    found: list[Outcome] = []
    for row in due:
        if not _within_one(sessions, row["issued_at"], row["eta"]):
            found.append((row["forecast_id"], None, forecast.CLOSED))
            continue
        same_day = clock.market_day(row["issued_at"]) == today
        ends = row["close_made"], row["close_ended"]
        price, why = forecast.outcome(row["current_price_usd"], *ends, same_day=same_day)
        if why != forecast.NO_BAR or row["eta"] < now - OUTCOME_WAIT:
            found.append((row["forecast_id"], price, why))
    return found


def _within_one(sessions: Sequence[calendar.Session], issued_at: datetime, eta: datetime) -> bool:
    """Whether both moments lie in one session, as everything a model was trained on does."""
    at = bisect_left(sessions, issued_at, key=itemgetter(1))  # the first that ends then or later
    return at < len(sessions) and sessions[at][0] < issued_at and eta <= sessions[at][1]


def quality(rt: Runtime, now: datetime) -> bool:
    """Record the error figures of the last QUALITY_HOURS by horizon; False where no forecast has matured in them."""
    with transaction(rt.engine) as connection:
        found = store.quality(connection, now - timedelta(hours=QUALITY_HOURS), now)
        if found:
            models.add_quality(connection, now, QUALITY_HOURS, found)
    return bool(found)
