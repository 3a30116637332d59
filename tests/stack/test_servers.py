"""Redis and Postgres as the embedded stack runs them."""

from __future__ import annotations

import psutil
import psycopg2
import pytest
import redis
import sqlalchemy as sa
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.servers import PostgresServer, RedisServer


def test_redis_wants_its_password_and_keeps_what_it_is_told(redis_server: RedisServer) -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)).ping()
    config = redis_server.client.config_get("*")
    assert config["appendonly"] == "yes"
    assert config["maxmemory-policy"] == "noeviction"
    assert set(config["notify-keyspace-events"]) == set("AKE")
    assert config["bind"] == "127.0.0.1"


def test_a_redis_password_is_never_on_a_command_line(redis_server: RedisServer) -> None:
    assert redis_server.password not in " ".join(psutil.Process(redis_server.pid).cmdline())


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
