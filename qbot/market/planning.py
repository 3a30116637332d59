"""Who is asked for what in one pass, so that all tickers stay as fresh as the quotas allow. Pure.

Urgent tickers (held, or with an open order) come first, then the oldest data. What a day or a month allows is spread
over the time in which it is needed, with a reserve for what becomes urgent later. Nobody is asked for what it does not
have, nor twice for one thing in a pass; a second source is asked for a price so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product

from qbot import limits
from qbot.market.calendar import Session
from qbot.market.pacing import Rules, Source, at_once, is_open, rate
from qbot.market.plans import COUNTED, LIVE, SPAN_S, Limit, Need, Plan, Span

NEVER = datetime.min.replace(tzinfo=UTC)
SKEW = timedelta(seconds=limits.CLOCK_SKEW_S)
NOT_NOW = "what the quotas allow in a pass goes to what is more urgent or older"
NOBODY = "no source at hand has it"
UNKNOWN = "no source that can be asked knows it"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A ticker that something is needed of. `urgent`: held, or with an open order.

    `got_at`: when a source last answered for it; `confirmed_at`: when two last agreed on its price; None: never.
    `disputed`: the last ones asked for its price disagreed, so that one more is needed.
    """

    symbol: str
    urgent: bool = False
    got_at: datetime | None = None
    confirmed_at: datetime | None = None
    disputed: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: these symbols, in this order. `brings`: what its answer holds besides the need."""

    source: str
    need: Need
    symbols: tuple[str, ...]
    brings: frozenset[Need] = frozenset()


@dataclass(frozen=True, slots=True)
class Unmet:
    """What is due and not asked for in this pass, and why."""

    symbol: str
    need: Need
    why: str


@dataclass(frozen=True, slots=True)
class Pass:
    """The requests of a pass that began then, the most urgent of each source first."""

    began_at: datetime
    asks: tuple[Ask, ...]
    unmet: tuple[Unmet, ...] = ()

    def units(self, plan: Plan, limit: Limit) -> int:
        """What the requests to a source count for one of its limits."""
        return sum(plan.units(limit, len(ask.symbols)) for ask in self.asks if ask.source == plan.source)


# --- what a pass asks of one source -----------------------------------------------------------------------------------


class _Purse:
    """What may still be asked of one source, and what it is asked for. `earlier`: already, in this very pass."""

    def __init__(
        self, source: Source, now: datetime, sessions: Sequence[Session], rules: Rules, earlier: Sequence[Ask]
    ) -> None:
        self.source, self.plan = source, source.plan
        self.asked: dict[Need, dict[str, None]] = {need: {} for need in Need}  # sets that keep their order
        self.earlier: dict[Need, set[str]] = {need: set() for need in Need}
        for ask in earlier:
            if ask.source == self.plan.source:
                self.earlier[ask.need].update(ask.symbols)
        self._counts = {need: len(symbols) for need, symbols in self.earlier.items()}
        self._live = LIVE if is_open(sessions, now) else frozenset()
        self._allowed: dict[tuple[Span, bool, bool], int] = {}
        for limit in self.plan.limits:
            for live, urgent in product((True, False), repeat=2):
                once = at_once(limit, rules)
                if once is None:
                    once = rate(source, limit, now, sessions, rules, live=live, urgent=urgent).now
                self._allowed[limit.span, live, urgent] = once
            for live in (True, False):  # of two rates the slower may have its turn in a pass where the other has not
                ordinary = self._allowed[limit.span, live, False]
                self._allowed[limit.span, live, True] = max(ordinary, self._allowed[limit.span, live, True])

    def offers(self, symbol: str, need: Need) -> bool:
        """Whether the source has it and can be asked."""
        return self.source.closed is None and need in self.plan.offers and symbol not in self.source.refuses

    def take(self, symbol: str, need: Need, urgent: bool) -> bool:
        """Ask for it, if the source has it, was not asked before, and the limits of this pass allow."""
        if not self.offers(symbol, need) or symbol in self.earlier[need] or symbol in self.asked[need]:
            return False
        if need is Need.BARS and self.plan.bars_bring_price and symbol in self.asked[Need.PRICE]:
            del self.asked[Need.PRICE][symbol]  # the same request, with more in its answer
            self._counts[Need.PRICE] -= 1
        elif not self._affords(need, urgent):
            return False
        self.asked[need][symbol] = None
        self._counts[need] += 1
        return True

    def prices(self, symbol: str) -> bool:
        """Whether the source is asked for this price, or was."""
        needs = (Need.PRICE, Need.BARS) if self.plan.bars_bring_price else (Need.PRICE,)
        return any(symbol in self.asked[need] or symbol in self.earlier[need] for need in needs)

    def _affords(self, need: Need, urgent: bool) -> bool:
        """Whether the limits allow one symbol more. What is no running session's need has a share of its own."""
        counts = self._counts | {need: self._counts[need] + 1}
        for limit in self.plan.limits:
            whole = aside = 0
            for kind, count in counts.items():
                units = self.plan.units(limit, count)
                whole += units
                aside += 0 if kind in self._live else units
            counted_aside = need not in self._live and limit.span in COUNTED
            most = self._allowed[limit.span, need in self._live, urgent]
            if (aside if counted_aside else whole) > most or whole > self._whole(limit):
                return False
        return True

    def _whole(self, limit: Limit) -> int:
        """Nothing of a pass goes past what is left of a limit, however it is shared out."""
        if limit.span in SPAN_S:
            return self._allowed[limit.span, True, True]
        return max(0, limit.amount - self.source.used.get(limit.span, 0))

    def asks(self) -> Iterable[Ask]:
        """The requests, as few as the source allows."""
        for need, symbols in self.asked.items():
            listed = tuple(symbols)
            for first in range(0, len(listed), self.plan.symbols_per_call):
                batch = listed[first : first + self.plan.symbols_per_call]
                yield Ask(self.plan.source, need, batch, self._brings(need, batch))

    def _brings(self, need: Need, batch: Sequence[str]) -> frozenset[Need]:
        """The price too, but where it is on its way already."""
        new = self.earlier[Need.PRICE].isdisjoint(batch)
        return frozenset({Need.PRICE} if need is Need.BARS and self.plan.bars_bring_price and new else ())


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(
    wanted: Mapping[Need, Sequence[Wanted]],
    sources: Sequence[Source],
    now: datetime,
    sessions: Sequence[Session],
    rules: Rules = Rules(),
    earlier: Pass | None = None,
) -> Pass:
    """Who is asked for what now. `sessions`: those between the begin and the end of every period at hand.

    With `earlier`, what this very pass asked for already, others are asked for what did not come.
    """
    by_name = {source.plan.source: source for source in sources}
    before = earlier.asks if earlier else ()
    purses = [_Purse(by_name[name], now, sessions, rules, before) for name in rules.order if name in by_name]
    began_at = earlier.began_at if earlier else now
    told = {need: [_by_now(one, now) for one in wanted.get(need, ())] for need in Need}
    due = {need: _due(need, told[need], began_at, sessions, rules, earlier is not None) for need in Need}
    unmet: list[Unmet] = []
    for urgent in (True, False):
        prices = [one for one in due[Need.PRICE] if one.urgent is urgent]
        unmet += _first(purses, Need.PRICE, prices)
        if urgent:
            _compare(purses, prices, rules)
    unmet += _first(purses, Need.BARS, due[Need.BARS])
    _compare(purses, [one for one in due[Need.PRICE] if not one.urgent], rules)
    for need in (Need.CLOSE, Need.NEWS, Need.FUNDAMENTALS):
        unmet += _first(purses, need, due[need])
    return Pass(began_at, tuple(ask for purse in purses for ask in purse.asks()), tuple(unmet))


