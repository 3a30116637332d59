"""What is refused, with Alpaca's own status, code and message; a refusal changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from qbot.exchange import engine, rules
from qbot.exchange.advance import advance
from qbot.exchange.refusals import Refused
from tests.exchange.world import OPEN, book, flat, market, with_shares

GOOD: dict[str, Any] = {"symbol": "AAA", "qty": "5", "side": "buy", "type": "market", "time_in_force": "day"}
LIMIT: dict[str, Any] = {**GOOD, "type": "limit", "limit_price": "99"}
SELL: dict[str, Any] = {**GOOD, "side": "sell"}
LEGS: dict[str, Any] = {"take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}}
BRACKET: dict[str, Any] = {**GOOD, "order_class": "bracket", **LEGS}

REFUSALS: list[tuple[dict[str, Any], int, dict[str, Any]]] = [
    ({**GOOD, "type": "limit"}, 422, {"code": 40010001, "message": "limit orders require only limit price"}),
    ({**LIMIT, "stop_price": "98"}, 422, {"code": 40010001, "message": "limit orders require only limit price"}),
    ({**LIMIT, "limit_price": "290.123"}, 422, {"code": 42210000, "message": "invalid limit_price 290.123. sub-penny "
     "increment does not fulfill minimum pricing criteria"}),
    ({**LIMIT, "limit_price": "0.12345"}, 422, {"code": 42210000, "message": "invalid limit_price 0.12345. sub-penny "
     "increment does not fulfill minimum pricing criteria"}),
    ({**LIMIT, "qty": "1.5", "time_in_force": "gtc"}, 422,
     {"code": 42210000, "message": "fractional orders must be DAY orders"}),
    ({**SELL, "type": "stop", "stop_price": "100.4"}, 422, {"code": 42210000, "market_price": "100.00",
     "message": "stop price must be less than current price", "stop_price": "100.4"}),
    ({**SELL, "symbol": "BBB", "qty": "1.05"}, 403, {"available": "0", "code": 40310000, "existing_qty": "0",
     "held_for_orders": "0", "symbol": "BBB",
     "message": "insufficient qty available for order (requested: 1.05, available: 0)"}),
    ({**LIMIT, "qty": "50000"}, 403, {"buying_power": "98999.9", "code": 40310000, "cost_basis": "4950000",
     "message": "insufficient buying power"}),
    ({**GOOD, "client_order_id": "taken"}, 422, {"code": 40010001, "message": "client_order_id must be unique"}),
    ({**GOOD, "symbol": "ZZZ"}, 422, {"code": 42210000, "message": 'asset "ZZZ" not found'}),
    ({**BRACKET, "take_profit": None}, 422,
     {"code": 42210000, "message": "bracket orders require take_profit.limit_price"}),
    ({**BRACKET, "side": "sell"}, 422, {"code": 42210000, "message": "bracket orders must be entry orders"}),
    ({**BRACKET, "stop_loss": {"stop_price": "100"}}, 422, {"base_price": "100.00", "code": 42210000,
     "message": "stop_loss.stop_price must be <= base_price - 0.01"}),
]  # fmt: skip
REFUSED_MESSAGES = [
    ({**GOOD, "limit_price": "5"}, "market orders require no limit or stop price"),
    ({**GOOD, "type": "stop"}, "stop orders require only stop price"),
    ({**GOOD, "type": "stop_limit", "stop_price": "101"}, "stop limit orders require both"),
    ({**GOOD, "type": "trailing_stop"}, "must specify one of trail_price or trail_percent"),
    ({**GOOD, "type": "trailing_stop", "trail_price": "1", "trail_percent": "1"}, "must specify one of"),
    ({**GOOD, "time_in_force": "opg"}, "opg is not offered"),
    ({**GOOD, "time_in_force": "cls"}, "cls is not offered"),
    ({**GOOD, "time_in_force": "week"}, "invalid time_in_force: week"),
    ({**GOOD, "side": "hold"}, "invalid side: hold"),
    ({**GOOD, "type": "iceberg"}, "invalid type: iceberg"),
    ({**GOOD, "qty": "0"}, "qty must be > 0"),
    ({**GOOD, "qty": "-3"}, "qty must be > 0"),
    ({**GOOD, "qty": "NaN"}, "qty must be > 0"),
    ({**GOOD, "qty": "many"}, "invalid qty: many"),
    ({**GOOD, "qty": None}, "qty is required"),
    ({**GOOD, "symbol": ""}, "symbol is required"),
    ({**GOOD, "qty": None, "notional": "500"}, "notional orders are not offered"),
    ({**GOOD, "extended_hours": True}, "extended hours order must be DAY or GTC limit orders"),
    ({**LIMIT, "time_in_force": "ioc", "extended_hours": True}, "extended hours order must be DAY or GTC"),
    ({**GOOD, "type": "stop", "stop_price": "105", "time_in_force": "fok"}, "fok orders must be market or limit"),
    ({**GOOD, "client_order_id": "x" * 129}, "no more than 128 characters"),
    ({**GOOD, "order_class": "mleg"}, "invalid order_class"),
    ({**BRACKET, "qty": "1.5"}, "fractional orders must be simple orders"),
    ({**BRACKET, "time_in_force": "ioc"}, "bracket orders must be DAY or GTC"),
    ({**BRACKET, "stop_loss": {"stop_price": "120"}}, "take_profit.limit_price must be > stop_loss.stop_price"),
    ({**BRACKET, "take_profit": {"limit_price": "100"}}, "take_profit.limit_price must be >= base_price"),
    ({**BRACKET, "stop_loss": None}, "bracket orders require stop_loss.stop_price"),
    ({**LIMIT, "order_class": "bracket", **LEGS, "extended_hours": True}, "do not support extended hours"),
    ({**GOOD, "order_class": "oto", **LEGS}, "oto orders require one of"),
    ({**GOOD, **LEGS}, "require a complex order_class"),
    ({**SELL, "order_class": "oco", **LEGS}, "oco orders must be limit orders"),
    ({**SELL, "type": "limit", "order_class": "oco", "stop_loss": LEGS["stop_loss"]}, "oco orders require take_profit"),
    ({**LIMIT, "order_class": "oco", **LEGS}, "oco orders must be exit orders"),
    ([], "request body format is invalid"),
]


def refused(body: Any) -> Refused:
    """The refusal of a request to a book with 10 AAA, after making sure that it changed nothing."""
    on = with_shares(book(market(AAA=flat(100), BBB=flat(50))), OPEN)
    engine.cancel(on, engine.submit(on, rules.parse({**LIMIT, "client_order_id": "taken"}), OPEN).id, OPEN)
    advance(on, OPEN)
    on.take_changes()
    orders, cash = dict(on.orders), on.ledger.cash_usd
    with pytest.raises(Refused) as caught:
        engine.submit(on, rules.parse(body), OPEN)
    assert on.orders == orders and on.ledger.cash_usd == cash and not on.take_changes()
    return caught.value


@pytest.mark.parametrize(("body", "status", "answer"), REFUSALS, ids=[str(i) for i in range(len(REFUSALS))])
def test_a_refusal_has_the_recorded_status_and_body(body: Any, status: int, answer: dict[str, Any]) -> None:
    found = refused(body)
    assert (found.status, found.body) == (status, answer)


@pytest.mark.parametrize(("body", "message"), REFUSED_MESSAGES, ids=[str(i) for i in range(len(REFUSED_MESSAGES))])
def test_what_the_venue_does_not_take_is_refused_in_words(body: Any, message: str) -> None:
    found = refused(body)
    assert message in found.body["message"] and found.status in {400, 422} and found.body["code"] >= 40_000_000


def test_numbers_may_come_as_numbers_or_text() -> None:
    assert rules.parse({**GOOD, "qty": 5}).qty == rules.parse({**GOOD, "qty": "5.0"}).qty == 5


@pytest.mark.parametrize("body", [GOOD, LIMIT, {**GOOD, "qty": "1.5"}, BRACKET, {**LIMIT, "time_in_force": "gtc"},
                                  {**SELL, "type": "limit", "order_class": "oco", **LEGS},
                                  {**GOOD, "order_class": "oto", "stop_loss": LEGS["stop_loss"]}])  # fmt: skip
def test_what_is_in_order_passes(body: dict[str, Any]) -> None:
    on = with_shares(book(market(AAA=flat(100))), OPEN)
    assert engine.submit(on, rules.parse(body), OPEN).status == "pending_new"
