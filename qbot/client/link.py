"""The connection: reads at one instant, writes all at once, compare-and-set, and one place where errors get names."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, TypeVar

import redis
from pydantic import ValidationError
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.client import PubSub
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError
from redis.retry import Retry

from qbot import clock, limits
from qbot.client.documents import Writes, check_writable
from qbot.client.errors import KeyUnusable, NotAllowed, WrongPassword
from qbot.contract import keys, names
from qbot.contract.key import Key, Reading
from qbot.contract.payloads_channels import Stamp
from qbot.contract.problems import Problem
from qbot.errors import BoardUnavailable

T = TypeVar("T")
SOCKET_TIMEOUT_S = 2.0  # far over a round trip, and a human still waits for it
BACKOFF = ExponentialWithJitterBackoff(base=0.05, cap=10.0)  # many frontends of one server must not come back at once
STEEPEST = 10  # doublings: by then the cap holds
CONFLICT_PAUSE_S = 0.005  # about a round trip: whoever lost a compare-and-set lets the others through
RESP = 2  # understood by every server, and the same for publish and subscribe in every client library


@dataclass(frozen=True)
class State:
    """Keys as they stood at one instant. `revision` is the board's; `stamps` say when each key was last written.

    A frontend's own write has no stamp of its own until QBot has seen it.
    """

    revision: int
    readings: dict[str, Reading[Any]]
    stamps: dict[str, Stamp]

    def __getitem__(self, key: Key[T]) -> Reading[T]:
        """The reading of one of the keys asked for. Raises KeyError for another."""
        return self.readings[key.name]

    def revision_of(self, name: str) -> int:
        """The revision of a key's last write; 0 when QBot never told of it."""
        return self.stamps[name].revision if name in self.stamps else 0

    def written_at(self, name: str) -> datetime | None:
        """When a key was last written; None when QBot never told of it."""
        return self.stamps[name].time if name in self.stamps else None


