"""Keys by the name a human types: ticker keys resolved, near misses suggested, and the groups of a listing."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from qbot.contract import keys
from qbot.contract.key import TICKER_SLOT, Key

_TICKER = r"[A-Z][A-Z0-9.\-]{0,11}"
# The first key of each group: `keys` lists them in this order.
_FIRST_OF_GROUP = {
    keys.TRADING_SETTINGS.name: "core",
    keys.AUTOTRADING_ENABLED.name: "autotrading",
    keys.TRADING_CONFIG.name: "frontend",
    keys.TRADING_PERFORMANCE.name: "backend",
    keys.PREDICTIONS_CURRENT.name: "forecasts",
    keys.MARKET_DATA.name: "market data",
    keys.SENTINEL.name: "own",
}


class UnknownKey(ValueError):
    """No key of the contract has this name. The message is one sentence, with what was probably meant."""


def find(name: str) -> Key[Any]:
    """The entry of a key, of a ticker's key (`yfinance_enhanced:AAPL`) or of a pattern itself. Raises UnknownKey."""
    if name in keys.ENTRIES:
        return keys.ENTRIES[name]
    for entry in keys.ENTRIES.values():
        if entry.pattern:
            matched = re.fullmatch(re.escape(entry.name).replace(re.escape(TICKER_SLOT), f"({_TICKER})"), name)
            if matched:
                return entry.of(matched[1])
    raise UnknownKey(_unknown(name))


def _unknown(name: str) -> str:
    if name in keys.CHANNELS:
        return f"{name} is a channel, not a key: `qbot contract watch` follows it"
    near = suggestions(name)
    hint = f"did you mean {' or '.join(near)}?" if near else "`qbot contract show` lists all keys"
    return f"the contract has no key {name[:80]!r}; {hint}"


def suggestions(name: str) -> list[str]:
    """Keys that look like it, the nearest first, three at most; the prefix may be missing or wrong."""
    by_tail = {known.rpartition(":")[2]: known for known in keys.ENTRIES}
    near = get_close_matches(name, list(keys.ENTRIES), 3, 0.75)
    near += [by_tail[tail] for tail in get_close_matches(name.rpartition(":")[2], list(by_tail), 3, 0.75)]
    return list(dict.fromkeys(near))[:3]


def groups() -> dict[str, list[Key[Any]]]:
    """Every key once, in the order of the contract, by group."""
    found: dict[str, list[Key[Any]]] = {}
    group = ""
    for name, entry in keys.ENTRIES.items():
        group = _FIRST_OF_GROUP.get(name, group)
        found.setdefault(group, []).append(entry)
    return found
