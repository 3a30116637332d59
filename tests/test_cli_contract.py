"""`qbot contract …` on a real Redis: what it tells, what it refuses, and that a refusal writes nothing."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from qbot import cli_contract, clock
from qbot.clock import Timeline
from qbot.console import drawing, effects, installation, watching, writing
from qbot.console.changes import describe
from qbot.contract import keys
from qbot.contract.board import Board
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.errors import BoardUnavailable
from qbot.settings import ROOT, settings
from qbot.stack import lock, replay
from tests.support.servers import RedisServer, free_port, wait_until

Run = Callable[..., Result]
ORDER = {"order_id": "m1", "symbol": "AAPL", "side": "BUY", "quantity": 1, "order_type": "MARKET"}
STOP = {"action": "STOP_ALL_TRADING", "confirmed": True, "session_id": "s", "timestamp": "2026-09-25T14:00:00Z"}


@pytest.fixture
def environment(tmp_path: Path, redis_server: RedisServer) -> dict[str, str]:
    return {
        "QBOT_HOME": str(tmp_path / "home"),
        "QBOT_REDIS_PORT": str(redis_server.port),
        "QBOT_REDIS_PASSWORD": redis_server.password,
        "QBOT_REDIS_FRONTEND_PASSWORD": redis_server.frontend_password,
        "QBOT_REDIS_VIEWER_PASSWORD": redis_server.viewer_password,
        "QBOT_ALPACA_API_KEY": "",
    }


@pytest.fixture
def run(environment: dict[str, str], redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`run("check", …)` as on the command line; Redis is empty."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()

    def invoke(*args: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(cli_contract.app, ["--main", *args], input=typed)

    yield invoke
    settings.cache_clear()


@pytest.fixture
def board(redis_server: RedisServer) -> Iterator[Board]:
    """As QBot has it."""
    client = redis.Redis.from_url(redis_server.url)
    yield Board(client)
    client.close()


def fill(board: Board) -> None:
    """Everything that QBot must write, as the documents show it."""
    for key in keys.ENTRIES.values():
        if key.absent is None and not key.pattern:
            board.write(key, key.decode(key.example.encode()), now=clock.wall_now())


# --- check -----------------------------------------------------------------------------------------------------------


def test_a_whole_board_passes_and_says_why_what_is_absent_is_absent(run: Run, board: Board) -> None:
    fill(board)
    done = run("check")
    assert done.exit_code == 0, done.output
    assert "0 missing, 0 invalid, 0 stale" in done.stdout
    assert "No emergency." in done.stdout
    assert "as viewer" in done.stderr


def test_an_empty_board_fails_and_names_the_task_that_should_have_written(run: Run) -> None:
    done = run("check")
    assert done.exit_code == 1
    assert "missing  update_backend_responses has not written it" in done.stdout


def test_for_machines_each_fault_has_its_key_status_and_reason(
    run: Run, board: Board, redis_client: redis.Redis
) -> None:
    fill(board)
    long_ago = clock.wall_now() - timedelta(hours=3)
    board.write(keys.SYSTEM_HEALTH, keys.SYSTEM_HEALTH.decode(keys.SYSTEM_HEALTH.example.encode()), now=long_ago)
    redis_client.set(keys.RISK_SETTINGS.name, '{"cooldown_minutes": "soon"}')
    redis_client.rpush(keys.PRICE_ALERTS.name, "x")
    done = run("check", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    faults = {each["key"]: each for each in told["keys"] if each["status"] not in ("ok", "absent")}
    assert {name: each["status"] for name, each in faults.items()} == {
        keys.SYSTEM_HEALTH.name: "stale", keys.RISK_SETTINGS.name: "invalid", keys.PRICE_ALERTS.name: "invalid",
    }  # fmt: skip
    assert "cooldown_minutes" in faults[keys.RISK_SETTINGS.name]["reason"]
    assert "a list, not a string" in faults[keys.PRICE_ALERTS.name]["reason"]
    assert faults[keys.SYSTEM_HEALTH.name]["age_s"] == pytest.approx(3 * 3_600, abs=60)
    assert told["whole"] is False


def test_it_waits_until_the_board_is_whole(run: Run, board: Board) -> None:
    helper = threading.Timer(0.3, fill, [board])
    helper.start()
    done = run("check", "--wait", "60")
    helper.join()
    assert done.exit_code == 0, done.output
    assert "to go: " in done.stderr


def test_without_a_redis_one_sentence_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QBOT_REDIS_PORT", str(free_port()))
    settings.cache_clear()
    done = run("check")
    assert done.exit_code == 1
    assert "start it with `qbot up`" in done.stderr.splitlines()[-1]


def test_a_wrong_password_is_told_without_being_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QBOT_REDIS_VIEWER_PASSWORD", "not-the-password")
    settings.cache_clear()
    done = run("get", keys.RISK_SETTINGS.name)
    assert done.exit_code == 1
    assert "does not accept" in done.stderr
    assert "not-the-password" not in done.output


# --- get and show ----------------------------------------------------------------------------------------------------


def test_get_prints_the_value_alone_on_standard_output(run: Run, board: Board) -> None:
    fill(board)
    done = run("get", keys.PORTFOLIO_SUMMARY.name)
    assert json.loads(done.stdout) == json.loads(keys.PORTFOLIO_SUMMARY.example)
    assert f"{keys.PORTFOLIO_SUMMARY.name}: ok, age 0 s of 90 s" in done.stderr


def test_get_of_what_is_not_there_says_what_that_means(run: Run) -> None:
    done = run("get", keys.EMERGENCY_ACTIONS.name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "No emergency." in done.stderr


@pytest.mark.parametrize("name", list(keys.ENTRIES))
def test_every_key_can_be_shown(run: Run, name: str) -> None:
    done = run("show", name)
    assert done.exit_code == 0, done.output
    for word in ("purpose", "written by", "when absent", "fields", "example"):
        assert word in done.stdout


def test_the_list_has_every_key_on_a_line_of_its_own(run: Run) -> None:
    starts = [line.split()[0] for line in run("show").stdout.splitlines() if line.strip()]
    assert set(keys.ENTRIES) <= set(starts)


# --- set and del -----------------------------------------------------------------------------------------------------

REFUSED = [
    (keys.TRADING_SETTINGS.name, '{"buy_threshold_pct": 7}', "buy_threshold_pct"),
    (keys.TRADING_SETTINGS.name, "{", "NOT_JSON"),
    (keys.TRADING_SETTINGS.name, '{"enabled": null}', "leave the field out"),
    (keys.MANUAL_ORDERS.name, json.dumps([ORDER, {**ORDER, "quantity": 0}]), "element 2 would be REJECTED: quantity"),
    (keys.AUTOTRADING_STATUS.name, "PAUSED", "ACTIVE"),
    (keys.SYSTEM_HEALTH.name, "{}", "QBot writes it"),
    ("frontend:trading_confg", "{}", "did you mean frontend:trading_config"),
    (keys.RISK_SETTINGS.name, "@/no/such/file", "cannot be read"),
]


@pytest.mark.parametrize(("name", "value", "reason"), REFUSED)
def test_what_qbot_would_refuse_is_refused_with_its_reason_and_nothing_is_written(
    run: Run, redis_client: redis.Redis, name: str, value: str, reason: str
) -> None:
    done = run("set", name, value, "--yes", "--wait", "0")
    assert done.exit_code == 1
    assert reason in done.stderr
    assert redis_client.dbsize() == 0


def test_a_value_comes_from_the_argument_a_file_or_standard_input(
    run: Run, redis_client: redis.Redis, tmp_path: Path
) -> None:
    name, value = keys.PORTFOLIO_SETTINGS.name, '{"max_position_pct": 0.1}'
    (tmp_path / "value").write_text(value + "\n")
    for given, typed in ((value, None), (f"@{tmp_path / 'value'}", None), ("-", value + "\n")):
        redis_client.delete(name)
        done = run("set", name, given, "--wait", "0", typed=typed)
        assert done.exit_code == 0, done.output
        assert redis_client.get(name) == value
    assert "as frontend" in done.stderr


def test_a_closed_standard_input_is_told(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "qbot.cli", "contract", "--main", "set", keys.UI_STATE.name, "-"]
    env = {**os.environ, **environment}
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command], cwd=ROOT, env=env, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr == b"qbot contract: standard input is closed: there is no value to read\n"


def test_a_field_that_qbot_would_ignore_is_told_with_what_was_meant(run: Run) -> None:
    done = run("set", keys.TRADING_CONFIG.name, '{"buy_treshold_pct": 0.1}', "--wait", "0")
    assert "did you mean buy_threshold_pct?" in done.stderr


DANGEROUS = [
    (keys.EMERGENCY_ACTIONS.name, json.dumps(STOP), "cancels open entries"),
    (keys.EMERGENCY_ACTIONS.name, json.dumps({**STOP, "action": "CLOSE_ALL_POSITIONS"}), "SELLS EVERY POSITION"),
    (keys.AUTOTRADING_ENABLED.name, '{"enabled": true, "source": "frontend_ui"}', "starts to trade"),
    (keys.RISK_SETTINGS.name, '{"emergency_stop_active": false}', "releases"),
    (keys.AUTOTRADING_STATUS.name, "STOPPED", "stops trading"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), DANGEROUS)
def test_what_starts_stops_or_sells_is_asked_for_and_a_no_writes_nothing(
    run: Run, redis_client: redis.Redis, name: str, value: str, sentence: str
) -> None:
    for answer in ("n\n", ""):
        done = run("set", name, value, "--wait", "0", typed=answer)
        assert done.exit_code == 1
        assert sentence in done.stderr
        assert redis_client.dbsize() == 0
    assert run("set", name, value, "--wait", "0", typed="y\n").exit_code == 0
    assert redis_client.get(name) == value


def test_del_of_the_older_switch_is_asked_for_since_it_stops_too(run: Run, redis_client: redis.Redis) -> None:
    redis_client.set(keys.TRADING_SETTINGS.name, '{"enabled": true}')
    assert run("del", keys.TRADING_SETTINGS.name, typed="n\n").exit_code == 1
    assert redis_client.exists(keys.TRADING_SETTINGS.name)


def test_del_of_the_session_is_asked_for(run: Run, redis_client: redis.Redis) -> None:
    redis_client.set(keys.AUTOTRADING_ENABLED.name, keys.AUTOTRADING_ENABLED.example)
    assert run("del", keys.AUTOTRADING_ENABLED.name, typed="n\n").exit_code == 1
    assert redis_client.exists(keys.AUTOTRADING_ENABLED.name)
    assert run("del", keys.AUTOTRADING_ENABLED.name, "--yes", "--wait", "0").exit_code == 0
    assert not redis_client.exists(keys.AUTOTRADING_ENABLED.name)
    assert "is not there" in run("del", keys.AUTOTRADING_ENABLED.name).stdout
    assert run("del", keys.SYSTEM_HEALTH.name, "--yes").exit_code == 1


def test_appending_keeps_the_orders_that_stand_there(run: Run, redis_client: redis.Redis) -> None:
    name = keys.MANUAL_ORDERS.name
    redis_client.set(name, json.dumps([{**ORDER, "order_id": "m0", "status": "FILLED"}]))
    assert run("set", name, json.dumps([ORDER]), "--append", "--wait", "0").exit_code == 0
    stored = json.loads(str(redis_client.get(name)))
    assert [(each["order_id"], each.get("status")) for each in stored] == [("m0", "FILLED"), ("m1", None)]
    assert run("set", keys.UI_STATE.name, "{}", "--append", "--wait", "0").exit_code == 1


def test_a_key_that_somebody_wrote_while_one_was_asked_is_left_as_it_is(
    run: Run, redis_client: redis.Redis, redis_server: RedisServer
) -> None:
    key, client = keys.RISK_SETTINGS, redis.Redis.from_url(redis_server.url)
    redis_client.set(key.name, '{"cooldown_minutes": 9}')
    wanted = writing.wish(key, b'{"cooldown_minutes": 5}', clock.wall_now())
    with pytest.raises(writing.Refused, match="changed by somebody else"):
        writing.carry_out(client, wanted, b'{"cooldown_minutes": 30}')
    assert redis_client.get(key.name) == '{"cooldown_minutes": 9}'
    client.close()


def test_what_qbot_did_about_it_is_told(run: Run, board: Board, redis_client: redis.Redis) -> None:
    """Here a thread stands for QBot: it sees the order and writes its status back."""

    def answer() -> None:
        wait_until(lambda: redis_client.exists(keys.MANUAL_ORDERS.name), "the order")
        board.update(keys.MANUAL_ORDERS, rejected, now=clock.wall_now())
        board.write(keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.RUNNING, now=clock.wall_now())

    helper = threading.Thread(target=answer)
    helper.start()
    done = run("set", keys.MANUAL_ORDERS.name, json.dumps([ORDER]), "--wait", "30")
    helper.join()
    assert "m1 is REJECTED no cash" in done.stdout
    assert "RUNNING; no session trades" in done.stdout


def rejected(orders: Any) -> Any:
    update = {"status": type(orders[0].status).REJECTED, "status_reason": "no cash"}
    return (orders[0].model_copy(update=update),)


def test_silence_is_told_too(run: Run) -> None:
    done = run("set", keys.UI_STATE.name, '{"session_id": "s"}', "--wait", "0.2")
    assert "QBot has said nothing about it within 0.2 s" in done.stdout


def test_a_sign_of_life_without_a_session_waits_for_no_session(run: Run, board: Board) -> None:
    wanted = writing.wish(keys.UI_STATE, b'{"active_tab": "trades"}', clock.wall_now())
    body = {"key": "backend:system_health", "revision": 1, "time": "2026-03-02T12:00:00Z"}
    for value in ({"active_sessions": ["ui_1"]}, {}):
        raw = json.dumps({**body, "value": value}).encode()
        assert effects.effect_of(wanted, keys.UPDATES.name, raw) is None


# --- hostile values --------------------------------------------------------------------------------------------------

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e"  # a title, a cleared screen, a colour in one sign, writing reversed


def harmless(output: str) -> bool:
    """Whether nothing but text, line ends and rich's own colours is in it."""
    return all(one.isprintable() or one == "\n" for one in re.sub(r"\x1b\[[0-9;]*m", "", output))


