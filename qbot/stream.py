"""The one owner of the broker's `trade_updates` stream: fills reach ledger and board as they happen.

The stream is a hint, not the truth: it has no replay, it may go silent while connected, and events come twice or out
of order. Every event is recorded idempotently, every connect is followed by a reconcile over REST, and the reconcile
task goes on whatever happens here. What that brings and the stream does not shows that it is silent: then it connects
anew and a human is told. Run by the supervisor as `python -m qbot.stream`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from alpaca.trading.stream import TradingStream
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from qbot import book_alerts, control, limits, log, reconciliation, showing
from qbot.broker.alpaca import paper_url
from qbot.broker.alpaca_wire import execution_id, parse_order, parse_time
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.errors import UNREADABLE, QBotError, StackError
from qbot.runtime import Runtime, runtime
from qbot.settings import Settings
from qbot.store import account, ledger, order_book
from qbot.store.engine import transaction
from qbot.store.locks import STREAM, hold
from qbot.types import BrokerOrder, Fill

logger = structlog.get_logger(__name__)

FILLS = frozenset({"fill", "partial_fill"})


class Told:
    """The executions that the stream told of, and whether the ledger has others that it should have told of."""

    def __init__(self) -> None:
        self.since: datetime | None = None  # market time from which on it was listening; None: not yet
        self._names: OrderedDict[str, None] = OrderedDict()
        self._missing: frozenset[str] = frozenset()

    def listening(self, since: datetime) -> None:
        """It is connected and caught up."""
        self.since, self._missing = since, frozenset()

    def note(self, name: str) -> None:
        """It told of an execution."""
        self._names[name] = None
        if len(self._names) > limits.STREAM_TOLD_MAX:
            self._names.popitem(last=False)

    def missed(self, recorded: set[str]) -> frozenset[str]:
        """Of those recorded since, what it had not told of at the last look either."""
        missing = frozenset(recorded - self._names.keys())
        before, self._missing = self._missing, missing
        return missing & before


class Stream(TradingStream):
    """Alpaca's client, told to reconcile after every connect, to notice silence, and to spare the venue.

    `owned` says whether this process still is the one owner.
    """

    def __init__(self, rt: Runtime, owned: Callable[[], bool] = lambda: True) -> None:
        key, secret = rt.settings.alpaca_api_key.get_secret_value(), rt.settings.alpaca_secret_key.get_secret_value()
        if not key:
            raise StackError("the stream needs broker keys")
        waits = dict.fromkeys(("ping_interval", "ping_timeout", "close_timeout"), limits.STREAM_PING_S)
        line = {"max_queue": 1024, **waits}
        where: Any = url(rt.settings)
        super().__init__(key, secret, paper=True, raw_data=True, url_override=where, websocket_params=line)
        self.rt, self.owned, self.told, self._news = rt, owned, Told(), asyncio.Event()
        self.subscribe_trade_updates(self._on_event)

    async def _start_ws(self) -> None:
        await super()._start_ws()  # type: ignore[no-untyped-call]
        logger.info("stream_connected")
        await asyncio.to_thread(reconcile, self.rt)
        self.told.listening(self.rt.market())

    async def _run_forever(self) -> None:
        beside = [asyncio.create_task(one) for one in (self._show_for_ever(), self._watch_for_ever())]
        try:
            await super()._run_forever()  # type: ignore[no-untyped-call]
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _on_event(self, message: dict[str, Any]) -> None:
        name = await asyncio.to_thread(record, self.rt, message["data"])
        if name is not None:
            self.told.note(name)
        self._news.set()

    async def _show_for_ever(self) -> None:
        """The books onto the board after every event, but not more often than the venue should be asked."""
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.to_thread(show, self.rt)
            await asyncio.sleep(limits.STREAM_SHOW_S)

    async def _watch_for_ever(self) -> None:
        while True:
            await asyncio.sleep(limits.STREAM_CHECK_S)
            if not await asyncio.to_thread(self.owned):
                logger.error("stream_not_owned", why="Postgres was restarted: another process may listen by now")
                await self.stop_ws()
            elif await asyncio.to_thread(silent, self.rt, self.told):
                await self._connect_anew()

    async def _connect_anew(self) -> None:
        """Close what is silent; the client's own loop connects again, and what was missed is caught up with."""
        self.told.since = None
        await self._hang_up()

    async def stop_ws(self) -> None:
        """At once: the client's own way waits for the end of the next five seconds of silence."""
        await super().stop_ws()
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._ws is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ws.close(), limits.STREAM_PING_S)


def silent(rt: Runtime, told: Told) -> bool:
    """Whether fills are recorded that the stream should have told of and did not; a human is told."""
    if told.since is None:
        return False
    try:
        with transaction(rt.engine) as connection:
            missed = told.missed(ledger.execution_ids(connection, told.since))
    except QBotError as error:
        logger.warning("stream_not_compared", why=str(error))
        return False
    if not missed:
        return False
    logger.warning("stream_silent", missed=sorted(missed))
    message = f"It is connected, and did not tell of {len(missed)} fills that the broker's other interface has."
    title = "The trade stream is silent; it connects again"
    control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, title, message)
    return True


def reconcile(rt: Runtime) -> None:
    """Catch up with what happened while nobody listened."""
    try:
        books = reconciliation.reconcile(rt.desk, rt.market())
        showing.books(rt, books)
    except QBotError as error:
        logger.warning("reconcile_failed", error=type(error).__name__, message=str(error))


def record(rt: Runtime, event: dict[str, Any]) -> str | None:
    """One event into the ledger; the name of the execution it tells of, if any.

    An event that cannot be used is left to the reconcile.
    """
    try:
        order = parse_order(event["order"])
        fill = fill_of(event, order)
    except UNREADABLE as error:
        logger.warning("event_unreadable", error=repr(error))
        return None
    try:
        with transaction(rt.engine) as connection:
            if account.is_another(connection):
                logger.warning("event_of_another_account", broker_order_id=order.broker_order_id)
                return None
            order_book.record_orders(connection, [order], rt.wall())
            ledger.record_fills(connection, [fill] if fill else [])
        logger.info("trade_update", what=event["event"], symbol=order.symbol, status=order.status)
    except QBotError as error:
        logger.warning("event_not_recorded", error=type(error).__name__, message=str(error))
    return None if fill is None else fill.execution_id


def show(rt: Runtime) -> None:
    """The books as they are onto the board."""
    try:
        book_alerts.trades(rt)
        showing.books(rt, reconciliation.snapshot(rt.desk))
    except QBotError as error:
        logger.warning("books_not_shown", error=type(error).__name__, message=str(error))


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


def owns(connection: Connection) -> bool:
    """Whether the lock is still held: it went with its connection if Postgres was restarted."""
    if not connection.invalidated:
        with suppress(DBAPIError):
            connection.exec_driver_sql("SELECT 1")
    return not connection.invalidated  # it would connect again by itself, and without the lock


def main() -> None:
    """Listen until told to stop. A second owner waits until the first is gone."""
    rt = runtime()
    log.configure("stream", rt.settings)
    with hold(rt.engine, STREAM) as connection:
        Stream(rt, lambda: owns(connection)).run()


if __name__ == "__main__":
    main()
