"""The life of a forecast after it was made: pending, matured, counted, and a training when an artifact has drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from qbot import clock, deviation, drift, forecasting, limits, maturing, pipeline
from qbot.calibration import width_factor
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType
from qbot.contract.payloads_ml import TrainingTrigger
from qbot.errors import TrainingFailed
from qbot.forecast import matured
from qbot.skill import Metrics
from qbot.store import bars, deviations, models, tables
from qbot.store import maturing as store
from qbot.store.engine import transaction
from qbot.training_types import ArtifactRecord, HorizonResult, TrainingProgress, TrainingRequest, TrainingResult
from qbot.types import Forecast
from tests.support.runtime import WALL, World
from tests.test_drift import day
from tests.test_forecast import CALIBRATION

OPEN = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)  # a Monday; 09:30 in New York
MINUTE = timedelta(minutes=1)
RECORD_15 = ArtifactRecord(
    horizon_minutes=15, trained_at=WALL, symbols=("AAPL",), features=("open",), models=("m",),
    metrics=Metrics(0.4, 0.2, 0.5, 0.0, 100, 0.41, 0.5, 0.1, 0.4, 12, False), calibration=CALIBRATION, skilled=False,
    degraded=False, data_from=OPEN, data_to=OPEN, test_days=(), fit_rows=100, autogluon_version="1",
)  # fmt: skip
DAYS = [OPEN + timedelta(days=n) for n in range(90)]
HOLIDAYS = {date(2025, 6, 19), date(2025, 7, 3), date(2025, 7, 4)}
TRADED = [each for each in DAYS if each.weekday() < 5 and each.date() not in HOLIDAYS]


def put(world: World, *prices: tuple[str, datetime, float]) -> None:
    """Bars that end at those times, with these closes."""
    frame = pd.DataFrame([
        {"symbol": symbol, "ts": ends - 5 * MINUTE, **dict.fromkeys(("open", "high", "low", "close"), close),
         "volume": 1.0} for symbol, ends, close in prices
    ])  # fmt: skip
    with transaction(world.engine) as connection:
        bars.upsert(connection, frame, "test")


def stand(world: World, at: datetime, *, artifact_id: str = "a15", reference: int = 0, horizon: int = 15) -> str:
    """An artifact that serves, with so many reference days on which errors were as large as the half widths."""
    known = [day(-n, 1.0 + 0.01 * (n % 7), times=4) for n in range(1, reference + 1)]
    row = {
        "artifact_id": artifact_id, "horizon_minutes": horizon, "path": "/nowhere", "sha256": "0", "features": [],
        "metrics": {"reference_days": drift.DAYS.dump_python(tuple(known), mode="json")}, "skilled": True,
    }  # fmt: skip
    with transaction(world.engine) as connection:
        models.start_training(connection, f"made-up-{artifact_id}", "manual", at, WALL - timedelta(days=1))
        models.finish_training(connection, f"made-up-{artifact_id}", models.SUCCESS, {}, [row], at, WALL)
    return artifact_id


def forecast(issued: datetime, symbol: str = "AAPL", horizon: int = 15, return_pct: float = 0.001,
             artifact_id: str = "a15", half: float = 0.01) -> Forecast:  # fmt: skip
    low, high = return_pct - half, return_pct + half
    name = f"{symbol}:{horizon}:{issued:%Y%m%dT%H%M%S}"
    return Forecast(name, symbol, horizon, issued, 100.0, return_pct, low, high, 0.6, artifact_id, True)


def make(world: World, *made: Forecast) -> None:
    with transaction(world.engine) as connection:
        models.add_forecasts(connection, made)


def became(world: World) -> dict[str, tuple[float | None, str | None]]:
    """Of each forecast that is settled, the price and why there is none."""
    rows = world.rows(tables.forecasts)
    return {r["symbol"]: (r["actual_price_usd"], r["incomparable"]) for r in rows if r["matured_at"] is not None}


# --- maturing ---------------------------------------------------------------------------------------------------------


def test_a_forecast_is_compared_with_the_close_of_the_bar_that_ended_at_its_eta(world: World) -> None:
    stand(world, OPEN)
    make(world, forecast(OPEN + 30 * MINUTE))
    put(
        world,
        ("AAPL", OPEN + 30 * MINUTE, 100.0),
        ("AAPL", OPEN + 45 * MINUTE, 101.0),
        ("AAPL", OPEN + 50 * MINUTE, 7.0),
    )
    assert maturing.mature(world.rt, OPEN + 44 * MINUTE) == 0
    assert maturing.mature(world.rt, OPEN + 50 * MINUTE) == 1
    assert maturing.mature(world.rt, OPEN + 60 * MINUTE) == 0
    assert became(world) == {"AAPL": (101.0, None)}


def test_a_late_bar_is_waited_for_two_hours_and_a_halted_ticker_is_given_up_then(world: World) -> None:
    stand(world, OPEN)
    issued = OPEN + 30 * MINUTE
    make(world, forecast(issued), forecast(issued, "MSFT"))
    put(world, ("SPY", OPEN + 200 * MINUTE, 500.0))
    assert maturing.mature(world.rt, OPEN + 160 * MINUTE) == 0 and became(world) == {}
    put(world, ("AAPL", issued + 15 * MINUTE, 102.0))
    assert maturing.mature(world.rt, OPEN + 164 * MINUTE) == 1 and became(world) == {"AAPL": (102.0, None)}
    assert maturing.mature(world.rt, OPEN + 166 * MINUTE) == 0
    assert became(world)["MSFT"] == (None, "no bar")
    put(world, ("MSFT", issued + 15 * MINUTE, 9.0))
    maturing.mature(world.rt, OPEN + 180 * MINUTE)
    assert became(world)["MSFT"] == (None, "no bar")  # settled once


def test_after_days_away_no_forecast_is_given_up_before_the_bars_of_its_time_were_fetched(world: World) -> None:
    stand(world, OPEN)
    issued, back = OPEN + 30 * MINUTE, OPEN + timedelta(days=4)
    make(world, forecast(issued))
    put(world, ("AAPL", issued, 100.0))
    assert maturing.mature(world.rt, back) == 0 and became(world) == {}
    put(world, ("AAPL", issued + 15 * MINUTE, 101.0), ("AAPL", back, 105.0))
    assert maturing.mature(world.rt, back) == 1 and became(world) == {"AAPL": (101.0, None)}


def test_a_time_at_which_the_exchange_is_closed_is_no_outcome_although_there_are_prices(world: World) -> None:
    stand(world, OPEN)
    half_day = datetime(2025, 7, 3, 16, 50, tzinfo=UTC)  # it closes at 13:00 in New York
    made = [forecast(OPEN + 380 * MINUTE), forecast(half_day, "MSFT"), forecast(OPEN + 375 * MINUTE, "SPY")]
    make(world, *made)
    put(world, *((each.symbol, each.issued_at + 15 * MINUTE, 101.0) for each in made))
    assert maturing.mature(world.rt, half_day + 60 * MINUTE) == 1
    assert became(world) == {"AAPL": (None, "closed"), "MSFT": (None, "closed"), "SPY": (101.0, None)}


def test_a_split_before_the_bars_were_fetched_is_no_deviation(world: World) -> None:
    stand(world, OPEN)
    issued, later = OPEN + 30 * MINUTE, OPEN + timedelta(days=1)
    make(world, forecast(issued), forecast(issued, "MSFT"))
    put(world, ("AAPL", issued, 50.0), ("AAPL", issued + 15 * MINUTE, 50.5))  # both told anew
    put(world, ("MSFT", issued, 100.0), ("MSFT", issued + 15 * MINUTE, 10.1), ("SPY", later, 500.0))
    assert maturing.mature(world.rt, later) == 1
    assert became(world) == {"AAPL": (pytest.approx(101.0), None), "MSFT": (None, "split")}


def test_five_thousand_tickers_mature_in_bounded_batches_within_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MATURE_BATCH_ROWS", 4_000)
    monkeypatch.setattr(limits, "MATURE_BATCHES_MAX", 2)
    stand(world, OPEN)
    issued = OPEN + 30 * MINUTE
    symbols = [f"T{n}" for n in range(5_000)]
    make(world, *(forecast(issued, symbol, h) for symbol in symbols for h in (15, 30)))
    put(world, *((s, issued + h * MINUTE, 101.0) for s in symbols for h in (15, 30) if s != "T7"))
    begun_s = clock.monotonic_s()
    assert [maturing.mature(world.rt, issued + 31 * MINUTE) for _ in range(2)] == [7_999, 1_999]
    assert clock.monotonic_s() - begun_s < 30.0  # a second on an idle machine; a query a row takes minutes
    assert len(became(world)) == 4_999
    assert sum(row["matured_at"] is not None for row in world.rows(tables.forecasts)) == 9_998


def test_the_figures_of_a_day_are_what_they_are_by_hand_in_the_documented_units(world: World) -> None:
    stand(world, OPEN)
    random = np.random.default_rng(2)
    issued = [OPEN + n * 15 * MINUTE for n in range(1, 21)]
    made = [forecast(at, f"T{at:%H%M}", return_pct=float(random.normal(0, 0.01))) for at in issued]
    prices = [100.0 * float(1 + random.normal(0, 0.01)) for _ in made]
    make(world, *made)
    put(world, *((each.symbol, each.issued_at + 15 * MINUTE, p) for each, p in zip(made, prices, strict=True)))
    now = OPEN + 390 * MINUTE
    assert maturing.mature(world.rt, now) == 20
    known = [matured(each, price) for each, price in zip(made, prices, strict=True)][10:]
    with transaction(world.engine) as connection:
        told = store.quality(connection, issued[9] + 15 * MINUTE, now)["15"]
    actual = np.array([each.actual_price_usd for each in known])
    target = np.array([each.forecast.target_price_usd for each in known])
    assert told == pytest.approx({
        "count": 10,
        "mae": np.abs(actual - target).mean(),
        "mape": 100 * np.mean(np.abs(actual - target) / actual),
        "rmse": np.sqrt(np.mean((actual - target) ** 2)),
        "avg_deviation": 100 * np.mean([each.deviation_pct for each in known]),
        "naive_mae": np.abs(actual - 100.0).mean(),
        "direction_right": np.mean([each.direction_right for each in known]),
        "inside_interval": np.mean([each.inside_interval for each in known]),
    })  # fmt: skip
    assert maturing.quality(world.rt, now) and not maturing.quality(world.rt, now + timedelta(days=3))


# --- deviation --------------------------------------------------------------------------------------------------------


def trade_day(world: World, opening: datetime, size: float, *, naive: float = 1.0, artifact_id: str = "a15",
              horizon: int = 15) -> None:  # fmt: skip
    """Four forecasts of a day that miss by `size` half widths of the training, and how they matured.

    `naive`: how far the price moved, in the same unit. The intervals that are served have followed the days before.
    """
    with transaction(world.engine) as connection:
        outside = deviations.outside(connection, [artifact_id])[artifact_id]
    half = 0.01 * width_factor(list(outside.values()))
    number = (opening - OPEN).days
    jitter = 1.0 + 0.01 * (number * 5 % 7)
    for at in (opening + n * 60 * MINUTE for n in range(1, 5)):
        moved, missed = 0.01 * naive * jitter, 0.01 * size * jitter
        make(world, forecast(at, horizon=horizon, return_pct=moved - missed, artifact_id=artifact_id, half=half))
        put(world, ("AAPL", at, 100.0), ("AAPL", at + horizon * MINUTE, 100.0 * (1 + moved)))
    maturing.mature(world.rt, opening + 389 * MINUTE)


def look(world: World, opening: datetime) -> int:
    """The first look of a day: the alarms it raised."""
    world.wall.advance(hours=1)
    world.market.set(opening + 10 * MINUTE)
    before = len(world.rows(tables.deviation_alarms))
    pipeline.evaluate_predictions(world.rt)
    return len(world.rows(tables.deviation_alarms)) - before


def drifted(world: World, days: Sequence[datetime], size: float = 2.0) -> datetime:
    """Days with errors of that size until there is an alarm; the opening at which it was raised."""
    for at, (opening, following) in enumerate(pairwise(days)):
        trade_day(world, opening, size, naive=size)
        if look(world, following):
            assert at >= 3, "a drift is not called after a day or two"
            return following
    raise AssertionError("no alarm")


def tick(world: World, now: datetime, run: Any) -> bool:
    """The training worker's."""
    world.wall.advance(minutes=1)
    try:
        return forecasting.train_if_due(world.rt, now, run)
    except TrainingFailed:
        return True


