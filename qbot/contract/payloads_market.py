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

    price: Price = Field(description="Last price; USD a share.")
    timestamp: Timestamp = Field(description="When the venue stamped it.")
    source: Name = Field(description="The provider's name.")


class SourceStats(Payload):
    """`market_source_stats`: tickers each source answered for in the last fetch."""

    time: Timestamp
    finnhub: Count = Field(description="Tickers.")
    twelvedata: Count = Field(description="Tickers.")
    fmp: Count = Field(description="Tickers.")
    marketstack: Count = Field(description="Tickers.")
    yfinance: Count = Field(description="Tickers.")
    stub: Count = Field(description="Tickers.")
    failed: Count = Field(description="Tickers that no source answered for.")
    alpaca: Count | None = Field(None, description="Tickers (extension).")


class MultiApiQuote(Payload):
    """One ticker of `multi_api_enhanced_data`."""

    price: Price = Field(description="Last price; USD a share.")
    open: Price | None = Field(description="Of the day; USD a share.")
    high: Price | None = Field(description="Of the day; USD a share.")
    low: Price | None = Field(description="Of the day; USD a share.")
    change: Usd | None = Field(description="Since the close of the session before; USD a share.")
    change_pct: Percent | None = Field(description="Since the close of the session before; percent: 0.53 = 0.53 %.")
    volume: Number | None = Field(description="Of the day; shares.")
    primary_source: Name = Field(description="The provider whose price it is.")
    sources_count: Count = Field(description="Providers that answered.")
    sources_used: tuple[Name, ...] = Field(description="Their names.")
    market_cap: Usd | None = Field(description="Market capitalisation; USD.")
    pe_ratio: Number | None = Field(description="Price over earnings a share; a ratio.")
    timestamp: Timestamp


class SourceCalls(Payload):
    success: Count = Field(description="Tickers it answered for.")
    errors: Count = Field(description="Tickers it did not answer for.")


class MultiApiStats(Payload):
    """`multi_api_enhanced_stats`. A source that has no key is absent."""

    timestamp: Timestamp
    finnhub: SourceCalls | None = None
    fmp: SourceCalls | None = None
    marketstack: SourceCalls | None = None
    twelvedata: SourceCalls | None = None
    yfinance: SourceCalls | None = None
    alpaca: SourceCalls | None = None
    total_tickers: Count = Field(description="Tickers asked for.")
    tickers_with_data: Count = Field(description="Tickers answered for.")
    coverage_pct: Percent = Field(description="Answered of asked; percent: 90.9 = 90.9 %.")


class TopStock(Payload):
    ticker: Ticker
    expected_gain: SignedFraction = Field(description="Fraction, signed: 0.05 = 5 %.")
    sentiment: Sentiment | None
    reason: Text = Field(description="Why, in Grok's words.")


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
    volume: Number = Field(description="Shares traded.")
    sma_20: Price | None = Field(description="Mean close of 20 days; USD a share.")
    sma_50: Price | None = Field(description="Mean close of 50 days; USD a share.")
    sma_200: Price | None = Field(description="Mean close of 200 days; USD a share.")
    rsi: Number | None = Field(description="Relative strength index; 0 to 100.")
    macd: Number | None = Field(description="USD a share")
    macd_signal: Number | None = Field(description="USD a share")
    bb_upper: Number | None = Field(description="Upper Bollinger band; USD a share.")
    bb_lower: Number | None = Field(description="Lower Bollinger band; USD a share.")
    volume_ratio: Number | None = Field(description="Volume over its average; a ratio.")


class YahooFundamentals(Payload):
    market_cap: Usd | None = Field(description="Market capitalisation; USD.")
    pe_ratio: Number | None = Field(description="Price over earnings a share; a ratio.")
    peg_ratio: Number | None = Field(description="Price-earnings ratio over growth; a ratio.")
    price_to_book: Number | None = Field(description="Price over book value; a ratio.")
    beta: Number | None = Field(description="Moves with the market; 1 = as the market.")
    debt_to_equity: Number | None = Field(description="Debt over equity; a ratio.")
    dividend_yield: SignedFraction | None = Field(description="Yearly dividends over the price; fraction.")
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
    historical_data: tuple[YahooDay, ...] = Field(description="One element a day, oldest first.")
    fundamentals: YahooFundamentals
    news: tuple[YahooNews, ...]
    data_points: Count = Field(description="Days in historical_data.")


class YahooStatus(Payload):
    """`yfinance_enhanced_status`."""

    timestamp: Timestamp
    tickers_processed: Count = Field(description="Tickers asked for.")
    success_count: Count = Field(description="Tickers answered for.")
    error_count: Count = Field(description="Tickers that failed.")
    next_update: Timestamp | None = Field(description="Null: none is planned.")
