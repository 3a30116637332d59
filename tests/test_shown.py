"""What the board asks Postgres for besides the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from qbot import control, pipeline
from qbot.contract import keys
from qbot.contract.payloads_trading import MarketSession
from qbot.errors import CalendarUnavailable
from qbot.runtime import Runtime
from qbot.store import ledger, shown, state, tables
from qbot.store.engine import transaction
from qbot.types import Fill, Side
from tests.support.exchange import MID_SESSION
from tests.support.runtime import WALL, World


def alert(
    number: int, title: str = "t", *, minutes: int = 0, severity: str = "CRITICAL", **more: Any
) -> dict[str, Any]:
    at = WALL + timedelta(minutes=minutes)
    row = {
        "alert_id": f"a{number}", "type": "SYSTEM_ALERT", "severity": severity, "symbol": None, "title": title,
        "message": "m", "triggered_at_wall": at, "expires_at_wall": at + timedelta(hours=1), "acknowledged": False,
    }  # fmt: skip
    return {**row, **more}


def standing(world: World, *rows: dict[str, Any], after: timedelta) -> list[str]:
    with transaction(world.engine) as connection:
        state.raise_alerts(connection, rows)
        return [row["alert_id"] for row in shown.standing_alerts(connection, WALL + after)]


def test_a_critical_alert_stays_until_it_is_acknowledged_and_others_go_when_they_expire(world: World) -> None:
    rows = (alert(1, "crash"), alert(2, "late", severity="WARNING"), alert(3, "seen", acknowledged=True))
    assert standing(world, *rows, after=timedelta(minutes=59)) == ["a1", "a2", "a3"]
    assert standing(world, after=timedelta(days=9)) == ["a1"]
    with world.engine.begin() as connection:
        connection.execute(tables.alerts.update().values(acknowledged=True))
    assert standing(world, after=timedelta(days=9)) == []


def test_no_number_of_others_pushes_out_what_waits_for_a_human(world: World) -> None:
    flood = [alert(n, f"t{n}", minutes=1, severity="WARNING") for n in range(2, 2 + shown.ALERTS_MAX)]
    found = standing(world, alert(1, "crash"), *flood, after=timedelta(minutes=2))
    assert len(found) == shown.ALERTS_MAX
    assert found[-1] == "a1"


def test_trouble_that_is_told_every_hour_stands_there_once_and_seen_once_it_is_gone(world: World) -> None:
    hourly = [alert(number, minutes=60 * number) for number in range(3)]
    other = alert(9, symbol="AAPL", minutes=200)
    assert standing(world, *hourly, other, after=timedelta(days=1)) == ["a9", "a2"]
    with world.engine.begin() as connection:
        newest = tables.alerts.c.alert_id == "a2"
        connection.execute(tables.alerts.update().where(newest).values(acknowledged=True))
    assert standing(world, after=timedelta(days=1)) == ["a9"]


def test_the_newest_cycle_is_remembered_with_its_error(world: World) -> None:
    with transaction(world.engine) as connection:
        assert shown.last_cycle(connection) is None
        shown.record_cycle(connection, MID_SESSION, None, 1)
        shown.record_cycle(connection, MID_SESSION + timedelta(minutes=10), "broke", 2)
        row = shown.last_cycle(connection)
    assert row is not None
    assert (row["ran_at"], row["error"], row["worker_pid"]) == (MID_SESSION + timedelta(minutes=10), "broke", 2)


def test_the_volume_of_a_span_is_of_its_executions_the_end_excluded(world: World) -> None:
    fills = [
        Fill(f"x{hour}", "b", "AAPL", side, Decimal(2), Decimal("10.5"), MID_SESSION + timedelta(hours=hour))
        for hour, side in enumerate((Side.BUY, Side.SELL, Side.BUY))
    ]
    with transaction(world.engine) as connection:
        assert shown.traded_usd(connection, MID_SESSION, MID_SESSION + timedelta(hours=9)) == 0
        ledger.record_fills(connection, fills)
        assert shown.traded_usd(connection, MID_SESSION, MID_SESSION + timedelta(hours=2)) == 42


def far_future(world: World) -> Runtime:
    """A day that no calendar knows."""
    return replace(world.rt, market=lambda: MID_SESSION.replace(year=2262))


def test_without_a_calendar_the_board_says_error_and_a_cycle_trades_nothing(world: World) -> None:
    rt = far_future(world)
    pipeline.market_status(rt)
    pipeline.system_heartbeat(rt)
    assert world.told(keys.MARKET_STATUS).market_session is MarketSession.ERROR
    assert world.told(keys.SYSTEM_STATUS).market_open is None
    control.sync_switch(rt)
    with pytest.raises(CalendarUnavailable):
        pipeline.trade_bot(rt)
    assert "CalendarUnavailable" in world.told(keys.AUTOTRADING_ERROR)
    assert world.posts() == 0


def test_the_workers_are_running_once_every_queue_has_begun_a_task_lately(world: World) -> None:
    pipeline.system_heartbeat(world.rt)
    assert world.told(keys.SYSTEM_STATUS).worker_running is False
    pipeline.update_backend_responses(world.rt)
    assert world.told(keys.SYSTEM_HEALTH).status == "WARNING"
    tasks = ("emergency_handler", "trade_bot", "fetch_data", "system_heartbeat", "train_models")
    with world.engine.begin() as connection:
        rows = [{"name": name, "started_at": WALL} for name in tasks]
        connection.execute(tables.task_ticks.insert(), rows)
    pipeline.system_heartbeat(world.rt)
    status = world.told(keys.SYSTEM_STATUS)
    assert status.worker_running is True
    assert status.memory_usage_mb > 10
