"""What each source of market data allows on its free plan, as data; each limit stands here once, with its reason. Pure.

Vendors' facts are those of November 2026. A paid plan is the free one with some numbers changed: `changed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from qbot import limits
from qbot.clock import NEW_YORK
from qbot.errors import ConfigError


class Need(StrEnum):
    """What a source is asked for."""

    PRICE = "price"  # the latest price, while the exchange is open
    BARS = "bars"  # intraday bars
    CLOSE = "close"  # the price of the last close
    NEWS = "news"
    FUNDAMENTALS = "fundamentals"


LIVE = frozenset({Need.PRICE, Need.BARS})  # what a session needs over and over


class Span(StrEnum):
    """What a limit is of. The shorter two are kept by waiting, the longer two by counting."""

    SECOND = "second"
    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


SPAN_S = {Span.SECOND: 1, Span.MINUTE: 60}
COUNTED = (Span.DAY, Span.MONTH)


class Unit(StrEnum):
    """What a limit counts: requests, or the symbols in them (vendors say credits)."""

    CALLS = "calls"
    SYMBOLS = "symbols"


class Renewal(StrEnum):
    """When a counted limit is whole again: at midnight there, or at the first of the month."""

    UTC = "UTC"
    NEW_YORK = "New York"


ZONES: Mapping[Renewal, ZoneInfo | Any] = {Renewal.UTC: UTC, Renewal.NEW_YORK: NEW_YORK}


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` within a span. `why` names the source of the number."""

    amount: int
    span: Span
    unit: Unit
    why: str
    renews: Renewal = Renewal.UTC


