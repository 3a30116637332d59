"""What changes the account besides trades: fees, dividends, transfers, splits. Only a test or a demo asks for them.

The replayed market charges nothing and pays no dividends, as the venue's paper accounts.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from qbot.clock import NEW_YORK
from qbot.exchange.account import Holding
from qbot.exchange.book import Book
from qbot.exchange.orders import ZERO, Booking
from qbot.exchange.refusals import plain

# Every kind the venue knows but fills, as in its OpenAPI.
KINDS = frozenset({
    "TRANS", "MISC", "ACATC", "ACATS", "CFEE", "CGD", "CSD", "CSW", "DIV", "DIVCGL", "DIVCGS", "DIVFEE", "DIVFT",
    "DIVNRA", "DIVROC", "DIVTW", "DIVTXEX", "FEE", "INT", "INTNRA", "INTTW", "JNL", "JNLC", "JNLS", "MA", "NC", "OPASN",
    "OPCA", "OPCSH", "OPEXC", "OPEXP", "OPTRD", "PTC", "PTR", "REORG", "SPIN", "SPLIT", "FOPT", "OCT",
})  # fmt: skip


def book_it(book: Book, asked: dict[str, Any]) -> Booking:
    """Change the account: `activity_type` and, where they apply, `activity_sub_type`, `net_amount`, `symbol`, `qty`.

    Shares that come in cost nothing, as those of a split; the cost of those that leave leaves with them.
    Raises ValueError.
    """
    kind, symbol = asked.get("activity_type"), asked.get("symbol")
    if kind not in KINDS:
        raise ValueError(f"activity_type: one of {', '.join(sorted(KINDS))}")
    try:
        amount, shares = Decimal(asked.get("net_amount", 0)), Decimal(asked.get("qty", 0))
    except (InvalidOperation, TypeError):
        raise ValueError("net_amount and qty are numbers") from None
    if shares and symbol not in book.market.series:
        raise ValueError("qty goes with a symbol that is listed")
    free = book.ledger.qty(symbol) - book.held_for_orders(symbol) if symbol is not None else ZERO
    if shares + free < 0:
        raise ValueError(f"only {free} shares of {symbol} are held and free of orders")
    made = Booking(
        f"{book.now:%Y%m%d}000000000::{book.new_id()}", kind, asked.get("activity_sub_type"), amount, book.now, symbol,
        shares or None,
    )  # fmt: skip
    book.ledger.cash_usd += amount
    if shares and symbol is not None:
        _move(book, symbol, shares)
    book.bookings.append(made)
    return made


def _move(book: Book, symbol: str, shares: Decimal) -> None:
    holding = book.ledger.holdings.setdefault(symbol, Holding())
    if shares < 0:
        holding.cost_usd -= holding.cost_usd * -shares / holding.qty
    holding.qty += shares
    holding.overnight_qty = min(holding.overnight_qty, holding.qty)
    if holding.qty == ZERO:
        del book.ledger.holdings[symbol]


def wire(booking: Booking) -> dict[str, Any]:
    """As the venue tells it. What it does not have is left out."""
    body = {
        "id": booking.id, "activity_type": booking.kind, "activity_sub_type": booking.sub_kind,
        "date": booking.at.astimezone(NEW_YORK).date().isoformat(), "net_amount": plain(booking.amount_usd),
        "symbol": booking.symbol, "qty": None if booking.shares is None else plain(booking.shares),
        "created_at": booking.at.isoformat().replace("+00:00", "Z"), "status": "executed",
    }  # fmt: skip
    return {name: value for name, value in body.items() if value is not None}
