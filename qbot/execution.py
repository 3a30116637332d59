"""Intent → order → fill. Nothing is sent that is not committed first; doubt is settled by lookup, never by sending
again. This module, `qbot.reconciliation` and `qbot.emergency` are the only ones that talk to the broker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from qbot import clock, limits, risk
from qbot.broker.protocol import Broker
from qbot.errors import AlreadyCommitted, BrokerError, BrokerRejected, OrderInDoubt
from qbot.store import ledger, state
from qbot.store.engine import transaction
from qbot.types import (
    BrokerOrder,
    IntentKind,
    OrderSpec,
    OrderType,
    Position,
    Proposal,
    Side,
    Signal,
    Source,
    TimeInForce,
    TradingConfig,
    TradingState,
    Usage,
    Verdict,
)

log = structlog.get_logger(__name__)
ID_PREFIX, CYCLE_PREFIX, MANUAL_PREFIX, EMERGENCY_PREFIX = "qbot", "c", "m", "e"  # of every client_order_id


@dataclass(frozen=True, slots=True)
class Order:
    """A committed intent, ready to be sent."""

    spec: OrderSpec
    kind: IntentKind


# --- proposals into committed intents ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate said to one proposal, and the order it became if it was allowed."""

    proposal: Proposal
    verdict: Verdict
    order: Order | None


def commit(
    engine: Engine,
    proposals: Sequence[Proposal],
    config: TradingConfig,
    market: risk.Market,
    *,
    cycle_id: str,
    revision: int,
    epoch: int,
    snapshot_wall: datetime,
    wall: datetime,
    extra_decisions: Sequence[Mapping[str, Any]] = (),
) -> list[Judged]:
    """Judge proposals and commit the allowed ones as intents, with their caps reserved, in one transaction.

    `epoch` is the switch's as the cycle saw it: if someone stopped trading meanwhile, automatic orders are refused, and
    entries by hand after an emergency. Raises AlreadyCommitted when another run was here with the same `cycle_id`.
    """
    now = market.now
    try:
        with transaction(engine) as connection:
            ledger.lock_gate(connection)
            switch = state.load_switch(connection)
            if switch.epoch != epoch:
                market = replace(market, state=TradingState.HALTED, latched=market.latched or switch.latched)
            since = now - timedelta(minutes=config.cooldown_minutes)
            usage: Usage = ledger.usage(connection, clock.market_day(now), since, snapshot_wall)
            judged = [
                Judged(proposal, verdict, _order(proposal, config, market, cycle_id) if verdict.allowed else None)
                for proposal, verdict in risk.gate(proposals, config, market, usage)
            ]
            rows = [decision_row(j.proposal, j.verdict, cycle_id, revision, now) for j in judged]
            ledger.add_decisions(connection, [*rows, *extra_decisions])
            intents = [_intent_row(j, row, now, wall, epoch) for j, row in zip(judged, rows, strict=True) if j.order]
            ledger.add_intents(connection, intents)
    except IntegrityError as error:
        raise AlreadyCommitted(f"cycle {cycle_id} was committed before") from error
    return judged


def orders_of(judged: Sequence[Judged]) -> list[Order]:
    """The orders to send."""
    return [one.order for one in judged if one.order is not None]


def decision_row(proposal: Proposal, verdict: Verdict, cycle_id: str, revision: int, now: datetime) -> dict[str, Any]:
    """The audit of one judged proposal."""
    return {
        "decision_id": f"{cycle_id}:{proposal.symbol}:{proposal.side}",
        "cycle_id": cycle_id,
        "symbol": proposal.symbol,
        "action": str(proposal.side).upper(),
        "allowed": verdict.allowed,
        "refusal": verdict.refusal,
        "message": verdict.message,
        "numbers": verdict.numbers,
        "signal": plain(proposal.signal) if proposal.signal else None,
        "forecast_id": proposal.signal.forecast_id if proposal.signal else None,
        "settings_revision": revision,
        "decided_at": now,
    }


def hold_row(signal: Signal, cycle_id: str, revision: int, now: datetime, refusal: str, why: str) -> dict[str, Any]:
    """The audit of a symbol for which nothing was proposed, and why not."""
    return {
        "decision_id": f"{cycle_id}:{signal.symbol}:hold",
        "cycle_id": cycle_id,
        "symbol": signal.symbol,
        "action": str(signal.action),
        "allowed": False,
        "refusal": refusal,
        "message": why,
        "numbers": {},
        "signal": plain(signal),
        "forecast_id": signal.forecast_id,
        "settings_revision": revision,
        "decided_at": now,
    }


