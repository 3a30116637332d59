"""Which user interfaces were seen, and what the inputs held when they were last looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import input_sightings, ui_sessions


def seen(connection: Connection, keys: Sequence[str]) -> dict[str, list[str]]:
    """What these keys held at the last look; a key never looked at is left out."""
    query = sa.select(input_sightings.c.key, input_sightings.c.elements).where(input_sightings.c.key.in_(keys))
    return {key: list(elements) for key, elements in connection.execute(query)}


def note(connection: Connection, held: Mapping[str, Sequence[str]], wall: datetime) -> None:
    """Remember what the keys hold now."""
    rows = [{"key": key, "elements": list(held[key]), "seen_wall": wall} for key in sorted(held)]
    upsert = insert(input_sightings)
    changed = {name: upsert.excluded[name] for name in ("elements", "seen_wall")}
    connection.execute(upsert.on_conflict_do_update(index_elements=[input_sightings.c.key], set_=changed), rows)


def alive(connection: Connection, session_ids: Sequence[str], wall: datetime) -> list[str]:
    """These sessions wrote just now. Those among them that were not open: new, or ended before."""
    if not session_ids:
        return []
    was_open = sa.select(ui_sessions.c.session_id).where(
        ui_sessions.c.session_id.in_(session_ids), ui_sessions.c.ended_at_wall.is_(None)
    )
    before = set(connection.execute(was_open).scalars())
    rows = [{"session_id": one, "first_seen_wall": wall, "last_seen_wall": wall} for one in sorted(session_ids)]
    again = insert(ui_sessions).on_conflict_do_update(
        index_elements=[ui_sessions.c.session_id], set_={"last_seen_wall": wall, "ended_at_wall": None}
    )
    connection.execute(again, rows)
    return [one for one in session_ids if one not in before]


def end_stale(connection: Connection, earliest: datetime, latest: datetime, wall: datetime) -> list[str]:
    """End the open sessions that were last seen outside of this span; their ids."""
    stale = sa.or_(ui_sessions.c.last_seen_wall <= earliest, ui_sessions.c.last_seen_wall >= latest)
    ended = ui_sessions.update().where(ui_sessions.c.ended_at_wall.is_(None), stale).values(ended_at_wall=wall)
    return sorted(connection.execute(ended.returning(ui_sessions.c.session_id)).scalars())


def forget(connection: Connection, before: datetime, most: int) -> None:
    """Remove the sessions that were last seen before then, and those seen before the newest `most`."""
    newest = sa.select(ui_sessions.c.last_seen_wall).order_by(ui_sessions.c.last_seen_wall.desc())
    too_many = ui_sessions.c.last_seen_wall < newest.offset(most - 1).limit(1).scalar_subquery()
    connection.execute(ui_sessions.delete().where(sa.or_(ui_sessions.c.last_seen_wall < before, too_many)))


def last_seen(connection: Connection, since: datetime, most: int) -> dict[str, datetime]:
    """When each open session wrote last, the newest `most` of those seen after `since`."""
    columns = (ui_sessions.c.session_id, ui_sessions.c.last_seen_wall)
    query = sa.select(*columns).where(ui_sessions.c.last_seen_wall > since, ui_sessions.c.ended_at_wall.is_(None))
    return dict(connection.execute(query.order_by(ui_sessions.c.last_seen_wall.desc()).limit(most)).all())
