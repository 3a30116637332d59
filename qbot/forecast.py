"""Predicted returns to forecasts, and matured forecasts to what they were worth. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot.calibration import Calibration
from qbot.types import Forecast

RETURN_MAX_PCT = 0.25  # beyond it a forecast over an hour at most is a fault, not a view

SAME_PRICE_PCT = 0.01  # vendors correct a close by less
SPLITS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 100.0)
SPLIT_TOLERANCE = 0.04  # of the log: what an hour may have moved besides
CLOSED, NO_BAR, SPLIT = "closed", "no bar", "split"  # why a forecast cannot be compared with a price

MakeId = Callable[[str, int, datetime], str]


@dataclass(frozen=True)
class Batch:
    """Forecasts of one issue, and how many were dropped because the prediction or the price was unusable."""

    forecasts: list[Forecast]
    dropped: int


@dataclass(frozen=True)
class Matured:
    """One forecast and the price that came. `deviation_pct` is (actual - target) / actual, a signed fraction."""

    forecast: Forecast
    actual_price_usd: float
    deviation_pct: float
    direction_right: bool
    inside_interval: bool


def outcome(
    current_usd: float, close_made: float | None, close_ended: float | None, *, same_day: bool
) -> tuple[float | None, str | None]:
    """The price that a forecast made at `current_usd` is compared with, or why there is none: "no bar" or "split".

    `close_made` and `close_ended`: of the bars that ended at issue and at the eta, as they are known now; `same_day`:
    the day of the forecast is not over. Prices of earlier days may have been told anew after a corporate action: where
    the bar at issue shows another price than then, the change between the two bars is what happened. A jump of a
    split's size that is only seen days later is no move within an hour.
    """
    if close_ended is None:
        return None, NO_BAR
    if close_made is not None and abs(close_made / current_usd - 1.0) > SAME_PRICE_PCT:
        close_ended *= current_usd / close_made
    if not same_day and _like_a_split(close_ended / current_usd):
        return None, SPLIT
    return close_ended, None


def _like_a_split(ratio: float) -> bool:
    nearest = min(abs(float(np.log(ratio / factor))) for each in SPLITS for factor in (each, 1.0 / each))
    return nearest < SPLIT_TOLERANCE


def forecast_id(symbol: str, horizon_minutes: int, issued_at: datetime) -> str:
    """The same for the same symbol, horizon and second: a repeated tick makes no second forecast."""
    return f"{symbol}:{horizon_minutes}:{_second(issued_at, issued_at.tzinfo)}"


@lru_cache(maxsize=8)  # formatting a time takes as long as the rest of a forecast, and thousands share it
def _second(at: datetime, zone: tzinfo | None) -> str:  # one moment is equal in all zones, and not written the same
    return f"{at:%Y%m%dT%H%M%S}"


def forecasts(
    rows: pd.DataFrame,
    predicted: Mapping[int, npt.NDArray[np.float64]],
    calibrations: Mapping[int, Calibration],
    artifact_ids: Mapping[int, str],
    skilled: Mapping[int, bool],
    issued_at: datetime,
    width_factors: Mapping[int, float] = MappingProxyType({}),
    prices: Mapping[str, float] | None = None,
    make_id: MakeId = forecast_id,
) -> Batch:
    """`predicted[horizon]` holds one return (fraction) a row; rows are of `build_features`.

    `width_factors`: see `calibration.width_factor`; 1 where none is given. The current price is that of `prices`, else
    the row's close. Predictions that are not finite or beyond RETURN_MAX_PCT, and prices that are not positive, give no
    forecast and are counted in `dropped`.
    """
    symbols = rows["symbol"].astype(str).tolist()
    closes = rows["close"].to_numpy(dtype=float)
    current = np.array([prices.get(s, np.nan) for s in symbols]) if prices is not None else closes
    issued: list[Forecast] = []
    for horizon, returns in predicted.items():
        calibration = calibrations[horizon]
        usable = (np.abs(returns) <= RETURN_MAX_PCT) & np.isfinite(current) & (current > 0)  # NaN compares false
        confidence = calibration.confidence(returns)
        low, high = calibration.interval(returns, rows, width_factors.get(horizon, 1.0))
        # As plain numbers: thousands of forecasts are made of them one by one.
        now, returns, low, high, confidence = (each.tolist() for each in (current, returns, low, high, confidence))
        for at in np.flatnonzero(usable).tolist():
            issued.append(
                Forecast(
                    forecast_id=make_id(symbols[at], horizon, issued_at),
                    symbol=symbols[at],
                    horizon_minutes=horizon,
                    issued_at=issued_at,
                    current_price_usd=now[at],
                    return_pct=returns[at],
                    low_return_pct=low[at],
                    high_return_pct=high[at],
                    confidence=confidence[at],
                    artifact_id=artifact_ids[horizon],
                    skilled=skilled[horizon],
                )
            )
    return Batch(issued, dropped=len(symbols) * len(predicted) - len(issued))


def matures_at(forecast: Forecast) -> datetime:
    """When the forecast can be compared with what happened."""
    return forecast.issued_at + timedelta(minutes=forecast.horizon_minutes)


def matured(forecast: Forecast, actual_price_usd: float) -> Matured:
    """Compares a forecast with the price at its maturity. Raises ValueError for a price that is no price."""
    if not (np.isfinite(actual_price_usd) and actual_price_usd > 0):
        raise ValueError(f"{actual_price_usd} is no price")
    happened = actual_price_usd / forecast.current_price_usd - 1.0
    return Matured(
        forecast=forecast,
        actual_price_usd=actual_price_usd,
        deviation_pct=(actual_price_usd - forecast.target_price_usd) / actual_price_usd,
        direction_right=happened * forecast.return_pct > 0,
        inside_interval=forecast.low_return_pct <= happened <= forecast.high_return_pct,
    )
