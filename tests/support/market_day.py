"""A trading day of many passes against vendors that count strictly, with times that only the simulation moves."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median

from qbot.market.calendar import Session, sessions_between
from qbot.market.pacing import Rules, Source, is_open
from qbot.market.planning import Ask, Pass, Wanted, plan
from qbot.market.plans import COUNTED, FREE, SPAN_S, Need, Plan, Span, period

TICKERS = tuple(f"T{number:03d}" for number in range(100))
HELD = TICKERS[:5]
DAY = datetime(2026, 3, 4, tzinfo=UTC)  # a Wednesday
ANSWER_S = 0.3
Fetched = dict[tuple[Need, str], list[datetime]]


def sessions_around(day: datetime) -> list[Session]:
    """Those that the periods of a plan reach over."""
    return sessions_between(day - timedelta(days=35), day + timedelta(days=35))


@dataclass
class Vendor:
    """Counts as its plan says, whatever the caller believes. `refused`: the calls that were too many."""

    plan: Plan
    recent: dict[Span, deque[tuple[float, int]]] = field(default_factory=lambda: defaultdict(deque))
    within: Counter[Span] = field(default_factory=Counter)
    counted: Counter[tuple[Span, datetime]] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    calls: int = 0

    def room_at(self, at: datetime, symbols: int) -> datetime:
        """When the limits of seconds and minutes let a request of so many symbols in; what a limiter waits for."""
        for limit in self.plan.limits:
            if limit.span in SPAN_S:
                units = self.plan.units(limit, symbols)
                while self._within(limit.span, at) + units > limit.amount:
                    at = datetime.fromtimestamp(self.recent[limit.span][0][0] + SPAN_S[limit.span] + 0.001, UTC)
        return at

    def take(self, at: datetime, symbols: int) -> None:
        """A request comes in."""
        self.calls += 1
        for limit in self.plan.limits:
            units = self.plan.units(limit, symbols)
            if limit.span in COUNTED:
                key = (limit.span, period(limit, at).begins_at)
                self.counted[key] += units
                taken = self.counted[key]
            else:
                self.recent[limit.span].append((at.timestamp(), units))
                self.within[limit.span] += units
                taken = self._within(limit.span, at)
            if taken > limit.amount:
                self.refused.append(f"{at}: {taken} of {limit.amount} a {limit.span}")

    def used(self, at: datetime) -> dict[Span, int]:
        """What the caller's own books would say."""
        spans = [limit for limit in self.plan.limits if limit.span in COUNTED]
        return {limit.span: self.counted[limit.span, period(limit, at).begins_at] for limit in spans}

    def _within(self, span: Span, at: datetime) -> int:
        window = self.recent[span]
        while window and window[0][0] <= at.timestamp() - SPAN_S[span]:
            self.within[span] -= window.popleft()[1]
        return self.within[span]


@dataclass
class Simulated:
    """What a day brought."""

    vendors: dict[str, Vendor]
    got: Fetched = field(default_factory=lambda: defaultdict(list))
    confirmed: dict[str, datetime] = field(default_factory=dict)
    wasted: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)
    live_passes: int = 0

    def minutes(self, need: Need, symbol: str, session: Session) -> float | None:
        """The longest time in a session in which no newer answer came; None: none ever."""
        begin, close = session
        times = [at for at in self.got[need, symbol] if begin <= at < close]
        if not times:
            return None
        gaps = [
            (later - earlier).total_seconds() / 60 for earlier, later in zip(times, [*times[1:], close], strict=True)
        ]
        return max(gaps)


def simulate(
    names: Iterable[str],
    needs: Sequence[Need] = (Need.PRICE, Need.BARS, Need.CLOSE, Need.NEWS, Need.FUNDAMENTALS),
    *,
    tickers: Sequence[str] = TICKERS,
    held: Sequence[str] = HELD,
    start: datetime = DAY,
    hours: float = 24,
    rules: Rules = Rules(),
    plans: Mapping[str, Plan] = FREE,
) -> Simulated:
    """Passes through the clock, each with its calls paced as the limits of the minute ask for."""
    sessions = sessions_around(start)
    day = Simulated({name: Vendor(plans[name]) for name in names})
    for number in range(int(hours * 3_600 / rules.pass_s)):
        now = start + timedelta(seconds=number * rules.pass_s)
        wanted = {need: [_wanted(day, need, one, one in held) for one in tickers] for need in needs}
        sources = [Source(vendor.plan, vendor.used(now)) for vendor in day.vendors.values()]
        found = plan(wanted, sources, now, sessions, rules)
        day.live_passes += is_open(sessions, now)
        day.wasted += waste(found, day.vendors, now, sessions, rules)
        _carry_out(day, found, now, rules)
    return day


