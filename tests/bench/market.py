"""A pass over 500 tickers, each with two opinions, at sources that take 100 ms an answer; beside one call at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from qbot import clock, fetching, showing_market
from qbot.contract.board import client_of, connect
from qbot.market import feeds
from qbot.market.plans import Need
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.standin.running import Running, standing_in
from qbot.standin.walk import Walk
from qbot.store import migrate, quotes
from qbot.store.engine import make_engine, transaction
from tests.support.processes import settings_for
from tests.support.servers import postgres_running, redis_running

COUNT, QUICK_COUNT = 500, 60
LATENCY_S = 0.1
NOW = datetime(2026, 11, 25, 16, 3, 20, tzinfo=UTC)  # a Wednesday, 11:03 in New York
ASKED = ("alpaca", "finnhub")  # the one takes many tickers a request, the other one
NEEDS = frozenset({Need.PRICE})
PAID = '{"finnhub": {"per_second": null, "per_minute": 100000}, "alpaca": {"per_minute": 100000}}'


def run(*, quick: bool = False) -> Iterator[str]:
    """Lines to print."""
    tickers = tuple(f"Q{number:03d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ")) for number in range(COUNT))
    tickers = tickers[: QUICK_COUNT if quick else COUNT]
    with tempfile.TemporaryDirectory(prefix="qbot-bench-") as name, standing_in(Walk(), lambda: NOW) as running:
        home = Path(name)
        with redis_running(home / "redis") as redis, postgres_running(home / "pg") as postgres:
            migrate.upgrade(postgres.url)
            running.control.switch("all", None, latency_s=LATENCY_S)
            settings = settings_for(home, redis, postgres.url).model_copy(update=_at(running))
            rt = Runtime(settings, connect(settings), make_engine(postgres.url), market=lambda: NOW)
            try:
                yield from _measured(rt, settings, running, tickers)
            finally:
                rt.engine.dispose()


def _at(running: Running) -> dict[str, object]:
    keys = {"alpaca_api_key": SecretStr("made-up"), "alpaca_secret_key": SecretStr("made-up")}
    return {**running.settings, **keys, "yfinance": False, "market_plans": PAID}


def _measured(rt: Runtime, settings: Settings, running: Running, tickers: tuple[str, ...]) -> Iterator[str]:
    made = feeds.connect(settings, client_of(settings), rt.engine, rt.wall)
    rt.__dict__["feeds"] = {name: replace(made[name], plan=replace(made[name].plan, offers=NEEDS)) for name in ASKED}
    plain_s = _one_by_one(rt, tickers)
    asked_plainly = sum(one.requests for one in running.control.all().values())
    running.control.forget()
    begun_s = clock.monotonic_s()
    shown_s: list[float] = []

    def show() -> None:
        showing_market.market_data(rt)
        shown_s.append(clock.monotonic_s() - begun_s)

    fetching.fetch(rt, tickers, (), show)
    pass_s = clock.monotonic_s() - begun_s
    with transaction(rt.engine) as connection:
        agreed = [one for one in quotes.accepted(connection, tickers).values() if len(one.sources) == len(ASKED)]
    assert len(agreed) == len(tickers), f"only {len(agreed)} of {len(tickers)} prices have two opinions"
    asked = sum(one.requests for one in running.control.all().values())
    asks = f"{len(ASKED)} prices each of {len(tickers)} tickers"
    yield f"one call at a time   {plain_s:6.1f} s   {asked_plainly} requests, {asks}"
    yield f"one pass             {pass_s:6.1f} s   {plain_s / pass_s:.1f} ×   {asked} requests; judged, stored, shown"
    yield f"the first prices     {shown_s[0]:6.1f} s   {plain_s / shown_s[0]:.1f} ×, until they stand on the board"


def _one_by_one(rt: Runtime, tickers: tuple[str, ...]) -> float:
    """Seconds of asking each source for each ticker, one after the other: nothing judged, nothing stored."""
    begun_s = clock.monotonic_s()
    for symbol in tickers:
        for name in ASKED:
            answer = rt.feeds[name].quotes.quotes([symbol], rt.wall())
            assert symbol in answer.quotes
    return clock.monotonic_s() - begun_s
