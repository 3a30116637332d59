"""Payloads of market data: quotes, sources, several APIs joined, Yahoo Finance and Grok's picks."""

from __future__ import annotations

from datetime import date as Date
from typing import Annotated

from pydantic import Field

from qbot.contract.fields import (
    Count,
    Name,
    Number,
    Payload,
    Percent,
    Price,
    SignedFraction,
    Text,
    Ticker,
    Timestamp,
    Usd,
)

Sentiment = Annotated[Number, Field(ge=-1, le=1, description="-1 to 1")]


class MarketPrice(Payload):
    """One ticker of `market_data`."""

    price: Price
    timestamp: Timestamp = Field(description="When the venue stamped it.")
    source: Name


class SourceStats(Payload):
    """`market_source_stats`: tickers each source answered for in the last fetch."""

    time: Timestamp
    finnhub: Count
    twelvedata: Count
    fmp: Count
    marketstack: Count
    yfinance: Count
    stub: Count
    failed: Count
    alpaca: Count | None = Field(None, description="(extension)")


class MultiApiQuote(Payload):
    """One ticker of `multi_api_enhanced_data`."""

    price: Price
    open: Price | None
    high: Price | None
    low: Price | None
    change: Usd | None = Field(description="Since the previous close; USD a share.")
    change_pct: Percent | None = Field(description="Since the previous close; percent: 0.53 = 0.53 %.")
    volume: Number | None = Field(description="shares")
    primary_source: Name
    sources_count: Count
    sources_used: tuple[Name, ...]
    market_cap: Usd | None
    pe_ratio: Number | None
    timestamp: Timestamp


class SourceCalls(Payload):
    success: Count
    errors: Count


class MultiApiStats(Payload):
    """`multi_api_enhanced_stats`. A source that has no key is absent."""

    timestamp: Timestamp
    finnhub: SourceCalls | None = None
    fmp: SourceCalls | None = None
    marketstack: SourceCalls | None = None
    twelvedata: SourceCalls | None = None
    yfinance: SourceCalls | None = None
    alpaca: SourceCalls | None = None
    total_tickers: Count
    tickers_with_data: Count
    coverage_pct: Percent


class TopStock(Payload):
    ticker: Ticker
    expected_gain: SignedFraction
    sentiment: Sentiment | None
    reason: Text


class TopStocks(Payload):
    """`grok_topstocks_prediction`."""

    time: Timestamp
    items: tuple[TopStock, ...]


class YahooDay(Payload):
    """One day with its indicators; an indicator without enough days before it is null."""

    date: Date
    ticker: Ticker
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Number = Field(description="shares")
    sma_20: Price | None
    sma_50: Price | None
    sma_200: Price | None
    rsi: Number | None = Field(description="0 to 100")
    macd: Number | None = Field(description="USD a share")
    macd_signal: Number | None = Field(description="USD a share")
    bb_upper: Number | None = Field(description="USD a share")
    bb_lower: Number | None = Field(description="USD a share")
    volume_ratio: Number | None = Field(description="Volume over its average.")


class YahooFundamentals(Payload):
    market_cap: Usd | None
    pe_ratio: Number | None
    peg_ratio: Number | None
    price_to_book: Number | None
    beta: Number | None
    debt_to_equity: Number | None
    dividend_yield: SignedFraction | None
    sector: Text | None
    industry: Text | None


class YahooNews(Payload):
    title: Text
    publisher: Text | None
    published: Timestamp | None
    sentiment: Sentiment | None


class YahooTicker(Payload):
    """`yfinance_enhanced:{TICKER}`."""

    ticker: Ticker
    timestamp: Timestamp
    historical_data: tuple[YahooDay, ...]
    fundamentals: YahooFundamentals
    news: tuple[YahooNews, ...]
    data_points: Count


class YahooStatus(Payload):
    """`yfinance_enhanced_status`."""

    timestamp: Timestamp
    tickers_processed: Count
    success_count: Count
    error_count: Count
    next_update: Timestamp | None