class Link:
    """One server. Threads may share it. `patience_s` is how long an operation keeps trying before BoardUnavailable."""

    def __init__(self, host: str, port: int, password: str, username: str | None, patience_s: float) -> None:
        self.patience_s = patience_s
        self.closed = threading.Event()
        self.at = f"{host}:{port}"
        self._client = redis.Redis(
            host=host,
            port=port,
            username=username,
            password=password or None,
            protocol=RESP,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0, supported_errors=()),  # `again` does it, and knows what not to repeat
        )

    def __repr__(self) -> str:
        return f"Link({self.at})"

    def close(self) -> None:
        """Ends every wait and closes the connections; one that a thread still uses is that thread's to end."""
        self.closed.set()
        self._client.connection_pool.disconnect(inuse_connections=False)

    def again(self, operation: Callable[[], T], within_s: float | None = None) -> T:
        """Tries until it works: pauses grow and are random. A refusal of Redis is not tried again.

        Raises BoardUnavailable after `within_s`, WrongPassword and NotAllowed at once. The operation must bear being
        done twice: when a connection breaks, nobody knows whether it was done.
        """
        deadline = clock.monotonic_s() + (self.patience_s if within_s is None else within_s)
        for failures in count(1):
            try:
                with self._told():
                    return operation()
            except BoardUnavailable:
                pause_s = back_off_s(failures)
                if clock.monotonic_s() + pause_s > deadline or self.closed.wait(pause_s):
                    raise
        raise AssertionError("unreachable")

    def ping(self, within_s: float | None = None) -> None:
        """One round trip."""
        self.again(self._client.ping, within_s)

    def read(self, wanted: Sequence[Key[Any]] | None, also: Iterable[str] = ()) -> State:
        """The keys at one instant; None: all that are documented, with every ticker that has one, and `also`."""
        return self.again(lambda: self._read(wanted, also))

    def read_once(self, wanted: Sequence[Key[Any]] | None, also: Iterable[str] = ()) -> State:
        """As `read`, in one try."""
        with self._told():
            return self._read(wanted, also)

    def write(self, writes: Writes, within_s: float | None = None) -> int:
        """All or nothing, in one MULTI; None removes a key. Raises ValueError for what a frontend may not write.

        Returns the board's revision at that very instant: whatever QBot makes of the write has a higher one.
        """
        for key, _ in writes:
            check_writable(key)
        wires = [(key.name, None if value is None else key.encode(value)) for key, value in writes]

        def operation() -> int:
            with self._client.pipeline(transaction=True) as pipe:
                for name, wire in wires:
                    pipe.delete(name) if wire is None else pipe.set(name, wire)
                pipe.get(keys.REVISION_COUNTER)
                return int(pipe.execute()[-1] or 0)

        return self.again(operation, within_s)

    def change(self, key: Key[T], change: Callable[[T | None], T | None]) -> T | None:
        """Compare-and-set: `change` gets what stands there and returns the new value, or None to leave it.

        Nothing that others write meanwhile is lost. `change` may run several times, and must find its own work done
        when it was. Raises KeyUnusable when what stands there is invalid. Returns what stands there afterwards.
        """
        check_writable(key)
        return self.again(lambda: self._change(key, change))

    def replace(self, key: Key[Any], expected: bytes, writes: Writes) -> bool:
        """The writes, if the key still holds these bytes."""

        def operation() -> bool:
            with self._client.pipeline() as pipe:
                pipe.watch(key.name)  # type: ignore[no-untyped-call]
                if _raw(pipe, key) != expected:
                    return False
                pipe.multi()
                for one, value in writes:
                    pipe.delete(one.name) if value is None else pipe.set(one.name, one.encode(value))
                return _executed(pipe)

        return self.again(operation)

    def subscribe(self) -> PubSub:
        """A subscription to `qbot:updates` that the server has confirmed, in one try. The caller closes it."""
        with self._told():
            listener: PubSub = self._client.pubsub()  # type: ignore[no-untyped-call]
            try:
                listener.subscribe(keys.UPDATES.name)
                if listener.get_message(timeout=SOCKET_TIMEOUT_S) is None:
                    raise BoardUnavailable(f"{self.at}: the subscription was not confirmed")
            except BaseException:
                listener.close()
                raise
        return listener

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Names the errors of a subscription. Raises BoardUnavailable, WrongPassword or NotAllowed."""
        with self._told():
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (AuthenticationError, AuthorizationError) as error:
            raise WrongPassword(f"{self.at} refuses the user or the password: {error}") from error
        except NoPermissionError as error:
            raise NotAllowed(f"{self.at}: {error}") from error
        except (redis.RedisError, OSError) as error:
            raise BoardUnavailable(f"{self.at}: {error}") from error

    def _read(self, wanted: Sequence[Key[Any]] | None, also: Iterable[str]) -> State:
        asked = list(wanted) if wanted is not None else self._everything(also)
        with self._client.pipeline(transaction=True) as pipe:
            for key in asked:
                pipe.exists(key.name)
                pipe.getrange(key.name, 0, key.max_bytes)
            pipe.hmget(keys.WRITTEN, [key.name for key in asked])
            pipe.get(keys.REVISION_COUNTER)
            *answers, stamps, revision = pipe.execute(raise_on_error=False)
        for answer in (*answers, stamps, revision):
            if isinstance(answer, Exception) and not str(answer).startswith("WRONGTYPE"):
                raise answer
        pairs = zip(asked, answers[::2], answers[1::2], strict=True)
        readings = {key.name: _reading(key, raw if there else None) for key, there, raw in pairs}
        return State(int(revision or 0), readings, _stamps(asked, stamps))

    def _everything(self, also: Iterable[str]) -> list[Key[Any]]:
        fixed = [key for key in keys.ENTRIES.values() if not key.pattern and not key.internal]
        stamps: dict[Any, Any] = self._client.hgetall(keys.WRITTEN)
        told = (name.decode(errors="replace") for name in stamps)
        tickers = {name for name in (*told, *also) if name not in keys.ENTRIES}
        return [*fixed, *(key for name in sorted(tickers) if (key := known(name)))]

    def _change(self, key: Key[T], change: Callable[[T | None], T | None]) -> T | None:
        with self._client.pipeline() as pipe:
            for _ in range(limits.BOARD_UPDATE_ATTEMPTS):
                pipe.watch(key.name)  # type: ignore[no-untyped-call]
                reading = _reading(key, _raw(pipe, key))
                if reading.problem:
                    raise KeyUnusable(f"{key.name} holds something invalid: {reading.problem}")
                value = change(reading.value)
                if value is None:
                    return reading.value
                wire = key.encode(value)
                pipe.multi()
                pipe.set(key.name, wire)
                if _executed(pipe):
                    return value
                self.closed.wait(random.random() * CONFLICT_PAUSE_S)
        raise BoardUnavailable(f"{key.name}: others kept writing through {limits.BOARD_UPDATE_ATTEMPTS} attempts")


def back_off_s(failures: int) -> float:
    """How long to wait after so many failures in a row: exponential, with jitter, bounded."""
    return BACKOFF.compute(min(failures, STEEPEST))


def known(name: str) -> Key[Any] | None:
    """The entry of a key by its name; None for one that this version's contract does not have."""
    try:
        return names.find(name)
    except names.UnknownKey:
        return None


def _executed(pipe: Any) -> bool:
    """False when a watched key was changed in between: then nothing was written."""
    try:
        pipe.execute()
    except redis.WatchError:
        return False
    return True


def _raw(pipe: Any, key: Key[Any]) -> bytes | redis.ResponseError | None:
    """What a watched key holds, at most one byte more than allowed."""
    try:
        return pipe.getrange(key.name, 0, key.max_bytes) if pipe.exists(key.name) else None
    except redis.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        return error


def _reading(key: Key[T], raw: bytes | Exception | None) -> Reading[T]:
    if isinstance(raw, Exception):
        return key.unreadable(f"{Problem.WRONG_REDIS_TYPE}: not a string")
    return key.reading(raw)


def _stamps(asked: Sequence[Key[Any]], raws: Sequence[bytes | None]) -> dict[str, Stamp]:
    found: dict[str, Stamp] = {}
    for key, raw in zip(asked, raws, strict=True):
        with suppress(ValidationError):  # of another version of QBot: then the key has none
            if raw is not None:
                found[key.name] = Stamp.model_validate_json(raw)
    return found
