"""How much of a limit one pass may take: what a day or a month allows is spread over the time it is needed in. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from qbot import limits
from qbot.market.calendar import Session
from qbot.market.plans import ORDER, SPAN_S, Limit, Plan, Span, period


@dataclass(frozen=True, slots=True)
class Source:
    """A source at hand. `used`: of each counted limit, in its present period. `closed`: why it cannot be asked now.

    `refuses`: symbols that it does not know, or that its plan does not include.
    """

    plan: Plan
    used: Mapping[Span, int] = field(default_factory=dict)
    closed: str | None = None
    refuses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rules:
    """How to plan. `order`: whom to ask first; a source that is not in it is not asked."""

    order: tuple[str, ...] = ORDER
    pass_s: float = limits.FETCH_PASS_S
    busy_share: float = limits.PASS_BUSY_SHARE
    opinions: int = limits.OPINIONS
    reserve_share: float = limits.RESERVE_SHARE
    aside_share: float = limits.ASIDE_SHARE
    news_every_s: float = limits.NEWS_EVERY_S
    fundamentals_every_s: float = limits.FUNDAMENTALS_EVERY_S


@dataclass(frozen=True, slots=True)
class Rate:
    """What a pass may take of a counted limit, on the average, and the place of this pass in the period."""

    per_pass: float
    number: int
    left: int

    @property
    def now(self) -> int:
        """Whole units of this pass, so that they add up to the rate: of 3.2 a pass every fifth pass has four."""
        return min(self.left, math.floor((self.number + 1) * self.per_pass) - math.floor(self.number * self.per_pass))


def rate(
    source: Source,
    limit: Limit,
    now: datetime,
    sessions: Sequence[Session],
    rules: Rules,
    *,
    live: bool,
    urgent: bool,
) -> Rate:
    """How fast a counted limit may be used: evenly until it is renewed, and for live needs in open hours alone."""
    span = period(limit, now)
    left = max(0, limit.amount - source.used.get(limit.span, 0))
    ahead_s = open_s(sessions, now, span.renews_at)
    since_s = open_s(sessions, span.begins_at, now) if live else (now - span.begins_at).total_seconds()
    until_s = ahead_s if live else (span.renews_at - now).total_seconds()
    share = 1.0 if urgent else 1.0 - rules.reserve_share
    if not live and source.plan.live and ahead_s > 0:
        share *= rules.aside_share
    passes = max(1, math.ceil(until_s / rules.pass_s))
    return Rate(left * share / passes, int(since_s // rules.pass_s), left)


def at_once(limit: Limit, rules: Rules) -> int | None:
    """What a pass has time for under a limit of a second or a minute; None for the others."""
    busy_s = rules.pass_s * rules.busy_share
    return limit.amount * max(1, int(busy_s // SPAN_S[limit.span])) if limit.span in SPAN_S else None


def open_s(sessions: Sequence[Session], start: datetime, end: datetime) -> float:
    """Seconds between two moments in which the exchange is open."""
    parts = (min(close, end) - max(begin, start) for begin, close in sessions)
    return sum(max(0.0, part.total_seconds()) for part in parts)


def is_open(sessions: Sequence[Session], now: datetime) -> bool:
    """Whether `now` lies in a session."""
    return any(begin <= now < close for begin, close in sessions)
