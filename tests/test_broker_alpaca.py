"""The Alpaca adapter: the real client against the paper exchange, and what only the real venue does against a fake."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from alpaca.data.enums import DataFeed
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.trading.client import TradingClient
from pydantic import SecretStr

from qbot import limits, stream
from qbot.broker import alpaca
from qbot.broker import alpaca_wire as wire
from qbot.broker.alpaca import AlpacaBroker
from qbot.clock import monotonic_s
from qbot.errors import BrokerError, BrokerRejected, ConfigError, OrderInDoubt
from qbot.market.alpaca_data import AlpacaData
from qbot.market.bounded import Bounded
from qbot.market.provider import Fault, ProviderError
from qbot.reconciliation import BEGINNING
from qbot.settings import Settings
from qbot.types import OrderSpec, OrderType, Side, TimeInForce
from tests.market.fakes import NOW
from tests.market.vendor import Request, Said, Vendor, said, vendor
from tests.support.exchange import KEY, MID_SESSION, SECRET
from tests.support.runtime import World

Answer = Any
EARLY = datetime(2025, 7, 7, 14, 0, tzinfo=UTC)


class FakeVenue:
    """A client whose answers are made up: an object to return, or a function of the query. It notes what it was asked.

    It has the two private attributes of the real one that the adapter sets.
    """

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._retry = 3
        self._session = requests.Session()

    def get(self, path: str, data: dict[str, Any] | None = None) -> Answer:
        self.asked.append((path, dict(data or {})))
        answer = self.answers[path]
        return answer(data or {}) if callable(answer) else answer

    post = delete = get


def broker_of(answers: dict[str, Answer]) -> tuple[AlpacaBroker, FakeVenue]:
    fake = FakeVenue(answers)
    return AlpacaBroker(fake), fake  # type: ignore[arg-type]


def raw_order(number: int, *, at: datetime = EARLY, **more: Any) -> dict[str, Any]:
    stamp = f"{at:%Y-%m-%dT%H:%M:%S.%f}123Z"  # nine digits, as the venue has them
    return {
        "id": f"o{number}", "client_order_id": f"id-{number}", "symbol": "AAPL", "side": "buy", "qty": "1",
        "filled_qty": "0", "filled_avg_price": None, "type": "limit", "time_in_force": "gtc", "limit_price": "100",
        "stop_price": None, "status": "new", "created_at": stamp, "updated_at": stamp, "submitted_at": stamp,
        "order_class": "", "legs": None, **more,
    }  # fmt: skip


def spec(**more: Any) -> OrderSpec:
    values: dict[str, Any] = {
        "client_order_id": "qbot-t-1", "symbol": "AAPL", "side": Side.BUY, "qty": Decimal(2),
        "order_type": OrderType.MARKET, "time_in_force": TimeInForce.DAY,
    }  # fmt: skip
    return OrderSpec(**{**values, **more})


# --- the client is safe ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda url: AlpacaBroker(TradingClient(KEY, SECRET, raw_data=True, url_override=url)),
    lambda url: AlpacaData(StockHistoricalDataClient(KEY, SECRET, raw_data=True, url_override=url), DataFeed.IEX),
])  # fmt: skip
def test_a_client_does_not_try_again_by_itself_and_has_a_time_out(make: Callable[[str], Any]) -> None:
    client = make("http://127.0.0.1:1")._client
    assert client._retry == 0
    assert client._session.request.keywords == {"timeout": limits.BROKER_TIMEOUT_S}


def test_an_untouched_client_would_try_again_and_wait_for_ever() -> None:
    """Else hardening it would be for nothing, and the private attributes may have been renamed."""
    client = TradingClient(KEY, SECRET)
    assert client._retry > 0
    assert {429, 504} <= set(client._retry_codes)
    assert not hasattr(client._session.request, "keywords")


@pytest.fixture
def source() -> Iterator[Vendor]:
    with vendor() as found:
        yield found


def data_of(source: Vendor, **bounds: float) -> AlpacaData:
    found = AlpacaData(StockHistoricalDataClient(KEY, SECRET, raw_data=True, url_override=source.url), DataFeed.IEX)
    if bounds:
        found._client._session.mount("http://", Bounded(**bounds))  # type: ignore[arg-type]
    return found


def transient(ask: Callable[[], object]) -> str:
    with pytest.raises(ProviderError) as raised:
        ask()
    assert raised.value.fault is Fault.TRANSIENT
    return str(raised.value)


def test_market_data_that_comes_in_pages_without_end_is_given_up(source: Vendor) -> None:
    def more(pause_s: float = 0.0) -> Said:
        token = "more" if len(source.got) < 50 else None  # near enough to no end
        return said({"bars": {}, "next_page_token": token}, pause_s=pause_s)

    source.answer = lambda _request: more()
    for _ in range(2):  # each time it is counted anew
        source.got.clear()
        assert "AnswerRefused" in transient(lambda: data_of(source).bars(["AAPL"], NOW - timedelta(days=1), NOW))
        assert len(source.got) == limits.DATA_PAGES_MAX
    source.answer = lambda _request: more(pause_s=0.2)
    source.got.clear()
    transient(lambda: data_of(source, pages_s=0.3).bars(["AAPL"], NOW - timedelta(days=1), NOW))
    assert len(source.got) == 2


def test_pages_are_counted_by_the_thread_that_follows_them(source: Vendor) -> None:
    data, pages = data_of(source), limits.DATA_PAGES_MAX

    def answer(request: Request) -> Said:
        number = int(request.query.get("page_token", "0"))
        return said({"bars": {}, "next_page_token": str(number + 1) if number < pages - 1 else None}, pause_s=0.01)

    source.answer = answer
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(data.bars, ["AAPL"], NOW - timedelta(days=1), NOW) for _ in range(8)]
    assert [len(one.result()) for one in made] == [0] * 8
    assert len(source.got) == 8 * pages


@pytest.mark.parametrize("answer", [
    Said(b'{"AAPL": "' + b"x" * 1_000 + b'"}', drip_s=0.02),
    Said(b"x" * 5_100_000), Said(b"x" * 5_100_000, length=False),
    Said(gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}), Said(b'{"AAPL": 1}', cut=5), Said(cut=0),
])  # fmt: skip
def test_market_data_that_is_too_slow_too_large_packed_or_broken_off_is_none(source: Vendor, answer: Said) -> None:
    source.says(answer)
    begin_s = monotonic_s()
    transient(lambda: data_of(source, deadline_s=0.4).quotes(["AAPL"], NOW))
    assert monotonic_s() - begin_s < 2
    assert source.got[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("fault", ["rate_limited", "timeout_after_accept", "server_error"])
def test_an_order_is_posted_exactly_once_whatever_the_answer(world: World, fault: str) -> None:
    world.exchange.fault(fault, method="POST", path="/v2/orders", times=1)
    with pytest.raises(BrokerError):
        world.rt.broker.submit(spec())
    assert world.posts() == 1


def test_a_venue_that_does_not_answer_is_given_up_after_the_time_out(world: World) -> None:
    hasty = AlpacaBroker(TradingClient(KEY, SECRET, raw_data=True, url_override=world.exchange.url), (1.0, 0.1))
    world.exchange.fault("latency", path="/v2/account", seconds=0.4)
    with pytest.raises(BrokerError, match="ReadTimeout"):
        hasty.account()


def test_threads_take_turns_on_the_one_session(world: World) -> None:
    answers: list[Decimal] = []

    def ask() -> None:
        answers.extend(world.rt.broker.account().equity_usd for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [Decimal(100_000)] * 20


def test_without_keys_there_is_no_broker() -> None:
    with pytest.raises(ConfigError, match="QBOT_ALPACA_API_KEY"):
        alpaca.connect(Settings(_env_file=None, alpaca_api_key=SecretStr("")))


@pytest.mark.parametrize(
    "url", ["https://api.alpaca.markets", "https://API.Alpaca.markets./", "https://broker-api.alpaca.markets/v1"]
)
def test_an_address_of_real_money_is_refused_whatever_else_is_set(url: str) -> None:
    live = Settings(
        _env_file=None, alpaca_url=url, alpaca_api_key=SecretStr("k"), alpaca_secret_key=SecretStr("s"), allow_live=True
    )
    with pytest.raises(ConfigError, match="real money"):
        alpaca.connect(live)
    with pytest.raises(ConfigError, match="real money"):
        stream.url(live)


# --- what a submit may end in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "error"), [
    ("rate_limited", BrokerRejected), ("server_error", OrderInDoubt), ("timeout_after_accept", OrderInDoubt),
    ("drop_after_accept", OrderInDoubt),
])  # fmt: skip
def test_only_what_cannot_have_been_placed_is_a_refusal(world: World, fault: str, error: type[Exception]) -> None:
    world.exchange.fault(fault, method="POST", path="/v2/orders", times=1)
    with pytest.raises(error) as caught:
        world.rt.broker.submit(spec())
    assert type(caught.value) is error
    assert len(world.orders()) == ("after_accept" in fault)


def test_a_venue_that_cannot_be_reached_leaves_doubt() -> None:
    unreachable = AlpacaBroker(TradingClient(KEY, SECRET, raw_data=True, url_override="http://127.0.0.1:1"))
    with pytest.raises(OrderInDoubt):
        unreachable.submit(spec())


def test_an_answer_that_cannot_be_read_leaves_doubt() -> None:
    bodies: list[Answer] = [{}, None, [], {"id": 1}, raw_order(1, side="sideways"), raw_order(1, qty="many")]
    for body in bodies:
        broker, _ = broker_of({"/orders": body})
        with pytest.raises(OrderInDoubt, match="unreadable"):
            broker.submit(spec())


def test_an_answer_that_is_nested_too_deeply_leaves_doubt_and_is_a_broker_error() -> None:
    broker, _ = broker_of(dict.fromkeys(("/orders", "/account"), lambda _query: json.loads("[" * 200_000)))
    with pytest.raises(OrderInDoubt):
        broker.submit(spec())
    with pytest.raises(BrokerError, match="RecursionError"):
        broker.account()


def test_a_refusal_tells_status_code_and_message(world: World) -> None:
    with pytest.raises(BrokerRejected, match="insufficient buying power") as caught:
        world.rt.broker.submit(spec(qty=Decimal(10_000)))
    assert (caught.value.status, caught.value.code) == (403, 40310000)
    assert world.orders() == []


def test_wrong_keys_are_a_refusal_that_says_so(world: World) -> None:
    stranger = AlpacaBroker(TradingClient(KEY, "wrong", raw_data=True, url_override=world.exchange.url))
    with pytest.raises(BrokerRejected, match="access key verification failed") as caught:
        stranger.submit(spec())
    assert caught.value.status == 401
    assert world.orders() == []


def test_keys_of_a_live_account_on_a_paper_address_are_told_plainly(world: World) -> None:
    stranger = AlpacaBroker(TradingClient("live-key", "of-a-live-account", url_override=world.exchange.url))
    with pytest.raises(BrokerRejected, match="paper accounts, where the keys of a live one are refused"):
        stranger.account()


def test_a_duplicate_id_gives_the_order_that_has_it(world: World) -> None:
    first = world.rt.broker.submit(spec())
    again = world.rt.broker.submit(spec(qty=Decimal(7)))
    assert (again.broker_order_id, again.qty) == (first.broker_order_id, Decimal(2))
    assert len(world.orders()) == 1


def test_an_order_status_nobody_knows_is_kept_as_it_is() -> None:
    broker, _ = broker_of({"/orders": raw_order(1, status="quantum_superposed")})
    placed = broker.submit(spec())
    assert placed.status == "quantum_superposed"
    assert placed.open


# --- what goes out ---------------------------------------------------------------------------------------------------


def test_numbers_go_out_as_text_and_nothing_that_was_not_asked_for() -> None:
    body = wire.order_payload(spec(qty=Decimal("3"), order_type=OrderType.LIMIT, limit_price_usd=Decimal("210.10")))
    assert body == {
        "symbol": "AAPL", "qty": "3", "side": "buy", "type": "limit", "time_in_force": "day",
        "client_order_id": "qbot-t-1", "limit_price": "210.10",
    }  # fmt: skip


@pytest.mark.parametrize("tif", list(TimeInForce))
@pytest.mark.parametrize("kind", [OrderType.MARKET, OrderType.LIMIT])
def test_every_time_in_force_is_understood_by_the_venue(world: World, tif: TimeInForce, kind: OrderType) -> None:
    limit = None if kind is OrderType.MARKET else (world.price("AAPL") * 2).quantize(Decimal("0.01"))
    placed = world.rt.broker.submit(spec(time_in_force=tif, order_type=kind, limit_price_usd=limit))
    assert (placed.time_in_force, placed.order_type) == (str(tif), str(kind))
    assert world.positions() == {"AAPL": Decimal(2)}


@pytest.mark.parametrize("tif", [TimeInForce.DAY, TimeInForce.GTC])
def test_a_stop_rests_at_the_venue(world: World, tif: TimeInForce) -> None:
    world.by_hand(symbol="AAPL", qty="2", side="buy")
    world.orders()
    stop = (world.price("AAPL") * Decimal("0.95")).quantize(Decimal("0.01"))
    world.rt.broker.submit(spec(side=Side.SELL, order_type=OrderType.STOP, stop_price_usd=stop, time_in_force=tif))
    assert [(o["type"], o["time_in_force"], Decimal(o["stop_price"])) for o in world.resting()] == [("stop", tif, stop)]


def test_a_bracket_comes_back_with_its_legs_and_their_parent(world: World) -> None:
    price = world.price("AAPL")
    high, low = ((price * Decimal(share)).quantize(Decimal("0.01")) for share in ("1.1", "0.9"))
    placed = world.rt.broker.submit(spec(time_in_force=TimeInForce.GTC, take_profit_usd=high, stop_loss_usd=low))
    assert [(leg.order_type, leg.limit_price_usd or leg.stop_price_usd) for leg in placed.legs] == [
        ("limit", high), ("stop", low),
    ]  # fmt: skip
    assert all(leg.parent_id == placed.broker_order_id and leg.protective and leg.open for leg in placed.legs)
    assert not placed.protective


# --- what is read ----------------------------------------------------------------------------------------------------


def test_account_positions_clock_and_fills_are_read_exactly(world: World) -> None:
    world.by_hand(symbol="AAPL", qty="3", side="buy")
    broker = world.rt.broker
    (position,) = broker.positions()
    (fill,) = broker.fills_since(BEGINNING)
    account, clock = broker.account(), broker.clock()
    assert (position.symbol, position.qty, position.avg_entry_price_usd) == ("AAPL", Decimal(3), fill.price_usd)
    assert fill.execution_id == f"{fill.broker_order_id}:3"
    assert account.cash_usd == Decimal(100_000) - 3 * fill.price_usd
    assert account.equity_usd == account.cash_usd + position.market_value_usd
    assert (clock.at, clock.is_open) == (MID_SESSION, True)
    assert fill.at == MID_SESSION


def test_an_id_nobody_has_is_none_and_a_broken_answer_is_an_error(world: World) -> None:
    assert world.rt.broker.order_by_client_id("never") is None
    world.exchange.fault("server_error", method="GET", times=1)
    with pytest.raises(BrokerRejected, match="HTTP 500"):
        world.rt.broker.order_by_client_id("never")


def test_a_cancel_of_what_is_gone_is_no_error_and_any_other_refusal_is(world: World) -> None:
    filled = world.rt.broker.submit(spec())
    world.rt.broker.cancel(filled.broker_order_id)
    world.rt.broker.cancel("00000000-0000-4000-8000-000000000000")
    world.exchange.fault("rate_limited", method="DELETE", times=1)
    with pytest.raises(BrokerRejected, match="429"):
        world.rt.broker.cancel(filled.broker_order_id)
    assert [order["status"] for order in world.orders()] == ["filled"]


def test_cancel_all_counts_what_the_venue_took_it_for(world: World) -> None:
    low = (world.price("AAPL") * Decimal("0.9")).quantize(Decimal("0.01"))
    for number in range(3):
        world.by_hand(symbol="AAPL", qty="1", side="buy", type="limit", limit_price=str(low - number))
    assert world.rt.broker.cancel_all() == 3
    assert (world.rt.broker.cancel_all(), world.resting()) == (0, [])


def test_what_the_venue_says_of_cancelling_all_in_another_form_is_a_broker_error() -> None:
    bodies: list[Answer] = [{"message": "x"}, [{}], [{"status": "gone"}], [None], 1]
    for body in bodies:
        broker, _ = broker_of({"/orders": body})
        with pytest.raises(BrokerError, match="unreadable answer"):
            broker.cancel_all()


def test_closing_positions_goes_on_after_one_that_cannot_be_closed(world: World) -> None:
    for symbol in ("AAPL", "MSFT"):
        world.by_hand(symbol=symbol, qty="1", side="buy")
    world.orders()
    with pytest.raises(BrokerError, match="1 of 3 positions"):
        world.rt.broker.close_all(["AAPL", "COST", "MSFT"])
    assert world.positions() == {}


@pytest.mark.parametrize(("path", "ask", "bodies"), [
    ("/account", AlpacaBroker.account, [None, [], {"equity": None}, {"equity": "1", "cash": "x"}]),
    ("/positions", AlpacaBroker.positions, [None, [{}], {"message": "x"}, [{"symbol": "A", "qty": "some"}]]),
    ("/clock", AlpacaBroker.clock, [None, {}, {"timestamp": "yesterday"}]),
    ("/orders", AlpacaBroker.open_orders, [None, [{}], [{**raw_order(1), "side": None}]]),
])  # fmt: skip
def test_an_answer_in_another_form_is_a_broker_error(path: str, ask: Callable[[Any], Any], bodies: list[Any]) -> None:
    for body in bodies:
        broker, _ = broker_of({path: body})
        with pytest.raises(BrokerError, match=f"unreadable answer to {path}"):
            ask(broker)


# --- what only the real venue does -----------------------------------------------------------------------------------


def as_alpaca_lists(orders: list[dict[str, Any]], query: dict[str, Any]) -> list[dict[str, Any]]:
    """The venue's own filter: `held` does not count as open, and a leg rolls up under its parent or not at all."""
    wanted = [o for o in orders if query["status"] == "all" or o["status"] in ("new", "partially_filled", "accepted")]
    if query["nested"] != "true":
        return wanted
    tops = [order for order in wanted if "parent" not in order]
    return [{**top, "legs": [o for o in orders if o.get("parent") == top["id"]] or None} for top in tops]


