"""Forecasts of many tickers over three horizons, beside a loop over tickers and the bare base models; and training.

The market is made up. The artifacts are trained on 50 of its tickers and then asked about all: what they cost does not
depend on which tickers they know, beyond the 50 ticker columns.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
import psutil
from autogluon.tabular import TabularPredictor

from qbot import artifacts
from qbot.artifacts import Artifact, model_input, predict_all
from qbot.features import HISTORY_SESSIONS, build_features, latest_rows
from qbot.forecast import Batch, forecasts
from qbot.inference import average, short_way
from qbot.limits import MAX_TICKERS, TICKER_COLUMNS_MAX
from qbot.training_process import run_training
from qbot.training_types import TrainingRequest, TrainingResult
from qbot.types import HORIZONS_MINUTES

SLOTS = 78
SYMBOLS = tuple(f"T{number:04}" for number in range(MAX_TICKERS))
NOW = datetime(2025, 4, 1, 20, 0, tzinfo=UTC)
LOOPED = 10  # tickers of the plain loop, which takes too long for all
SECONDS_PER_HORIZON = 60
TRAINING_TICKERS, TRAINING_SESSIONS = 500, 52  # 2,028,000 rows
TRAINING_LIMIT_S = 1_800.0


def run(quick: bool = False) -> Iterator[str]:
    """Lines to print."""
    rounds = 2 if quick else 7
    with tempfile.TemporaryDirectory(prefix="qbot-bench-") as name:
        known = SYMBOLS[:TICKER_COLUMNS_MAX]
        result = _train(made_bars(known, 12), known, Path(name), HORIZONS_MINUTES)
        loaded = {horizon: artifacts.load(done.path, done.sha256) for horizon, done in result.horizons.items()}
        own = {horizon: TabularPredictor.load(str(done.path), verbosity=0) for horizon, done in result.horizons.items()}
        for predictor in own.values():
            predictor.persist(models="all", max_memory=None)
        yield f"{'':36}{'tickers':>8}{'wall ms':>9}{'CPU ms':>9}   the quickest of {rounds} rounds"
        for count in (500, MAX_TICKERS):
            symbols = SYMBOLS[:count]
            asked = {h: replace(one, record=replace(one.record, symbols=symbols)) for h, one in loaded.items()}
            yield from _compared(made_bars(symbols, HISTORY_SESSIONS), symbols, asked, own, rounds)


def _compared(
    bars: pd.DataFrame, symbols: tuple[str, ...], asked: dict[int, Artifact], own: dict[int, Any], rounds: int
) -> Iterator[str]:
    rows = latest_rows(build_features(bars, symbols))
    inputs = model_input(rows, symbols)
    bare = [_bare(predictor, inputs) for predictor in own.values()]
    few = bars[bars["symbol"].isin(symbols[:LOOPED])]

    def whole() -> Batch:
        return _issue(latest_rows(build_features(bars, symbols)), asked)

    def looped() -> list[Batch]:
        return [whole_of(one) for _, one in few.groupby("symbol")]

    def whole_of(one: pd.DataFrame) -> Batch:
        return _issue(latest_rows(build_features(one, symbols)), asked)

    ways: dict[str, Callable[[], object]] = {
        "features alone": lambda: latest_rows(build_features(bars, symbols)),
        "features to forecasts": whole,
        "rows to forecasts": lambda: _issue(rows, asked),
        "base models called directly": lambda: [call() for calls in bare for call in calls],
        "AutoGluon's own predict": lambda: [average(each, inputs) for each in own.values()],
    }
    assert len(_issue(rows, asked).forecasts) == len(symbols) * len(asked)
    took = {name: _quickest(way, rounds) for name, way in ways.items()}
    wall, cpu = _quickest(looped, 1)
    took[f"loop over tickers, from {LOOPED} of them"] = (wall * len(symbols) / LOOPED, cpu * len(symbols) / LOOPED)
    for name, (wall, cpu) in took.items():
        yield f"{name:36}{len(symbols):8}{wall * 1e3:9.0f}{cpu * 1e3:9.0f}"
    ours, direct = took["rows to forecasts"], took["base models called directly"]
    yield f"rows to forecasts: {ours[0] / direct[0]:.2f} × the base models (by CPU {ours[1] / direct[1]:.2f} ×)"


def _issue(rows: pd.DataFrame, asked: dict[int, Artifact]) -> Batch:
    """As `qbot.forecasting.forecast` does between reading and writing."""
    return forecasts(
        rows,
        predict_all(asked, rows),
        {horizon: artifact.calibration for horizon, artifact in asked.items()},
        {horizon: artifact.artifact_id for horizon, artifact in asked.items()},
        {horizon: artifact.skilled for horizon, artifact in asked.items()},
        NOW,
    )


def _bare(predictor: Any, inputs: pd.DataFrame) -> list[Callable[[], object]]:
    """Calls of the libraries' own objects on arrays made beforehand, of every base model."""
    trainer, calls = predictor._trainer, []
    way = short_way(predictor, list(inputs))
    assert way is not None, "no artifact of QBot's"
    for base in way.bases:
        name, model = base.name, trainer.load_model(base.name)
        frame = inputs.iloc[:, base.columns].astype("float32")
        values = np.nan_to_num(frame.to_numpy(), nan=0.0) if name.startswith("ExtraTrees") else frame.to_numpy()
        if name.startswith("LinearModel"):
            calls.append(lambda model=model, frame=frame: model.model.predict(model._pipeline.transform(frame)))
        else:
            calls.append(lambda model=model, values=values: model.model.predict(values))
    return calls


