"""Which alert is owed to which channel: the outbox of notifications, and who is woken when an alert is raised."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection, Engine

from qbot.errors import StoreUnavailable
from qbot.store.tables import alerts, notifications

Row = Mapping[str, Any]
SENT, GIVEN_UP, HELD, SUMMED = "sent", "given_up", "held", "summed"
RAISED = "qbot_alerts"  # Postgres' own channel: heard when the transaction that raised an alert is committed


def tell(connection: Connection) -> None:
    """Wake whoever waits for new alerts, once this transaction is committed."""
    connection.execute(sa.select(sa.func.pg_notify(RAISED, "")))


@contextmanager
def new_alerts(engine: Engine) -> Iterator[Callable[[float], bool]]:
    """Yields a wait for new alerts: True when some were raised, False after so many seconds without one.

    Raises StoreUnavailable when the connection cannot be made or is lost; a new one is made then.
    """
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    except sa.exc.DBAPIError as error:
        raise StoreUnavailable(f"Postgres: {error.orig}") from error
    try:
        connection.detach()  # its own: nobody else must get it with what it subscribed to
        connection.execute(sa.text(f"LISTEN {RAISED}"))
        raw: Any = connection.connection.dbapi_connection

        def wait(timeout_s: float) -> bool:
            if select.select([raw], [], [], timeout_s)[0]:
                try:
                    raw.poll()
                except raw.Error as error:
                    raise StoreUnavailable(f"Postgres: {error}") from error
            heard = bool(raw.notifies)
            raw.notifies.clear()
            return heard

        yield wait
    except sa.exc.DBAPIError as error:
        raise StoreUnavailable(f"Postgres: {error.orig}") from error
    finally:
        connection.close()


def owe(connection: Connection, alert_ids: Sequence[str], channels: Sequence[str], wall: datetime) -> None:
    """From now on these channels have to be told these alerts, each once."""
    rows = [{"alert_id": one, "channel": to, "next_try_wall": wall} for one in alert_ids for to in channels]
    if rows:
        connection.execute(insert(notifications).on_conflict_do_nothing(), rows)


def claim(connection: Connection, channel: str, wall: datetime, lease: timedelta) -> Row | None:
    """The most urgent alert that is due to a channel, for the caller alone until the lease ends; None when none is.

    It counts as tried: whoever dies with it in hand leaves it to the next one, after the lease.
    """
    owed, critical = notifications.c, sa.case((alerts.c.severity == "CRITICAL", 0), else_=1)
    due = sa.and_(owed.channel == channel, owed.outcome.is_(None), owed.next_try_wall <= wall)
    first = (
        sa.select(owed.alert_id)
        .join_from(notifications, alerts)
        .where(due)
        .order_by(critical, owed.attempts, alerts.c.triggered_at_wall, owed.alert_id)
        .limit(1)
        .with_for_update(of=notifications, skip_locked=True)
        .scalar_subquery()
    )
    mine = sa.and_(owed.channel == channel, owed.alert_id == first, owed.alert_id == alerts.c.alert_id)
    change = notifications.update().where(mine).values(attempts=owed.attempts + 1, next_try_wall=wall + lease)
    row = connection.execute(change.returning(owed.attempts, *alerts.c)).mappings().first()
    return dict(row) if row else None


def put_off(connection: Connection, alert_id: str, channel: str, until: datetime, problem: str) -> None:
    """To be tried again then."""
    change = notifications.update().where(_of(alert_id, channel))
    connection.execute(change.values(next_try_wall=until, problem=problem))


def end(
    connection: Connection, alert_ids: Sequence[str], channel: str, outcome: str, wall: datetime, problem: str | None
) -> None:
    """It is owed no longer, and why."""
    mine = sa.and_(notifications.c.alert_id.in_(alert_ids), notifications.c.channel == channel)
    connection.execute(notifications.update().where(mine).values(outcome=outcome, ended_at_wall=wall, problem=problem))


def sent_since(connection: Connection, channel: str, since: datetime) -> int:
    """How many alerts a channel was told since then."""
    lately = sa.and_(notifications.c.channel == channel, notifications.c.ended_at_wall > since)
    query = sa.select(sa.func.count()).where(lately, notifications.c.outcome == SENT)
    return int(connection.execute(query).scalar_one())


def held_back(connection: Connection, channel: str) -> list[Row]:
    """What a channel was not told and no summary has told of yet, oldest first; with `held_at_wall`."""
    held = sa.and_(notifications.c.channel == channel, notifications.c.outcome == HELD)
    query = sa.select(*alerts.c, notifications.c.ended_at_wall.label("held_at_wall")).join_from(notifications, alerts)
    return [dict(row) for row in connection.execute(query.where(held).order_by("held_at_wall")).mappings()]


def overdue(connection: Connection, channels: Sequence[str], before: datetime) -> bool:
    """Whether a channel should have been told something by then and was not: nobody is at it."""
    owed = sa.and_(notifications.c.outcome.is_(None), notifications.c.next_try_wall < before)
    query = sa.select(notifications.c.alert_id).where(owed, notifications.c.channel.in_(channels)).limit(1)
    return connection.execute(query).first() is not None


def give_up_on_others(connection: Connection, channels: Sequence[str], wall: datetime) -> None:
    """Nothing is owed any more to channels that are gone from the settings."""
    gone = sa.and_(notifications.c.outcome.is_(None), notifications.c.channel.not_in(channels))
    values = {"outcome": GIVEN_UP, "ended_at_wall": wall, "problem": "no such channel any more"}
    connection.execute(notifications.update().where(gone).values(**values))


def prune(connection: Connection, before: datetime) -> int:
    """Remove alerts that expired before then, with what was owed of them; the number.

    What waits for a human stays, as told last.
    """
    later = alerts.alias("later")
    told_again = sa.exists().where(
        later.c.trouble == alerts.c.trouble, later.c.triggered_at_wall > alerts.c.triggered_at_wall
    )
    goes = sa.or_(alerts.c.severity != "CRITICAL", alerts.c.acknowledged, told_again)
    old = alerts.delete().where(alerts.c.expires_at_wall < before, goes)
    return len(connection.execute(old.returning(alerts.c.alert_id)).all())


def _of(alert_id: str, channel: str) -> sa.ColumnElement[bool]:
    return sa.and_(notifications.c.alert_id == alert_id, notifications.c.channel == channel)
