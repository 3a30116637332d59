"""What each source says of buying one symbol: one vote with its reason in words. Pure, time an argument.

A source is *off* where it is switched off or not configured, and then not counted. One that is switched on and
configured, but has nothing that lives, is *stale*: it stands against entries, since nobody knows what it would say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from qbot.limits import BAR_MAX_AGE_S, CLOCK_SKEW_S, FORECAST_LIFE_SHARE, GROK_MAX_AGE_S, QUOTE_JUMP_PCT
from qbot.types import Forecast, Strategy, TradingConfig

# The documented effect of the strategy on both thresholds.
THRESHOLD_FACTOR = {Strategy.AGGRESSIVE: 0.7, Strategy.MODERATE: 1.0, Strategy.CONSERVATIVE: 1.5}
RSI_OVERBOUGHT = 80.0  # Wilder's 70/30, widened: on five-minute bars 70 is reached several times a day
RSI_OVERSOLD = 20.0
FAR_PCT = float(QUOTE_JUMP_PCT)  # no share moves so far between a forecast and its expiry, but a scale does
SKEW = timedelta(seconds=CLOCK_SKEW_S)


class Stance(StrEnum):
    """`STALE` includes numbers that are none. `OFF` and `NEUTRAL` change nothing, whatever the others say."""

    FOR = "for"
    AGAINST = "against"
    NEUTRAL = "neutral"
    OFF = "off"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Vote:
    """`starts`: it is beyond a threshold that the documents give it, so that it may start a trade by itself.

    `forecast`: the one that a vote of ML's is about, where there is any.
    """

    stance: Stance
    reason: str
    starts: bool = False
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True)
class MlView:
    """The forecasts of one symbol, and its latest price in USD, against which their targets are judged."""

    forecasts: Sequence[Forecast]
    price_usd: float


@dataclass(frozen=True, slots=True)
class GrokView:
    """Grok's pick of one symbol: `score` from 0 to 1, `sentiment` from -1 to 1, `as_of` when Grok said so."""

    symbol: str
    score: float
    sentiment: float
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Technical:
    """The indicators of one symbol at `at`, the close of its last complete bar. NaN: too few bars to know it.

    `rsi` runs from 0 to 100. `macd`, its distance from its signal line and that of the price from its 12-bar mean are
    differences of log prices, 0.01 about 1 %. `bollinger`: from the 20-bar mean, 1 is the upper band, -1 the lower.
    """

    at: datetime
    rsi: float
    macd: float = 0.0
    macd_signal_gap: float = 0.0
    sma_distance: float = 0.0
    bollinger: float = 0.0


def expires_at(forecast: Forecast) -> datetime:
    """A forecast expires after half its horizon."""
    return forecast.issued_at + timedelta(minutes=forecast.horizon_minutes * FORECAST_LIFE_SHARE)


def repriced_return(forecast: Forecast, price_usd: float) -> float:
    """The forecast's target against the latest price, a fraction."""
    return forecast.target_price_usd / price_usd - 1.0


# --- ML --------------------------------------------------------------------------------------------------------------


