"""The sources of market data that this environment names, in their fixed order."""

from __future__ import annotations

from dataclasses import dataclass

from qbot.market import alpaca_data, at_hand, finnhub, fmp, marketstack, twelvedata
from qbot.market import yahoo as yahoo_adapter
from qbot.market.company import FundamentalsProvider, NewsProvider
from qbot.market.finnhub import Finnhub
from qbot.market.fmp import Fmp
from qbot.market.marketstack import Marketstack
from qbot.market.provider import BarProvider, Provider
from qbot.market.twelvedata import TwelveData
from qbot.market.wire import Key, Wire
from qbot.market.yahoo import Yahoo
from qbot.market.yahoo_link import YahooLink
from qbot.settings import Settings


@dataclass(frozen=True, slots=True)
class Sources:
    """Who can be asked for what. One source may stand in several."""

    quotes: tuple[Provider, ...] = ()
    bars: tuple[BarProvider, ...] = ()
    fundamentals: tuple[FundamentalsProvider, ...] = ()
    news: tuple[NewsProvider, ...] = ()


def sources_of(settings: Settings) -> Sources:
    """The sources at hand (see `at_hand`). No connection is made, nothing slow loaded.

    They hold sessions: make them once a process. Their order is no preference. Raises ConfigError.
    """
    named = {plan.source for plan in at_hand.plans(settings)}
    alpaca = alpaca_data.connect(settings) if alpaca_data.SOURCE in named else None
    hub = Finnhub(_finnhub(settings)) if finnhub.NAME in named else None
    twelve = TwelveData(_twelvedata(settings)) if twelvedata.NAME in named else None
    prep = Fmp(_fmp(settings)) if fmp.NAME in named else None
    stack = Marketstack(_marketstack(settings)) if marketstack.NAME in named else None
    yahoo = Yahoo(YahooLink(settings.home, settings.yfinance_url)) if yahoo_adapter.NAME in named else None
    everyone: tuple[Provider | None, ...] = (alpaca, hub, twelve, prep, stack, yahoo)
    bars: tuple[BarProvider | None, ...] = (alpaca, twelve, yahoo)
    fundamentals: tuple[FundamentalsProvider | None, ...] = (hub, prep, yahoo)
    news: tuple[NewsProvider | None, ...] = (hub, yahoo)
    return Sources(
        tuple(source for source in everyone if source is not None),
        tuple(source for source in bars if source is not None),
        tuple(source for source in fundamentals if source is not None),
        tuple(source for source in news if source is not None),
    )


def _finnhub(settings: Settings) -> Wire:
    key = Key(settings.finnhub_api_key, header=finnhub.KEY_HEADER)
    return Wire(finnhub.NAME, settings.finnhub_url, key)


def _twelvedata(settings: Settings) -> Wire:
    key = Key(settings.twelvedata_api_key, header=twelvedata.KEY_HEADER, prefix=twelvedata.KEY_PREFIX)
    return Wire(twelvedata.NAME, settings.twelvedata_url, key)


def _fmp(settings: Settings) -> Wire:
    return Wire(fmp.NAME, settings.fmp_url, Key(settings.fmp_api_key, header=fmp.KEY_HEADER))


def _marketstack(settings: Settings) -> Wire:
    return Wire(
        marketstack.NAME,
        settings.marketstack_url,
        Key(settings.marketstack_api_key, parameter=marketstack.KEY_PARAMETER),
    )
