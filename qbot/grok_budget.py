"""Whether Grok may be asked now: one call at a time, not before it is due, and within the day's budget. Pure.

A call counts as its worst case from before it is made until its cost is known. So whoever dies in the middle, and a
cost that nobody tells, use up more of the budget than they cost, never less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from qbot.limits import (
    CLOCK_SKEW_S,
    GROK_AGAIN_MAX_S,
    GROK_AGAIN_S,
    GROK_LEASE_S,
    GROK_REFRESH_S,
    GROK_REFUSED_AGAIN_S,
)

ANSWERED, UNUSABLE = "answered", "unusable"  # outcomes; a call that failed has the name of its fault
WAITS_FOR_A_HUMAN = ("auth", "plan", "quota")  # faults that no second try mends


class Refusal(StrEnum):
    """Why Grok is not asked."""

    BUSY = "busy"  # somebody else is asking
    FRESH = "fresh"  # the last answer is new enough
    PAUSE = "pause"  # it failed, and is left alone for a while
    BUDGET = "budget"  # another call might cost more than is left of today's budget


@dataclass(frozen=True, slots=True)
class Call:
    """One call of Grok. `cost_usd`: None while it is not known, which it may never be. `outcome`: None while it is out.

    `retry_after_s`: where xAI said how long to wait.
    """

    asked_at_wall: datetime
    reserved_usd: Decimal
    cost_usd: Decimal | None = None
    outcome: str | None = None
    retry_after_s: float | None = None


def day_of(wall: datetime) -> date:
    """The day whose budget pays for a call that is made at `wall`."""
    return wall.astimezone(UTC).date()


def spent_usd(calls: Sequence[Call], day: date) -> Decimal:
    """What the calls of a day come to at worst."""
    counted = (call.reserved_usd if call.cost_usd is None else call.cost_usd for call in calls)
    return sum((usd for call, usd in zip(calls, counted, strict=True) if day_of(call.asked_at_wall) == day), Decimal(0))


def refusal(
    calls: Sequence[Call], budget_usd: Decimal, call_max_usd: Decimal, wall: datetime, *, forced: bool = False
) -> Refusal | None:
    """Why not, or None. `calls`: all of this day and the last ones before, oldest first.

    `forced` asks again although the answer is fresh or Grok is left alone, never past the budget or beside another.
    """
    if any(call.outcome is None and _within(call, wall, GROK_LEASE_S) for call in calls):
        return Refusal.BUSY
    if not forced and calls:
        if calls[-1].outcome == ANSWERED and _within(calls[-1], wall, GROK_REFRESH_S):
            return Refusal.FRESH
        if calls[-1].outcome != ANSWERED and _within(calls[-1], wall, pause_s(calls)):
            return Refusal.PAUSE
    return Refusal.BUDGET if spent_usd(calls, day_of(wall)) + call_max_usd > budget_usd else None


def pause_s(calls: Sequence[Call]) -> float:
    """How long Grok is left alone after the last of these calls, which failed."""
    if calls[-1].outcome in WAITS_FOR_A_HUMAN:
        return GROK_REFUSED_AGAIN_S
    failures = 0
    for call in reversed(calls):
        if call.outcome == ANSWERED:
            break
        failures += 1
    longer: float = GROK_AGAIN_S * 2.0 ** min(failures - 1, 16)
    return min(max(longer, calls[-1].retry_after_s or 0.0), GROK_AGAIN_MAX_S)


def _within(call: Call, wall: datetime, seconds: float) -> bool:
    """False also for a call of a time to come: a clock that was set back must not silence Grok until then."""
    return timedelta(seconds=-CLOCK_SKEW_S) <= wall - call.asked_at_wall < timedelta(seconds=seconds)
