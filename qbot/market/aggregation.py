"""Quotes of several sources into one for each ticker, or none: what cannot be a price is rejected first. Pure.

Fails closed: where sources disagree and nothing settles it, there is no price. Each refusal has a name and its words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from qbot import limits
from qbot.market.calendar import Session
from qbot.market.plans import ORDER
from qbot.market.reading import PRICE_MAX_USD
from qbot.types import Quote

MAX_AGE = timedelta(seconds=limits.QUOTE_MAX_AGE_S)
SKEW = timedelta(seconds=limits.CLOCK_SKEW_S)
PRINT = timedelta(seconds=limits.CLOSING_PRINT_S)
FRESHER = timedelta(seconds=limits.FRESHER_S)
# New shares for one old share, as splits and reverse splits have them; 3 for 2 is the smallest that no day's move is.
SPLITS = (Decimal("1.5"), *map(Decimal, (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)))
PRICE_MIN_USD = Decimal("0.0001")  # the venue's smallest step


class Reason(StrEnum):
    """Why a quote is not used."""

    NOT_A_NUMBER = "not_a_number"
    ZERO = "zero"
    NEGATIVE = "negative"
    ABSURD = "absurd"  # no share costs that
    NO_TIME_ZONE = "no_time_zone"
    FUTURE = "future"
    OUT_OF_SESSION = "out_of_session"
    STALE = "stale"
    SPLIT = "split_unadjusted"
    OLDER = "older"  # the same source has told something newer
    OUTLIER = "outlier"  # out of the band of those that agree
    DISPUTED = "disputed"  # the sources disagree, and nothing tells who is right
    JUMP = "jump"  # far from the last accepted price, and nobody confirms it


class Basis(StrEnum):
    """What a price rests on."""

    MAJORITY = "majority"  # more than half of the sound sources agree
    ALONE = "alone"  # one sound source only
    LAST = "last"  # they disagree; this one is near the last accepted price


@dataclass(frozen=True, slots=True)
class Market:
    """What quotes are judged by. `sessions`: all of the last days; the one that began last counts.

    `last_closes`: of the session before it, USD. `last`: the last accepted quote of a ticker; `confirmed`: the tickers
    where two sources agreed on that. `trust`: sources, those trusted most first.
    """

    now: datetime
    sessions: Sequence[Session]
    last_closes: Mapping[str, Decimal] = field(default_factory=dict)
    last: Mapping[str, Quote] = field(default_factory=dict)
    confirmed: Collection[str] = frozenset()
    trust: Sequence[str] = ORDER


@dataclass(frozen=True, slots=True)
class Agreed:
    """The price of a ticker: the quote of one source, whose time it keeps, and all sources that agree with it."""

    quote: Quote
    sources: tuple[str, ...]
    basis: Basis


@dataclass(frozen=True, slots=True)
class Dropped:
    """A quote that is not used."""

    symbol: str
    source: str
    reason: Reason
    words: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One price a ticker at most. `disputed`: tickers whose sources disagree: one more source settles it."""

    agreed: Mapping[str, Agreed]
    dropped: tuple[Dropped, ...]

    @property
    def disputed(self) -> frozenset[str]:
        """Tickers whose sources disagree, also where the last price has settled it, or where one alone tells of a jump.

        Else a source that tells the last price for ever would bear itself out, and nobody would be asked who is right.
        """
        settled = frozenset(symbol for symbol, one in self.agreed.items() if one.basis is Basis.LAST)
        return settled | {one.symbol for one in self.dropped if one.reason in (Reason.DISPUTED, Reason.JUMP)}


def aggregate(quotes: Iterable[Quote], market: Market) -> Aggregate:
    """Judge every quote and join those of each ticker. Never raises for what a quote holds."""
    sound: defaultdict[str, dict[str, Quote]] = defaultdict(dict)
    dropped: list[Dropped] = []
    for quote in quotes:
        found = unsound(quote, market)
        if found is not None:
            dropped.append(_drop(quote, *found))
            continue
        others = sound[quote.symbol]
        known = others.get(quote.source)
        if known is not None:  # a source has one voice
            older = min(known, quote, key=lambda one: one.at)
            quote = known if older is quote else quote
            dropped.append(_drop(older, Reason.OLDER, f"it has told of {quote.at.isoformat()} since"))
        others[quote.source] = quote
    agreed: dict[str, Agreed] = {}
    for symbol, by_source in sound.items():
        one, refused = _join(list(by_source.values()), market)
        dropped += refused
        if one is not None:
            agreed[symbol] = one
    return Aggregate(agreed, tuple(dropped))


# --- one quote --------------------------------------------------------------------------------------------------------


def unsound(quote: Quote, market: Market) -> tuple[Reason, str] | None:
    """Why a quote cannot be a price of now, the first reason that holds; None when it can."""
    for name, value in (("price", quote.price_usd), ("bid", quote.bid_usd), ("ask", quote.ask_usd)):
        if not value.is_finite():
            return Reason.NOT_A_NUMBER, f"the {name} is {value}"
        if value == 0:
            return Reason.ZERO, f"the {name} is zero"
        if value < 0:
            return Reason.NEGATIVE, f"the {name} is {value}"
        if not PRICE_MIN_USD <= value <= PRICE_MAX_USD:
            return Reason.ABSURD, f"the {name} is {value:.3g}"
    if quote.at.tzinfo is None:
        return Reason.NO_TIME_ZONE, f"{quote.at.isoformat()} has no time zone"
    return _untimely(quote, market) or _unsplit(quote, market)