def ml(view: MlView | None, config: TradingConfig, now: datetime, *, allow_unskilled: bool) -> Vote:
    """What the forecasts say; AGAINST is the documented reason to sell. `view`: None while no artifact stands.

    `allow_unskilled` is true on the embedded exchange only: elsewhere an artifact that is not better than naive has no
    vote. Forecasts hold proper numbers here, see `proper`.
    """
    made = view.forecasts if view is not None else ()
    if not config.use_ml:
        return _of_forecasts(made, Stance.OFF, "off (switched off)")
    if view is None:
        return Vote(Stance.OFF, "ML: off (no artifact)")
    fresh = [one for one in made if one.issued_at <= now + SKEW and now < expires_at(one)]
    if not fresh:
        why = "the forecast has expired" if made else "there is no forecast"
        return _of_forecasts(made, Stance.STALE, f"stale ({why})")
    of_price = [one for one in fresh if _near(one.current_price_usd, view.price_usd)]
    if not of_price:
        told = f"{most_confident(fresh).current_price_usd:.2f} USD, of which it was made, is far from the price"
        return _of_forecasts(fresh, Stance.STALE, f"stale ({told})")
    usable = [one for one in of_price if one.skilled or allow_unskilled]
    if not usable:
        return _of_forecasts(of_price, Stance.OFF, "off (the artifact is not better than no change)")
    confident = [one for one in usable if one.confidence >= config.ml_confidence_threshold]
    if not confident:
        least = f"{config.ml_confidence_threshold:.3f}"
        best = most_confident(usable).confidence
        return _of_forecasts(usable, Stance.NEUTRAL, f"neutral (confidence {best:.3f} is under the threshold {least})")
    # A horizon that sees next to no move is no reason to overlook another that sees one.
    moving = [one for one in confident if _direction(one, view.price_usd, config)[0] is not Stance.NEUTRAL]
    decisive = most_confident(moving or confident)
    stance, said = _direction(decisive, view.price_usd, config)
    reason = f"{_name(decisive)}: {said}, confidence {decisive.confidence:.2f}"
    return Vote(stance, reason, starts=stance is not Stance.NEUTRAL, forecast=decisive)


def _near(one_usd: float, other_usd: float) -> bool:
    """Whether a forecast is of that price. Bars are of one source: where they lie, so does the whole return."""
    return max(one_usd, other_usd) <= min(one_usd, other_usd) * (1.0 + FAR_PCT)


def proper(forecast: Forecast) -> bool:
    """False for a forecast that holds no proper numbers: it is treated as if it were not there."""
    return 0.0 <= forecast.confidence <= 1.0 and 0.0 < forecast.target_price_usd < math.inf  # NaN compares false


def most_confident(candidates: Sequence[Forecast]) -> Forecast:
    """The longer horizon where confidences are equal."""
    return max(candidates, key=lambda forecast: (forecast.confidence, forecast.horizon_minutes))


def _name(forecast: Forecast) -> str:
    return f"ML {forecast.horizon_minutes} min{'' if forecast.skilled else ', no skill'}"


def _of_forecasts(made: Sequence[Forecast], stance: Stance, said: str) -> Vote:
    """A vote about the most confident of forecasts that decide nothing."""
    if not made:
        return Vote(stance, f"ML: {said}")
    best = most_confident(made)
    return Vote(stance, f"{_name(best)}: {said}", forecast=best)


def _direction(forecast: Forecast, price_usd: float, config: TradingConfig) -> tuple[Stance, str]:
    """The target against the latest price, and that against the thresholds times the strategy's factor."""
    return_pct, factor = repriced_return(forecast, price_usd), THRESHOLD_FACTOR[config.strategy]
    buy, sell = config.buy_threshold_pct * factor, -config.sell_threshold_pct * factor
    if return_pct > buy:
        return Stance.FOR, f"forecast {return_pct:+.3%} is over the buy threshold {buy:+.3%}"
    if return_pct < sell:
        return Stance.AGAINST, f"forecast {return_pct:+.3%} is under the sell threshold {sell:+.3%}"
    return Stance.NEUTRAL, f"forecast {return_pct:+.3%} lies between the thresholds {sell:+.3%} and {buy:+.3%}"


# --- Grok ------------------------------------------------------------------------------------------------------------


