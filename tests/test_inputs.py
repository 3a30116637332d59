"""Three inputs beyond the documents: each done once for ever, and a bad value does nothing but tell a human."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest

from qbot import control, forecasting, inputs, limits, pipeline
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_ml import TrainingTrigger
from qbot.errors import StoreUnavailable, TrainingFailed
from qbot.runtime import Runtime
from qbot.store import tables
from tests.support.runtime import World, quote_of

UNREADABLE = ("WARNING", "An input is unreadable")


def alert(world: World, title: str = "Something broke", severity: Severity = Severity.CRITICAL) -> str:
    control.raise_alert(world.rt, AlertType.SYSTEM_ALERT, severity, title, "Look at it.")
    return str(next(row["alert_id"] for row in world.rows(tables.alerts) if row["title"] == title))


def level(price_alert_id: str = "p1", **more: Any) -> dict[str, Any]:
    return {"price_alert_id": price_alert_id, "symbol": "AAPL", **more}


def watch(world: World, *levels: Any) -> None:
    world.say(keys.PRICE_ALERTS, list(levels))
    inputs.handle(world.rt)


def shown(world: World) -> dict[str, str]:
    """Titles and messages of the price alerts on the board."""
    return {a.title: a.message for a in world.told(keys.ALERTS_ACTIVE) or () if a.type is AlertType.PRICE_ALERT}


def quote(world: World, price: str, symbol: str = "AAPL", *, age_s: float = 0) -> None:
    """What a fetch brings, into the hands of those who watch levels."""
    made = quote_of(symbol, price, world.market() - timedelta(seconds=age_s))
    inputs.check_levels(world.rt, {symbol: made})


# --- alerts acknowledged ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", list(Severity))
def test_an_acknowledged_alert_shows_so_at_once_and_stays_until_it_expires(world: World, severity: Severity) -> None:
    alert_id, other = alert(world, severity=severity), alert(world, "Something else")
    world.say(keys.ALERT_ACKNOWLEDGEMENTS, [{"alert_id": alert_id, "session_id": "ui_1"}])
    inputs.handle(world.rt)
    found = {one.alert_id: one for one in world.told(keys.ALERTS_ACTIVE)}
    assert {name: one.acknowledged for name, one in found.items()} == {alert_id: True, other: False}
    world.wall.advance(hours=2)
    pipeline.update_backend_responses(world.rt)
    assert alert_id not in {one.alert_id for one in world.told(keys.ALERTS_ACTIVE)}


def test_who_was_first_to_see_an_alert_and_when_is_kept(world: World) -> None:
    alert_id, first = alert(world), world.wall()
    for others in (("ui_1", "ui_2"), ("ui_3",)):
        seen = [{"alert_id": alert_id, "session_id": session_id} for session_id in others]
        world.say(keys.ALERT_ACKNOWLEDGEMENTS, seen)
        inputs.handle(world.rt)
        world.wall.advance(minutes=1)
    (row,) = world.rows(tables.alerts)
    assert (row["acknowledged_by"], row["acknowledged_at_wall"]) == ("ui_1", first)


def test_unknown_alerts_are_ignored_and_nothing_is_written_when_nothing_is_new(world: World) -> None:
    alert_id = alert(world)
    said = [{"alert_id": "nobody's"}, {"alert_id": alert_id}, {"alert_id": alert_id, "session_id": "ui_1"}]
    world.say(keys.ALERT_ACKNOWLEDGEMENTS, said)
    inputs.handle(world.rt)
    before = world.redis.get("qbot:revision")
    inputs.handle(world.rt)
    assert world.redis.get("qbot:revision") == before
    assert [row["acknowledged"] for row in world.rows(tables.alerts)] == [True]


# --- price levels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "price", "title"), [
    ({"above": 230}, "230", "AAPL is at or above 230 USD"),
    ({"above": 230.5}, "231.12", "AAPL is at or above 230.5 USD"),
    ({"below": 200}, "200", "AAPL is at or below 200 USD"),
    ({"below": 200}, "1", "AAPL is at or below 200 USD"),
    ({"above": 230, "below": 200}, "199.99", "AAPL is at or below 200 USD"),
    ({"above": 230}, "229.99", None),
    ({"below": 200}, "200.01", None),
    ({"above": 230, "below": 200}, "215", None),
])  # fmt: skip
def test_a_level_is_told_when_the_price_is_at_or_beyond_it(
    world: World, asked: dict[str, Any], price: str, title: str | None
) -> None:
    world.exchange.fault("server_error", method="GET", path="/v2/stocks")
    watch(world, level(note="mind the gap", **asked))
    quote(world, price)
    told = shown(world)
    assert list(told) == ([title] if title else [])
    assert all(f"the last price is {price} USD. mind the gap" in message for message in told.values())
    assert {one.severity for one in world.told(keys.ALERTS_ACTIVE) or ()} <= {Severity.WARNING}


def test_a_level_is_told_once_for_ever_whatever_the_price_does_and_whoever_looks(world: World) -> None:
    watch(world, level(above=1))
    assert len(shown(world)) == 1
    for price in ("1", "0.5", "2"):
        quote(world, price)
    world.redis.flushall()
    world.wall.advance(days=2)
    watch(world, level(above=1, note="again"))
    assert len(world.rows(tables.alerts)) == 1
    watch(world, level("p2", above=1))
    assert len(world.rows(tables.alerts)) == 2
    with world.engine.begin() as connection:
        connection.execute(tables.alerts.delete())
    quote(world, "2")
    assert world.rows(tables.alerts) == []


def test_several_who_look_at_once_tell_a_level_once(world: World) -> None:
    watch(world, level(above=10_000))
    errors: list[BaseException] = []
    together = threading.Barrier(4)

    def look(rt: Runtime) -> None:
        try:
            together.wait(10)
            inputs.check_levels(rt, {"AAPL": quote_of("AAPL", "10001", world.market())})
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=look, args=(world.another(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (errors, len(world.rows(tables.alerts))) == ([], 1)


def test_a_new_level_is_looked_at_at_once_and_all_after_each_fetch(world: World) -> None:
    price = world.price("AAPL")
    watch(world, level("now", below=float(price + 1)), level("later", above=float(price + 50)))
    assert len(shown(world)) == 1
    watch(world, level("now", below=float(price + 1)), level("later", above=float(price - 1)))
    assert len(shown(world)) == 2


def test_a_fetch_looks_at_the_levels(world: World) -> None:
    world.exchange.fault("server_error", method="GET", path="/v2/stocks", times=1)
    watch(world, level(above=1), level("p2", symbol="MSFT", below=1))
    assert shown(world) == {}
    pipeline.fetch_data(world.rt)
    assert list(shown(world)) == ["AAPL is at or above 1 USD"]


@pytest.mark.parametrize("age_s", [limits.QUOTE_MAX_AGE_S + 1, -limits.CLOCK_SKEW_S - 1])
def test_a_quote_that_is_not_of_this_moment_tells_nothing(world: World, age_s: float) -> None:
    watch(world, level(above=100_000))
    quote(world, "100001", age_s=age_s)
    assert shown(world) == {}
    quote(world, "100001", age_s=0)
    assert len(shown(world)) == 1


def test_a_symbol_that_qbot_does_not_watch_is_told_once(world: World) -> None:
    for _ in range(3):
        watch(world, level(symbol="TSLA", above=1), level("p2", symbol="ZZZZ", below=1, note="mine"))
    assert [(row["severity"], row["symbol"]) for row in world.rows(tables.alerts)] in (
        [("INFO", "TSLA"), ("INFO", "ZZZZ")], [("INFO", "ZZZZ"), ("INFO", "TSLA")],
    )  # fmt: skip
    assert "A price level cannot be watched" in shown(world)


def test_a_level_that_was_taken_back_is_told_no_more(world: World) -> None:
    watch(world, level(above=100_000))
    watch(world)
    quote(world, "100001")
    watch(world, level("p2", above=100_000))
    world.redis.delete(keys.PRICE_ALERTS.name)
    inputs.handle(world.rt)
    quote(world, "100001")
    assert shown(world) == {}


# --- a training asked for ---------------------------------------------------------------------------------------------


@pytest.fixture
def trained(world: World) -> World:
    """A QBot with bars and an artifact that serves."""
    pipeline.fetch_data(world.rt)
    world.believe("AAPL", 0.01)
    return world


def trainings(world: World) -> list[str]:
    """The triggers of all trainings that began."""
    return [row["trigger"] for row in world.rows(tables.trainings) if not row["training_id"].startswith("made-up")]


def fail(*_: object) -> Any:
    """A training that comes to nothing."""
    raise TrainingFailed("made up")


def train(world: World, run: forecasting.Run = fail) -> None:
    """The worker's tick."""
    try:
        forecasting.train_if_due(world.rt, world.market(), run)
    except TrainingFailed:
        world.wall.advance(seconds=1)