def _untimely(quote: Quote, market: Market) -> tuple[Reason, str] | None:
    """Before the session of now, after it, or too old. Out of hours the last session counts, up to its end."""
    if quote.at > market.now + SKEW:
        return Reason.FUTURE, f"{quote.at.isoformat()} is yet to come"
    begun = [session for session in market.sessions if session[0] <= market.now]
    if not begun:
        return Reason.OUT_OF_SESSION, "no session is known"
    begin, close = max(begun)
    if any(first <= quote.at < last + PRINT for first, last in begun if (first, last) != (begin, close)):
        return Reason.STALE, f"{quote.at.isoformat()} is of an earlier session"
    if not begin <= quote.at < close + PRINT:
        return Reason.OUT_OF_SESSION, f"{quote.at.isoformat()} is no time of the session from {begin.isoformat()}"
    age = min(market.now, close) - quote.at
    if age > MAX_AGE:
        return Reason.STALE, f"{age.total_seconds():.0f} s old, more than {MAX_AGE.total_seconds():.0f}"
    return None


def _unsplit(quote: Quote, market: Market) -> tuple[Reason, str] | None:
    """A price beside the last close as a split would leave it: one of the two does not know of the split yet.

    It is right again as soon as the last close is that after the split.
    """
    close = market.last_closes.get(quote.symbol)
    if close is None or not close.is_finite() or close <= 0:
        return None
    ratio = max(quote.price_usd / close, close / quote.price_usd)
    for split in SPLITS:
        if abs(ratio / split - 1) <= limits.SPLIT_TOLERANCE_PCT:
            return Reason.SPLIT, f"{quote.price_usd} beside a last close of {close} looks like a split of {split}"
    return None


# --- several sources --------------------------------------------------------------------------------------------------


def _join(sound: list[Quote], market: Market) -> tuple[Agreed | None, list[Dropped]]:
    """The price that more than half of the sound sources agree on; else what is near the last accepted one."""
    ranked = sorted(sound, key=lambda quote: (_rank(quote, market), quote.source))
    if len(ranked) == 1:
        return _alone(ranked[0], market)
    group = _majority(ranked)
    if group:
        best = _preferred(group, market)
        words = f"more than {limits.QUOTE_BAND_PCT:.0%} from the {best.price_usd} of {len(group)} sources"
        outliers = [
            _drop(quote, Reason.OUTLIER, f"{quote.price_usd} is {words}") for quote in ranked if quote not in group
        ]
        return _accept(best, group, Basis.MAJORITY), outliers
    best = _preferred(ranked, market)
    told = ", ".join(f"{quote.source} {quote.price_usd}" for quote in ranked)
    last = _recent(best.symbol, market)
    if last is not None and near(best.price_usd, last.price_usd, limits.QUOTE_BAND_PCT):
        others = [
            _drop(quote, Reason.OUTLIER, f"{told}; the last was {last.price_usd}") for quote in ranked if quote != best
        ]
        return _accept(best, [best], Basis.LAST), others
    return None, [_drop(quote, Reason.DISPUTED, told) for quote in ranked]


def _alone(quote: Quote, market: Market) -> tuple[Agreed | None, list[Dropped]]:
    """One sound source is believed, unless it is far from what was accepted just now; less far, if by two."""
    last = _recent(quote.symbol, market)
    band_pct = limits.QUOTE_DRIFT_PCT if quote.symbol in market.confirmed else limits.QUOTE_JUMP_PCT
    if last is not None and not near(quote.price_usd, last.price_usd, band_pct):
        words = f"{quote.price_usd} after {last.price_usd}, and nobody else tells of it"
        return None, [_drop(quote, Reason.JUMP, words)]
    return _accept(quote, [quote], Basis.ALONE), []


def _majority(ranked: Sequence[Quote]) -> list[Quote]:
    """The tightest of the largest groups within the band that hold more than half; empty when there is none."""
    by_price = sorted(ranked, key=lambda quote: quote.price_usd)
    best: list[Quote] = []
    for first in range(len(by_price)):
        low = by_price[first].price_usd
        group = [quote for quote in by_price[first:] if near(quote.price_usd, low, limits.QUOTE_BAND_PCT)]
        if (len(group), -_spread(group)) > (len(best), -_spread(best)):
            best = group
    return [quote for quote in ranked if quote in best] if 2 * len(best) > len(ranked) else []


def _spread(group: Sequence[Quote]) -> Decimal:
    return group[-1].price_usd / group[0].price_usd if group else Decimal(1)


def _preferred(group: Sequence[Quote], market: Market) -> Quote:
    """The most trusted of those that are as fresh as the freshest."""
    newest = max(quote.at for quote in group)
    fresh = [quote for quote in group if newest - quote.at < FRESHER]
    return min(fresh, key=lambda quote: (_rank(quote, market), quote.source))


def _rank(quote: Quote, market: Market) -> int:
    trust = market.trust
    return trust.index(quote.source) if quote.source in trust else len(trust)


def _recent(symbol: str, market: Market) -> Quote | None:
    """The last accepted quote, while it tells something of now."""
    last = market.last.get(symbol)
    return last if last is not None and -SKEW <= market.now - last.at <= MAX_AGE else None


def near(one: Decimal, other: Decimal, band_pct: Decimal) -> bool:
    """Whether the larger is over the smaller by no more than the band, a fraction."""
    return max(one, other) <= min(one, other) * (1 + band_pct)


def _accept(best: Quote, group: Sequence[Quote], basis: Basis) -> Agreed:
    sources = (best.source, *(quote.source for quote in group if quote.source != best.source))
    return Agreed(best, sources, basis)


def _drop(quote: Quote, reason: Reason, words: str) -> Dropped:
    return Dropped(quote.symbol, quote.source, reason, words)
