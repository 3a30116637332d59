"""The venue's limit of requests a minute: cancels and exits go out whatever is left, the rest keeps off a reserve."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from alpaca.trading.client import TradingClient

from qbot import clock, execution, limits
from qbot.broker.alpaca import AlpacaBroker
from qbot.broker.pace import Pace, urgent
from qbot.errors import BrokerError, BrokerRejected, OrderInDoubt
from qbot.store import tables
from qbot.types import OrderSpec, OrderType, Side, TimeInForce
from tests.support.exchange import KEY, SECRET, ManualClock, RunningExchange, exchange_thread
from tests.support.runtime import WALL, World


class Times:
    """A clock that a pause moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.paused: list[float] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now_s += seconds


def pace_of() -> tuple[Pace, Times]:
    times = Times()
    return Pace(times.monotonic_s, ManualClock(WALL), times.pause), times


def told(left: int, *, most: int = 200, ends_in_s: float = 30) -> dict[str, str]:
    reset = int((WALL + timedelta(seconds=ends_in_s)).timestamp())
    return {"X-RateLimit-Limit": str(most), "X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(reset)}


def goes(pace: Pace) -> int:
    """How many requests that can wait go out before one is refused."""
    for number in range(1_000):
        try:
            pace.before()
        except BrokerError:
            return number
    raise AssertionError("none was refused")


# --- alone -----------------------------------------------------------------------------------------------------------


def test_what_can_wait_stops_at_the_reserve_and_goes_on_with_the_next_minute() -> None:
    pace, times = pace_of()
    pace.heard(told(100))
    assert goes(pace) == 60
    times.now_s += 27.9
    with pytest.raises(BrokerError, match="2 s yet"):
        pace.before()
    assert times.paused == []
    times.now_s += 2.2
    pace.before()


def test_a_minute_that_is_nearly_over_is_waited_for() -> None:
    pace, times = pace_of()
    pace.heard(told(0, ends_in_s=2))
    pace.before()
    assert times.paused == [2.0]


def test_cancels_and_exits_never_wait_and_never_fail() -> None:
    pace, times = pace_of()
    pace.heard(told(0))
    for _ in range(500):
        pace.before(pressing=True)
    with urgent():
        pace.before()
        with urgent():
            pace.before()
        pace.before()
    assert times.paused == []
    assert goes(pace) == 0


def test_what_was_pressing_counts_for_the_others() -> None:
    pace, _ = pace_of()
    pace.heard(told(100))
    for _ in range(50):
        pace.before(pressing=True)
    assert goes(pace) == 10


def test_a_replay_that_takes_more_keeps_the_same_part_of_them() -> None:
    pace, _ = pace_of()
    pace.heard(told(12_000, most=12_000))
    assert len([0 for _ in range(9_600) if pace.before() is None]) == 9_600
    assert goes(pace) == 0


@pytest.mark.parametrize("headers", [
    {}, {"X-RateLimit-Remaining": "0"}, {**told(0), "X-RateLimit-Reset": "soon"}, {**told(0), "X-RateLimit-Limit": ""},
])  # fmt: skip
def test_answers_that_say_nothing_leave_a_small_allowance_of_ones_own(headers: dict[str, str]) -> None:
    pace, times = pace_of()
    pace.heard(headers)
    assert goes(pace) == limits.UNTOLD_PER_MINUTE
    times.now_s += 60
    assert goes(pace) == limits.UNTOLD_PER_MINUTE


@pytest.mark.parametrize("ends_in_s", [-5, 3_600])
def test_a_reset_by_another_clock_holds_for_a_minute_at_most(ends_in_s: float) -> None:
    pace, times = pace_of()
    pace.heard(told(0, ends_in_s=ends_in_s))
    times.now_s += 60
    pace.before()


# --- with the venue --------------------------------------------------------------------------------------------------


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[RunningExchange]:
    """A venue that takes 50 requests a minute: 40 of them for what can wait."""
    with exchange_thread(tmp_path, rate_limit_per_minute=50) as running:
        yield running


def client_of(venue: RunningExchange) -> AlpacaBroker:
    return AlpacaBroker(TradingClient(KEY, SECRET, raw_data=True, url_override=venue.url))


def test_processes_share_the_venues_own_count(strict: RunningExchange) -> None:
    one, other = client_of(strict), client_of(strict)
    for _ in range(20):
        one.clock()
        other.clock()
    with pytest.raises(BrokerError, match="kept for cancels"):
        other.clock()
    one.clock()  # it has not heard of the last request of the other yet
    with pytest.raises(BrokerError, match="kept for cancels"):
        one.clock()
    for _ in range(8):
        one.cancel("11111111-1111-1111-1111-111111111111")
    with urgent():
        assert other.positions() == []
    with urgent(), pytest.raises(BrokerRejected, match="429"):
        other.positions()  # the venue's true limit, and its own word


def spec(side: Side) -> OrderSpec:
    return OrderSpec(f"qbot-t-{side}", "AAPL", side, Decimal(1), OrderType.MARKET, TimeInForce.DAY)


def test_at_the_reserve_an_entry_is_not_sent_and_a_sale_is(strict: RunningExchange) -> None:
    broker = client_of(strict)
    for _ in range(40):
        broker.clock()
    with pytest.raises(BrokerError) as kept:
        broker.submit(spec(Side.BUY))
    assert not isinstance(kept.value, OrderInDoubt)
    with pytest.raises(BrokerRejected, match="insufficient qty"):
        broker.submit(spec(Side.SELL))
    assert strict.call("GET", "/v2/orders", params={"status": "all"}).json() == []


def use_up(world: World) -> None:
    """All but the reserve of this minute."""
    reset = str(int(clock.wall_now().timestamp()) + 60)
    world.rt.broker._pace.heard({**told(40), "X-RateLimit-Reset": reset})  # type: ignore[attr-defined]


def test_an_entry_that_was_kept_back_is_recorded_as_not_sent(world: World) -> None:
    judged = world.commit(world.entry())
    use_up(world)
    world.send(judged)
    assert (world.posts(), world.intents()) == (0, {"AAPL buy": "rejected"})
    assert "not sent: the venue's requests" in world.rows(tables.intents)[0]["error"]


def test_an_exit_goes_out_at_the_reserve(world: World) -> None:
    world.buy("AAPL", 2)
    judged = world.commit(world.exit("AAPL"), cycle_id="c2")
    use_up(world)
    sent = execution.send(world.rt.desk, [one.order for one in judged if one.order])
    assert (sent.failed, world.positions()) == ({}, {})