def request(world: World, request_id: str = "r1") -> None:
    world.say(keys.TRAINING_REQUEST, {"request_id": request_id, "session_id": "ui_1", "reason": "new week"})
    inputs.handle(world.rt)


def test_a_training_asked_for_waits_shows_as_pending_and_runs_with_trigger_manual(trained: World) -> None:
    train(trained)
    assert trainings(trained) == []  # none is due
    request(trained)
    assert trained.told(keys.RETRAIN_STATUS).pending
    train(trained)
    assert trainings(trained) == ["manual"]
    assert not trained.told(keys.RETRAIN_STATUS).pending
    assert trained.told(keys.ML_TRAINING_STATUS).trigger is TrainingTrigger.MANUAL
    (row,) = trained.rows(tables.training_requests)
    assert (row["request_id"], row["session_id"], row["reason"]) == ("r1", "ui_1", "new week")


def test_a_request_is_trained_for_once_for_ever_even_when_the_training_failed(trained: World) -> None:
    for _ in range(3):
        request(trained)
        trained.redis.flushall()
        train(trained)
    assert trainings(trained) == ["manual"]
    request(trained, "r2")
    train(trained)
    assert trainings(trained) == ["manual", "manual"]


def test_requests_that_wait_together_are_served_by_the_next_training(trained: World) -> None:
    for name in ("r1", "r2", "r3"):
        request(trained, name)
    train(trained)
    train(trained)
    assert trainings(trained) == ["manual"]
    (served,) = {row["training_id"] for row in trained.rows(tables.training_requests)}
    assert served in {row["training_id"] for row in trained.rows(tables.trainings)}