@dataclass(frozen=True, slots=True)
class Plan:
    """What one source allows. `symbols_per_call`: how many one request may ask for.

    `bars_bring_price`: an answer with bars holds the latest price too. `keyless`: it needs no key. `note`: what a human
    should know of it, one sentence.
    """

    source: str
    limits: tuple[Limit, ...]
    symbols_per_call: int
    offers: frozenset[Need]
    note: str
    name: str = "free"
    bars_bring_price: bool = False
    keyless: bool = False

    def __post_init__(self) -> None:
        spans = [limit.span for limit in self.limits]
        short = {limit.unit for limit in self.limits if limit.span in SPAN_S}
        if len(set(spans)) < len(spans) or len(short) > 1:
            raise ValueError(f"{self.source}: one limit a span, and the short ones in one unit")
        if self.symbols_per_call < 1 or any(limit.amount < 1 for limit in self.limits):
            raise ValueError(f"{self.source}: limits are positive")
        if any(limit.unit is Unit.SYMBOLS and limit.amount < self.symbols_per_call for limit in self.limits):
            raise ValueError(f"{self.source}: one request costs more than a limit has")

    @property
    def live(self) -> bool:
        """Whether it has prices of the running session; else only those of the last close."""
        return Need.PRICE in self.offers

    @property
    def metered(self) -> bool:
        """Whether calls are used up for a day or a month, and not only held back for seconds."""
        return any(limit.span in COUNTED for limit in self.limits)

    def of(self, span: Span) -> Limit | None:
        """The limit of that span; None: there is none."""
        return next((limit for limit in self.limits if limit.span is span), None)

    def units(self, limit: Limit, symbols: int) -> int:
        """What a request for so many symbols counts for a limit."""
        return symbols if limit.unit is Unit.SYMBOLS else -(-symbols // self.symbols_per_call)


def _of_minute(amount: int, unit: Unit, why: str) -> Limit:
    return Limit(amount, Span.MINUTE, unit, why)


def _offers(*needs: Need) -> frozenset[Need]:
    return frozenset(needs)


ALPACA = Plan(
    source="alpaca",
    limits=(_of_minute(200, Unit.CALLS, "its answers say so (X-RateLimit-Limit)"),),
    symbols_per_call=200,  # ours: longer addresses are refused by servers on the way
    offers=_offers(Need.PRICE, Need.BARS, Need.CLOSE),
    note="Free: the trades of one exchange, IEX, which has a few percent of the volume.",
)
FINNHUB = Plan(
    source="finnhub",
    limits=(
        Limit(30, Span.SECOND, Unit.CALLS, "the vendor's documentation: on top of every plan"),
        _of_minute(60, Unit.CALLS, "the vendor's documentation"),
    ),
    symbols_per_call=1,
    offers=_offers(Need.PRICE, Need.CLOSE, Need.NEWS, Need.FUNDAMENTALS),
    note="Bars are of the paid plans.",
)
TWELVEDATA = Plan(
    source="twelvedata",
    limits=(
        _of_minute(8, Unit.SYMBOLS, "the vendor's documentation: a credit a symbol"),
        Limit(800, Span.DAY, Unit.SYMBOLS, "the vendor's documentation: renewed at midnight UTC", Renewal.UTC),
    ),
    symbols_per_call=8,  # one request must not cost more than a minute has
    offers=_offers(Need.PRICE, Need.BARS, Need.CLOSE),
    note="Fundamentals are of the paid plans.",
)
FMP = Plan(
    source="fmp",
    limits=(
        Limit(5, Span.SECOND, Unit.CALLS, "ours: the vendor publishes none for this plan"),
        Limit(250, Span.DAY, Unit.CALLS, "the vendor's price list; it does not say when it renews", Renewal.NEW_YORK),
    ),
    symbols_per_call=1,  # several in one request are answered with an empty list
    offers=_offers(Need.PRICE, Need.CLOSE, Need.FUNDAMENTALS),
    note="Several symbols in one request, bars and news are of the paid plans.",
)
MARKETSTACK = Plan(
    source="marketstack",
    limits=(
        Limit(1, Span.SECOND, Unit.CALLS, "ours: its limit of a second is answered with 429 and not published"),
        Limit(100, Span.MONTH, Unit.SYMBOLS, "the vendor's price list: each symbol of a request counts", Renewal.UTC),
    ),
    symbols_per_call=100,
    offers=_offers(Need.CLOSE),
    note="End of day only: never asked for a price while the exchange is open.",
)
YFINANCE = Plan(
    source="yfinance",
    limits=(
        Limit(1, Span.SECOND, Unit.CALLS, "ours: Yahoo publishes no limits and bars an address for a day"),
        _of_minute(30, Unit.CALLS, "ours: users report that some 2,000 an hour go well"),
    ),
    symbols_per_call=1,  # asked for one at a time: only then a limit can be told from a missing ticker
    offers=_offers(*Need),
    note="No key and no contract: it may stop answering any day.",
    bars_bring_price=True,
    keyless=True,
)
FREE = {plan.source: plan for plan in (ALPACA, FINNHUB, TWELVEDATA, FMP, MARKETSTACK, YFINANCE)}
ORDER = tuple(FREE)  # whom to ask first: the broker's own feed, vendors with a contract, the one without


@dataclass(frozen=True, slots=True)
class Period:
    """The time in which a counted limit holds, once."""

    begins_at: datetime
    renews_at: datetime


def period(limit: Limit, now: datetime) -> Period:
    """The period of a counted limit at `now` (wall time). Raises ValueError for a limit of seconds or minutes."""
    local = now.astimezone(ZONES[limit.renews])
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if limit.span is Span.DAY:
        begin, end = midnight, midnight + timedelta(days=1)  # of wall clocks there: a day of 23 or 25 hours too
    elif limit.span is Span.MONTH:
        begin = midnight.replace(day=1)
        end = (begin + timedelta(days=32)).replace(day=1)
    else:
        raise ValueError(f"a limit of a {limit.span} has no period")
    return Period(begin.astimezone(UTC), end.astimezone(UTC))


def periods(limit: Limit, now: datetime) -> tuple[Period, ...]:
    """Those in which the vendor may count a call that is made now: two near a renewal, since clocks differ."""
    guard = timedelta(seconds=limits.RENEWAL_GUARD_S)
    found = (period(limit, now - guard), period(limit, now + guard))
    return found[:1] if found[0] == found[1] else found


def in_order(named: str) -> tuple[str, ...]:
    """A fallback order from text with commas; whoever is not named follows in the default order.

    Raises ConfigError for a name that is no source.
    """
    wanted = tuple(part.strip().lower() for part in named.split(",") if part.strip())
    unknown = [name for name in wanted if name not in FREE]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no source of market data; there are {', '.join(ORDER)}")
    return tuple(dict.fromkeys((*wanted, *ORDER)))


_SPAN_OF = {f"per_{span}": span for span in Span}
_NEED_OF = {str(need): need for need in Need}


def changed(plan: Plan, changes: Mapping[str, int | bool | None]) -> Plan:
    """The plan with what a paid one has otherwise: `per_minute`, `per_day` … (None: no such limit), `symbols_per_call`,
    and `bars`, `news` … with true or false. Raises ConfigError, naming what is wrong.
    """
    found = {limit.span: limit for limit in plan.limits}
    offers, per_call = set(plan.offers), plan.symbols_per_call
    for name, value in changes.items():
        if name in _SPAN_OF and (value is None or _is_number(value)):
            found.pop(_SPAN_OF[name], None)
            if value is not None:
                found[_SPAN_OF[name]] = _limit(plan, _SPAN_OF[name], value)
        elif name == "symbols_per_call" and value is not None and _is_number(value):
            per_call = value
        elif name in _NEED_OF and isinstance(value, bool):
            offers = offers | {_NEED_OF[name]} if value else offers - {_NEED_OF[name]}
        else:
            allowed = ", ".join([*_SPAN_OF, "symbols_per_call", *_NEED_OF])
            raise ConfigError(f"{plan.source}: {name}={value!r} cannot be set; there are {allowed}")
    kept = tuple(found[span] for span in Span if span in found)
    try:
        return replace(plan, limits=kept, offers=frozenset(offers), symbols_per_call=per_call, name="yours", note="")
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _limit(plan: Plan, span: Span, amount: int) -> Limit:
    """As the one it takes the place of; a new one counts what the others of the plan do."""
    old = plan.of(span) or next((limit for limit in reversed(plan.limits)), None)
    unit, renews = (old.unit, old.renews) if old else (Unit.CALLS, Renewal.UTC)
    return Limit(amount, span, unit, "set by you", renews)
