"""What each user of Redis may do, key by key, asked of the real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from qbot import limits
from qbot.contract import acl, keys
from qbot.contract.board import Board
from qbot.contract.key import Direction, Key
from qbot.contract.payloads_orders import ManualOrder
from qbot.errors import ConfigError
from qbot.settings import ROOT, Settings
from qbot.stack import redis as server
from qbot.stack.stack import Stack
from tasks.app import QUEUES
from tests.support.servers import RedisServer

NOW = datetime(2026, 9, 25, 14, 0, tzinfo=UTC)
USERS = (acl.BACKEND, acl.FRONTEND, acl.BY_PASSWORD_ALONE, acl.VIEWER)
WRITERS = (acl.FRONTEND, acl.BY_PASSWORD_ALONE)
GUESTS = (*WRITERS, acl.VIEWER)
EVERY_KEY = [key.of("AAPL") if key.pattern else key for key in keys.ENTRIES.values()]
PASSWORDS = {"redis_password": "of-the-backend", "redis_viewer_password": "of-a-viewer-x"}

Clients = dict[str, redis.Redis]


@pytest.fixture(scope="module")
def clients(redis_server: RedisServer) -> Iterator[Clients]:
    """One client a user, each logged in as its like would."""
    passwords = {acl.BACKEND: redis_server.password, acl.VIEWER: redis_server.viewer_password}
    made = {}
    for user in USERS:
        password = passwords.get(user, redis_server.frontend_password)
        name = None if user == acl.BY_PASSWORD_ALONE else user
        made[user] = redis.Redis(port=redis_server.port, username=name, password=password, decode_responses=True)
    yield made
    for client in made.values():
        client.close()


def may(client: redis.Redis, *command: Any) -> bool:
    try:
        client.execute_command(*command)
    except redis.exceptions.NoPermissionError:
        return False
    return True


def may_read(user: str, key: Key[Any]) -> bool:
    return user == acl.BACKEND or not key.internal


def may_write(user: str, key: Key[Any]) -> bool:
    return user == acl.BACKEND or (user in WRITERS and key.direction is not Direction.BACKEND and not key.internal)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("key", EVERY_KEY, ids=lambda key: key.name)
def test_each_user_reads_and_writes_exactly_its_keys(
    clients: Clients, redis_client: redis.Redis, user: str, key: Key[Any]
) -> None:
    redis_client.set(key.name, "before")
    client = clients[user]
    for read in (("GET", key.name), ("MGET", key.name), ("GETRANGE", key.name, 0, 9), ("EXISTS", key.name)):
        assert may(client, *read) is may_read(user, key), read
    assert may(client, "SET", key.name, "after") is may_write(user, key)
    assert redis_client.get(key.name) == ("after" if may_write(user, key) else "before")
    assert may(client, "DEL", key.name) is may_write(user, key)
    assert redis_client.exists(key.name) == (not may_write(user, key))


def test_the_keys_of_both_directions_were_asked_for() -> None:
    assert {key.direction for key in EVERY_KEY} == set(Direction)
    assert len(acl.writable()) == sum(may_write(acl.FRONTEND, key) for key in EVERY_KEY) > 5


@pytest.mark.parametrize("user", GUESTS)
@pytest.mark.parametrize(
    "name",
    [*QUEUES, "unacked", "unacked_index", "_kombu.binding.misc", "celery", "qbot:anything", "frontend:ui_state2",
     "frontend:", "yfinance_enhanced", "xfrontend:ui_state", "frontend:UI_STATE", "anything"],
)  # fmt: skip
def test_what_the_contract_does_not_name_is_neither_read_nor_written(
    clients: Clients, redis_client: redis.Redis, user: str, name: str
) -> None:
    client = clients[user]
    for command in (("GET", name), ("EXISTS", name), ("TYPE", name), ("SET", name, "x"), ("DEL", name)):
        assert not may(client, *command), command
    for push in ("LPUSH", "RPUSH", "SADD"):
        assert not may(client, push, name, "{}")
    assert redis_client.keys("*") == []


@pytest.mark.parametrize("user", GUESTS)
def test_the_record_of_writes_is_read_by_all_and_written_by_qbot_alone(
    clients: Clients, redis_client: redis.Redis, redis_server: RedisServer, user: str
) -> None:
    Board(redis.Redis.from_url(redis_server.url)).write(keys.AUTOTRADING_ERROR, "hello", now=NOW)
    client = clients[user]
    stamp = redis_client.hget(keys.WRITTEN, keys.AUTOTRADING_ERROR.name)
    assert client.get(keys.REVISION_COUNTER) == "1"
    assert client.hgetall(keys.WRITTEN) == {keys.AUTOTRADING_ERROR.name: stamp}
    assert client.hget(keys.WRITTEN, keys.AUTOTRADING_ERROR.name) == stamp
    for command in (
        ("INCR", keys.REVISION_COUNTER), ("SET", keys.REVISION_COUNTER, 7), ("DEL", keys.WRITTEN),
        ("HSET", keys.WRITTEN, keys.AUTOTRADING_ERROR.name, "x"), ("HDEL", keys.WRITTEN, keys.AUTOTRADING_ERROR.name),
    ):  # fmt: skip
        assert not may(client, *command), command
    assert redis_client.get(keys.REVISION_COUNTER) == "1"
    assert redis_client.hget(keys.WRITTEN, keys.AUTOTRADING_ERROR.name) == stamp


DANGEROUS = (
    ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "maxmemory", "1"),
    ("SHUTDOWN", "NOSAVE"), ("ACL", "LIST"), ("ACL", "SETUSER", "default", "+@all"),
    ("CLIENT", "LIST"), ("CLIENT", "KILL", "TYPE", "normal"), ("CLIENT", "PAUSE", "1"), ("MONITOR",), ("SAVE",),
    ("BGREWRITEAOF",), ("REPLICAOF", "127.0.0.1", "1"), ("SWAPDB", "0", "0"), ("MODULE", "LIST"), ("SLOWLOG", "GET"),
    ("MIGRATE", "127.0.0.1", "1", "frontend:ui_state", "0", "1"), ("SORT", "frontend:ui_state"),
    ("RESTORE", "frontend:ui_state", "0", "x"),
)  # fmt: skip
NOT_FOR_GUESTS = (
    ("SCAN", "0"), ("RANDOMKEY",), ("DBSIZE",), ("INFO",), ("EVAL", "return 1", "0"), ("SCRIPT", "LOAD", "return 1"),
    ("EVAL_RO", "return 1", "0"), ("FCALL", "f", "0"), ("FUNCTION", "FLUSH"), ("PUBLISH", "qbot:updates", "{}"),
    ("RENAME", "frontend:ui_state", "frontend:bot_strategy"), ("COPY", "frontend:ui_state", "frontend:bot_strategy"),
    ("EXPIRE", "frontend:ui_state", "1"), ("APPEND", "frontend:ui_state", "x"), ("MSET", "frontend:ui_state", "x"),
    ("LPUSH", "frontend:ui_state", "x"), ("DUMP", "frontend:ui_state"), ("OBJECT", "ENCODING", "frontend:ui_state"),
)  # fmt: skip


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("command", DANGEROUS, ids=" ".join)
def test_nobody_empties_stops_or_reconfigures_the_server(
    clients: Clients, redis_client: redis.Redis, user: str, command: tuple[str, ...]
) -> None:
    redis_client.set("frontend:ui_state", "mine")
    assert not may(clients[user], *command)
    assert redis_client.keys("*") == ["frontend:ui_state"]
    assert redis_client.get("frontend:ui_state") == "mine"


@pytest.mark.parametrize("user", GUESTS)
@pytest.mark.parametrize("command", NOT_FOR_GUESTS, ids=" ".join)
def test_a_frontend_has_no_scripts_no_lists_of_keys_and_no_messages_of_its_own(
    clients: Clients, redis_client: redis.Redis, user: str, command: tuple[str, ...]
) -> None:
    redis_client.set("frontend:ui_state", "mine")
    assert not may(clients[user], *command)
    assert redis_client.keys("*") == ["frontend:ui_state"]
    assert redis_client.get("frontend:ui_state") == "mine"


def test_a_script_of_qbot_cannot_do_what_qbot_cannot(clients: Clients, redis_client: redis.Redis) -> None:
    redis_client.set("frontend:ui_state", "mine")
    with pytest.raises(redis.ResponseError, match="no permissions to run the 'flushall' command"):
        clients[acl.BACKEND].eval("return redis.call('FLUSHALL')", 0)
    assert redis_client.keys("*") == ["frontend:ui_state"]


def test_of_all_commands_the_server_has_a_frontend_gets_set_and_del_and_harmless_ones(
    redis_client: redis.Redis,
) -> None:
    def of(category: str) -> set[str]:
        return {name.replace(" ", "|") for name in redis_client.acl_cat(category)}

    granted = {user: {name[1:] for name in rights(redis_client, user)["commands"]} for user in GUESTS}
    bad = of("admin") | of("dangerous") | of("scripting") | of("blocking") | of("keyspace") - {"del", "exists", "type"}
    for user in GUESTS:
        assert granted[user] & of("write") == ({"set", "del"} if user in WRITERS else set())
        assert granted[user] & bad == set()
        assert len(granted[user]) > 10


def rights(admin: redis.Redis, user: str) -> dict[str, Any]:
    answer = admin.acl_getuser(user)
    assert isinstance(answer, dict)
    return {**answer, "commands": [name for name in answer["commands"] if name.startswith("+")]}


# channels


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("channel", [*keys.CHANNELS, "__keyspace@0__:frontend:ui_state", "celeryev", "*", "qbot:*"])
def test_guests_hear_the_contracts_channels_and_no_others(clients: Clients, user: str, channel: str) -> None:
    allowed = user == acl.BACKEND or channel in keys.CHANNELS
    for subscribe in ("subscribe", "psubscribe"):
        with clients[user].pubsub() as listener:
            getattr(listener, subscribe)(channel)
            if allowed:
                assert listener.get_message(timeout=5)["type"] == subscribe
            else:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    listener.get_message(timeout=5)


# as frontends work


@pytest.mark.parametrize("user", GUESTS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_board_of_a_guest_reads_every_documented_key_at_once(
    redis_server: RedisServer, redis_client: redis.Redis, user: str, protocol: int
) -> None:
    password = redis_server.viewer_password if user == acl.VIEWER else redis_server.frontend_password
    redis_client.set(keys.AUTOTRADING_ERROR.name, "hello")
    with redis.Redis(port=redis_server.port, username=user, password=password, protocol=protocol) as client:
        seen = Board(client).read_many([key for key in EVERY_KEY if not key.internal])
    assert seen[keys.AUTOTRADING_ERROR].value == "hello"


@pytest.mark.parametrize("user", WRITERS)
def test_a_frontend_changes_a_shared_key_by_compare_and_set_and_loses_no_order(
    clients: Clients, redis_client: redis.Redis, user: str
) -> None:
    name, client = keys.MANUAL_ORDERS.name, clients[user]
    with client.pipeline() as pipe:
        pipe.watch(name)
        assert pipe.get(name) is None
        redis_client.set(name, "another's order")  # between reading and writing
        pipe.multi()
        pipe.set(name, "mine alone")
        with pytest.raises(redis.WatchError):
            pipe.execute()
        assert redis_client.get(name) == "another's order"
        pipe.watch(name)
        both = f"{pipe.get(name)} and mine"
        pipe.multi()
        pipe.set(name, both)
        pipe.execute()
    assert redis_client.get(name) == "another's order and mine"


def test_a_transaction_with_one_forbidden_write_writes_nothing(clients: Clients, redis_client: redis.Redis) -> None:
    with clients[acl.FRONTEND].pipeline(transaction=True) as pipe:
        pipe.set(keys.UI_STATE.name, "mine")
        pipe.set(keys.AUTOTRADING_BACKEND_STATUS.name, "RUNNING")
        with pytest.raises(redis.exceptions.NoPermissionError):
            pipe.execute()
    assert redis_client.keys("*") == []


def test_qbot_writes_and_announces_what_frontends_wrote(board: Board, clients: Clients) -> None:
    clients[acl.FRONTEND].set(keys.MANUAL_ORDERS.name, keys.MANUAL_ORDERS.example)
    read = board.read(keys.MANUAL_ORDERS).value
    assert read and isinstance(read[0], ManualOrder)
    assert board.announce(keys.MANUAL_ORDERS, now=NOW) == 1
    assert board.write(keys.AUTOTRADING_ERROR, "hello", now=NOW) == 2
    assert set(board.written()) == {keys.MANUAL_ORDERS.name, keys.AUTOTRADING_ERROR.name}


# logging in


def test_a_password_alone_is_the_frontend(redis_server: RedisServer, redis_client: redis.Redis) -> None:
    with redis.Redis(port=redis_server.port, password=redis_server.frontend_password) as client:
        client.set(keys.UI_STATE.name, "{}")
        assert not may(client, "SET", keys.SYSTEM_STATUS.name, "{}")
    same = [rights(redis_client, user) for user in WRITERS]
    assert same[0] == same[1]


@pytest.mark.parametrize("user", [*USERS, None, "nobody"])
def test_nobody_gets_in_with_another_ones_password_or_none(redis_server: RedisServer, user: str | None) -> None:
    own = {
        acl.BACKEND: redis_server.password, acl.VIEWER: redis_server.viewer_password, "nobody": "",
    }.get(user or "", redis_server.frontend_password)  # fmt: skip
    at_once = Retry(NoBackoff(), 0)
    tried = {redis_server.password, redis_server.frontend_password, redis_server.viewer_password, "pass123", ""} - {own}
    for password in tried:
        with (
            redis.Redis(port=redis_server.port, username=user, password=password or None, retry=at_once) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()


def test_no_guest_fills_the_memory_of_the_server(clients: Clients, redis_client: redis.Redis) -> None:
    with pytest.raises(redis.RedisError):
        clients["frontend"].set(keys.UI_STATE.name, b"x" * (2 * limits.MAX_BOARD_BYTES + 2_000_000))
    assert redis_client.dbsize() == 0
    assert redis_client.config_get("maxmemory-clients") == {"maxmemory-clients": str(512 * 1024**2)}
    assert clients["frontend"].set(keys.UI_STATE.name, b"x" * limits.MAX_PAYLOAD_BYTES)


def test_there_is_one_database(clients: Clients) -> None:
    for client in clients.values():
        assert may(client, "SELECT", 0)
        with pytest.raises(redis.ResponseError, match="out of range"):
            client.execute_command("SELECT", 1)


# passwords


def values(home: Path, **more: str) -> Settings:
    secrets = {name: SecretStr(value) for name, value in more.items()}
    return Settings(_env_file=None, home=home, **secrets)  # type: ignore[call-arg, arg-type]


WEAK = ("pass123", "x1y2z3", "elevenchars", "aaaaaaaaaaaaaaaaaa", "changeme-please", "Password1234", "pass123pass123")


@pytest.mark.parametrize("weak", WEAK)
@pytest.mark.parametrize("name", ["redis_password", "redis_frontend_password", "redis_viewer_password"])
def test_a_placeholder_is_refused_by_the_name_of_its_variable_and_nothing_starts(
    tmp_path: Path, name: str, weak: str
) -> None:
    with pytest.raises(ConfigError, match=f"QBOT_{name.upper()} is") as refused:
        Stack(values(tmp_path, **{name: weak}))
    assert weak not in str(refused.value)
    assert not (tmp_path / "redis").exists()


def test_the_documents_password_is_for_the_demos_frontends_alone(tmp_path: Path) -> None:
    known = {"redis_frontend_password": acl.DOCUMENTED_PASSWORD}
    Stack(values(tmp_path / "demo", **known), demo=True)
    for name in ("redis_password", "redis_viewer_password"):
        with pytest.raises(ConfigError, match=f"QBOT_{name.upper()}"):
            Stack(values(tmp_path / "other", **{name: acl.DOCUMENTED_PASSWORD}), demo=True)


def test_the_passwords_made_at_the_first_start_pass(tmp_path: Path) -> None:
    made = Stack(values(tmp_path)).settings
    server.users(made)
    assert made.redis_user == acl.BACKEND


@pytest.mark.parametrize("same", [("a", "a", "b"), ("a", "b", "b"), ("a", "b", "a"), ("", "b", "c")])
def test_two_users_with_one_password_or_one_without_are_refused(same: tuple[str, str, str]) -> None:
    with pytest.raises(ConfigError):
        acl.users_file(*same)


def test_the_servers_files_hold_no_password_and_are_their_owners_alone(tmp_path: Path) -> None:
    passwords = ("correct-horse-1", "correct-horse-2", "correct-horse-3")
    server.prepare(tmp_path, 1, acl.users_file(*passwords))
    written = list(tmp_path.iterdir())
    assert {file.name for file in written} == {"redis.conf", "users.acl"}
    for file in written:
        assert not any(password in file.read_text() for password in passwords)
        assert file.stat().st_mode & 0o777 == 0o600


def test_every_start_writes_the_users_anew(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text("user default on nopass ~* &* +@all\n")
    server.prepare(tmp_path, 1, acl.users_file("a", "b", "c"))
    assert (tmp_path / "users.acl").read_text() == acl.users_file("a", "b", "c")


def test_a_name_with_the_signs_of_a_pattern_means_itself() -> None:
    assert acl._patterns(["a*b?[c]^\\", "x:{TICKER}"]) == [r"a\*b\?\[c\]\^\\", "x:*"]


def printed(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-m", "qbot.stack.redis"]
    return subprocess.run(command, env=clean, cwd="/", capture_output=True, text=True, check=False)


def test_the_users_are_printed_for_another_server_and_a_weak_password_prints_none() -> None:
    environment = {f"QBOT_{name.upper()}": value for name, value in PASSWORDS.items()}
    done = printed(environment | {"QBOT_REDIS_FRONTEND_PASSWORD": "of-all-frontends"})
    assert done.returncode == 0
    assert done.stdout == acl.users_file("of-the-backend", "of-all-frontends", "of-a-viewer-x")
    refused = printed(environment | {"QBOT_REDIS_FRONTEND_PASSWORD": "pass123"})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "QBOT_REDIS_FRONTEND_PASSWORD" in refused.stderr


def test_the_users_stay_when_the_server_is_asked_to_change_them(clients: Clients, redis_client: redis.Redis) -> None:
    before = redis_client.acl_list()
    for client in clients.values():
        with suppress(redis.exceptions.NoPermissionError):
            client.execute_command("ACL", "SETUSER", "default", "on", "nopass", "+@all")
        with suppress(redis.exceptions.NoPermissionError):
            client.execute_command("ACL", "LOAD")
    assert redis_client.acl_list() == before
