"""One call of xAI's Responses API: what Grok said and what it cost, or why there is no answer.

As recorded in August 2026: `POST /responses`, the key as a bearer. The text stands in `output[]`, in the item of type
`message`, its `content[]` of type `output_text`; there is no `output_text` beside it. `usage.cost_in_usd_ticks` counts
1e-10 USD, tools included. Errors are flat, `{"code": …, "error": …}`, a wrong key is HTTP 400, and 429 is a rate limit
or the end of the credits. Nothing of a body is ever quoted: it may repeat the key, and it was written by others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests
from pydantic_core import from_json
from urllib3.exceptions import HTTPError, NewConnectionError

from qbot import clock, limits
from qbot.errors import ConfigError
from qbot.market.provider import Fault, ProviderError
from qbot.settings import Settings, safe_url

SOURCE = "xai"
TICKS_A_USD = Decimal(10**10)
NOTHING = Decimal(0)
CHUNK_BYTES = 65_536
Body = Mapping[str, Any]


class XaiError(ProviderError):
    """There is no answer. `cost_usd`: what the call cost all the same; None where nobody knows."""

    def __init__(
        self, fault: Fault, message: str, cost_usd: Decimal | None, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(SOURCE, fault, message, retry_after_s=retry_after_s)
        self.cost_usd = cost_usd


@dataclass(frozen=True, slots=True)
class Reply:
    """What Grok said, as it came: hostile input. `cost_usd`: None where xAI did not tell."""

    text: str
    cost_usd: Decimal | None


class Xai:
    """xAI at one address, with one key, which goes into a header and nowhere else."""

    def __init__(self, url: str, key: str, *, deadline_s: float = limits.GROK_DEADLINE_S) -> None:
        self._url = f"{url.rstrip('/')}/responses"
        self._key = key
        self._deadline_s = deadline_s

    def __repr__(self) -> str:
        return f"Xai({urlsplit(self._url).hostname})"

    def ask(self, body: Body) -> Reply:
        """The answer to one request body. Never tried twice: it may have cost money. Raises XaiError.

        In a thread of its own, since headers that come byte by byte outlast every time-out of a socket; past its
        deadline it is left to itself and ends with its connection.
        """
        done: list[Reply | XaiError] = []
        thread = threading.Thread(target=lambda: done.append(self._outcome(body)), name="xai", daemon=True)
        thread.start()
        thread.join(self._deadline_s)
        outcome = done[0] if done else _late()
        if isinstance(outcome, XaiError):
            raise outcome
        return outcome

    def _outcome(self, body: Body) -> Reply | XaiError:
        try:
            status, headers, raw = self._fetch(body)
            return reply_of(status, headers, raw)
        except XaiError as error:
            return error
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            return _broken(error)

    def _fetch(self, body: Body) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body, which is read no further than GROK_BODY_MAX_BYTES."""
        until_s = clock.monotonic_s() + self._deadline_s
        timeout_s = (limits.GROK_CONNECT_S, min(limits.GROK_READ_S, self._deadline_s))
        with requests.Session() as session:
            session.auth = self._signed
            session.headers["Accept-Encoding"] = "identity"  # packed, a small body could grow beyond all bounds
            with session.post(  # a redirect could take the key elsewhere
                self._url, json=body, timeout=timeout_s, stream=True, allow_redirects=False
            ) as response:
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise XaiError(Fault.TRANSIENT, "the answer is packed", None)
                return response.status_code, response.headers, b"".join(_chunks(response, until_s))

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """As `auth` of the session, so that no `.netrc` puts another key in its place."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def connect(settings: Settings) -> Xai:
    """xAI as the environment has it. Raises ConfigError where `problem_of` finds something."""
    problem = problem_of(settings)
    if problem is not None:
        raise ConfigError(f"Grok {problem}")
    return Xai(settings.xai_url, settings.xai_api_key.get_secret_value().strip())


def problem_of(settings: Settings) -> str | None:
    """Why it cannot be asked with these settings, to follow the word Grok; None when it can."""
    key = settings.xai_api_key.get_secret_value().strip()
    if not key:
        return "has no key here"
    if not (key.isascii() and key.isprintable()) or " " in key:
        return "has a key with characters that no key has (QBOT_XAI_API_KEY)"
    if not safe_url(settings.xai_url):
        return "has an address that is neither https:// nor on this machine (QBOT_XAI_URL)"
    return None


def reply_of(status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
    """What a whole answer says: the body first, then the status. Raises XaiError where that is no text of Grok's."""
    try:
        body = from_json(raw, allow_inf_nan=False, cache_strings=False)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        _refused(status, "", headers) if status != 200 else _unreadable(status)
    cost = cost_usd_of(body)
    said = _error_text(body)
    if status != 200 or said:
        _refused(status, said, headers, cost)
    if body.get("status") != "completed":
        _unfinished(body, cost)
    parts = list(_parts(body))
    if any(part.get("type") == "refusal" for part in parts):
        raise XaiError(Fault.NO_DATA, "Grok refused to answer", cost)
    texts = [part["text"] for part in parts if part.get("type") == "output_text" and isinstance(part.get("text"), str)]
    if not texts:
        raise XaiError(Fault.NO_DATA, "the answer has no text", cost)
    return Reply("".join(texts), cost)


