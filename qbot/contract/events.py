"""Who wrote which key, as it happens: Redis' keyspace events of everything a frontend may write.

Events are hints: none is kept for those who were not connected, and Redis does not name the writer. QBot's own writes
are announced in the same atomic step right before their event, so the two can be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from qbot.contract import keys
from qbot.contract.key import Direction
from qbot.errors import BoardUnavailable
from qbot.settings import Settings

INPUTS = {key.name: key for key in keys.ENTRIES.values() if key.direction is not Direction.BACKEND}
SOCKET_TIMEOUT_S = 2.0
_KEYSPACE = "__keyspace@0__:"
_TOKEN, _PROBED = "token:", "probed:"  # no key begins like this
_PROBES = {"set", "del"}  # the events of a probe: of strings, and of any key


@dataclass(frozen=True, slots=True)
class Written:
    """A key of the contract was written or removed. `own`: by QBot."""

    key: str
    own: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """A token of `Events.send` came round: every event before it has been delivered. `deaf`: it came with a probe, and
    the server raised no events of that.
    """

    token: str
    deaf: bool = False


class Events:
    """One subscription. `receive` belongs to one thread; `send` may be called by all.

    Raises BoardUnavailable where Redis cannot be used; a new one is made then.
    """

    def __init__(self, settings: Settings) -> None:
        """Subscribes; when it returns, no event will be missed."""
        self._client = redis.Redis(
            host=settings.redis_host,
            port=settings.redis_port,
            username=settings.redis_user,
            password=settings.redis_password.get_secret_value() or None,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        self._own: str | None = None
        self._probed: set[str] = set()
        channels = [keys.OWN_WRITES, *(_KEYSPACE + name for name in (*INPUTS, keys.PROBE))]
        with _available():
            self._subscription = self._client.pubsub()  # type: ignore[no-untyped-call]
            self._subscription.subscribe(*channels)
            confirmed = 0
            while confirmed < len(channels):
                message = self._subscription.get_message(timeout=SOCKET_TIMEOUT_S)
                if message is None:
                    raise redis.TimeoutError("the subscription was not confirmed")
                confirmed += message["type"] == "subscribe"

    def receive(self, timeout_s: float) -> Written | Passed | None:
        """The next event, or None when there is none within the time."""
        with _available():
            message = self._subscription.get_message(ignore_subscribe_messages=True, timeout=timeout_s)
        if message is None:
            return None
        channel, data = message["channel"].decode(), message["data"].decode()
        if channel == keys.OWN_WRITES:
            if data.startswith(_TOKEN):
                return Passed(data.removeprefix(_TOKEN))
            if data.startswith(_PROBED):
                probed, self._probed = self._probed, set()
                return Passed(data.removeprefix(_PROBED), deaf=not probed >= _PROBES)
            self._own = data
            return None
        key, announced, self._own = channel.removeprefix(_KEYSPACE), self._own, None
        if key == keys.PROBE:
            self._probed.add(data)
            return None
        return Written(key, key == announced)

    def send(self, token: str) -> None:
        """Have Redis send this round: it comes out of `receive` after every event before it."""
        with _available():
            self._client.publish(keys.OWN_WRITES, _TOKEN + token)

    def probe(self, token: str) -> None:
        """As `send`, and tell whether the server raises events at all."""
        with _available(), self._client.pipeline(transaction=True) as pipe:
            pipe.set(keys.PROBE, "")
            pipe.delete(keys.PROBE)
            pipe.publish(keys.OWN_WRITES, _PROBED + token)
            pipe.execute()

    def close(self) -> None:
        """Ends the subscription."""
        self._subscription.close()
        self._client.close()


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BoardUnavailable(str(error)) from error
