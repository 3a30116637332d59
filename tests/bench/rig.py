"""The whole system under load, with entries of its own open, an eye on the exchange's door, and a frontend's hand."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import redis

from qbot import clock, committing, execution, reconciliation, risk
from qbot.contract import keys
from qbot.contract.board import connect
from qbot.contract.key import Key
from qbot.market.calendar import market_hours
from qbot.runtime import Runtime
from qbot.session import Switch
from qbot.settings import ROOT
from qbot.stack import environment
from qbot.stack.stack import of_this_stack
from qbot.store import state
from qbot.store.engine import make_engine, transaction
from qbot.types import (
    IntentKind,
    OrderType,
    Proposal,
    RiskReport,
    Side,
    Source,
    TimeInForce,
    TradingConfig,
    TradingState,
)
from tests.bench.watched_exchange import ARRIVALS
from tests.support.runtime import quote_of, signal
from tests.support.servers import wait_until
from tests.support.whole import CONFIG, FRONTEND_PASSWORD, SESSION, Whole, whole_system

ENTRIES = ("AAPL", "MSFT", "SPY")
FAR = Decimal("0.5")  # of the price: no replayed market falls that far
ROOM = {
    "daily_notional_cap": 10**9, "max_position_per_ticker": 10**6, "cooldown_minutes": 0, "max_trades_per_run": 10,
    "emergency_stop_active": False,
}  # fmt: skip
ROOMY = dataclasses.replace(
    TradingConfig(), max_position_per_ticker=10**6, max_daily_trades=10**6, cooldown_minutes=0,
    daily_notional_cap_usd=Decimal(10**9), trading_capital_usd=Decimal(10**9), target_diversification=1_000,
    ml_confidence_threshold=0.5,
)  # fmt: skip
POLL_EVERY_S = 10.0  # of the beat task that does what the listener would have done
REACT_S = POLL_EVERY_S + 5.0  # and its run
START_ATTEMPTS, ENTRY_ATTEMPTS = 3, 20
POLL_S = 0.01  # between two looks at what happened; the times measured do not come from looking


@dataclass
class Arrivals:
    """What came to the exchange, and when: nanoseconds of the monotonic clock, method, path."""

    file: Path
    seen: list[tuple[int, str, str]] = field(default_factory=list)
    _at: int = 0

    def look(self) -> list[tuple[int, str, str]]:
        """All requests so far."""
        with self.file.open("rb") as log:
            log.seek(self._at)
            *lines, _rest = log.read().split(b"\n")
        self._at += sum(len(line) + 1 for line in lines)
        for line in lines:
            at, method, path = line.decode().split(" ", 2)
            self.seen.append((int(at), method, path))
        return self.seen

    def first(self, since_ns: int, method: str, paths: set[str]) -> int | None:
        """When the first such request came after a moment, to one of some paths."""
        return next((at for at, m, path in self.look() if at >= since_ns and m == method and path in paths), None)

    def deleted(self, since_ns: int) -> set[str]:
        """The paths of all cancels since a moment."""
        return {path for at, method, path in self.look() if at >= since_ns and method == "DELETE"}


@dataclass
class Rig:
    whole: Whole
    rt: Runtime
    frontend: redis.Redis
    arrivals: Arrivals
    trained: Path
    repeated: int = 0  # starts and releases that had to be asked for again
    _writes: int = 0

    # --- a frontend's hand ---

    def say(self, key: Key[Any], value: object) -> None:
        self.frontend.set(key.name, value if isinstance(value, str) else json.dumps(value))

    def start(self) -> None:
        """The documented writes, and trading is on."""
        if self.switch().latched:
            self._release()
        for _ in range(START_ATTEMPTS):
            self.say(keys.AUTOTRADING_ENABLED, SESSION | {"timestamp": datetime.now(UTC).isoformat()})
            self.say(keys.AUTOTRADING_STATUS, "ACTIVE")
            try:
                return wait_until(lambda: self.switch().on, "trading on", REACT_S, every_s=POLL_S)
            except TimeoutError:  # seen together with the stop before it, a start is refused: a human asks again
                self.repeated += 1
        raise RuntimeError(f"trading cannot be started: {self.switch()}")

    def _release(self) -> None:
        """As the client does it: a release that QBot has not seen is repeated."""
        self.frontend.delete(keys.EMERGENCY_ACTIONS.name)
        for _ in range(START_ATTEMPTS):
            wait_until(self._shows_latch, "the latch on the board", every_s=POLL_S)
            self.say(keys.RISK_SETTINGS, ROOM)
            try:
                return wait_until(lambda: not self.switch().latched, "the release", REACT_S, every_s=POLL_S)
            except TimeoutError:
                self.repeated += 1
        raise RuntimeError(f"the emergency stop cannot be released: {self.switch()}")

    def _shows_latch(self) -> bool:
        risk = self.rt.board.read(keys.RISK_SETTINGS).value
        return risk is not None and risk.emergency_stop_active is True

    def switch(self) -> Switch:
        with transaction(self.rt.engine) as connection:
            return state.load_switch(connection)

    # --- entries that rest ---

    def open_entries(self) -> set[str]:
        """Automatic entries far under the market, committed and sent as a cycle does; their paths at the exchange.

        A symbol that a real cycle is buying at the moment is left out.
        """
        for _ in range(ENTRY_ATTEMPTS):
            self.wait_for_open_market()
            judged = self._judged()
            placed = execution.send(self.rt.desk, committing.orders_of(judged))
            if placed:
                return {f"/v2/orders/{order.broker_order_id}" for order in placed}
            clock.pause(1.0)
        raise RuntimeError(f"no entry was placed: {[one.verdict for one in judged]}")

    def _judged(self) -> list[committing.Judged]:
        self._writes += 1
        books = reconciliation.reconcile(self.rt.desk, self.rt.market())
        prices = self.rt.data.latest(list(ENTRIES), self.rt.wall())
        now = self.rt.market()
        limits = {symbol: (prices[symbol].price_usd * FAR).quantize(Decimal("0.01")) for symbol in ENTRIES}
        market = risk.Market(
            now=now, state=TradingState.ACTIVE, latched=False, market_open=True, reconciled=True,
            settings_problem=None, paper_problem=None, account=books.account,
            quotes={symbol: quote_of(symbol, str(limit), now) for symbol, limit in limits.items()},
            positions={}, open_orders=(), settings_at_wall=self.rt.wall(),
            risk_report=RiskReport(now, Decimal(1), (), (), Decimal(0), Decimal(0)),
        )  # fmt: skip
        entries = [_entry(symbol, limit, now) for symbol, limit in limits.items()]
        return committing.commit(
            self.rt.desk, entries, ROOMY, market,
            cycle_id=f"cbench{self._writes}", revision=1, epoch=self.switch().epoch, snapshot_wall=self.rt.wall(),
        )  # fmt: skip

    def wait_for_open_market(self) -> None:
        wait_until(lambda: market_hours(self.rt.market()).is_open, "the market's open", 120.0, every_s=0.1)

    # --- processes ---

    def pid(self, name: str) -> int | None:
        """Of one of the supervisor's processes; None if there is none of that name."""
        return next((each["pid"] for each in self.whole.processes() if each["name"] == name), None)

    def trainings(self) -> int:
        return len(self.trained.read_text().splitlines()) if self.trained.exists() else 0


