"""Measures the parts of the system: one PING, one broker clock, a few rows, and the processes of this installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import psutil

from beat_schedule import ENTRIES
from qbot import clock, grok_asking, limits, projections_system, sessions
from qbot.contract import keys, kinds
from qbot.contract.payloads_backend import ServiceStatus
from qbot.errors import BrokerError, StoreUnavailable
from qbot.market import at_hand
from qbot.market.calendar import known_hours
from qbot.projections_system import Health
from qbot.runtime import Runtime
from qbot.store import ledger, models, order_book, shown, sources
from qbot.store.engine import transaction

MEGABYTE = 1024 * 1024


def show_health(rt: Runtime) -> Health:
    """`backend:system_health`; what was found."""
    found = observe(rt)
    rt.board.write(keys.SYSTEM_HEALTH, projections_system.health(found, rt.wall()), now=rt.wall())
    return found


def show_status(rt: Runtime) -> None:
    """`system_status`: which parts are alive."""
    status = projections_system.status(observe(rt), rt.wall(), known_hours(rt.market()))
    rt.board.write(keys.SYSTEM_STATUS, status, now=rt.wall())


def observe(rt: Runtime) -> Health:
    """What works now. A part that does not answer shows as such; only without Redis is there nobody to tell."""
    begun = clock.monotonic_s()
    rt.board.ping()
    latency_ms = (clock.monotonic_s() - begun) * 1_000
    stored = _postgres(rt)
    ticks = stored.ticks if stored else {}
    still = silent(ticks, rt.wall(), clock.speed())
    processes = _processes()
    return Health(
        redis_latency_ms=round(latency_ms, 3),
        postgres_answers=stored is not None,
        broker_answers=_broker(rt),
        models_standing=stored.models_standing if stored else 0,
        silent_queues=still,
        last_fill_at=stored.last_fill_at if stored else None,
        open_orders=stored.open_orders if stored else 0,
        sessions=stored.sessions if stored else (),
        memory_mb=round(sum(_resident(p) for p in processes) / MEGABYTE, 1),
        cpu_pct=psutil.cpu_percent(interval=limits.CPU_SAMPLE_S),
        uptime_s=_uptime_s(processes),
        grok=stored.grok if stored else ServiceStatus.OFFLINE,
        sources=stored.sources if stored else {},
        fallen_silent=tuple(queue for queue in still if any(e.queue == queue and e.name in ticks for e in ENTRIES)),
    )


def silent(ticks: Mapping[str, datetime], wall: datetime, speed: float) -> tuple[str, ...]:
    """The queues none of whose tasks has begun a run lately: nobody works there. `ticks`: the last begin by task.

    One that is at work may be late by the time a run may take; apart from that three intervals may pass.
    """
    alive = set()
    for entry in ENTRIES:
        allowed_s = kinds.MISSED_WRITES * entry.interval_s(speed) + entry.limits_s(speed)[1]
        begun = ticks.get(entry.name)
        if begun is not None and (wall - begun).total_seconds() <= allowed_s:
            alive.add(entry.queue)
    return tuple(sorted({entry.queue for entry in ENTRIES} - alive))


def _broker(rt: Runtime) -> bool:
    try:
        rt.broker.clock()
    except BrokerError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Stored:
    """What Postgres tells: artifacts that serve, the last fill, open orders, each task's last begin, live sessions,
    what came of the last call of Grok, and whether each source of market data works that is at hand and was asked.
    """

    models_standing: int
    last_fill_at: datetime | None
    open_orders: int
    ticks: Mapping[str, datetime]
    sessions: tuple[str, ...]
    grok: ServiceStatus
    sources: Mapping[str, bool]


def _postgres(rt: Runtime) -> Stored | None:
    """None when it does not answer."""
    try:
        with transaction(rt.engine) as connection:
            trained, resting = models.usable(models.standing_artifacts(connection)), order_book.open_orders(connection)
            last_fill_at, ticks = ledger.last_fill_at(connection), shown.last_ticks(connection)
            active, grok = sessions.active(connection, rt.wall()), grok_asking.status(rt, connection)
            asked = sources.outcomes(connection)
    except StoreUnavailable:
        return None
    here = {plan.source for plan in at_hand.plans(rt.settings)}
    works = {name: outcome.works for name, outcome in asked.items() if name in here}
    return Stored(len(trained), last_fill_at, len(resting), ticks, active, grok, works)


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
