"""Bars out of a file of anyone's, checked, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from qbot.errors import EvaluationError
from qbot.types import BAR_MINUTES

NUMBERS = ("open", "high", "low", "close", "volume")
COLUMNS = ("symbol", "ts", *NUMBERS)
FORECASTS_FILE = "forecasts.parquet"


def read_bars(path: Path, tickers: Sequence[str] = ()) -> pd.DataFrame:
    """Bars (COLUMNS, ts aware UTC and the start of a bar) of those tickers, or of all. Raises EvaluationError."""
    frame = _read(path)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise EvaluationError(
            f"{path} has no column {', '.join(missing)}: five-minute bars need {', '.join(COLUMNS)} (it has "
            f"{', '.join(map(str, frame.columns))})"
        )
    return checked(frame[list(COLUMNS)], tickers, str(path))


def checked(frame: pd.DataFrame, tickers: Sequence[str], where: str) -> pd.DataFrame:
    """The bars with proper types. Raises EvaluationError for naive times, words for numbers, or unknown tickers."""
    bars = frame.assign(symbol=frame["symbol"].astype(str), ts=_times(frame["ts"], where))
    for name in NUMBERS:
        try:
            bars[name] = pd.to_numeric(bars[name])
        except (TypeError, ValueError) as error:
            raise EvaluationError(f"{where}: the column {name} holds what is no number ({error})") from error
    known = set(bars["symbol"])
    unknown = [each for each in tickers if each not in known]
    if unknown:
        raise EvaluationError(f"{where} has no bars of {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    wanted = bars[bars["symbol"].isin(list(tickers))] if tickers else bars
    if wanted.empty:
        raise EvaluationError(f"{where} holds no bars")
    _five_minutes(wanted, where)
    return wanted.sort_values(["symbol", "ts"], kind="stable").reset_index(drop=True)


def read_forecasts(folder: Path) -> pd.DataFrame:
    """The forecasts that an evaluation left in its folder. Raises EvaluationError."""
    path = folder / FORECASTS_FILE if folder.is_dir() else folder
    if not path.exists():
        raise EvaluationError(f"there is no {FORECASTS_FILE} in {folder}: `qbot evaluate BARS --out {folder}` makes it")
    return _read(path)


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise EvaluationError(f"there is no file {path}")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.name.endswith((".csv", ".csv.gz")):
            return pd.read_csv(path, dtype={"symbol": str}, keep_default_na=False)  # NA is a ticker as well
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    raise EvaluationError(f"{path} is neither .parquet nor .csv: convert the bars to one of them")


def _times(values: pd.Series, where: str) -> pd.Series:
    advice = (
        f"{where}: the times in ts have no time zone. Write them as UTC, 2025-01-02T14:30:00Z, the start of the bar"
    )
    if pd.api.types.is_numeric_dtype(values):
        raise EvaluationError(advice)
    if not pd.api.types.is_datetime64_any_dtype(values):
        text = values.astype(str)
        zoned = text.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", regex=True)
        if not zoned.all():
            raise EvaluationError(f"{advice} (row {int((~zoned).to_numpy().argmax()) + 1}: {text[~zoned].iloc[0]!r})")
        try:
            return pd.to_datetime(text, utc=True)
        except ValueError as error:
            raise EvaluationError(f"{where}: ts holds what is no time ({error})") from error
    if not isinstance(values.dtype, pd.DatetimeTZDtype):
        raise EvaluationError(advice)
    return pd.Series(values.dt.tz_convert("UTC"))


def _five_minutes(bars: pd.DataFrame, where: str) -> None:
    """Most bars of the day before the next start five minutes later, else these are other bars."""
    gaps = bars.sort_values(["symbol", "ts"]).groupby("symbol")["ts"].diff().dropna().dt.total_seconds() / 60
    usual = float(gaps.median()) if len(gaps) else BAR_MINUTES
    if usual != BAR_MINUTES:
        raise EvaluationError(f"{where}: bars start {usual:g} minutes apart, {BAR_MINUTES} are needed")