def waste(
    found: Pass, vendors: Mapping[str, Vendor], now: datetime, sessions: Sequence[Session], rules: Rules
) -> list[str]:
    """Requests of a pass that bring nothing: for what the source has not, out of hours, twice, or half empty."""
    said = []
    askers = Counter((ask.need, symbol) for ask in found.asks for symbol in ask.symbols)
    twice = Counter((ask.source, ask.need, symbol) for ask in found.asks for symbol in ask.symbols)
    said += [f"{key} is asked {count} times" for key, count in twice.items() if count > 1]
    for (need, symbol), count in askers.items():
        if count > (rules.opinions if need is Need.PRICE else 1):
            said.append(f"{symbol} {need} is asked of {count}")
    by_kind: defaultdict[tuple[str, Need], list[Ask]] = defaultdict(list)
    for ask in found.asks:
        by_kind[ask.source, ask.need].append(ask)
        if ask.need not in vendors[ask.source].plan.offers:
            said.append(f"{ask.source} has no {ask.need}")
        if ask.need is Need.PRICE and not is_open(sessions, now):
            said.append(f"{ask.source} is asked for a price out of hours")
    for (source, _), asks in by_kind.items():
        full = vendors[source].plan.symbols_per_call
        said += [f"{ask} is not full" for ask in asks[:-1] if len(ask.symbols) < full]
    return [f"{now}: {one}" for one in said]


def report(day: Simulated, session: Session) -> str:
    """The freshness reached, by ticker, and what it cost."""
    lines = []
    for label, symbols in (("held", HELD), ("others", [one for one in TICKERS if one not in HELD])):
        found = [day.minutes(Need.PRICE, one, session) for one in symbols]
        reached = [one for one in found if one is not None]
        never = len(found) - len(reached)
        told = f"median {median(reached):.0f}, worst {max(reached):.0f} min" if reached else "none"
        lines.append(
            f"  {label}: {len(reached)} tickers, a new price every {told}" + (f"; {never} never" if never else "")
        )
        per_ticker = Counter(round(one) for one in reached)
        lines.append("    tickers by minutes: " + ", ".join(f"{count}×{m}" for m, count in sorted(per_ticker.items())))
    for name, vendor in day.vendors.items():
        counted = ", ".join(
            f"{vendor.counted[limit.span, period(limit, session[0]).begins_at]} of {limit.amount} a {limit.span}"
            for limit in vendor.plan.limits
            if limit.span in COUNTED
        )
        lines.append(f"  {name}: {vendor.calls} calls" + (f", {counted}" if counted else ""))
    return "\n".join(lines)


def _wanted(day: Simulated, need: Need, symbol: str, urgent: bool) -> Wanted:
    times = day.got.get((need, symbol))
    return Wanted(symbol, urgent, times[-1] if times else None, day.confirmed.get(symbol))


def _carry_out(day: Simulated, found: Pass, now: datetime, rules: Rules) -> None:
    answered: Counter[str] = Counter()
    free_at: dict[str, datetime] = {}
    for ask in found.asks:
        vendor = day.vendors[ask.source]
        at = vendor.room_at(free_at.get(ask.source, now), len(ask.symbols))
        vendor.take(at, len(ask.symbols))
        free_at[ask.source] = at = at + timedelta(seconds=ANSWER_S)
        if at > now + timedelta(seconds=rules.pass_s):
            day.late.append(f"{ask.source} answers after {(at - now).total_seconds():.0f} s")
        for symbol in ask.symbols:
            for need in {ask.need, *ask.brings}:
                day.got[need, symbol].append(at)
            if Need.PRICE in {ask.need, *ask.brings}:
                answered[symbol] += 1
                if answered[symbol] > 1:
                    day.confirmed[symbol] = at
                    day.compared[symbol] += 1
