"""CLOSE_ALL_POSITIONS on the whole stack: from a frontend's write to the first call at the broker, and to all cash.

Beside it the round trip over HTTP: what one request takes, and what all of them would, one after the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice
from time import monotonic_ns

from qbot.contract import keys
from tests.bench.rig import Rig
from tests.bench.room import Venue, room
from tests.support.servers import wait_until

ORDERS, POSITIONS = 200, 50
ROUNDS, QUICK_ROUNDS = 5, 2
FILLED_S, FLAT_S = 60.0, 180.0
LOOK_S = 0.02


def run(quick: bool = False) -> Iterator[str]:
    """Lines to print."""
    with room() as (found, venue, symbols):
        trip_ms = venue.round_trip_ms()
        rounds = [_round(found, venue, symbols) for _ in range(QUICK_ROUNDS if quick else ROUNDS)]
        asked = statistics.median(one[3] for one in rounds)
        one_by_one_ms = trip_ms * (ORDERS + POSITIONS)
        yield f"{ORDERS} orders open, {POSITIONS} positions held; {len(rounds)} rounds, {asked:.0f} requests each"
        yield f"floor: one request                  {trip_ms:8.1f} ms"
        yield f"floor: one for each of them         {one_by_one_ms:8.1f} ms"
        for what, place, floor_ms in (
            ("first call at the broker", 0, trip_ms),
            ("nothing open, nothing held", 1, one_by_one_ms),
            ("seen so by QBot", 2, one_by_one_ms),
        ):
            took = [one[place] for one in rounds]
            median = statistics.median(took)
            yield f"{what:34}p50 {median:8.1f}  max {max(took):8.1f} ms   {median / floor_ms:5.1f} × floor"


def _round(found: Rig, venue: Venue, symbols: list[str]) -> tuple[float, float, float, int]:
    """Milliseconds to the first call, to cash, to QBot's knowing it; and the requests it took."""
    found.start()
    _fill(venue, symbols)
    begun = monotonic_ns()
    now = datetime.now(UTC).isoformat()
    body = {"action": "CLOSE_ALL_POSITIONS", "reason": "bench", "timestamp": now, "session_id": "bench"}
    found.say(keys.EMERGENCY_ACTIONS, body | {"confirmed": True, "force": False})
    wait_until(venue.is_flat, "nothing open and nothing held", FLAT_S, every_s=LOOK_S)
    flat = monotonic_ns()
    wait_until(lambda: found.arrivals.first(flat, "GET", {"/v2/positions"}), "QBot's last look", FLAT_S, LOOK_S)
    seen = found.arrivals.first(flat, "GET", {"/v2/positions"}) or 0
    wait_until(lambda: found.switch().latched, "the latch", FLAT_S, LOOK_S)
    asked = [at for at, method, _ in found.arrivals.look() if begun <= at <= flat and method in ("DELETE", "POST")]
    return (asked[0] - begun) / 1e6, (flat - begun) / 1e6, (seen - begun) / 1e6, len(asked)


def _fill(venue: Venue, symbols: list[str]) -> None:
    """What is to be closed, placed at the exchange itself."""
    for symbol in symbols[:POSITIONS]:
        venue.order(symbol)
    wait_until(lambda: venue.held() >= POSITIONS and venue.open_orders() == 0, "the positions", FILLED_S)
    for symbol in islice(cycle(symbols), ORDERS):
        venue.order(symbol, type="limit", limit_price="1.00", time_in_force="gtc")
    assert venue.open_orders() >= ORDERS
