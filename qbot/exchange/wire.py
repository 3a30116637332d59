"""The bodies of the trading API: orders, positions, account, clock, calendar, activities, trade updates.

Money and quantities are text. Where the published OpenAPI and recorded answers differ, the recorded one is followed:
a leg has `legs: null`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from qbot.clock import NEW_YORK
from qbot.exchange.assets import asset_id, exchange
from qbot.exchange.book import Book
from qbot.exchange.orders import ZERO, Event, Fill, Order
from qbot.exchange.refusals import plain
from qbot.exchange.sessions import Session, moment

ACCOUNT_ID = "5bd81a4c-9bd5-4a9c-8b0e-6f6a3c3c7a10"
ACCOUNT_NUMBER = "PA0QBOT0PAPER"
RATIO = Decimal("0.0000000001")


def stamp(at: datetime | None) -> str | None:
    """A time with nine digits, as the venue sends them: clients that take only six must not get by here.

    Time is known to the microsecond; the last three digits are made up from it and keep the order.
    """
    if at is None:
        return None
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}{(at.microsecond * 7 + 13) % 1000:03d}Z"


def number(value: Decimal | None) -> str | None:
    """A number as text, or null."""
    return None if value is None else plain(value)


def order(of: Order, legs: list[Order] | None = None) -> dict[str, Any]:
    """An order; `legs` are nested only where the caller gives them."""
    average = of.filled_cost_usd / of.filled_qty if of.filled_qty else None
    return {
        "id": of.id, "client_order_id": of.client_order_id, "created_at": stamp(of.created_at),
        "updated_at": stamp(of.updated_at), "submitted_at": stamp(of.submitted_at), "filled_at": stamp(of.filled_at),
        "expired_at": stamp(of.expired_at), "canceled_at": stamp(of.canceled_at), "failed_at": stamp(of.failed_at),
        "replaced_at": stamp(of.replaced_at), "replaced_by": of.replaced_by, "replaces": of.replaces,
        "asset_id": asset_id(of.symbol), "symbol": of.symbol, "asset_class": "us_equity", "notional": None,
        "qty": plain(of.qty), "filled_qty": plain(of.filled_qty),
        "filled_avg_price": None if average is None else plain(average.quantize(Decimal("0.000001"))),
        "order_class": of.order_class, "order_type": of.type, "type": of.type, "side": of.side,
        "position_intent": "buy_to_open" if of.buying else "sell_to_close", "time_in_force": of.time_in_force,
        "limit_price": number(of.limit_price), "stop_price": number(of.stop_price), "status": of.status,
        "extended_hours": of.extended_hours, "legs": [order(leg) for leg in legs] if legs else None,
        "trail_percent": number(of.trail_percent), "trail_price": number(of.trail_price), "hwm": number(of.hwm),
        **({"expires_at": stamp(of.expires_at)} if of.expires_at else {}),
    }  # fmt: skip


def position(book: Book, symbol: str) -> dict[str, Any]:
    """A holding at the book's time. What was bought today counts at the average price of the whole holding."""
    holding, price = book.ledger.holdings[symbol], book.price(symbol)
    assert price is not None, "a symbol that was bought has a price"
    session = book.sessions.latest(book.time_s)
    last_day = (book.market.close_before(symbol, session.open_s) if session else None) or price
    value = holding.qty * price
    bought_today = holding.qty - holding.overnight_qty
    intraday = holding.overnight_qty * (price - last_day) + bought_today * (price - holding.avg_entry_price_usd)
    intraday_base = holding.overnight_qty * last_day + bought_today * holding.avg_entry_price_usd
    return {
        "asset_id": asset_id(symbol), "symbol": symbol, "exchange": exchange(symbol), "asset_class": "us_equity",
        "asset_marginable": False, "qty": plain(holding.qty),
        "qty_available": plain(holding.qty - book.held_for_orders(symbol)),
        "avg_entry_price": plain(holding.avg_entry_price_usd.quantize(Decimal("0.000001"))), "side": "long",
        "market_value": plain(value), "cost_basis": plain(holding.cost_usd.quantize(Decimal("0.000001"))),
        "unrealized_pl": plain((value - holding.cost_usd).quantize(Decimal("0.000001"))),
        "unrealized_plpc": ratio(value - holding.cost_usd, holding.cost_usd),
        "unrealized_intraday_pl": plain(intraday.quantize(Decimal("0.000001"))),
        "unrealized_intraday_plpc": ratio(intraday, intraday_base),
        "current_price": plain(price), "lastday_price": plain(last_day),
        "change_today": ratio(price - last_day, last_day),
    }  # fmt: skip


