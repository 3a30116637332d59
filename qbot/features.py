"""Bars to features and labels, all tickers at once. Pure: a row uses only bars complete at its `known_at`.

Nothing here depends on a price level, a split or a vendor's volume: prices are relative to the row's close, volume to
the ticker's own median of the sessions before. Bars are expected split-adjusted; where they are not, nothing looks back
across the night of a split. Windows are bounded, so that `HISTORY_SESSIONS` sessions of bars give the same last row as
years of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot import sectors
from qbot.limits import TICKER_COLUMNS_MAX
from qbot.types import BAR_MINUTES, SLOTS

HISTORY_SESSIONS = 7  # today, the five sessions of the volume median, one to spare for a session a ticker missed
MARKET_SYMBOL = "SPY"
SENTIMENT_MAX_AGE = pd.Timedelta(hours=24)
RETURN_LAGS = (1, 2, 3, 6, 12)
VOLUME_SESSIONS = 5  # before this one, whose median volume is the ticker's usual one
WEEK_SESSIONS = 5
SPLIT_LOG_MOVE = np.log(1.45)  # a night beyond it is taken for a split: the smallest, 3 for 2, moves a price by 1.5

FEATURES: tuple[str, ...] = (
    "open",  # open, high, low and prev_close: relative to the close of the row, minus 1
    "high",
    "low",
    "prev_close",  # close of the session before
    "volume",  # log of the volume over the median of the five sessions before
    "grok_sentiment",  # newest at most a day old at known_at; NaN when there is none
    *(f"return_{lag}" for lag in RETURN_LAGS),  # over that many bars, never across the night
    "session_return",  # since the session's first open
    "overnight_return",  # first open against the close of the session before
    "realised_vol_12",  # root mean square of one-bar log returns
    "realised_vol_78",
    "realised_vol_week",  # of the five sessions before
    "market_vol_12",  # the median realised_vol_12 of the tickers with a bar at that time
    "rsi_14",  # 0..1, simple averages (Cutler), so that its memory is bounded
    "bollinger_20",  # distance from the mean in units of two standard deviations
    "sma_distance_12",
    "sma_distance_78",
    "macd",  # 12-bar minus 26-bar mean of the log price
    "macd_signal_gap",  # macd minus its 9-bar mean
    "vwap_distance",  # close over the session's volume-weighted price, minus 1
    "time_of_day",  # share of the regular session that is over at known_at
    "market_return_1",  # SPY, or the mean of the cross-section without it
    "market_return_3",
    "market_return_12",
    "relative_return_3",  # the ticker's return minus the market's
    "relative_return_12",
    "sector_return_3",  # mean of the other tickers of the ticker's sector; NaN when there is none
    "sector_return_12",
    "rank_return_3",  # 0..1 among the tickers with a bar at that time
    "rank_return_12",
)

Cube = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Bars as arrays of shape (sessions, SLOTS, symbols), NaN without a bar; `cells` are the bars there are.

    `source`: a number for each source of bars. `volume`: only of the source of the session's first bar, since sources
    count the trades of different exchanges; NaN for the bars of others.
    """

    symbols: tuple[str, ...]
    open: Cube
    high: Cube
    low: Cube
    close: Cube
    volume: Cube
    source: Cube
    cells: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]
    keys: pd.DataFrame


def feature_names(symbols: Sequence[str]) -> list[str]:
    """What a model is trained on: one `ticker_<SYMBOL>` each of the first TICKER_COLUMNS_MAX, then `FEATURES`."""
    return [f"ticker_{symbol}" for symbol in symbols[:TICKER_COLUMNS_MAX]] + list(FEATURES)