def test_the_legs_of_a_filled_bracket_are_found_though_the_venue_lists_the_parent_as_closed() -> None:
    bracket = [
        raw_order(1, status="filled", order_class="bracket"),
        raw_order(2, side="sell", order_class="bracket", parent="o1"),
        raw_order(3, side="sell", order_class="bracket", parent="o1", type="stop", status="held"),
    ]
    broker, _ = broker_of({"/orders": lambda query: as_alpaca_lists(bracket, query)})
    assert [order.broker_order_id for order in broker.open_orders()] == ["o2"]  # its cancel takes o3 along
    assert [(o.broker_order_id, o.parent_id) for o in broker.orders_since(BEGINNING)] == [
        ("o1", None), ("o2", "o1"), ("o3", "o1"),
    ]  # fmt: skip


def test_an_option_spread_in_the_same_account_does_not_hide_the_other_orders() -> None:
    spread = raw_order(1, order_class="mleg", side="", symbol="", legs=[raw_order(2)])
    broker, _ = broker_of({"/orders": [spread, raw_order(3)]})
    assert [order.broker_order_id for order in broker.open_orders()] == ["o3"]


def test_orders_are_read_over_all_pages_and_none_is_lost_where_one_ends() -> None:
    times = [EARLY + timedelta(seconds=number // 7) for number in range(1_203)]  # seven share each moment
    orders = [raw_order(number, at=at) for number, at in enumerate(times)]

    def page(query: dict[str, Any]) -> list[dict[str, Any]]:
        after = datetime.fromisoformat(query["after"])
        later = [order for order, at in zip(orders, times, strict=True) if at > after]
        return later[: query["limit"]]

    broker, fake = broker_of({"/orders": page})
    assert [order.broker_order_id for order in broker.orders_since(BEGINNING)] == [o["id"] for o in orders]
    assert len(fake.asked) == 3
    assert [order.broker_order_id for order in broker.open_orders()] == [o["id"] for o in orders]


def test_fills_are_read_over_all_pages() -> None:
    fills = [
        {"id": f"a{number}", "order_id": f"o{number}", "cum_qty": "10", "symbol": "AAPL", "side": "sell_short",
         "qty": "10", "price": "1.5", "transaction_time": "2025-07-07T14:00:00.123456789Z"}
        for number in range(250)
    ]  # fmt: skip

    def page(query: dict[str, Any]) -> list[dict[str, Any]]:
        ids = [fill["id"] for fill in fills]
        begin = ids.index(query["page_token"]) + 1 if "page_token" in query else 0
        return fills[begin : begin + query["page_size"]]

    broker, fake = broker_of({"/account/activities/FILL": page})
    found = broker.fills_since(BEGINNING)
    assert [fill.execution_id for fill in found] == [f"o{number}:10" for number in range(250)]
    assert {fill.side for fill in found} == {Side.SELL}
    assert len(fake.asked) == 3


def test_activities_are_read_as_the_venue_has_told_them() -> None:
    """The first as it has been recorded, without a time of its own; the second as its OpenAPI has it."""
    raws = [
        {"activity_type": "DIV", "id": "20190801011955195::5f596936", "date": "2019-08-01", "net_amount": "1.02",
         "symbol": "T", "cusip": "C00206R102", "qty": "2", "per_share_amount": "0.51"},
        {"activity_type": "FEE", "activity_sub_type": "TAF", "id": "20250708000000000::1", "date": "2025-07-07",
         "net_amount": "-0.01", "created_at": "2025-07-08T08:00:00Z", "status": "canceled", "description": "TAF fee"},
        {"activity_type": "JNLS", "id": "20250709000000000::1", "date": "2025-07-09T00:00:00Z", "qty": "-3"},
    ]  # fmt: skip
    broker, fake = broker_of({"/account/activities": raws})
    dividend, fee, shares = broker.activities_since(BEGINNING)
    assert fake.asked[0][1]["category"] == "non_trade_activity"
    assert (dividend.amount_usd, dividend.symbol, dividend.qty, dividend.status) == (
        Decimal("1.02"),
        "T",
        2,
        "executed",
    )
    assert dividend.at == datetime(2019, 8, 1, 1, 19, 55, tzinfo=UTC)
    assert (fee.sub_kind, fee.status, fee.description, fee.qty) == ("TAF", "canceled", "TAF fee", None)
    assert (fee.day, fee.at) == (date(2025, 7, 7), datetime(2025, 7, 8, 8, tzinfo=UTC))
    assert (shares.qty, shares.amount_usd, shares.day) == (Decimal(-3), 0, date(2025, 7, 9))


def test_one_execution_has_one_name_however_its_quantity_is_written() -> None:
    names = {wire.execution_id("o1", Decimal(text)) for text in ("10", "10.0", "1E+1", "10.000000000")}
    assert names == {"o1:10"}
    assert wire.execution_id("o1", Decimal("0.5")) == "o1:0.5"


def test_times_of_nine_digits_and_of_any_zone_are_read_as_utc() -> None:
    assert wire.parse_time("2025-07-07T10:00:00.123456789-04:00") == datetime(2025, 7, 7, 14, 0, 0, 123456, tzinfo=UTC)
    assert wire.parse_time("2025-07-07T14:00:00Z") == EARLY
