"""Waiting for what QBot makes of a write, by following the board."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from qbot import clock
from qbot.client import documents
from qbot.client.documents import Writes
from qbot.client.errors import EmergencyLatched, NotInTime, StartNotTakenUp, WrongPassword
from qbot.client.following import Change, ChangeKind, Following
from qbot.client.link import Link
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.contract.payloads_backend import ActiveOrder, Alert
from qbot.contract.payloads_orders import EmergencyAction, EmergencyKind
from qbot.contract.payloads_trading import PortfolioPosition
from qbot.errors import BoardUnavailable

T = TypeVar("T")
LOOKED_WITHIN_S = 75.0  # monitor_autotrading_frontend, the net under the listener, comes once a minute
LATCHED = "the emergency stop is latched; release it first (risk_settings.emergency_stop_active = false)"
MAY_STAND = "the start may stand and come true later, for it could not be withdrawn; stop when Redis is back"
START_KEYS: tuple[Key[Any], ...] = (
    keys.AUTOTRADING_SESSION_ACTIVE,
    keys.AUTOTRADING_LAST_UPDATE,
    keys.AUTOTRADING_BACKEND_STATUS,
    keys.AUTOTRADING_ERROR,
    keys.RISK_SETTINGS,
    keys.TRADING_STATUS,
)
EMERGENCY_KEYS: tuple[Key[Any], ...] = (
    keys.RISK_SETTINGS,
    keys.AUTOTRADING_BACKEND_STATUS,
    keys.ACTIVE_ORDERS,
    keys.PORTFOLIO_POSITIONS,
    keys.ALERTS_ACTIVE,
)


class Wait:
    """Some keys as they stand now, kept up to date while waiting."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._latest: dict[str, Change] = {}
        self._lost: Change | None = None

    def until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """True as soon as `done` is, False when the time is up. It is asked after every change. Ends the following."""
        deadline = clock.monotonic_s() + timeout_s
        try:
            while (change := self._following.next(max(deadline - clock.monotonic_s(), 0.0))) is not None:
                if change.kind is ChangeKind.DISCONNECTED:
                    self._lost = change
                elif change.kind is ChangeKind.CONNECTED:
                    self._lost = None
                self._latest[change.key] = change
                if done():
                    return True
        finally:
            self._following.close()
        return False

    def value(self, key: Key[T]) -> T | None:
        """What a key holds; None when it is absent, invalid or not read yet."""
        change = self._latest.get(key.name)
        reading = change.of(key) if change else None
        return reading.value if reading else None

    def after(self, key: Key[Any], revision: int) -> bool:
        """Whether a key was written since the board had this revision."""
        change = self._latest.get(key.name)
        return change is not None and change.revision > revision

    @property
    def trouble(self) -> str:
        """The end of a sentence that says why the rest of it may be old; empty when nothing is wrong."""
        return f"; Redis cannot be reached: {self._lost.reason}" if self._lost else ""


def await_start(
    waiting: Callable[[Sequence[Key[Any]]], Wait],
    link: Link,
    writes: Writes,
    session_id: str,
    wall: Callable[[], datetime],
    wait_s: float,
) -> BackendStatus | None:
    """Writes a start and waits until the board shows that QBot has taken it up; withdraws it where QBot has not.

    Raises EmergencyLatched before anything is written, or afterwards with the start withdrawn, and StartNotTakenUp.
    """
    if _latched(link.read([keys.RISK_SETTINGS])[keys.RISK_SETTINGS].value):
        raise EmergencyLatched(LATCHED)
    try:
        return _start(waiting, link, writes, session_id, wall, wait_s)
    except (BoardUnavailable, WrongPassword) as error:  # once written, a start must not be taken for one that was not
        raise StartNotTakenUp(f"{MAY_STAND}: {error}") from error


