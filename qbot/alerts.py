"""Telling a human: alerts in Postgres, with what is owed to each channel, and in the log in any case.

Whoever raises one waits for nobody. The listener hears of it as soon as it is committed, shows it on the board and has
it sent. Without Postgres it is sent from here, as well as that can be done.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from qbot import channels, clock, limits
from qbot.channels import Channel, Message
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.errors import StoreUnavailable
from qbot.runtime import Runtime
from qbot.store import notifications, state
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
Row = Mapping[str, Any]
ALERT_LIFE = timedelta(hours=1)
MESSAGE_MAX = 1_000  # characters


def raise_alert(
    rt: Runtime,
    kind: AlertType,
    severity: Severity,
    title: str,
    message: str,
    symbol: str | None = None,
    *,
    about: str | None = None,
) -> None:
    """As `alert`, in a transaction of its own. Without Postgres it is in the log, and sent at once to the channels."""
    row = _row(rt, kind, severity, title, message, symbol, about)
    try:
        with transaction(rt.engine) as connection:
            enter(rt, connection, [row])
    except StoreUnavailable as error:
        log.error("alert_not_stored", title=title, message=message, why=str(error))
        send_past_the_store(rt, row)


def alert(
    rt: Runtime,
    connection: Connection,
    kind: AlertType,
    severity: Severity,
    title: str,
    message: str,
    symbol: str | None = None,
    *,
    about: str | None = None,
    without: Sequence[str] = (),
) -> None:
    """Raise an alert; the same trouble alerts once an hour.

    `about`: what the trouble is about, where the message has something in it that changes from one time to the next.
    `without`: names of channels that are not told.
    """
    enter(rt, connection, [_row(rt, kind, severity, title, message, symbol, about)], without)


def enter(rt: Runtime, connection: Connection, rows: Sequence[Row], without: Sequence[str] = ()) -> list[str]:
    """Write alerts, and what is owed of them to the channels; the ids of the new ones. One that is there stays so."""
    new = set(state.raise_alerts(connection, rows))
    for row in rows:
        if row["alert_id"] in new:
            to = channels.wanted(row["severity"], rt.settings, without)
            notifications.owe(connection, [row["alert_id"]], to, rt.wall())
            tell = log.info if row["severity"] == Severity.INFO else log.warning
            tell("alert", severity=row["severity"], title=row["title"], message=row["message"])
    return sorted(new)


def _row(
    rt: Runtime,
    kind: AlertType,
    severity: Severity,
    title: str,
    message: str,
    symbol: str | None,
    about: str | None,
) -> Row:
    same = hashlib.sha256(f"{kind}{title}{message if about is None else about}{symbol}".encode()).hexdigest()[:16]
    return row_of(f"alert_{rt.wall():%Y%m%dT%H}_{same}", kind, severity, title, message, symbol, rt.wall(), same)


def row_of(
    alert_id: str,
    kind: AlertType,
    severity: Severity,
    title: str,
    message: str,
    symbol: str | None,
    wall: datetime,
    trouble: str | None = None,
    life: timedelta = ALERT_LIFE,
) -> dict[str, Any]:
    """An alert as it is stored. `trouble` is the same for the same trouble; by default, that of no other alert."""
    return {
        "alert_id": alert_id,
        "trouble": trouble or alert_id,
        "type": str(kind),
        "severity": str(severity),
        "symbol": symbol,
        "title": title,
        "message": message[:MESSAGE_MAX],
        "triggered_at_wall": wall,
        "expires_at_wall": wall + life,
    }


def message_of(row: Row) -> Message:
    """What a human reads of an alert; the id tells one that came twice."""
    at = f"{row['triggered_at_wall']:%Y-%m-%d %H:%M:%S} UTC"
    last = " · ".join(part for part in (row["symbol"], row["type"], at, row["alert_id"]) if part)
    return Message(row["severity"], row["title"], f"{row['message']}\n{last}")


# --- without Postgres -------------------------------------------------------------------------------------------------

_told: dict[str, None] = {}  # alert ids, oldest first: one process tells the same trouble once an hour
_TOLD_MAX = 1_000
_lock = threading.Lock()


def send_past_the_store(rt: Runtime, row: Row) -> list[threading.Thread]:
    """Send an alert that cannot be stored, in threads of their own, a few times at most. The threads."""
    if not channels.severe_enough(row["severity"], rt.settings) or not _first_time(row):
        return []
    message = message_of(row)
    threads = [
        threading.Thread(target=_send, args=(channel, message), name=f"notify {channel.name}", daemon=True)
        for channel in channels.channels_of(rt.settings)
    ]
    for thread in threads:
        thread.start()
    return threads


def _first_time(row: Row) -> bool:
    """False for what this process told before, and, but for what is critical, once it told enough within the hour."""
    alert_id = str(row["alert_id"])
    hour = alert_id.rpartition("_")[0]
    with _lock:
        this_hour = sum(told.startswith(hour) for told in _told)
        most = limits.NOTIFY_CRITICAL_PER_HOUR if row["severity"] == Severity.CRITICAL else limits.NOTIFY_PER_HOUR
        if alert_id in _told or this_hour >= most:
            return False
        _told[alert_id] = None
        if len(_told) > _TOLD_MAX:
            del _told[next(iter(_told))]
    return True


def _send(channel: Channel, message: Message) -> None:
    problem: str | None = None
    for attempt in range(limits.NOTIFY_DIRECT_ATTEMPTS):
        if attempt:
            clock.pause(2.0**attempt)
        problem = channel.send(message)
        if problem is None:
            log.info("notified_past_the_store", channel=channel.name)
            return
    log.error("not_notified", channel=channel.name, why=problem)