def ratio(part: Decimal, whole: Decimal) -> str:
    """A fraction as text."""
    return plain((part / whole).quantize(RATIO)) if whole else "0"


def account(book: Book, created_at: datetime) -> dict[str, Any]:
    """The account at the book's time. A cash account: no margin, no shorts."""
    equity, power = book.equity_usd(book.time_s), book.buying_power_usd()
    long_value = plain(equity - book.ledger.cash_usd)
    cash, buying = plain(book.ledger.cash_usd), plain(max(power, ZERO))
    return {
        "id": ACCOUNT_ID, "account_number": ACCOUNT_NUMBER, "status": "ACTIVE", "crypto_status": "INACTIVE",
        "currency": "USD", "buying_power": buying, "regt_buying_power": buying, "non_marginable_buying_power": buying,
        "options_buying_power": "0", "options_approved_level": 0, "options_trading_level": 0, "cash": cash,
        "accrued_fees": "0", "portfolio_value": plain(equity), "equity": plain(equity),
        "last_equity": plain(book.ledger.last_equity_usd), "long_market_value": long_value, "short_market_value": "0",
        "initial_margin": long_value, "maintenance_margin": "0", "last_maintenance_margin": "0", "sma": "0",
        "multiplier": "1", "trading_blocked": False, "transfers_blocked": False, "account_blocked": False,
        "trade_suspended_by_user": False, "shorting_enabled": False, "created_at": stamp(created_at),
        "pending_transfer_in": "0", "pending_transfer_out": "0", "pending_reg_taf_fees": "0",
        "intraday_adjustments": "0", "balance_asof": created_at.astimezone(NEW_YORK).date().isoformat(),
    }  # fmt: skip


CONFIGURATIONS: dict[str, Any] = {
    "no_shorting": True, "suspend_trade": False, "fractional_trading": True, "max_margin_multiplier": "1",
    "trade_confirm_email": "none", "ptp_no_exception_entry": False, "max_options_trading_level": 0,
    "disable_overnight_trading": True,
}  # fmt: skip


def clock(book: Book) -> dict[str, Any]:
    """Whether the market is open, in New York time as recorded."""
    sessions, t = book.sessions, book.time_s
    return {
        "timestamp": book.now.astimezone(NEW_YORK).isoformat(timespec="microseconds"),
        "is_open": sessions.is_open(t),
        "next_open": moment(sessions.next_open(t)).astimezone(NEW_YORK).isoformat(),
        "next_close": moment(sessions.next_close(t)).astimezone(NEW_YORK).isoformat(),
    }


def calendar_day(session: Session, settles: Session) -> dict[str, Any]:
    """One day of the calendar; trades settle on the next trading day."""
    opens, closes, pre, after = (
        moment(t).astimezone(NEW_YORK)
        for t in (session.open_s, session.close_s, session.extended_open_s, session.extended_close_s)
    )
    return {
        "date": session.day.isoformat(), "open": f"{opens:%H:%M}", "close": f"{closes:%H:%M}",
        "session_open": f"{pre:%H%M}", "session_close": f"{after:%H%M}", "settlement_date": settles.day.isoformat(),
    }  # fmt: skip


def activity_id(fill: Fill) -> str:
    """Ordered by time as text, and unique: `yyyymmddHHMMSSmmm::<execution id>`."""
    return f"{fill.at:%Y%m%d%H%M%S}{fill.at.microsecond // 1000:03d}::{fill.id}"


def activity(fill: Fill) -> dict[str, Any]:
    """A fill as the account's activity."""
    return {
        "id": activity_id(fill), "activity_type": "FILL", "transaction_time": stamp(fill.at),
        "type": "partial_fill" if fill.leaves_qty else "fill", "price": plain(fill.price_usd), "qty": plain(fill.qty),
        "side": fill.side, "symbol": fill.symbol, "leaves_qty": plain(fill.leaves_qty), "order_id": fill.order_id,
        "cum_qty": plain(fill.cum_qty), "order_status": fill.order_status,
    }  # fmt: skip


def trade_update(event: Event) -> dict[str, Any]:
    """A message of the `trade_updates` stream. Only executions carry an id, a price and a quantity."""
    data: dict[str, Any] = {"event": event.name, "order": order(event.order), "timestamp": stamp(event.at)}
    if event.fill:
        data |= {"execution_id": event.fill.id, "price": plain(event.fill.price_usd), "qty": plain(event.fill.qty),
                 "position_qty": plain(event.position_qty)}  # fmt: skip
    return {"stream": "trade_updates", "data": data}
