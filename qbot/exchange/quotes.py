"""The synthetic quote that stands in for the bid and ask the bars do not have."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

# The shipped tickers are the most liquid there are: their spread is one to a few cents, about 2 bps of the price.
HALF_SPREAD_SHARE = Decimal("0.0001")
TICK_USD = Decimal("0.01")
SUB_DOLLAR_TICK_USD = Decimal("0.0001")  # Regulation NMS, rule 612: the minimum increment under one dollar
QUOTE_SIZE_SHARES = 100  # one round lot; as on paper, sizes do not limit fills


def tick(price: Decimal) -> Decimal:
    """The minimum price increment at `price`."""
    return TICK_USD if price >= 1 else SUB_DOLLAR_TICK_USD


def half_spread(price: Decimal) -> Decimal:
    """Half the distance of bid and ask: 1 bp of the price, at least one tick."""
    step = tick(price)
    return max(step, (price * HALF_SPREAD_SHARE).quantize(step, ROUND_HALF_UP))


def bid(price: Decimal) -> Decimal:
    """What a seller gets when the last trade was at `price`."""
    return price - half_spread(price)


def ask(price: Decimal) -> Decimal:
    """What a buyer pays when the last trade was at `price`."""
    return price + half_spread(price)
