"""Shares that lost their stop-loss get it back, at the levels they had, and never more is on sale than is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot import control, emergency, execution, limits, pipeline, protecting, protection, risk
from qbot.protection import Attempts, Execution, Levels, Records, Wanted
from qbot.store import tables
from qbot.store.protections import execution_of
from qbot.types import BrokerOrder, IntentKind, OrderType, Position, Side, Source, TradingState
from tests.support.exchange import MID_SESSION
from tests.support.runtime import World, limit_entry
from tests.test_emergency import CANCEL, CLOSE, STOP, press, start
from tests.test_execution import posted, stop_trading

NOW = MID_SESSION
LEVELS = Levels(Decimal(95), Decimal(110), Source.ML, 7)
AFTER_THE_CLOSE = datetime(2025, 7, 7, 20, 5, tzinfo=UTC)


# --- pure ------------------------------------------------------------------------------------------------------------


def bought(qty: int, entry_id: str | None = "e1", levels: Levels | None = LEVELS) -> Execution:
    return Execution("AAPL", Side.BUY, Decimal(qty), entry_id, levels)


def by_hand(qty: int, side: Side = Side.BUY) -> Execution:
    return Execution("AAPL", side, Decimal(qty))


def held(qty: int, price: str = "100") -> dict[str, Position]:
    return {"AAPL": Position("AAPL", Decimal(qty), Decimal(100), Decimal(100 * qty), Decimal(0), Decimal(price))}


def sale(order_id: str, qty: int, **more: Any) -> BrokerOrder:
    plain = BrokerOrder(
        order_id, f"id-{order_id}", "AAPL", Side.SELL, Decimal(qty), Decimal(0), None, "limit", "gtc", None, None,
        "new", NOW, NOW,
    )  # fmt: skip
    return replace(plain, **more)


def plan_of(
    positions: dict[str, Position],
    open_orders: Sequence[BrokerOrder],
    *executions: Execution,
    market_open: bool = True,
    **known: Any,
) -> protection.Plan:
    records = Records(
        **{"executions": executions, "attempts": {}, "busy": (), "ours": (), "withheld": False, **known}
    )  # fmt: skip
    symbols = protection.suspects(positions, open_orders)
    return protection.plan(NOW, symbols, positions, open_orders, records, market_open=market_open)


def quantities(wanted: Sequence[Wanted]) -> list[tuple[str | None, int]]:
    return [(one.proposal.protects, int(one.proposal.qty)) for one in wanted]


def test_what_nothing_protects_gets_an_oco_at_the_levels_of_its_entry() -> None:
    (one,) = plan_of(held(5), [], bought(5)).wanted
    proposal = one.proposal
    assert (proposal.kind, proposal.side, proposal.qty) == (IntentKind.PROTECTION, Side.SELL, 5)
    assert (proposal.order_type, str(proposal.time_in_force)) == (OrderType.LIMIT, "gtc")
    assert (proposal.stop_loss_usd, proposal.take_profit_usd) == (95, 110)
    assert (proposal.source, proposal.protects, proposal.notional_usd) == (Source.ML, "e1", 0)
    assert (one.revision, one.name) == (7, protection.name_of("e1") + "-1")


@pytest.mark.parametrize(
    "orders",
    [
        [sale("a", 5)],
        [sale("a", 5, parent_id="gone"), sale("b", 5, parent_id="gone")],  # the legs of a filled bracket
        [sale("a", 5, order_class="oco"), sale("b", 5, parent_id="a")],
        [sale("a", 2), sale("b", 3, parent_id="c"), sale("d", 3, parent_id="c")],
        [sale("a", 7, filled_qty=Decimal(2))],
    ],
)
def test_shares_that_rest_once_are_counted_once_and_nothing_is_to_be_done(orders: list[BrokerOrder]) -> None:
    assert protection.resting(orders) == {"AAPL": 5}
    assert protection.suspects(held(5), orders) == []


def test_legs_that_wait_for_their_entry_hold_no_shares() -> None:
    entry = sale("e", 5, side=Side.BUY, order_class="bracket")
    assert protection.resting([entry, sale("a", 5, parent_id="e"), sale("b", 5, parent_id="e")]) == {}


def test_of_two_legs_the_one_with_less_left_counts() -> None:
    """One filled in part, and the venue has not lowered the other one yet: the shares are gone."""
    legs = [sale("a", 5, parent_id="c", filled_qty=Decimal(3)), sale("b", 5, parent_id="c")]
    assert protection.resting(legs) == {"AAPL": 2}


@pytest.mark.parametrize(
    ("executions", "owed"),
    [
        ([bought(5), by_hand(3)], [("e1", 5)]),
        ([bought(5), by_hand(3), by_hand(3, Side.SELL)], [("e1", 5)]),  # a human sells his own first
        ([bought(5), by_hand(3), by_hand(4, Side.SELL)], [("e1", 4)]),
        ([bought(5), bought(2, "e2"), by_hand(4, Side.SELL)], [("e2", 2), ("e1", 1)]),
        ([bought(5), bought(2, "e2"), Execution("AAPL", Side.SELL, Decimal(2), "e2")], [("e1", 5)]),
        ([bought(2), bought(3)], [("e1", 5)]),  # one entry in two parts
        ([bought(5), by_hand(5, Side.SELL), by_hand(5)], []),
        ([by_hand(5)], []),
        ([bought(5, levels=None)], []),
    ],
)
def test_what_a_human_bought_is_left_alone(executions: list[Execution], owed: list[tuple[str, int]]) -> None:
    total = sum(int(one.qty) * (1 if one.side is Side.BUY else -1) for one in executions)
    assert quantities(plan_of(held(total), [], *executions).wanted) == owed


def test_shares_that_a_humans_order_holds_are_not_asked_for() -> None:
    assert quantities(plan_of(held(8), [sale("h", 3)], bought(5), by_hand(3)).wanted) == [("e1", 5)]
    assert quantities(plan_of(held(5), [sale("h", 3)], bought(5)).wanted) == [("e1", 2)]
    assert quantities(plan_of(held(8), [sale("q", 5)], bought(5), by_hand(3), ours={"q"}).wanted) == []


def test_the_newest_entry_is_taken_for_the_bare_one() -> None:
    plan = plan_of(held(7), [sale("q", 5)], bought(5), bought(2, "e2"), ours={"q"})
    assert quantities(plan.wanted) == [("e2", 2)]


@given(
    st.lists(st.tuples(st.sampled_from("abh"), st.integers(1, 9)), max_size=6),
    st.lists(st.tuples(st.sampled_from("oh"), st.integers(1, 9)), max_size=5),
    st.integers(0, 30),
)
def test_never_more_is_put_on_sale_than_is_free_nor_than_was_bought_with_levels(
    buys: list[tuple[str, int]], sales: list[tuple[str, int]], sold: int
) -> None:
    executions = [bought(qty, name if name != "h" else None, LEVELS if name != "h" else None) for name, qty in buys]
    executions += [by_hand(sold, Side.SELL)] if sold else []
    orders = [sale(f"{kind}{number}", qty) for number, (kind, qty) in enumerate(sales)]
    shares = max(sum(qty for _, qty in buys) - sold, 0)
    mine = {order.broker_order_id for order in orders if order.broker_order_id.startswith("o")}
    positions = held(shares) if shares else {}
    plan = plan_of(positions, orders, *executions, ours=mine)
    asked = sum(qty for _, qty in quantities(plan.wanted))
    resting, ours = sum(qty for _, qty in sales), sum(qty for kind, qty in sales if kind == "o")
    with_levels = sum(int(lot.qty) for lot in protection.lots(executions).get("AAPL", ()) if lot.levels)
    assert asked == max(0, min(shares - resting, with_levels - ours))
    left = sum(order.qty for order in orders if order.broker_order_id in mine - set(plan.cancels))
    assert left <= shares or ours == 0
    assert bool(plan.cancels) == (ours > shares)


def test_what_sells_more_than_is_held_goes_the_newest_first_and_a_humans_stays() -> None:
    later = NOW + timedelta(minutes=1)
    orders = [sale("new", 3, created_at=later), sale("old", 5), sale("human", 5)]
    assert plan_of(held(5), orders, bought(5), ours={"new", "old"}).cancels == ["new"]
    assert set(plan_of({}, orders, bought(5), ours={"new", "old"}).cancels) == {"new", "old"}
    assert plan_of({}, [sale("human", 5)], bought(5)).cancels == []


def test_where_an_order_is_on_its_way_nothing_is_done() -> None:
    assert plan_of(held(5), [], bought(5), busy={"AAPL"}) == protection.Plan([], [], [])


def test_under_its_stop_loss_it_is_sold_at_the_market_once_that_is_open() -> None:
    (one,) = plan_of(held(5, "95"), [], bought(5)).wanted
    proposal = one.proposal
    assert (proposal.order_type, str(proposal.time_in_force)) == (OrderType.MARKET, "day")
    assert (proposal.stop_loss_usd, proposal.take_profit_usd) == (None, None)
    closed = plan_of(held(5, "95"), [], bought(5), market_open=False)
    assert (closed.wanted, closed.bare) == ([], {"AAPL": protection.UNDER_THE_STOP})
    assert quantities(plan_of(held(5, "95.01"), [], bought(5), market_open=False).wanted) == [("e1", 5)]


@pytest.mark.parametrize("price", ["NaN", "0", "-1"])
def test_a_price_that_is_none_sells_nothing(price: str) -> None:
    (one,) = plan_of(held(5, price), [], bought(5)).wanted
    assert one.proposal.order_type is OrderType.LIMIT


def test_fractions_of_a_share_are_beyond_an_oco() -> None:
    positions = {"AAPL": replace(held(1)["AAPL"], qty=Decimal("2.5"))}
    assert quantities(plan_of(positions, [], bought(3)).wanted) == [("e1", 2)]


def test_after_everything_was_cancelled_on_request_nothing_is_put_back_and_it_says_so() -> None:
    plan = plan_of(held(5), [], bought(5), withheld=True)
    assert (plan.wanted, plan.bare) == ([], {"AAPL": protection.WITHHELD})


@pytest.mark.parametrize(
    ("failed", "ago_s", "again"), [(1, 59, False), (1, 60, True), (3, 179, False), (3, 180, True), (99, 1_800, True)]
)
def test_each_refusal_makes_the_next_attempt_wait_longer(failed: int, ago_s: int, again: bool) -> None:
    attempts = {protection.name_of("e1"): Attempts(4, failed, NOW - timedelta(seconds=ago_s))}
    plan = plan_of(held(5), [], bought(5), attempts=attempts)
    assert [one.name[-2:] for one in plan.wanted] == (["-5"] if again else [])
    assert bool(plan.bare) is not again


def test_an_entry_that_long_stays_filled_in_part_loses_its_rest() -> None:
    late = NOW - timedelta(seconds=limits.PARTIAL_ENTRY_WAIT_S + 1)
    entry = sale("e", 5, side=Side.BUY, order_class="bracket", filled_qty=Decimal(2), created_at=late)
    assert plan_of(held(2), [entry], bought(2), busy={"AAPL"}, ours={"e"}).rests == ["e"]
    assert plan_of(held(2), [entry], bought(2), busy={"AAPL"}).rests == []
    young = replace(entry, created_at=NOW)
    assert plan_of(held(2), [young], bought(2), busy={"AAPL"}, ours={"e"}).rests == []


def test_an_entry_that_long_does_not_come_must_not_keep_bare_shares_from_their_protection() -> None:
    late = NOW - timedelta(seconds=limits.PARTIAL_ENTRY_WAIT_S + 1)
    entry = sale("e", 5, side=Side.BUY, order_class="bracket", created_at=late)
    found = plan_of(held(2), [entry], bought(2), busy={"AAPL"}, ours={"e"})
    assert (found.rests, found.wanted) == (["e"], [])
    covered = [entry, sale("s", 2)]
    assert plan_of(held(2), covered, bought(2), busy={"AAPL"}, ours={"e", "s"}).rests == []
    young = replace(entry, created_at=NOW)
    assert plan_of(held(2), [young], bought(2), busy={"AAPL"}, ours={"e"}).rests == []


# --- the gate --------------------------------------------------------------------------------------------------------


def protecting_case(**more: Any) -> risk.Case:
    (one,) = plan_of(held(5), [], bought(5)).wanted
    market = risk.Market(
        now=NOW, state=TradingState.HALTED, latched=True, market_open=None, reconciled=False, settings_problem="broken",
        paper_problem=None, account=None, quotes={}, positions=held(5), open_orders=more.pop("open_orders", ()),
    )  # fmt: skip
    usage = more.pop("usage", risk.Usage())
    return risk.Case(replace(one.proposal, **more), risk.TradingConfig(max_daily_trades=0), market, usage, 0)


def used(case: risk.Case) -> risk.Usage:
    """But for the messages of the last minute: these it counts as."""
    return replace(risk.reserve(risk.Usage(), case.proposal, NOW), orders_last_minute=0)


def test_a_protection_passes_in_every_state_and_uses_up_no_cap() -> None:
    case = protecting_case()
    assert risk.evaluate(case).allowed
    assert used(case) == risk.Usage(protecting={"AAPL": Decimal(5)})
    at_once = protecting_case(order_type=OrderType.MARKET, stop_loss_usd=None, take_profit_usd=None)
    assert risk.evaluate(at_once).allowed
    assert used(at_once) == risk.Usage(unsettled={"AAPL": frozenset({Side.SELL})}, selling={"AAPL": Decimal(5)})


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({"qty": Decimal(6)}, "NOT_FREE"),
        ({"open_orders": [sale("a", 1)]}, "NOT_FREE"),
        ({"usage": risk.Usage(selling={"AAPL": Decimal(1)})}, "NOT_FREE"),
        ({"usage": risk.Usage(protecting={"AAPL": Decimal(1)})}, "NOT_FREE"),
        ({"usage": risk.Usage(protecting={"AAPL": Decimal("NaN")})}, "NOT_FREE"),
        ({"qty": Decimal("1.5")}, "QUANTITY_INVALID"),
        ({"side": Side.BUY}, "DIRECTION_INVALID"),
        ({"stop_loss_usd": None}, "LEVELS_INVALID"),
        ({"stop_loss_usd": Decimal(110)}, "LEVELS_INVALID"),
        ({"take_profit_usd": Decimal("NaN")}, "LEVELS_INVALID"),
        ({"order_type": OrderType.MARKET}, None),
    ],
)
def test_the_gate_refuses_a_protection_that_is_none(more: dict[str, Any], refusal: str | None) -> None:
    assert risk.evaluate(protecting_case(**more)).refusal == refusal


# --- at the venue ----------------------------------------------------------------------------------------------------


RESTORED = ("WARNING", "Protection was put back")
BARE = ("CRITICAL", "A position is unprotected")
CANCELLED = ("WARNING", "A resting order was cancelled")


def look(world: World) -> list[tuple[str, str]]:
    """The minutely reconcile, some seconds after what came before; what was told of protection so far."""
    world.wall.advance(seconds=5)
    pipeline.reconcile_orders(world.rt)
    return [alert for alert in world.alerts() if alert in (RESTORED, BARE, CANCELLED)]


def rests(world: World, symbol: str = "AAPL") -> list[tuple[str, Decimal, str]]:
    """Type, shares and time in force of the resting sales."""
    found = [order for order in world.resting("sell") if order["symbol"] == symbol]
    return sorted((order["type"], Decimal(order["qty"]), order["time_in_force"]) for order in found)


def pair(qty: int) -> list[tuple[str, Decimal, str]]:
    return [("limit", Decimal(qty), "gtc"), ("stop", Decimal(qty), "gtc")]


def levels_of(world: World) -> set[Decimal]:
    sales = world.resting("sell")
    return {Decimal(order[name]) for order in sales for name in ("limit_price", "stop_price") if order[name]}


def test_an_exit_that_failed_after_its_stop_was_cancelled_leaves_nothing_bare(world: World) -> None:
    world.buy("AAPL", 2)
    before = levels_of(world)
    assert look(world) == []
    judged = world.commit(world.exit("AAPL"), cycle_id="c2")
    world.exchange.fault("rate_limited", method="POST", path="/v2/orders", times=1)
    world.send(judged)
    assert (world.positions(), world.resting()) == ({"AAPL": Decimal(2)}, [])
    assert look(world) == [RESTORED]
    assert (rests(world), levels_of(world)) == (pair(2), before)
    assert look(world) == [RESTORED]
    assert len(world.sent()) == 2  # once
    assert world.reconcile().drift == {}


def test_what_is_left_after_a_part_was_sold_by_hand_is_protected_again(world: World) -> None:
    world.buy("AAPL", 5)
    world.send(world.commit(replace(world.exit(source=Source.MANUAL), qty=Decimal(1)), cycle_id="m2"))
    look(world)
    look(world)
    assert (world.positions(), rests(world)) == ({"AAPL": Decimal(4)}, pair(4))


def test_an_entry_that_is_cancelled_when_partly_filled_is_protected_as_far_as_it_came(world: World) -> None:
    partly(world)
    assert look(world) == []
    assert rests(world) == pair(4)  # its own legs, which wait for the rest
    world.exchange.call("DELETE", "/v2/orders")
    assert look(world) == [RESTORED]
    assert rests(world) == pair(int(world.positions()["AAPL"]))


def partly(world: World) -> None:
    venue = world.exchange.venue
    assert venue is not None
    venue.book.partial_one_in = 1
    world.send(world.commit(world.entry("AAPL", 4)))
    assert 0 < world.positions()["AAPL"] < 4


def test_an_entry_whose_rest_does_not_come_is_ended_and_protected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PARTIAL_ENTRY_WAIT_S", 5.0)  # at this venue the rest comes after ten seconds
    partly(world)
    qty = world.positions()["AAPL"]
    world.market.advance(seconds=6)
    assert look(world) == [CANCELLED]
    assert [order["status"] for order in world.sent()] == ["canceled"]
    assert RESTORED in look(world)
    assert (world.positions(), rests(world)) == ({"AAPL": qty}, pair(int(qty)))


def test_legs_that_somebody_cancelled_at_the_venue_are_put_back_though_trading_is_off(world: World) -> None:
    world.buy("AAPL", 2)
    stop_trading(world, latched=True)
    world.exchange.call("DELETE", "/v2/orders")
    assert look(world) == [RESTORED]
    assert rests(world) == pair(2)


def test_the_restored_stop_sells_and_the_books_agree(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.call("DELETE", "/v2/orders")
    look(world)
    profit = next(order for order in world.resting("sell") if order["type"] == "limit")
    price = (world.price("AAPL") * Decimal("0.99")).quantize(Decimal("0.01"))
    world.exchange.call("PATCH", f"/v2/orders/{profit['id']}", json={"limit_price": str(price)})
    world.orders()
    assert (world.positions(), world.resting()) == ({}, [])
    assert world.reconcile().drift == {}
    assert {row["source"] for row in world.rows(tables.orders)} >= {"ml_prediction"}


def test_a_model_exit_frees_the_shares_from_a_restored_protection(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.call("DELETE", "/v2/orders")
    look(world)
    world.send(world.commit(world.exit("AAPL"), cycle_id="c9"))
    world.reconcile()
    assert (world.positions(), world.resting()) == ({}, [])


def test_an_entry_into_a_position_with_a_restored_protection_is_no_wash_trade(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.call("DELETE", "/v2/orders")
    look(world)
    world.market.advance(minutes=40)
    world.buy("AAPL", 3, cycle_id="c2")
    assert sum(qty for kind, qty, _ in rests(world) if kind == "stop") == 5


def test_what_nobody_meant_to_protect_is_left_alone(world: World) -> None:
    world.by_hand(symbol="MSFT", qty="1", side="buy")
    world.send(world.commit(limit_entry(world, "AAPL", "-0.01", source=Source.MANUAL), cycle_id="m1"))
    assert look(world) == []
    assert set(world.positions()) == {"AAPL", "MSFT"}
    assert world.resting() == []


def test_under_its_stop_loss_a_bare_position_is_sold(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.call("DELETE", "/v2/orders")
    with world.engine.begin() as connection:  # as if it had been bought at twice the price
        spec = {**world.rows(tables.intents)[0]["spec"], "stop_loss_usd": "400", "take_profit_usd": "500"}
        connection.execute(tables.intents.update().values(spec=spec))
    assert look(world) == [RESTORED]
    assert (world.positions(), world.resting()) == ({}, [])
    assert world.reconcile().drift == {}


def test_under_its_stop_loss_at_a_closed_exchange_it_waits_and_a_human_is_told(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.call("DELETE", "/v2/orders")
    with world.engine.begin() as connection:
        spec = {**world.rows(tables.intents)[0]["spec"], "stop_loss_usd": "400", "take_profit_usd": "500"}
        connection.execute(tables.intents.update().values(spec=spec))
    world.market.set(AFTER_THE_CLOSE)
    posts = world.posts()
    assert look(world) == [BARE]
    assert world.posts() == posts
    world.market.set(datetime(2025, 7, 8, 14, 0, tzinfo=UTC))
    look(world)
    assert world.positions() == {}


def test_books_that_do_not_agree_are_left_alone(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.call("DELETE", "/v2/orders")
    with world.engine.begin() as connection:
        connection.execute(tables.fills.update().values(qty=3))
    posts = world.posts()
    pipeline.reconcile_orders(world.rt)
    assert (world.posts(), world.resting()) == (posts, [])


# --- asked for by a human --------------------------------------------------------------------------------------------


def trading(world: World) -> None:
    control.sync_switch(world.rt)
    start(world, 0)
    world.buy("AAPL", 2)


def test_cancel_all_takes_protection_away_until_a_human_starts_again(world: World) -> None:
    trading(world)
    press(world, CANCEL)
    emergency.handle(world.rt)
    posts = world.posts()
    assert BARE in look(world)
    assert (world.resting(), world.posts()) == ([], posts)
    start(world, 1)  # the same session, written again, is no start
    look(world)
    assert world.posts() == posts
    world.say(control.keys.AUTOTRADING_ENABLED, {"enabled": False, "source": "frontend_ui"})
    control.sync_switch(world.rt)
    start(world, 2)
    look(world)
    assert rests(world) == pair(2)


def test_stop_all_keeps_protection_and_what_is_lost_later_is_put_back(world: World) -> None:
    trading(world)
    press(world, STOP)
    emergency.handle(world.rt)
    assert rests(world) == pair(2)
    world.exchange.call("DELETE", "/v2/orders")
    look(world)
    assert rests(world) == pair(2)


def test_close_all_is_not_hindered_by_protection_that_is_put_back_meanwhile(world: World) -> None:
    trading(world)
    press(world, CLOSE)
    control.block(world.rt, "as the emergency does first", unless=lambda _connection, _switch: False)
    assert emergency.handle(world.rt) is not None
    look(world)
    assert (world.positions(), world.resting()) == ({}, [])


def test_a_protection_that_was_on_its_way_when_everything_was_cancelled_is_cancelled_at_once(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.call("DELETE", "/v2/orders")
    world.wall.advance(seconds=5)
    books = world.reconcile()

    class Late:
        """Everything is cancelled while the order is on its way."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.rt.broker, name)

        def submit(self, spec: Any, fence: Any) -> BrokerOrder:
            answer = world.rt.broker.submit(spec, fence)
            with world.rt.desk.store.transaction() as ledger:
                ledger.withhold_protection("a test", world.wall())
            return answer

    desk = replace(world.rt.desk, broker=Late())  # type: ignore[arg-type]
    found = protecting.protect(desk, books, world.market(), market_open=True)
    assert found.bare == {"AAPL": "every order was cancelled on request"}
    assert world.resting() == []


