"""The limits of seconds and minutes, kept by all workers together: who is too early waits for its turn."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import redis
from pyrate_limiter import Decision, Rate, RateItem, RedisBucket
from pyrate_limiter.buckets.redis_bucket import LuaScript

from qbot import clock, limits
from qbot.contract import keys
from qbot.errors import BoardUnavailable
from qbot.market.plans import SPAN_S, Limit, Plan

JITTER_S = 0.05  # those who waited for the same moment do not all come in it

# Theirs counts the entries up to the caller's moment, which it read before its turn came: of others that were entered
# meanwhile, under a later one, it knows nothing. So here they count as well, and who is entered last has counted all.
UP_TO_NOW, ALL = "ZCOUNT', bucket, window_start, now)", "ZCOUNT', bucket, window_start, '+inf')"
SCRIPT = LuaScript.PUT_ITEM.replace(UP_TO_NOW, ALL)
assert SCRIPT.count(ALL) == 1, "pyrate-limiter counts in another way: see whether it still overlooks later entries"


class _Bucket(RedisBucket):
    """By the server's time: the clocks of two machines differ. The window slides, so that no minute has too many,
    whenever the vendor's begins.
    """

    def now(self) -> int:
        seconds, micros = self.redis.time()  # type: ignore[misc,unused-ignore]  # of a client that waits
        return int(seconds) * 1_000 + int(micros) // 1_000


def _binding(found: Sequence[Limit]) -> list[Limit]:
    """Without those that another one keeps anyhow, which a bucket does not take."""

    def kept_by(one: Limit, other: Limit) -> bool:
        """Either the other is the longer and has no more, or the shorter and is the slower."""
        if SPAN_S[other.span] >= SPAN_S[one.span]:
            return other.amount <= one.amount
        return other.amount / SPAN_S[other.span] <= one.amount / SPAN_S[one.span]

    return [one for one in found if not any(kept_by(one, other) for other in found if other is not one)]


class Pace:
    """How fast one source may be asked. Raises BoardUnavailable without Redis: then nobody knows, and nothing is asked.

    `pause` and `monotonic_s` are a test's.
    """

    def __init__(
        self,
        client: redis.Redis,
        plan: Plan,
        pause: Callable[[float], None] = clock.pause,
        monotonic_s: Callable[[], float] = clock.monotonic_s,
    ) -> None:
        self._client, self._plan = client, plan
        self._pause, self._monotonic_s = pause, monotonic_s
        self._limits = _binding([limit for limit in plan.limits if limit.span in SPAN_S])
        self._rates = [
            Rate(limit.amount, round(SPAN_S[limit.span] * 1_000 * limits.RATE_SLACK)) for limit in self._limits
        ]
        self._key = f"{keys.SOURCE_PACE}:{plan.source}"
        self._script: str | None = None

    def wait(self, symbols: int, within_s: float = limits.DATA_PACE_WAIT_S) -> float | None:
        """Wait for the turn of one request for so many symbols. None when it has come; else how long it takes, seconds.

        Raises ValueError for a request that no minute has room for.
        """
        if not self._limits:
            return None
        units = self._plan.units(self._limits[0], symbols)
        deadline_s = self._monotonic_s() + within_s
        while (wait_s := self._asked(units)) is not None:
            if self._monotonic_s() + wait_s > deadline_s:
                return wait_s
            self._pause(wait_s + random.uniform(0.0, JITTER_S))
        return None

    def _asked(self, units: int) -> float | None:
        """None when the call is counted and may be made now; else when to ask again, in seconds."""
        try:
            return self._decided(units)
        except redis.exceptions.NoScriptError:  # a server that was restarted knows no scripts
            self._script = None
            return 0.0
        except (redis.RedisError, OSError) as error:
            raise BoardUnavailable(f"Redis: {error}") from error

    def _decided(self, units: int) -> float | None:
        if self._script is None:
            self._script = str(self._client.script_load(SCRIPT))
        # A bucket remembers its last verdict, which must not be taken for that of another thread.
        bucket = _Bucket(self._rates, self._client, self._key, self._script)
        item = RateItem(self._plan.source, bucket.now(), weight=units)
        decision = bucket.put_decision(item)
        assert isinstance(decision, Decision)
        if decision.allowed:
            bucket.leak(item.timestamp)
            self._client.pexpire(self._key, 2 * max(rate.interval for rate in self._rates))
            return None
        if decision.retry_after_ms is None:
            raise ValueError(f"{self._plan.source}: {units} at once are more than its limit")
        return decision.retry_after_ms / 1_000
