"""The only way to ask a source: its breaker, its quotas, its pace, and what is tried again.

All workers share what is known: breakers and pace over Redis, quotas in Postgres. Where it cannot be known, nobody is
asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pybreaker
import redis
import structlog
from sqlalchemy.engine import Engine
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from qbot import clock, limits
from qbot.contract import keys
from qbot.errors import BoardUnavailable
from qbot.market.at_hand import fingerprint
from qbot.market.counting import Counted
from qbot.market.pace import Pace
from qbot.market.plans import Plan
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.store.quotas import Claim

log = structlog.get_logger(__name__)
T = TypeVar("T")
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)  # until its access or plan changes: then it is another breaker
PAUSE = timedelta(seconds=limits.DATA_PAUSE_S)
HOUR_S = 3_600.0  # where a source without a quota says that it is used up, and no more
AGAIN = (Fault.TRANSIENT, Fault.MINUTE_LIMIT)


class Closed(ProviderError):
    """The source was not asked, and nothing used up. `until`: when it may be asked again, where that is known."""

    def __init__(self, source: str, fault: Fault, message: str, until: datetime | None = None) -> None:
        super().__init__(source, fault, message)
        self.until = until


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a source is not asked, and until when. FOREVER: until its access or plan changes."""

    fault: Fault
    until: datetime

    @property
    def words(self) -> str:
        """For a human."""
        if self.until >= FOREVER:
            return "its key is refused"
        what = {Fault.QUOTA: "its quota is used up", Fault.MINUTE_LIMIT: "it says that it was asked too often"}
        return f"{what.get(self.fault, 'it fails')}, until {self.until:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class _Breaker:
    breaker: pybreaker.CircuitBreaker
    storage: pybreaker.CircuitRedisStorage