# --- what goes wrong -------------------------------------------------------------------------------------------------


def bare(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.call("DELETE", "/v2/orders")


def test_a_protection_that_the_venue_refuses_is_told_and_asked_for_again(world: World) -> None:
    bare(world)
    world.exchange.fault("rate_limited", method="POST", path="/v2/orders", times=1)
    assert look(world) == [BARE]
    assert look(world)[0] == BARE
    assert (world.posts(), world.resting()) == (2, [])  # not again within the minute
    world.market.advance(seconds=61)
    assert RESTORED in look(world)
    assert rests(world) == pair(2)


def test_a_protection_in_doubt_is_looked_up_and_never_doubled(world: World) -> None:
    bare(world)
    world.exchange.fault("timeout_after_accept", method="POST", path="/v2/orders", times=1)
    look(world)
    look(world)
    assert (rests(world), world.posts()) == (pair(2), 2)


def test_a_protection_that_arrives_after_it_was_given_up_and_replaced_is_refused(world: World) -> None:
    bare(world)
    world.exchange.fault("server_error", method="POST", path="/v2/orders", times=1)
    look(world)
    assert world.intents()["AAPL sell"] == "in_doubt"
    first = next(row["client_order_id"] for row in world.rows(tables.intents) if row["kind"] == "protection")
    world.wall.advance(seconds=limits.ABANDON_INTENT_S)
    world.market.advance(seconds=limits.ABANDON_INTENT_S)
    look(world)
    look(world)
    assert rests(world) == pair(2)
    with pytest.raises(AssertionError):
        posted(world, first)  # the shares are held by the second one
    assert rests(world) == pair(2)


def test_two_workers_put_it_back_once(world: World) -> None:
    bare(world)
    world.wall.advance(seconds=5)
    books = world.reconcile()
    for rt in (world.rt, world.another()):
        protecting.protect(rt.desk, books, world.market(), market_open=True)
    assert (rests(world), world.posts()) == (pair(2), 2)


@pytest.mark.parametrize("arrived", [True, False])
def test_the_same_attempt_by_another_worker_is_left_to_it_whether_it_is_at_the_venue_or_not(
    world: World, arrived: bool
) -> None:
    bare(world)
    world.wall.advance(seconds=5)
    books = world.reconcile()

    with world.rt.desk.store.transaction() as ledger:
        view = _Seen(ledger.unsettled_intents(), ledger.executions(["AAPL"]), ledger.open_orders())
    if not arrived:
        world.exchange.fault("server_error", method="POST", path="/v2/orders", times=1)
    protecting.protect(world.rt.desk, books, world.market(), market_open=True)
    posts = world.posts()

    class Slow:
        """Its first transaction saw the ledger as it was before the other worker came."""

        def __init__(self) -> None:
            self.first = True

        def transaction(self) -> Any:
            before, self.first = self.first, False
            return view if before else world.rt.desk.store.transaction()

    found = protecting.protect(
        replace(world.rt.desk, store=Slow()),  # type: ignore[arg-type]
        books, world.market(), market_open=True,
    )  # fmt: skip
    assert (found, world.posts()) == (protecting.Protected(), posts)
    assert rests(world) == (pair(2) if arrived else [])
    assert [row["kind"] for row in world.rows(tables.intents)].count("protection") == 1


class _Seen:
    """What a transaction saw, read again later."""

    def __init__(self, unsettled: Any, executions: Any, open_orders: Any) -> None:
        self._unsettled, self._executions, self._open = unsettled, executions, open_orders

    def __enter__(self) -> _Seen:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def unsettled_intents(self) -> Any:
        return self._unsettled

    def executions(self, _symbols: Any) -> Any:
        return self._executions

    def open_orders(self) -> Any:
        return self._open

    def protection_attempts(self, _symbols: Any) -> dict[str, Attempts]:
        return {}

    def protection_withheld(self) -> bool:
        return False

    def load_switch(self) -> Any:
        return control.session.Switch()


def protection_asked_for(world: World) -> list[str]:
    return [row["status"] for row in world.rows(tables.intents) if row["kind"] == "protection"]


def test_shares_that_came_with_legs_after_the_orders_were_read_are_no_bare_ones(world: World) -> None:
    orders = world.reconcile().open_orders
    world.buy("AAPL", 2)
    books = replace(world.reconcile(), open_orders=orders)
    assert protecting.protect(world.rt.desk, books, world.market(), market_open=True) == protecting.Protected()
    assert (protection_asked_for(world), rests(world)) == ([], pair(2))


def test_shares_of_an_entry_that_filled_after_the_orders_were_read_are_no_bare_ones(world: World) -> None:
    world.buy("AAPL", 2)
    books = world.reconcile()
    (entry_id,) = {order.parent_id for order in books.open_orders}
    waited_for = replace(books.open_orders[0], broker_order_id=str(entry_id), side=Side.BUY, parent_id=None)
    books = replace(books, open_orders=[waited_for, *books.open_orders])
    assert protecting.protect(world.rt.desk, books, world.market(), market_open=True) == protecting.Protected()
    assert (protection_asked_for(world), rests(world)) == ([], pair(2))


def test_a_resting_sale_of_shares_that_are_gone_is_cancelled_if_it_still_rests(world: World) -> None:
    world.buy("AAPL", 2)
    books = world.reconcile()
    gone = replace(books, positions={})
    with world.engine.begin() as connection:
        connection.execute(tables.fills.delete())
    found = protecting.protect(world.rt.desk, gone, world.market(), market_open=True)
    assert list(found.removed) == ["AAPL"]
    assert world.resting() == []
    again = protecting.protect(world.rt.desk, gone, world.market(), market_open=True)
    assert again.removed == {}  # it is gone already


def test_a_cancel_that_fails_is_left_to_the_next_look(world: World) -> None:
    world.buy("AAPL", 2)
    gone = replace(world.reconcile(), positions={})
    world.exchange.fault("server_error", method="DELETE", times=1)
    assert protecting.protect(world.rt.desk, gone, world.market(), market_open=True) == protecting.Protected()
    assert len(world.resting()) == 2


def test_an_exit_on_its_way_is_not_crossed(world: World) -> None:
    bare(world)
    world.commit(world.exit("AAPL"), cycle_id="c2")  # committed, and its sender is at it
    look(world)
    assert world.resting() == []


@dataclass
class Crossed:
    """The world's broker; while a protection looks at what is held, or is on its way, something happens."""

    world: World
    at_look: Callable[[], object] = lambda: None
    at_post: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.rt.broker, name)

    def positions(self) -> list[Position]:
        self.at_look()
        return self.world.rt.broker.positions()

    def submit(self, spec: Any, fence: Any) -> BrokerOrder:
        answer = self.world.rt.broker.submit(spec, fence)
        self.at_post()
        return answer


