"""The one owner of the broker's `trade_updates` stream: fills reach ledger and board as they happen.

The stream is a hint, not the truth: it has no replay, it may go silent while connected, and events come twice or out
of order. Every event is recorded idempotently, every connect is followed by a reconcile over REST, and the reconcile
task goes on whatever happens here. Run by the supervisor as `python -m qbot.stream`.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import structlog
from alpaca.trading.stream import TradingStream

from qbot import log, reconciliation, showing
from qbot.broker.alpaca import paper_url
from qbot.broker.alpaca_wire import UNREADABLE, execution_id, parse_order, parse_time
from qbot.errors import QBotError, StackError
from qbot.runtime import Runtime, runtime
from qbot.settings import Settings
from qbot.store import account, ledger
from qbot.store.engine import transaction
from qbot.store.locks import STREAM, hold
from qbot.types import BrokerOrder, Fill

logger = structlog.get_logger(__name__)

FILLS = frozenset({"fill", "partial_fill"})


class Stream(TradingStream):
    """Alpaca's client, told to reconcile after every connect."""

    rt: Runtime

    async def _start_ws(self) -> None:
        await super()._start_ws()  # type: ignore[no-untyped-call]
        logger.info("stream_connected")
        await asyncio.to_thread(reconcile, self.rt)


def reconcile(rt: Runtime) -> None:
    """Catch up with what happened while nobody listened."""
    try:
        books = reconciliation.reconcile(rt.desk, rt.market())
        showing.books(rt, books)
    except QBotError as error:
        logger.warning("reconcile_failed", error=type(error).__name__, message=str(error))


def record(rt: Runtime, event: dict[str, Any]) -> None:
    """One event into the ledger, then onto the board. An event that cannot be used is left to the reconcile."""
    try:
        order = parse_order(event["order"])
        fill = fill_of(event, order)
    except UNREADABLE as error:
        logger.warning("event_unreadable", error=repr(error))
        return
    try:
        with transaction(rt.engine) as connection:
            if account.is_another(connection):
                logger.warning("event_of_another_account", broker_order_id=order.broker_order_id)
                return
            ledger.record_orders(connection, [order], rt.wall())
            ledger.record_fills(connection, [fill] if fill else [])
        logger.info("trade_update", what=event["event"], symbol=order.symbol, status=order.status)
        showing.books(rt, reconciliation.snapshot(rt.desk))
    except QBotError as error:
        logger.warning("event_not_recorded", error=type(error).__name__, message=str(error))


def fill_of(event: dict[str, Any], order: BrokerOrder) -> Fill | None:
    """The execution that an event of `order` tells of, or None. The cumulative quantity names it, as in REST."""
    if event["event"] not in FILLS:
        return None
    return Fill(
        execution_id=execution_id(order.broker_order_id, order.filled_qty),
        broker_order_id=order.broker_order_id,
        symbol=order.symbol,
        side=order.side,
        qty=Decimal(event["qty"]),
        price_usd=Decimal(event["price"]),
        at=parse_time(event["timestamp"]),
    )


def url(settings: Settings) -> str | None:
    """The websocket of an overridden trading API; None for Alpaca's own. Raises ConfigError for one of real money."""
    base = paper_url(settings)
    return None if base is None else base.replace("http", "ws", 1) + "/stream"


def main() -> None:
    """Listen until told to stop. A second owner waits until the first is gone."""
    rt = runtime()
    log.configure("stream", rt.settings)
    key, secret = rt.settings.alpaca_api_key.get_secret_value(), rt.settings.alpaca_secret_key.get_secret_value()
    if not key:
        raise StackError("the stream needs broker keys")
    stream = Stream(key, secret, paper=True, raw_data=True, url_override=url(rt.settings))  # type: ignore[arg-type]
    stream.rt = rt

    async def on_event(message: dict[str, Any]) -> None:
        await asyncio.to_thread(record, rt, message["data"])

    stream.subscribe_trade_updates(on_event)
    with hold(rt.engine, STREAM):
        stream.run()


if __name__ == "__main__":
    main()