@pytest.mark.parametrize(
    ("old", "new"),
    [({"a": 1}, {"a": 1, HOSTILE: 2}), ({HOSTILE: 1}, {HOSTILE: 2}), ({HOSTILE: 1}, {}), ([], [{HOSTILE: HOSTILE}]),
     ([{"order_id": HOSTILE, "x": 1}], [{"order_id": HOSTILE, "x": 2}]), (None, {HOSTILE: 1}), ("a", HOSTILE)],
)  # fmt: skip
def test_no_value_of_a_frontend_moves_the_cursor_of_who_watches(old: Any, new: Any) -> None:
    shown = io.StringIO()
    line = watching.Line(describe(old, new), keys.MANUAL_ORDERS.name, 1, "2026-09-25T14:00:00Z")
    drawing.tell(line, Console(file=shown, force_terminal=True, width=300), as_json=False)
    assert harmless(shown.getvalue())


def test_no_value_of_a_frontend_forges_a_line_of_a_watch_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    forged = '{"key":"autotrading:backend_status","revision":9,"time":"2026-09-25T14:00:00Z","value":"STOPPED"}'
    raw = f'{{"key":"frontend:manual_orders","value":[\r\n{forged}\n,"{HOSTILE[-5:]}"]}}'
    drawing.tell(watching.Line([], keys.MANUAL_ORDERS.name, 1, None, raw), Console(), as_json=True)
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == json.loads(raw)
    assert harmless(line)


