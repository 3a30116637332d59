"""Telling a human: alerts in Postgres, shown on the board, and in the log in any case."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import structlog
from sqlalchemy.engine import Connection

from qbot.contract.payloads_backend import AlertType, Severity
from qbot.errors import StoreUnavailable
from qbot.runtime import Runtime
from qbot.store import state
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
ALERT_LIFE = timedelta(hours=1)


def raise_alert(
    rt: Runtime, kind: AlertType, severity: Severity, title: str, message: str, symbol: str | None = None
) -> None:
    """As `alert`, in a transaction of its own; without Postgres it is at least in the log."""
    try:
        with transaction(rt.engine) as connection:
            alert(rt, connection, kind, severity, title, message, symbol)
    except StoreUnavailable as error:
        log.error("alert_not_stored", title=title, message=message, why=str(error))


def alert(
    rt: Runtime,
    connection: Connection,
    kind: AlertType,
    severity: Severity,
    title: str,
    message: str,
    symbol: str | None = None,
) -> None:
    """Raise an alert; the same trouble alerts once an hour."""
    now = rt.wall()
    same = hashlib.sha256(f"{kind}{title}{message}{symbol}".encode()).hexdigest()[:16]
    row = {
        "alert_id": f"alert_{now:%Y%m%dT%H}_{same}",
        "type": str(kind),
        "severity": str(severity),
        "symbol": symbol,
        "title": title,
        "message": message[:1_000],
        "triggered_at_wall": now,
        "expires_at_wall": now + ALERT_LIFE,
    }
    if state.raise_alerts(connection, [row]):
        log.warning("alert", severity=str(severity), title=title, message=message)
