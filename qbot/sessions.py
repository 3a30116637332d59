"""The sessions of user interfaces, known by their writes alone, and the trading session beside them.

A user interface that writes is alive; one that has not for UI_SESSION_TIMEOUT_S is gone, and its going stops nothing.
The trading session is the switch's: it lasts until it is stopped, whether anybody is watching or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from qbot import limits
from qbot.contract import keys
from qbot.contract.key import Key, Reading
from qbot.runtime import Runtime
from qbot.store import sightings, state
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
TIMEOUT = timedelta(seconds=limits.UI_SESSION_TIMEOUT_S)
KEPT = timedelta(seconds=limits.UI_SESSIONS_KEPT_S)
# Of an array it cannot be told who wrote it last: there only an element that is new is a sign of life.
IDENTITY = {
    keys.MANUAL_ORDERS.name: "order_id",
    keys.ALERT_ACKNOWLEDGEMENTS.name: "alert_id",
    keys.PRICE_ALERTS.name: "price_alert_id",
}
WRITTEN: tuple[Key[Any], ...] = (
    keys.UI_STATE,
    keys.TRADING_CONFIG,
    keys.BOT_STRATEGY,
    keys.AUTOTRADING_ENABLED,
    keys.EMERGENCY_ACTIONS,
    keys.TRAINING_REQUEST,
    keys.MANUAL_ORDERS,
    keys.ALERT_ACKNOWLEDGEMENTS,
    keys.PRICE_ALERTS,
)
NAMES = frozenset(key.name for key in WRITTEN)


def observe(rt: Runtime, key: Key[Any] | None = None) -> None:
    """Note whose writes are new; the net also ends the sessions that went stale.

    With `key`: an event told that it was just written, in whatever bytes, so its session is alive; any other key than
    those that name a session is no sign. Without: the net, which looks at all of them, and only what has changed since
    the last look counts. Safe to call at any time and by several at once. Raises BoardUnavailable, StoreUnavailable.
    """
    if key is not None and key.name not in NAMES:
        return
    looked_at = WRITTEN if key is None else (key,)
    snapshot = rt.board.read_many(looked_at)
    now = rt.wall()
    found = {one.name: _elements(snapshot[one]) for one in looked_at}
    with transaction(rt.engine) as connection:
        before = sightings.seen(connection, list(found))
        alive = _signs(found, before, written=key.name if key is not None else None)
        sightings.note(connection, {name: sorted(found[name]) for name in found}, now)
        begun = sightings.alive(connection, sorted(alive), now)
        ended = []
        if key is None:  # only here: writers of sessions that wait for one another take them in one order
            ended = sightings.end_stale(connection, now - TIMEOUT, now + TIMEOUT, now)
            sightings.forget(connection, now - KEPT, limits.UI_SESSIONS_MAX)
    for session_id in begun:
        log.info("ui_session", what="begun", session_id=session_id)
    for session_id in ended:
        log.info("ui_session", what="ended", session_id=session_id)


def active(connection: Connection, now: datetime) -> tuple[str, ...]:
    """The live sessions of user interfaces and the one that trades, sorted: `active_sessions`. `now` is wall time."""
    recent = sightings.last_seen(connection, now - TIMEOUT, limits.UI_SESSIONS_SHOWN)
    switch = state.load_switch(connection)
    trading = {switch.session_id} if switch.on and switch.session_id else set()
    return tuple(sorted(live(recent, now) | trading))


# --- the rules --------------------------------------------------------------------------------------------------------


def live(last_seen: Mapping[str, datetime], now: datetime) -> frozenset[str]:
    """Those who wrote within the time-out. A sign from the future is none: a wrong clock keeps nobody alive."""
    return frozenset(session_id for session_id, at in last_seen.items() if abs(now - at) < TIMEOUT)


def valid(session_id: str | None) -> bool:
    """Whether a session may be called that: something, not too long, that can be printed."""
    return bool(session_id) and len(session_id or "") <= 100 and (session_id or "").isprintable()


def _signs(
    found: Mapping[str, Mapping[str, str]], before: Mapping[str, Iterable[str]], *, written: str | None
) -> set[str]:
    """The sessions behind what is new; behind the key an event was about, when it names one session, in any case."""
    signs: set[str] = set()
    for name, elements in found.items():
        counts = (
            set(elements) if name == written and name not in IDENTITY else set(elements) - set(before.get(name, ()))
        )
        signs |= {elements[element] for element in counts}
    return signs


def _elements(reading: Reading[Any]) -> dict[str, str]:
    """The session behind each thing a key holds, by what tells that thing from another."""
    if reading.value is None:
        return {}
    identity = IDENTITY.get(reading.key)
    if identity is None:
        session_id = reading.value.session_id
        return {reading.fingerprint or "": session_id} if valid(session_id) else {}
    named = [item for item in reading.value if valid(getattr(item, "session_id", None))]
    return {_hashed(getattr(item, identity), item.session_id): item.session_id for item in named}


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
