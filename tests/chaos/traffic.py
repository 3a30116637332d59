"""Orders that keep coming: made-up forecasts for the cycles, and a human who buys and sells by hand."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from datetime import datetime
from decimal import Decimal

import requests

from qbot import manual
from qbot.client import BoardUnavailable, KeyUnusable
from qbot.contract import keys
from qbot.store import models
from qbot.store.engine import transaction
from qbot.types import Forecast, Quote
from tests.chaos.oracle import OURS
from tests.chaos.stack import MADE_UP
from tests.chaos.system import TICKERS, System

EVERY_S = 1.0  # a cycle is asked for so often, and each time the forecasts are new
HORIZON_MINUTES = 60
RETURN_PCT = 0.02  # far over the thresholds
RESTS_BELOW = Decimal("0.97")  # of the price: near enough to be allowed, far enough to rest
WAITS = (BoardUnavailable, KeyUnusable, OSError, ValueError)


class Traffic:
    """`run` it, `pause` it while nothing may move. It shrugs at every failure: that is what it is there for."""

    def __init__(self, system: System, seed: int) -> None:
        self._system, self._dice = system, random.Random(seed)
        self._on, self._over = threading.Event(), threading.Event()
        self._quiet = threading.Event()
        self._quiet.set()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._quotes: dict[str, Quote] = {}
        self.by_hand: dict[str, dict[str, object]] = {}  # what was asked for, by order_id
        self.unsure: set[str] = set()  # asked for while Redis was in trouble, or not seen by QBot yet
        self._asked = 0
        self._thread.start()

    def run(self) -> None:
        """Orders come from now on."""
        self._on.set()

    def pause(self) -> None:
        """None come any more; returns once the last is done."""
        self._on.clear()
        self._quiet.wait(20.0)

    def close(self) -> None:
        self._over.set()
        self._on.set()
        self._thread.join(20.0)

    @property
    def prefixes(self) -> dict[str, str]:
        """How the client order ids of each manual order begin."""
        return {order_id: f"{OURS}{manual.cycle_id(order_id)}-" for order_id in self.by_hand}

    def ask_again(self) -> None:
        """Orders that QBot may never have seen, with their old ids: a human who is not sure."""
        for order_id in sorted(self.unsure):
            with suppress(*WAITS):
                self._system.client.place_order(**self.by_hand[order_id], order_id=order_id)  # type: ignore[arg-type]
                self.unsure.discard(order_id)

    def _run(self) -> None:
        while True:
            self._on.wait()
            if self._over.is_set():
                return
            self._quiet.clear()
            begun = time.monotonic()
            for step in (self._believe, self._tick, self._human):
                if self._on.is_set() and not self._over.is_set():
                    with suppress(Exception):
                        step()
            self._quiet.set()
            time.sleep(max(0.05, EVERY_S - (time.monotonic() - begun)))

    def _believe(self) -> None:
        """Of each symbol, or of some: up where little is held, down where more is. What rises next falls later."""
        rt, now = self._system.rt, self._system.rt.market()
        with suppress(requests.RequestException, Exception):
            self._quotes = dict(rt.data.latest(list(TICKERS), rt.wall()))
        chosen = self._dice.sample(TICKERS, 4)
        made = [self._forecast(symbol, now) for symbol in chosen if symbol in self._quotes]
        with transaction(rt.engine) as connection:
            models.add_forecasts(connection, made)

    def _forecast(self, symbol: str, now: datetime) -> Forecast:
        move = RETURN_PCT if self._dice.random() < 0.6 else -RETURN_PCT
        return Forecast(
            f"{symbol}:{HORIZON_MINUTES}:{now:%Y%m%dT%H%M%S%f}", symbol, HORIZON_MINUTES, now,
            float(self._quotes[symbol].price_usd), move, move - 0.003, move + 0.003, 0.95,
            f"{MADE_UP}-{HORIZON_MINUTES}", True,
        )  # fmt: skip

    def _tick(self) -> None:
        self._system.tick()

    def _human(self) -> None:
        """Every other time something by hand: at the market, resting, or a sale."""
        self._asked += 1
        if self._asked % 2:
            return
        symbol = self._dice.choice(TICKERS)
        kind = self._dice.choice(("market", "resting", "sale"))
        order: dict[str, object] = {"symbol": symbol, "side": "SELL" if kind == "sale" else "BUY", "quantity": 1}
        if kind == "resting":
            price = (self._quotes[symbol].price_usd * RESTS_BELOW).quantize(Decimal("0.01"))
            order |= {"order_type": "LIMIT", "limit_price": float(price)}
        order_id = f"chaos_{time.time_ns()}"
        self.by_hand[order_id] = order
        self.unsure.add(order_id)
        self._system.client.place_order(**order, order_id=order_id)  # type: ignore[arg-type]

    def on_the_board(self) -> set[str]:
        """Order ids that stand in the shared list."""
        found = self._system.client.get(keys.MANUAL_ORDERS).value or ()
        return {getattr(order, "order_id", "") for order in found}