@pytest.mark.parametrize("when", ["at_look", "at_post"])
def test_shares_that_are_about_to_be_sold_are_not_protected_at_the_same_moment(world: World, when: str) -> None:
    """A sale is committed by another worker once the protection is: it may be out before that, and the shares gone."""
    bare(world)
    world.wall.advance(seconds=5)
    books, passed_s = world.reconcile(), [0.0]

    def sale() -> None:
        if passed_s[0] == 0.0:
            world.commit(world.exit("AAPL"), cycle_id="c2", books=books)
        passed_s[0] += limits.FENCE_MAX_S + 0.1

    posts = world.posts()
    crossed: Any = Crossed(world, **{when: sale})
    desk = replace(world.rt.desk, broker=crossed, monotonic_s=lambda: passed_s[0])
    assert protecting.protect(desk, books, world.market(), market_open=True) == protecting.Protected()
    assert (world.resting(), world.posts() - posts) == ([], 0 if when == "at_look" else 1)


def test_freeing_the_shares_says_whether_anything_rested_on_them(world: World) -> None:
    world.buy("AAPL", 2)
    assert execution.release_shares(world.rt.desk, "AAPL") is True
    assert execution.release_shares(world.rt.desk, "AAPL") is False


def test_a_sale_that_is_no_protection_stays_where_enough_shares_are_free_beside_it(world: World) -> None:
    world.by_hand(symbol="AAPL", side="buy", qty="3")
    limit = (world.price("AAPL") * Decimal("1.2")).quantize(Decimal("0.01"))
    theirs = world.by_hand(symbol="AAPL", side="sell", qty="1", type="limit", limit_price=str(limit))
    assert execution.release_shares(world.rt.desk, "AAPL", Decimal(2)) is False
    assert [order["id"] for order in world.resting()] == [theirs["id"]]
    assert execution.release_shares(world.rt.desk, "AAPL", Decimal(3)) is True
    assert world.resting() == []


@pytest.mark.parametrize(
    ("kind", "side", "spec", "entry_id", "has_levels"),
    [
        ("entry", "buy", {"stop_loss_usd": "95", "take_profit_usd": "110"}, "id", True),
        ("entry", "sell", {"stop_loss_usd": "95", "take_profit_usd": "110"}, "id", False),  # its own leg
        ("entry", "buy", {"stop_loss_usd": None, "take_profit_usd": None}, None, False),
        ("protection", "sell", {"protects": "e1"}, "e1", False),
        ("exit", "sell", {}, None, False),
        (None, "buy", None, None, False),
    ],
)
def test_a_fill_belongs_to_the_entry_it_opened_or_whose_protection_it_was(
    kind: str | None, side: str, spec: dict[str, Any] | None, entry_id: str | None, has_levels: bool
) -> None:
    row = {"symbol": "AAPL", "side": side, "qty": Decimal(2), "client_order_id": "id", "kind": kind, "spec": spec,
           "source": "ml_prediction", "settings_revision": 7}  # fmt: skip
    found = execution_of(row)
    assert (found.entry_id, found.levels) == (entry_id, LEVELS if has_levels else None)
