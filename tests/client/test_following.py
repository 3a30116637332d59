"""Updates: the snapshot, then every change, through broken connections, restarts, gaps and a board that was rebuilt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from qbot.client import Change, ChangeKind, QBotClient, WrongPassword
from qbot.contract import acl, keys
from qbot.contract.board import Board
from qbot.contract.payloads_autotrading import BackendStatus
from tests.client.conftest import MakeClient
from tests.support.exchange import ManualClock
from tests.support.runtime import WALL
from tests.support.servers import RedisServer, free_port, redis_running, wait_until

SAID = keys.AUTOTRADING_ERROR


class Screen:
    """A frontend's screen: follows in a thread of its own and keeps what it was told."""

    def __init__(self, client: QBotClient, *wanted: Any) -> None:
        self.seen: list[Change] = []
        self.shown: dict[str, Any] = {}
        self._following = ThreadPoolExecutor(1).submit(self._follow, client, wanted or None)

    def _follow(self, client: QBotClient, wanted: Any) -> None:
        for change in client.updates(wanted):
            self.seen.append(change)
            if change.key:
                self.shown[change.key] = change.value

    @property
    def error(self) -> BaseException | None:
        return self._following.exception(0) if self._following.done() else None

    def kinds(self) -> list[ChangeKind]:
        return [change.kind for change in list(self.seen)]

    def values(self, name: str) -> list[Any]:
        return [change.value for change in list(self.seen) if change.key == name]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        wait_until(condition, f"{what}; seen: {self.kinds()}", 20)

    def join(self) -> None:
        wait([self._following], 10)
        assert self._following.done()


@contextmanager
def screen(client: QBotClient, *wanted: Any) -> Iterator[Screen]:
    """One that has drawn its first picture."""
    one = Screen(client, *wanted)
    try:
        one.wait(lambda: one.seen, "a first picture")
        yield one
    finally:
        client.close()
        one.join()


def say(board: Board, text: str) -> int:
    return board.write(SAID, text, now=WALL)


def test_the_snapshot_comes_first_then_every_change_in_order(client: QBotClient, board: Board) -> None:
    say(board, "before")
    with screen(client, SAID) as shown:
        for number in range(50):
            say(board, f"change {number}")
        shown.wait(lambda: shown.shown.get(SAID.name) == "change 49", "the last change")
        assert shown.values(SAID.name) == ["before", *(f"change {number}" for number in range(50))]
        assert shown.kinds() == [ChangeKind.SNAPSHOT] + [ChangeKind.UPDATE] * 50
        revisions = [change.revision for change in shown.seen]
        assert revisions == list(range(1, 52))
        assert {change.time for change in shown.seen} == {WALL}


def test_values_are_typed_and_absent_keys_are_there_as_absent(client: QBotClient, board: Board) -> None:
    board.write(keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.RUNNING, now=WALL)
    with screen(client) as shown:
        shown.wait(lambda: keys.DEVIATION_TRACKER.name in shown.shown, "every key")
        status = next(change for change in shown.seen if change.key == keys.AUTOTRADING_BACKEND_STATUS.name)
        reading = status.of(keys.AUTOTRADING_BACKEND_STATUS)
        assert reading is not None and reading.value is BackendStatus.RUNNING
        assert status.of(SAID) is None
        documented = {name for name, key in keys.ENTRIES.items() if not key.pattern and not key.internal}
        wait_until(lambda: set(shown.shown) == documented, "all documented keys and no other")
        board.delete(keys.AUTOTRADING_BACKEND_STATUS, now=WALL)
        shown.wait(lambda: shown.shown[keys.AUTOTRADING_BACKEND_STATUS.name] is None, "the removal")
        assert shown.seen[-1].reading is not None and not shown.seen[-1].reading.present


def test_a_tickers_key_is_followed_though_nobody_knew_the_ticker(client: QBotClient, board: Board) -> None:
    one, other = keys.YFINANCE_ENHANCED.of("AAPL"), keys.YFINANCE_ENHANCED.of("MSFT")
    value = one.decode(keys.YFINANCE_ENHANCED.example.encode())
    board.write(one, value, now=WALL)
    with screen(client) as shown:
        shown.wait(lambda: one.name in shown.shown, "the ticker that was there")
        board.write(other, value, now=WALL)
        shown.wait(lambda: other.name in shown.shown, "the new ticker")
        assert shown.shown[other.name] == value


