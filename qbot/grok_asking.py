"""Asking Grok: budget → call → judgement → Postgres. What it said last counts until it is too old, whatever fails.

A call happens between two transactions. The first one reserves its worst case under a lock, so that no number of
workers spends more than the day's budget; the second one puts its cost in the place of that, with what the answer came
to. A worker that dies between them has used up the worst case.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from urllib.parse import urlsplit

import structlog
from sqlalchemy.engine import Connection

from qbot import alerts, grok, grok_budget, limits
from qbot.contract.payloads_backend import AlertType, ServiceStatus, Severity
from qbot.grok import Judged
from qbot.grok_budget import Refusal
from qbot.market import xai
from qbot.market.provider import Fault
from qbot.market.xai import Reply, XaiError
from qbot.runtime import Runtime
from qbot.settings import LOOPBACK, Settings
from qbot.store import bars, state
from qbot.store import grok as store
from qbot.store.engine import transaction
from qbot.store.grok import Answer
from qbot.votes import GrokView

log = structlog.get_logger(__name__)
LIFE = timedelta(seconds=limits.GROK_MAX_AGE_S)
SKEW = timedelta(seconds=limits.CLOCK_SKEW_S)
PRICE_MAX_AGE = timedelta(seconds=limits.BAR_MAX_AGE_S)
PASSES = (Fault.TRANSIENT, Fault.MINUTE_LIMIT)
TOLD_BUDGET = "grok_budget"  # kind of what is told once a day
ADVICE = {
    Fault.AUTH: "Set QBOT_XAI_API_KEY to a key that works.",
    Fault.PLAN: "Look at QBOT_XAI_MODEL, QBOT_XAI_SEARCH and QBOT_XAI_URL.",
    Fault.QUOTA: "Buy credits at xAI, or raise its spending limit.",
}


class Outcome(StrEnum):
    """What came of a refresh; the first four are those of `Refusal`: nothing was asked."""

    BUSY = "busy"
    FRESH = "fresh"
    PAUSE = "pause"
    BUDGET = "budget"
    OFF = "off"
    ANSWERED = "answered"
    UNUSABLE = "unusable"  # it was asked, and nothing is left of its answer
    FAILED = "failed"


# --- what a task calls -----------------------------------------------------------------------------------------------


def refresh(rt: Runtime, tradable: Sequence[str], *, forced: bool = False) -> Outcome:
    """Ask Grok about these symbols if that is due and within the budget, and record what counts of its answer.

    `tradable`: the symbols that may be bought, the most important first; no other is ever taken. `forced`: also when
    the last answer is fresh. What goes wrong is told by an alert. Raises StoreUnavailable.
    """
    if off(rt) is not None:
        return Outcome.OFF
    reserved = _reserve(rt, forced)
    if isinstance(reserved, Refusal):
        return Outcome(reserved)
    question = grok.request_body(rt.settings.xai_model, tradable, rt.market(), search=rt.settings.xai_search)
    try:
        reply = xai.connect(rt.settings).ask(question)
    except XaiError as error:
        _failed(rt, reserved, error)
        return Outcome.FAILED
    return _answered(rt, reserved, reply, tradable)


def off(rt: Runtime) -> str | None:
    """Why Grok is not configured, to follow its name; None when it may be asked."""
    problem = xai.problem_of(rt.settings)
    if problem is None and call_max_usd(rt.settings) > rt.settings.xai_budget_usd_per_day:
        problem = "has a budget under what one call may cost (QBOT_XAI_BUDGET_USD_PER_DAY)"
    if problem is None and not _stood_in_for(rt.settings) and abs(rt.market() - rt.wall()) > SKEW:
        problem = "is not asked in a replay: it knows how the day ended"
    return problem


def _stood_in_for(settings: Settings) -> bool:
    """Whether it is a stand-in on this machine that is asked: it knows of no day how it ended."""
    return settings.fake_providers and urlsplit(settings.xai_url).hostname in LOOPBACK


def picks(rt: Runtime, tradable: Sequence[str]) -> dict[str, GrokView] | None:
    """The newest picks of what may be bought, however old: votes judge their age. None where Grok is off."""
    if off(rt) is not None:
        return None
    with transaction(rt.engine) as connection:
        answer = store.newest_answer(connection)
    if answer is None:
        return {}
    allowed = frozenset(tradable)
    return grok.views([one for one in answer.candidates if one.symbol in allowed], answer.known_at)


def shown(rt: Runtime, now: datetime) -> Answer | None:
    """The newest answer if the board may show it: Grok is not off, and it is not too old."""
    if off(rt) is not None:
        return None
    with transaction(rt.engine) as connection:
        answer = store.newest_answer(connection)
    return answer if answer is not None and now - answer.known_at <= LIFE else None


def status(rt: Runtime, connection: Connection) -> ServiceStatus:
    """How Grok does by what came of the last call; DEGRADED while an answer from before a failure still counts."""
    last = store.last_outcome(connection)
    if off(rt) is not None or last is None:
        return ServiceStatus.OFFLINE
    if last == grok_budget.ANSWERED:
        return ServiceStatus.ACTIVE
    answer = store.newest_answer(connection)
    lives = answer is not None and rt.market() - answer.known_at <= LIFE
    return ServiceStatus.DEGRADED if lives else ServiceStatus.ERROR


def call_max_usd(settings: Settings) -> Decimal:
    """The worst case of one call."""
    if settings.xai_call_max_usd is not None:
        return settings.xai_call_max_usd
    return limits.GROK_SEARCH_CALL_MAX_USD if settings.xai_search else limits.GROK_CALL_MAX_USD


# --- one call --------------------------------------------------------------------------------------------------------


def _reserve(rt: Runtime, forced: bool) -> int | Refusal:
    """The id of a call that may be made now, its worst case reserved; or why not."""
    usd, budget_usd, model = call_max_usd(rt.settings), rt.settings.xai_budget_usd_per_day, rt.settings.xai_model
    with transaction(rt.engine) as connection:
        store.lock(connection)
        wall = rt.wall()  # under the lock: whoever waited for it must not be of an earlier time
        recent = store.calls(connection, wall)
        why = grok_budget.refusal(recent, budget_usd, usd, wall, forced=forced)
        if why is None:
            return store.reserve(connection, usd, model, rt.market(), wall, search=rt.settings.xai_search)
        day = grok_budget.day_of(wall)
        if why is Refusal.BUDGET and state.first_time(connection, TOLD_BUDGET, f"{day}", wall):
            spent = f"{grok_budget.spent_usd(recent, day):.4f} of {budget_usd} USD on {day} (UTC)."
            _tell(rt, connection, "Grok's budget is used up", spent, "budget")
    return why


def _failed(rt: Runtime, call_id: int, error: XaiError) -> None:
    with transaction(rt.engine) as connection:
        store.failed(connection, call_id, error.fault, error.cost_usd, error.retry_after_s)
        message = " ".join(part for part in (f"{error}.", ADVICE.get(error.fault)) if part)
        _tell(rt, connection, "Grok does not answer", message, error.fault)
    log.warning("grok_failed", fault=str(error.fault), why=str(error), cost_usd=str(error.cost_usd))


def _answered(rt: Runtime, call_id: int, reply: Reply, tradable: Sequence[str]) -> Outcome:
    found = grok.judged(reply.text, tradable, rt.market())
    with transaction(rt.engine) as connection:
        prices = _prices_usd(connection, found)
        store.answered(connection, call_id, found, reply.cost_usd, rt.wall(), prices)
        if not found.usable:
            counted = ", ".join(f"{name} {count}" for name, count in sorted(found.dropped.items()))
            _tell(rt, connection, "Grok's answer is of no use", f"Nothing of it counts: {counted}.", "unusable")
    log.info(
        "grok_answered", candidates=len(found.candidates), cost_usd=str(reply.cost_usd),
        dropped={str(name): count for name, count in found.dropped.items()},
        altered={str(name): count for name, count in found.altered.items()},
    )  # fmt: skip
    return Outcome.ANSWERED if found.usable else Outcome.UNUSABLE


def _prices_usd(connection: Connection, found: Judged) -> dict[str, float]:
    """The newest close of each candidate within PRICE_MAX_AGE."""
    symbols = [one.symbol for one in found.candidates]
    return bars.newest_closes(connection, sorted(bars.fresh(connection, symbols, found.known_at - PRICE_MAX_AGE)))


def _tell(rt: Runtime, connection: Connection, title: str, message: str, about: str) -> None:
    """An alert, with how long what Grok said before still counts. Nothing that Grok wrote is in it.

    What passes by itself while the picks still count is for the board alone.
    """
    answer = store.newest_answer(connection)
    until = answer.known_at + LIFE if answer is not None else None
    if until is not None and until > rt.market():
        kept = f"Its last picks count until {until:%H:%M} UTC; then entries wait"
        severity = Severity.INFO if about in PASSES else Severity.WARNING
    else:
        kept, severity = "There are no picks that count: entries wait", Severity.WARNING
    more = f"{message} {kept} unless use_grok_signals is off."
    alerts.alert(rt, connection, AlertType.SYSTEM_ALERT, severity, title, more, about=f"{about} {severity}")