def cost_usd_of(body: Body) -> Decimal | None:
    """What a call cost by its answer; None where that is not told, or cannot be: a call that cost nothing is none."""
    usage = body.get("usage")
    ticks = usage.get("cost_in_usd_ticks") if isinstance(usage, dict) else None
    if not isinstance(ticks, int) or isinstance(ticks, bool) or ticks <= 0:
        return None
    return min(Decimal(ticks) / TICKS_A_USD, limits.GROK_COST_MAX_USD)


def _parts(body: Body) -> Iterator[dict[str, Any]]:
    """The contents of the messages, in their order."""
    output = body.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict) and item.get("type") == "message" and isinstance(item.get("content"), list):
            yield from (part for part in item["content"] if isinstance(part, dict))


def _error_text(body: Body) -> str:
    """Code and sentence of an error in small letters, to be looked at and not shown; empty without one."""
    error = body.get("error")
    if isinstance(error, dict):  # as other vendors' gateways wrap it
        error = error.get("message") or error.get("code") or "error"
    return f"{body.get('code') or ''} {error}".lower() if error else ""


def _refused(status: int, said: str, headers: Mapping[str, str], cost: Decimal | None = None) -> NoReturn:
    """Raise what an error comes to. What was refused before anything was generated costs nothing."""
    at, free = f"(HTTP {status})", NOTHING if cost is None else cost
    down = status >= 500
    if "guidelines" in said or "safety" in said:  # first: it names the key's id too. xAI takes a fee for some of these
        raise XaiError(Fault.NO_DATA, f"the question was refused {at}", cost)
    if status == 401 or (not down and ("api key" in said or "bearer" in said)):
        raise XaiError(Fault.AUTH, f"the key is wrong {at}", free)
    if status == 402 or (not down and ("credits" in said or "spending limit" in said)):
        raise XaiError(Fault.QUOTA, f"the credits of the account are used up {at}", free)
    if status == 429:
        raise XaiError(Fault.MINUTE_LIMIT, f"too many calls {at}", free, retry_after_s=_retry_after_s(headers))
    if status == 410:
        raise XaiError(Fault.PLAN, f"what was asked for is retired {at}", free)
    if status == 404:
        raise XaiError(Fault.PLAN, f"there is no such model or address {at}", free)
    if status in (400, 403, 405, 413, 415, 422):
        raise XaiError(Fault.PLAN, f"the request, the model or a tool is not allowed {at}", free)
    raise XaiError(Fault.TRANSIENT, f"it cannot answer now {at}", cost, retry_after_s=_retry_after_s(headers))


def _unfinished(body: Body, cost: Decimal | None) -> NoReturn:
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    why = {"max_output_tokens": "it grew too long", "content_filter": "it was filtered"}.get(str(reason), "no reason")
    fault = Fault.NO_DATA if reason == "content_filter" else Fault.TRANSIENT
    raise XaiError(fault, f"the answer is not complete: {why}", cost)


def _unreadable(status: int) -> NoReturn:
    raise XaiError(Fault.TRANSIENT, f"the answer cannot be read (HTTP {status})", None)


def _late() -> XaiError:
    return XaiError(Fault.TRANSIENT, "no whole answer in time", None)


def _broken(error: Exception) -> XaiError:
    """The connection failed. By its kind alone: messages of libraries repeat addresses and headers."""
    kind = type(error).__name__
    reason = getattr(error.args[0], "reason", None) if error.args else None
    never_sent = (requests.ConnectTimeout, requests.exceptions.SSLError, requests.exceptions.ProxyError)
    unsent = isinstance(error, never_sent) or isinstance(reason, NewConnectionError)
    return XaiError(Fault.TRANSIENT, f"no connection: {kind}", NOTHING if unsent else None)


def _chunks(response: requests.Response, until_s: float) -> Iterator[bytes]:
    """The body as it comes, one `recv` a chunk. Raises XaiError when it grows too large, or takes too long."""
    read = 0
    while chunk := response.raw.read1(CHUNK_BYTES):
        read += len(chunk)
        if read > limits.GROK_BODY_MAX_BYTES:
            raise XaiError(Fault.TRANSIENT, "the answer is too large", None)
        if clock.monotonic_s() > until_s:
            raise _late()
        yield chunk


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    told = headers.get("Retry-After", "")
    return float(told) if told.isascii() and told.isdigit() and len(told) <= 6 else None
