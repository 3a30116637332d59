"""The checks of the order itself: whether it is sound, what it would cost, and whether another one is at it. Pure."""

from __future__ import annotations

from decimal import Decimal

from qbot import limits, protection
from qbot.risk_case import Case, Refusal, Whose, finite, last_price_usd, over, position_qty, total, whose
from qbot.types import IntentKind, OrderType, Proposal, Side, Source

LIMITED = (OrderType.LIMIT, OrderType.STOP_LIMIT)
STOPPED = (OrderType.STOP, OrderType.STOP_LIMIT)


def quantity(case: Case) -> Refusal | None:
    """the number of shares against whole and positive"""
    qty = case.proposal.qty
    if qty.is_finite() and qty > 0 and qty == qty.to_integral_value():
        return None
    return Refusal("QUANTITY_INVALID", "only a positive number of whole shares can be traded", {"qty": str(qty)})


def direction(case: Case) -> Refusal | None:
    """the side against the kind: entries buy, all else sells, an emergency never enters"""
    proposal = case.proposal
    entry = proposal.kind is IntentKind.ENTRY
    if entry == (proposal.side is Side.BUY) and not (entry and proposal.source is Source.EMERGENCY):
        return None
    numbers = {"side": str(proposal.side), "kind": str(proposal.kind), "source": str(proposal.source)}
    return Refusal("DIRECTION_INVALID", "long only: entries buy and exits sell", numbers)


def duplicate_intent(case: Case) -> Refusal | None:
    """symbol and side against what the same run was allowed before: both would have one id"""
    symbol, side = case.proposal.symbol, case.proposal.side
    if (symbol, side) not in case.allowed_this_run:
        return None
    message = f"this run has a {side} order of {symbol} already"
    return Refusal("DUPLICATE_INTENT", message, {"symbol": symbol, "side": str(side)})


def own_prices(case: Case) -> Refusal | None:
    """the order's own prices against positive numbers, and against what its type needs"""
    told = _own_prices(case.proposal)
    needed = _needed_prices(case.proposal)
    broken = {name: str(price) for name, price in told.items() if not _is_price(price)}
    broken |= {name: "None" for name in needed if name not in told}
    if not broken:
        return None
    message = f"a {case.proposal.order_type} order needs as prices: {', '.join(needed) or 'none'}"
    return Refusal("ORDER_PRICE_INVALID", message, broken)


def _own_prices(proposal: Proposal) -> dict[str, Decimal]:
    names = ("limit_price_usd", "stop_price_usd", "take_profit_usd", "stop_loss_usd")
    prices = {name: getattr(proposal, name) for name in names}
    return {name: price for name, price in prices.items() if price is not None}


def _needed_prices(proposal: Proposal) -> list[str]:
    limit = ["limit_price_usd"] if proposal.order_type in LIMITED else []
    return limit + (["stop_price_usd"] if proposal.order_type in STOPPED else [])


def _is_price(price: Decimal) -> bool:
    return finite(price) and price > 0


def quote(case: Case) -> Refusal | None:
    """whether a last price is known, its age against QUOTE_MAX_AGE_S"""
    symbol, most_s = case.proposal.symbol, limits.QUOTE_MAX_AGE_S
    known, price = case.market.quotes.get(symbol), last_price_usd(case)
    if known is None or not finite(price):
        told = "None" if known is None else str(known.price_usd)
        return Refusal("QUOTE_MISSING", f"no price of {symbol} is known", {"symbol": symbol, "price_usd": told})
    age_s = (case.market.now - known.at).total_seconds()
    if -limits.CLOCK_SKEW_S <= age_s <= most_s:
        return None
    numbers = {"age_s": f"{age_s:.0f}", "max_age_s": str(most_s)}
    told = f"{age_s:.0f} s old" if age_s > most_s else f"from {-age_s:.0f} s ahead of this cycle"
    return Refusal("QUOTE_STALE", f"the last price is {told}", numbers)


def price(case: Case) -> Refusal | None:
    """what the order may cost a share against positive"""
    if _is_price(case.proposal.price_usd):
        return None
    message = "what the order may cost is unknown"
    return Refusal("PRICE_INVALID", message, {"price_usd": str(case.proposal.price_usd)})


def forecast(case: Case) -> Refusal | None:
    """whether there is a signal, the time against its expiry"""
    signal, now = case.proposal.signal, case.market.now
    if signal is None:
        return Refusal("SIGNAL_MISSING", "an automatic order needs a signal", {"signal": "None"})
    if now < signal.expires_at:
        return None
    numbers = {"expired": signal.expires_at.isoformat(), "now": now.isoformat()}
    return Refusal("FORECAST_EXPIRED", "the forecast behind the signal has expired", numbers)


def collar(case: Case) -> Refusal | None:
    """the limit of a purchase against PRICE_COLLAR_PCT over the last price, or over its stop if that is higher

    Only the costly side is a mistake that costs money: a lower limit rests until the market comes to it.
    """
    proposal, last = case.proposal, last_price_usd(case)
    limit, stop = proposal.limit_price_usd, proposal.stop_price_usd
    bases = [last] if stop is None or proposal.order_type is not OrderType.STOP_LIMIT else [last, stop]
    if limit is None:
        return None
    if finite(limit, *bases) and limit <= max(bases) * (1 + limits.PRICE_COLLAR_PCT):
        return None
    numbers = {"limit_usd": str(limit), "last_usd": str(last), "collar_pct": str(limits.PRICE_COLLAR_PCT)}
    return Refusal("PRICE_COLLAR", "the limit is too far on the costly side of the last price", numbers)