def _quickest(way: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Wall and CPU seconds, each the least of the rounds: others on the machine only add to them."""
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = perf_counter(), process_time()
        way()
        walls.append(perf_counter() - wall)
        cpus.append(process_time() - cpu)
    return min(walls), min(cpus)


def train(quick: bool = False) -> Iterator[str]:
    """Lines to print: the peak memory of the child that trains one horizon on two million rows; 200,000 when quick."""
    symbols = SYMBOLS[: TRAINING_TICKERS // 10 if quick else TRAINING_TICKERS]
    bars = made_bars(symbols, TRAINING_SESSIONS)
    with tempfile.TemporaryDirectory(prefix="qbot-bench-") as name, _peak() as peak:
        begun = perf_counter()
        result = _train(bars, symbols, Path(name), (15,))
        took_s = perf_counter() - begun
    record = result.horizons[15].record
    yield f"{len(bars):,} rows of {len(symbols)} tickers, {record.fit_rows:,} of them to fit, one horizon"
    yield f"peak memory of the training process {peak.bytes / 1e9:6.2f} GB   {took_s:6.0f} s"
    yield f"models: {', '.join(record.models)}; left out: {', '.join(record.left_out) or 'none'}"


class _peak:
    """The peak of resident memory of this process' training child, as the kernel counts it."""

    bytes = 0

    def __enter__(self) -> _peak:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for child in psutil.Process().children():
                try:
                    status = Path(f"/proc/{child.pid}/status").read_text()
                except OSError:
                    continue
                peaks = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")]
                self.bytes = max(self.bytes, *peaks) if peaks else self.bytes


def _train(bars: pd.DataFrame, symbols: tuple[str, ...], folder: Path, horizons: tuple[int, ...]) -> TrainingResult:
    request = TrainingRequest(symbols, folder, NOW, "manual", SECONDS_PER_HORIZON, 150, horizons)
    return run_training(bars, request, lambda _: None, TRAINING_LIMIT_S)


def made_bars(symbols: tuple[str, ...], sessions: int) -> pd.DataFrame:
    """A random walk of each ticker, in whole sessions from 3 March 2025 on."""
    random = np.random.default_rng(1)
    days = pd.bdate_range("2025-03-03", periods=sessions, tz="America/New_York")
    start = (days + pd.Timedelta(minutes=570)).tz_convert("UTC").tz_localize(None).to_numpy()
    times = (start[:, None] + np.arange(SLOTS) * np.timedelta64(5, "m")).ravel()
    shape = (len(symbols), len(times))
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.001, shape), axis=1))
    opened = close * (1.0 + random.normal(0.0, 0.0005, shape))
    return pd.DataFrame(
        {
            "symbol": np.repeat(np.array(symbols, dtype=object), shape[1]),
            "ts": pd.DatetimeIndex(np.tile(times, shape[0]), tz="UTC"),
            "open": opened.ravel(),
            "high": (np.maximum(opened, close) * 1.0002).ravel(),
            "low": (np.minimum(opened, close) * 0.9998).ravel(),
            "close": close.ravel(),
            "volume": random.integers(1_000, 100_000, shape).ravel(),
        }
    )