def _entry(symbol: str, limit: Decimal, now: datetime) -> Proposal:
    return Proposal(
        symbol=symbol, side=Side.BUY, qty=Decimal(1), kind=IntentKind.ENTRY, source=Source.ML, price_usd=limit,
        order_type=OrderType.LIMIT, time_in_force=TimeInForce.GTC, limit_price_usd=limit,
        signal=dataclasses.replace(signal(symbol, float(limit), now), forecast_id=None),
    )  # fmt: skip


@contextmanager
def rig() -> Iterator[Rig]:
    """A fresh installation that has traded, and a training that never ends beside it."""
    with tempfile.TemporaryDirectory(prefix="qbot-bench-") as name, whole_system(Path(name)) as whole:
        whole.module = "tests.bench.up"
        whole.start()
        whole.begin_trading()
        whole.wait_for_trade()
        os.environ[clock.CLOCK_FILE_ENV] = str(whole.home / "clock.json")
        clock.timeline.cache_clear()
        values = of_this_stack(whole.settings, True)
        rt = Runtime(values, connect(values), make_engine(values.postgres_url))
        frontend = redis.Redis(port=values.redis_port, password=FRONTEND_PASSWORD)
        found = Rig(whole, rt, frontend, Arrivals(whole.home / "exchange" / ARRIVALS), Path(name) / "trained")
        found.say(keys.RISK_SETTINGS, ROOM)
        found.say(keys.TRADING_CONFIG, CONFIG | {"max_daily_trades": 10**6, "trading_capital": 10**9})
        try:
            with _training(found):
                yield found
        finally:
            frontend.close()
            rt.engine.dispose()
            del os.environ[clock.CLOCK_FILE_ENV]
            clock.timeline.cache_clear()


@contextmanager
def _training(found: Rig) -> Iterator[None]:
    env = environment.of_children(found.rt.settings, found.whole.home / "clock.json", threads=os.cpu_count() or 1)
    command = [sys.executable, "-m", "tests.bench.training_load", str(found.trained)]
    with (found.whole.home.parent / "training.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the training load ended: {Path(log.name).read_text()[-2_000:]}")
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            _kill(member)
        process.wait(10)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def when(condition: Callable[[], int | None], what: str, timeout_s: float) -> int:
    """The first moment it has; raises TimeoutError."""
    found: list[int] = []

    def looked() -> bool:
        at = condition()
        if at is not None:
            found.append(at)
        return at is not None

    wait_until(looked, what, timeout_s, every_s=POLL_S)
    return found[0]
