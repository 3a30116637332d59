"""The beat schedule: the list, its rows in the database, and beats that fire from them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

import beat_schedule
from beat_schedule import ENTRIES, PREFIX
from qbot.clock import Timeline
from qbot.settings import ROOT
from qbot.store.beat_lock import BeatLock
from tasks.app import app
from tests.support.processes import environment_of, settings_for, started
from tests.support.servers import RedisServer, wait_until

DOCUMENTED_S = {
    "fetch_data": 300,
    "generate_predictions": 900,
    "trade_bot": 600,
    "monitor_autotrading_frontend": 60,
    "system_heartbeat": 30,
    "sync_frontend_settings": 120,
    "process_manual_orders": 30,
    "update_backend_responses": 30,
    "emergency_handler": 10,
    "performance_calculator": 300,
}
ENTRY = st.sampled_from(ENTRIES)
SPEED = st.floats(1.0, 1000.0)


def test_the_documented_tasks_run_at_the_documented_intervals() -> None:
    every = {entry.name: entry.every_s for entry in ENTRIES}
    assert {name: every.get(name) for name in DOCUMENTED_S} == DOCUMENTED_S
    assert len(every) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_has_its_task_on_its_queue(entry: beat_schedule.Entry) -> None:
    importlib.import_module(f"tasks.{entry.name}")
    task = app.tasks[entry.task]
    assert task.tick_queue == entry.queue
    assert app.amqp.router.route({}, entry.task)["queue"].name == entry.queue
    assert task.time_limit > task.soft_time_limit > 0


@given(ENTRY, SPEED)
def test_only_market_tasks_run_faster_in_a_replay_and_none_too_fast(entry: beat_schedule.Entry, speed: float) -> None:
    interval = entry.interval_s(speed)
    assert interval >= beat_schedule.FASTEST_S
    assert interval <= entry.every_s
    if not entry.market:
        assert interval == entry.every_s


@given(ENTRY, SPEED)
def test_the_soft_limit_comes_before_the_hard_one_and_no_run_is_delivered_twice(
    entry: beat_schedule.Entry, speed: float
) -> None:
    soft, hard = entry.limits_s(speed)
    assert 0 < soft < hard <= beat_schedule.LONGEST_RUN_S


@given(ENTRY)
def test_in_real_time_a_run_is_over_before_its_successor_is_due(entry: beat_schedule.Entry) -> None:
    if entry.soft_s is None:  # the others say why they may take longer; their ticks collapse
        assert entry.limits_s(1.0)[1] < entry.every_s


class Database:
    """A database that `qbot.web.migrate` was run on, as often as asked."""

    def __init__(self, url: str, env: dict[str, str], folder: Path) -> None:
        self._url, self.env, self._folder = url.replace("+psycopg2", ""), env, folder

    def migrate(self, **more: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "qbot.web.migrate"], env=self.env | more, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg2.connect(self._url) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def rows(self) -> dict[str, tuple[Any, ...]]:
        statement = (
            "SELECT p.name, p.task, p.queue, i.every, i.period, p.expire_seconds, p.expires, p.enabled "
            "FROM django_celery_beat_periodictask p JOIN django_celery_beat_intervalschedule i ON i.id = p.interval_id"
        )
        return {row[0]: row[1:] for row in self.ask(statement)}


@pytest.fixture(scope="module")
def database(
    module_postgres_url: str, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("schedule")
    values = settings_for(folder, redis_server, module_postgres_url)
    made = Database(module_postgres_url, environment_of(values), folder)
    made.migrate()
    yield made


def test_every_entry_has_its_row_with_expiry_in_seconds(database: Database) -> None:
    expected = {PREFIX + e.name: (e.task, e.queue, e.every_s, "seconds", e.every_s, None, True) for e in ENTRIES}
    assert {name: row for name, row in database.rows().items() if name.startswith(PREFIX)} == expected


def test_rows_that_left_the_code_go_and_an_owners_own_and_his_switches_stay(database: Database) -> None:
    table = "django_celery_beat_periodictask"
    copy = f"INSERT INTO {table} SELECT (jsonb_populate_record(p, jsonb_build_object('id', %s, 'name', '%s'))).* FROM {table} p WHERE name = 'qbot:trade_bot'"  # noqa: E501, S608
    database.ask(copy % (9001, "qbot:left_the_code"))
    database.ask(copy % (9002, "my own"))
    database.ask(f"UPDATE {table} SET enabled = false WHERE name = 'qbot:market_status'")  # noqa: S608
    before = database.ask("SELECT last_update FROM django_celery_beat_periodictasks")
    database.migrate()
    rows = database.rows()
    assert "qbot:left_the_code" not in rows
    assert "my own" in rows
    assert rows["qbot:market_status"][-1] is False
    assert database.ask("SELECT last_update FROM django_celery_beat_periodictasks") > before


def test_in_a_replay_the_rows_are_scaled(database: Database, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    (tmp_path / "clock.json").write_text(Timeline(60.0, now, 0.0, ((now, now + timedelta(hours=6)),)).to_json())
    database.migrate(QBOT_CLOCK_FILE=str(tmp_path / "clock.json"))
    every = {name.removeprefix(PREFIX): row[2] for name, row in database.rows().items()}
    assert (every["fetch_data"], every["generate_predictions"], every["trade_bot"]) == (5, 15, 10)
    assert (every["reconcile_orders"], every["system_heartbeat"]) == (2, 30)


def test_django_does_not_start_without_a_secret_key(database: Database) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qbot.web.migrate"],
        env=database.env | {"QBOT_DJANGO_SECRET_KEY": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "QBOT_DJANGO_SECRET_KEY is empty" in done.stderr


def test_a_second_beat_does_not_fire_until_the_first_is_gone(
    database: Database, module_postgres_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    database.migrate()
    first = BeatLock(module_postgres_url)
    assert first.acquire(5.0)
    ready, log = tmp_path / "ready", tmp_path / "log"
    env = database.env | {"QBOT_READY_FILE": str(ready), "DJANGO_SETTINGS_MODULE": "qbot.web.settings"}
    args = [
        "-m",
        "celery",
        "-A",
        "tasks.app",
        "beat",
        "-S",
        "qbot.web.scheduler:SingleScheduler",
        "--pidfile=",
        "-l",
        "INFO",
    ]
    with started(args, env, log) as beat:
        asking = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock%'"
        wait_until(lambda: database.ask(asking) == [(2,)], "the second beat to ask")
        assert not ready.exists()
        assert redis_client.keys("*") == []
        first.release()
        wait_until(lambda: redis_client.llen("emergency") == 1 and redis_client.llen("misc") >= 4, "its ticks")
        assert ready.read_text().split()[0] == str(beat.pid)
        os.kill(beat.pid, 15)
        beat.wait(10)
