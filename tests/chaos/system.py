"""The whole system with bad lines, a frontend's hand on it, and eyes on the venue and on Postgres."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import celery
import kombu.exceptions
import psutil
import redis
import requests
import sqlalchemy as sa

from qbot import clock, risk_watch
from qbot.client import EmergencyKind, QBotClient
from qbot.contract import keys
from qbot.contract.board import connect
from qbot.contract.payloads_settings import RiskSettings
from qbot.errors import QBotError
from qbot.market.calendar import market_hours
from qbot.runtime import Runtime
from qbot.session import Switch
from qbot.settings import Settings
from qbot.stack.stack import EXCHANGE_KEY, of_this_stack
from qbot.store import state
from qbot.store.engine import make_engine, transaction
from qbot.store.tables import newest_cycle
from tests.chaos import oracle
from tests.chaos.broker_proxy import BrokerProxy
from tests.chaos.proxy import Proxy, running
from tests.chaos.stack import BROKER_ENV, POSTGRES_ENV, REDIS_ENV
from tests.chaos.toxics import Kind, Toxic
from tests.support.servers import wait_until
from tests.support.whole import ADMINISTRATOR, FRONTEND_PASSWORD, Whole, whole_system

TICKERS = ("AAPL", "AMZN", "COST", "GOOGL", "META", "MSFT", "QQQ", "SPY")
# A session of 6.5 hours passes in 20 minutes: hours of rounds fit into the sample, and every task still runs often.
SPEED = 20
BROKER_LATENCY = Toxic(Kind.LATENCY, seconds=0.03, jitter_s=0.015)  # such as a broker has: faults meet requests
COOLDOWN_MINUTES = 2.0  # of market time: as few as let each symbol be bought again within a round
READ_S = 10.0
CLOSES_SOON_S = 45.0  # of wall time: a round that needs an open market is over by then
SESSION = {
    "buy_threshold_pct": 0.001,
    "sell_threshold_pct": 0.001,
    "max_position_per_trade": 20,
    "strategy": "MODERATE",
}
CONFIG = {
    "ml_confidence_threshold": 0.5, "cash_reserve": 1_000, "max_position_size": 20, "max_daily_trades": 10**6,
    "trading_capital": 10**9,
}  # fmt: skip
STRATEGY = {"use_ml_predictions": True, "use_technical_analysis": False, "diversification_target": 1_000}
PORTFOLIO = {"target_diversification": 1_000}
ROOM = {
    "daily_notional_cap": 10**9, "max_position_per_ticker": 10**6, "cooldown_minutes": COOLDOWN_MINUTES,
    "max_trades_per_run": 6,
}  # fmt: skip


@dataclass
class System:
    """One installation and everything to shake it with."""

    whole: Whole
    broker_line: BrokerProxy
    redis_line: Proxy
    postgres_line: Proxy
    settings: Settings
    rt: Runtime  # reads past the proxies: for the test's own use
    client: QBotClient
    venue: oracle.Venue
    beat: celery.Celery

    # --- processes ---

    def process(self, name: str) -> psutil.Process:
        """One of the supervisor's. Raises RuntimeError while it has none."""
        pid = next((each["pid"] for each in self.whole.processes() if each["name"] == name), None)
        if pid is None:
            raise RuntimeError(f"{name} has no process")
        return psutil.Process(pid)

    def all_run(self) -> bool:
        states = [each["state"] for each in self.whole.processes()]
        return bool(states) and all(one == "running" for one in states)

    # --- what QBot says ---

    def switch(self) -> Switch:
        with transaction(self.rt.engine) as connection:
            return state.load_switch(connection)

    def tripped(self) -> list[str]:
        """Circuit breakers that wait for a human."""
        return sorted(row["name"] for row in risk_watch.standing(self.rt).breakers)

    def cycle(self) -> tuple[datetime, str | None] | None:
        """When the newest cycle was, market time, and its error."""
        with self.rt.engine.connect() as connection:
            row = connection.execute(sa.select(newest_cycle.c.ran_at, newest_cycle.c.error)).first()
        return None if row is None else (row.ran_at, row.error)

    def tick(self, task: str = "trade_bot", queue: str = "trading", times: int = 1) -> None:
        """Sends a periodic task as beat does, past the schedule. Of one id when it is sent several times."""
        identity = f"chaos-{time.monotonic_ns()}"
        sent = {"sent_at": datetime.now(UTC).isoformat()}
        for _ in range(times):
            self.beat.send_task(f"tasks.{task}.{task}", queue=queue, task_id=identity, headers=sent, retry=False)

    # --- a human's hand ---

    def set_up(self) -> None:
        """Settings with room for as many orders as the rounds want."""
        self.client.configure(trading_config=CONFIG, bot_strategy=STRATEGY, portfolio=PORTFOLIO)
        self.client.write(keys.RISK_SETTINGS, RiskSettings(**ROOM))

    def make_ready(self, within_s: float = 150.0) -> bool:
        """All runs, the market is open for a while, trading is on, a cycle went well. False: it had to be started."""
        wait_until(self.all_run, "all processes", within_s, every_s=0.2)
        wait_until(self.open_for_a_while, "an open market", within_s, every_s=0.5)
        was_on = self.switch().on
        deadline = time.monotonic() + within_s
        while not self.switch().on:
            if time.monotonic() > deadline:
                raise TimeoutError(f"trading does not start: {self.switch()}")
            with suppress(QBotError, RuntimeError):
                self._start()
        self.wait_for_cycle(within_s)
        return was_on

    def _start(self) -> None:
        """The documented writes. A board that was emptied has lost the settings too."""
        if self.client.get(keys.BOT_STRATEGY).value is None or self.client.get(keys.RISK_SETTINGS).value is None:
            self.set_up()
        if self.tripped():
            risk_watch.resume(self.rt, "chaos")
        if self.switch().latched:
            self.client.release_emergency_stop(20.0)
        self.client.new_session()
        self.client.start(**SESSION, wait_s=20.0)

    def emergency(self, kind: EmergencyKind, force: bool = False) -> None:
        self.client.emergency(kind, "chaos", force=force)

    def open_for_a_while(self) -> bool:
        later = self.rt.market() + timedelta(seconds=CLOSES_SOON_S * SPEED)
        return market_hours(self.rt.market()).is_open and market_hours(later).is_open

    def wait_for_cycle(self, within_s: float) -> None:
        """One that began from now on, without an error."""
        now = self.rt.market()

        def good() -> bool:
            with suppress(kombu.exceptions.KombuError, redis.RedisError, OSError):
                self.tick()
            try:
                found = self.cycle()
            except sa.exc.SQLAlchemyError:
                return False
            return found is not None and found[0] > now and found[1] is None

        wait_until(good, "a cycle without an error", within_s, every_s=0.4)

    def open_purchases(self) -> list[str]:
        """The cycles' purchases that can still trade, by the last look at the venue."""
        return oracle.open_purchases(self.venue)

    # --- faults ---

    def at_exchange(self, method: str, path: str, **more: Any) -> Any:
        """The venue itself, past every proxy."""
        url = f"http://127.0.0.1:{self.settings.exchange_port}{path}"
        headers = {"APCA-API-KEY-ID": EXCHANGE_KEY, "APCA-API-SECRET-KEY": EXCHANGE_KEY}
        answer = requests.request(method, url, headers=headers, timeout=READ_S, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    @contextmanager
    def administrator(self) -> Iterator[redis.Redis]:
        """Who may empty the board and set the server's limits."""
        port = self.settings.redis_port
        with redis.Redis(port=port, username=ADMINISTRATOR, password=FRONTEND_PASSWORD, decode_responses=True) as user:
            yield user


def kill(process: psutil.Process, number: int = signal.SIGKILL) -> None:
    """One signal to one process; that it has gone already is no error."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def signal_all(family: Mapping[int, psutil.Process], number: int) -> None:
    """The same signal to each."""
    for process in family.values():
        kill(process, number)


def family_of(process: psutil.Process) -> dict[int, psutil.Process]:
    """A process and all that descend from it."""
    members = {process.pid: process}
    with suppress(psutil.NoSuchProcess):
        members |= {child.pid: child for child in process.children(recursive=True)}
    return members


@contextmanager
def system(folder: Path, seed: int = 0) -> Iterator[System]:
    """A running installation in `folder`, settings written, trading not yet begun."""
    with ExitStack() as held:
        whole = held.enter_context(whole_system(folder))
        ports = {name: int(whole.environment[f"QBOT_{name}_PORT"]) for name in ("EXCHANGE", "REDIS", "POSTGRES")}
        broker_line = BrokerProxy(ports["EXCHANGE"], seed)
        redis_line, postgres_line = Proxy(ports["REDIS"], seed + 1), Proxy(ports["POSTGRES"], seed + 2)
        for line in (broker_line, redis_line, postgres_line):
            held.enter_context(running(line))
        broker_line.always(BROKER_LATENCY)
        whole.module = "tests.chaos.stack"
        whole.environment |= {
            "QBOT_REPLAY_SPEED": str(SPEED), "QBOT_TICKERS": ",".join(TICKERS),
            "QBOT_EXCHANGE_START_CASH_USD": "10000000", "QBOT_EXCHANGE_RATE_LIMIT_PER_MINUTE": "1000",
            BROKER_ENV: str(broker_line.port), REDIS_ENV: str(redis_line.port), POSTGRES_ENV: str(postgres_line.port),
        }  # fmt: skip
        whole.start()
        held.enter_context(_market_clock(whole.home / "clock.json"))
        values = of_this_stack(whole.settings, True)
        rt = Runtime(values, connect(values), make_engine(values.postgres_url))
        held.callback(rt.engine.dispose)
        client = QBotClient(port=values.redis_port, password=FRONTEND_PASSWORD, patience_s=1.0)
        held.callback(client.close)
        beat = celery.Celery("chaos", broker=values.redis_url)
        beat.conf.update(broker_transport_options={"socket_timeout": 3, "socket_connect_timeout": 3})
        found = System(whole, broker_line, redis_line, postgres_line, values, rt, client, oracle.Venue(_nothing), beat)
        found.venue.get = lambda path, query: found.at_exchange("GET", f"/v2/{path}", params=dict(query))
        found.set_up()
        yield found


def _nothing(_path: str, _query: Mapping[str, str]) -> Any:
    raise RuntimeError("not connected")


@contextmanager
def _market_clock(file: Path) -> Iterator[None]:
    """This process shares the replay's time."""
    os.environ[clock.CLOCK_FILE_ENV] = str(file)
    clock.timeline.cache_clear()
    try:
        yield
    finally:
        del os.environ[clock.CLOCK_FILE_ENV]
        clock.timeline.cache_clear()
