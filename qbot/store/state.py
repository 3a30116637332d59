"""The switch, settings revisions, alerts, and what a frontend asked for once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.session import Event, Switch
from qbot.store import locks, notifications
from qbot.store.tables import alerts, handled, settings_revisions, switch, switch_log

Row = Mapping[str, Any]


def load_switch(connection: Connection, *, for_update: bool = False) -> Switch:
    """The recorded switch; the one of a new installation is off. `for_update` lets one changer in at a time."""
    # Sent together, since a stop waits for each round trip. A statement of its own sees what is there under the lock.
    both = sa.text("SELECT pg_advisory_xact_lock(:key); SELECT * FROM switch").bindparams(key=locks.SWITCH)
    row = connection.execute(both if for_update else switch.select()).mappings().first()
    if row is None:
        return Switch()
    names = ("on", "session_id", "latched", "reason", "epoch", "stopping", "revision", "breaker", "reducing")
    return Switch(**{name: row[name] for name in names}, seen=row["seen"] or None)  # none yet: never looked


def save_switch(connection: Connection, state: Switch, events: Sequence[Event], wall: datetime) -> None:
    """Write the switch and log what happened to it."""
    values = {
        "on": state.on,
        "session_id": state.session_id,
        "latched": state.latched,
        "reason": state.reason,
        "seen": dict(state.seen or {}),
        "epoch": state.epoch,
        "stopping": state.stopping,
        "revision": state.revision,
        "breaker": state.breaker,
        "reducing": state.reducing,
        "changed_at_wall": wall,
    }
    upsert = insert(switch).values(one=True, **values)
    upsert = upsert.on_conflict_do_update(index_elements=[switch.c.one], set_=values)
    rows = [{"event": str(e), "session_id": state.session_id, "reason": state.reason, "at_wall": wall} for e in events]
    connection.execute(switch_log.insert().values(rows).add_cte(upsert.cte("saved")) if rows else upsert)


def commit_unsynced(connection: Connection) -> None:
    """Let this transaction commit without waiting for the disk: every other one sees it at once all the same.

    For a stop alone, which must not wait. The next commit that does wait makes it durable as well. Should Postgres
    crash before, the board tells: its sentinel, written first, names an epoch that Postgres does not know.
    """
    connection.execute(sa.text("SET LOCAL synchronous_commit TO OFF"))


def note_revision(connection: Connection, revision: int, epoch: int) -> None:
    """Remember how far the board's counter has come, unless the switch has changed since `epoch`."""
    further = sa.and_(switch.c.epoch == epoch, switch.c.revision < revision)
    connection.execute(switch.update().where(further).values(revision=revision))


def last_stop_wall(connection: Connection) -> datetime | None:
    """When trading last ended."""
    ended = switch_log.c.event.in_([Event.STOPPED, Event.LATCHED])
    return connection.execute(sa.select(sa.func.max(switch_log.c.at_wall)).where(ended)).scalar()


def revise_settings(connection: Connection, effective: Row, wall: datetime) -> tuple[int, bool]:
    """The revision of these effective settings, and whether it is a new one."""
    body = json.dumps(effective, sort_keys=True)
    newest = sa.select(settings_revisions.c.revision, settings_revisions.c.fingerprint)
    last = connection.execute(newest.order_by(settings_revisions.c.revision.desc()).limit(1)).first()
    if last is not None and last.fingerprint == body:
        return int(last.revision), False
    row = {"fingerprint": body, "effective": dict(effective), "made_at_wall": wall}
    made = connection.execute(settings_revisions.insert().values(**row).returning(settings_revisions.c.revision))
    return int(made.scalar_one()), True


def newest_settings(connection: Connection) -> dict[str, Any]:
    """The effective settings of the newest revision; empty before the first."""
    query = sa.select(settings_revisions.c.effective).order_by(settings_revisions.c.revision.desc()).limit(1)
    return dict(connection.execute(query).scalar() or {})


def first_time(connection: Connection, kind: str, key: str, wall: datetime, outcome: Row | None = None) -> bool:
    """True for the one caller who may act on this request; it is remembered for ever, with the transaction."""
    values = {"kind": kind, "key": key, "outcome": dict(outcome or {}), "at_wall": wall}
    done = connection.execute(insert(handled).values(**values).on_conflict_do_nothing().returning(handled.c.key))
    return done.first() is not None


def known(connection: Connection, kind: str, keys: Sequence[str]) -> dict[str, Row]:
    """The outcomes of those requests that were handled before."""
    query = sa.select(handled.c.key, handled.c.outcome).where(handled.c.kind == kind, handled.c.key.in_(list(keys)))
    return dict(connection.execute(query).all())


def set_outcome(connection: Connection, kind: str, key: str, outcome: Row) -> None:
    """Record how a request ended."""
    mine = sa.and_(handled.c.kind == kind, handled.c.key == key)
    connection.execute(handled.update().where(mine).values(outcome=dict(outcome)))


def raise_alerts(connection: Connection, rows: Sequence[Row]) -> list[str]:
    """Write alerts; one with an id that is there already is not raised again. The ids of the new ones.

    Whoever `notifications.new_alerts` listens hears of them once this transaction is committed.
    """
    if not rows:
        return []
    made = insert(alerts).on_conflict_do_nothing().returning(alerts.c.alert_id)
    new = list(connection.execute(made, [{"trouble": trouble_of(row), **row} for row in rows]).scalars())
    if new:
        notifications.tell(connection)
    return new


def trouble_of(row: Row) -> str:
    """What makes two alerts the same trouble where nothing better is known: their words."""
    words = "|".join(str(row[name]) for name in ("type", "title", "message", "symbol") if row[name] is not None)
    return hashlib.md5(words.encode(), usedforsecurity=False).hexdigest()


def active_alerts(connection: Connection, wall: datetime) -> list[Row]:
    """Alerts that have not expired, newest first."""
    query = alerts.select().where(alerts.c.expires_at_wall > wall).order_by(alerts.c.triggered_at_wall.desc())
    return [dict(row) for row in connection.execute(query.limit(100)).mappings()]
