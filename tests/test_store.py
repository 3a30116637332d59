"""Tables and migrations, bars, artifacts, forecasts, settings, alerts and what was asked for once."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from qbot.errors import StoreUnavailable
from qbot.session import Event, Switch
from qbot.store import bars, locks, maturing, migrate, models, state, tables
from qbot.store.engine import make_engine, transaction
from qbot.types import Forecast
from tests.support.exchange import MID_SESSION
from tests.support.runtime import WALL, World
from tests.support.servers import PostgresServer

# --- migrations -------------------------------------------------------------------------------------------------------


def test_the_migrations_make_exactly_the_tables_and_a_second_upgrade_changes_nothing(postgres_url: str) -> None:
    assert migrate.differences(postgres_url) == []
    migrate.upgrade(postgres_url)
    assert migrate.differences(postgres_url) == []


def test_a_table_that_differs_is_noticed(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE intents DROP COLUMN error"))
    assert any("error" in line for line in migrate.differences(postgres_url))
    engine.dispose()


def test_several_processes_may_upgrade_at_once(postgres_server: PostgresServer) -> None:
    errors: list[BaseException] = []
    with postgres_server.new_database("template1") as url:

        def upgrade() -> None:
            try:
                migrate.upgrade(url)
            except BaseException as error:  # noqa: BLE001  told by the test's own thread
                errors.append(error)

        # Alembic's context is one a process, so what is shown here is the lock: one after the other.
        with make_engine(url).begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": locks.MIGRATIONS})
            waiting = threading.Thread(target=upgrade)
            waiting.start()
            waiting.join(0.5)
            assert waiting.is_alive()
            tables_then = connection.execute(sa.text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
            assert tables_then.scalar_one() == 0
        waiting.join(30)
        assert errors == []
        assert migrate.differences(url) == []


# --- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_that_fails_leaves_nothing(world: World) -> None:
    with pytest.raises(RuntimeError), transaction(world.engine) as connection:
        state.raise_alerts(connection, [alert("a1")])
        raise RuntimeError
    assert world.rows(tables.alerts) == []


def test_where_no_connection_gets_free_the_store_is_unavailable(postgres_url: str) -> None:
    engine = make_engine(postgres_url, pool_size=1)
    engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    held = [engine.connect() for _ in range(5)]
    with pytest.raises(StoreUnavailable, match="no connection is free"), transaction(engine):
        pass
    for connection in held:
        connection.close()
    engine.dispose()


def test_a_server_that_goes_away_in_the_middle_is_a_named_error_and_the_next_transaction_works(world: World) -> None:
    with pytest.raises(StoreUnavailable), transaction(world.engine) as connection:
        state.raise_alerts(connection, [alert("a1")])
        victim = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": victim})
        state.raise_alerts(connection, [alert("a2")])
    assert world.rows(tables.alerts) == []


def test_a_lock_has_one_owner_and_is_free_after_it(world: World) -> None:
    order: list[str] = []

    def second() -> None:
        with locks.hold(world.engine, locks.STREAM):
            order.append("second")

    with locks.hold(world.engine, locks.STREAM):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_no_two_locks_are_the_same() -> None:
    numbers = [value for name, value in vars(locks).items() if name.isupper()]
    assert len(numbers) == len(set(numbers)) >= 5


# --- bars -------------------------------------------------------------------------------------------------------------


def frame(*rows: tuple[str, int, float]) -> pd.DataFrame:
    made = [(symbol, MID_SESSION + timedelta(minutes=5 * n), c, c, c, c, 10.0) for symbol, n, c in rows]
    return pd.DataFrame(made, columns=list(bars.COLUMNS))


def test_a_corrected_bar_replaces_the_one_before(world: World) -> None:
    with transaction(world.engine) as connection:
        assert bars.upsert(connection, frame(("AAPL", 0, 1.0), ("AAPL", 1, 2.0)), "a") == 2
        assert bars.upsert(connection, frame(("AAPL", 1, 2.5)), "b") == 1
    assert [(row["close"], row["source"]) for row in world.rows(tables.bars)] == [(1.0, "a"), (2.5, "b")]


def test_bars_are_read_by_symbol_and_time_the_end_excluded(world: World) -> None:
    with transaction(world.engine) as connection:
        bars.upsert(connection, frame(("MSFT", 1, 5.0), ("AAPL", 2, 3.0), ("AAPL", 0, 1.0), ("SPY", 0, 9.0)), "a")
        found = bars.load(connection, ["AAPL", "MSFT"], MID_SESSION, MID_SESSION + timedelta(minutes=10))
        assert list(found[["symbol", "close"]].itertuples(index=False, name=None)) == [("AAPL", 1.0), ("MSFT", 5.0)]
        assert str(found["ts"].dt.tz) == "UTC"
        assert bars.last_starts(connection, ["AAPL", "NOPE"]) == {"AAPL": MID_SESSION + timedelta(minutes=10)}


def test_no_bars_are_an_empty_frame_with_the_same_columns(world: World) -> None:
    with transaction(world.engine) as connection:
        assert bars.upsert(connection, frame(), "a") == 0
        found = bars.load(connection, ["AAPL"], MID_SESSION, MID_SESSION)
    assert (len(found), tuple(found.columns)) == (0, bars.LOADED)


# --- artifacts and forecasts ------------------------------------------------------------------------------------------


def artifact(number: int, horizon: int = 60) -> dict[str, Any]:
    return {
        "artifact_id": f"a{number}", "horizon_minutes": horizon, "path": "/x", "sha256": "0", "features": ["f"],
        "metrics": {"mae": 1}, "skilled": False,
    }  # fmt: skip


def trained(world: World, number: int, *found: dict[str, Any], status: str = models.SUCCESS) -> None:
    with transaction(world.engine) as connection:
        at = WALL + timedelta(minutes=number)
        models.start_training(connection, f"t{number}", "manual", MID_SESSION, at)
        models.finish_training(connection, f"t{number}", status, {"n": number}, found, MID_SESSION, at)


def test_one_artifact_a_horizon_stands_and_the_next_training_replaces_it(world: World) -> None:
    trained(world, 1, artifact(1), artifact(2, 15))
    trained(world, 2, artifact(3))
    trained(world, 3, status=models.FAILED)
    with transaction(world.engine) as connection:
        standing = models.standing_artifacts(connection)
        recent = models.recent_trainings(connection, 2)
    assert {horizon: row["artifact_id"] for horizon, row in standing.items()} == {60: "a3", 15: "a2"}
    assert [(row["training_id"], row["status"]) for row in recent] == [("t2", "success"), ("t3", "failed")]


def forecast(symbol: str = "AAPL", horizon: int = 60, minutes: int = 0, value: float = 0.01) -> Forecast:
    at = MID_SESSION + timedelta(minutes=minutes)
    return Forecast(f"{symbol}:{horizon}:{minutes}", symbol, horizon, at, 100.0, value, 0.0, 0.02, 0.9, "a1", True)


def test_the_newest_forecast_of_each_symbol_and_horizon_counts_while_it_is_young(world: World) -> None:
    made = [forecast(), forecast(minutes=15), forecast(horizon=15, minutes=5), forecast("MSFT", minutes=-90)]
    trained(world, 1, artifact(1))
    with transaction(world.engine) as connection:
        models.add_forecasts(connection, [])
        models.add_forecasts(connection, made)
        models.add_forecasts(connection, [forecast(value=0.5)])  # made before: left as it was
        found = models.latest_forecasts(connection, MID_SESSION - timedelta(hours=1))
    assert found == [made[2], made[1]]


def test_a_forecast_is_due_when_its_time_has_come_until_its_outcome_is_known(world: World) -> None:
    trained(world, 1, artifact(1))
    bar, at = timedelta(minutes=5), MID_SESSION + timedelta(minutes=15)
    with transaction(world.engine) as connection:
        models.add_forecasts(connection, [forecast(), forecast(horizon=15), forecast("MSFT", 15)])
        first, second = maturing.due(connection, at, bar, 10)
        assert [first["forecast_id"], second["forecast_id"]] == ["AAPL:15:0", "MSFT:15:0"]
        assert maturing.due(connection, at, bar, 1) == [first]
        assert maturing.due(connection, at, bar, 10, (first["eta"], first["forecast_id"])) == [second]
        maturing.settle(connection, [], at)
        maturing.settle(connection, [("AAPL:15:0", 101.0, None), ("MSFT:15:0", None, "no bar")], at)
        maturing.settle(connection, [("AAPL:15:0", 99.0, None)], at + bar)  # what is settled stays
        assert maturing.due(connection, at, bar, 10) == []
        assert [row["horizon_minutes"] for row in models.pending_forecasts(connection, at)] == [60]
        assert [row["actual_price_usd"] for row in models.recent_outcomes(connection, 10)] == [101.0]


# --- switch, settings, alerts, requests -------------------------------------------------------------------------------


def alert(alert_id: str, at: datetime = WALL) -> dict[str, Any]:
    return {
        "alert_id": alert_id, "type": "SYSTEM_ALERT", "severity": "WARNING", "symbol": None, "title": "t",
        "message": "m", "triggered_at_wall": at, "expires_at_wall": at + timedelta(hours=1),
    }  # fmt: skip


def test_a_switch_comes_back_as_it_was_saved_and_a_new_one_is_off(world: World) -> None:
    saved = Switch(True, "s1", False, "started", {"enabled": "abc", "risk": None}, 7)
    with transaction(world.engine) as connection:
        assert state.load_switch(connection) == Switch()
        state.save_switch(connection, saved, [Event.STARTED], WALL)
        state.save_switch(connection, saved, [], WALL)
        assert state.load_switch(connection) == saved
        assert state.last_stop_wall(connection) is None
        state.save_switch(connection, saved, [Event.STOPPED], WALL + timedelta(minutes=1))
        assert state.last_stop_wall(connection) == WALL + timedelta(minutes=1)
    assert [row["event"] for row in world.rows(tables.switch_log)] == ["started", "stopped"]


def test_only_one_may_change_the_switch_at_a_time_and_all_may_read_it(world: World) -> None:
    entered = threading.Event()

    def second() -> None:
        with transaction(world.engine) as connection:
            state.load_switch(connection, for_update=True)
            entered.set()

    with transaction(world.engine) as connection:
        state.load_switch(connection, for_update=True)
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
        with transaction(world.engine) as reader:
            assert not state.load_switch(reader).on
    assert entered.wait(10)
    thread.join()


def test_the_same_settings_are_one_revision_and_going_back_is_a_new_one(world: World) -> None:
    with transaction(world.engine) as connection:
        assert state.newest_settings(connection) == {}
        first = state.revise_settings(connection, {"config": {"b": 1, "a": 2}}, WALL)
        again = state.revise_settings(connection, {"config": {"a": 2, "b": 1}}, WALL)
        changed = state.revise_settings(connection, {"config": {"a": 3}}, WALL)
        back = state.revise_settings(connection, {"config": {"a": 2, "b": 1}}, WALL)
        assert state.newest_settings(connection) == {"config": {"a": 2, "b": 1}}
    assert (first, again, changed, back) == ((1, True), (1, False), (2, True), (3, True))


def test_an_alert_is_raised_once_and_seen_until_it_expires(world: World) -> None:
    with transaction(world.engine) as connection:
        assert state.raise_alerts(connection, []) == []
        assert state.raise_alerts(connection, [alert("a1"), alert("a2", WALL + timedelta(minutes=1))]) == ["a1", "a2"]
        assert state.raise_alerts(connection, [alert("a1")]) == []
        assert [row["alert_id"] for row in state.active_alerts(connection, WALL)] == ["a2", "a1"]
        assert [row["alert_id"] for row in state.active_alerts(connection, WALL + timedelta(hours=1))] == ["a2"]


def test_a_request_is_done_by_one_of_those_who_try_at_once_and_its_outcome_is_remembered(world: World) -> None:
    firsts: list[bool] = []
    together = threading.Barrier(4)

    def try_it() -> None:
        together.wait(10)
        with transaction(world.engine) as connection:
            firsts.append(state.first_time(connection, "manual_order", "o1", WALL, {"status": "?"}))

    threads = [threading.Thread(target=try_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(firsts) == [False, False, False, True]
    with transaction(world.engine) as connection:
        assert state.first_time(connection, "emergency", "o1", WALL)  # another kind is another request
        state.set_outcome(connection, "manual_order", "o1", {"status": "done"})
        assert state.known(connection, "manual_order", ["o1", "o2"]) == {"o1": {"status": "done"}}
