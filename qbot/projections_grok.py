"""What the board says of Grok's picks, built from values. No I/O."""

from __future__ import annotations

from datetime import timedelta

from qbot import limits
from qbot.contract.payloads_backend import GrokCandidate, Recommendation
from qbot.contract.payloads_market import TopStock, TopStocks
from qbot.grok import Candidate
from qbot.store.grok import Answer

LIFE = timedelta(seconds=limits.GROK_MAX_AGE_S)
TIME_HORIZON = "60min"  # what it is asked about
STRONG_BUY, BUY = 0.85, 0.65  # scores; the first is the documented threshold of trades
SELL, STRONG_SELL = -0.3, -0.6  # sentiments


def top_stocks(answer: Answer) -> TopStocks:
    """`grok_topstocks_prediction`: the picks in Grok's own order."""
    items = tuple(
        TopStock(ticker=one.symbol, expected_gain=one.expected_return_pct, sentiment=one.sentiment, reason=one.reason)
        for one in answer.candidates
    )
    return TopStocks(time=answer.known_at, items=items)


def candidates(answer: Answer) -> tuple[GrokCandidate, ...]:
    """`backend:grok_candidates`: the highest score first."""
    best_first = sorted(answer.candidates, key=lambda one: one.score, reverse=True)
    return tuple(_candidate(one, answer) for one in best_first)


def recommendation(score: float, sentiment: float) -> Recommendation:
    """A word for both numbers: what speaks against a stock outweighs its score, as in the votes."""
    if sentiment < 0.0:
        if sentiment <= STRONG_SELL:
            return Recommendation.STRONG_SELL
        return Recommendation.SELL if sentiment <= SELL else Recommendation.HOLD
    if score >= BUY:
        return Recommendation.STRONG_BUY if score >= STRONG_BUY else Recommendation.BUY
    return Recommendation.HOLD


def _candidate(one: Candidate, answer: Answer) -> GrokCandidate:
    price_usd = answer.prices_usd.get(one.symbol)
    return GrokCandidate(
        symbol=one.symbol,
        score=one.score,
        recommendation=recommendation(one.score, one.sentiment),
        reason=one.reason,
        target_price=None if price_usd is None else round(price_usd * (1.0 + one.expected_return_pct), 4),
        current_price=price_usd,
        expected_return=one.expected_return_pct,
        risk_level=one.risk_level,
        confidence=one.confidence,
        time_horizon=TIME_HORIZON,
        generated_at=answer.known_at,
        expires_at=answer.known_at + LIFE,
    )