def test_get_prints_the_same_json_without_what_moves_a_cursor(run: Run, redis_client: redis.Redis) -> None:
    orders = [{**ORDER, HOSTILE: HOSTILE, "note": "Käse 🧀"}]
    redis_client.set(keys.MANUAL_ORDERS.name, json.dumps(orders))
    done = run("get", keys.MANUAL_ORDERS.name)
    assert json.loads(done.stdout) == orders
    assert harmless(done.output)
    assert "Käse 🧀" in done.stdout


# --- watch -----------------------------------------------------------------------------------------------------------


def watched(run_until: int, found: installation.Installation, follower: watching.Follower) -> list[watching.Line]:
    """So many lines, or those of half a minute: fewer fail a test, waiting for ever would stop all of them."""
    lines: list[watching.Line] = []
    end = clock.monotonic_s() + 30
    for line in watching.follow(
        lambda: installation.client(found),
        [keys.UPDATES.name],
        follower,
        lambda: len(lines) >= run_until or clock.monotonic_s() > end,
    ):
        lines.append(line)
        if len(lines) >= run_until:
            break
    return lines


def test_a_lost_connection_missed_changes_and_a_rebuilt_board_are_told(
    run: Run, board: Board, redis_client: redis.Redis
) -> None:
    follower, lines = watching.Follower(), []
    found = installation.choose(False)

    def listen() -> None:
        lines.extend(watched(7, found, follower))

    def say(words: str) -> int:
        return board.write(keys.AUTOTRADING_ERROR, words, now=clock.wall_now())

    def listeners() -> int:
        return int(redis_client.pubsub_numsub(keys.UPDATES.name)[0][1])

    say("before")
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    wait_until(lambda: listeners() == 1 and follower.values, "the listener")
    say("one")
    wait_until(lambda: follower.revision == 2, "the first change")
    redis_client.client_kill_filter(_type="pubsub")
    wait_until(lambda: listeners() == 0, "the loss", every_s=0.002)  # half a second of it
    say("two")
    wait_until(lambda: listeners() == 1, "the connection")
    say("three")
    wait_until(lambda: follower.revision == 4, "the next change")
    redis_client.delete(keys.REVISION_COUNTER)
    say("four")
    thread.join(30)
    told = [line.words[0].words for line in lines]
    assert told[0] == "before → one"
    assert told[1].startswith("the connection is lost")
    assert told[2:4] == ["connected again", "1 change missed, revisions 3 to 3"]
    assert told[4] == "one → three"
    assert told[5] == "the revision went back from 4 to 1: the board was lost and is rebuilt"


