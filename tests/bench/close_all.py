"""CLOSE_ALL_POSITIONS on the whole stack: from a frontend's write to the first call at the broker, and to all cash.

Beside it the round trip over HTTP: one request, and one for each order and position, one after the other.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from time import monotonic_ns

from qbot import clock, emergency
from qbot.contract import keys
from qbot.exchange.gate import WINDOW_S
from qbot.limits import REQUESTS_PER_MINUTE
from tests.bench.rig import Rig, when
from tests.bench.room import Venue, room
from tests.support.servers import wait_until

ORDERS, POSITIONS = 200, 50
ROUNDS, QUICK_ROUNDS = 5, 2
FILLED_S, FLAT_S = 60.0, 300.0
LOOK_S, SELDOM_S = 0.02, 5.0  # the bench's own looks count at the venue, too


@dataclass(frozen=True)
class Round:
    """Milliseconds from the write, and what QBot asked for until all was cash: how many requests of each kind."""

    first_ms: float
    flat_ms: float
    seen_ms: float
    asked: Counter[str]


def run(quick: bool = False) -> Iterator[str]:
    """Lines to print."""
    with room() as (found, venue, symbols):
        trip_ms = venue.round_trip_ms()
        rounds = [_round(found, venue, symbols) for _ in range(QUICK_ROUNDS if quick else ROUNDS)]
        yield f"{ORDERS} orders open, {POSITIONS} positions held; {len(rounds)} rounds, no limit of the venue"
        yield from _lines(rounds, trip_ms)
    if not quick:
        with room(REQUESTS_PER_MINUTE) as (found, venue, symbols):
            yield f"the same at the venue's {REQUESTS_PER_MINUTE} requests a minute, none of them spent; 1 round"
            yield from _lines([_round(found, venue, symbols, WINDOW_S + 1, SELDOM_S)], trip_ms)


def _lines(rounds: list[Round], trip_ms: float) -> Iterator[str]:
    each_ms = trip_ms * (ORDERS + POSITIONS)
    yield f"floor: one request                  {trip_ms:8.1f} ms"
    yield f"floor: one for each of them         {each_ms:8.1f} ms"
    for what, took, floor_ms in (
        ("first call at the broker", [one.first_ms for one in rounds], trip_ms),
        ("nothing open, nothing held", [one.flat_ms for one in rounds], each_ms),
        ("seen so by QBot", [one.seen_ms for one in rounds], each_ms),
    ):
        median = statistics.median(took)
        yield f"{what:34}p50 {median:8.1f}  max {max(took):8.1f} ms   {median / floor_ms:5.1f} × floor"
    asked = sum((one.asked for one in rounds), Counter[str]())
    yield "requests: " + ", ".join(f"{count / len(rounds):.0f} {kind}" for kind, count in asked.most_common())


def _round(found: Rig, venue: Venue, symbols: list[str], pause_s: float = 0.0, look_s: float = LOOK_S) -> Round:
    found.start()
    _fill(venue, symbols)
    clock.pause(pause_s)
    begun = monotonic_ns()
    now = datetime.now(UTC).isoformat()
    body = {"action": "CLOSE_ALL_POSITIONS", "reason": "bench", "timestamp": now, "session_id": "bench"}
    found.say(keys.EMERGENCY_ACTIONS, body | {"confirmed": True, "force": False})
    first = when(lambda: _first(found, begun), "the first call", FLAT_S)
    wait_until(venue.is_flat, "nothing open and nothing held", FLAT_S, every_s=look_s)
    flat = monotonic_ns()
    seen = when(lambda: found.arrivals.first(flat, "GET", {"/v2/positions"}), "QBot's last look", FLAT_S)
    wait_until(lambda: found.switch().latched and not emergency.pending(found.rt), "the report", FLAT_S, LOOK_S)
    asked = Counter(_kind(method, path) for at, method, path in found.arrivals.look() if begun <= at <= flat)
    del asked[NOT_QBOTS]
    return Round((first - begun) / 1e6, (flat - begun) / 1e6, (seen - begun) / 1e6, asked)


def _first(found: Rig, since_ns: int) -> int | None:
    return next((at for at, method, _ in found.arrivals.look() if at >= since_ns and method != "GET"), None)


NOT_QBOTS = "GET"  # looks of the bench among them


def _kind(method: str, path: str) -> str:
    if method == "GET":
        return NOT_QBOTS
    top, _, one = path.removeprefix("/v2/").partition("/")
    return f"{method} {top}" + ("/{id}" if one else "")


def _fill(venue: Venue, symbols: list[str]) -> None:
    """What is to be closed, placed at the exchange itself."""
    for symbol in symbols[:POSITIONS]:
        venue.order(symbol)
    wait_until(lambda: venue.held() >= POSITIONS and venue.open_orders() == 0, "the positions", FILLED_S)
    for symbol in islice(cycle(symbols), ORDERS):
        venue.order(symbol, type="limit", limit_price="1.00", time_in_force="gtc")
    if (left := venue.open_orders()) < ORDERS:
        raise RuntimeError(f"somebody cancels: {left} of {ORDERS} orders are open")