def client_order_id(cycle_id: str, symbol: str, side: Side) -> str:
    """The one id of an order for ever: the same cycle can send the same order only once."""
    made = f"{ID_PREFIX}-{cycle_id}-{symbol}-{side}"
    if len(made) <= limits.CLIENT_ORDER_ID_MAX:
        return made
    return f"{ID_PREFIX}-{hashlib.sha256(made.encode()).hexdigest()}"


def _order(proposal: Proposal, config: TradingConfig, market: risk.Market, cycle_id: str) -> Order:
    spec = OrderSpec(
        client_order_id=client_order_id(cycle_id, proposal.symbol, proposal.side),
        symbol=proposal.symbol,
        side=proposal.side,
        qty=proposal.qty,
        order_type=proposal.order_type,
        time_in_force=proposal.time_in_force,
        limit_price_usd=_tick(proposal.limit_price_usd),
        stop_price_usd=_tick(proposal.stop_price_usd),
    )
    if proposal.kind is IntentKind.ENTRY and proposal.signal is not None:
        price = market.quotes[proposal.symbol].price_usd
        # GTC, so that the protection outlives the day.
        spec = replace(
            spec,
            time_in_force=TimeInForce.GTC,
            take_profit_usd=_tick(price * (1 + config.take_profit_pct)),
            stop_loss_usd=_tick(price * (1 - config.stop_loss_pct)),
        )
    return Order(spec, proposal.kind)


def _tick(price_usd: Decimal | None) -> Decimal | None:
    """To the venue's increment: a cent from one dollar up, a hundredth of a cent below."""
    if price_usd is None:
        return None
    step = Decimal("0.01") if price_usd >= 1 else Decimal("0.0001")
    return price_usd.quantize(step, ROUND_HALF_UP)


def _intent_row(
    judged: Judged, decision: Mapping[str, Any], now: datetime, wall: datetime, epoch: int
) -> dict[str, Any]:
    assert judged.order is not None
    proposal, spec = judged.proposal, judged.order.spec
    return {
        "client_order_id": spec.client_order_id,
        "decision_id": decision["decision_id"],
        "symbol": spec.symbol,
        "side": str(spec.side),
        "kind": str(proposal.kind),
        "source": str(proposal.source),
        "qty": spec.qty,
        "reserved_usd": proposal.notional_usd,
        "spec": plain(spec),
        "status": ledger.COMMITTED,
        "market_day": clock.market_day(now),
        "created_at": now,
        "created_at_wall": wall,
        "switch_epoch": epoch,
    }


def plain(value: Any) -> dict[str, Any]:
    """A dataclass of ours as JSON."""

    def convert(part: Any) -> Any:
        if isinstance(part, Decimal):
            return str(part)
        if isinstance(part, StrEnum):
            return str(part)
        return part.isoformat() if isinstance(part, datetime) else part

    return {name: convert(part) for name, part in asdict(value).items()}


# --- committed intents to the venue --------------------------------------------------------------------------------


def send(broker: Broker, engine: Engine, orders: Sequence[Order], wall: Callable[[], datetime]) -> list[BrokerOrder]:
    """Send each committed order once and record the answer. What is refused or in doubt is marked, never repeated.

    Sending several may take long at a slow venue, so each is asked for again whether it may still go out.
    """
    placed = []
    for order in orders:
        if not _still_wanted(engine, order):
            continue
        try:
            if order.kind is IntentKind.EXIT:
                release_shares(broker, order.spec.symbol)
                _require_held(broker, order.spec)
            answer = broker.submit(order.spec)
        except OrderInDoubt as doubt:
            _mark(engine, order, ledger.IN_DOUBT, str(doubt))
        except BrokerRejected as refused:
            _mark(engine, order, ledger.REJECTED, str(refused))
        except BrokerError as failed:
            # Only what comes before the sale can end here, so the order itself was never sent.
            _mark(engine, order, ledger.REJECTED, f"not sent: {failed}")
        else:
            placed.append(answer)
            with transaction(engine) as connection:
                ledger.record_orders(connection, [answer], wall())
            log.info("order_sent", client_order_id=order.spec.client_order_id, status=answer.status)
    return placed


def _still_wanted(engine: Engine, order: Order) -> bool:
    """False when the intent has been sent or given up, or trading was stopped since it was committed."""
    with transaction(engine) as connection:
        intent = ledger.intent(connection, order.spec.client_order_id)
        switch = state.load_switch(connection)
    if intent is None or intent["status"] != ledger.COMMITTED:
        return False
    by_hand = intent["source"] in (Source.MANUAL, Source.EMERGENCY)
    if by_hand and (order.kind is IntentKind.EXIT or not switch.latched):
        return True
    if not by_hand and intent["switch_epoch"] == switch.epoch:
        return True
    _mark(engine, order, ledger.DENIED, f"trading was stopped before it was sent: {switch.reason}")
    return False


