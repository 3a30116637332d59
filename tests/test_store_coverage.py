"""The share of outcomes outside their interval is told by artifact and New York day, finished days alone."""

from __future__ import annotations

from datetime import timedelta

from qbot.store import coverage, models
from qbot.store.engine import transaction
from qbot.types import Forecast
from tests.support.exchange import MID_SESSION
from tests.support.runtime import World


def test_each_finished_day_of_an_artifact_has_its_share(world: World) -> None:
    world.believe("AAPL", 0.0)  # brings the artifact
    prices: dict[str, float | None] = {}
    made = []
    for days_ago, outcomes in ((2, (100.5, 98.0, 102.0, 100.0)), (1, (100.0, 101.5)), (0, (50.0,))):
        for number, price in enumerate(outcomes):
            issued_at = MID_SESSION - timedelta(days=days_ago, minutes=15 * number)
            key = f"{days_ago}:{number}"
            made.append(Forecast(key, "MSFT", 60, issued_at, 100.0, 0.0, -0.01, 0.01, 0.5, "made-up-60", False))
            prices[key] = price
    unknown = Forecast(
        "unknown", "MSFT", 60, MID_SESSION - timedelta(days=1), 100.0, 0.0, -0.01, 0.01, 0.5, "made-up-60", False
    )
    with transaction(world.engine) as connection:
        models.add_forecasts(connection, [*made, unknown])
        models.mature(connection, {**prices, "unknown": None}, MID_SESSION)
        today = f"{MID_SESSION:%Y-%m-%d}"
        assert coverage.daily_outside(connection, ["made-up-60"], today) == {"made-up-60": [0.5, 0.5]}
        assert coverage.daily_outside(connection, ["another"], today) == {}
