"""Every trouble of every vendor, through QBot's own adapters: what QBot takes it for, or why it does not believe it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from qbot import grok
from qbot.broker.alpaca import harden
from qbot.clock import monotonic_s
from qbot.errors import ConfigError, StackError
from qbot.market import alpaca_data, finnhub, fmp, marketstack, twelvedata
from qbot.market.aggregation import Market, Reason, aggregate, unsound
from qbot.market.calendar import LOOK_BACK, sessions_between
from qbot.market.provider import Answer, Fault, Provider, ProviderError
from qbot.market.wire import Key, Wire
from qbot.market.xai import Xai
from qbot.market.yahoo import Yahoo
from qbot.market.yahoo_link import YahooLink
from qbot.settings import Settings
from qbot.standin.addresses import FINNHUB, YAHOO
from qbot.standin.client import Control
from qbot.standin.running import Running
from qbot.standin.server import VENDORS
from qbot.standin.troubles import LIES, Trouble
from qbot.standin.walk import Walk
from tests.market.fakes import OVER_HTTP
from tests.standin.conftest import NOW

PATIENCE_S, IMPATIENCE_S, SLOW_S = 8.0, 0.4, 2.0
TRUE = Walk().snapshots(["AAPL"], NOW)["AAPL"]
ASKED = ("alpaca", *OVER_HTTP, "yfinance")
T = Trouble
ANYBODY = {
    **dict.fromkeys((T.DEAD, T.SLOW, T.GARBAGE, T.HTML, T.EMPTY, T.SERVER_ERROR), Fault.TRANSIENT),
    T.MINUTE_LIMIT: Fault.MINUTE_LIMIT,
}
WITH_KEY = {T.AUTH: Fault.AUTH, T.PLAN: Fault.PLAN}
MEANT: dict[str, dict[Trouble, Fault]] = {
    "alpaca": {**ANYBODY, **WITH_KEY},
    "finnhub": {**ANYBODY, **WITH_KEY, T.PLAN_SYMBOL: Fault.PLAN, T.ERROR_IN_200: Fault.MINUTE_LIMIT},
    "twelvedata": {
        **ANYBODY, **WITH_KEY, T.PLAN_SYMBOL: Fault.PLAN, T.QUOTA: Fault.QUOTA, T.ERROR_IN_200: Fault.MINUTE_LIMIT,
    },
    "fmp": {**ANYBODY, **WITH_KEY, T.PLAN_SYMBOL: Fault.PLAN, T.QUOTA: Fault.QUOTA, T.ERROR_IN_200: Fault.QUOTA},
    "marketstack": {**ANYBODY, **WITH_KEY, T.QUOTA: Fault.QUOTA, T.ERROR_IN_200: Fault.QUOTA},
    "yfinance": {**ANYBODY, T.ERROR_IN_200: Fault.TRANSIENT},
    "xai": {**ANYBODY, **WITH_KEY, T.QUOTA: Fault.QUOTA},
}  # fmt: skip
NO_PRICE = (T.ZERO, T.NEGATIVE, T.NULL, T.NAN)
DISBELIEVED = {T.WRONG_TIME_ZONE: Reason.OUT_OF_SESSION, T.STALE: Reason.STALE, T.UNSPLIT: Reason.SPLIT}


def provider(values: Settings, name: str, patience_s: float = PATIENCE_S) -> Provider:
    """QBot's own, that waits no longer than this for a byte."""
    if name == "yfinance":
        link = YahooLink(values.home, values.yfinance_url, deadline_s=2 * patience_s)
        assert link._loaded  # which takes seconds, once a process
        return Yahoo(link)
    if name == "alpaca":
        data = alpaca_data.connect(values)
        harden(data._client, (1.0, patience_s))
        return data
    url, module = getattr(values, f"{name}_url"), {
        "finnhub": finnhub, "twelvedata": twelvedata, "fmp": fmp, "marketstack": marketstack,
    }[name]  # fmt: skip
    where = {"header": getattr(module, "KEY_HEADER", ""), "parameter": getattr(module, "KEY_PARAMETER", "")}
    key = Key(getattr(values, f"{name}_api_key"), prefix=getattr(module, "KEY_PREFIX", ""), **where)
    return OVER_HTTP[name](Wire(name, url, key, timeout_s=(1.0, patience_s)))


