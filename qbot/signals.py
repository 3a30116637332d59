"""Signals from forecasts and technical indicators. Pure: values in, values out, time an argument."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from qbot.limits import FORECAST_LIFE_SHARE
from qbot.types import Action, Forecast, Quote, Signal, Source, Strategy, TradingConfig

# The documented effect of the strategy on both thresholds.
THRESHOLD_FACTOR = {Strategy.AGGRESSIVE: 0.7, Strategy.MODERATE: 1.0, Strategy.CONSERVATIVE: 1.5}
RSI_OVERBOUGHT = 80.0  # Wilder's 70/30, widened: on five-minute bars 70 is reached several times a day
RSI_OVERSOLD = 20.0


@dataclass(frozen=True, slots=True)
class Technical:
    """The indicators of one symbol at its last complete bar. `rsi` runs from 0 to 100."""

    rsi: float

    def vote(self) -> Action:
        """Against a buy when overbought, against a sale when oversold; by itself it starts no trade."""
        if self.rsi >= RSI_OVERBOUGHT:
            return Action.SELL
        return Action.BUY if self.rsi <= RSI_OVERSOLD else Action.HOLD


def expires_at(forecast: Forecast) -> datetime:
    """A forecast expires after half its horizon."""
    return forecast.issued_at + timedelta(minutes=forecast.horizon_minutes * FORECAST_LIFE_SHARE)


def repriced_return(forecast: Forecast, quote: Quote) -> float:
    """The forecast's target against the latest price, a fraction."""
    return forecast.target_price_usd / float(quote.price_usd) - 1.0


def signals(
    forecasts: Sequence[Forecast],
    quotes: Mapping[str, Quote],
    technicals: Mapping[str, Technical],
    config: TradingConfig,
    now: datetime,
    *,
    allow_unskilled: bool,
) -> list[Signal]:
    """One signal a forecast symbol that has a price, HOLD included, each with the reasons for or against it.

    Forecasts and quotes that hold no proper numbers are treated as if they were not there.
    `allow_unskilled` is true on the embedded exchange only: elsewhere an artifact that is not better than naive gives
    no signal.
    """
    by_symbol: dict[str, list[Forecast]] = defaultdict(list)
    for forecast in forecasts:
        if 0.0 <= forecast.confidence <= 1.0 and 0.0 < forecast.target_price_usd < math.inf:  # NaN compares false
            by_symbol[forecast.symbol].append(forecast)
    return [
        _signal(group, quotes[symbol], technicals.get(symbol), config, now, allow_unskilled)
        for symbol, group in sorted(by_symbol.items())
        if symbol in quotes and _has_price(quotes[symbol])
    ]


def _has_price(quote: Quote) -> bool:
    return quote.price_usd.is_finite() and 0.0 < float(quote.price_usd) < math.inf


def _signal(
    group: list[Forecast],
    quote: Quote,
    technical: Technical | None,
    config: TradingConfig,
    now: datetime,
    allow_unskilled: bool,
) -> Signal:
    def hold(candidates: list[Forecast], reason: str) -> Signal:
        return _make(_most_confident(candidates), quote, config, now, Action.HOLD, reason)

    if not config.use_ml:
        return hold(group, "ML signals are switched off")
    fresh = [forecast for forecast in group if now < expires_at(forecast)]
    if not fresh:
        return hold(group, "the forecast has expired")
    usable = [forecast for forecast in fresh if forecast.skilled or allow_unskilled]
    if not usable:
        return hold(fresh, "no skill: the artifact is not better than no change")
    confident = [forecast for forecast in usable if forecast.confidence >= config.ml_confidence_threshold]
    if not confident:
        best = _most_confident(usable).confidence
        return hold(usable, f"confidence {best:.3f} is under the threshold {config.ml_confidence_threshold:.3f}")
    # A horizon that sees next to no move is no reason to overlook another that sees one.
    moving = [f for f in confident if _direction(repriced_return(f, quote), config)[0] is not Action.HOLD]
    decisive = _most_confident(moving or confident)
    action, reason = _direction(repriced_return(decisive, quote), config)
    against = technical is not None and config.use_technical_analysis and _opposes(technical.vote(), action)
    if against and technical is not None:
        return _make(
            decisive, quote, config, now, Action.HOLD, f"{reason}, but the RSI of {technical.rsi:.0f} is against"
        )
    return _make(decisive, quote, config, now, action, reason)


def _most_confident(candidates: list[Forecast]) -> Forecast:
    """The longer horizon where confidences are equal."""
    return max(candidates, key=lambda forecast: (forecast.confidence, forecast.horizon_minutes))


def _direction(return_pct: float, config: TradingConfig) -> tuple[Action, str]:
    factor = THRESHOLD_FACTOR[config.strategy]
    buy, sell = config.buy_threshold_pct * factor, -config.sell_threshold_pct * factor
    if return_pct > buy:
        return Action.BUY, f"forecast {return_pct:+.3%} is over the buy threshold {buy:+.3%}"
    if return_pct < sell:
        return Action.SELL, f"forecast {return_pct:+.3%} is under the sell threshold {sell:+.3%}"
    return Action.HOLD, f"forecast {return_pct:+.3%} lies between the thresholds {sell:+.3%} and {buy:+.3%}"


def _opposes(vote: Action, action: Action) -> bool:
    return {vote, action} == {Action.BUY, Action.SELL}


def _make(
    forecast: Forecast, quote: Quote, config: TradingConfig, now: datetime, action: Action, reason: str
) -> Signal:
    price = float(quote.price_usd)
    stop = price * (1.0 - float(config.stop_loss_pct)) if action is Action.BUY else None
    label = () if forecast.skilled else ("no skill",)
    return Signal(
        # The same for the same forecast and wish, so that one sees at any later time whether it was acted upon.
        signal_id=f"ml_{forecast.symbol}_{forecast.horizon_minutes}_{forecast.issued_at:%Y%m%dT%H%M%S}_{action}",
        symbol=forecast.symbol,
        action=action,
        confidence=forecast.confidence,
        strength=max(0.0, min(1.0, 2.0 * forecast.confidence - 1.0)),
        predicted_return_pct=repriced_return(forecast, quote),
        horizon_minutes=forecast.horizon_minutes,
        target_price_usd=forecast.target_price_usd,
        current_price_usd=price,
        stop_loss_usd=stop,
        issued_at=now,
        expires_at=expires_at(forecast),
        forecast_id=forecast.forecast_id,
        source=Source.ML,
        reasons=(f"{forecast.horizon_minutes} min: {reason}", *label),
    )
