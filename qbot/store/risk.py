"""The risk engine's memory: its log, where it stands, and circuit breakers that stand until a human resumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.risk_engine import Trip
from qbot.store import locks
from qbot.store.ledger import CLOSED, REJECTED, SENT
from qbot.store.tables import breakers, intents, orders, risk_log, risk_state, trades
from qbot.types import RiskReport, Source

Row = Mapping[str, Any]
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class State:
    """Where the engine stands. `lasting`: market and wall time since when trouble lasts.

    `baseline_at`: the last resume. `report`: what the engine said last, as `plain` makes it.
    """

    looked_at: datetime
    looked_at_wall: datetime
    peak_usd: Decimal | None = None
    baseline_at: datetime | None = None
    lasting: Mapping[str, Span] = field(default_factory=dict)
    report: Row | None = None


def plain(report: RiskReport) -> dict[str, Any]:
    """A report as JSON."""
    return {
        "at": report.at.isoformat(),
        "factor": str(report.factor),
        "reasons": list(report.reasons),
        "tripped": list(report.tripped),
        "rolling_loss_pct": str(report.rolling_loss_pct),
        "drawdown_pct": str(report.drawdown_pct),
    }


def report_of(body: Row) -> RiskReport:
    """Inverse of `plain`."""
    return RiskReport(
        at=datetime.fromisoformat(body["at"]),
        factor=Decimal(body["factor"]),
        reasons=tuple(body["reasons"]),
        tripped=tuple(body["tripped"]),
        rolling_loss_pct=Decimal(body["rolling_loss_pct"]),
        drawdown_pct=Decimal(body["drawdown_pct"]),
    )


def alone(connection: Connection) -> None:
    """One look or one resume at a time; held to the end of the transaction."""
    locks.within(connection, locks.RISK)


def load(connection: Connection) -> State | None:
    """None before the first look."""
    row = connection.execute(risk_state.select()).mappings().first()
    if row is None:
        return None
    lasting = {
        name: (datetime.fromisoformat(at), datetime.fromisoformat(wall)) for name, (at, wall) in row["lasting"].items()
    }
    values = {name: row[name] for name in ("looked_at", "looked_at_wall", "peak_usd", "baseline_at", "report")}
    return State(**values, lasting=lasting)


def last_report(connection: Connection) -> RiskReport | None:
    """What the engine said at its last look; None before the first."""
    body = connection.execute(sa.select(risk_state.c.report)).scalar()
    return report_of(body) if body else None


def save(connection: Connection, state: State) -> None:
    """Where the engine stands now."""
    values = {
        "looked_at": state.looked_at,
        "looked_at_wall": state.looked_at_wall,
        "peak_usd": state.peak_usd,
        "baseline_at": state.baseline_at,
        "lasting": {name: [at.isoformat(), wall.isoformat()] for name, (at, wall) in state.lasting.items()},
        "report": state.report,
    }
    upsert = insert(risk_state).values(one=True, **values)
    connection.execute(upsert.on_conflict_do_update(index_elements=[risk_state.c.one], set_=values))


def log(connection: Connection, report: RiskReport, numbers: Row, wall: datetime) -> None:
    """One change of the factor, its reasons or the breakers."""
    row = {
        "at": report.at,
        "at_wall": wall,
        "risk_factor": report.factor,
        "reasons": list(report.reasons),
        "tripped": list(report.tripped),
        "rolling_loss_pct": report.rolling_loss_pct,
        "drawdown_pct": report.drawdown_pct,
        "numbers": dict(numbers),
    }
    connection.execute(risk_log.insert().values(**row))


def history(connection: Connection, count: int) -> list[Row]:
    """The last changes, oldest first."""
    query = risk_log.select().order_by(risk_log.c.id.desc()).limit(count)
    return [dict(row) for row in reversed(connection.execute(query).mappings().all())]


def standing(connection: Connection) -> list[Row]:
    """The breakers that wait for a human, oldest first."""
    query = breakers.select().where(breakers.c.resumed_at.is_(None)).order_by(breakers.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def trip(connection: Connection, found: Sequence[Trip], at: datetime, wall: datetime) -> list[str]:
    """Record breakers; one that stands already is not recorded again. The names of the new ones."""
    if not found:
        return []
    rows = [
        {
            "name": one.name,
            "tripped_at": at,
            "tripped_at_wall": wall,
            "why": one.why,
            "advice": one.advice,
            "numbers": dict(one.numbers),
        }
        for one in found
    ]
    made = insert(breakers).on_conflict_do_nothing().returning(breakers.c.name)
    return list(connection.execute(made, rows).scalars())


def resume(connection: Connection, who: str, at: datetime, wall: datetime) -> None:
    """End every standing breaker; losses, rejections and trades count from here."""
    change = breakers.update().where(breakers.c.resumed_at.is_(None))
    connection.execute(change.values(resumed_at=at, resumed_at_wall=wall, resumed_by=who))
    before = load(connection)
    save(connection, State(at, wall, None, at, {}, before.report if before else None))


def begin_anew(connection: Connection, at: datetime) -> None:
    """Losses count from here: what came before was another account's, or money that came or went. Breakers stand."""
    connection.execute(risk_state.update().values(baseline_at=at, peak_usd=None))


def rejections(connection: Connection, since: datetime, count: int) -> list[bool]:
    """Of the last orders that were sent after `since`, oldest first, whether the venue rejected them.

    A human's own are left out: they see the refusal themselves, and it says nothing of what QBot does by itself.
    """
    refused = sa.or_(intents.c.status == REJECTED, orders.c.status == "rejected")
    sent = sa.and_(
        intents.c.status.in_((REJECTED, SENT, CLOSED)),
        intents.c.created_at > since,
        intents.c.source.not_in((Source.MANUAL, Source.EMERGENCY)),
    )
    # Marked as rejected too: what never went out, and what the venue had no time for.
    error = sa.func.coalesce(intents.c.error, "")
    unsent = sa.or_(error.startswith("not sent"), error.startswith("HTTP 429"))
    joined = intents.join(orders, orders.c.client_order_id == intents.c.client_order_id, isouter=True)
    query = sa.select(refused).select_from(joined).where(sent, ~unsent).order_by(intents.c.created_at.desc())
    return [bool(each) for each in reversed(connection.execute(query.limit(count)).scalars().all())]


def losses(connection: Connection, since: datetime, count: int) -> list[bool]:
    """Of the last trades that closed after `since`, oldest first, whether they lost.

    A trade is one entry order closed by one exit order.
    """
    closed = sa.func.max(trades.c.closed_at)
    query = (
        sa.select(sa.func.sum(trades.c.pnl_usd) < 0)
        .group_by(trades.c.entry_order_id, trades.c.exit_order_id)
        .having(closed > since)
        .order_by(closed.desc(), trades.c.exit_order_id)
        .limit(count)
    )
    return [bool(each) for each in reversed(connection.execute(query).scalars().all())]
