"""Grok and the channels for alerts: whether they are set up and how they did. Neither is asked anything here."""

from __future__ import annotations

from decimal import Decimal

from qbot import channels, grok_asking, grok_budget
from qbot.doctor.finding import Finding, State
from qbot.market import xai
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.store import grok as store
from qbot.store.engine import transaction

PAGE = "docs/notifications.md shows how addresses are written; `qbot notify --test` tries them."


def grok(rt: Runtime) -> list[Finding]:
    """Why it is off, or what is left of its budget and how the last call ended. Raises StoreUnavailable."""
    off = _off(rt)
    if off is not None:
        return [off]
    with transaction(rt.engine) as connection:
        wall = rt.wall()
        calls, last = store.calls(connection, wall), store.last_outcome(connection)
    budget_usd = rt.settings.xai_budget_usd_per_day
    left_usd = max(Decimal(0), budget_usd - grok_budget.spent_usd(calls, grok_budget.day_of(wall)))
    words = f"{left_usd:.2f} of {budget_usd:.2f} USD are left of today (UTC)"
    if left_usd >= grok_asking.call_max_usd(rt.settings):
        return [Finding("budget", State.OK, words), _last(last)]
    advice = "It is asked again tomorrow (UTC), or with a higher QBOT_XAI_BUDGET_USD_PER_DAY."
    return [Finding("budget", State.WARNING, f"{words}: too little for a call", advice), _last(last)]


def _off(rt: Runtime) -> Finding | None:
    why = grok_asking.off(rt)
    if why is None:
        return None
    if not rt.settings.xai_api_key.get_secret_value().strip():
        words = "off: no key; it would name candidates and sentiment"
        return Finding("Grok", State.OFF, words, "Set QBOT_XAI_API_KEY in .env to have it (docs/grok.md).")
    if xai.problem_of(rt.settings) is not None:
        return Finding("Grok", State.FAILED, f"off: it {why}", "Mend that variable in .env (docs/grok.md).")
    if rt.settings.xai_budget_usd_per_day == 0:
        return Finding("Grok", State.OFF, "off: its budget is 0", "QBOT_XAI_BUDGET_USD_PER_DAY above 0 turns it on.")
    if rt.settings.embedded_exchange:
        return Finding("Grok", State.OFF, f"off: it {why}")
    return Finding("Grok", State.WARNING, f"off: it {why}", "Mend QBOT_XAI_BUDGET_USD_PER_DAY in .env (docs/grok.md).")


def _last(outcome: str | None) -> Finding:
    """How the last call ended. No call is made: it would cost money."""
    name = "last call"
    if outcome is None:
        return Finding(name, State.OK, "none was made yet; the next trading session makes one")
    if outcome == grok_budget.ANSWERED:
        return Finding(name, State.OK, "answered")
    words = f"failed: {outcome}" if outcome != grok_budget.UNUSABLE else "nothing of its answer was of use"
    advice = {str(fault): words for fault, words in grok_asking.ADVICE.items()}
    if outcome in advice:
        return Finding(name, State.FAILED, words, advice[outcome])
    again = "It is asked again by itself; docs/grok.md says when."
    return Finding(name, State.WARNING, words, again)


def notifications(values: Settings) -> list[Finding]:
    """Which channels there are, by number and kind alone: an address is a secret."""
    found = channels.channels_of(values)
    if not found:
        words = "no channel is set up: alerts stand on the board alone"
        return [Finding("channels", State.OFF, words, "Set QBOT_NOTIFY_URLS in .env (docs/notifications.md).")]
    return [_channel(one, values) for one in found]


def _channel(one: channels.Channel, values: Settings) -> Finding:
    if one.understood():
        words = f"is told of {values.notify_min_severity} and worse; nothing was sent"
        return Finding(one.name, State.OK, words)
    return Finding(one.name, State.FAILED, "its address in QBOT_NOTIFY_URLS is not understood", PAGE)