def _by_now(one: Wanted, now: datetime) -> Wanted:
    """What a clock noted that ran ahead and was set back, never was: else nobody would be asked before that time."""
    got_at, confirmed_at = (None if at is not None and at > now + SKEW else at for at in (one.got_at, one.confirmed_at))
    same = (got_at, confirmed_at) == (one.got_at, one.confirmed_at)
    return one if same else replace(one, got_at=got_at, confirmed_at=confirmed_at)


def _due(
    need: Need, wanted: Sequence[Wanted], began_at: datetime, sessions: Sequence[Session], rules: Rules, again: bool
) -> list[Wanted]:
    """What is old enough to be asked for, the urgent first, then the oldest.

    Out of hours no price moves: then the close is wanted, and the bars up to it, once.
    """
    running = is_open(sessions, began_at)
    if need is Need.PRICE and not running:
        return []
    every_s = {Need.NEWS: rules.news_every_s, Need.FUNDAMENTALS: rules.fundamentals_every_s}.get(need)
    if need is Need.CLOSE or (need is Need.BARS and not running):
        since = max((close for _, close in sessions if close <= began_at), default=NEVER)
    elif every_s is not None:
        since = began_at - timedelta(seconds=every_s - rules.pass_s / 2)
    else:  # the last answers of the pass before may have come this late
        since = began_at - timedelta(seconds=0.0 if again else rules.pass_s * (1.0 - rules.busy_share))
    due = [one for one in wanted if one.got_at is None or one.got_at < since or (one.disputed and need is Need.PRICE)]
    return sorted(due, key=lambda one: (not one.urgent, one.got_at or NEVER, one.symbol))


def _first(purses: Sequence[_Purse], need: Need, due: Sequence[Wanted]) -> list[Unmet]:
    """One source for each; what found none, and why."""
    unmet = []
    for one in due:
        if not any(purse.take(one.symbol, need, one.urgent) for purse in purses):
            unmet.append(Unmet(one.symbol, need, _why_not(purses, need, one.symbol)))
    return unmet


def _compare(purses: Sequence[_Purse], due: Sequence[Wanted], rules: Rules) -> None:
    """Further sources for prices that are asked for: the disputed first, then those compared longest ago.

    Sources whose calls are used up for the day come last here: they are kept for when there is nobody else.
    """
    cheap_first = sorted(purses, key=lambda purse: purse.plan.metered)
    for one in sorted(due, key=lambda one: (not one.disputed, one.confirmed_at or NEVER, one.symbol)):
        asked = sum(purse.prices(one.symbol) for purse in purses)
        missing = rules.opinions + one.disputed - asked if asked else 0
        for purse in cheap_first:
            if missing > 0 and not purse.prices(one.symbol) and purse.take(one.symbol, Need.PRICE, one.urgent):
                missing -= 1


def _why_not(purses: Sequence[_Purse], need: Need, symbol: str) -> str:
    having = [purse for purse in purses if need in purse.plan.offers]
    if not having:
        return NOBODY
    closed = [f"{purse.plan.source}: {purse.source.closed}" for purse in having if purse.source.closed]
    if len(closed) == len(having):
        return "; ".join(closed)
    return NOT_NOW if any(purse.offers(symbol, need) for purse in having) else UNKNOWN
