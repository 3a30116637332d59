"""Real Redis and Postgres of the embedded stack on free ports, for tests."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from qbot.contract import acl
from qbot.stack import postgres, redis

HOST = "127.0.0.1"
START_S = 60.0
TEMPLATE = "qbot_template"
WORKERS_MAX = 16


def ports_of(worker: str) -> range:
    """Those of one worker of a test run (`gw0`, …): no other has them, nor does the kernel give them to connections."""
    return range(12_000 + int(worker.removeprefix("gw")) % WORKERS_MAX, 32_000, WORKERS_MAX)


_mine = ports_of(os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
_next_port = itertools.islice(itertools.cycle(_mine), secrets.randbelow(len(_mine)), None)


def free_port() -> int:
    """A port of the loopback interface that nobody has, and that this run tells nobody else."""
    while True:
        port = next(_next_port)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = START_S, every_s: float = 0.02) -> None:
    """Returns as soon as `condition` is true; raises TimeoutError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not within {timeout_s} s")
        time.sleep(every_s)


@dataclass(frozen=True)
class RedisServer:
    """The server with QBot's own users, and an `admin` for tests alone. `password` and `url` are QBot's own."""

    port: int
    pid: int
    host: str = HOST
    password: str = "test-secret"
    frontend_password: str = "test-frontend"
    viewer_password: str = "test-viewer"

    @property
    def url(self) -> str:
        return f"redis://{acl.BACKEND}:{self.password}@{self.host}:{self.port}/0"

    @property
    def admin_url(self) -> str:
        """For what no user of QBot may do: FLUSHALL, KEYS, CONFIG."""
        return f"redis://admin:{self.password}@{self.host}:{self.port}/0"

    @property
    def client(self) -> redis_py.Redis:
        """A new client of the admin; answers are str."""
        return redis_py.Redis.from_url(self.admin_url, decode_responses=True)

    @property
    def users(self) -> str:
        """The ACL file."""
        shipped = acl.users_file(self.password, self.frontend_password, self.viewer_password)
        return shipped + f"user admin on >{self.password} ~* &* +@all\n"


@dataclass(frozen=True)
class PostgresServer:
    port: int
    user: str
    password: str
    database: str
    pid: int
    host: str = HOST

    def url_of(self, database: str) -> str:
        """SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg2://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    @property
    def url(self) -> str:
        return self.url_of(self.database)

    def connect(self, database: str | None = None) -> Any:
        """A psycopg2 connection in autocommit."""
        connection = psycopg2.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=database or self.database
        )
        connection.autocommit = True
        return connection

    def execute(self, statement: str) -> None:
        connection = self.connect()
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()

    @contextmanager
    def new_database(self, template: str) -> Iterator[str]:
        """A copy of `template` under a new name; yields its URL and drops it afterwards, whoever is connected."""
        name = f"t_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url_of(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running(command: list[str], log: Path, stop_signal: int = 15) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `command` with its output in `log` and ends it afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.send_signal(stop_signal)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@contextmanager
def redis_running(folder: Path, port: int | None = None) -> Iterator[RedisServer]:
    """A Redis of its own, ready to use."""
    server = RedisServer(port or free_port(), 0)
    with running(redis.prepare(folder, server.port, server.users), folder / "log") as process:
        server = replace(server, pid=process.pid)
        client = redis_py.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))

        def ready() -> bool:
            try:
                return bool(client.ping())
            except redis_py.ConnectionError:
                return False

        wait_until(ready, "Redis")
        yield server


FAST = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")  # nothing of it outlives its test


@contextmanager
def postgres_running(folder: Path, port: int | None = None) -> Iterator[PostgresServer]:
    """A Postgres of its own, ready to use; it does not wait for the disk."""
    port, password = port or free_port(), "test-secret"
    command = postgres.prepare(folder, port, "qbot", password, "qbot")
    fast = [*command, *(word for setting in FAST for word in ("-c", f"{setting}=off"))]
    with running(fast, folder.with_suffix(".log"), postgres.STOP_SIGNAL) as process:
        server = PostgresServer(port, "qbot", password, "qbot", process.pid)

        def ready() -> bool:
            try:
                server.connect().close()
            except psycopg2.OperationalError:
                return False
            return True

        wait_until(ready, "Postgres")
        yield server
