"""The emergency switch: block → cancel → flatten → verify → report. It beats everything else.

Blocking comes first and alone decides whether anything new can be sent; what follows is asked for again until the
broker confirms it. Listener and beat task both come here, at the same moment if it so happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal

import structlog
from sqlalchemy.engine import Connection

from qbot import clock, committing, control, execution, limits
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_orders import EmergencyAction, EmergencyKind
from qbot.contract.payloads_settings import RiskSettings
from qbot.errors import BoardUnavailable, BrokerError, StoreUnavailable
from qbot.market.calendar import market_hours
from qbot.risk import Market
from qbot.runtime import Runtime
from qbot.session import Switch
from qbot.store import ledger, locks, state
from qbot.store.engine import transaction
from qbot.types import IntentKind, Position, Source, TradingState

log = structlog.get_logger(__name__)
HANDLED = "emergency"


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
            rt, AlertType.SYSTEM_ALERT, Severity.CRITICAL, "The emergency action is unreadable", reading.problem
        )
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
    with _alone(rt) as mine:
        if not mine or _surely_done(rt, action):
            return None
        report = _carry_out(rt, action)
        with transaction(rt.engine) as connection:
            state.first_time(connection, HANDLED, _identity(action), rt.wall())
            state.set_outcome(connection, HANDLED, _identity(action), {"done": True, "report": report})
    log.warning("emergency", action=str(action.action), report=report)
    return report


@contextmanager
def _alone(rt: Runtime) -> Iterator[bool]:
    """Whether nobody else carries out an emergency: listener and beat task both look. Without Postgres nobody can tell,
    and it goes on: asking for the same stop twice does no harm, missing it would.
    """
    with ExitStack() as held:
        try:
            mine = held.enter_context(locks.tried(rt.engine, locks.EMERGENCY))
        except StoreUnavailable:
            mine = True
        yield mine


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
        count = _cancel_all(rt)
        message = (
            f"{count} orders cancelled on request: {action.reason or 'no reason given'}. Positions are unprotected."
        )
        control.raise_alert(rt, AlertType.TRADE_ALERT, Severity.CRITICAL, "All orders were cancelled", message)
        return message
    sells = action.action is EmergencyKind.CLOSE_ALL_POSITIONS and not _too_old(action, rt.wall())
    try:
        if sells:
            rt.broker.cancel_all()
        else:
            execution.cancel_entries(rt.broker, automatic_only=False)
    finally:
        _show(rt)
    message = "trading stopped, every entry cancelled"
    if sells:
        message = _flatten(rt, action)
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


def _show(rt: Runtime) -> None:
    """The latch on the board. The first cancels are out by now."""
    try:
        control.show_stop(rt)
    except (BoardUnavailable, StoreUnavailable) as error:
        log.error("latch_not_shown", why=str(error))


def _latched(settings: RiskSettings | None) -> RiskSettings:
    return (settings or RiskSettings()).model_copy(update={"emergency_stop_active": True})


def _too_old(action: EmergencyAction, now: datetime) -> bool:
    """An old CLOSE_ALL that appears, say from a restored backup, stops trading but sells nothing."""
    return action.timestamp is None or (now - action.timestamp).total_seconds() > limits.EMERGENCY_MAX_AGE_S


def _flatten(rt: Runtime, action: EmergencyAction) -> str:
    """After the cancel of everything sell every position, and look until the broker shows neither orders nor positions.

    Raises BrokerError if some remain. An entry that may still arrive there counts as not cancelled.
    """
    deadline, pause_s = clock.monotonic_s() + limits.FLATTEN_WAIT_S, limits.RELEASE_POLL_S
    sold: dict[str, Position] = {}
    while True:
        coming = _on_their_way(rt)
        resting = rt.broker.open_orders()
        held = _held(rt)  # read after the orders: one that is gone may have filled
        if not held and not resting and not coming:
            return f"{len(sold)} positions closed and verified"
        if held and not resting and not sold:
            _sell(rt, held, action)
            sold = held
        elif sold and not market_hours(rt.market()).is_open:
            return f"{len(sold)} positions are sold when the market opens"
        elif clock.monotonic_s() > deadline:  # what was sold just now is looked at once more
            left = ", ".join(sorted({*held, *coming, *(order.symbol for order in resting)}))
            raise BrokerError(f"still held or not cancelled after {limits.FLATTEN_WAIT_S:.0f} s: {left}")
        clock.pause(pause_s)
        pause_s = min(2 * pause_s, limits.POLL_MAX_S)


def _cancel_all(rt: Runtime) -> int:
    """Cancel what is open now and look until it is. The number of orders. Raises BrokerError if some remain."""
    before = {order.broker_order_id for order in rt.broker.open_orders()}
    count = rt.broker.cancel_all()
    deadline, pause_s = clock.monotonic_s() + limits.RELEASE_WAIT_S, limits.RELEASE_POLL_S
    while left := [order.symbol for order in rt.broker.open_orders() if order.broker_order_id in before]:
        if clock.monotonic_s() > deadline:
            raise BrokerError(f"not cancelled after {limits.RELEASE_WAIT_S:.0f} s: {', '.join(sorted(set(left)))}")
        clock.pause(pause_s)
        pause_s = min(2 * pause_s, limits.POLL_MAX_S)
    return count


def _held(rt: Runtime) -> dict[str, Position]:
    """Every position, short ones too."""
    return {position.symbol: position for position in rt.broker.positions() if position.qty != 0}


def _on_their_way(rt: Runtime) -> set[str]:
    """Symbols of entries that were committed and may reach the venue yet, as far as Postgres can be asked."""
    try:
        with transaction(rt.engine) as connection:
            waiting = ledger.unsettled_intents(connection)
    except StoreUnavailable:
        return set()
    return {row["symbol"] for row in waiting if row["status"] != ledger.SENT and row["kind"] == IntentKind.ENTRY}


def _sell(rt: Runtime, held: Mapping[str, Position], action: EmergencyAction) -> None:
    """By committed intents like every order; where these cannot be made the venue itself is asked to flatten."""
    at = action.timestamp or datetime(1970, 1, 1, tzinfo=UTC)
    cycle_id = f"{committing.EMERGENCY_PREFIX}{at:%Y%m%dT%H%M%S}-{rt.wall():%H%M%S}"
    try:
        settings = control.sync_settings(rt)
        with transaction(rt.engine) as connection:
            epoch = state.load_switch(connection).epoch
        judged = committing.commit(
            rt.desk,
            [committing.exit_proposal(position, Source.EMERGENCY) for position in held.values()],
            settings.config,
            _market(rt, held),
            cycle_id=cycle_id,
            revision=settings.revision,
            epoch=epoch,
            snapshot_wall=rt.wall(),
        )
    except (StoreUnavailable, BoardUnavailable, ValueError) as error:  # ValueError: stored settings of another version
        log.error("flattened_by_the_venue", why=f"{type(error).__name__}: {error}")
        rt.broker.close_all(sorted(held))
        return
    refused = [one.proposal.symbol for one in judged if one.order is None]  # as a fraction or a short position is
    rt.broker.close_all(refused)
    execution.send(rt.desk, committing.orders_of(judged))


def _market(rt: Runtime, held: Mapping[str, Position]) -> Market:
    return Market(
        now=rt.market(),
        state=TradingState.HALTED,
        latched=True,
        market_open=None,
        reconciled=False,
        settings_problem=None,
        paper_problem=None,
        account=None,
        quotes={},
        positions=held,
        open_orders=(),
        max_day_loss_pct=Decimal(0),
    )