@contextmanager
def _changing(board: Board) -> Iterator[None]:
    """A key that changes five times a second."""
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.wait(0.2):
            number += 1
            board.write(keys.AUTOTRADING_ERROR, f"told at once, {number}", now=clock.wall_now())

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_in_a_pipe_each_message_is_a_line_at_once_and_an_interrupt_ends_it_cleanly(
    environment: dict[str, str], redis_client: redis.Redis, board: Board
) -> None:
    command = [sys.executable, "-m", "qbot.cli", "contract", "--main", "watch", "--json", keys.AUTOTRADING_ERROR.name]
    env = {**os.environ, **environment}
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: int(redis_client.pubsub_numsub(keys.UPDATES.name)[0][1]) == 1, "the listener")
        board.write(keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.ERROR, now=clock.wall_now())
        assert process.stdout is not None
        with _changing(board):  # what changes before it has looked for the first time is no change to it
            assert json.loads(process.stdout.readline())["value"].startswith("told at once")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"a": 1, "time": "x"}, {"a": 2, "time": "y"}, ["a 1 → 2"]),
        ({"a": {"b": 2}}, {"a": {"b": 1, "c": 3}}, ["a.b 2 → 1", "+a.c 3"]),
        ({"time": "x"}, {"time": "y"}, ["as before but for its time"]),
        ([{"order_id": "1", "q": 1}], [{"order_id": "1", "q": 2}, {"order_id": "2", "q": 5}],
         ["+1", "1 q 1 → 2", "newest: q 5"]),
        ([1, 1, 2], [1, 2, 3], ["+1", "−1", "newest: 3"]),
        ([{"ticker": "A", "n": 1}], [{"ticker": "A", "n": 1}, {"ticker": "A", "n": 2}],
         ["+1", "newest: ticker A, n 2"]),
        ("RUNNING", "STOPPED", ["RUNNING → STOPPED"]),
        ("x", None, ["gone"]),
        (None, None, ["as before"]),
        (None, "x\x1b[2J", ["new: x [2J"]),
    ],
)  # fmt: skip
def test_a_change_is_told_in_a_few_words(old: Any, new: Any, words: list[str]) -> None:
    assert [part.words for part in describe(old, new)] == words


