"""What a source's JSON says, as values: prices, numbers, times, words. Nothing here raises; what is none is None."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from qbot.types import Quote

PRICE_MIN_USD = Decimal("0.000001")  # under it a double has no digits left for what is reckoned with it
PRICE_MAX_USD = Decimal(10_000_000)  # the contract's own bound; the dearest share costs a tenth of it
NUMBER_MAX = 1e15  # the contract's bound of any number
FIRST_S, LAST_S = 631_152_000, 4_102_444_800  # 1990 to 2100, in Unix seconds: milliseconds lie beyond it
TEXT_MAX = 300  # characters
SENTENCE_MAX = 200  # … of what a source says that an error repeats
_NUMERAL = re.compile(r"[+-]?\d{1,20}(\.\d{0,20})?([eE][+-]?\d{1,2})?", re.ASCII)
_UNSHOWN = re.compile(r"[\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")  # turns of direction, too
_LINK = re.compile(r"//|www\.|\w\.\w[\w.-]*/", re.IGNORECASE)  # in a word: with a scheme, or a host and a path


def mapping(value: Any) -> Mapping[str, Any]:
    """An object; what is none is an empty one."""
    return value if isinstance(value, Mapping) else {}


def rows(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; what is none has none."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def decimal(value: Any) -> Decimal | None:
    """A finite number, given as one or as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    if isinstance(value, str):
        value = value.strip()
        return Decimal(value) if _NUMERAL.fullmatch(value) else None
    if isinstance(value, float):
        return Decimal(repr(float(value))) if math.isfinite(value) else None
    found = Decimal(value)
    return found if found.is_finite() else None


def price(value: Any) -> Decimal | None:
    """A price in USD that can be one: neither zero nor negative, nor absurd."""
    found = decimal(value)
    return found if found is not None and PRICE_MIN_USD <= found <= PRICE_MAX_USD else None


def number(value: Any) -> float | None:
    """A statistic, of any sign."""
    found = decimal(value)
    return float(found) if found is not None and found.copy_abs() <= NUMBER_MAX else None


def price_number(value: Any) -> float | None:
    """As `price`, for statistics."""
    found = price(value)
    return None if found is None else float(found)


def unix_time(value: Any) -> datetime | None:
    """Unix seconds as aware UTC. Zero, and what cannot be meant, is None."""
    found = decimal(value)
    if found is None or not FIRST_S <= found <= LAST_S:
        return None
    return datetime.fromtimestamp(float(found), UTC)


def iso_time(value: Any) -> datetime | None:
    """ISO 8601 with a zone, as aware UTC. Without a zone it could mean any: None."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        return in_bounds(found.astimezone(UTC)) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None


def naive_utc_time(value: Any) -> datetime | None:
    """ISO 8601 of a source that was asked for UTC and leaves the zone out."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        return in_bounds(found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def in_bounds(at: datetime) -> datetime | None:
    """A time that can be meant."""
    return at if FIRST_S <= at.timestamp() <= LAST_S else None


def words(value: Any, max_chars: int = TEXT_MAX) -> str | None:
    """A line of text without what cannot be shown or stored; None without any."""
    if not isinstance(value, str):
        return None
    shown = _UNSHOWN.sub(" ", value[: 4 * max_chars].encode(errors="replace").decode()).strip()
    return shown[:max_chars] or None


def sentence(said: str, max_chars: int = SENTENCE_MAX) -> str:
    """What somebody else said, fit for an alert, a table and a message to a human: one printable line without links."""
    shown = "".join(sign if sign.isprintable() else " " for sign in said[: 4 * max_chars])
    return " ".join("(link)" if _LINK.search(word) else word for word in shown.split())[:max_chars].rstrip()


def quote(
    source: str,
    symbol: str,
    price_usd: Decimal | None,
    at: datetime | None,
    received_at: datetime,
    bid_usd: Decimal | None = None,
    ask_usd: Decimal | None = None,
) -> Quote | None:
    """A quote; None without a price or its time. Without a bid or an ask, the price stands in its place."""
    if price_usd is None or at is None:
        return None
    return Quote(symbol, price_usd, bid_usd or price_usd, ask_usd or price_usd, at, received_at, source)