def test_an_invalid_value_is_handed_on_as_a_problem(
    client: QBotClient, board: Board, redis_client: redis.Redis
) -> None:
    redis_client.rpush(keys.TRADING_CONFIG.name, "a list")
    redis_client.set(keys.UI_STATE.name, "{")
    redis_client.set(keys.MANUAL_ORDERS.name, b"\xff\xfe")
    with screen(client, keys.TRADING_CONFIG, keys.UI_STATE, keys.MANUAL_ORDERS, SAID) as shown:
        shown.wait(lambda: len(shown.seen) == 4, "all keys")
        problems = {change.key: change.problem for change in shown.seen}
        assert (problems[keys.TRADING_CONFIG.name] or "").startswith("WRONG_REDIS_TYPE")
        assert (problems[keys.UI_STATE.name] or "").startswith("NOT_JSON")
        assert problems[keys.MANUAL_ORDERS.name] and problems[SAID.name] is None
        say(board, "it goes on")
        shown.wait(lambda: shown.shown[SAID.name] == "it goes on", "what comes after")


def test_a_killed_connection_is_told_and_what_happened_meanwhile_is_not_missed(
    client: QBotClient, board: Board, redis_client: redis.Redis
) -> None:
    say(board, "before")
    with screen(client, SAID, keys.AUTOTRADING_BACKEND_STATUS) as shown:
        shown.wait(lambda: len(shown.seen) == 2, "the snapshot")
        with redis_client.pipeline(transaction=True) as pipe:  # nobody can listen again before it was written
            pipe.execute_command("CLIENT", "KILL", "USER", "frontend")
            pipe.execute()
        say(board, "meanwhile")
        shown.wait(lambda: shown.shown[SAID.name] == "meanwhile", "the change")
        say(board, "afterwards")
        shown.wait(lambda: shown.shown[SAID.name] == "afterwards", "it follows again")
        kinds = shown.kinds()
        assert kinds.index(ChangeKind.DISCONNECTED) < kinds.index(ChangeKind.CONNECTED)
        assert shown.seen[kinds.index(ChangeKind.DISCONNECTED)].time == WALL
        told = [change.key for change in shown.seen[kinds.index(ChangeKind.CONNECTED) :]]
        assert keys.AUTOTRADING_BACKEND_STATUS.name not in told  # it has not changed


def test_a_server_that_restarts_empty_is_told_as_rebuilt_and_followed(tmp_path: Path) -> None:
    port = free_port()
    with redis_running(tmp_path / "first", port) as server:
        client = QBotClient(server.host, port, server.frontend_password, "frontend")
        board = Board(redis.Redis.from_url(server.url))
        for number in range(20):
            say(board, f"old {number}")
        one = Screen(client, SAID)
        one.wait(lambda: one.shown.get(SAID.name) == "old 19", "the first board")
    try:
        one.wait(lambda: ChangeKind.DISCONNECTED in one.kinds(), "the loss")
        with redis_running(tmp_path / "second", port) as server:
            one.wait(lambda: ChangeKind.REBUILT in one.kinds(), "the new board")
            one.wait(lambda: one.shown[SAID.name] is None, "that the value is gone")
            board = Board(redis.Redis.from_url(server.url))
            say(board, "new")
            one.wait(lambda: one.shown[SAID.name] == "new", "a change on it")
            assert one.kinds().count(ChangeKind.DISCONNECTED) == 1
            client.close()
            one.join()
        assert one.error is None
    finally:
        client.close()


def test_a_flushed_board_is_told_with_the_next_write(
    client: QBotClient, board: Board, redis_client: redis.Redis
) -> None:
    for number in range(10):
        say(board, f"old {number}")
    with screen(client, SAID, keys.AUTOTRADING_BACKEND_STATUS) as shown:
        say(board, "last")
        shown.wait(lambda: shown.shown.get(SAID.name) == "last", "the old board")
        settle(shown, board)
        redis_client.flushall()
        board.write(keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.STOPPED, now=WALL)
        shown.wait(lambda: ChangeKind.REBUILT in shown.kinds(), "the new board")
        shown.wait(lambda: shown.shown[SAID.name] is None, "that the value is gone")
        assert shown.shown[keys.AUTOTRADING_BACKEND_STATUS.name] is BackendStatus.STOPPED


def settle(shown: Screen, board: Board) -> None:
    """Until a message proves that the one before is digested."""
    say(board, "settled")
    shown.wait(lambda: shown.shown.get(SAID.name) == "settled", "one more change")