class Gate:
    """Asks one source. One a process and source; threads share it.

    `access`: as `at_hand.access_of`; under another one, or another plan, what the old one met is forgotten.
    `fingerprint`: of both.
    """

    def __init__(
        self,
        plan: Plan,
        access: str,
        client: redis.Redis,
        engine: Engine,
        wall: Callable[[], datetime] = clock.wall_now,
        pause: Callable[[float], None] = clock.pause,
        pace: Pace | None = None,
    ) -> None:
        self.plan = plan
        self._client, self._wall, self._pause = client, wall, pause
        self._counted = Counted(plan, engine)
        self._pace = pace or Pace(client, plan, pause)
        self.fingerprint = fingerprint(access, plan.name, plan.limits)
        self._name = f"{keys.SOURCE_BREAKER}:{plan.source}:{self.fingerprint}"
        self._local = threading.local()

    def call(self, symbols: int, ask: Callable[[], T]) -> T:
        """Make one request for so many symbols. What was reserved for it and not used is given back.

        Raises Closed when the source was not asked; ProviderError when it did not answer, after what can be tried
        again; BoardUnavailable or StoreUnavailable when nobody can tell whether it may be asked: then it was not.
        """
        tries = Retrying(
            retry=retry_if_exception(_worth_another),
            wait=_wait,
            stop=stop_after_attempt(limits.DATA_TRIES),
            before_sleep=self._before_another,
            sleep=self._pause,
            reraise=True,
        )
        try:
            answer: T = tries(self._once, symbols, ask)
        except Closed:
            raise
        except ProviderError as error:
            self._after(error)
            raise
        return answer

    def hold(self) -> Hold | None:
        """Why the source is not asked now; None when it is. Raises BoardUnavailable."""
        with _redis():
            storage = self._shared().storage
            opened_at = storage.opened_at
            if storage.state != pybreaker.STATE_OPEN or opened_at is None:
                return None
            until = opened_at + PAUSE
            if until <= self._wall():
                return None
            told = self._client.hget(keys.SOURCE_CLOSED, self._name)
        body = json.loads(told) if isinstance(told, bytes) else {}
        known = body.get("until") == until.isoformat()
        return Hold(Fault(body["fault"]) if known else Fault.TRANSIENT, until)

    # --- one try ------------------------------------------------------------------------------------------------------

    def _once(self, symbols: int, ask: Callable[[], T]) -> T:
        held = self.hold()
        if held is not None:
            raise Closed(self.plan.source, held.fault, f"not asked: {held.words}", held.until)
        claims = self._reserve(symbols)
        try:
            wait_s = self._pace.wait(symbols)
            if wait_s is not None:
                raise Closed(self.plan.source, Fault.MINUTE_LIMIT, f"not asked: its turn is in {wait_s:.0f} s")
            answer = self._through(ask)
        except (Closed, BoardUnavailable):
            self._counted.give_back(claims, self._wall())
            raise
        except ProviderError as error:  # it may have cost several requests; where it tells of none, one stays counted
            self._counted.settle(claims, error.credits, self._wall())
            raise
        if isinstance(answer, Answer):
            self._counted.settle(claims, answer.credits, self._wall())
        return answer

    def _reserve(self, symbols: int) -> list[Claim]:
        claims, refused = self._counted.reserve(symbols, self._wall())
        if refused is not None:
            message = f"not asked: the {refused.limit.amount} of this {refused.limit.span} are used up"
            raise Closed(self.plan.source, Fault.QUOTA, message, refused.renews_at)
        return claims

    def _through(self, ask: Callable[[], T]) -> T:
        """The request itself, which the breaker hears of. An answer that ended early is a failure with an answer."""
        ended_early: list[T] = []

        def heard() -> T:
            answer = ask()
            if isinstance(answer, Answer) and answer.failed is not None:
                ended_early.append(answer)
                raise answer.failed
            return answer

        try:
            return self._shared().breaker.call(heard)
        except pybreaker.CircuitBreakerError as error:
            raise Closed(self.plan.source, Fault.TRANSIENT, "not asked: it has begun to fail") from error
        except ProviderError as error:
            if not ended_early:
                raise
            self._after(error)
            return ended_early[0]

    # --- the breaker --------------------------------------------------------------------------------------------------

    def _shared(self) -> _Breaker:
        """Of this thread, since a breaker lets one through at a time; its state is shared by all. Raises RedisError."""
        found: _Breaker | None = getattr(self._local, "breaker", None)
        if found is None:
            storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, self._client, self._name)
            breaker = pybreaker.CircuitBreaker(
                fail_max=limits.DATA_FAILURES_MAX,
                reset_timeout=limits.DATA_PAUSE_S,
                exclude=[_is_no_failure],
                state_storage=storage,
                name=self.plan.source,
                throw_new_error_on_trip=False,
            )
            found = self._local.breaker = _Breaker(breaker, storage)
        return found

    def _before_another(self, state: RetryCallState) -> None:
        """Who was asked too often is left alone by all workers, and not only by the one that heard of it."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ProviderError):
            self._after(error)

    def _after(self, error: ProviderError) -> None:
        """Close the source for as long as its last word says."""
        now = self._wall()
        if error.fault is Fault.AUTH:
            self._close(Hold(Fault.AUTH, FOREVER))
        elif error.fault is Fault.QUOTA:
            again_at = self._counted.use_up(now)
            self._close(Hold(Fault.QUOTA, again_at or now + timedelta(seconds=error.retry_after_s or HOUR_S)))
        elif error.fault is Fault.MINUTE_LIMIT:
            hold_s = min(_asked_s(error), limits.DATA_MINUTE_HOLD_MAX_S)
            self._close(Hold(Fault.MINUTE_LIMIT, now + timedelta(seconds=hold_s)))

    def _close(self, hold: Hold) -> None:
        """Open the breaker so long; its own time-out is reckoned from when it opened, which may lie ahead."""
        with _redis():
            storage = self._shared().storage
            until = hold.until.replace(microsecond=0)  # as the storage keeps it
            storage.opened_at = until - PAUSE
            storage.state = pybreaker.STATE_OPEN
            told = json.dumps({"fault": hold.fault, "until": until.isoformat()})
            self._client.hset(keys.SOURCE_CLOSED, self._name, told)
        log.warning("source_closed", source=self.plan.source, fault=hold.fault, until=until.isoformat())


def _is_no_failure(error: BaseException) -> bool:
    """What says that the source is well, or has an end of its own: only what may work next time is a failure."""
    return isinstance(error, ProviderError) and error.fault is not Fault.TRANSIENT


def _worth_another(error: BaseException) -> bool:
    """Not where some bars came: as with quotes they are taken, and the rest is asked for the next time."""
    if isinstance(error, Closed) or not isinstance(error, ProviderError):
        return False
    if error.bars is not None and len(error.bars):
        return False
    return error.fault in AGAIN and (error.retry_after_s or 0.0) <= limits.DATA_RETRY_AFTER_MAX_S


_backoff = wait_random_exponential(multiplier=limits.DATA_RETRY_FIRST_S, max=limits.DATA_RETRY_MAX_S)


def _wait(state: RetryCallState) -> float:
    """With jitter; at least as long as the source says."""
    error = state.outcome.exception() if state.outcome else None
    return _backoff(state) + (_asked_s(error) if isinstance(error, ProviderError) else 0.0)


def _asked_s(error: ProviderError) -> float:
    """How long the source wants to be left alone, seconds. One that names its minute limit alone: for a minute."""
    return error.retry_after_s or (limits.DATA_PAUSE_S if error.fault is Fault.MINUTE_LIMIT else 0.0)


@contextmanager
def _redis() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BoardUnavailable(f"Redis: {error}") from error
