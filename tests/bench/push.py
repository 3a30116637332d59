"""From a frontend's write to the first cancel at the broker, on the whole stack under load; beside it bare floors.

Every time runs from just before the write is sent until the exchange has the request in hand.
"""

from __future__ import annotations

import math
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from time import monotonic_ns, sleep
from typing import Any

import psutil
import redis
import requests

from qbot.contract import keys
from qbot.limits import DEFAULT_TICKERS
from qbot.stack.stack import EXCHANGE_KEY
from tests.bench.rig import POLL_EVERY_S, REACT_S, Rig, rig, when
from tests.support.servers import wait_until

TARGET_MS = 50.0
SAMPLES, ORDERS, POLLS = 200, 100, 10
QUICK = 10  # times fewer
LISTENER = "listener"
HEADERS = {"APCA-API-KEY-ID": EXCHANGE_KEY, "APCA-API-SECRET-KEY": EXCHANGE_KEY}


def run(quick: bool = False) -> Iterator[str]:
    """Lines to print."""
    share = QUICK if quick else 1
    with rig() as found:
        psutil.cpu_percent()
        begun, trained, decisions = monotonic_ns(), found.trainings(), _decisions(found)
        if found.pid(LISTENER) is None:
            yield "there is no listener: only the poll can be measured"
        else:
            yield _line("stop: DEL autotrading:enabled to DELETE", stops(found, by_del, SAMPLES // share))
            yield _line("STOP_ALL_TRADING to DELETE", stops(found, by_emergency, SAMPLES // share))
            yield _line("manual order to POST", orders(found, ORDERS // share))
        yield _line("floor: PUBLISH to one DELETE", floor(found, SAMPLES // share))
        with without_listener(found):
            yield _line("stop, by the poll of 10 s", stops(found, by_del, max(2, POLLS // share), POLL_EVERY_S))
            yield _line(
                "STOP_ALL_TRADING, by the poll", stops(found, by_emergency, max(2, POLLS // share), POLL_EVERY_S)
            )
        seconds = (monotonic_ns() - begun) / 1e9
        yield (
            f"load: {psutil.cpu_percent():.0f} % of {os.cpu_count()} cores, {os.getloadavg()[0]:.1f} running;"
            f" {found.trainings() - trained} trainings, {_decisions(found) - decisions} decisions in {seconds:.0f} s;"
            f" {found.repeated} starts or releases asked for again"
        )


# --- what a frontend does -------------------------------------------------------------------------------------------


def by_del(found: Rig) -> None:
    """The documented writes of a stop."""
    found.frontend.delete(keys.AUTOTRADING_ENABLED.name)
    found.say(keys.AUTOTRADING_STATUS, "STOPPED")
    found.say(keys.AUTOTRADING_STOPPED_AT, datetime.now(UTC).isoformat())


def by_emergency(found: Rig) -> None:
    """The documented emergency."""
    now = datetime.now(UTC).isoformat()
    body = {"action": "STOP_ALL_TRADING", "reason": "bench", "timestamp": now, "session_id": "bench"}
    found.say(keys.EMERGENCY_ACTIONS, body | {"confirmed": True, "force": False})


def stops(found: Rig, stop: Callable[[Rig], None], count: int, spread_s: float = 0.3) -> list[float]:
    """Milliseconds until the first cancel of an automatic entry arrived."""
    return [_stop(found, stop, spread_s) for _ in range(count)]


def _stop(found: Rig, stop: Callable[[Rig], None], spread_s: float) -> float:
    found.start()
    paths = found.open_entries()
    sleep(random.uniform(0.05, spread_s))  # in step with nothing
    begun = monotonic_ns()
    stop(found)
    cancelled = when(lambda: found.arrivals.first(begun, "DELETE", paths), "a cancel", REACT_S)
    wait_until(lambda: not found.switch().on, "trading off", REACT_S)
    wait_until(lambda: not paths - found.arrivals.deleted(begun), "every entry cancelled", REACT_S)
    sleep(0.1)  # nobody starts again in the same breath
    return (cancelled - begun) / 1e6


def orders(found: Rig, count: int) -> list[float]:
    """Milliseconds until a manual order arrived, trading off, so that no other order does."""
    found.start()  # which releases, too
    by_del(found)
    wait_until(lambda: not found.switch().on, "trading off", REACT_S)
    sleep(1.0)
    return [_order(found, number) for number in range(count)]


def _order(found: Rig, number: int) -> float:
    found.wait_for_open_market()
    sleep(random.uniform(0.02, 0.1))
    body = {
        "order_id": f"bench_{number}", "symbol": DEFAULT_TICKERS[number % len(DEFAULT_TICKERS)], "side": "BUY",
        "quantity": 1, "order_type": "MARKET", "time_in_force": "DAY", "status": "PENDING",
        "created_at": datetime.now(UTC).isoformat(), "session_id": "bench",
    }  # fmt: skip
    begun = monotonic_ns()
    found.say(keys.MANUAL_ORDERS, [body])
    wait_until(lambda: _shown(found, number) not in (None, "PENDING"), "its status", 4 * REACT_S)
    arrived = found.arrivals.first(begun, "POST", {"/v2/orders"})
    if arrived is None:
        raise RuntimeError(f"the order was not sent: {found.frontend.get(keys.MANUAL_ORDERS.name)!r}")
    return (arrived - begun) / 1e6


def _shown(found: Rig, number: int) -> str | None:
    value: Any = found.rt.board.read(keys.MANUAL_ORDERS).value or ()
    return next((str(order.status) for order in value if getattr(order, "order_id", "") == f"bench_{number}"), None)


# --- beside it ------------------------------------------------------------------------------------------------------


def floor(found: Rig, count: int) -> list[float]:
    """The least there could be: a message through Redis, and one DELETE over a connection that stands."""
    port = found.rt.settings.redis_port
    password = found.rt.settings.redis_password.get_secret_value()
    client = redis.Redis(port=port, username=found.rt.settings.redis_user, password=password)
    listening = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    listening.subscribe("bench")
    listening.get_message(timeout=1.0)
    session, url = requests.Session(), f"http://127.0.0.1:{found.rt.settings.exchange_port}/v2/orders/"
    session.headers.update(HEADERS)

    def react() -> None:
        for number in range(count):
            while listening.get_message(timeout=5.0) is None:
                pass
            session.delete(f"{url}floor-{number}", timeout=5)

    thread = threading.Thread(target=react, daemon=True)
    thread.start()
    took = []
    sender = redis.Redis(port=port, username=found.rt.settings.redis_user, password=password)
    for number in range(count):
        sleep(random.uniform(0.02, 0.1))
        begun, paths = monotonic_ns(), {f"/v2/orders/floor-{number}"}
        sender.publish("bench", "x")
        arrived = when(partial(found.arrivals.first, begun, "DELETE", paths), "the floor's cancel", REACT_S)
        took.append((arrived - begun) / 1e6)
    thread.join(10)
    client.close()
    sender.close()
    return took


@contextmanager
def without_listener(found: Rig) -> Iterator[None]:
    """The listener stands still; what is left is the beat."""
    pid = found.pid(LISTENER)
    if pid is None:
        yield
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _decisions(found: Rig) -> int:
    return int(found.whole.rows("SELECT count(*) FROM decisions")[0][0])


def _line(what: str, took: list[float]) -> str:
    """Percentiles in milliseconds."""
    late = sum(each > TARGET_MS for each in took)
    shown = "  ".join(f"{name} {_at(took, share):7.1f}" for name, share in PERCENTILES)
    return f"{what:40} n {len(took):3d}  {shown} ms   {late} over {TARGET_MS:.0f} ms"


PERCENTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


def _at(values: list[float], share: float) -> float:
    """The least value that this share of all does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
