"""Puts back the protection of positions that lost it, by committed intents like every order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from qbot import committing, execution, protection, risk
from qbot.desk import Desk
from qbot.errors import AlreadyCommitted, BrokerError
from qbot.protection import Plan, Records, Wanted
from qbot.reconciliation import Books
from qbot.store.protocol import SENT, Ledger, Row
from qbot.types import IntentKind, Side, Source, TradingConfig, TradingState

log = structlog.get_logger(__name__)
A_HUMANS = (Source.MANUAL, Source.EMERGENCY, Source.FOREIGN)


@dataclass(frozen=True, slots=True)
class Protected:
    """What was put back, taken away, and is still missing: by symbol, in words for a human."""

    restored: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    bare: Mapping[str, str] = field(default_factory=dict)


def protect(desk: Desk, books: Books, now: datetime, *, market_open: bool) -> Protected:
    """Compare what rests at the broker with what is held, and make up the difference.

    Of symbols on whose shares ledger and broker agree. Raises BrokerError or StoreUnavailable; the next look goes on.
    """
    uneven = protection.suspects(books.positions, books.open_orders)
    symbols = [symbol for symbol in uneven if symbol not in books.drift]
    if not symbols:
        return Protected()
    with desk.store.transaction() as ledger:
        known, epoch = _records(ledger, symbols), ledger.load_switch().epoch
    found = protection.plan(
        now, symbols, books.positions, books.open_orders, known, market_open=market_open
    )  # fmt: skip
    restored, bare = {}, dict(found.bare)
    overtaken = _overtaken(desk, books) if found.wanted else set()
    try:
        removed = _remove(desk, books, found)
    except BrokerError as error:  # the next look goes on
        removed = {}
        log.warning("resting_orders_not_cancelled", why=str(error))
    for wanted in found.wanted:
        symbol = wanted.proposal.symbol
        if symbol in overtaken:
            continue  # the next look sees both
        try:
            order = _committed(desk, books, wanted, now, epoch)
        except AlreadyCommitted:
            continue  # another worker is at it
        if order is None:
            continue  # a sale came in between: the next look sees what it left
        sent = execution.send(desk, [order])
        if sent.placed and not sent.recalled:
            restored[symbol] = _told(wanted)
        elif not any(execution.BEING_SOLD in why for why in {**sent.failed, **sent.recalled}.values()):
            bare[symbol] = "; ".join({**sent.failed, **sent.recalled}.values())
    return Protected(restored, removed, bare)


def _records(ledger: Ledger, symbols: Sequence[str]) -> Records:
    unsettled = ledger.unsettled_intents()
    return Records(
        executions=ledger.executions(symbols),
        attempts=ledger.protection_attempts(symbols),
        busy={row["symbol"] for row in unsettled if _on_its_way(row)},
        ours={row["broker_order_id"] for row in ledger.open_orders() if row["source"] not in A_HUMANS},
        withheld=ledger.protection_withheld(),
    )


def _on_its_way(row: Row) -> bool:
    """True while an order may change what is held or rests: one that was not answered yet, or brings its own legs."""
    brings_legs = row["kind"] == IntentKind.ENTRY and row["spec"].get("stop_loss_usd") is not None
    return row["status"] != SENT or brings_legs


def _overtaken(desk: Desk, books: Books) -> set[str]:
    """Symbols whose shares came with legs of their own: orders were read before positions, and an entry filled between.

    Either it was sent in between, or it was waited for and is gone, and its legs are there.
    """
    still = {order.broker_order_id: order.symbol for order in desk.broker.open_orders()}
    before = {order.broker_order_id for order in books.open_orders}
    filled = {order.broker_order_id for order in books.open_orders if order.side is Side.BUY} - still.keys()
    legs = {order.symbol for order in books.open_orders if order.parent_id in filled and order.broker_order_id in still}
    return legs | {symbol for order_id, symbol in still.items() if order_id not in before}


def _remove(desk: Desk, books: Books, found: Plan) -> dict[str, str]:
    """Cancel what sells more than is held, if it still does, and entries that stand in the way."""
    removed: dict[str, str] = {}
    if found.cancels:
        # Read again: orders were read before positions, and one that is gone by now has filled in between.
        still = {order.broker_order_id: order for order in desk.broker.open_orders()}
        before = {order.broker_order_id: order for order in books.open_orders}
        for order_id in found.cancels:
            if order_id in still and still[order_id].filled_qty == before[order_id].filled_qty:
                desk.broker.cancel(order_id)
                removed[still[order_id].symbol] = "a resting sale of more shares than are held was cancelled"
    symbols = {order.broker_order_id: order.symbol for order in books.open_orders}
    for order_id in found.rests:
        desk.broker.cancel(order_id)
        removed[symbols[order_id]] = "what had not come of an entry was cancelled, to protect what is held"
    return removed


def _committed(desk: Desk, books: Books, wanted: Wanted, now: datetime, epoch: int) -> committing.Order | None:
    """The order, or None when the gate says that the shares are not free."""
    market = risk.Market(
        now=now,
        state=TradingState.HALTED,
        latched=True,
        market_open=None,
        reconciled=books.reconciled,
        settings_problem=None,
        paper_problem=None,
        account=books.account,
        quotes={},
        positions=books.positions,
        open_orders=books.open_orders,
    )
    (judged,) = committing.commit(
        desk,
        [wanted.proposal],
        TradingConfig(),
        market,
        cycle_id=wanted.name,
        revision=wanted.revision,
        epoch=epoch,
        snapshot_wall=books.taken_at_wall,
    )
    return judged.order


def _told(wanted: Wanted) -> str:
    proposal = wanted.proposal
    if proposal.stop_loss_usd is None:
        return f"{proposal.qty} shares were sold at the market: the price had fallen under their stop-loss"
    levels = f"stop-loss {proposal.stop_loss_usd}, take-profit {proposal.take_profit_usd}"
    return f"{proposal.qty} shares had lost their protection; {levels} rest at the broker again"
