"""Which sources the environment gives keys for, with what their plans allow, and in which order they are asked."""

from __future__ import annotations

import hashlib

from qbot.market.pacing import Rules
from qbot.market.plans import FREE, Plan, changed, in_order
from qbot.settings import Settings


def fingerprint(*parts: object) -> str:
    """Short and one-way: what may be stored and shown of a key, and tells it from another."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:12]


def access_of(settings: Settings, source: str) -> str:
    """A fingerprint of all that a source is asked with, but its plan: its key and secret, its address, its feed."""
    more = {
        "alpaca": (settings.alpaca_secret_key.get_secret_value(), settings.alpaca_data_url, settings.alpaca_data_feed),
        "finnhub": (settings.finnhub_url,),
        "twelvedata": (settings.twelvedata_url,),
        "fmp": (settings.fmp_url,),
        "marketstack": (settings.marketstack_url,),
        "yfinance": (settings.yfinance_url,),
    }
    return fingerprint(key_of(settings, source), *more[source])


def key_of(settings: Settings, source: str) -> str:
    """The key of a source; empty where there is none. Never log it."""
    held = {
        "alpaca": settings.alpaca_api_key,
        "finnhub": settings.finnhub_api_key,
        "twelvedata": settings.twelvedata_api_key,
        "fmp": settings.fmp_api_key,
        "marketstack": settings.marketstack_api_key,
    }
    return held[source].get_secret_value() if source in held else ""


def plans(settings: Settings) -> tuple[Plan, ...]:
    """Of every source that can be asked, in the order of asking. Raises ConfigError for a plan or order that is none.

    In a replay the market is the paper exchange's, and nobody else has prices of it but those who stand in.
    """
    changes = settings.plan_changes
    in_order(",".join(changes))  # names those that are no sources
    order = in_order(settings.market_order)
    known = [changed(FREE[name], changes[name]) if name in changes else FREE[name] for name in order]
    if settings.embedded_exchange and not settings.fake_providers:
        return tuple(plan for plan in known if plan.source == "alpaca")
    return tuple(plan for plan in known if _at_hand(settings, plan))


def rules(settings: Settings) -> Rules:
    """How to plan, as the environment says. Raises ConfigError."""
    return Rules(order=in_order(settings.market_order))


def _at_hand(settings: Settings, plan: Plan) -> bool:
    if plan.keyless:
        return settings.yfinance
    if plan.source == "alpaca" and not settings.alpaca_secret_key.get_secret_value():
        return False
    return bool(key_of(settings, plan.source))
