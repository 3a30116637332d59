"""From any order back to what made it (invariant I6): every kind of order, every id, every link."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from qbot import audit, control, pipeline
from qbot.contract import keys
from qbot.store import ledger, order_book, tables
from qbot.store.audit import Trail, checked
from qbot.store.engine import transaction
from qbot.types import Source
from tests.support.runtime import SESSION, WALL, World

Row = dict[str, Any]
STAMP = "2026-03-02T11:59:00Z"


def look(world: World, asked: str) -> Trail:
    found = audit.look(world.engine, asked)
    assert found is not None, asked
    return found


def text(found: Trail) -> str:
    return "\n".join(f"{name}: {line}" for name, lines in audit.told(found) for line in lines)


def order_of(world: World, **wanted: object) -> Row:
    rows = [row for row in world.rows(tables.orders) if all(row[name] == value for name, value in wanted.items())]
    assert len(rows) == 1, rows
    return rows[0]


def trading(world: World, *forecasts: tuple[str, float]) -> World:
    """On, and with forecasts."""
    control.sync_switch(world.rt)
    world.say(keys.TRADING_CONFIG, {"ml_confidence_threshold": 0.5, "max_position_size": 10})
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    assert control.sync_switch(world.rt).on
    for symbol, return_pct in forecasts:
        world.believe(symbol, return_pct)
    return world


# --- how each kind of order comes about -------------------------------------------------------------------------------


def an_entry(world: World) -> Row:
    """By forecast, signal, gate and bracket, in a whole trading cycle."""
    trading(world, ("AAPL", 0.01))
    pipeline.trade_bot(world.rt)
    world.reconcile()
    return order_of(world, side="buy")


def a_leg(world: World) -> Row:
    """The take-profit of an entry, filled."""
    entry = an_entry(world)
    return order_of(world, parent_id=entry["broker_order_id"], order_type="limit")


def a_model_exit(world: World) -> Row:
    """A forecast that it falls sells the position."""
    an_entry(world)
    world.market.advance(minutes=10)
    world.believe("AAPL", -0.02)
    pipeline.trade_bot(world.rt)
    world.reconcile()
    return order_of(world, client_order_id=world.sent()[-1]["client_order_id"], side="sell")


def a_manual_order(world: World) -> Row:
    body = {
        "order_id": "order_1", "symbol": "AAPL", "side": "BUY", "quantity": 2, "order_type": "MARKET",
        "time_in_force": "DAY", "status": "PENDING", "priority": "HIGH", "created_at": STAMP,
    }  # fmt: skip
    world.say(keys.MANUAL_ORDERS, [body])
    pipeline.process_manual_orders(world.rt)
    world.reconcile()
    return order_of(world, side="buy")


def an_emergency_sale(world: World) -> Row:
    an_entry(world)
    action = {"action": "CLOSE_ALL_POSITIONS", "confirmed": True, "session_id": "s", "reason": "a test"}
    world.say(keys.EMERGENCY_ACTIONS, {**action, "timestamp": WALL.isoformat()})
    pipeline.emergency_handler(world.rt)
    world.reconcile()
    return order_of(world, source="emergency")


def a_protection_put_back(world: World) -> Row:
    """The stop-loss and take-profit of an entry were cancelled by hand; the reconcile puts them back."""
    an_entry(world)
    for order in world.resting("sell"):
        world.exchange.call("DELETE", f"/v2/orders/{order['id']}")
    world.market.advance(minutes=1)
    pipeline.reconcile_orders(world.rt)
    world.reconcile()
    (row,) = [r for r in world.rows(tables.intents) if r["kind"] == "protection"]
    return order_of(world, client_order_id=row["client_order_id"])


def a_replaced_entry(world: World) -> Row:
    """An entry that a human changed at the broker: the new order took the place of the old one."""
    trading(world, ("AAPL", 0.01))
    pipeline.trade_bot(world.rt)
    world.reconcile()
    entry = order_of(world, side="buy")
    leg = order_of(world, parent_id=entry["broker_order_id"], order_type="limit")
    more = {"limit_price": str(leg["limit_price_usd"] + 1)}
    answer = world.exchange.call("PATCH", f"/v2/orders/{leg['broker_order_id']}", json=more)
    assert answer.status_code == 200, answer.text
    world.reconcile()
    return order_of(world, broker_order_id=answer.json()["id"])


OWN: list[Callable[[World], Row]] = [
    an_entry, a_leg, a_model_exit, a_manual_order, an_emergency_sale, a_protection_put_back, a_replaced_entry,
]  # fmt: skip
BY_FORECAST = (an_entry, a_leg, a_model_exit, a_replaced_entry)


# --- complete ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", OWN, ids=lambda made: made.__name__)
def test_every_link_of_every_kind_of_order_is_there(world: World, made: Callable[[World], Row]) -> None:
    order = made(world)
    found = look(world, order["broker_order_id"])
    assert found.missing == ()
    assert found.source == order["source"] != Source.FOREIGN
    assert found.intent is not None
    assert found.decision is not None
    assert found.decision["decision_id"] == found.intent["decision_id"]
    assert found.decision["allowed"]
    assert found.settings is not None
    assert found.settings["revision"] == found.decision["settings_revision"]
    reasons = found.entry or found
    if made in BY_FORECAST or found.entry is not None:
        assert reasons.forecast is not None and reasons.artifact is not None and reasons.training is not None
        assert (
            reasons.decision is not None
            and reasons.decision["signal"]["forecast_id"] == (reasons.forecast["forecast_id"])
        )
        assert reasons.artifact["artifact_id"] == reasons.forecast["artifact_id"]
        assert reasons.artifact["sha256"]
        assert reasons.training["training_id"] == reasons.artifact["training_id"]
    assert sum(row["qty"] for row in found.fills) == order["filled_qty"]
    said = text(found)
    assert "MISSING" not in said
    assert str(order["symbol"]) in said


def test_each_id_of_an_order_leads_to_the_same_history(world: World) -> None:
    order = an_entry(world)
    found = look(world, order["broker_order_id"])
    assert found.intent is not None
    ids = [order["client_order_id"], found.fills[0]["execution_id"], found.intent["decision_id"]]
    for asked, kind in zip(ids, ("order", "fill", "decision"), strict=True):
        again = look(world, asked)
        assert (again.found_as, again.order, again.intent) == (kind, found.order, found.intent)
        assert (again.forecast, again.settings, again.missing) == (found.forecast, found.settings, ())


def test_the_words_name_reasons_numbers_model_settings_and_both_times(world: World) -> None:
    said = text(look(world, an_entry(world)["client_order_id"]))
    for part in ("order to buy 5 AAPL: filled", "QBot, on its own forecast", "in New York (14:00:00 UTC)",
                 "The verdict of the gate: allowed", "artifact made-up-60", "sha256 0", "revision ",
                 "strategy MODERATE",
                 "The forecast: AAPL +1.00%", f"trading session {SESSION['session_id']}", "filled 5 at",
                 "with it: sell 5 AAPL"):  # fmt: skip
        assert part in said, (part, said)
    assert "10:00:00 in New York" in said


def test_once_a_forecast_has_matured_the_words_tell_what_happened_and_that_a_model_has_no_skill(world: World) -> None:
    order = an_entry(world)
    with world.engine.begin() as connection:
        connection.execute(tables.forecasts.update().values(actual_price_usd=212.5, matured_at=WALL))
        connection.execute(tables.artifacts.update().values(skilled=False))
    said = text(look(world, order["broker_order_id"]))
    assert "it came to 212.50 USD" in said
    assert "NO SKILL shown over naive" in said


def test_what_is_lost_leaves_no_gap_in_the_words(world: World) -> None:
    found = look(world, an_entry(world)["broker_order_id"])
    assert "artifact made-up" not in text(replace(found, artifact=None, training=None))
    assert "MISSING" in text(checked(replace(found, artifact=None, training=None)))


def test_a_sale_tells_what_it_made_and_the_entry_when_it_was_closed(world: World) -> None:
    order = a_model_exit(world)
    (trip,) = look(world, order["broker_order_id"]).trades
    assert f"{trip.pnl_usd:,.2f} USD" in text(look(world, order["broker_order_id"]))
    assert "closed 5 AAPL bought at" in text(look(world, order["broker_order_id"]))
    assert "closed later, 5 AAPL bought at" in text(look(world, trip.entry_order_id))


def test_a_leg_and_what_took_its_place_tell_the_way_to_the_entry(world: World) -> None:
    order = a_replaced_entry(world)
    found = look(world, order["broker_order_id"])
    assert [len(found.way), found.way[-1]["side"]] == [2, "buy"] or len(found.way) == 3
    assert found.order is not None and found.order["replaces"] is not None
    assert "a leg of the order to buy 5 AAPL" in text(found) or "in the place of" in text(found)


def test_a_manual_order_is_found_by_the_id_that_the_human_gave_it(world: World) -> None:
    order = a_manual_order(world)
    found = look(world, "order_1")
    assert (found.found_as, found.order, found.missing) == ("manual order", order, ())
    assert found.manual is not None and found.manual["body"]["quantity"] == 2
    assert found.session is None
    said = text(found)
    assert "a human, by a manual order" in said
    assert "manual order order_1" in said


def test_a_manual_order_that_was_refused_leads_to_the_refusal(world: World) -> None:
    trading(world)
    body = {
        "order_id": "order_9", "symbol": "AAPL", "side": "BUY", "quantity": 5_000, "order_type": "MARKET",
        "time_in_force": "DAY", "status": "PENDING", "priority": "LOW", "created_at": STAMP,
    }  # fmt: skip
    world.say(keys.MANUAL_ORDERS, [body])
    pipeline.process_manual_orders(world.rt)
    found = look(world, "order_9")
    assert (found.order, found.intent, found.missing) == (None, None, ())
    assert found.decision is not None and not found.decision["allowed"]
    assert f"REFUSED: {found.decision['refusal']}" in text(found)
    assert world.posts() == 0


def test_a_symbol_for_which_nothing_was_done_is_explained_by_its_decision(world: World) -> None:
    trading(world, ("MSFT", 0.0002))
    pipeline.trade_bot(world.rt)
    (row,) = world.rows(tables.decisions)
    found = look(world, row["decision_id"])
    assert (found.found_as, found.order, found.missing) == ("decision", None, ())
    assert found.forecast is not None
    assert "REFUSED: NO_SIGNAL" in text(found)


def test_an_intent_that_was_never_sent_is_explained_too(world: World) -> None:
    trading(world, ("AAPL", 0.01))
    world.exchange.fault("server_error", method="POST", path="/v2/orders")
    pipeline.trade_bot(world.rt)
    (row,) = world.rows(tables.intents)
    found = look(world, row["client_order_id"])
    assert (found.found_as, found.order, found.missing) == ("intent", None, ())
    assert "in_doubt, no order of it is known" in text(found)


def test_an_order_made_elsewhere_is_marked_and_misses_nothing(world: World) -> None:
    placed = world.by_hand(symbol="MSFT", side="buy", qty="1")
    world.reconcile()
    found = look(world, placed["id"])
    assert (found.source, found.intent, found.decision, found.missing) == (Source.FOREIGN, None, None, ())
    assert len(found.fills) == 1
    assert "it was made elsewhere, and taken over" in text(found)


def test_what_a_human_took_over_is_explained_by_who_and_why(world: World) -> None:
    from tests.test_account import adopt, book

    book(world, "JNLS", symbol="SPY", qty="3")
    adopt(world, "a transfer from another broker")
    world.by_hand(symbol="SPY", side="sell", qty="1")
    world.reconcile()
    (row,) = world.rows(tables.adjustments)
    found = look(world, row["adjustment_id"])
    assert (found.found_as, found.missing, len(found.trades)) == ("adjustment", (), 1)
    assert "a transfer from another broker" in text(found)


def test_nobody_knows_an_id_that_does_not_exist(world: World) -> None:
    assert audit.look(world.engine, "none") is None


def test_for_machines_it_is_json_with_everything_in_it(world: World) -> None:
    found = look(world, a_protection_put_back(world)["broker_order_id"])
    body = json.loads(json.dumps(audit.plain(found)))
    assert body["source"] == found.source
    assert body["entry"]["forecast"]["artifact_id"] == "made-up-60"
    assert body["entry"]["fills"][0]["qty"] == "5"
    assert body["missing"] == []


def test_for_machines_the_profit_of_a_sale_is_in_it_too(world: World) -> None:
    found = look(world, a_model_exit(world)["broker_order_id"])
    (trade,) = json.loads(json.dumps(audit.plain(found)))["trades"]
    assert Decimal(trade["pnl_usd"]) == found.trades[0].pnl_usd
    assert trade["entry_order_id"] == found.trades[0].entry_order_id


# --- what is missing is said ------------------------------------------------------------------------------------------


def lose(world: World, table: sa.Table, condition: sa.ColumnElement[bool] | None = None) -> None:
    """Rows vanish. What others refer to Postgres does not let go."""
    with world.engine.begin() as connection:
        connection.execute(table.delete().where(sa.true() if condition is None else condition))


@pytest.mark.parametrize(("table", "named"), [
    (tables.fills, {"fills"}), (tables.intents, {"intent"}), (tables.settings_revisions, {"settings"}),
    (tables.forecasts, {"forecast", "artifact", "training"}),
])  # fmt: skip
def test_a_link_that_was_lost_is_named(world: World, table: sa.Table, named: set[str]) -> None:
    order = an_entry(world)
    lose(world, table)
    found = look(world, order["broker_order_id"])
    assert set(found.missing) == named
    assert "MISSING" in text(found)


def test_each_link_that_is_none_is_named(world: World) -> None:
    found = look(world, an_entry(world)["broker_order_id"])
    assert checked(replace(found, decision=None)).missing == ("decision",)
    assert checked(replace(found, artifact=None, training=None)).missing == ("artifact", "training")
    assert checked(replace(found, training=None)).missing == ("training",)


def test_of_other_kinds_too(world: World) -> None:
    order = a_manual_order(world)
    lose(world, tables.manual_orders)
    assert look(world, order["broker_order_id"]).missing == ("manual order",)
    fill = world.rows(tables.fills)[0]["execution_id"]
    lose(world, tables.orders)
    assert look(world, fill).missing == ("order",)


def test_a_leg_without_its_parent_and_a_protection_without_its_entry_are_named(world: World) -> None:
    order = a_protection_put_back(world)
    found = look(world, order["broker_order_id"])
    assert found.intent is not None
    leg = next(row for row in world.rows(tables.orders) if row["parent_id"])
    entry = found.intent["spec"]["protects"]
    lose(world, tables.orders, tables.orders.c.client_order_id == entry)
    lose(world, tables.intents, tables.intents.c.client_order_id == entry)
    assert "protected entry" in look(world, order["broker_order_id"]).missing
    lose(world, tables.orders, tables.orders.c.broker_order_id == leg["parent_id"])
    assert {"parent order", "intent"} <= set(look(world, leg["broker_order_id"]).missing)


def test_an_order_of_a_forecast_must_have_a_signal(world: World) -> None:
    order = an_entry(world)
    with world.engine.begin() as connection:
        connection.execute(tables.decisions.update().values(signal=None))
    assert look(world, order["broker_order_id"]).missing == ("signal",)


# --- replaced orders --------------------------------------------------------------------------------------------------


def test_what_takes_the_place_of_an_order_of_ours_is_ours_however_often_and_in_whatever_order_it_is_told(
    world: World,
) -> None:
    order = an_entry(world)
    (first,) = [one for one in world.rt.broker.orders_since(WALL.replace(year=2000)) if one.client_order_id ==
                order["client_order_id"]]  # fmt: skip
    chain = [first]
    for number in range(1, 4):
        before = chain[-1].broker_order_id
        chain.append(
            replace(first, broker_order_id=f"r{number}", client_order_id=f"x{number}", replaces=before, legs=())
        )
    with transaction(world.engine) as connection:
        order_book.record_orders(connection, chain[3:], world.wall())
        assert order_of_id(connection, "r3") == Source.FOREIGN
        order_book.record_orders(connection, [chain[2], chain[1], chain[3]], world.wall())
        assert [order_of_id(connection, f"r{n}") for n in (1, 2, 3)] == [Source.ML] * 3
    found = look(world, "r3")
    assert [one["broker_order_id"] for one in found.way] == ["r3", "r2", "r1", first.broker_order_id]
    assert found.intent is not None
    assert found.forecast is not None


def order_of_id(connection: sa.Connection, broker_order_id: str) -> str:
    query = sa.select(tables.orders.c.source).where(tables.orders.c.broker_order_id == broker_order_id)
    return str(connection.execute(query).scalar_one())


def test_orders_that_name_each_other_in_a_circle_belong_to_nobody() -> None:
    from tests.support.values import broker_order

    one = broker_order(broker_order_id="a", replaces="b")
    two = broker_order(broker_order_id="b", replaces="a")
    assert order_book.asked_by([one, two], {}, {}) == {"a": "foreign", "b": "foreign"}
    assert order_book.asked_by([one], {}, {"b": "manual"}) == {"a": "manual"}


def test_what_an_order_filled_before_and_after_it_was_replaced_counts_once_in_the_days_volume(world: World) -> None:
    """The part before belongs to the intent, the rest to an order made by hand: both use up the day's cap."""
    from qbot import clock
    from tests.support.runtime import limit_entry

    world.send(world.commit(limit_entry(world, "SPY", source=Source.MANUAL)))
    (resting,) = world.resting("buy")
    price = world.price("SPY") * Decimal("1.01")
    body = {"limit_price": str(price.quantize(Decimal("0.01"))), "qty": "2"}
    assert world.exchange.call("PATCH", f"/v2/orders/{resting['id']}", json=body).status_code == 200
    world.market.advance(seconds=1)
    world.reconcile()
    filled = sum(row["qty"] * row["price_usd"] for row in world.rows(tables.fills))
    with transaction(world.engine) as connection:
        usage = ledger.usage(connection, clock.market_day(world.market()), world.market(), world.wall())
    assert usage.notional_today_usd == filled > 0
    assert {row["source"] for row in world.rows(tables.orders)} == {"manual"}