def grok(
    views: Mapping[str, GrokView] | None,
    symbol: str,
    answered_at: datetime | None,
    config: TradingConfig,
    now: datetime,
) -> Vote:
    """What Grok says. `views`: None without a key; `answered_at`: the newest of them, None before the first answer.

    Grok names picks, not every symbol: one that it does not name in an answer that lives has no vote. It starts no
    sale: the documents give it a threshold for picks alone.
    """
    if not config.use_grok:
        return Vote(Stance.OFF, "Grok: off (switched off)")
    if views is None:
        return Vote(Stance.OFF, "Grok: off (no key)")
    view = views.get(symbol)
    at = answered_at if view is None else view.as_of
    if (stale := _stale(at, now, GROK_MAX_AGE_S, "it has not answered", "its answer")) is not None:
        return Vote(Stance.STALE, f"Grok: stale ({stale})")
    if view is None:
        return Vote(Stance.NEUTRAL, "Grok: neutral (not among its picks)")
    if not (0.0 <= view.score <= 1.0 and -1.0 <= view.sentiment <= 1.0):
        return Vote(Stance.STALE, "Grok: stale (its numbers are none)")
    numbers = f"score {view.score:.2f}, sentiment {view.sentiment:+.2f}"
    if view.sentiment < 0.0:
        return Vote(Stance.AGAINST, f"Grok: against ({numbers})")
    least = f"threshold {config.grok_score_threshold:.2f}"
    if view.score >= config.grok_score_threshold:
        return Vote(Stance.FOR, f"Grok: for ({numbers}, {least})", starts=True)
    return Vote(Stance.NEUTRAL, f"Grok: neutral ({numbers}, {least})")


def _stale(at: datetime | None, now: datetime, most_s: float, nothing: str, what: str) -> str | None:
    """Why something of that moment does not count any more, or not yet; None where it does."""
    if at is None:
        return nothing
    if at > now + SKEW:
        return f"{what} is of a time to come"
    age_s = (now - at).total_seconds()
    return f"{what} is {age_s / 60.0:.0f} min old, at most {most_s / 60.0:.0f}" if age_s > most_s else None


# --- technical analysis ----------------------------------------------------------------------------------------------


def technical(view: Technical | None, config: TradingConfig, now: datetime) -> Vote:
    """What the indicators say. They have no documented threshold, so they start nothing. `view`: None without bars."""
    if not config.use_technical_analysis:
        return Vote(Stance.OFF, "technical: off (switched off)")
    stale = _stale(view.at if view else None, now, BAR_MAX_AGE_S, "there are no bars", "the newest bar")
    if view is None or stale is not None:
        return Vote(Stance.STALE, f"technical: stale ({stale})")
    figures = (view.rsi, view.macd, view.macd_signal_gap, view.sma_distance, view.bollinger)
    if not all(math.isfinite(figure) for figure in figures):
        return Vote(Stance.STALE, "technical: stale (too few bars for its indicators)")
    stance, why = _tilt(view)
    numbers = (
        f"RSI {view.rsi:.0f}, Bollinger {view.bollinger:+.2f}, MACD {view.macd:+.3%} and {view.macd_signal_gap:+.3%} "
        f"from its signal, price {view.sma_distance:+.3%} from its mean"
    )
    return Vote(stance, f"technical: {stance} ({why}{numbers})")


def _tilt(view: Technical) -> tuple[Stance, str]:
    """Extremes alone, since what lies between them has shown no worth: an RSI beyond its bound, then a price beyond a
    Bollinger band, which either turns (the MACD is back behind its signal) or breaks out (MACD and mean agree with it).
    """
    if view.rsi >= RSI_OVERBOUGHT:
        return Stance.AGAINST, "overbought: "
    if view.rsi <= RSI_OVERSOLD:
        return Stance.FOR, "oversold: "
    if abs(view.bollinger) < 1.0:
        return Stance.NEUTRAL, ""
    up = view.bollinger > 0.0
    side = 1.0 if up else -1.0
    if side * view.macd_signal_gap < 0.0:
        return (Stance.AGAINST, "risen far and fading: ") if up else (Stance.FOR, "fallen far and recovering: ")
    if min(side * view.macd, side * view.macd_signal_gap, side * view.sma_distance) > 0.0:
        return (Stance.FOR, "breaking out: ") if up else (Stance.AGAINST, "breaking down: ")
    return Stance.NEUTRAL, ""
