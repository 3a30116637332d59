"""The stand-in beside the paper exchange: all vendors tell the market that QBot trades at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from qbot.errors import DataUnavailable
from qbot.market.alpaca_data import AlpacaData, connect
from qbot.market.provider import Fault, ProviderError
from qbot.market.providers import sources_of
from qbot.settings import Settings
from qbot.standin import hours, of_exchange
from qbot.standin.of_exchange import OfExchange
from qbot.standin.running import standing_in
from tests.support.exchange import KEY, MID_SESSION, RunningExchange, exchange_thread

SYMBOLS = ["AAPL", "SPY"]


class Counting(OfExchange):
    """It counts what it asks the exchange. `gone`: nobody answers."""

    requests = 0
    gone = False

    def _get(self, path: str, query: Mapping[str, str]) -> Any:
        self.requests += 1
        if self.gone:
            raise DataUnavailable("gone")
        return super()._get(path, query)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExchange]:
    with exchange_thread(tmp_path_factory.mktemp("exchange")) as found:
        yield found


@pytest.fixture
def exchange(running: RunningExchange) -> RunningExchange:
    running.clock.set(max(running.clock.at, MID_SESSION))
    return running


def direct(exchange: RunningExchange) -> AlpacaData:
    """QBot's adapter at the exchange itself."""
    key = SecretStr(KEY)
    return connect(Settings(_env_file=None, alpaca_api_key=key, alpaca_secret_key=key, alpaca_data_url=exchange.url))  # type: ignore[call-arg]


def test_every_vendor_tells_the_exchange_s_price_and_the_exchange_is_asked_once(
    exchange: RunningExchange, tmp_path: Path
) -> None:
    true = direct(exchange).quotes(SYMBOLS, exchange.clock())
    prices = Counting(exchange.url, kept_s=3_600)
    with standing_in(prices, exchange.clock) as standin:
        key = SecretStr(KEY)
        values = Settings(_env_file=None, home=tmp_path, alpaca_api_key=key, alpaca_secret_key=key)  # type: ignore[call-arg]
        sources = sources_of(values.model_copy(update=standin.settings))
        prices.snapshots(SYMBOLS, exchange.clock())
        for source in sources.quotes:
            answer = source.quotes(SYMBOLS, exchange.clock())
            assert answer.missing == {}, source.name
            if source.name != "marketstack":
                assert {s: q.price_usd for s, q in answer.quotes.items()} == {
                    s: q.price_usd for s, q in true.quotes.items()
                }
                assert answer.days["AAPL"].previous_close == true.days["AAPL"].previous_close
            else:
                assert float(answer.quotes["SPY"].price_usd) == true.days["SPY"].previous_close
        assert prices.requests == 2  # and Marketstack's days, which are not kept
        start = exchange.clock() - timedelta(days=4)
        before = prices.requests
        told = [source.bars(SYMBOLS, start, exchange.clock()) for source in sources.bars]
        assert prices.requests == before + 2 + len(SYMBOLS)  # only Yahoo is asked for one symbol at a time
        own = direct(exchange).bars(SYMBOLS, start, exchange.clock())
        for frame in told:
            assert frame["close"].tolist() == own["close"].tolist()
            assert frame["ts"].tolist() == own["ts"].tolist()


def test_it_asks_for_every_symbol_it_was_ever_asked_for_at_once_and_again_when_time_has_passed(
    exchange: RunningExchange,
) -> None:
    now = exchange.clock()
    prices, forgetful = Counting(exchange.url, kept_s=3_600), Counting(exchange.url, kept_s=0)
    assert set(prices.snapshots(["AAPL", "ZZZZ", "not one"], now)) == {"AAPL"}
    assert set(prices.snapshots(["ZZZZ", "AAPL"], now)) == {"AAPL"}
    assert prices.requests == 1
    prices.snapshots(["SPY"], now)
    before = prices.snapshots(["AAPL"], now)["AAPL"]
    assert forgetful.snapshots(["AAPL"], now)["AAPL"] == before
    exchange.clock.advance(minutes=7)
    assert prices.snapshots(["AAPL"], now)["AAPL"] == before
    assert prices.requests == 2
    assert forgetful.snapshots(["AAPL"], now)["AAPL"].at == before.at + timedelta(minutes=7)
    assert forgetful.requests == 2


