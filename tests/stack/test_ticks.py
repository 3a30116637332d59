"""Claims of ticks against a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from qbot import clock, ticks
from qbot.errors import StoreUnavailable
from qbot.store.beat_lock import BeatLock
from qbot.store.engine import make_engine
from tests.support.servers import free_port


@pytest.fixture
def on(postgres_url: str) -> Iterator[Engine]:
    engine = make_engine(postgres_url)
    yield engine
    engine.dispose()


def claimed(on: Engine, name: str = "trade_bot", age_s: float = 0.0) -> bool:
    with ticks.claim(name, clock.wall_now() - timedelta(seconds=age_s), on=on) as mine:
        return mine


def test_one_run_at_a_time_and_each_task_by_itself(on: Engine) -> None:
    with ticks.claim("trade_bot", clock.wall_now(), on=on) as first:
        assert first
        assert not claimed(on)
        assert claimed(on, "fetch_data")
    assert claimed(on)


def test_a_tick_sent_before_the_last_run_began_is_skipped_and_a_later_one_is_not(on: Engine) -> None:
    assert claimed(on)
    assert not claimed(on, age_s=5.0)
    assert claimed(on)


def test_a_tick_that_is_covered_locks_no_newer_one_out(on: Engine) -> None:
    assert claimed(on)
    with ticks.claim("trade_bot", clock.wall_now() - timedelta(seconds=5), on=on) as old:
        assert not old
        assert claimed(on)


def test_a_skipped_tick_does_not_count_as_a_run(on: Engine) -> None:
    sent = clock.wall_now()
    with ticks.claim("trade_bot", sent, on=on) as mine:
        assert mine
        assert not claimed(on)
    with on.connect() as connection:
        starts = connection.scalars(sa.text("SELECT started_at FROM task_ticks")).all()
    assert len(starts) == 1
    assert claimed(on)


def test_a_clock_that_was_set_back_does_not_keep_ticks_from_running(on: Engine) -> None:
    with ticks.claim("emergency_handler", clock.wall_now(), on=on) as mine:
        assert mine
        with on.begin() as connection:
            connection.execute(sa.text("UPDATE task_ticks SET started_at = started_at + interval '1 hour'"))
    assert claimed(on, "emergency_handler")


def test_an_error_inside_the_block_frees_the_claim_and_is_not_swallowed(on: Engine) -> None:
    with pytest.raises(ZeroDivisionError), ticks.claim("trade_bot", clock.wall_now(), on=on):
        _ = 1 / 0
    assert claimed(on)


def test_a_connection_that_breaks_during_a_run_frees_the_claim(on: Engine, postgres_url: str) -> None:
    other = make_engine(postgres_url)
    with ticks.claim("trade_bot", clock.wall_now(), on=on) as mine:
        assert mine
        with other.connect() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        assert claimed(other)
    other.dispose()


def test_without_postgres_only_a_task_that_does_not_need_it_runs() -> None:
    nowhere = make_engine(f"postgresql+psycopg2://a:b@127.0.0.1:{free_port()}/x")
    with pytest.raises(StoreUnavailable), ticks.claim("trade_bot", clock.wall_now(), on=nowhere):
        pytest.fail("it ran")
    with ticks.claim("emergency_handler", clock.wall_now(), needs_postgres=False, on=nowhere) as mine:
        assert mine


def test_a_server_that_only_reads_is_as_good_as_none(on: Engine, postgres_url: str) -> None:
    reading = sa.create_engine(postgres_url, connect_args={"options": "-c default_transaction_read_only=on"})
    with pytest.raises(StoreUnavailable):
        claimed(reading)
    with ticks.claim("emergency_handler", clock.wall_now(), needs_postgres=False, on=reading) as mine:
        assert mine
    reading.dispose()


def test_there_is_one_beat_and_it_knows_when_it_lost_its_lock(postgres_url: str) -> None:
    first, second = BeatLock(postgres_url), BeatLock(postgres_url)
    assert first.acquire(0.0)
    assert not second.acquire(0.0)
    with make_engine(postgres_url).connect() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
    assert not first.held()
    assert second.acquire(1.0)
    assert second.held()
    second.release()
