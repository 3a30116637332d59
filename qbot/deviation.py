"""Whether the standing artifacts still do as they did on the days they were measured on; if not, a human hears of it.

What is found stands in Postgres: the closed days of each artifact, and the alarms, which wait there for a training.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from qbot import alerts, clock, drift
from qbot.calibration import width_factors
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.drift import DayError, Drift
from qbot.runtime import Runtime
from qbot.store import deviations as store
from qbot.store import maturing, models
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
DRIFT, BOUND = "drift", "bound"  # kinds of alarms
TITLE = "Forecasts err more than they did"
FOLLOWS = "A training follows, as soon as the last one is a day old; later where such trainings did not help."


def look(rt: Runtime, now: datetime) -> int:
    """Close the days that are over, judge them, and raise what alarms there are; the number of them.

    Safe to call at any time: the same days say the same, and an alarm is raised once. Raises StoreUnavailable.
    """
    raised = 0
    with transaction(rt.engine) as connection:
        for horizon, row in sorted(models.standing_artifacts(connection).items()):
            raised += _look_at(rt, connection, horizon, row, now)
    return raised


def waiting(rt: Runtime, now: datetime) -> bool:
    """Whether an alarm asks for a training that may run now."""
    with transaction(rt.engine) as connection:
        if not store.waiting(connection):
            return False
        last, before = store.starts(connection, most=1), store.starts(connection, "deviation")
    return drift.may_train(now, last[0] if last else None, before)


def _look_at(rt: Runtime, connection: Connection, horizon: int, row: models.Row, now: datetime) -> bool:
    artifact_id = row["artifact_id"]
    newest = store.newest_day(connection, artifact_id)
    since = row["created_at"] if newest is None else _begin(newest + timedelta(days=1))
    maturing.close_days(connection, artifact_id, since, _begin(now.astimezone(clock.NEW_YORK).date()))
    reference = drift.DAYS.validate_python(row["metrics"].get("reference_days", ()))
    shares = store.outside(connection, [artifact_id])[artifact_id]
    factors = dict(zip(shares, width_factors(list(shares.values())), strict=False))  # one more: the next day's
    closed = [_day(each, factors[each["day"]]) for each in store.days_since_alarm(connection, artifact_id)]
    days = drift.whole(closed, reference)
    found = _alarm(horizon, days, drift.judge(reference, days, artifact_id))
    if found is None:
        return False
    alarm = {"artifact_id": artifact_id, "day": days[-1].day, "at": now, "at_wall": rt.wall(), **found}
    if not store.raise_alarm(connection, alarm):
        return False
    log.warning("deviation", horizon_minutes=horizon, artifact_id=artifact_id, kind=found["kind"], **found["numbers"])
    words, about = f"{found['why']} {FOLLOWS}", f"{artifact_id} {days[-1].day}"
    alerts.alert(rt, connection, AlertType.SYSTEM_ALERT, Severity.WARNING, TITLE, words, about=about)
    return True


def _alarm(horizon: int, days: list[DayError], judged: Drift | None) -> dict[str, Any] | None:
    """Kind, words and numbers of the alarm there is, by drift or by the plain bound; None when all is as ever."""
    if judged is not None and judged.alarm:
        kind, why = DRIFT, told_drift(horizon, judged, days)
    elif days and drift.beyond_bound(days[-1]):
        kind, why = BOUND, told_bound(horizon, days[-1])
    else:
        return None
    last = days[-1]
    numbers = {"days": len(days), "scaled": last.scaled, "naive": last.naive, "outside": last.outside}
    numbers |= {"evidence": judged.evidence, "ratio": judged.ratio} if judged else {}
    return {"kind": kind, "why": why, "numbers": numbers}


def told_drift(horizon: int, judged: Drift, days: list[DayError]) -> str:
    """What a drift alarm is about, for a human."""
    outside = sum(day.outside for day in days[-drift.RECENT_DAYS :]) / len(days[-drift.RECENT_DAYS :])
    return (
        f"{horizon} min: errors are {judged.ratio:.1f} times those of the days the model was measured on, and"
        f" {outside:.0%} of the prices lay outside the interval meant for all but 20 % (drift alarm after"
        f" {judged.days} days; at most 1 model in {1 / drift.ALPHA:.0f} ever has a false one)."
    )


def told_bound(horizon: int, day: DayError) -> str:
    """What passed the plain bound, for a human."""
    return (
        f"{horizon} min: on {day.day} the forecasts erred {day.scaled / day.naive:.1f} times as much as"
        f' "the price stays as it is" would have (bound: {drift.NAIVE_RATIO_MAX:g}).'
    )


def _day(row: store.Row, width_factor: float) -> DayError:
    """By the intervals of the training: those that were served had widened with the errors and would hide them."""
    day = DayError(**{name: row[name] for name in DayError.__dataclass_fields__})
    return replace(day, scaled=day.scaled * width_factor, naive=day.naive * width_factor)


def _begin(day: date) -> datetime:
    """Midnight in New York."""
    return datetime.combine(day, time(), clock.NEW_YORK)
