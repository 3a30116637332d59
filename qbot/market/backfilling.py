"""Bars that are missing: whom to ask for them, within which limits, and what could not be had.

The gaps in Postgres are the only list of what is to do: whoever is interrupted begins again with what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import pandas as pd
import structlog
from sqlalchemy.engine import Engine

from qbot import clock, limits
from qbot.market import counting, gaps, keeping, twelvedata, yahoo
from qbot.market.asking import OF_SYMBOL, batches
from qbot.market.calendar import LOOK_BACK, Session, sessions_between
from qbot.market.gaps import Ask, Gap, Key, Reach
from qbot.market.limiting import Closed
from qbot.market.plans import COUNTED, ORDER, Limit, Plan
from qbot.market.provider import BarProvider, Fault, ProviderError
from qbot.store import bar_history
from qbot.store.bar_history import Answered, Split
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)

SYMBOLS_AT_ONCE = 100  # of one count in Postgres
ALPACA_PAGE_BARS = 10_000  # beyond it the client asks again by itself, and nobody counts that
WAITED_FOR = (Fault.MINUTE_LIMIT, Fault.TRANSIENT)
MAY_PASS = OF_SYMBOL | {Fault.TRANSIENT}  # the next request may go well
_DAYS = {twelvedata.NAME: twelvedata.BARS_SPAN_DAYS, yahoo.NAME: yahoo.BARS_SPAN_DAYS}
YEAR_DAYS = 366


class Gate(Protocol):
    """As `limiting.Gate`."""

    def call(self, symbols: int, ask: Callable[[], pd.DataFrame]) -> pd.DataFrame: ...


@dataclass(frozen=True, slots=True)
class Asker:
    """A source that can be asked for bars, at its pace."""

    plan: Plan
    provider: BarProvider
    gate: Gate

    @property
    def name(self) -> str:
        return self.plan.source

    @property
    def reach(self) -> Reach:
        """How it can be asked."""
        back_days = yahoo.BARS_BACK_DAYS if self.name == yahoo.NAME else None
        bars = ALPACA_PAGE_BARS if self.name == "alpaca" else None
        return Reach(self.plan.symbols_per_call, _DAYS.get(self.name, YEAR_DAYS), bars, back_days)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bars of these symbols of all sessions that begin in [since, until)."""

    symbols: tuple[str, ...]
    since: datetime
    until: datetime

    def calendar(self, now: datetime) -> list[Session]:
        """The sessions, and some before and after them."""
        return sessions_between(self.since - LOOK_BACK, max(self.until, min(now, self.until + LOOK_BACK)))


@dataclass(frozen=True, slots=True)
class Within:
    """How much one run may do. `share`: of what is left of counted quotas. `requests`: in all; None: as many as it
    takes. `waits`: turns that one request may wait for, a minute each.
    """

    share: float = limits.BACKFILL_SHARE
    requests: int | None = None
    waits: int = limits.BACKFILL_WAITS_MAX


