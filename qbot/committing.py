"""Proposals into committed intents: judged by the gate, their caps reserved, in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any

from qbot import clock, limits, risk
from qbot.desk import Desk
from qbot.session import Switch
from qbot.store.protocol import COMMITTED, Row
from qbot.types import (
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
    Verdict,
)

# Of every client_order_id; a protection has its own, see `qbot.protection`.
ID_PREFIX, CYCLE_PREFIX, MANUAL_PREFIX, EMERGENCY_PREFIX = "qbot", "c", "m", "e"
AUTOMATIC = f"{ID_PREFIX}-{CYCLE_PREFIX}"  # how the client_order_id of an order of a trading cycle begins


A_HUMANS = (Source.MANUAL, Source.EMERGENCY)
TEXTS = (Decimal, StrEnum)  # in JSON


@dataclass(frozen=True, slots=True)
class Order:
    """A committed intent, ready to be sent."""

    spec: OrderSpec
    kind: IntentKind


@dataclass(frozen=True, slots=True)
class Age:
    """How long ago an intent was committed: `least_s` for who gives it up, `most_s` for who would still send it."""

    least_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate said to one proposal, and the order it became if it was allowed."""

    proposal: Proposal
    verdict: Verdict
    order: Order | None


def commit(
    desk: Desk,
    proposals: Sequence[Proposal],
    config: TradingConfig,
    market: risk.Market,
    *,
    cycle_id: str,
    revision: int,
    epoch: int,
    snapshot_wall: datetime,
    extra_decisions: Sequence[Mapping[str, Any]] = (),
) -> list[Judged]:
    """Judge proposals and commit the allowed ones as intents, with their caps reserved, in one transaction.

    `epoch` is the switch's as the cycle saw it: if someone stopped trading meanwhile, automatic orders are refused, and
    entries by hand after an emergency. Raises AlreadyCommitted when another run was here with the same `cycle_id`.
    """
    now = market.now
    with desk.store.transaction() as ledger:
        ledger.lock_gate()
        # Once the lock is held: waiting for it may take long.
        switch, wall, up = ledger.load_switch(), desk.wall(), desk.uptime()
        market = replace(market, wall=wall)
        if switch.epoch != epoch:
            market = replace(market, state=TradingState.OFF, latched=market.latched or switch.latched)
        since = now - timedelta(minutes=config.cooldown_minutes)
        usage = ledger.usage(clock.market_day(now), since, snapshot_wall, wall)
        judged = [
            Judged(proposal, verdict, _order(proposal, config, market, cycle_id) if verdict.allowed else None)
            for proposal, verdict in risk.gate(proposals, config, market, usage)
        ]
        rows = [decision_row(j.proposal, j.verdict, cycle_id, revision, now) for j in judged]
        ledger.add_decisions([*rows, *extra_decisions])
        intents = [_intent_row(j, row, now, wall, up, epoch) for j, row in zip(judged, rows, strict=True) if j.order]
        ledger.add_intents(intents)
    return judged


def unwanted(intent: Row, switch: Switch, *, withheld: bool = False) -> str | None:
    """Why an order of this intent must not go out, nor rest as an entry or a protection, as things stand; or None.

    A human's sale always may. `withheld`: protection is, since a human had every order cancelled.
    """
    if intent["kind"] == IntentKind.PROTECTION:
        return "every order was cancelled on request" if withheld else None
    if intent["source"] in A_HUMANS:
        stops = switch.latched and intent["kind"] == IntentKind.ENTRY
    else:
        stops = intent["switch_epoch"] != switch.epoch
    return f"trading was stopped: {switch.reason}" if stops else None


def age(desk: Desk, intent: Row) -> Age:
    """By the wall's clock, which may have been set since, and by the uptime of this machine.

    A machine that neither committed the intent nor noted it before cannot tell: at least no time at all.
    """
    wall_s = float((desk.wall() - intent["created_at_wall"]).total_seconds())
    up = desk.uptime()
    up_s = up.seconds - intent["since_uptime_s"].get(up.boot, up.seconds)
    return Age(min(wall_s, up_s), max(abs(wall_s), up_s))


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
        "message": proposal.why if proposal.why and verdict.allowed else verdict.message,
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
        extended_hours=proposal.extended_hours,
    )
    if proposal.kind is IntentKind.PROTECTION:
        spec = replace(
            spec,
            take_profit_usd=proposal.take_profit_usd,
            stop_loss_usd=proposal.stop_loss_usd,
            protects=proposal.protects,
        )
    elif proposal.kind is IntentKind.ENTRY and proposal.source not in A_HUMANS:
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
    judged: Judged, decision: Mapping[str, Any], now: datetime, wall: datetime, up: clock.Uptime, epoch: int
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
        "status": COMMITTED,
        "market_day": clock.market_day(now),
        "created_at": now,
        "created_at_wall": wall,
        "since_uptime_s": {up.boot: up.seconds},
        "switch_epoch": epoch,
    }


def plain(value: Any) -> dict[str, Any]:
    """A dataclass of ours as JSON."""
    found = {}
    for name in _names(value.__class__):  # asdict would copy deeply
        part = getattr(value, name)
        if isinstance(part, TEXTS):
            part = str(part)
        elif isinstance(part, datetime):
            part = part.isoformat()
        found[name] = part
    return found


@lru_cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def exit_proposal(position: Position, source: Source, signal: Signal | None = None) -> Proposal:
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
