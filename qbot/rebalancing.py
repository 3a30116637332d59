"""Positions that have grown too large a part of the portfolio: how many shares of them to sell. Pure.

The target is an equal part of the money to be invested for each of the positions aimed at, and at most
`max_position_pct`. A position that lies more than `rebalance_threshold` over it is brought back to it: the next drift
has to grow from there. What is too small is never bought for that alone: QBot buys on a forecast, and such a
position then comes first (`docs/adr/0011-rebalancing-sells-only.md`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

from qbot import limits
from qbot.types import Account, BrokerOrder, Position, Quote, TradingConfig


@dataclass(frozen=True, slots=True)
class Excess:
    """Shares to sell of a position, and why: its part of the equity, and the one aimed at, as fractions."""

    symbol: str
    qty: Decimal
    weight_pct: Decimal
    target_pct: Decimal

    @property
    def why(self) -> str:
        """In a sentence."""
        return f"rebalancing: {self.weight_pct:.1%} of the portfolio, over the target of {self.target_pct:.1%}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to sell, the largest drift first, and of what there is too little."""

    sales: Sequence[Excess] = ()
    too_small: frozenset[str] = frozenset()


NOTHING = Plan()


def plan(
    config: TradingConfig,
    account: Account,
    positions: Mapping[str, Position],
    quotes: Mapping[str, Quote],
    now: datetime,
    *,
    open_orders: Sequence[BrokerOrder] = (),
    done_today: Collection[str] = (),
) -> Plan:
    """What rebalancing comes to now; nothing while it is off, and nothing of what is not known for sure.

    Left alone: what has no fresh price or another order open, short positions, excluded tickers, and `done_today`:
    what was rebalanced on this day already.
    """
    target = target_pct(config, account, sum(position.qty > 0 for position in positions.values()))
    if not config.rebalance_enabled or target is None:
        return NOTHING
    threshold = max(config.rebalance_threshold_pct, limits.REBALANCE_MIN_DRIFT_PCT)
    busy = {order.symbol for order in open_orders if order.open and not order.protective}
    sales: list[Excess] = []
    too_small: set[str] = set()
    for symbol, position in sorted(positions.items()):
        price = _fresh_price(quotes.get(symbol), now)
        if price is None or position.qty <= 0 or symbol in busy or symbol in config.excluded_tickers:
            continue
        weight = position.qty * price / account.equity_usd
        if weight < target - threshold:
            too_small.add(symbol)
        elif weight > target + threshold and symbol not in done_today:
            qty = ((weight - target) * account.equity_usd / price).to_integral_value(ROUND_DOWN)
            if qty > 0 and qty * price >= limits.REBALANCE_MIN_USD:
                sales.append(Excess(symbol, qty, weight, target))
    return Plan(tuple(sorted(sales, key=lambda one: -one.weight_pct)), frozenset(too_small))


def target_pct(config: TradingConfig, account: Account, held: int) -> Decimal | None:
    """The part of the equity one position should have, a fraction; None where nothing sensible follows.

    A limit of 0 forbids to buy; it does not ask to sell everything, and no target follows from it.
    """
    numbers = (
        account.equity_usd, config.cash_reserve_usd, config.trading_capital_usd, config.max_position_pct,
        config.rebalance_threshold_pct,
    )  # fmt: skip
    if not all(number.is_finite() for number in numbers) or account.equity_usd <= 0:
        return None
    to_invest = min(account.equity_usd - config.cash_reserve_usd, config.trading_capital_usd)
    equal = to_invest / account.equity_usd / max(config.target_diversification, held, 1)
    target = min(equal, config.max_position_pct)
    return target if target > 0 else None


def _fresh_price(quote: Quote | None, now: datetime) -> Decimal | None:
    """The price, if it is one of this moment."""
    if quote is None or not quote.price_usd.is_finite() or quote.price_usd <= 0:
        return None
    age_s = (now - quote.at).total_seconds()
    return quote.price_usd if -limits.CLOCK_SKEW_S <= age_s <= limits.QUOTE_MAX_AGE_S else None
