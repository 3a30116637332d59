"""The emergency switch: block → cancel → flatten → verify → report. It beats everything else.

Blocking comes first and alone decides whether anything new can be sent; what follows is asked for again until the
broker confirms it. Listener and beat task both come here, at the same moment if it so happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from qbot import committing, control, execution, flatten, limits
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_orders import EmergencyAction, EmergencyKind
from qbot.contract.payloads_settings import RiskSettings
from qbot.errors import BoardUnavailable, BrokerError, StoreUnavailable
from qbot.runtime import Runtime
from qbot.session import Switch
from qbot.store import locks, protections, state
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
HANDLED, ALIVE = "emergency", "alive_wall"


def handle(rt: Runtime) -> str | None:
    """Carry out `frontend:emergency_actions` if it is confirmed and new; what was done, or None.

    Whoever sees it blocks and cancels the entries, which may be done twice; one at a time goes on from there. An action
    is identified by its session and time, and is carried out once. Raises BrokerError when the broker cannot be asked:
    trading is blocked by then, and the next tick goes on.
    """
    reading = rt.board.read(keys.EMERGENCY_ACTIONS)
    action = reading.value
    if reading.problem:
        control.raise_alert(
            rt, AlertType.SYSTEM_ALERT, Severity.CRITICAL, "The emergency action is unreadable", reading.problem,
            about=reading.key,
        )  # fmt: skip
    if action is None or not action.confirmed:
        return None
    try:
        return _handle(rt, action)
    except BrokerError as error:
        title = "The emergency action is not complete"
        control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.CRITICAL, title, str(error))
        raise


def _handle(rt: Runtime, action: EmergencyAction) -> str | None:
    entries = _block(rt, action)
    if entries is None:
        return None
    if entries:
        execution.cancel_known(rt.broker, entries)
    _withhold_protection(rt, action)
    with _alone(rt, action) as mine:
        if not mine or _surely_done(rt, action):
            return None
        _alive(rt, action)
        report = _carry_out(rt, action)
        with transaction(rt.engine) as connection:
            _note(rt, connection, action, {"done": True, "report": report})
    log.warning("emergency", action=str(action.action), report=report)
    return report


def by_hand(rt: Runtime, action: EmergencyAction) -> str:
    """Carry out what a human asks for at a terminal, with whatever can be reached: the broker alone will do.

    What was done. Raises BrokerError when the broker cannot be asked, or something remains there.
    """
    entries = _block(rt, action)
    if entries:
        execution.cancel_known(rt.broker, entries)
    _withhold_protection(rt, action)
    with _alone(rt, action):  # who else is at it makes the same orders: waiting for them would be worse
        _alive(rt, action)
        report = _carry_out(rt, action)
        with suppress(StoreUnavailable), transaction(rt.engine) as connection:
            _note(rt, connection, action, {"done": True, "report": report})
    return report


@contextmanager
def _alone(rt: Runtime, action: EmergencyAction) -> Iterator[bool]:
    """Whether nobody else carries out an emergency: listener and beat task both look.

    Without Postgres nobody can tell, and it goes on: asking for the same stop twice does no harm, missing it would. So
    it is with one whose process hangs: it may never come back.
    """
    with ExitStack() as held:
        try:
            mine = held.enter_context(locks.tried(rt.engine, locks.EMERGENCY)) or _stuck(rt, action)
        except StoreUnavailable:
            mine = True
        yield mine


def _alive(rt: Runtime, action: EmergencyAction) -> None:
    """A sign of life, for who waits to take over."""
    with suppress(StoreUnavailable), transaction(rt.engine) as connection:
        _note(rt, connection, action, {"done": False, ALIVE: rt.wall().isoformat()})


def _stuck(rt: Runtime, action: EmergencyAction) -> bool:
    """Whether whoever carries out this action has given no sign of life for long; a human is told."""
    key = _identity(action)
    with transaction(rt.engine) as connection:
        outcome = state.known(connection, HANDLED, [key]).get(key, {})
    last = outcome.get(ALIVE)
    if last is None or (rt.wall() - datetime.fromisoformat(last)).total_seconds() <= limits.EMERGENCY_STUCK_S:
        return False
    title, message = "An emergency is taken over", f"whoever carried it out has not been heard of since {last}"
    control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.CRITICAL, title, message)
    return True


def _note(rt: Runtime, connection: Connection, action: EmergencyAction, outcome: Mapping[str, Any]) -> None:
    """Record how far an action has come; one that is done stays so."""
    key = _identity(action)
    if not state.known(connection, HANDLED, [key]).get(key, {}).get("done", False):
        state.first_time(connection, HANDLED, key, rt.wall())
        state.set_outcome(connection, HANDLED, key, outcome)


def pending(rt: Runtime) -> bool:
    """True while an action stands on the board that is not carried out yet, or cannot be read: nothing may enter."""
    reading = rt.board.read(keys.EMERGENCY_ACTIONS)
    if reading.problem:
        return True
    if reading.value is None or not reading.value.confirmed:
        return False
    with transaction(rt.engine) as connection:
        return not _done(connection, state.load_switch(connection), reading.value)


def _done(connection: Connection, switch: Switch, action: EmergencyAction) -> bool:
    """Whether this very action was carried out.

    Without a time, a stop that is asked for again looks like the one before: while it stands there, it holds.
    """
    key = _identity(action)
    done = bool(state.known(connection, HANDLED, [key]).get(key, {}).get("done", False))
    if action.timestamp is None and _stops(action):
        return done and not switch.on
    return done


def _surely_done(rt: Runtime, action: EmergencyAction) -> bool:
    """As `_done`, and False without Postgres."""
    try:
        with transaction(rt.engine) as connection:
            return _done(connection, state.load_switch(connection), action)
    except StoreUnavailable:
        return False


def _stops(action: EmergencyAction) -> bool:
    return action.action is not EmergencyKind.CANCEL_ALL_ORDERS


def _identity(action: EmergencyAction) -> str:
    at = action.timestamp.isoformat() if action.timestamp else ""
    return hashlib.sha256(f"{action.session_id}|{at}|{action.action}".encode()).hexdigest()


def _carry_out(rt: Runtime, action: EmergencyAction) -> str:
    if not _stops(action):
        count = flatten.cancel_all(rt.desk)
        message = (
            f"{count} orders cancelled on request: {action.reason or 'no reason given'}. Positions are unprotected."
        )
        control.raise_alert(rt, AlertType.TRADE_ALERT, Severity.CRITICAL, "All orders were cancelled", message)
        return message
    sells, asked_all = _sells(action, rt.wall()), True
    try:
        if sells:
            asked_all = _asked_all(rt)
        else:
            execution.cancel_entries(rt.broker, automatic_only=False)
    finally:
        _show(rt)
    message = "trading stopped, every entry cancelled"
    if sells:
        message = _flatten(rt, action, asked_all)
    elif action.action is EmergencyKind.CLOSE_ALL_POSITIONS:
        message += "; the request has no time or an old one, so nothing was sold"
    control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.CRITICAL, "Emergency stop", message)
    return message


def _block(rt: Runtime, action: EmergencyAction) -> list[str] | None:
    """Latch, whatever is down; broker's ids of the entries to cancel, or None when the action was carried out before.

    Without Postgres nothing can be committed; when it is back, it follows the board.
    """
    reason = f"{action.action}: {action.reason or 'no reason given'}"
    try:
        if not _stops(action):
            return None if _surely_done(rt, action) else []
        return control.block(rt, reason, unless=lambda connection, switch: _done(connection, switch, action))
    except StoreUnavailable:
        log.error("latch_not_recorded", why="Postgres cannot be reached; the board keeps the latch for it")
        with suppress(BoardUnavailable):
            rt.board.update(keys.RISK_SETTINGS, _latched, now=rt.wall())
    return []


def _withhold_protection(rt: Runtime, action: EmergencyAction) -> None:
    """Where every order is cancelled, none is put back until a human starts trading again. Without Postgres nothing
    could be."""
    if _stops(action) and not _sells(action, rt.wall()):
        return
    reason = f"{action.action}: {action.reason or 'no reason given'}"
    with suppress(StoreUnavailable), transaction(rt.engine) as connection:
        if not protections.protection_withheld(connection):
            protections.withhold_protection(connection, reason, rt.wall())


def _show(rt: Runtime) -> None:
    """The latch on the board. The first cancels are out by now."""
    try:
        control.show_stop(rt)
    except (BoardUnavailable, StoreUnavailable) as error:
        log.error("latch_not_shown", why=str(error))


def _latched(settings: RiskSettings | None) -> RiskSettings:
    return (settings or RiskSettings()).model_copy(update={"emergency_stop_active": True})


def _sells(action: EmergencyAction, now: datetime) -> bool:
    return action.action is EmergencyKind.CLOSE_ALL_POSITIONS and not _too_old(action, now)


def _too_old(action: EmergencyAction, now: datetime) -> bool:
    """An old CLOSE_ALL that appears, say from a restored backup, stops trading but sells nothing."""
    return action.timestamp is None or (now - action.timestamp).total_seconds() > limits.EMERGENCY_MAX_AGE_S


def _asked_all(rt: Runtime) -> bool:
    """Ask for a cancel of every order at once; where that is not taken, each is asked for by itself."""
    try:
        rt.broker.cancel_all()
    except BrokerError as error:
        log.warning("cancel_all_failed", why=str(error))
        return False
    return True


def _flatten(rt: Runtime, action: EmergencyAction, asked_all: bool) -> str:
    name = f"{committing.EMERGENCY_PREFIX}{_identity(action)[:24]}"
    run = flatten.Flattening(rt.desk, name, lambda: _terms(rt), action.force, lambda: _alive(rt, action), asked_all)
    return run.run()


def _terms(rt: Runtime) -> flatten.Terms:
    settings = control.sync_settings(rt)
    return flatten.Terms(settings.config, settings.revision)