def run_of(world: World, began: list[TrainingRequest], artifact_ids: list[str]) -> forecasting.Run:
    """A training that brings an artifact of 15 minutes at once."""

    def run(
        _bars: pd.DataFrame, request: TrainingRequest, tell: Callable[[TrainingProgress], None], _limit: float
    ) -> Any:
        began.append(request)
        now = world.wall()
        tell(TrainingProgress(True, "training_horizon_15", 0.4, request.trigger, "start", "15", request.now, now))
        done = HorizonResult(Path("/nowhere"), artifact_ids.pop(0), RECORD_15)
        return TrainingResult(
            request.trigger, request.now, now, 1, 1, 1, ("AAPL",), (), 150, False, OPEN, OPEN, {15: done}
        )

    return run


def fail(*_: object) -> Any:
    raise TrainingFailed("made up")


def triggers(world: World) -> list[str]:
    rows = [row for row in world.rows(tables.trainings) if not row["training_id"].startswith("made-up")]
    return [row["trigger"] for row in sorted(rows, key=lambda row: row["started_at"])]


def test_forecasts_that_drift_raise_an_alarm_a_human_hears_why_and_a_training_follows(world: World) -> None:
    stand(world, OPEN - timedelta(days=1), reference=20)
    for opening, following in pairwise(TRADED[:4]):
        trade_day(world, opening, 1.0)
        assert look(world, following) == 0
    alarmed = drifted(world, TRADED[3:])
    assert world.told(keys.RETRAIN_STATUS).pending
    (alert,) = world.told(keys.ALERTS_ACTIVE)
    assert (alert.type, alert.title) == (AlertType.SYSTEM_ALERT, deviation.TITLE)
    assert alert.message.startswith("15 min: errors are 2.0 times") and "1 model in 100" in alert.message
    began: list[TrainingRequest] = []
    assert tick(world, alarmed + 20 * MINUTE, run_of(world, began, ["new"]))
    assert [request.trigger for request in began] == ["deviation"]
    status = world.told(keys.RETRAIN_STATUS)
    assert (status.trigger, status.pending) == (TrainingTrigger.DEVIATION, False)
    assert world.told(keys.ML_TRAINING_STATUS).trigger is TrainingTrigger.DEVIATION
    assert {entry.trigger for entry in world.told(keys.ML_TRAINING_LOG)[-2:]} == {TrainingTrigger.DEVIATION}
    assert not tick(world, alarmed + 60 * MINUTE, fail)  # answered