def test_a_gap_in_the_revisions_makes_it_read_again(
    client: QBotClient, board: Board, redis_client: redis.Redis
) -> None:
    say(board, "before")
    with screen(client, SAID, keys.AUTOTRADING_BACKEND_STATUS) as shown:
        settle(shown, board)
        with redis_client.pipeline(transaction=True) as pipe:  # a write whose message nobody got
            pipe.set(keys.AUTOTRADING_BACKEND_STATUS.name, "RUNNING")
            pipe.incr(keys.REVISION_COUNTER)
            pipe.execute()
        say(board, "after the gap")
        shown.wait(lambda: shown.shown[SAID.name] == "after the gap", "the message after the gap")
        wait_until(
            lambda: shown.shown[keys.AUTOTRADING_BACKEND_STATUS.name] is BackendStatus.RUNNING, "what was missed"
        )
        assert ChangeKind.DISCONNECTED not in shown.kinds()


def test_what_anyone_else_says_on_the_channel_does_no_harm(
    client: QBotClient, board: Board, redis_client: redis.Redis
) -> None:
    say(board, "before")
    with screen(client, SAID) as shown:
        for noise in ("", "{", "[]", '{"key": "x"}', '{"key":"nobody","revision":99999,"time":"2026-01-01T00:00:00Z"}'):
            redis_client.publish(keys.UPDATES.name, noise)
        say(board, "after the noise")
        shown.wait(lambda: shown.shown[SAID.name] == "after the noise", "the change")
        assert shown.error is None


def test_writes_at_full_speed_are_neither_missed_nor_out_of_order(client: QBotClient, board: Board) -> None:
    stop = threading.Event()

    def write() -> None:
        for number in range(400):
            say(board, f"{number:04d}")
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    with screen(client, SAID) as shown:
        writer.join()
        shown.wait(lambda: shown.shown.get(SAID.name) == "0399", "the last change")
        told = [change for change in shown.seen if change.value]
        assert [change.value for change in told] == sorted(change.value for change in told)
        first = told[0].revision
        assert [change.revision for change in told] == list(range(first, 401))


def test_a_wrong_password_ends_it_at_once_by_name(redis_server: RedisServer, redis_client: redis.Redis) -> None:
    for user in ("frontend", None):
        client = QBotClient(redis_server.host, redis_server.port, "wrong", user)
        with pytest.raises(WrongPassword, match="refuses the user or the password"):
            client.connect(within_s=3_600)
        with pytest.raises(WrongPassword):
            next(client.updates())
        with pytest.raises(WrongPassword):
            client.get(SAID)


def test_a_password_that_is_changed_meanwhile_ends_it_by_name(
    client: QBotClient, board: Board, redis_client: redis.Redis, redis_server: RedisServer
) -> None:
    say(board, "before")
    with screen(client, SAID) as shown:
        try:
            redis_client.execute_command("ACL", "SETUSER", "frontend", "resetpass", ">another-password")
            redis_client.execute_command("CLIENT", "KILL", "USER", "frontend")
            shown.wait(lambda: isinstance(shown.error, WrongPassword), "the name")
        finally:
            redis_client.execute_command(
                "ACL", "SETUSER", acl.FRONTEND, "resetpass", f">{redis_server.frontend_password}"
            )


def test_it_can_be_ended_by_a_condition_and_by_closing(client: QBotClient, make: MakeClient, board: Board) -> None:
    say(board, "x")
    over = threading.Event()
    seen = []
    for change in client.updates([SAID], ended=over.is_set):
        seen.append(change)
        over.set()
    assert len(seen) == 1
    second = make()
    following = second.updates([SAID])
    next(following)
    second.close()
    assert list(following) == []


def test_without_a_server_it_says_so_once_and_goes_on_when_there_is_one(tmp_path: Path, wall: ManualClock) -> None:
    port = free_port()
    server = RedisServer(port, 0)
    client = QBotClient(server.host, port, server.frontend_password, "frontend", wall=wall)
    one = Screen(client, SAID)
    try:
        one.wait(lambda: one.seen, "the first word")
        wall.set(WALL + timedelta(minutes=5))
        with redis_running(tmp_path, port):
            one.wait(lambda: SAID.name in one.shown, "the snapshot")
            assert one.kinds() == [ChangeKind.DISCONNECTED, ChangeKind.CONNECTED, ChangeKind.SNAPSHOT]
            assert [one.seen[0].time, one.seen[1].time] == [WALL, WALL + timedelta(minutes=5)]
            assert one.seen[0].reason
            client.close()
            one.join()
    finally:
        client.close()
