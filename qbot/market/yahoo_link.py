"""yfinance itself: loaded when first needed, bounded in time and size, its cache within QBot's home.

It keeps one session a process and makes more requests than it is asked for (a cookie, a crumb, another try with both
anew). They all go through a session of ours, which counts them and remembers the last answer: yfinance tells a symbol
without data and a source without patience by exceptions alone, and not always by different ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

from qbot import limits
from qbot.clock import monotonic_s
from qbot.market.reply import Reply, reply_of

T = TypeVar("T")
CACHE_FOLDER = "yfinance"
ANOTHER_REQUEST = ("tradingPeriods",)  # loaded only when looked at
EXCHANGE_ZONE = "America/New_York"  # of every US symbol: telling yfinance saves a request a symbol
CUT_OFF = "SoftTimeLimitExceeded"  # the worker's word that the whole task is over: no failure of Yahoo's
DATA_PATHS = ("/v7/", "/v8/", "/v10/", "/xhr/", "/ws/")  # beside them: cookies, consent, crumbs


@dataclass(frozen=True, slots=True)
class Asked:
    """What came, and the requests it took."""

    value: Any
    requests: int


class YahooFailed(Exception):
    """yfinance gave nothing. `limited` and `missing` are its own words for why; `reply`: the last answer about data."""

    def __init__(self, why: str, reply: Reply | None, requests: int, *, limited: bool, missing: bool) -> None:
        super().__init__(why)
        self.reply = reply
        self.requests = requests
        self.limited = limited
        self.missing = missing


class Link(Protocol):
    """What the adapter asks yfinance for. Each raises YahooFailed."""

    def history(self, symbol: str, **query: Any) -> Asked:
        """(frame, metadata) of `Ticker.history`."""
        ...

    def info(self, symbol: str) -> Asked:
        """`Ticker.info`."""
        ...

    def news(self, symbol: str, count: int) -> Asked:
        """`Ticker.get_news`."""
        ...


class YahooLink:
    """The Link to Yahoo Finance, or with `base_url` to a server that stands in for all of its hosts."""

    def __init__(self, home: Path, base_url: str | None = None, *, deadline_s: float = limits.DATA_DEADLINE_S) -> None:
        self._cache = home / CACHE_FOLDER
        self._base_url = base_url
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._turn = _Turn()

    def history(self, symbol: str, **query: Any) -> Asked:
        def ask(ticker: Any) -> Any:
            frame = ticker.history(timeout=limits.DATA_TIMEOUT_S[1], **query)
            meta = ticker.history_metadata
            return frame, {name: meta[name] for name in meta if name not in ANOTHER_REQUEST}

        return self._ask(symbol, ask)

    def info(self, symbol: str) -> Asked:
        return self._ask(symbol, lambda ticker: dict(ticker.info))

    def news(self, symbol: str, count: int) -> Asked:
        return self._ask(symbol, lambda ticker: list(ticker.get_news(count=count)))

    def _ask(self, symbol: str, ask: Callable[[Any], T]) -> Asked:
        turn = self._turn
        turn.begin(monotonic_s() + self._deadline_s)
        try:
            value = ask(self._ticker(symbol))
        except Exception as error:  # whatever comes up in it, nothing else may stop for it
            kinds = {kind.__name__ for kind in type(error).__mro__}
            if CUT_OFF in kinds:
                raise
            limited, missing = "YFRateLimitError" in kinds, "YFTickerMissingError" in kinds
            failed = YahooFailed(type(error).__name__, turn.last, turn.requests, limited=limited, missing=missing)
        else:
            return Asked(value, turn.requests)
        raise failed

    def _ticker(self, symbol: str) -> Any:
        with self._lock:
            yfinance, session = self._loaded
        # It would answer with what it was told before, a failure too.
        yfinance.data.YfData.cache_get.cache_clear()
        ticker = yfinance.Ticker(symbol, session=session)
        ticker._tz = EXCHANGE_ZONE
        return ticker

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import yfinance  # four seconds, and not every process asks

        self._cache.mkdir(parents=True, exist_ok=True)
        yfinance.set_tz_cache_location(str(self._cache))  # of its cookies, too
        yfinance.config.debug.hide_exceptions = False  # else an error is an empty frame
        return yfinance, _session(self._turn, self._base_url)


class _Turn(threading.local):
    """What one call may take yet and has taken, of each thread."""

    until_s: float = 0.0
    requests: int = 0
    last: Reply | None = None

    def begin(self, until_s: float) -> None:
        self.until_s, self.requests, self.last = until_s, 0, None


def _session(turn: _Turn, base_url: str | None) -> Any:
    from curl_cffi import CurlOpt, requests  # yfinance's own; Yahoo turns plain clients away

    class Session(requests.Session[Any]):
        def request(self, method: Any, url: str, **options: Any) -> Any:  # type: ignore[override]
            left_s = turn.until_s - monotonic_s()
            if left_s <= 0:
                raise TimeoutError("no time left")
            options["timeout"] = min(limits.DATA_TIMEOUT_S[1], left_s)
            turn.requests += 1
            response = super().request(method, rebased(url, base_url), **options)
            if urlsplit(url).path.startswith(DATA_PATHS):
                headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
                turn.last = reply_of(response.status_code, headers, response.text)
            return response

    return Session(impersonate="chrome", curl_options={CurlOpt.MAXFILESIZE_LARGE: limits.DATA_BODY_MAX_BYTES})


def rebased(url: str, base_url: str | None) -> str:
    """An address of Yahoo's, at the server that stands in for its hosts."""
    if base_url is None:
        return url
    scheme, netloc, path, _query, _fragment = urlsplit(base_url)
    found = urlsplit(url)
    return urlunsplit((scheme, netloc, path.rstrip("/") + found.path, found.query, ""))
