"""What one answer over HTTP may take and weigh, and how many pages it may come in: whoever sends it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import requests
import urllib3.exceptions as urllib3
from requests.adapters import HTTPAdapter

from qbot import limits
from qbot.clock import monotonic_s

if TYPE_CHECKING:
    from alpaca.common.rest import RESTClient

CHUNK_BYTES = 65_536
PLAIN = "identity"  # packed, a few bytes could grow beyond all bounds, or keep the unpacking busy and yield nothing


class AnswerRefused(requests.RequestException):
    """An answer that is not taken. The message holds nothing secret."""


def body_of(response: requests.Response, until_s: float, deadline_s: float, most_bytes: int) -> bytes:
    """All of the body, piece by piece as it comes: a source that drips does not hold the deadline up.

    `until_s`: on the monotonic clock. `response`: of a request for PLAIN. Raises AnswerRefused.
    """
    if response.headers.get("content-encoding", PLAIN).strip().lower() not in (PLAIN, ""):
        raise AnswerRefused("a packed answer, which was not asked for")
    told = int(response.headers.get("content-length") or 0)
    if told > most_bytes:
        raise AnswerRefused(f"an answer of {told:,} bytes")
    found = bytearray()
    while piece := response.raw.read1(CHUNK_BYTES, decode_content=False):
        found += piece
        if len(found) > most_bytes:
            raise AnswerRefused(f"an answer over {most_bytes:,} bytes")
        if monotonic_s() > until_s:
            raise AnswerRefused(f"no whole answer within {deadline_s:g} s")
    return bytes(found)


class Bounded(HTTPAdapter):
    """The transport of a session: each answer within its bounds, and no series of pages without end."""

    def __init__(
        self,
        *,
        deadline_s: float = limits.DATA_DEADLINE_S,
        most_bytes: int = limits.DATA_BODY_MAX_BYTES,
        pages_s: float = limits.DATA_PAGES_S,
    ) -> None:
        super().__init__()
        self._deadline_s, self._most_bytes, self._pages_s = deadline_s, most_bytes, pages_s
        self._series = threading.local()  # threads share a session, and each follows pages of its own

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, *args: Any, **more: Any
    ) -> requests.Response:
        """With the whole body. Raises AnswerRefused, or what requests raises."""
        del stream
        self._count(request)
        request.headers["Accept-Encoding"] = PLAIN
        until_s = monotonic_s() + self._deadline_s
        response = super().send(request, True, *args, **more)
        try:
            response._content = body_of(response, until_s, self._deadline_s, self._most_bytes)
        except (urllib3.HTTPError, OSError) as error:
            raise (
                error if isinstance(error, AnswerRefused) else requests.ConnectionError(type(error).__name__)
            ) from None
        finally:
            response.close()
        return response

    def _count(self, request: requests.PreparedRequest) -> None:
        """Raises AnswerRefused for a page too many, or too late."""
        query: Mapping[str, object] = parse_qs(urlsplit(request.url or "").query)
        if "page_token" not in query:
            self._series.pages, self._series.until_s = 0, monotonic_s() + self._pages_s
        self._series.pages += 1
        if self._series.pages > limits.DATA_PAGES_MAX:
            raise AnswerRefused(f"more than {limits.DATA_PAGES_MAX} pages")
        if monotonic_s() > self._series.until_s:
            raise AnswerRefused(f"its pages have no end within {self._pages_s:g} s")


def bound(client: RESTClient) -> None:
    """Make a client of alpaca-py take no more than that. Its session is private; a test asserts that it is the one."""
    for scheme in ("https://", "http://"):
        client._session.mount(scheme, Bounded())
