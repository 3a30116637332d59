"""The whole system as a user starts it: `qbot up` on a fresh home and free ports, driven as frontends are told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import redis
import requests
import sqlalchemy as sa

from qbot.contract import keys
from qbot.contract.board import Board, connect
from qbot.contract.key import Key
from qbot.settings import ROOT, Settings
from qbot.stack import stack as stack_module
from qbot.stack.secrets import with_secrets
from qbot.stack.stack import EXCHANGE_KEY
from tests.support.servers import free_port, wait_until

PORTS = ("REDIS_PORT", "POSTGRES_PORT", "EXCHANGE_PORT", "FLOWER_PORT")
START_S, TRADE_S = 180.0, 300.0
FRONTEND_PASSWORD = "only-in-this-test"
ADMINISTRATOR = "administrator"

# As the frontends' documents have it, with thresholds that fit the horizons.
SESSION = {
    "enabled": True,
    "buy_threshold_pct": 0.0001,
    "sell_threshold_pct": 0.0001,
    "max_position_per_trade": 5,
    "strategy": "AGGRESSIVE",
    "timestamp": "2025-09-26T13:15:30.123Z",
    "source": "frontend_ui",
    "market_hours_check": True,
    "session_id": "frontend_1727354130123",
    "trading_hours": {"market_open": "09:30", "market_close": "16:00", "timezone": "America/New_York"},
}
CONFIG = {"ml_confidence_threshold": 0.5, "cash_reserve": 1000, "max_position_size": 10}


@dataclass
class Whole:
    """One installation; `start` and `stop` may be called again and again."""

    home: Path
    environment: dict[str, str]
    module: str = "qbot.cli"  # `python -m`
    process: subprocess.Popen[bytes] | None = None
    family: set[psutil.Process] = field(default_factory=set)  # a number may by now be somebody else's, a process not

    @property
    def settings(self) -> Settings:
        """The settings the processes have, secrets included."""
        values = {name[5:].lower(): value for name, value in self.environment.items() if name.startswith("QBOT_")}
        return with_secrets(Settings(**values))

    @property
    def board(self) -> Board:
        return connect(self.settings)

    def start(self) -> None:
        log = (self.home.parent / "up.log").open("ab")
        command = [sys.executable, "-m", self.module, "up"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        wait_until(self._up, f"all processes up (see {log.name})", START_S, every_s=0.5)

    def _up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError((self.home.parent / "up.log").read_text()[-2_000:])
        states = [each["state"] for each in self.processes()]
        return bool(states) and all(state == "running" for state in states)

    def processes(self) -> list[dict[str, Any]]:
        """What `qbot status` shows of this run; nothing of an earlier one."""
        try:
            body: dict[str, Any] = json.loads((self.home / stack_module.STATUS_FILE).read_text())
        except (OSError, ValueError):
            return []
        mine = self.process is not None and body["pid"] == self.process.pid
        return list(body["processes"]) if mine else []

    def remember(self) -> None:
        """Note every process of this installation, to look for it after the end."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        self.family |= {top, *top.children(recursive=True)}

    def left(self) -> list[str]:
        """Remembered processes that still live, and ports that still listen."""
        alive = [f"pid {process.pid}" for process in self.family if _alive(process)]
        listening = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        ports = {int(self.environment[f"QBOT_{name}"]) for name in PORTS}
        return alive + [f"port {port}" for port in sorted(ports & listening)]

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        assert self.process is not None
        self.remember()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def kill(self) -> None:
        """The supervisor goes without a word."""
        assert self.process is not None
        self.remember()
        self.process.kill()
        self.process.wait(10)

    def cli(self, *words: str) -> str:
        """One command of a frontend, which logs in with its password alone."""
        port = int(self.environment["QBOT_REDIS_PORT"])
        with redis.Redis(port=port, password=FRONTEND_PASSWORD, decode_responses=True) as client:
            return str(client.execute_command(*words))

    def make_administrator(self) -> None:
        """A user who may do anything, in the server's own file, where a human would add one; Redis starts anew.

        Nobody whom QBot knows may empty the board.
        """
        with (self.home / "redis" / "users.acl").open("a") as users:
            users.write(f"user {ADMINISTRATOR} on >{FRONTEND_PASSWORD} ~* &* +@all\n")
        pid = next(each["pid"] for each in self.processes() if each["name"] == "redis")
        os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            now = {each["name"]: each for each in self.processes()}["redis"]
            return now["state"] == "running" and now["pid"] not in (None, pid)

        wait_until(back, "Redis with its administrator", 60.0, every_s=0.2)

    def flush_all(self) -> datetime:
        """The board is gone; the moment before."""
        port = int(self.environment["QBOT_REDIS_PORT"])
        with redis.Redis(port=port, username=ADMINISTRATOR, password=FRONTEND_PASSWORD) as client:
            client.ping()
            before = datetime.now(UTC)
            client.flushall()
        return before

    def check(self, wait_s: float) -> dict[str, Any]:
        """What `qbot contract check` says of each key, once nothing is wrong or `wait_s` are over."""
        command = [sys.executable, "-m", "qbot.cli", "contract", "--main", "check", "--json", "--wait", str(wait_s)]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=wait_s + 60, check=False
        )
        body: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) is body["whole"], done.stderr
        return body

    def value(self, key: Key[Any]) -> Any:
        return self.board.read(key).value

    def at_exchange(self, path: str) -> Any:
        """What the paper exchange itself says."""
        url = f"http://127.0.0.1:{self.environment['QBOT_EXCHANGE_PORT']}/v2/{path}"
        headers = {"APCA-API-KEY-ID": EXCHANGE_KEY, "APCA-API-SECRET-KEY": EXCHANGE_KEY}
        answer = requests.get(url, headers=headers, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def rows(self, query: str, **values: Any) -> list[Any]:
        """What Postgres says; `values` for its `:names`."""
        engine = sa.create_engine(self.settings.postgres_url)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sa.text(query), values)]
        finally:
            engine.dispose()

    def begin_trading(self) -> None:
        """The writes of a frontend that starts trading."""
        self.cli("SET", keys.TRADING_CONFIG.name, json.dumps(CONFIG))
        self.cli("SET", keys.AUTOTRADING_ENABLED.name, json.dumps(SESSION))
        self.cli("SET", keys.AUTOTRADING_STATUS.name, "ACTIVE")
        self.cli("SET", keys.AUTOTRADING_TIMESTAMP.name, "2025-09-26T13:15:30.123Z")

    def wait_for_trade(self) -> None:
        wait_until(lambda: self.value(keys.TRADES_LOG), "a filled trade", TRADE_S, every_s=0.5)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@contextmanager
def whole_system(folder: Path) -> Iterator[Whole]:
    """A fresh installation, not started; whatever runs of it at the end is ended."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL") if name in os.environ}
    ports = {f"QBOT_{name}": str(free_port()) for name in PORTS}
    home = {"QBOT_HOME": str(folder / "home"), "QBOT_ALPACA_API_KEY": ""}
    home |= {"QBOT_REDIS_FRONTEND_PASSWORD": FRONTEND_PASSWORD}
    # No Redis and no Postgres on PATH: whatever is used comes from the wheels.
    whole = Whole(folder / "home", kept | home | ports | {"PATH": "/usr/bin:/bin"})
    try:
        yield whole
    finally:
        if whole.process is not None and whole.process.poll() is None:
            whole.remember()
            whole.process.send_signal(signal.SIGTERM)
            try:
                whole.process.wait(40)
            except subprocess.TimeoutExpired:
                whole.process.kill()
        time.sleep(0.2)
        for process in whole.family:
            if _alive(process):
                process.kill()