def _start(
    waiting: Callable[[Sequence[Key[Any]]], Wait],
    link: Link,
    writes: Writes,
    session_id: str,
    wall: Callable[[], datetime],
    wait_s: float,
) -> BackendStatus | None:
    written = link.write(writes)
    wait = waiting(START_KEYS)

    def taken_up() -> bool:
        """Ours, and told or looked at since: what stood there from the time before a stop is no answer."""
        ours = wait.value(keys.AUTOTRADING_SESSION_ACTIVE) == session_id
        told = (keys.AUTOTRADING_SESSION_ACTIVE, keys.AUTOTRADING_LAST_UPDATE)
        return ours and any(wait.after(key, written) for key in told)

    def latched() -> bool:
        return _latched(wait.value(keys.RISK_SETTINGS))

    wait.until(lambda: taken_up() or latched(), wait_s)
    if taken_up():
        return wait.value(keys.AUTOTRADING_BACKEND_STATUS)
    key, ours = writes[0]
    link.replace(key, key.encode(ours), documents.stop(wall()))
    if latched():
        raise EmergencyLatched(LATCHED)
    raise StartNotTakenUp(f"not taken up within {wait_s:.0f} s, and withdrawn: {_why(wait, written)}{wait.trouble}")


def released_by(waiting: Callable[[Sequence[Key[Any]]], Wait], link: Link, wait_s: float) -> bool:
    """Waits until QBot has looked at a release; False when it has set the latch again. Raises NotInTime."""
    written = link.read([keys.RISK_SETTINGS]).revision
    wait = waiting((keys.AUTOTRADING_LAST_UPDATE, keys.RISK_SETTINGS))
    if not wait.until(lambda: wait.after(keys.AUTOTRADING_LAST_UPDATE, written), wait_s):
        raise NotInTime(f"QBot has not looked at the release within {wait_s:.0f} s{wait.trouble}")
    return not _latched(wait.value(keys.RISK_SETTINGS))


def _latched(risk: Any) -> bool:
    return bool(risk and risk.emergency_stop_active)


def _why(wait: Wait, written: int) -> str:
    """What the board says about a start that did nothing."""
    looked = wait.value(keys.AUTOTRADING_LAST_UPDATE)
    if not wait.after(keys.AUTOTRADING_LAST_UPDATE, written):
        return f"QBot has not looked since (last at {looked:%Y-%m-%d %H:%M:%S} UTC)" if looked else "QBot is not there"
    status, error = wait.value(keys.AUTOTRADING_BACKEND_STATUS), wait.value(keys.AUTOTRADING_ERROR)
    other, cycle = wait.value(keys.AUTOTRADING_SESSION_ACTIVE), wait.value(keys.TRADING_STATUS)
    said = [f"QBot is {status or 'silent'}"]
    said += [error] if error else []
    said += [f"session {other} trades"] if other else []
    said += [cycle.stop_reason] if cycle and cycle.stop_reason else []
    return "; ".join(said)


@dataclass(frozen=True)
class EmergencyReport:
    """What the board tells of an emergency. None: it has not told since.

    `complete` says that what was asked for shows: latched for a stop, no orders left after a cancel, neither orders nor
    positions after a close.
    """

    complete: bool
    latched: bool
    backend_status: BackendStatus | None
    orders_left: tuple[ActiveOrder, ...] | None
    positions_left: tuple[PortfolioPosition, ...] | None
    alerts: tuple[Alert, ...] | None


def become_of(
    waiting: Callable[[Sequence[Key[Any]]], Wait], link: Link, action: EmergencyAction, wait_s: float
) -> EmergencyReport:
    """Writes an emergency and follows the board until what was asked for shows, or the time is up."""
    written = link.write([(keys.EMERGENCY_ACTIONS, action)])
    wait = waiting(EMERGENCY_KEYS)

    def told(key: Key[T]) -> T | None:
        return wait.value(key) if wait.after(key, written) else None

    def complete() -> bool:
        latched = _latched(wait.value(keys.RISK_SETTINGS))
        if action.action is EmergencyKind.STOP_ALL_TRADING:
            return latched
        no_orders = told(keys.ACTIVE_ORDERS) == ()
        if action.action is EmergencyKind.CANCEL_ALL_ORDERS:
            return no_orders
        return latched and no_orders and told(keys.PORTFOLIO_POSITIONS) == ()

    done = wait.until(complete, wait_s)
    return EmergencyReport(
        complete=done,
        latched=_latched(wait.value(keys.RISK_SETTINGS)),
        backend_status=wait.value(keys.AUTOTRADING_BACKEND_STATUS),
        orders_left=told(keys.ACTIVE_ORDERS),
        positions_left=told(keys.PORTFOLIO_POSITIONS),
        alerts=told(keys.ALERTS_ACTIVE),
    )
