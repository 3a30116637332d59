"""What came back from a data source, and what it says of itself: pure, whoever brought it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from qbot.market import reading
from qbot.market.provider import Fault, ProviderError

WAIT_MAX_S = 32 * 86_400.0  # a month's quota; a longer wait is a mistake


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, its headers by lower-case name, its text, and that as JSON (None: it is no JSON).

    Numbers are int or Decimal; NaN and Infinity, which are no JSON, are None.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    body: Any = None


def reply_of(status: int, headers: Mapping[str, str], text: str) -> Reply:
    """An answer with its text read as JSON, as far as it is any."""
    try:
        body = json.loads(text, parse_float=_decimal, parse_constant=lambda _name: None)
    except (ValueError, RecursionError):
        body = None
    return Reply(status, headers, text, body)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except ArithmeticError:
        return None


def by_status(reply: Reply) -> Fault | None:
    """What the status alone says, where the body says nothing known. A web page is nobody's word but a proxy's."""
    if reply.status == 429:
        return Fault.MINUTE_LIMIT
    if is_page(reply):
        return Fault.TRANSIENT
    if reply.status == 401:
        return Fault.AUTH
    if reply.status in (402, 403):
        return Fault.PLAN
    if reply.status >= 400 or reply.body is None:
        return Fault.TRANSIENT
    return None


def is_page(reply: Reply) -> bool:
    """Whether it is a web page, whatever its content type says."""
    return reply.text.lstrip("\ufeff \t\r\n")[:1] == "<"


def message_of(reply: Reply) -> str:
    """The source's own words: of the usual fields of an error, or the text when it is no JSON."""
    found = reading.mapping(reply.body)
    inner = reading.mapping(found.get("error"))
    said = [
        found.get("message"),
        found.get("error"),
        found.get("Error Message"),
        inner.get("message"),
        inner.get("info"),
    ]
    texts = [text for text in said if isinstance(text, str)]
    if not texts and reply.body is None and not is_page(reply):
        texts = [reply.text]
    return reading.sentence(texts[0]) if texts else ""


def error_of(
    provider: str, fault: Fault, reply: Reply, *, credits: int = 1, wait_s: float | None = None
) -> ProviderError:
    """The error that an answer is. `wait_s`: what else than its headers tells how long to wait."""
    said = message_of(reply) or ("a web page" if is_page(reply) else "no known form")
    return ProviderError(
        provider, fault, f"HTTP {reply.status}: {said}", credits=credits, retry_after_s=retry_after_s(reply) or wait_s
    )


def retry_after_s(reply: Reply) -> float | None:
    """How long the source asks to wait: `Retry-After`, seconds or a date, else `X-RateLimit-Reset`, Unix seconds.

    Dates are reckoned against the source's own `Date`, so that no clock of ours matters.
    """
    after = reply.headers.get("retry-after", "")
    if (seconds := reading.number(after)) is not None:
        return _wait(seconds)
    if reply.status != 429:
        return None
    date_s = _http_date_s(reply.headers.get("date", ""))
    until_s = _http_date_s(after) or reading.number(reply.headers.get("x-ratelimit-reset"))
    return None if date_s is None or until_s is None else _wait(until_s - date_s)


def _wait(seconds: float) -> float | None:
    return seconds if 0 < seconds <= WAIT_MAX_S else None


def _http_date_s(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def second_of_minute(reply: Reply) -> int | None:
    """Of the source's own clock."""
    date_s = _http_date_s(reply.headers.get("date", ""))
    return None if date_s is None else int(date_s) % 60