def build_features(
    bars: pd.DataFrame, symbols: Sequence[str] = (), sentiment: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row per bar, by time then symbol: symbol, ts, known_at, close, then the columns of `feature_names`.

    `bars`: symbol, ts (bar start, aware UTC), open, high, low, close, volume, and where there are several of them the
    source. `sentiment`: see `sentiment_as_of`.
    Bars outside the regular session are left out. Raises ValueError for naive times or two bars of one ticker and time.
    """
    grid = to_grid(bars)
    values: dict[str, npt.NDArray[np.float64]] = {}
    for make in (_bar_shape, _returns, _path_features, _session_features):  # one by one: their cubes are large
        values |= {name: cube[grid.cells] for name, cube in make(grid).items()}
    values["grok_sentiment"] = sentiment_as_of(grid.keys, sentiment)
    names = grid.keys["symbol"].to_numpy(dtype=object)
    tickers = {f"ticker_{symbol}": (names == symbol).astype("int8") for symbol in symbols[:TICKER_COLUMNS_MAX]}
    columns = {name: grid.keys[name] for name in grid.keys} | {"close": grid.close[grid.cells]} | tickers
    return pd.DataFrame(columns | {name: values[name] for name in FEATURES}, copy=False)


def label_returns(bars: pd.DataFrame, horizon_minutes: int) -> pd.DataFrame:
    """Rows as in `build_features`: symbol, ts, known_at, matures_at, label_return (NaN when it cannot be known).

    The return from the close known at `known_at` to the close of the bar that ends `horizon_minutes` later, as a
    fraction, within one session. Raises ValueError unless the horizon is a whole number of bars.
    """
    if horizon_minutes <= 0 or horizon_minutes % BAR_MINUTES:
        raise ValueError(f"a horizon is a multiple of {BAR_MINUTES} minutes, not {horizon_minutes}")
    grid = to_grid(bars)
    steps = horizon_minutes // BAR_MINUTES
    later = np.full_like(grid.close, np.nan)
    later[:, :-steps] = grid.close[:, steps:]
    rows = grid.keys.copy()
    rows["matures_at"] = rows["known_at"] + pd.Timedelta(minutes=horizon_minutes)
    rows["label_return"] = (later / grid.close - 1.0)[grid.cells]
    return rows


def sentiment_as_of(rows: pd.DataFrame, sentiment: pd.DataFrame | None) -> npt.NDArray[np.float64]:
    """The newest sentiment of each row's symbol that was known at the row's `known_at`; NaN where there was none, or
    none of the last SENTIMENT_MAX_AGE.

    `rows`: symbol and known_at, in the order of that. `sentiment`: symbol, time (from when on it was known, not what it
    is about), sentiment; in any order. Times are aware UTC.
    """
    if sentiment is None or sentiment.empty:
        return np.full(len(rows), np.nan)
    told = sentiment.assign(
        symbol=sentiment["symbol"].astype(str), time=sentiment["time"].astype(rows["known_at"].dtype)
    ).sort_values("time", kind="stable")
    merged = pd.merge_asof(
        rows[["symbol", "known_at"]], told, left_on="known_at", right_on="time", by="symbol", direction="backward",
        tolerance=SENTIMENT_MAX_AGE,
    )  # fmt: skip
    return merged["sentiment"].to_numpy(dtype=float)


def latest_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The newest feature row of each symbol."""
    return rows.sort_values("ts", kind="stable").groupby("symbol", sort=True).tail(1).reset_index(drop=True)


def to_grid(bars: pd.DataFrame) -> Grid:
    """Bars in long form as a `Grid`. Raises ValueError for naive times and for duplicates."""
    if not isinstance(bars["ts"].dtype, pd.DatetimeTZDtype):
        raise ValueError("ts must be aware UTC times")
    local = bars["ts"].dt.tz_convert("America/New_York")
    slot = (local.dt.hour * 60 + local.dt.minute - 570) // BAR_MINUTES
    regular = bars.assign(session=local.dt.date, slot=slot, symbol=bars["symbol"].astype(str))
    regular = regular[slot.between(0, SLOTS - 1)].sort_values(["ts", "symbol"]).reset_index(drop=True)
    if regular.duplicated(["symbol", "session", "slot"]).any():
        raise ValueError("two bars of one ticker and time")
    session_at, sessions = pd.factorize(regular["session"])
    symbol_at, symbols = pd.factorize(regular["symbol"], sort=True)
    cells = (session_at, regular["slot"].to_numpy(dtype=np.intp), symbol_at)
    cubes = {}
    for name in ("open", "high", "low", "close", "volume"):
        cubes[name] = np.full((len(sessions), SLOTS, len(symbols)), np.nan)
        cubes[name][cells] = regular[name].to_numpy(dtype=float)
    cubes["source"] = np.full_like(cubes["close"], np.nan)
    cubes["source"][cells] = pd.factorize(regular["source"])[0] if "source" in regular else 0
    cubes["volume"] = np.where(cubes["source"] == _first_known(cubes["source"]), cubes["volume"], np.nan)
    keys = regular[["symbol", "ts"]].assign(known_at=regular["ts"] + pd.Timedelta(minutes=BAR_MINUTES))
    return Grid(symbols=tuple(map(str, symbols)), cells=cells, keys=keys, **cubes)


def _bar_shape(grid: Grid) -> dict[str, Cube]:
    """The bar itself, free of its price level and of the vendor's way to count volume."""
    last_close, first_open = pd.DataFrame(_last_known(grid.close)[:, -1]), _first_known(grid.open)
    seen_before = last_close.ffill().to_numpy()  # also where the ticker missed the session before
    split = np.abs(np.log(first_open / _previous_session(seen_before))) > SPLIT_LOG_MOVE  # NaN compares false
    prev_close = np.where(split, np.nan, _previous_session(last_close.to_numpy()))
    usual = _usual_volume(grid.volume, split[:, 0, :], _first_known(grid.source)[:, 0, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        volume = np.log(np.where(grid.volume > 0, grid.volume, np.nan) / np.where(usual > 0, usual, np.nan))
    return {
        "open": grid.open / grid.close - 1.0,
        "high": grid.high / grid.close - 1.0,
        "low": grid.low / grid.close - 1.0,
        "prev_close": prev_close / grid.close - 1.0,
        "volume": volume,
        "overnight_return": np.broadcast_to(first_open / prev_close - 1.0, grid.close.shape),
    }


def _usual_volume(volume: Cube, split: npt.NDArray[np.bool_], source: Cube) -> Cube:
    """Median of the medians of sessions before of the same source, since the last split at most: shares before it are
    other shares."""
    day_medians, splits = _nanmedian(volume), np.cumsum(split, axis=0)
    before = np.full((VOLUME_SESSIONS, *day_medians.shape), np.nan)
    for back in range(1, min(VOLUME_SESSIONS, len(day_medians) - 1) + 1):
        comparable = (splits[back:] == splits[:-back]) & (source[back:] == source[:-back])
        before[back - 1, back:] = np.where(comparable, day_medians[:-back], np.nan)
    return _nanmedian(before.transpose(1, 0, 2))[:, None, :]


def _returns(grid: Grid) -> dict[str, Cube]:
    """Returns over bars of the same session, the market's beside them, and the rank in the cross-section."""
    known = _last_known(grid.close)
    own = {lag: known / _lag(known, lag) - 1.0 for lag in RETURN_LAGS}
    out = {f"return_{lag}": values for lag, values in own.items()}
    for lag in (1, 3, 12):
        market = _market(own[lag], grid.symbols)
        out[f"market_return_{lag}"] = np.broadcast_to(market, grid.close.shape)
        if lag in (3, 12):
            present = np.where(np.isnan(grid.close), np.nan, own[lag])
            ranks = _flat(present).rank(axis=1, pct=True)
            out[f"relative_return_{lag}"] = own[lag] - market
            out[f"sector_return_{lag}"] = _sector(own[lag], grid.symbols)
            out[f"rank_return_{lag}"] = ranks.to_numpy().reshape(grid.close.shape)
    return out


def _path_features(grid: Grid) -> dict[str, Cube]:
    """Indicators on a log price that leaves the nights out: the sum of one-bar returns within sessions."""
    before = _lag(_last_known(grid.close), 1)
    step_cube = np.log(grid.close / np.where(np.isnan(before), grid.open, before))
    step = _flat(step_cube)
    path = step.fillna(0.0).cumsum().where(step.notna())
    mean = {width: path.rolling(width, min_periods=width // 2).mean() for width in (12, 20, 26, 78)}
    spread = path.rolling(20, min_periods=10).std().clip(lower=1e-9)
    gains = step.clip(lower=0.0).rolling(14, min_periods=7).sum()
    moves = step.abs().rolling(14, min_periods=7).sum()
    macd = mean[12] - mean[26]
    square = step**2
    last_hour = square.rolling(12, min_periods=6).mean().clip(lower=0.0) ** 0.5
    frames: dict[str, pd.DataFrame] = {
        "realised_vol_12": last_hour,
        "realised_vol_78": square.rolling(78, min_periods=20).mean().clip(lower=0.0) ** 0.5,
        "rsi_14": (gains / moves.where(moves > 1e-12)).clip(0.0, 1.0),
        "bollinger_20": (path - mean[20]) / (2.0 * spread),
        "sma_distance_12": path - mean[12],
        "sma_distance_78": path - mean[78],
        "macd": macd,
        "macd_signal_gap": macd - macd.rolling(9, min_periods=4).mean(),
    }
    cubes = {name: frame.to_numpy().reshape(grid.close.shape) for name, frame in frames.items()}
    market = last_hour.where(step.notna()).median(axis=1).to_numpy().reshape(*grid.close.shape[:2], 1)
    cubes["market_vol_12"] = np.broadcast_to(market, grid.close.shape)
    cubes["realised_vol_week"] = np.broadcast_to(_week_vol(step_cube), grid.close.shape)
    return cubes


def _week_vol(steps: Cube) -> Cube:
    """Root mean square of the one-bar returns of the sessions before, shape (sessions, 1, symbols)."""
    there = ~np.isnan(steps)
    count = there.sum(axis=1)
    daily = pd.DataFrame(np.nansum(steps**2, axis=1) / np.where(count > 0, count, np.nan))
    week: Cube = np.sqrt(daily.shift(1).rolling(WEEK_SESSIONS, min_periods=1).mean().to_numpy())
    return week[:, None, :]


def _session_features(grid: Grid) -> dict[str, Cube]:
    """What the session has done so far."""
    shares = np.nan_to_num(grid.volume)
    typical = np.nan_to_num((grid.high + grid.low + grid.close) / 3.0)
    total = np.cumsum(shares, axis=1)
    vwap = np.cumsum(typical * shares, axis=1) / np.where(total > 0, total, np.nan)
    over = (np.arange(SLOTS) + 1.0) / SLOTS
    return {
        "session_return": grid.close / _first_known(grid.open) - 1.0,
        "vwap_distance": grid.close / vwap - 1.0,
        "time_of_day": np.broadcast_to(over[None, :, None], grid.close.shape),
    }


def _flat(cube: Cube) -> pd.DataFrame:
    """Sessions laid end to end: one row a slot, one column a symbol."""
    sessions, slots, symbols = cube.shape
    return pd.DataFrame(cube.reshape(sessions * slots, symbols))


def _lag(cube: Cube, slots: int) -> Cube:
    """The value so many slots before in the same session, NaN where that is before its start."""
    out = np.full_like(cube, np.nan)
    out[:, slots:] = cube[:, :-slots]
    return out


def _last_known(cube: Cube) -> Cube:
    """Each gap filled with the last value of the same session."""
    slot = np.arange(cube.shape[1])[None, :, None]
    source = np.maximum.accumulate(np.where(np.isnan(cube), 0, slot), axis=1)
    return np.take_along_axis(cube, source, axis=1)


def _first_known(cube: Cube) -> Cube:
    """The first value of each session and symbol, shape (sessions, 1, symbols). It precedes every bar of its ticker."""
    first = np.argmax(~np.isnan(cube), axis=1)[:, None, :]
    return np.take_along_axis(cube, first, axis=1)


def _previous_session(per_session: Cube) -> Cube:
    """Values of shape (sessions, symbols), one session later, as (sessions, 1, symbols)."""
    return pd.DataFrame(per_session).shift(1).to_numpy()[:, None, :]


def _nanmedian(cube: Cube) -> Cube:
    """Median over the slots, NaN without a warning where there is no bar."""
    empty: npt.NDArray[np.bool_] = np.all(np.isnan(cube), axis=1)
    return np.where(empty, np.nan, np.nanmedian(np.where(empty[:, None, :], 0.0, cube), axis=1))


def _market(returns: Cube, symbols: tuple[str, ...]) -> Cube:
    """The market's return, shape (sessions, slots, 1)."""
    if MARKET_SYMBOL in symbols:
        return returns[:, :, [symbols.index(MARKET_SYMBOL)]]
    count = (~np.isnan(returns)).sum(axis=2, keepdims=True)
    mean: Cube = np.nansum(returns, axis=2, keepdims=True) / np.where(count > 0, count, np.nan)
    return mean


def _sector(returns: Cube, symbols: tuple[str, ...]) -> Cube:
    """For each ticker the mean return of the others of its sector, NaN where there is none."""
    out = np.full_like(returns, np.nan)
    names = [sectors.of(symbol) for symbol in symbols]
    for sector in set(names) - {None}:
        members = [at for at, name in enumerate(names) if name == sector]
        own = returns[:, :, members]
        there = ~np.isnan(own)
        count = there.sum(axis=2, keepdims=True) - there
        others = np.nansum(own, axis=2, keepdims=True) - np.nan_to_num(own)
        out[:, :, members] = others / np.where(count > 0, count, np.nan)
    return out
