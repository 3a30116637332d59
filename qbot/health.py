"""Measures the parts of the system: one PING, one broker clock, a few rows, and the processes of this installation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import psutil

from qbot import clock
from qbot.contract import keys
from qbot.errors import BrokerError, StoreUnavailable
from qbot.projections_system import Health
from qbot.runtime import Runtime
from qbot.store import ledger, models
from qbot.store.engine import transaction

MEGABYTE = 1024 * 1024


def observe(rt: Runtime) -> Health:
    """What works now. A part that does not answer shows as such; only without Redis is there nobody to tell."""
    begun = clock.monotonic_s()
    rt.board.ping()
    latency_ms = (clock.monotonic_s() - begun) * 1_000
    answers, trained, last_fill_at, open_orders = _postgres(rt)
    ui = rt.board.read(keys.UI_STATE).value
    session = rt.board.read(keys.AUTOTRADING_SESSION_ACTIVE).value
    sessions = sorted({name for name in (session, ui.session_id if ui else None) if name})
    processes = _processes()
    return Health(
        redis_latency_ms=round(latency_ms, 3),
        postgres_answers=answers,
        broker_answers=_broker(rt),
        models_standing=trained,
        last_fill_at=last_fill_at,
        open_orders=open_orders,
        sessions=tuple(sessions),
        memory_mb=round(sum(_resident(p) for p in processes) / MEGABYTE, 1),
        cpu_pct=psutil.cpu_percent(interval=None),
        uptime_s=_uptime_s(processes),
    )


def _broker(rt: Runtime) -> bool:
    try:
        rt.broker.clock()
    except BrokerError:
        return False
    return True


def _postgres(rt: Runtime) -> tuple[bool, int, datetime | None, int]:
    """Whether it answers, and then: artifacts that serve, the last fill, open orders."""
    try:
        with transaction(rt.engine) as connection:
            trained = len(models.standing_artifacts(connection))
            return True, trained, ledger.last_fill_at(connection), len(ledger.open_orders(connection))
    except StoreUnavailable:
        return False, 0, None, 0


def _processes() -> list[psutil.Process]:
    """All processes under the supervisor of this one; this one alone when nothing supervises it."""
    top = psutil.Process()
    for parent in top.parents():
        if parent.pid <= 1 or "qbot" not in " ".join(_command(parent)):
            break
        top = parent
    return [top, *top.children(recursive=True)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _uptime_s(processes: Sequence[psutil.Process]) -> int:
    return max(0, int(clock.wall_now().timestamp() - processes[0].create_time()))