def asked(of: Provider, symbols: Sequence[str] = ("AAPL",)) -> Answer:
    """What it said; a failure as an answer without quotes."""
    try:
        return of.quotes(list(symbols), NOW)
    except ProviderError as error:
        return Answer({}, dict.fromkeys(symbols, error.fault), failed=error)


def grok_s_fault(values: Settings, patience_s: float = PATIENCE_S) -> Fault | None:
    try:
        Xai(values.xai_url, "key", deadline_s=patience_s).ask(grok.request_body("m", ["AAPL"], NOW, search=False))
    except ProviderError as error:
        return error.fault
    return None


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "trouble"), [(name, trouble) for name, row in MEANT.items() for trouble in row], ids=str
)
def test_a_trouble_is_taken_for_what_it_is_and_passes(
    standin: Running, values: Settings, name: str, trouble: Trouble
) -> None:
    slow = trouble is T.SLOW
    standin.control.switch(name, trouble, latency_s=SLOW_S if slow else 0.0)
    patience_s = IMPATIENCE_S if slow else PATIENCE_S
    if name == "xai":
        assert grok_s_fault(values, patience_s) is MEANT[name][trouble]
    else:
        answer = asked(provider(values, name, patience_s))
        assert (answer.quotes, answer.missing) == ({}, {"AAPL": MEANT[name][trouble]})
    standin.control.heal(name)
    if name == "xai":
        assert grok_s_fault(values) is None
    else:
        assert set(asked(provider(values, name)).quotes) == {"AAPL"}


def test_every_trouble_of_every_vendor_is_in_the_table() -> None:
    for vendor in VENDORS:
        assert {*MEANT[vendor.name]} == {*vendor.troubles} - LIES, vendor.name


@pytest.mark.parametrize("name", ["finnhub", "fmp", "twelvedata"])
def test_a_trouble_of_one_symbol_costs_no_other(standin: Running, values: Settings, name: str) -> None:
    standin.control.switch(name, T.PLAN_SYMBOL if name != "twelvedata" else T.UNKNOWN_SYMBOL, symbols=["MSFT"])
    answer = asked(provider(values, name), ["AAPL", "MSFT", "BRK.B"])
    assert set(answer.quotes) == {"AAPL", "BRK.B"}
    assert answer.missing == {"MSFT": Fault.PLAN if name != "twelvedata" else Fault.UNKNOWN_SYMBOL}


# --- lies ------------------------------------------------------------------------------------------------------------


def market() -> Market:
    sessions = sessions_between(NOW - LOOK_BACK, NOW)
    return Market(NOW, sessions, last_closes={"AAPL": Decimal(str(TRUE.previous_close))})


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("lie", NO_PRICE)
def test_what_is_no_price_is_no_quote(standin: Running, values: Settings, name: str, lie: Trouble) -> None:
    standin.control.switch(name, lie)
    answer = asked(provider(values, name))
    assert (answer.quotes, answer.missing) == ({}, {"AAPL": Fault.NO_DATA})


@pytest.mark.parametrize("name", ASKED)
def test_a_symbol_can_be_unknown(standin: Running, values: Settings, name: str) -> None:
    standin.control.switch(name, T.UNKNOWN_SYMBOL, symbols=["BRK.B"])
    answer = asked(provider(values, name), ["AAPL", "BRK.B"])
    assert set(answer.quotes) == {"AAPL"}
    assert answer.missing == {"BRK.B": Fault.UNKNOWN_SYMBOL}


@pytest.mark.parametrize("name", [name for name in ASKED if name != "marketstack"])
@pytest.mark.parametrize("lie", DISBELIEVED)
def test_an_untimely_or_unsplit_price_is_not_believed(
    standin: Running, values: Settings, name: str, lie: Trouble
) -> None:
    of = provider(values, name)
    assert unsound(asked(of).quotes["AAPL"], market()) is None
    standin.control.switch(name, lie)
    refused = unsound(asked(of).quotes["AAPL"], market())
    assert refused is not None
    assert refused[0] is DISBELIEVED[lie]