def test_bars_of_many_symbols_are_asked_for_at_once_and_pages_that_end_within_one_are_joined(
    exchange: RunningExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, prices = exchange.clock(), Counting(exchange.url)
    many, start = ["SPY", "not one", "AAPL", *(f"Z{number}" for number in range(300))], now - timedelta(days=2)
    whole = prices.bars(many, start, now, now)
    assert prices.requests == 2  # two hundred symbols a request
    assert list(whole) == many
    assert {symbol for symbol, bars in whole.items() if bars} == {"AAPL", "SPY"}
    times = [bar.at for bar in whole["SPY"]]
    assert start <= times[0] < times[-1] < now
    days = prices.days(SYMBOLS, now.date() - timedelta(days=6), now.date(), now)
    assert prices.requests == 3
    assert all(days[symbol] for symbol in SYMBOLS)
    monkeypatch.setattr(of_exchange, "PAGE", len(times) - 1)
    assert prices.bars(many, start, now, now) == whole
    assert prices.requests == 3 + 4  # of the first two hundred three pages


def test_a_symbol_that_could_not_be_read_once_is_known_when_it_can(exchange: RunningExchange) -> None:
    prices = Counting(exchange.url, kept_s=3_600)
    prices.snapshots(["AAPL"], exchange.clock())
    prices.gone = True
    with pytest.raises(DataUnavailable):
        prices.snapshots(["SPY"], exchange.clock())
    assert set(prices.snapshots(["AAPL"], exchange.clock())) == {"AAPL"}
    prices.gone = False
    assert set(prices.snapshots(["SPY"], exchange.clock())) == {"SPY"}


def test_before_the_first_bar_has_ended_the_day_is_its_one_price(tmp_path: Path) -> None:
    with exchange_thread(tmp_path) as exchange:
        exchange.clock.set(datetime(2025, 7, 8, 13, 32, tzinfo=UTC))
        found = OfExchange(exchange.url).snapshots(["AAPL"], exchange.clock())["AAPL"]
        day = MID_SESSION.date()
        (yesterday,) = OfExchange(exchange.url).days(["AAPL"], day, day, exchange.clock())["AAPL"]
        assert found.begin == datetime(2025, 7, 8, 13, 30, tzinfo=UTC)
        assert found.open == found.high == found.low == found.price
        assert (found.volume, found.previous_close) == (0, yesterday.close)
        assert yesterday.at == datetime(2025, 7, 7, 13, 30, tzinfo=UTC)


def test_days_are_the_sessions_that_have_ended(exchange: RunningExchange) -> None:
    today = exchange.clock().date()
    days = OfExchange(exchange.url).days(["SPY", "not one"], today - timedelta(days=6), today, exchange.clock())
    assert [day.at for day in days["SPY"]] == [
        session[0] for session in hours.of_days(today - timedelta(days=6), today) if session[1] <= exchange.clock()
    ]
    assert days["not one"] == []


def test_a_market_that_cannot_be_asked_is_a_vendor_out_of_order(tmp_path: Path) -> None:
    nobody = OfExchange("http://127.0.0.1:1")
    with pytest.raises(DataUnavailable):
        nobody.snapshots(SYMBOLS, MID_SESSION)
    with standing_in(nobody, lambda: MID_SESSION) as standin:
        values = Settings(_env_file=None, home=tmp_path).model_copy(update=standin.settings)  # type: ignore[call-arg]
        for source in sources_of(values).quotes:
            if source.name != "yfinance":
                with pytest.raises(ProviderError) as raised:
                    source.quotes(SYMBOLS, MID_SESSION)
                assert raised.value.fault is Fault.TRANSIENT


def test_prices_are_exact(exchange: RunningExchange) -> None:
    found = OfExchange(exchange.url).snapshots(["SPY"], exchange.clock())["SPY"]
    true = direct(exchange).latest(["SPY"], exchange.clock())["SPY"]
    told = [Decimal(str(value)) for value in (found.price, found.bid, found.ask)]
    assert told == [true.price_usd, true.bid_usd, true.ask_usd]
