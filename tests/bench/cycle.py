"""One trading cycle at 13, 100 and 500 tickers (synthetic copies of the sample), with its round trips."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from pydantic import SecretStr

from qbot import clock, pipeline
from qbot.contract import keys
from qbot.contract.board import connect
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.stack.replay import SAMPLE
from qbot.store import migrate, models
from qbot.store.engine import make_engine, transaction
from qbot.store.tables import artifacts
from qbot.types import HORIZONS_MINUTES, Forecast
from tests.bench.counting import counted
from tests.support.exchange import KEY, SECRET, exchange_process
from tests.support.servers import postgres_running, redis_running
from tests.support.whole import CONFIG, SESSION

SIZES = (13, 100, 500)
CYCLES = 5
SESSIONS = 12  # of bars in the synthetic file: enough for the indicators


def run() -> Iterator[str]:
    """Lines to print."""
    first: float | None = None
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="qbot-bench-") as name:
            line, seconds = _measure(Path(name), size)
            first = first or seconds
            yield f"{size:4d} tickers  {line}   {seconds / first:4.1f} × {SIZES[0]} tickers"


def _measure(folder: Path, size: int) -> tuple[str, float]:
    bars_file, symbols = copies(folder, size)
    (folder / "redis").mkdir()
    env = {"QBOT_ALPACA_API_KEY": KEY, "QBOT_ALPACA_SECRET_KEY": SECRET, "QBOT_REPLAY_FILE": str(bars_file)}
    with (
        redis_running(folder / "redis") as redis,
        postgres_running(folder / "pg") as postgres,
        exchange_process(folder / "home", **env) as venue,
    ):
        migrate.upgrade(postgres.url)
        os.environ[clock.CLOCK_FILE_ENV] = str(folder / "home" / "clock.json")
        clock.timeline.cache_clear()
        values = Settings(
            home=folder / "home", redis_port=redis.port, redis_password=SecretStr(redis.password),
            alpaca_api_key=SecretStr(KEY), alpaca_secret_key=SecretStr(SECRET), alpaca_url=venue.url,
            alpaca_data_url=venue.url, embedded_exchange=True, tickers=",".join(symbols),
        )  # fmt: skip
        rt = Runtime(values, connect(values), make_engine(postgres.url))
        try:
            return _cycles(rt)
        finally:
            rt.engine.dispose()
            del os.environ[clock.CLOCK_FILE_ENV]
            clock.timeline.cache_clear()


def _cycles(rt: Runtime) -> tuple[str, float]:
    pipeline.fetch_data(rt)
    pipeline.trade_bot(rt)
    rt.board._client.set(keys.TRADING_CONFIG.name, json.dumps(CONFIG))
    rt.board._client.set(keys.AUTOTRADING_ENABLED.name, json.dumps(SESSION))
    took: list[float] = []
    counts = ""
    for number in range(CYCLES):
        _forecasts(rt, number)
        with counted(rt.engine) as trips:
            begun = clock.monotonic_s()
            pipeline.trade_bot(rt)
            took.append(clock.monotonic_s() - begun)
        counts = f"Redis {trips.redis}, Postgres {trips.postgres}, HTTP {trips.http} round trips"
        clock.pause(1.1)  # the next cycle belongs to another second
    begun = clock.monotonic_s()
    rt.broker.clock()
    floor = clock.monotonic_s() - begun
    seconds = statistics.median(took)
    return f"{seconds * 1000:7.0f} ms   {seconds / floor:6.0f} × one broker call   {counts}", seconds


def _forecasts(rt: Runtime, number: int) -> None:
    """A buy for every ticker, as strong as the one before: the gate and the sizes have all of them to judge."""
    now, prices = rt.market(), rt.board.read(keys.MARKET_DATA).value or {}
    row = {
        "artifact_id": "bench", "horizon_minutes": 60, "path": "", "sha256": "", "features": [], "metrics": {},
        "skilled": False,
    }  # fmt: skip
    one = Forecast("", "", 60, now - timedelta(minutes=1), 1.0, 0.004, -0.004, 0.01, 0.9, "bench", False)
    made = [
        replace(one, forecast_id=f"{symbol}:{horizon}:{number}", symbol=symbol, horizon_minutes=horizon,
                current_price_usd=price.price)
        for symbol, price in prices.items()
        for horizon in HORIZONS_MINUTES
    ]  # fmt: skip
    with transaction(rt.engine) as connection:
        if not connection.execute(sa.select(artifacts.c.artifact_id)).first():
            models.start_training(connection, "bench", "manual", now, rt.wall())
            models.finish_training(connection, "bench", models.SUCCESS, {}, [row], now, rt.wall())
        models.add_forecasts(connection, made)


def copies(folder: Path, size: int) -> tuple[Path, list[str]]:
    """The sample's last sessions, copied under other names until there are `size` tickers."""
    bars = pd.read_parquet(SAMPLE)
    days = sorted(set(bars["ts"].dt.date))
    until = days.index(pd.Timestamp("2025-07-07").date()) + 1
    bars = bars[bars["ts"].dt.date.isin(days[until - SESSIONS : until])]
    originals = sorted(set(bars["symbol"]))
    names = [_name(originals, number) for number in range(size)]
    by_symbol = dict(list(bars.groupby("symbol", observed=True)))
    made = pd.concat([by_symbol[originals[i % len(originals)]].assign(symbol=name) for i, name in enumerate(names)])
    file = folder / "bars.parquet"
    made.to_parquet(file)
    return file, names


def _name(originals: list[str], number: int) -> str:
    """AAPL, then AAPL1, AAPL2 …"""
    round_number, place = divmod(number, len(originals))
    return originals[place] + (str(round_number) if round_number else "")
