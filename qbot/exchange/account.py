"""Cash, positions, average cost and realised profit of the one account. A cash account, long only, no fees."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from qbot.exchange.orders import ZERO

COST_UNIT_USD = Decimal("1E-12")  # a share of the cost is rounded to this, so that sums stay exact


@dataclass(slots=True)
class Holding:
    """Shares of one symbol and what they cost. `overnight_qty` of them were held at the last close."""

    qty: Decimal = ZERO
    cost_usd: Decimal = ZERO
    overnight_qty: Decimal = ZERO

    @property
    def avg_entry_price_usd(self) -> Decimal:
        """Cost a share."""
        return self.cost_usd / self.qty


@dataclass(slots=True)
class Ledger:
    """What always adds up: start cash + realised = cash + cost of what is held."""

    cash_usd: Decimal
    last_equity_usd: Decimal
    realized_usd: Decimal = ZERO
    holdings: dict[str, Holding] = field(default_factory=dict)

    def qty(self, symbol: str) -> Decimal:
        """Shares held."""
        holding = self.holdings.get(symbol)
        return holding.qty if holding else ZERO

    def buy(self, symbol: str, qty: Decimal, price_usd: Decimal) -> None:
        """Pay for `qty` shares."""
        cost = qty * price_usd
        assert cost <= self.cash_usd, "the engine checks the cash before it fills"
        holding = self.holdings.setdefault(symbol, Holding())
        self.cash_usd -= cost
        holding.qty += qty
        holding.cost_usd += cost

    def sell(self, symbol: str, qty: Decimal, price_usd: Decimal) -> None:
        """Take the money for `qty` shares; their cost leaves at the average."""
        holding = self.holdings[symbol]
        assert qty <= holding.qty, "the rules reserve shares before a sell is accepted"
        cost = (
            holding.cost_usd if qty == holding.qty else (holding.cost_usd * qty / holding.qty).quantize(COST_UNIT_USD)
        )
        self.cash_usd += qty * price_usd
        self.realized_usd += qty * price_usd - cost
        holding.qty -= qty
        holding.cost_usd -= cost
        holding.overnight_qty = min(holding.overnight_qty, holding.qty)
        if not holding.qty:
            del self.holdings[symbol]

    def equity_usd(self, prices: dict[str, Decimal]) -> Decimal:
        """Cash and what the holdings are worth at `prices` (one for each symbol held)."""
        return self.cash_usd + sum((h.qty * prices[s] for s, h in self.holdings.items()), ZERO)