def test_a_request_that_comes_while_a_training_runs_waits_for_the_next(trained: World) -> None:
    pending: list[bool] = []

    def busy(*_: object) -> Any:
        request(trained, "r2")
        pending.append(trained.told(keys.RETRAIN_STATUS).pending)
        raise TrainingFailed("made up")

    request(trained, "r1")
    train(trained, busy)
    assert (trainings(trained), pending) == (["manual"], [True])
    assert trained.told(keys.RETRAIN_STATUS).pending
    train(trained)
    assert trainings(trained) == ["manual", "manual"]
    assert not trained.told(keys.RETRAIN_STATUS).pending


def test_before_there_are_bars_a_request_waits(world: World) -> None:
    request(world)
    train(world)
    assert [row["training_id"] for row in world.rows(tables.training_requests)] == [None]
    assert world.told(keys.RETRAIN_STATUS).pending


def test_a_training_that_failed_by_itself_is_not_tried_again_at_every_tick(trained: World) -> None:
    trained.market.advance(days=8)
    for _ in range(3):
        train(trained)
    assert trainings(trained) == ["scheduled"]
    trained.market.advance(seconds=forecasting.RETRY_AFTER.total_seconds() + 1)
    train(trained)
    assert trainings(trained) == ["scheduled", "scheduled"]


# --- what cannot be used ----------------------------------------------------------------------------------------------

