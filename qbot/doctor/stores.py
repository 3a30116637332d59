"""Redis and Postgres: whether they answer, how fast, as whom, and whether they are set up as QBot needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import redis

from qbot import limits
from qbot.clock import monotonic_s
from qbot.console.installation import Installation
from qbot.contract.board import client_of
from qbot.contract.events import Events, Passed
from qbot.doctor import clocks
from qbot.doctor.finding import Finding, State
from qbot.errors import BoardUnavailable, StoreUnavailable
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.stack import secrets
from qbot.store import probe

KEEPS = "noeviction"
USERS = "Give it the users of `python -m qbot.stack.redis` (docs/security.md)."
SET_UP = "Set notify-keyspace-events to KEA at the Redis server."
FULL_SHARE = 0.9  # of its memory: at the end of it every write is refused


def redis_server(rt: Runtime, found: Installation) -> list[Finding]:
    """Answers, latency, user, memory, clock and events."""
    values, name = rt.settings, "Redis"
    where = f"{values.redis_host}:{values.redis_port}"
    client = client_of(values)
    try:
        client.ping()
        latency_ms = _fastest_ms(client.ping)
        info: dict[str, Any] = client.info()
        ahead_s = clocks.between(rt.wall, lambda: _time(client))
        user = _text(client.acl_whoami())
        alone = _may_everything(client)
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
        words = f"{where} does not accept user {values.redis_user} with this password, or lets it do too little"
        return [Finding(name, State.FAILED, words, _password_of(found, "QBOT_REDIS_PASSWORD"))]
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        return [Finding(name, State.FAILED, f"nothing answers at {where}", _start(found, "QBOT_REDIS_PORT"))]
    except redis.RedisError as error:
        words = f"{where} answers with {type(error).__name__}: {error}"
        return [Finding(name, State.FAILED, words, "Look at the log of the Redis server.")]
    finally:
        client.close()
    server = info.get("server_name", "redis").capitalize()
    version = info.get(f"{server.lower()}_version", info.get("redis_version", ""))
    words = f"{server} {version} at {where} answers in {latency_ms:.1f} ms"
    return [
        _speed(name, words, latency_ms, where),
        _user(values, user, alone=alone),
        _memory(info),
        clocks.judge("Redis clock", ahead_s, clocks.whose("Redis", values.redis_host)),
        _events_of(values),
    ]


def postgres_server(rt: Runtime, found: Installation) -> list[Finding]:
    """Answers, latency, migrations and clock."""
    values, name = rt.settings, "Postgres"
    where = f"{values.postgres_host}:{values.postgres_port}"
    try:
        probe.ping(rt.engine)
        latency_ms = _fastest_ms(lambda: probe.ping(rt.engine))
        asked: list[probe.Probe] = []

        def now() -> datetime:
            asked.append(probe.look(rt.engine))
            return asked[0].now

        ahead_s = clocks.between(rt.wall, now)
    except StoreUnavailable as error:
        return [_unusable(found, where, f"{error}")]
    words = f"Postgres {asked[0].version} at {where} answers in {latency_ms:.1f} ms"
    return [
        _speed(name, words, latency_ms, where),
        _migrations(asked[0]),
        clocks.judge("Postgres clock", ahead_s, clocks.whose("Postgres", values.postgres_host)),
    ]


def _speed(name: str, words: str, latency_ms: float, where: str) -> Finding:
    if latency_ms <= limits.SLOW_STORE_MS:
        return Finding(name, State.OK, words)
    advice = f"Look at the load of the machine and at the way to {where}: each order asks it several times."
    return Finding(name, State.WARNING, words, advice)


def _user(values: Settings, user: str, *, alone: bool) -> Finding:
    name = "Redis user"
    if user != values.redis_user:
        return Finding(name, State.FAILED, f"it takes QBot for {user}, not for {values.redis_user}", USERS)
    if alone:
        words = f"{user} may do everything there: this Redis does not have QBot's users"
        return Finding(name, State.WARNING, words, USERS)
    return Finding(name, State.OK, f"{user}, with QBot's rights and no more")


def _memory(info: Mapping[str, Any]) -> Finding:
    name, policy = "Redis memory", str(info.get("maxmemory_policy", KEEPS))
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if policy != KEEPS:
        words = f"where memory ends, it drops keys by {policy}, and the board is lost"
        return Finding(name, State.FAILED, words, f"Set maxmemory-policy to {KEEPS} at the Redis server.")
    words = f"{used / 1e6:,.0f} MB" + (f" of {most / 1e6:,.0f} MB" if most else "") + " used, no key is dropped"
    if most and used > FULL_SHARE * most:
        return Finding(name, State.WARNING, words, "Raise maxmemory at the Redis server: full, it refuses to write.")
    return Finding(name, State.OK, words)


def _events_of(values: Settings) -> Finding:
    """Whether the server tells at once of what a frontend writes."""
    name, token = "Redis events", uuid4().hex
    try:
        with _events(values) as events:
            events.probe(token)
            until_s = monotonic_s() + limits.DOCTOR_EVENTS_S
            while (left_s := until_s - monotonic_s()) > 0:
                heard = events.receive(left_s)
                if isinstance(heard, Passed) and heard.token == token:
                    return _heard(name, deaf=heard.deaf)
    except BoardUnavailable as error:
        if isinstance(error.__cause__, redis.exceptions.NoPermissionError):
            return Finding(name, State.FAILED, "QBot's user may not write or listen there", USERS)
        return Finding(name, State.FAILED, "it does not let QBot listen", "Look at the log of the Redis server.")
    return Finding(name, State.FAILED, "its own message did not come back", "Look at the log of the Redis server.")


def _heard(name: str, *, deaf: bool) -> Finding:
    if not deaf:
        return Finding(name, State.OK, "what a frontend writes is told at once")
    words = "the server tells nobody what is written: orders and settings wait for the next task"
    return Finding(name, State.WARNING, words, SET_UP)


def _migrations(found: probe.Probe) -> Finding:
    name = "migrations"
    if found.current:
        return Finding(name, State.OK, f"the tables are those of this source ({found.revision})")
    if found.revision is None:
        return Finding(
            name, State.FAILED, "there are no tables", "Restart QBot (`make up`): it makes them at the start."
        )
    if found.behind:
        words = f"the tables are of an older source ({found.revision})"
        return Finding(name, State.FAILED, words, "Restart QBot (`make up`): it brings them up to date at the start.")
    words = f"the tables are of a newer source ({found.revision})"
    return Finding(name, State.FAILED, words, "Update the source: an older QBot must not write into newer tables.")


def _unusable(found: Installation, where: str, problem: str) -> Finding:
    lowered = problem.lower()
    if "password" in lowered or "authentication" in lowered:
        words = f"{where} does not accept user {found.settings.postgres_user} with this password"
        return Finding("Postgres", State.FAILED, words, _password_of(found, "QBOT_POSTGRES_PASSWORD"))
    if "refused" in lowered or "timeout" in lowered or "could not" in lowered or "connection failed" in lowered:
        return Finding("Postgres", State.FAILED, f"nothing answers at {where}", _start(found, "QBOT_POSTGRES_PORT"))
    return Finding("Postgres", State.FAILED, problem, f"Look at {found.settings.home}/logs/postgres.log.")


def _start(found: Installation, variable: str) -> str:
    if found.pid is None:
        return f"Start QBot with `make up`; where the server is elsewhere, look at {variable}."
    return f"Look at `qbot status`, the logs in {found.settings.home}/logs, and {variable}."


def _password_of(found: Installation, variable: str) -> str:
    return f"Set {variable}, or take it out of .env so that {found.settings.home / secrets.FILE} holds."


def _fastest_ms(ask: Callable[[], object]) -> float:
    """Of three: what else goes on at the moment is no word on the server."""
    took = []
    for _ in range(3):
        begun_s = monotonic_s()
        ask()
        took.append(monotonic_s() - begun_s)
    return min(took) * 1_000


def _time(client: redis.Redis) -> datetime:
    seconds, micros = client.time()  # type: ignore[misc,unused-ignore]  # of a client that waits
    return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(micros))


def _may_everything(client: redis.Redis) -> bool:
    """Whether it may look at the server's own settings, which no user of QBot's may."""
    try:
        client.config_get("maxmemory")
    except redis.exceptions.NoPermissionError:
        return False
    return True


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def _events(values: Settings) -> Iterator[Events]:
    events = Events(values)
    try:
        yield events
    finally:
        events.close()
