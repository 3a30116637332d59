"""Signals from the votes of ML, Grok and technical analysis. Pure: values in, values out, time an argument."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from qbot import votes
from qbot.limits import GROK_MAX_AGE_S
from qbot.types import Action, Forecast, Quote, Signal, Source, TradingConfig
from qbot.votes import GrokView, MlView, Stance, Technical, Vote, expires_at, repriced_return

GROK_LIFE = timedelta(seconds=GROK_MAX_AGE_S)


def decide(cast: Sequence[Vote]) -> Action:
    """An exit that a source asks for needs nobody's consent; an entry needs one source that starts it, and none that is
    against it or stale.
    """
    if any(vote.stance is Stance.AGAINST and vote.starts for vote in cast):
        return Action.SELL
    if any(vote.stance in (Stance.AGAINST, Stance.STALE) for vote in cast):
        return Action.HOLD
    return Action.BUY if any(vote.stance is Stance.FOR and vote.starts for vote in cast) else Action.HOLD


def signals(
    forecasts: Sequence[Forecast] | None,
    quotes: Mapping[str, Quote],
    technicals: Mapping[str, Technical],
    config: TradingConfig,
    now: datetime,
    *,
    allow_unskilled: bool,
    grok: Mapping[str, GrokView] | None = None,
) -> list[Signal]:
    """One signal a symbol that has a price and a forecast or a pick of Grok's, HOLD included, with every source's
    reason, in the order ML, Grok, technical.

    None as `forecasts` (no artifact) or `grok` (no key): that source is not configured. Forecasts and quotes that hold
    no proper numbers are treated as if they were not there. `allow_unskilled`: see `votes.ml`.
    """
    by_symbol: dict[str, list[Forecast]] = defaultdict(list)
    for forecast in forecasts or ():
        if votes.proper(forecast):
            by_symbol[forecast.symbol].append(forecast)
    picks = grok if grok is not None and config.use_grok else {}
    answered_at = max((view.as_of for view in picks.values()), default=None)
    found = []
    for symbol in sorted(by_symbol.keys() | picks.keys()):
        quote = quotes.get(symbol)
        if quote is None or not _has_price(quote):
            continue
        price = float(quote.price_usd)
        view = MlView(by_symbol.get(symbol, ()), price) if forecasts is not None else None
        cast = (
            votes.ml(view, config, now, allow_unskilled=allow_unskilled),
            votes.grok(grok, symbol, answered_at, config, now),
            votes.technical(technicals.get(symbol), config, now),
        )
        found.append(_signal(symbol, cast, picks.get(symbol), price, config, now))
    return found


def _has_price(quote: Quote) -> bool:
    return quote.price_usd.is_finite() and 0.0 < float(quote.price_usd) < math.inf


def _signal(
    symbol: str,
    cast: tuple[Vote, Vote, Vote],
    pick: GrokView | None,
    price_usd: float,
    config: TradingConfig,
    now: datetime,
) -> Signal:
    """Of the forecast, unless Grok alone starts the trade or there is none."""
    action, forecast = decide(cast), cast[0].forecast
    if pick is not None and (forecast is None or (action is Action.BUY and not cast[0].starts)):
        return _of_grok(symbol, pick, action, cast, price_usd, config, now)
    assert forecast is not None, "a symbol without a pick is here for its forecasts"
    return Signal(
        # The same for the same forecast and wish, so that one sees at any later time whether it was acted upon.
        signal_id=f"ml_{symbol}_{forecast.horizon_minutes}_{forecast.issued_at:%Y%m%dT%H%M%S}_{action}",
        symbol=symbol,
        action=action,
        confidence=forecast.confidence,
        strength=_strength(action, 2.0 * forecast.confidence - 1.0),
        predicted_return_pct=repriced_return(forecast, price_usd),
        horizon_minutes=forecast.horizon_minutes,
        target_price_usd=forecast.target_price_usd,
        current_price_usd=price_usd,
        stop_loss_usd=_stop_usd(action, price_usd, config),
        issued_at=now,
        expires_at=expires_at(forecast),
        forecast_id=forecast.forecast_id,
        source=Source.ML,
        reasons=tuple(vote.reason for vote in cast),
        why=why(cast),
    )


def _of_grok(
    symbol: str,
    pick: GrokView,
    action: Action,
    cast: Sequence[Vote],
    price_usd: float,
    config: TradingConfig,
    now: datetime,
) -> Signal:
    """Grok names no target that QBot could vouch for: the price is expected to stay, and forecasts go first."""
    score = pick.score if 0.0 <= pick.score <= 1.0 else 0.0
    return Signal(
        signal_id=f"grok_{symbol}_{pick.as_of:%Y%m%dT%H%M%S}_{action}",
        symbol=symbol,
        action=action,
        confidence=score,
        strength=_strength(action, score),
        predicted_return_pct=0.0,
        horizon_minutes=int(GROK_LIFE.total_seconds() // 60),
        target_price_usd=price_usd,
        current_price_usd=price_usd,
        stop_loss_usd=_stop_usd(action, price_usd, config),
        issued_at=now,
        expires_at=pick.as_of + GROK_LIFE,
        forecast_id=None,
        source=Source.GROK,
        reasons=tuple(vote.reason for vote in cast),
        why=why(cast),
    )


def why(cast: Sequence[Vote]) -> str:
    """What settled it, in one sentence: who starts the trade, and who stands in its way."""
    seller = next((vote for vote in cast if vote.starts and vote.stance is Stance.AGAINST), None)
    if seller is not None:
        return seller.reason
    starter = next((vote for vote in cast if vote.starts), None)
    if starter is None:  # why not: of ML and Grok, which might have, the first that is not off
        return next((vote for vote in cast[:-1] if vote.stance is not Stance.OFF), cast[0]).reason
    against = [vote.reason for vote in cast if vote.stance in (Stance.AGAINST, Stance.STALE)]
    return ", but ".join([starter.reason, *against])


def _strength(action: Action, value: float) -> float:
    """0 to 1; a HOLD has none, however sure the forecast was that did not come to a trade."""
    return 0.0 if action is Action.HOLD else max(0.0, min(1.0, value))


def _stop_usd(action: Action, price_usd: float, config: TradingConfig) -> float | None:
    return price_usd * (1.0 - float(config.stop_loss_pct)) if action is Action.BUY else None