EACH = pytest.mark.parametrize("key", inputs.KEYS, ids=lambda key: key.name)


@EACH
@pytest.mark.parametrize("bad", ["{", "7", '{"a": 1}', "[" * 10_000, '"x"', "[1e400]", '[{"x": 1e400}]', "null"])
def test_a_value_that_is_none_changes_nothing_and_is_told_once(world: World, key: Any, bad: str) -> None:
    world.redis.set(key.name, bad)
    for _ in range(3):
        inputs.handle(world.rt)
    assert world.alerts() == [UNREADABLE]
    assert world.redis.get(key.name) == bad
    assert world.rows(tables.training_requests) == []


@EACH
def test_a_redis_list_where_a_string_should_be_changes_nothing_and_is_told(world: World, key: Any) -> None:
    world.redis.lpush(key.name, "x")
    inputs.handle(world.rt)
    assert world.alerts() == [UNREADABLE]


@pytest.mark.parametrize("bad", [
    {}, None, 7, [], "x", level(), level(above=-1), level(above=0), level(above="9"), level(above=1, below=2),
    level("", above=1), level("x" * 101, above=1), level(symbol="?", above=1), level(above=1, note="\0"),
])  # fmt: skip
def test_an_element_that_is_not_valid_does_its_neighbours_no_harm(world: World, bad: Any) -> None:
    watch(world, bad, level("good", above=1), bad)
    assert list(shown(world)) == ["AAPL is at or above 1 USD"]
    assert UNREADABLE in world.alerts()


def test_an_acknowledgement_that_is_none_does_its_neighbour_no_harm(world: World) -> None:
    world.say(keys.ALERT_ACKNOWLEDGEMENTS, [{"alert": "?"}, {"alert_id": alert(world)}, 5])
    inputs.handle(world.rt)
    assert {row["title"]: row["acknowledged"] for row in world.rows(tables.alerts)} == {
        "Something broke": True, UNREADABLE[1]: False,
    }  # fmt: skip


def test_while_the_levels_are_unreadable_the_last_good_ones_are_watched(world: World) -> None:
    watch(world, level(above=100_000))
    for bad in ("{", json.dumps([level(f"p{n}", above=1) for n in range(1_001)])):
        world.redis.set(keys.PRICE_ALERTS.name, bad)
        inputs.handle(world.rt)
    quote(world, "100001")
    assert list(shown(world)) == ["AAPL is at or above 100000 USD"]


def test_a_thousand_levels_are_each_told_once(world: World) -> None:
    for _ in range(2):
        watch(world, *[level(f"p{n}", above=1 + n / 100, note="x" * 800) for n in range(1_000)])
    assert len(world.rows(tables.alerts)) == 1_000


@EACH
def test_the_documented_example_is_understood(world: World, key: Any) -> None:
    world.redis.set(key.name, key.example)
    inputs.handle(world.rt)
    assert UNREADABLE not in world.alerts()


def test_the_net_does_what_no_event_told_of(world: World) -> None:
    alert_id = alert(world)
    world.say(keys.ALERT_ACKNOWLEDGEMENTS, [{"alert_id": alert_id}])
    world.say(keys.PRICE_ALERTS, [level(above=1)])
    world.say(keys.TRAINING_REQUEST, {"request_id": "r1"})
    pipeline.sync_frontend_settings(world.rt)
    assert {one.alert_id: one.acknowledged for one in world.told(keys.ALERTS_ACTIVE)}[alert_id]
    assert len(shown(world)) == 1
    assert world.told(keys.RETRAIN_STATUS).pending


def test_without_postgres_it_is_named_and_done_when_it_is_back(world: World) -> None:
    world.say(keys.PRICE_ALERTS, [level(above=1)])
    with pytest.raises(StoreUnavailable):
        inputs.handle(world.without_postgres())
    assert not world.redis.exists(keys.ALERTS_ACTIVE.name)
    inputs.handle(world.rt)
    assert len(shown(world)) == 1