def _mark(engine: Engine, order: Order, status: str, why: str) -> None:
    log.warning("order_not_placed", client_order_id=order.spec.client_order_id, status=status, why=why)
    with transaction(engine) as connection:
        ledger.mark_unsent(connection, order.spec.client_order_id, status, why)


def release_shares(broker: Broker, symbol: str) -> None:
    """Cancel the resting sell orders of a symbol and wait until its shares are free: an exit before that is refused.

    Raises BrokerError when they are still held after RELEASE_WAIT_S; the exit is then tried by the next cycle.
    """
    deadline, pause_s = clock.monotonic_s() + limits.RELEASE_WAIT_S, limits.RELEASE_POLL_S
    asked: set[str] = set()
    while True:
        resting = [o for o in broker.open_orders() if o.symbol == symbol and o.side is Side.SELL]
        if not resting:
            return
        for order in resting:
            if order.broker_order_id not in asked:
                broker.cancel(order.broker_order_id)
                asked.add(order.broker_order_id)
        if clock.monotonic_s() > deadline:
            raise BrokerError(f"shares of {symbol} are still held by {len(resting)} orders")
        clock.pause(pause_s)
        pause_s = min(2 * pause_s, limits.POLL_MAX_S)


def _require_held(broker: Broker, spec: OrderSpec) -> None:
    """Raises BrokerError when fewer shares are held than the sale is of.

    A stop-loss may have sold them since the books were taken, or while it was being cancelled: where the account may
    sell short, selling again would open a short position.
    """
    held = sum((p.qty for p in broker.positions() if p.symbol == spec.symbol), Decimal(0))
    if held < spec.qty:
        raise BrokerError(f"{held.normalize():f} shares of {spec.symbol} are held, {spec.qty} were to be sold")


AUTOMATIC = f"{ID_PREFIX}-{CYCLE_PREFIX}"  # how the client_order_id of an order of a trading cycle begins


def open_entries(connection: Connection, *, automatic_only: bool) -> list[str]:
    """Broker's ids of the entries that the ledger holds for open: what a stop can cancel before it asks the broker."""
    return ledger.open_entries(connection, AUTOMATIC if automatic_only else "")


def entries_on_their_way(connection: Connection, wall: datetime, *, automatic_only: bool) -> bool:
    """Whether an entry was committed whose sender may be at it, so that it may reach the broker yet."""
    by_hand = () if automatic_only else (Source.MANUAL,)
    grace = timedelta(seconds=limits.SEND_GRACE_S)
    return ledger.entries_on_their_way(connection, wall - grace, wall + grace, by_hand)


def cancel_entries(broker: Broker, *, automatic_only: bool, asked: Set[str] = frozenset()) -> int:
    """Ask for a cancel of every open buy, or of those of the trading cycles; protective stops stay. Their number.

    The broker's own list shows what is open; `asked`: ids whose cancel was taken already. Raises BrokerError when one
    could not be asked for, after the others were.
    """
    entries = [order for order in broker.open_orders() if order.side is Side.BUY and order.broker_order_id not in asked]
    if automatic_only:
        entries = [order for order in entries if order.client_order_id.startswith(AUTOMATIC)]
    failed: list[BrokerError] = []
    for order in entries:
        try:
            broker.cancel(order.broker_order_id)
        except BrokerError as error:
            failed.append(error)
    if failed:
        raise BrokerError(f"{len(failed)} of {len(entries)} entries could not be cancelled: {failed[0]}") from failed[0]
    return len(asked) + len(entries)


def cancel_known(broker: Broker, known: Sequence[str]) -> set[str]:
    """The ids whose cancel was taken. At the first that was not it ends: the broker's list decides about the rest."""
    asked: set[str] = set()
    for broker_order_id in known:
        try:
            broker.cancel(broker_order_id)
        except BrokerError as error:
            log.warning("cancel_failed", broker_order_id=broker_order_id, why=str(error))
            break
        asked.add(broker_order_id)
    return asked


def exit_proposal(position: Position, source: Any, signal: Signal | None = None) -> Proposal:
    """The sale of a whole position at the market."""
    return Proposal(
        symbol=position.symbol,
        side=Side.SELL,
        qty=position.qty,
        kind=IntentKind.EXIT,
        source=source,
        price_usd=position.current_price_usd,
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.DAY,
        signal=signal,
    )
