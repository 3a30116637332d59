"""The whole stack in the middle of a trading day, at the speed of real markets, with as many tickers as one likes."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import Any
from uuid import uuid4

import redis
import requests

from qbot import clock
from qbot.contract import keys
from qbot.contract.board import connect
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.stack.replay import STATE_FILE
from qbot.stack.stack import EXCHANGE_KEY, of_this_stack
from qbot.store.engine import make_engine
from tests.bench.cycle import copies
from tests.bench.rig import ROOM, Arrivals, Rig
from tests.bench.watched_exchange import ARRIVALS
from tests.support.servers import wait_until
from tests.support.whole import CONFIG, FRONTEND_PASSWORD, whole_system

HEADERS = {"APCA-API-KEY-ID": EXCHANGE_KEY, "APCA-API-SECRET-KEY": EXCHANGE_KEY}
DAYS = 3  # replayed; the first of them is the one we are in
INTO_THE_DAY_S = (15 + 45) * 60.0  # a replay begins a quarter of an hour before the open
UNLIMITED = 10**6
SYMBOLS = 50
CASH_USD = 10**7
WAIT_S = 120.0
TOO_MANY = 429


class Venue:
    """The exchange as its own users see it, without QBot: a connection that stands."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v2/"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update(HEADERS)

    def call(self, method: str, path: str, **body: object) -> requests.Response:
        return self._session.request(method, self._url + path, json=body or None, timeout=30)

    def order(self, symbol: str, **more: object) -> None:
        """A buy of one share, at the market unless `more` says otherwise. Waits while the venue's limit is reached.

        Raises requests.HTTPError.
        """
        body = {"symbol": symbol, "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
        body |= {"client_order_id": uuid4().hex}
        while (answer := self.call("POST", "orders", **{**body, **more})).status_code == TOO_MANY:
            clock.pause(1.0)
        answer.raise_for_status()

    def open_orders(self) -> int:
        return len(self._got("orders?status=open&limit=500&nested=false"))

    def held(self) -> int:
        return len(self._got("positions"))

    def is_flat(self) -> bool:
        """Nothing open and nothing held, asked so that it is not taken for a request of QBot's."""
        return float(self._got("account")["long_market_value"]) == 0 and self.open_orders() == 0

    def _got(self, path: str) -> Any:
        while (answer := self.call("GET", path)).status_code == TOO_MANY:
            clock.pause(1.0)
        answer.raise_for_status()
        return answer.json()

    def round_trip_ms(self, count: int = 100) -> float:
        """Of the least that can be asked: the median."""
        took = []
        for number in range(count):
            begun = monotonic_ns()
            self.call("DELETE", f"orders/floor-{number}")
            took.append((monotonic_ns() - begun) / 1e6)
        return statistics.median(took)


@contextmanager
def room(requests_per_minute: int = UNLIMITED) -> Iterator[tuple[Rig, Venue, list[str]]]:
    """A stack that is up, with its limits out of the way; the exchange; and the symbols of its market."""
    with tempfile.TemporaryDirectory(prefix="qbot-bench-") as name, whole_system(Path(name)) as whole:
        bars_file, symbols = copies(Path(name), SYMBOLS)
        whole.environment |= {
            "QBOT_REPLAY_FILE": str(bars_file), "QBOT_REPLAY_SPEED": "1", "QBOT_REPLAY_DAYS": str(DAYS),
            "QBOT_TICKERS": ",".join(symbols), "QBOT_EXCHANGE_START_CASH_USD": str(CASH_USD),
            "QBOT_EXCHANGE_RATE_LIMIT_PER_MINUTE": str(requests_per_minute),
        }  # fmt: skip
        whole.home.mkdir(parents=True)
        _begin_at(whole.home, bars_file)
        whole.module = "tests.bench.up"
        whole.start()
        os.environ[clock.CLOCK_FILE_ENV] = str(whole.home / "clock.json")
        clock.timeline.cache_clear()
        values: Settings = of_this_stack(whole.settings, True)
        rt = Runtime(values, connect(values), make_engine(values.postgres_url))
        frontend = redis.Redis(port=values.redis_port, password=FRONTEND_PASSWORD)
        found = Rig(whole, rt, frontend, Arrivals(whole.home / "exchange" / ARRIVALS), Path(name) / "trained")
        found.say(keys.RISK_SETTINGS, ROOM)
        found.say(keys.TRADING_CONFIG, CONFIG | {"max_daily_trades": 10**6, "trading_capital": 10**9})
        venue = Venue(values.exchange_port)
        try:
            wait_until(partial(_looked_around, found), "the first reconcile", WAIT_S, every_s=0.2)
            yield found, venue, symbols
        finally:
            frontend.close()
            rt.engine.dispose()
            del os.environ[clock.CLOCK_FILE_ENV]
            clock.timeline.cache_clear()


def _begin_at(home: Path, bars_file: Path) -> None:
    """As if the replay had been left in the middle of its first day."""
    source = f"{bars_file.name}:{bars_file.stat().st_size}:{DAYS}"
    (home / STATE_FILE).write_text(json.dumps({"source": source, "elapsed_s": INTO_THE_DAY_S}))


def _looked_around(found: Rig) -> bool:
    """Prices are on the board, and the books were compared."""
    ran = {name for (name,) in found.whole.rows("SELECT name FROM task_ticks")}
    return {"reconcile_orders", "fetch_data"} <= ran and bool(found.rt.board.read(keys.MARKET_DATA).value)
