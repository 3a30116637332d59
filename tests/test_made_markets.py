"""Promotion seen both ways with real trainings: on a market with planted skill, and on one without any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from qbot import artifacts, forecasting, training
from qbot.contract import keys
from qbot.signals import signals
from qbot.store import bars, models
from qbot.store.engine import transaction
from qbot.training_types import TrainingProgress, TrainingRequest, TrainingResult
from qbot.types import Action
from tests.support.made_up_market import made_up_bars
from tests.support.runtime import CONFIG, TICKERS, World, quote_of

SESSIONS = 32
EAGER = replace(
    CONFIG, buy_threshold_pct=1e-9, sell_threshold_pct=1e-9, ml_confidence_threshold=0.0, use_technical_analysis=False
)


def one_horizon(
    history: pd.DataFrame, request: TrainingRequest, tell: Callable[[TrainingProgress], None], limit_s: float
) -> TrainingResult:
    """The real training, of one horizon; in this process, and with time enough for a busy machine."""
    return training.train(history, replace(request, horizons=(15,), seconds_per_horizon=200), tell)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("momentum", "proven"), [(0.6, True), (0.0, False)], ids=["planted skill", "random walk"])
def test_a_market_with_skill_is_traded_and_a_random_walk_is_refused_for_all_to_see(
    world: World, momentum: float, proven: bool
) -> None:
    artifacts.forget()
    first = pd.bdate_range(end=world.market().date() - timedelta(days=1), periods=SESSIONS)[0]
    history = made_up_bars(TICKERS, SESSIONS, seed=7, momentum=momentum, first_day=f"{first:%Y-%m-%d}")
    now = history["ts"].max().to_pydatetime() + timedelta(minutes=5)
    world.market.set(now)
    with transaction(world.engine) as connection:
        bars.upsert(connection, history, "made up")
    forecasting.train(world.rt, now, "manual", one_horizon)
    with transaction(world.engine) as connection:
        standing = models.standing_artifacts(connection)[15]
    assert (standing["skilled"], standing["verdict"]["outcome"]) == (proven, "promoted" if proven else "refused")
    made_by = standing["metrics"]["lineage"]
    assert made_by["code"] and len(made_by["hyperparameters_sha256"]) == 64 and made_by["span_days"] == 70.0
    told = world.told(keys.ML_TRAINING_LOG)[-1].detail
    assert told.startswith("15 min promoted: better than no change (p = " if proven else "15 min refused: not better")
    made = forecasting.forecast(world.rt, now)
    assert len(made) == len(TICKERS) and {one.skilled for one in made} == {proven}
    quotes = {one.symbol: quote_of(one.symbol, str(one.current_price_usd), now) for one in made}
    acts = {
        allowed: {
            one.action is not Action.HOLD for one in signals(made, quotes, {}, EAGER, now, allow_unskilled=allowed)
        }
        for allowed in (False, True)
    }
    assert acts == {False: {proven}, True: {True}}
