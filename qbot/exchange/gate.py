"""What stands before every endpoint: the keys and the rate limit."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from qbot import clock
from qbot.exchange.refusals import Refused

WINDOW_S = 60.0


@dataclass(slots=True)
class RateLimit:
    """So many requests a key and minute: 200 with the vendor.

    A replay runs `clock.speed()` market minutes in a wall minute and its clients ask as often a market minute as ever,
    so the limit is multiplied by the speed.
    """

    per_minute: int = 200
    _windows: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        """Requests a wall minute."""
        return int(self.per_minute * max(1.0, clock.speed()))

    def count(self, key: str) -> dict[str, str]:
        """Count a request; the headers of its answer. Raises Refused (429) over the limit."""
        now = clock.monotonic_s()
        begin, used = self._windows.get(key, (now, 0))
        if now - begin >= WINDOW_S:
            begin, used = now, 0
        self._windows[key] = (begin, used + 1)
        reset = int(clock.wall_now().timestamp() + WINDOW_S - (now - begin))
        headers = {"X-RateLimit-Limit": str(self.limit), "X-RateLimit-Reset": str(reset),
                   "X-RateLimit-Remaining": str(max(self.limit - used - 1, 0))}  # fmt: skip
        if used >= self.limit:
            refused = Refused(429, "rate limit exceeded", 42910000)
            refused.headers = headers
            raise refused
        return headers


def authorize(request: Request, keys: dict[str, str]) -> str:
    """The key of a request. Raises Refused (401) if it or its secret is missing or wrong."""
    key, secret = request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY")
    if key is None or secret is None:
        raise Refused(401, "unauthorized.", None)
    if keys.get(key) != secret:
        raise Refused(401, "access key verification failed : verification failure", 40110000)
    return key