@dataclass
class Filled:
    """What came of it. `left`: gaps that are still there. `why`: the last that went wrong, by source; `told`: how many
    bars a source said it has of a session.
    """

    gaps: int = 0
    requests: int = 0
    written: int = 0
    left: list[Gap] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    doubtful: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    told: dict[Key, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """A request that is about to be made, and how many of the gaps are filled."""

    source: str
    ask: Ask
    done: int
    gaps: int


Tell = Callable[[Step], None]


def fill(
    engine: Engine,
    askers: Sequence[Asker],
    wanted: Wanted,
    market: Callable[[], datetime],
    wall: Callable[[], datetime],
    within: Within = Within(),
    tell: Tell = lambda _: None,
    pause: Callable[[float], None] = clock.pause,
    order: Sequence[str] = ORDER,
    into: Filled | None = None,
) -> Filled:
    """Ask the sources, in the order given, for what is missing; each for what those before it did not bring.

    What was written stays, whatever comes after it; `into` is kept up to date, for whoever interrupts. Raises
    BoardUnavailable, StoreUnavailable or CalendarUnavailable: then nobody can tell what may be asked.
    """
    run = _Run(engine, wanted, market, wall, within, tell, pause, order, into if into is not None else Filled())
    run.begin()
    for asker in askers:
        if run.found.left and not run.spent:
            run.ask(asker)
    return run.found


def repair(
    engine: Engine,
    askers: Sequence[Asker],
    symbols: Sequence[str],
    market: Callable[[], datetime],
    wall: Callable[[], datetime],
    requests: int,
    share: float = limits.RESERVE_SHARE,
    order: Sequence[str] = ORDER,
) -> Filled:
    """Fill gaps of the last REPAIR_DAYS beside other work: in so many requests at most, and without waiting.

    Only of sessions that are settled: what the running one lacks, the next fetch brings.
    """
    now = market()
    ended = [one for one in sessions_between(now - timedelta(days=limits.REPAIR_DAYS), now) if gaps.settled(one, now)]
    if not ended:
        return Filled()
    wanted = Wanted(tuple(symbols), ended[0][0], ended[-1][1])
    found = fill(engine, askers, wanted, market, wall, Within(share, requests, 0), order=order)
    if found.gaps:
        log.info("bars_repaired", gaps=found.gaps, left=len(found.left), requests=found.requests, bars=found.written)
    return found


@dataclass
class _Run:
    """One go at what is wanted. `found` is what came of it so far."""

    engine: Engine
    wanted: Wanted
    market: Callable[[], datetime]
    wall: Callable[[], datetime]
    within: Within
    tell: Tell
    pause: Callable[[float], None]
    order: Sequence[str]
    found: Filled

    def begin(self) -> None:
        """What is missing, by Postgres."""
        self.calendar = self.wanted.calendar(self.market())
        sessions = [session for session in self.calendar if self.wanted.since <= session[0] < self.wanted.until]
        since = self.wall() - timedelta(days=limits.BARS_NONE_AGAIN_DAYS)
        self.have: dict[Key, int] = {}
        for some in batches(self.wanted.symbols, SYMBOLS_AT_ONCE):
            with transaction(self.engine) as connection:
                self.have |= bar_history.counts(connection, some, self.calendar)
                told = bar_history.answered(connection, some, [begin for begin, _ in sessions], since)
            for each in told:
                self.found.told.setdefault((each.symbol, each.begin), {})[each.source] = each.bars
        self.found.left = gaps.missing(self.wanted.symbols, sessions, self.have, self.found.told, self.market())
        self.found.gaps = len(self.found.left)

    def ask(self, asker: Asker) -> None:
        """One source, as long as it answers and its share lasts."""
        purse, stumbles, doubted = self._purse(asker.plan), 0, set[str]()
        for each in self._asks(asker):
            ask = _without(each, doubted)
            if ask is None:
                continue
            if self.spent:
                return
            if (short := _pay(purse, asker.plan, len(ask.symbols))) is not None:
                self.found.why[asker.name] = f"its share of this {short.span}'s quota is used up"
                return
            self.tell(Step(asker.name, ask, self.found.gaps - len(self.found.left), self.found.gaps))
            self.found.requests += 1
            try:
                frame = self._answer(asker, ask)
            except ProviderError as error:
                self.found.why[asker.name] = str(error).removeprefix(f"{asker.name}: ")
                if error.bars is not None:
                    doubted |= self._take(asker.name, ask, error.bars, whole=False)
                stumbles += 1
                if error.fault not in MAY_PASS or stumbles >= limits.DATA_STUMBLES_MAX:
                    return
            else:
                stumbles = 0
                doubted |= self._take(asker.name, ask, frame)

    @property
    def spent(self) -> bool:
        return self.within.requests is not None and self.found.requests >= self.within.requests

    def _asks(self, asker: Asker) -> list[Ask]:
        mine = [gap for gap in self.found.left if asker.name not in self.found.told.get(gap.key, {})]
        return gaps.asks(mine, self.calendar, asker.reach, self.market())

    def _purse(self, plan: Plan) -> dict[Limit, int]:
        """What this run may use of each counted quota."""
        with transaction(self.engine) as connection:
            used = counting.used(connection, [plan], self.wall())[plan.source]
        counted = [limit for limit in plan.limits if limit.span in COUNTED]
        return {limit: int((limit.amount - used.get(limit.span, 0)) * self.within.share) for limit in counted}

    def _answer(self, asker: Asker, ask: Ask) -> pd.DataFrame:
        """Raises ProviderError."""
        question = partial(asker.provider.bars, ask.symbols, ask.start, ask.end)
        for _turn in range(self.within.waits):
            try:
                return asker.gate.call(len(ask.symbols), question)
            except Closed as error:
                if error.fault not in WAITED_FOR:
                    raise
                until_s = (error.until - self.wall()).total_seconds() if error.until else limits.DATA_PACE_WAIT_S
                self.pause(min(max(until_s, 1.0), limits.DATA_PACE_WAIT_S))
        return asker.gate.call(len(ask.symbols), question)

    def _take(self, source: str, ask: Ask, frame: pd.DataFrame, *, whole: bool = True) -> set[str]:
        """Write what came, and what is remembered of it, in one transaction. The symbols whose bars are in doubt.

        `whole`: it is all that the source has; else only sessions without a hole are done with.
        """
        now, wall = self.market(), self.wall()
        keys = _keys(frame, self.calendar)
        counts = Counter(keys)
        with transaction(self.engine) as connection:
            kept = keeping.keep(connection, frame[self._wished(ask, keys)], source, now, wall, self.order)
            sure = [gap for gap in ask.gaps if gap.symbol not in kept.doubtful]
            answers = [gap for gap in sure if whole or counts[gap.key] >= gap.expected]
            holes = [gap for gap in answers if counts[gap.key] < gap.expected and gaps.settled(gap.session, now)]
            bar_history.remember(connection, [Answered(*gap.key, source, counts[gap.key]) for gap in holes], wall)
        found = self.found
        found.written += kept.written
        found.splits += kept.splits
        found.doubtful |= kept.doubtful
        for gap in answers:
            found.told.setdefault(gap.key, {})[source] = counts[gap.key]
        filled = {gap.key: counts[gap.key] for gap in answers if counts[gap.key]}
        self.have |= filled
        found.left = [gap for gap in found.left if gap.key not in filled]
        return set(kept.doubtful)

    def _wished(self, ask: Ask, keys: Sequence[Key | None]) -> list[bool]:
        """Which bars of an answer count: of the gaps, and of sessions that are known. The hours around a gap are there
        to be compared: no session shall begin with one."""
        wished = {gap.key for gap in ask.gaps}
        return [key in wished or (key is not None and key in self.have) for key in keys]


def _without(ask: Ask, symbols: Collection[str]) -> Ask | None:
    """Older bars of a symbol whose newer ones are in doubt would lie beside none by which they can be judged."""
    left = tuple(symbol for symbol in ask.symbols if symbol not in symbols)
    return replace(ask, symbols=left, gaps=tuple(gap for gap in ask.gaps if gap.symbol in left)) if left else None


def _pay(purse: dict[Limit, int], plan: Plan, symbols: int) -> Limit | None:
    """Take what a request costs; the limit that has not enough left, where one has not: then nothing is taken."""
    costs = {limit: plan.units(limit, symbols) for limit in purse}
    short = next((limit for limit, units in costs.items() if units > purse[limit]), None)
    if short is None:
        purse.update({limit: purse[limit] - units for limit, units in costs.items()})
    return short


def _keys(frame: pd.DataFrame, calendar: Sequence[Session]) -> list[Key | None]:
    """The symbol and session of each bar; None: it lies in none."""
    ordered = sorted(calendar)
    begins, ends = (pd.DatetimeIndex([one[side] for one in ordered]) for side in (0, 1))
    stamps = pd.DatetimeIndex(frame["ts"])
    places = begins.searchsorted(stamps, side="right") - 1
    inside = (places >= 0) & (stamps < ends[places])
    rows = zip(frame["symbol"], places, inside, strict=True)
    return [(str(symbol), ordered[place][0]) if within else None for symbol, place, within in rows]


def why_not(gap: Gap, askers: Sequence[Asker], found: Filled, now: datetime) -> str:
    """Why nobody brought it, a reason a source."""
    reasons = []
    for asker in askers:
        earliest = asker.reach.first(now)
        if earliest is not None and gap.session[0] < earliest:
            reason = f"goes back {asker.reach.back_days} days"
        elif asker.name in found.told.get(gap.key, {}):
            reason = "has no bars"
        elif gap.symbol in found.doubtful:
            reason = found.doubtful[gap.symbol]
        else:
            reason = found.why.get(asker.name, "not asked")
        reasons.append(f"{asker.name}: {reason}")
    return "; ".join(reasons) or "no source"