def test_days_as_ever_and_wild_days_with_intervals_as_wide_raise_no_alarm(world: World) -> None:
    stand(world, OPEN - timedelta(days=1), reference=20)
    for opening, following in pairwise(TRADED[:13]):
        trade_day(world, opening, 1.0)
        assert look(world, following) == 0
    assert len(world.rows(tables.forecast_days)) == 12 and world.rows(tables.deviation_alarms) == []


def test_a_day_much_worse_than_no_change_alarms_at_once(world: World) -> None:
    stand(world, OPEN - timedelta(days=1))  # an artifact from before there were reference days
    trade_day(world, TRADED[0], 3.0, naive=1.0)
    assert look(world, TRADED[1]) == 1
    (alarm,) = world.rows(tables.deviation_alarms)
    assert (alarm["kind"], alarm["day"]) == ("bound", TRADED[0].date())
    assert '3.0 times as much as "the price stays as it is"' in alarm["why"]


def test_a_day_is_judged_when_it_is_over_and_nothing_of_it_is_open(world: World) -> None:
    stand(world, OPEN - timedelta(days=1))
    trade_day(world, TRADED[0], 3.0)
    assert deviation.look(world.rt, TRADED[0] + 389 * MINUTE) == 0
    make(world, forecast(TRADED[0] + 300 * MINUTE, "MSFT"))
    assert look(world, TRADED[1]) == 0 and world.rows(tables.forecast_days) == []
    put(world, ("AAPL", TRADED[1] + 5 * MINUTE, 100.0))
    maturing.mature(world.rt, TRADED[1] + 8 * MINUTE)
    assert look(world, TRADED[1]) == 1