def test_numbers_are_coloured_by_where_they_went() -> None:
    assert [part.direction for part in describe({"a": 1, "b": 3, "c": "x"}, {"a": 2, "b": 1, "c": "y"})] == [1, -1, 0]


# --- which installation ----------------------------------------------------------------------------------------------


def test_a_running_demo_is_found_by_its_lock_with_its_own_port_and_clock(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "demo"
    (home / "redis").mkdir(parents=True)
    (home / "redis" / "redis.conf").write_text("bind 127.0.0.1\nport 7777\n")
    now = datetime(2026, 9, 25, tzinfo=UTC)
    (home / replay.CLOCK_FILE).write_text(Timeline(60.0, now, 0.0, ((now, now + timedelta(days=1)),)).to_json())
    assert installation.choose(None, home).demo is False
    with lock.held(home):
        found = installation.choose(None, home)
        both = installation.choose(False, home)
    assert (found.demo, found.address) == (True, "127.0.0.1:7777")
    assert found.timeline is not None
    assert found.timeline.speed == 60.0
    assert "replay 60×" in found.told()
    assert both.demo is False
    assert "the demo runs too" in both.told()


def test_looking_takes_the_least_rights_that_the_installation_has(run: Run) -> None:
    found = installation.choose(False)
    assert found.account(writes=False)[0] == "viewer"
    assert found.account(writes=True)[0] == "frontend"
    with installation.client(found) as client, pytest.raises(BoardUnavailable), installation.reaching(found):
        client.set(keys.UI_STATE.name, "{}")
