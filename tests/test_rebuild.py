"""The board after a FLUSHALL: every key again, the same values, nothing sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from qbot import control, pipeline, rebuild
from qbot.contract import keys
from qbot.contract.key import Direction
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_ml import TrainingStats
from qbot.errors import BoardUnavailable, QBotError
from qbot.runtime import Runtime
from qbot.store import models
from qbot.store.engine import transaction
from tests.support.runtime import SESSION, WALL, World
from tests.support.values import NOW
from tests.test_pipeline import TASKS, trading, with_history

# What is measured anew each time, and what the loss itself changes: it is off now, for another reason, and says so.
MEASURED = {keys.SYSTEM_STATUS.name, keys.SYSTEM_HEALTH.name}
OF_THE_LOSS = {keys.ALERTS_ACTIVE.name, keys.AUTOTRADING_STATUS.name}
INTERNAL = {name for name, key in keys.ENTRIES.items() if key.internal}
OURS = [key for key in keys.ENTRIES.values() if key.direction is not Direction.FRONTEND and not key.pattern]


def board(world: World) -> dict[str, Any]:
    """Every key QBot writes, as it stands; fails on anything the contract does not allow."""
    readings = world.rt.board.read_many(OURS)
    assert readings.problems == {}
    raw = {key.name: world.redis.get(key.name) for key in OURS if readings[key].present}
    return {name: value if keys.ENTRIES[name].text else json.loads(str(value)) for name, value in raw.items()}


def lived(world: World) -> World:
    """A day of QBot in a few calls: trained, traded, matured, failed once, stopped."""
    with_history(world)
    trained(world)
    world.say(keys.PORTFOLIO_SETTINGS, {"target_diversification": 3, "preferred_sectors": ["Gardening"]})
    trading(world, ("AAPL", 0.01), ("MSFT", 0.0002))
    pipeline.fetch_data(world.rt)
    pipeline.trade_bot(world.rt)
    world.believe("SPY", 0.01, horizon=15)
    world.market.advance(minutes=20)
    world.wall.advance(seconds=20)
    pipeline.fetch_data(world.rt)
    world.believe("SPY", 0.004)
    control.raise_alert(world.rt, AlertType.TRADE_ALERT, Severity.CRITICAL, "Something", "happened")
    world.redis.delete(keys.AUTOTRADING_ENABLED.name)
    for task in TASKS:
        task(world.rt)
    world.market.advance(minutes=1)  # what was written at different moments is written once more at the same one
    for task in (*TASKS, pipeline.monitor_autotrading_frontend):
        task(world.rt)
    return world


def trained(world: World) -> None:
    """A training that succeeded, one that failed."""
    stats = TrainingStats.model_validate_json(keys.LAST_TRAINING_STATS.example).model_dump(mode="json")
    with transaction(world.engine) as connection:
        models.start_training(connection, "t1", "scheduled", NOW, WALL - timedelta(hours=3), "9 bars")
        body = {"status": "success", **stats}
        models.finish_training(connection, "t1", models.SUCCESS, body, (), NOW, WALL - timedelta(hours=2), "done")
        models.start_training(connection, "t2", "manual", NOW, WALL - timedelta(hours=1), "8 bars")
        models.finish_training(connection, "t2", models.FAILED, {}, (), NOW, WALL - timedelta(minutes=59), "no bars")


def test_every_key_is_there_again_with_the_same_values_and_nothing_is_sent(world: World) -> None:
    lived(world)
    before, posts = board(world), world.posts()
    world.redis.flushall()
    assert rebuild.rebuild(world.rt) == []
    after = board(world)
    assert set(before) - OF_THE_LOSS <= set(after)
    compared = set(before) - MEASURED - OF_THE_LOSS - INTERNAL
    differing = {name: (before[name], after[name]) for name in compared if before[name] != after[name]}
    shared = {keys.TRADING_SETTINGS.name, keys.RISK_SETTINGS.name}  # what a frontend had said there is gone
    assert set(differing) - shared <= {keys.TRADING_STATUS.name}
    then, now = before[keys.TRADING_STATUS.name], after[keys.TRADING_STATUS.name]
    assert {**then, "stop_reason": None} == {**now, "stop_reason": None}
    assert (world.posts(), posts) == (1, 1)
    histories = {key.name for key in OURS if key.history_limit}
    assert {name for name in histories if not after[name]} == set()  # and none of them was empty to begin with


def test_what_was_on_is_off_after_the_loss_and_no_signal_becomes_an_order(world: World) -> None:
    trading(world, ("AAPL", 0.05))
    world.redis.flushall()
    rebuild.rebuild(world.rt)
    assert world.told(keys.AUTOTRADING_BACKEND_STATUS) == "STOPPED"
    assert world.told(keys.AUTOTRADING_SESSION_ACTIVE) is None
    assert [alert.title for alert in world.told(keys.ALERTS_ACTIVE)] == ["The board was lost"]
    assert [one.ticker for one in world.told(keys.ML_TRADING_SIGNALS)] == ["AAPL"]
    pipeline.trade_bot(world.rt)
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    assert (world.posts(), world.intents()) == (0, {})


def test_the_beat_finds_a_lost_board_and_rebuilds_it_once(world: World) -> None:
    lived(world)
    world.redis.flushall()
    pipeline.emergency_handler(world.rt)  # it comes first, and puts the sentinel back
    assert rebuild.needed(world.rt)
    pipeline.monitor_autotrading_frontend(world.rt)
    assert not rebuild.needed(world.rt)
    assert len(world.told(keys.TRADES_LOG)) == 1
    revision = int(world.redis.get(keys.REVISION_COUNTER) or 0)
    pipeline.monitor_autotrading_frontend(world.rt)
    assert int(world.redis.get(keys.REVISION_COUNTER) or 0) < revision + 20


def test_a_new_installation_has_a_whole_board_before_anything_was_fetched(world: World) -> None:
    assert rebuild.rebuild(world.rt) == []
    assert world.told(keys.MODEL_TRAINED) is False
    assert world.told(keys.ML_TRADING_SIGNALS) == ()
    assert world.told(keys.GROK_CANDIDATES) == ()
    assert world.told(keys.PORTFOLIO_SUMMARY).total_value == 100_000
    missing = {key.name for key in OURS if key.absent is None and not world.rt.board.read(key).present}
    assert missing == {keys.TRADES_LOG.name} - set(board(world))


Fault = Callable[[World], Runtime]


def silent_broker(world: World) -> Runtime:
    for path in ("/v2/account", "/v2/positions", "/v2/clock", "/v2/orders"):
        world.exchange.fault("server_error", path=path)
    return world.rt


def silent_provider(world: World) -> Runtime:
    world.exchange.fault("server_error", path="/v2/stocks")
    return world.rt


@pytest.mark.parametrize(
    ("fault", "failed"),
    [(silent_broker, ["books", "performance"]), (silent_provider, [])],
)
def test_a_part_that_fails_is_told_and_stops_no_other(world: World, fault: Fault, failed: list[str]) -> None:
    lived(world)
    world.redis.flushall()
    assert rebuild.rebuild(fault(world)) == failed
    assert world.told(keys.ML_TRAINING_LOG)[-1].event == "model_trained"
    assert world.told(keys.AUTOTRADING_BACKEND_STATUS) == "STOPPED"
    told = {alert.message.split(":")[0] for alert in world.told(keys.ALERTS_ACTIVE) if "rebuilt" in alert.title}
    assert told == set(failed)
    assert world.posts() == 1


def test_without_postgres_what_needs_none_is_shown_and_without_redis_nothing_is_tried(world: World) -> None:
    with pytest.raises(QBotError):  # the alerts themselves cannot be told
        rebuild.rebuild(world.without_postgres())
    assert world.told(keys.MARKET_STATUS).market_open is True
    assert world.told(keys.SYSTEM_STATUS).postgres_connected is False
    with pytest.raises(BoardUnavailable):
        rebuild.rebuild(world.without_redis())
    assert world.posts() == 0