def room(case: Case) -> Refusal | None:
    """how far a cycle's stop-loss and take-profit lie from the last price against BRACKET_GAP_USD"""
    nearest = min(case.config.stop_loss_pct, case.config.take_profit_pct) * last_price_usd(case)
    if finite(nearest) and nearest >= limits.BRACKET_GAP_USD:
        return None
    numbers = {"distance_usd": str(nearest), "least_usd": str(limits.BRACKET_GAP_USD)}
    return Refusal("NO_ROOM_FOR_STOP", "the share costs too little for its stop-loss or take-profit", numbers)


def fat_finger(case: Case) -> Refusal | None:
    """a human's limit or stop of a sale against FAT_FINGER_PCT of the last price, where one is known

    No collar: such a sale is safer than one at the market, which always passes. But at half the price a digit is
    missing, and a stop there protects nothing.
    """
    last = last_price_usd(case)
    least = last * limits.FAT_FINGER_PCT
    told = _own_prices(case.proposal)
    low = {name: str(price) for name, price in told.items() if finite(price, least) and price < least}
    if not low or case.proposal.source is Source.EMERGENCY:
        return None
    message = f"its price is under {limits.FAT_FINGER_PCT:.0%} of the last one; a digit may be missing"
    return Refusal("FAT_FINGER", message, {**low, "last_usd": str(last)})


def excluded(case: Case) -> Refusal | None:
    """the symbol against excluded_tickers"""
    symbol = case.proposal.symbol
    if symbol not in case.config.excluded_tickers:
        return None
    return Refusal("EXCLUDED", f"{symbol} is on the exclusion list", {"symbol": symbol})


def order_size(case: Case) -> Refusal | None:
    """what the order may cost against MAX_ORDER_NOTIONAL_USD"""
    used, most = case.proposal.notional_usd, limits.MAX_ORDER_NOTIONAL_USD
    return over("MAX_ORDER_NOTIONAL", "too large an order", used, most)


def on_its_way(case: Case) -> Refusal | None:
    """symbol and side against the unsettled intents"""
    symbol, side = case.proposal.symbol, case.proposal.side
    if side not in case.usage.unsettled.get(symbol, frozenset()):
        return None
    message = f"a {side} order of {symbol} is still on its way"
    return Refusal("ORDER_ON_ITS_WAY", message, {"symbol": symbol, "side": str(side)})


def opposite(case: Case) -> Refusal | None:
    """sales of the symbol on their way, and open orders on its other side, against none: a wash trade"""
    symbol = case.proposal.symbol
    if Side.SELL in case.usage.unsettled.get(symbol, frozenset()):
        return Refusal("OPPOSITE_ORDER_OPEN", f"a sale of {symbol} is on its way", {"symbol": symbol})
    for order in case.market.open_orders:
        if order.symbol != symbol or order.side is case.proposal.side:
            continue
        if not order.protective:
            message = "an open order on the other side would be a wash trade"
            return Refusal("OPPOSITE_ORDER_OPEN", message, {"order": order.broker_order_id})
        if whose(case.proposal) is Whose.HUMAN_ENTRY:  # a cycle's is a bracket, which the venue takes beside a stop
            message = "its stop-loss rests at the broker, which takes no simple purchase beside it: a wash trade"
            return Refusal("OPPOSITE_ORDER_OPEN", message, {"order": order.broker_order_id})
    return None


def held(case: Case) -> Refusal | None:
    """the number of shares against those held, less those being sold already

    An emergency looks at the broker before and after each sale, so that nothing counts as being sold.
    """
    symbol, owned = case.proposal.symbol, position_qty(case)
    emergency = case.proposal.source is Source.EMERGENCY
    selling = Decimal(0) if emergency else case.usage.selling.get(symbol, Decimal(0))
    if finite(owned, selling) and case.proposal.qty <= owned - selling:
        return None
    numbers = {"qty": str(case.proposal.qty), "held": str(owned), "being_sold": str(selling)}
    return Refusal("NOT_HELD", "more shares than are held, and not being sold already, cannot be sold", numbers)


def levels(case: Case) -> Refusal | None:
    """the stop-loss of a protection against its take-profit; neither of them where it sells at once"""
    stop, profit = case.proposal.stop_loss_usd, case.proposal.take_profit_usd
    if case.proposal.order_type is OrderType.MARKET and stop is None and profit is None:
        return None
    if stop is not None and profit is not None and finite(stop, profit) and 0 < stop < profit:
        return None
    numbers = {"stop_loss_usd": str(stop), "take_profit_usd": str(profit)}
    return Refusal("LEVELS_INVALID", "a protection needs a stop-loss under a take-profit", numbers)


def free(case: Case) -> Refusal | None:
    """the number of shares to protect against those held, less those that other sales hold or are about to"""
    symbol, owned = case.proposal.symbol, position_qty(case)
    resting = protection.resting(case.market.open_orders).get(symbol, Decimal(0))
    coming = total(*(of.get(symbol, Decimal(0)) for of in (case.usage.selling, case.usage.protecting)))
    if finite(owned, coming) and case.proposal.qty <= owned - resting - coming:
        return None
    qty = str(case.proposal.qty)
    numbers = {"qty": qty, "held": str(owned), "resting": str(resting), "being_sold": str(coming)}
    return Refusal("NOT_FREE", "shares that other sales hold cannot be protected", numbers)