def test_a_second_look_and_a_restart_raise_nothing_twice_and_days_after_an_alarm_count_anew(world: World) -> None:
    stand(world, OPEN - timedelta(days=1), reference=20)
    first = drifted(world, TRADED)
    world.wall.advance(hours=2)
    assert deviation.look(world.another(), first + 30 * MINUTE) == 0
    second = drifted(world, TRADED[TRADED.index(first) :])  # asserts that it takes days again
    assert [row["at"] for row in world.rows(tables.deviation_alarms)] == [first + 10 * MINUTE, second + 10 * MINUTE]


def test_an_alarm_waits_for_the_cool_down_in_postgres_and_for_a_training_that_succeeds(world: World) -> None:
    stand(world, TRADED[1] - MINUTE)
    trade_day(world, TRADED[1], 3.0)
    assert look(world, TRADED[2]) == 1
    with transaction(world.engine) as connection:  # a human's, an hour ago
        models.start_training(connection, "by-hand", "manual", TRADED[2] - timedelta(hours=1), world.wall())
        models.finish_training(connection, "by-hand", models.FAILED, {}, [], TRADED[2], world.wall())
    assert not tick(world, TRADED[2] + 20 * MINUTE, fail)
    assert deviation.waiting(world.another(), TRADED[3])
    assert tick(world, TRADED[3], fail)
    assert not tick(world, TRADED[3] + 30 * MINUTE, fail)  # it failed: twice the wait
    began: list[TrainingRequest] = []
    assert tick(world, TRADED[3] + timedelta(days=2), run_of(world, began, ["new"]))
    assert not deviation.waiting(world.rt, TRADED[20])
    assert triggers(world) == ["manual", "deviation", "deviation"]


def test_where_retraining_does_not_help_there_is_no_loop(world: World) -> None:
    stand(world, TRADED[0] - timedelta(days=2))
    began: list[TrainingRequest] = []
    names, standing = [f"n{n}" for n in range(50)], "a15"
    for opening, following in pairwise(TRADED[:21]):
        trade_day(world, opening, 3.0, artifact_id=standing)
        look(world, following)
        for minutes in (15, 60, 300):
            if tick(world, following + minutes * MINUTE, run_of(world, began, names)):
                standing = f"h15-n{len(began) - 1}"
    by_deviation = [row["started_at"] for row in world.rows(tables.trainings) if row["trigger"] == "deviation"]
    assert 3 <= len(by_deviation) <= 4
    gaps = np.diff(sorted(by_deviation))
    assert all(late > early for early, late in pairwise(gaps))


def test_a_humans_request_is_not_held_up_by_the_cool_down(world: World) -> None:
    stand(world, TRADED[0])
    put(world, ("AAPL", TRADED[0], 100.0))
    with transaction(world.engine) as connection:
        connection.execute(sa.insert(tables.training_requests).values(request_id="r", asked_at_wall=WALL))
    assert tick(world, TRADED[0] + MINUTE, fail)
    assert triggers(world) == ["manual"]
