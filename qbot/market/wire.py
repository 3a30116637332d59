"""One way to ask a data source over HTTP: bounded in time and size, and silent about the key.

A key goes into a header, or into the query where the source knows no other way. It stands neither in an error nor in a
log line: errors are raised outside of what caused them, and what came back has the key blanked before anybody reads it.
"""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import quote, quote_plus, urljoin, urlsplit

import requests
import urllib3.exceptions as urllib3
from pydantic import SecretStr

from qbot import limits
from qbot.clock import monotonic_s
from qbot.log import SECRET_MIN_CHARS, redact
from qbot.market.bounded import PLAIN, AnswerRefused, body_of
from qbot.market.provider import Fault, ProviderError
from qbot.market.reply import Reply, reply_of

AGENT = "QBot"
LOGGERS = ("urllib3.connectionpool", "urllib3.connection")  # they tell whole paths, with the query
BROKEN = (requests.RequestException, urllib3.HTTPError, http.client.HTTPException, OSError, ValueError)
NEVER_SENT = (
    requests.ConnectTimeout, requests.exceptions.SSLError, requests.exceptions.ProxyError,
    requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """A source's key, and where it goes: the header `header`, behind `prefix`, or else the query's `parameter`."""

    secret: SecretStr
    header: str = ""
    prefix: str = ""
    parameter: str = ""


class Getter(Protocol):
    """What an adapter asks."""

    def get(self, path: str, query: Mapping[str, str], credits: int = 1) -> Reply:
        """The answer, whatever its status. Raises ProviderError (TRANSIENT) when there was none.

        `credits`: what the request costs, for the error to tell.
        """
        ...


class Wire:
    """HTTP GET to one source. Safe to share: each thread has a session of its own.

    The deadline counts whole answers; headers alone that trickle in are bounded by the read time-out between two bytes.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        key: Key,
        *,
        timeout_s: tuple[float, float] = limits.DATA_TIMEOUT_S,
        deadline_s: float = limits.DATA_DEADLINE_S,
        body_max_bytes: int = limits.DATA_BODY_MAX_BYTES,
    ) -> None:
        self._provider = provider
        self._base_url = base_url.rstrip("/")
        self._key = replace(key, secret=SecretStr(key.secret.get_secret_value().strip()))
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._body_max_bytes = body_max_bytes
        self._local = threading.local()
        _silence(self._key.secret)

    def __repr__(self) -> str:
        return f"Wire({self._provider!r})"

    def get(self, path: str, query: Mapping[str, str], credits: int = 1) -> Reply:
        until_s = monotonic_s() + self._deadline_s
        try:
            return self._ask(path, query, until_s)
        except AnswerRefused as refused:
            problem, spent = str(refused), credits
        except BROKEN as error:
            problem, spent = type(error).__name__, 0 if _never_sent(error) else credits
        # Out here it has no cause and no context: those tell the whole address.
        raise ProviderError(self._provider, Fault.TRANSIENT, problem, credits=spent)

    def _ask(self, path: str, query: Mapping[str, str], until_s: float) -> Reply:
        """One request, and those it is sent on to within its own host."""
        url, params = f"{self._base_url}{path}", dict(query)
        for _turn in range(limits.DATA_REDIRECTS_MAX + 1):
            with self._session().get(
                url, params=params, timeout=self._timeout_s, stream=True, allow_redirects=False
            ) as response:
                if not response.is_redirect:
                    return self._reply(response, until_s)
                target = urljoin(url, response.headers["location"])
            if _origin(target) != _origin(url):
                raise AnswerRefused("it sends on to another host")
            url, params = target, {}
        raise AnswerRefused("it sends on without end")

    def _reply(self, response: requests.Response, until_s: float) -> Reply:
        raw = body_of(response, until_s, self._deadline_s, self._body_max_bytes)
        text = raw.decode("utf-8", errors="replace")
        blank = forms_of(self._key.secret)
        headers = {name.lower(): redact(value, blank) for name, value in response.headers.items()}
        return reply_of(response.status_code, headers, redact(text, blank))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.headers.update({"User-Agent": AGENT, "Accept-Encoding": PLAIN})
            session.auth = _as_it_is
            if self._key.header:
                session.headers[self._key.header] = self._key.prefix + self._key.secret.get_secret_value()
            elif self._key.parameter:
                session.params = {self._key.parameter: self._key.secret.get_secret_value()}
        return session


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No authentication of its own: else a .netrc would go before the key."""
    return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _never_sent(error: BaseException) -> bool:
    """Whether no connection came about, so that nothing can have been counted."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, NEVER_SENT) or isinstance(reason, urllib3.NewConnectionError)


def forms_of(secret: SecretStr) -> tuple[str, ...]:
    """The forms a key may be shown in."""
    value = secret.get_secret_value()
    found = {value, quote(value, safe=""), quote_plus(value)}
    return tuple(sorted((form for form in found if len(form) >= SECRET_MIN_CHARS), key=len, reverse=True))


class _Blank(logging.Filter):
    """Takes keys out of what urllib3 logs, before any handler sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: tuple[str, ...] = ()

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        shown = redact(said, self.secrets)
        if shown != said:
            record.msg, record.args = shown, ()
        return True


_BLANK = _Blank()


def _silence(secret: SecretStr) -> None:
    # A new tuple each time: another thread may be reading the old one.
    _BLANK.secrets = tuple(sorted({*_BLANK.secrets, *forms_of(secret)}, key=len, reverse=True))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if _BLANK not in logger.filters:
            logger.addFilter(_BLANK)
