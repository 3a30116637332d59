"""Redis and Postgres as the embedded stack runs them."""

from __future__ import annotations

from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
import sqlalchemy as sa
from celery import Celery
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from qbot.contract import acl
from qbot.settings import Settings
from qbot.stack import programs
from qbot.stack import redis as server_of_redis
from tests.support.servers import PostgresServer, RedisServer, free_port, redis_running, running, wait_until


def test_redis_wants_its_password_and_keeps_what_it_is_told(redis_server: RedisServer) -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)).ping()
    config = redis_server.client.config_get("*")
    assert config["appendonly"] == "yes"
    assert config["maxmemory-policy"] == "noeviction"
    assert set(config["notify-keyspace-events"]) == set("AKE")
    assert config["bind"] == "127.0.0.1"
    assert config["databases"] == "1"


def test_a_redis_password_is_never_on_a_command_line(redis_server: RedisServer) -> None:
    assert redis_server.password not in " ".join(psutil.Process(redis_server.pid).cmdline())


def test_the_board_that_redis_6_left_is_taken_over_and_lasts(tmp_path: Path) -> None:
    tmp_path.joinpath("appendonly.aof").write_bytes(
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
        b"*3\r\n$3\r\nSET\r\n$14\r\ntrading_status\r\n$3\r\nold\r\n"
        b"*3\r\n$5\r\nLPUSH\r\n$7\r\ntrading\r\n$1\r\nx\r\n"
    )
    for _start in range(2):
        with redis_running(tmp_path) as server:
            assert server.client.get("trading_status") == "old"
            assert server.client.lrange("trading", 0, -1) == ["x"]


def test_a_password_that_an_address_cannot_hold_as_it_is_logs_in(tmp_path: Path) -> None:
    odd = SecretStr("p@ss/w:rd?#%20 &+ü")
    users = acl.users_file(odd.get_secret_value(), "b", "c")
    port = free_port()
    values = Settings(_env_file=None, redis_port=port, redis_password=odd)
    with running(server_of_redis.prepare(tmp_path, port, users), tmp_path / "log"):
        wait_until(lambda: programs.redis_answers(values), "Redis")
        with Celery(broker=values.redis_url).connection_for_read() as connection:
            connection.ensure_connection(max_retries=1)
            assert connection.default_channel.client.ping()


def test_postgres_wants_its_password(postgres_server: PostgresServer) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=postgres_server.port, user="qbot", password="no", dbname="qbot")
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(host="127.0.0.1", port=postgres_server.port, user="postgres", password="", dbname="qbot")


def test_qbots_role_is_no_superuser(postgres_server: PostgresServer) -> None:
    cursor = postgres_server.connect().cursor()
    cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    assert cursor.fetchall() == [(False,)]


def test_each_test_has_a_migrated_database_of_its_own(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)
    assert "task_ticks" in sa.inspect(engine).get_table_names()
    engine.dispose()