@pytest.mark.parametrize("name", [name for name in ASKED if name != "marketstack"])
def test_a_time_that_is_yet_to_come_is_not_believed(standin: Running, values: Settings, name: str) -> None:
    standin.control.switch(name, T.WRONG_TIME_ZONE, hours=5)
    refused = unsound(asked(provider(values, name)).quotes["AAPL"], market())
    assert refused is not None
    assert refused[0] is Reason.FUTURE


@pytest.mark.parametrize("liar", [name for name in ASKED if name != "marketstack"])
def test_a_lying_price_is_outvoted(standin: Running, values: Settings, liar: str) -> None:
    standin.control.switch(liar, T.LYING_PRICE)
    names = [name for name in ASKED if name != "marketstack"]
    quotes = [asked(provider(values, name)).quotes["AAPL"] for name in names]
    found = aggregate(quotes, market())
    assert [(one.source, one.reason) for one in found.dropped] == [(liar, Reason.OUTLIER)]
    assert found.agreed["AAPL"].quote.price_usd == Decimal(str(TRUE.price))


@pytest.mark.parametrize(("lie", "factor", "told"), [
    (T.LYING_PRICE, 10.0, 10 * TRUE.previous_close), (T.UNSPLIT, 0.5, 0.5 * TRUE.previous_close),
])  # fmt: skip
def test_marketstack_lies_about_closes(
    standin: Running, values: Settings, lie: Trouble, factor: float, told: float
) -> None:
    standin.control.switch("marketstack", lie, factor=factor)
    assert float(asked(provider(values, "marketstack")).quotes["AAPL"].price_usd) == pytest.approx(told)


def test_marketstack_can_lag_a_day(standin: Running, values: Settings) -> None:
    of = provider(values, "marketstack")
    newest = asked(of).quotes["AAPL"]
    standin.control.switch("marketstack", T.STALE)
    assert (newest.at - asked(of).quotes["AAPL"].at).days == 1


@pytest.mark.parametrize("name", ["alpaca", "twelvedata", "yfinance"])
def test_bars_lie_as_quotes_do(standin: Running, values: Settings, name: str) -> None:
    of: Any = provider(values, name)
    start = market().sessions[-1][0]
    true = of.bars(["AAPL"], start, NOW)
    standin.control.switch(name, T.UNSPLIT)
    assert of.bars(["AAPL"], start, NOW)["close"].tolist() == pytest.approx((2 * true["close"]).tolist())
    for lie in (T.STALE, *(() if name == "alpaca" else NO_PRICE), T.UNKNOWN_SYMBOL):
        standin.control.switch(name, lie)
        assert len(of.bars(["AAPL"], start, NOW)) == 0, lie


def test_bars_of_alpaca_that_can_be_none_are_neither_believed_nor_taken_for_none(
    standin: Running, values: Settings
) -> None:
    of = alpaca_data.connect(values)
    start = market().sessions[-1][0]
    for lie in (T.WRONG_TIME_ZONE, *NO_PRICE):
        standin.control.switch("alpaca", lie)
        with pytest.raises(ProviderError) as raised:
            of.bars(["AAPL"], start, NOW)
        assert raised.value.fault is Fault.TRANSIENT, lie
    before = start - timedelta(hours=8)  # where those of the session before it lie, too
    standin.control.switch("alpaca", T.WRONG_TIME_ZONE, hours=-6)
    assert (of.bars(["AAPL"], before, NOW)["ts"] >= before).all()


# --- the switch itself -----------------------------------------------------------------------------------------------


def test_a_trouble_can_end_by_itself(standin: Running, values: Settings) -> None:
    of = provider(values, "finnhub")
    standin.control.switch("finnhub", T.SERVER_ERROR, times=2)
    faults = [asked(of).missing.get("AAPL") for _ in range(3)]
    assert faults == [Fault.TRANSIENT, Fault.TRANSIENT, None]
    assert standin.control.all()["finnhub"].fault is None


