"""Every documented example is valid and comes back as it went in; what the documents do not allow is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import ValidationError

from qbot.contract import examples, keys
from qbot.contract.key import Direction, Key, Reading
from qbot.contract.merge import merge_partial
from qbot.contract.payloads_autotrading import AutotradingSession, TradingHours
from qbot.contract.payloads_orders import MalformedOrder, ManualOrder, ManualOrderStatus
from qbot.contract.payloads_settings import RiskSettings, TradingSettings
from qbot.contract.payloads_trading import TradeLogEntry
from qbot.types import Side, Strategy

DOCUMENTED = [(name, index) for name in keys.ENTRIES for index in range(len(examples.documented(name)))]


def _wire(key: Key[object], value: object) -> bytes:
    return str(value).encode() if key.text else json.dumps(value).encode()


@pytest.mark.parametrize(("name", "index"), DOCUMENTED)
def test_a_documented_example_is_valid_and_round_trips_unchanged(name: str, index: int) -> None:
    key, documented = keys.ENTRIES[name], examples.documented(name)[index]
    reading = key.reading(_wire(key, documented))
    assert reading.problem is None
    assert reading.value is not None
    wire = key.encode(reading.value)
    assert (wire.decode() if key.text else json.loads(wire)) == documented


@pytest.mark.parametrize("name", keys.CHANNELS)
def test_a_documented_message_round_trips_unchanged(name: str) -> None:
    channel = keys.CHANNELS[name]
    assert json.loads(channel.encode(channel.decode(channel.example.encode()))) == json.loads(channel.example)


def test_every_entry_says_who_writes_it_what_it_is_and_when() -> None:
    for name, key in keys.ENTRIES.items():
        assert key.name == name
        assert key.description.endswith(".")
        assert (key.writer == "frontend") == (key.direction is Direction.FRONTEND)
        assert (key.cadence_s is None) == (key.max_age_s is None)
        assert key.reading(key.example.encode()).problem is None


def test_the_histories_have_their_documented_lengths() -> None:
    lengths = {name: key.history_limit for name, key in keys.ENTRIES.items() if key.history_limit}
    documented = {"trades_log": 200, "ml_training_log": 50, "model_metrics_history": 30}
    assert lengths | documented == lengths


def test_a_key_of_one_ticker_is_named_after_it() -> None:
    key = keys.YFINANCE_ENHANCED.of("AAPL")
    assert (key.name, key.pattern, keys.YFINANCE_ENHANCED.pattern) == ("yfinance_enhanced:AAPL", False, True)


BAD_SETTINGS = [
    '{"enabled": "true"}',
    '{"enabled": 1}',
    '{"enabled": null}',
    '{"buy_threshold_pct": -0.01}',
    '{"buy_threshold_pct": 5}',
    '{"buy_threshold_pct": "0.05"}',
    '{"buy_threshold_pct": true}',
    '{"buy_threshold_pct": NaN}',
    '{"buy_threshold_pct": Infinity}',
    '{"buy_threshold_pct": 1e400}',
    '{"max_position_per_trade": 1.5}',
    '{"max_position_per_trade": -1}',
    '{"max_position_per_trade": 1' + "0" * 400 + "}",
    '{"strategy": "YOLO"}',
    '{"last_updated": "yesterday"}',
    '{"last_updated": 1758468600}',
    '{"last_updated": "2025-09-21T15:30:00"}',
    '{"last_updated": "0001-01-01T00:00:00+23:59"}',
    '{"updated_by": "' + "x" * 2000 + '"}',
    '{"updated_by": "a\\u0000b"}',
    "[]",
    "7",
    '"on"',
    "null",
    "true",
]


@pytest.mark.parametrize("wire", BAD_SETTINGS)
def test_bad_settings_have_a_named_problem_and_no_value(wire: str) -> None:
    reading = keys.TRADING_SETTINGS.reading(wire.encode())
    assert reading.value is None
    assert reading.problem is not None
    assert reading.problem.startswith("BAD_VALUE: ")
    assert len(reading.problem) < 400


@pytest.mark.parametrize("wire", [b"", b"{", b"\xff\xfe", b"{'enabled': true}", b"[" * 100_000, b'{"a":' * 50_000])
def test_what_is_no_json_is_called_so(wire: bytes) -> None:
    reading = keys.TRADING_SETTINGS.reading(wire)
    assert (reading.value, reading.present) == (None, True)
    assert str(reading.problem).startswith("NOT_JSON: ")


def test_more_than_a_megabyte_is_refused_unparsed() -> None:
    reading = keys.UI_STATE.reading(b'{"theme": "dark"}' + b" " * 2_000_000)
    assert reading.value is None
    assert str(reading.problem).startswith("TOO_LARGE: ")


def test_a_problem_never_repeats_the_value() -> None:
    reading = keys.TRADING_SETTINGS.reading(b'{"strategy": "hunter2"}')
    assert "hunter2" not in str(reading.problem)


def test_unknown_fields_are_ignored_and_old_times_are_valid() -> None:
    reading = keys.TRADING_SETTINGS.reading(
        b'{"enabled": true, "colour": [NaN], "last_updated": "1999-01-01T00:00:00Z"}'
    )
    assert reading.value == TradingSettings(enabled=True, last_updated=datetime(1999, 1, 1, tzinfo=UTC))


def test_a_whole_double_counts_as_a_whole_number() -> None:
    value = keys.TRADING_SETTINGS.reading(b'{"max_position_per_trade": 5.0}').value
    assert value is not None
    assert value.max_position_per_trade == 5


def test_balanced_is_moderate() -> None:
    value = keys.TRADING_SETTINGS.reading(b'{"strategy": "BALANCED"}').value
    assert value is not None
    assert value.strategy is Strategy.MODERATE


def test_dollars_a_frontend_sets_are_exact_decimals_and_go_back_as_numbers() -> None:
    value = keys.RISK_SETTINGS.reading(b'{"daily_notional_cap": 0.1}').value
    assert value == RiskSettings(daily_notional_cap=Decimal("0.1"))
    assert keys.RISK_SETTINGS.encode(value) == b'{"daily_notional_cap":0.1}'


HOSTILE_NAMES = [
    '"x","key":"autotrading:backend_status","revision":7,"value":"STOPPED"',
    '"a\\q"',
    '"a"',
    '"',
    " ",
    " a ",
    "a\n",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_whatever_a_session_is_called_its_name_is_read_as_it_was_written(name: str) -> None:
    key = keys.AUTOTRADING_SESSION_ACTIVE
    reading = key.reading(key.encode(name))
    assert (reading.value, reading.problem) == (name, None)


def test_a_text_key_may_hold_a_plain_or_a_quoted_string() -> None:
    plain, quoted = keys.AUTOTRADING_STATUS.reading(b"STOPPED"), keys.AUTOTRADING_STATUS.reading(b'"STOPPED"\n')
    assert plain.value is quoted.value is not None
    assert keys.AUTOTRADING_STATUS.reading(b"stopped").value is None
    assert keys.AUTOTRADING_STATUS.reading(b"\xff").problem is not None


@pytest.mark.parametrize(
    "hours",
    [{"market_open": "9:30"}, {"market_open": "25:00"}, {"timezone": "Mars/Olympus"}, {"timezone": "../../etc/passwd"},
     {"market_open": "16:00", "market_close": "09:30"}, {"market_open": None}],
)  # fmt: skip
def test_impossible_trading_hours_are_refused(hours: dict[str, str | None]) -> None:
    wire = json.dumps({"enabled": True, "trading_hours": hours}).encode()
    assert keys.AUTOTRADING_ENABLED.reading(wire).value is None


def test_a_partial_object_changes_just_the_fields_it_has() -> None:
    good = TradingSettings(enabled=False, buy_threshold_pct=0.05, strategy=Strategy.AGGRESSIVE)
    merged = merge_partial(good, keys.TRADING_SETTINGS.reading(b'{"enabled": true}'))
    assert merged == TradingSettings(enabled=True, buy_threshold_pct=0.05, strategy=Strategy.AGGRESSIVE)


def test_a_partial_object_inside_another_changes_just_its_fields() -> None:
    good = AutotradingSession(enabled=True, trading_hours=TradingHours(market_open="09:30", market_close="16:00"))
    merged = merge_partial(good, keys.AUTOTRADING_ENABLED.reading(b'{"trading_hours": {"market_close": "12:00"}}'))
    assert merged.trading_hours == TradingHours(market_open="09:30", market_close="12:00")


@pytest.mark.parametrize("raw", [None, b"{", b'{"enabled": 1}', b'{"enabled": null}'])
def test_an_absent_or_invalid_object_leaves_the_last_good_one(raw: bytes | None) -> None:
    good = TradingSettings(enabled=False, buy_threshold_pct=0.01)
    assert merge_partial(good, keys.TRADING_SETTINGS.reading(raw)) is good


GOOD_ORDER = {"order_id": "m1", "symbol": "AAPL", "side": "BUY", "quantity": 10, "order_type": "MARKET"}


def _orders(*items: object) -> Reading[tuple[ManualOrder | MalformedOrder, ...]]:
    return keys.MANUAL_ORDERS.reading(json.dumps(items).encode())


@pytest.mark.parametrize(
    "change",
    [{"quantity": 0}, {"quantity": 1.5}, {"quantity": True}, {"quantity": 10**9}, {"symbol": ""}, {"symbol": "A B"},
     {"side": "buy"}, {"order_type": "LIMIT"}, {"order_type": "STOP_LOSS"}, {"limit_price": -1}, {"order_id": ""},
     {"order_id": "x" * 300}, {"time_in_force": "GTD"}, {"status": "DONE"}, {"limit_price": "1.5"}],
)  # fmt: skip
def test_one_bad_manual_order_is_named_and_its_neighbours_still_count(change: dict[str, object]) -> None:
    value = _orders(GOOD_ORDER, GOOD_ORDER | change, GOOD_ORDER | {"order_id": "m2"}).value
    assert value is not None
    first, bad, last = value
    assert isinstance(first, ManualOrder)
    assert isinstance(last, ManualOrder)
    assert isinstance(bad, MalformedOrder)
    assert bad.problem
    assert not bad.settled
    assert bad.rejected().settled


def test_a_malformed_order_goes_back_as_it_came_with_its_verdict() -> None:
    value = _orders(GOOD_ORDER | {"quantity": 0, "mine": [1]}, 7).value
    assert value is not None
    rejected = tuple(item.rejected() if isinstance(item, MalformedOrder) else item for item in value)
    back = json.loads(keys.MANUAL_ORDERS.encode(rejected))
    assert back[0]["mine"] == [1]
    assert back[0]["status"] == "REJECTED"
    assert "quantity" in back[0]["status_reason"]
    assert back[1] == 7


def test_fields_of_a_manual_order_that_qbot_does_not_know_are_written_back() -> None:
    value = _orders(GOOD_ORDER | {"note": {"by": "me"}}).value
    assert value is not None
    order = value[0]
    assert isinstance(order, ManualOrder)
    filled = order.model_copy(update={"status": ManualOrderStatus.FILLED})
    assert json.loads(keys.MANUAL_ORDERS.encode((filled,))) == [GOOD_ORDER | {"note": {"by": "me"}, "status": "FILLED"}]


def test_an_emergency_is_heard_whatever_the_form_of_its_time() -> None:
    reading = keys.EMERGENCY_ACTIONS.reading(
        b'{"action": "STOP_ALL_TRADING", "confirmed": true, "timestamp": "2025-09-21T15:30:00"}'
    )
    assert reading.value is not None
    assert reading.value.timestamp == datetime(2025, 9, 21, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "form",
    [
        '"reason": null',
        f'"reason": "{"x" * 5_000}"',
        '"timestamp": 17',
        '"session_id": [1]',
        '"force": "yes"',
        '"force": null',
    ],
)
def test_an_emergency_is_heard_whatever_stands_beside_what_decides(form: str) -> None:
    reading = keys.EMERGENCY_ACTIONS.reading(f'{{"action": "STOP_ALL_TRADING", "confirmed": true, {form}}}'.encode())
    assert reading.value is not None and reading.value.confirmed
    assert (reading.value.timestamp, reading.value.session_id, reading.value.force) == (None, None, False)


@pytest.mark.parametrize("confirmed", ["1", '"true"', "null"])
def test_an_emergency_is_confirmed_by_true_alone(confirmed: str) -> None:
    wire = f'{{"action": "CLOSE_ALL_POSITIONS", "confirmed": {confirmed}}}'
    assert keys.EMERGENCY_ACTIONS.reading(wire.encode()).value is None


def test_an_invalid_value_cannot_be_made() -> None:
    with pytest.raises(ValidationError):
        TradeLogEntry(time=datetime(2025, 1, 1), ticker="AAPL", side=Side.BUY, qty=1)  # noqa: DTZ001 - the fault
    with pytest.raises(ValidationError):
        TradeLogEntry(time=datetime(2025, 1, 1, tzinfo=UTC), ticker="AAPL", side=Side.BUY, qty=1, price=float("nan"))


def test_times_go_out_as_iso_8601_with_z() -> None:
    entry = TradeLogEntry(time=datetime(2025, 1, 1, 9, 30, 0, 120_000, tzinfo=UTC), ticker="AAPL", side=Side.BUY, qty=1)
    assert json.loads(keys.TRADES_LOG.encode((entry,)))[0]["time"] == "2025-01-01T09:30:00.120Z"
