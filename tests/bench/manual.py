"""Two hundred manual orders in one write: how fast they reach the exchange, and how fast they are done.

Beside them the exchange's own pace: the same orders one after the other over plain HTTP, and the venue's limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice
from time import monotonic_ns
from typing import Any

from qbot import clock
from qbot.contract import keys
from qbot.exchange.gate import WINDOW_S
from qbot.limits import REQUESTS_PER_MINUTE
from tests.bench.rig import Rig
from tests.bench.room import UNLIMITED, Venue, room
from tests.support.servers import wait_until

COUNT, QUICK_COUNT = 200, 50
FINAL = {"FILLED", "REJECTED", "CANCELED", "EXPIRED"}
ATTEMPTS, WAIT_S, LOOK_S = 30, 600.0, 0.05


def run(quick: bool = False) -> Iterator[str]:
    """Lines to print."""
    count = QUICK_COUNT if quick else COUNT
    with room(UNLIMITED) as (found, venue, symbols):
        bare = _bare(venue, symbols, count)
        yield f"the exchange alone              {bare:7.1f} orders a second"
        yield from _lines("no limit of the venue", _ordered(found, symbols, count), bare)
    with room(REQUESTS_PER_MINUTE) as (found, _venue, symbols):
        limit = REQUESTS_PER_MINUTE / 60
        yield f"the venue's limit               {limit:7.1f} requests a second, the first {REQUESTS_PER_MINUTE} at once"
        yield from _lines(f"{REQUESTS_PER_MINUTE} requests a minute", _ordered(found, symbols, count), limit)


def _bare(venue: Venue, symbols: list[str], count: int) -> float:
    """Orders a second."""
    begun = monotonic_ns()
    for symbol in islice(cycle(symbols), count):
        venue.order(symbol)
    return count / _seconds(begun, monotonic_ns())


def _until_one_is_filled(found: Rig, symbols: list[str]) -> None:
    """QBot has looked around: it knows the risk, and fills come in."""
    for number in range(ATTEMPTS):
        found.say(keys.MANUAL_ORDERS, [_order(-1 - number, symbols[0])])
        wait_until(lambda: _done(found) == 1, "one order done", WAIT_S, LOOK_S)
        if set(_ends(found)) == {"FILLED"}:
            return
        clock.pause(5.0)
    raise RuntimeError(f"no order is filled: {_ends(found)}")


def _ordered(found: Rig, symbols: list[str], count: int) -> tuple[list[float], float, dict[str, int]]:
    """Seconds until each order arrived at the exchange, and until all were done; how they ended."""
    _until_one_is_filled(found, symbols)
    clock.pause(WINDOW_S + 1)  # a limit of the venue is not half spent
    orders = [_order(number, symbol) for number, symbol in enumerate(islice(cycle(symbols), count))]
    begun = monotonic_ns()
    found.say(keys.MANUAL_ORDERS, orders)
    wait_until(lambda: _done(found) == count, "every order done", WAIT_S, LOOK_S)
    done = _seconds(begun, monotonic_ns())
    posts = [at for at, method, path in found.arrivals.look() if at >= begun and (method, path) == POST]
    return [_seconds(begun, at) for at in posts], done, _ends(found)


POST = ("POST", "/v2/orders")


def _order(number: int, symbol: str) -> dict[str, Any]:
    return {
        "order_id": f"bench_{number}", "symbol": symbol, "side": "BUY", "quantity": 1, "order_type": "MARKET",
        "time_in_force": "DAY", "status": "PENDING", "created_at": datetime.now(UTC).isoformat(),
        "session_id": "bench",
    }  # fmt: skip


def _ends(found: Rig) -> dict[str, int]:
    value: Any = found.rt.board.read(keys.MANUAL_ORDERS).value or ()
    return dict(Counter(_end(order) for order in value))


def _end(order: Any) -> str:
    """The status, of a refusal with its name."""
    status, reason = str(order.status), str(order.status_reason or "")
    return f"{status} {reason.partition(':')[0]}" if status == "REJECTED" else status


def _done(found: Rig) -> int:
    return sum(count for status, count in _ends(found).items() if status.split()[0] in FINAL)


def _seconds(begun_ns: int, ended_ns: int) -> float:
    return (ended_ns - begun_ns) / 1e9


def _lines(what: str, measured: tuple[list[float], float, dict[str, int]], beside: float) -> Iterator[str]:
    posts, done_s, ends = measured
    told = ", ".join(f"{count} {status}" for status, count in ends.items())
    if posts:
        rate = len(posts) / posts[-1]
        yield (
            f"{what}: {len(posts)} POSTs, the first after {posts[0] * 1000:.0f} ms, the last after {posts[-1]:.1f} s:"
            f" {rate:.1f} a second, {rate / beside:.2f} of that"
        )
    rate = sum(ends.values()) / done_s
    yield f"{what}: done after {done_s:.1f} s: {rate:.1f} a second, {rate / beside:.2f} of that   ({told})"