def test_cookies_and_crumbs_of_yahoo_are_not_among_the_requests_of_a_trouble(standin: Running) -> None:
    def asked_at(path: str) -> int:
        return requests.get(f"{standin.url}{YAHOO}{path}", timeout=5).status_code

    aside, chart = ("", "/", "/v1/test/getcrumb", "/consent"), "/v8/finance/chart/AAPL"
    standin.control.switch("yfinance", T.MINUTE_LIMIT, times=2)
    assert 429 not in [asked_at(path) for path in aside]
    assert standin.control.all()["yfinance"].times == 2
    assert [asked_at(chart) for _ in range(3)] == [429, 429, 200]
    standin.control.switch("yfinance", T.LYING_PRICE, times=1)
    assert 429 not in [asked_at(path) for path in aside]
    assert standin.control.all()["yfinance"].fault is T.LYING_PRICE
    standin.control.switch("yfinance", T.DEAD, times=1)  # whoever is gone gives no cookies either
    with pytest.raises(requests.ConnectionError):
        asked_at("/v1/test/getcrumb")
    assert asked_at(chart) == 200


def test_what_a_vendor_cannot_have_is_refused_and_changes_nothing(standin: Running) -> None:
    control = standin.control
    control.switch("yfinance", T.HTML)
    before = control.all()
    for change in (
        lambda: control.switch("yfinance", T.AUTH), lambda: control.switch("yahoo", T.HTML),
        lambda: control.switch("finnhub", "melancholy"), lambda: control.switch("finnhub", latency_s=-1),
        lambda: control.heal("nobody"),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            change()
    assert control.all() == before


def test_all_means_those_that_can(standin: Running) -> None:
    standin.control.switch("all", T.QUOTA)
    ill = {name for name, doing in standin.control.all().items() if doing.fault is T.QUOTA}
    assert ill == {"twelvedata", "fmp", "marketstack", "xai"}
    standin.control.heal()
    assert all(doing.fault is None for doing in standin.control.all().values())


def test_requests_are_counted_by_vendor_path_and_symbol(standin: Running, values: Settings) -> None:
    asked(provider(values, "finnhub"), ["AAPL", "MSFT"])
    asked(provider(values, "twelvedata"), ["AAPL", "MSFT"])
    found = standin.control.all()
    assert (found["finnhub"].requests, found["finnhub"].symbols_asked, found["finnhub"].paths) == (2, 2, {"/quote": 2})
    assert (found["twelvedata"].requests, found["twelvedata"].symbols_asked) == (1, 2)
    assert found["fmp"].requests == 0
    standin.control.forget()
    assert sum(doing.requests for doing in standin.control.all().values()) == 0


def test_one_that_is_slow_holds_up_nobody_else_and_is_slow_for_all_at_once(standin: Running, values: Settings) -> None:
    many, begun = 12, threading.Barrier(13)
    standin.control.switch("finnhub", latency_s=IMPATIENCE_S)

    def ask(number: int) -> int:
        begun.wait(10)
        url = f"{standin.url}{FINNHUB}/quote?symbol=S{number}&token=k"
        return requests.get(url, timeout=20).status_code

    quick = provider(values, "twelvedata")
    with ThreadPoolExecutor(many) as pool:
        slow = [pool.submit(ask, number) for number in range(many)]
        begin_s = monotonic_s()
        begun.wait(10)
        assert set(asked(quick).quotes) == {"AAPL"}
        assert {one.result() for one in slow} == {200}
        took_s = monotonic_s() - begin_s
    assert IMPATIENCE_S <= took_s < many * IMPATIENCE_S / 2
    assert standin.control.all()["finnhub"].in_flight_max > many / 2
    assert standin.control.in_flight_max() >= standin.control.all()["finnhub"].in_flight_max


def test_where_nobody_listens_it_is_said_how_to_start_one() -> None:
    with pytest.raises(StackError, match="--fake-providers"):
        Control("http://127.0.0.1:1").all()


def test_a_lie_is_of_the_price_alone_and_a_missed_split_of_the_whole_day(standin: Running, values: Settings) -> None:
    of = provider(values, "fmp")
    true = asked(of).days["AAPL"]
    standin.control.switch("fmp", T.LYING_PRICE)
    assert asked(of).days["AAPL"] == true
    standin.control.switch("fmp", T.UNSPLIT)
    assert asked(of).days["AAPL"] == replace(
        true, open=2 * TRUE.open, high=2 * TRUE.high, low=2 * TRUE.low, previous_close=2 * TRUE.previous_close
    )
