"""Fixtures of all tests: one real Redis and one real Postgres a session, clean for each test."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import structlog
from hypothesis import settings
from sqlalchemy.engine import Engine

from qbot.contract.board import connect
from qbot.runtime import Runtime
from qbot.store import migrate
from qbot.store.engine import make_engine
from tests.support import runtime as world_module
from tests.support.exchange import ManualClock, ManualUptime
from tests.support.runtime import WALL, MarketPlace, World
from tests.support.servers import TEMPLATE, PostgresServer, RedisServer, postgres_running, redis_running

pytest_plugins = ["tests.support.spread"]

# The same examples each time, so that the same code is judged alike; `make fuzz` looks for new ones. No deadline: how
# long an example takes is up to whatever else runs.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None, print_blob=True)
settings.load_profile("new" if os.environ.get("QBOT_FUZZ") == "whole" else "same")


@pytest.fixture(autouse=True)
def _heard_again() -> Iterator[None]:
    """A command that a test runs in this process silences the log, which the next test may look at."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Redis of the embedded stack: `.url .host .port .password .client`."""
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of an empty Redis with the embedded stack's settings; answers are str."""
    client = redis_server.client
    client.flushall()
    client.config_set("notify-keyspace-events", "KEA")
    yield client
    client.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Postgres of the embedded stack, empty: `.url .url_of(name) .connect() .execute(sql) .new_database(template)`."""
    with postgres_running(tmp_path_factory.mktemp("pg") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a database with all migrations, to be copied and never written to."""
    postgres_server.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate.upgrade(postgres_server.url_of(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, migrated database of this test alone."""
    with postgres_server.new_database(postgres_template) as url:
        yield url


@pytest.fixture(scope="module")
def module_postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The same for a whole module."""
    with postgres_server.new_database(postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def market_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketPlace]:
    """One exchange for all tests of a worker; each gets an empty account."""
    with world_module.market_place(tmp_path_factory.mktemp("market")) as place:
        yield place


@pytest.fixture(scope="session")
def world_engine(postgres_server: PostgresServer, postgres_template: str) -> Iterator[Engine]:
    """One migrated database for all tests of a worker; each finds it empty."""
    with postgres_server.new_database(postgres_template) as url:
        engine = make_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def world(
    tmp_path: Path, redis_client: redis.Redis, redis_server: RedisServer, world_engine: Engine,
    market_place: MarketPlace,
) -> World:  # fmt: skip
    """A QBot with everything around it, see `tests.support.runtime.World`."""
    market_place.renew()
    world_module.empty(world_engine)
    url = world_engine.url.render_as_string(hide_password=False)
    settings = world_module.settings_of(tmp_path, redis_server, url, market_place.running)
    wall = ManualClock(WALL)
    uptime = ManualUptime(wall)
    rt = Runtime(settings, connect(settings), world_engine, wall, market_place.running.clock, uptime)
    return World(rt, market_place, redis_client, wall, uptime)
