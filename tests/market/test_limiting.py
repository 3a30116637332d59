"""How a source is asked: at its pace, never when it is closed, again only where that may help; and all workers know."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy.engine import Engine

from qbot import clock, limits
from qbot.contract import keys
from qbot.contract.board import client_of
from qbot.errors import BoardUnavailable, StoreUnavailable
from qbot.market.fmp import Fmp
from qbot.market.limiting import FOREVER, Closed, Gate, Hold
from qbot.market.pace import Pace
from qbot.market.plans import FMP, TWELVEDATA, Limit, Need, Plan, Span, Unit, period
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.market.wire import Key as WireKey
from qbot.market.wire import Wire
from qbot.store import quotas, sources, tables
from qbot.store.engine import transaction
from qbot.store.quotas import Claim, Period
from tests.support.runtime import World
from tests.support.servers import free_port

FAST = Plan("fast", (Limit(4, Span.SECOND, Unit.CALLS, "test"),), 1, frozenset({Need.PRICE}), "note")
NOON = clock.wall_now().replace(hour=17, minute=0)  # of the same day in New York, and far from a renewal
FREE_OF_LIMITS = Plan("free", (), 1, frozenset({Need.PRICE}), "note")


class Source:
    """Answers as it is told, the last thing for ever; counts how often it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def fails(fault: Fault, retry_after_s: float | None = None) -> ProviderError:
    return ProviderError("fast", fault, "as told", retry_after_s=retry_after_s)


@pytest.fixture
def client(world: World) -> Iterator[redis.Redis]:
    made = client_of(world.rt.settings)
    yield made
    made.close()


class Workers:
    """Several processes of one QBot, each with its own gate."""

    def __init__(self, client: redis.Redis, engine: Engine) -> None:
        self.client, self.engine = client, engine
        self.paused: list[float] = []
        self.wall = clock.wall_now

    def gate(self, plan: Plan = FAST, access: str = "key") -> Gate:
        return Gate(plan, access, self.client, self.engine, self.wall, self.paused.append, Pace(self.client, plan))


@pytest.fixture
def workers(client: redis.Redis, world: World) -> Workers:
    return Workers(client, world.engine)


# --- pace -------------------------------------------------------------------------------------------------------------


def test_no_window_has_more_calls_than_the_limit_whoever_makes_them(client: redis.Redis) -> None:
    def work(_number: int) -> list[float]:
        pace = Pace(client, FAST)
        times = []
        for _ in range(5):
            assert pace.wait(1) is None
            times.append(clock.monotonic_s())
        return times

    with ThreadPoolExecutor(2) as pool:
        times = sorted(at for found in pool.map(work, range(2)) for at in found)
    assert len(times) == 10
    assert all(later - first >= 1.0 for first, later in zip(times, times[4:], strict=False))


def test_threads_of_one_process_do_not_take_one_another_s_verdict_for_theirs(client: redis.Redis) -> None:
    few = replace(FAST, limits=(Limit(5, Span.MINUTE, Unit.CALLS, "test"),))
    pace, every_s = Pace(client, few), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            waits = list(pool.map(lambda _: pace.wait(1, within_s=0), range(80)))
    finally:
        sys.setswitchinterval(every_s)
    assert waits.count(None) == 5


class Late(redis.Redis):
    """What it reads of the server's clock is old by the time its turn comes."""

    def time(self, **_more: Any) -> tuple[int, int]:
        seconds, micros = super().time()  # type: ignore[misc]
        return seconds - 2, micros


def test_a_caller_that_read_the_clock_before_the_others_were_entered_counts_them_all_the_same(
    client: redis.Redis,
) -> None:
    few = replace(FAST, limits=(Limit(5, Span.MINUTE, Unit.CALLS, "test"),))
    pace = Pace(client, few)
    assert [pace.wait(1) for _ in range(4)] == [None] * 4
    late = Pace(Late(connection_pool=client.connection_pool), few)
    assert late.wait(1) is None
    wait_s = late.wait(1, within_s=0)
    assert wait_s is not None
    assert 61 < wait_s < 64
    assert client.zcard(f"{keys.SOURCE_PACE}:fast") == 5


def test_a_call_that_would_wait_too_long_is_told_how_long_and_is_not_counted(client: redis.Redis) -> None:
    minute = replace(FAST, limits=(Limit(2, Span.MINUTE, Unit.CALLS, "test"),))
    paused: list[float] = []
    pace = Pace(client, minute, paused.append)
    assert [pace.wait(1), pace.wait(1)] == [None, None]
    wait_s = pace.wait(1, within_s=10)
    assert wait_s is not None
    assert 59 < wait_s < 62
    assert paused == []
    assert client.zcard(f"{keys.SOURCE_PACE}:fast") == 2


def test_a_request_of_many_symbols_counts_as_many(client: redis.Redis) -> None:
    pace = Pace(client, TWELVEDATA)
    assert pace.wait(5) is None
    assert pace.wait(4, within_s=0) is not None
    assert pace.wait(3, within_s=0) is None
    with pytest.raises(ValueError, match="more than its limit"):
        pace.wait(9)


def test_limits_that_another_one_keeps_are_no_trouble(client: redis.Redis) -> None:
    for amounts in ((5, 750), (30, 60), (60, 60), (5, 300)):
        spans = (Span.SECOND, Span.MINUTE)
        plan = replace(
            FAST, source=f"s{amounts}",
            limits=tuple(Limit(n, span, Unit.CALLS, "test") for n, span in zip(amounts, spans, strict=True)),
        )  # fmt: skip
        assert Pace(client, plan).wait(1) is None


def test_what_is_remembered_of_the_pace_is_bounded_and_ends(client: redis.Redis) -> None:
    pace = Pace(client, FAST)
    for _ in range(10):
        pace.wait(1)
    key = f"{keys.SOURCE_PACE}:fast"
    assert client.zcard(key) <= 5
    assert 0 < client.pttl(key) <= 2_100


def test_a_server_that_was_restarted_is_told_the_script_again(client: redis.Redis, redis_client: redis.Redis) -> None:
    pace = Pace(client, FAST)
    assert pace.wait(1) is None
    redis_client.script_flush()
    assert pace.wait(1) is None


# --- what is tried again ----------------------------------------------------------------------------------------------


def test_what_may_work_next_time_is_tried_again_with_growing_pauses(workers: Workers) -> None:
    source = Source(fails(Fault.TRANSIENT), fails(Fault.TRANSIENT), "prices")
    assert workers.gate().call(1, source) == "prices"
    assert source.asked == 3
    assert len(workers.paused) == 2
    assert all(0 <= pause <= limits.DATA_RETRY_MAX_S for pause in workers.paused)


@pytest.mark.parametrize("fault", sorted(set(Fault) - {Fault.TRANSIENT, Fault.MINUTE_LIMIT}), ids=str)
def test_what_no_second_try_helps_is_asked_once(workers: Workers, fault: Fault) -> None:
    source = Source(fails(fault))
    with pytest.raises(ProviderError):
        workers.gate().call(1, source)
    assert (source.asked, workers.paused) == (1, [])


def test_it_ends_after_three_tries(workers: Workers) -> None:
    source = Source(fails(Fault.TRANSIENT))
    with pytest.raises(ProviderError, match="as told"):
        workers.gate().call(1, source)
    assert source.asked == limits.DATA_TRIES


def test_a_minute_limit_waits_as_long_as_the_source_says_and_meanwhile_nobody_asks_it(workers: Workers) -> None:
    gate, other = workers.gate(), workers.gate()
    asked_meanwhile: list[str] = []

    def pause(seconds: float) -> None:
        workers.paused.append(seconds)
        with pytest.raises(Closed) as closed:
            other.call(1, lambda: asked_meanwhile.append("too early"))
        assert closed.value.fault is Fault.MINUTE_LIMIT
        clock.pause(seconds)

    gate._pause = pause
    source = Source(fails(Fault.MINUTE_LIMIT, retry_after_s=2.0), "prices")
    assert gate.call(1, source) == "prices"
    assert asked_meanwhile == []
    assert 2.0 <= workers.paused[0] <= 2.0 + limits.DATA_RETRY_MAX_S


def test_who_wants_to_be_left_alone_for_long_is_not_waited_for(workers: Workers) -> None:
    source = Source(fails(Fault.MINUTE_LIMIT, retry_after_s=600.0))
    with pytest.raises(ProviderError):
        workers.gate().call(1, source)
    held = workers.gate().hold()
    assert (source.asked, workers.paused) == (1, [])
    assert held is not None
    assert 590 < (held.until - clock.wall_now()).total_seconds() <= 600


def test_a_minute_limit_that_asks_for_a_month_is_kept_for_an_hour(workers: Workers) -> None:
    with pytest.raises(ProviderError):
        workers.gate().call(1, Source(fails(Fault.MINUTE_LIMIT, retry_after_s=32 * 86_400.0)))
    held = workers.gate().hold()
    assert held is not None
    assert 3_590 < (held.until - clock.wall_now()).total_seconds() <= 3_600


# --- breakers ---------------------------------------------------------------------------------------------------------


def test_after_five_failures_of_all_workers_nobody_asks_for_a_while(workers: Workers) -> None:
    source = Source(fails(Fault.TRANSIENT))
    for _ in range(2):
        with pytest.raises(ProviderError):
            workers.gate().call(1, source)
    assert source.asked == limits.DATA_FAILURES_MAX  # the sixth try was not made
    with pytest.raises(Closed) as closed:
        workers.gate().call(1, source)
    assert (closed.value.fault, source.asked) == (Fault.TRANSIENT, limits.DATA_FAILURES_MAX)
    assert closed.value.until is not None


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_SYMBOL, Fault.NO_DATA, Fault.PLAN], ids=str)
def test_what_a_well_source_answers_never_closes_it(workers: Workers, fault: Fault) -> None:
    source = Source(*[fails(fault)] * 3 * limits.DATA_FAILURES_MAX, "prices")
    gate = workers.gate(FREE_OF_LIMITS)
    for _ in range(3 * limits.DATA_FAILURES_MAX):
        with pytest.raises(ProviderError):
            gate.call(1, source)
    assert gate.call(1, source) == "prices"


def test_a_refused_key_closes_it_for_every_worker_until_the_key_is_another(
    workers: Workers, redis_client: redis.Redis
) -> None:
    source = Source(fails(Fault.AUTH))
    with pytest.raises(ProviderError):
        workers.gate().call(1, source)
    for _ in range(3):
        with pytest.raises(Closed, match="its key is refused"):
            workers.gate().call(1, source)
    assert source.asked == 1
    assert workers.gate().hold() == Hold(Fault.AUTH, FOREVER)
    assert workers.gate(access="another").call(1, Source("prices")) == "prices"
    stored = " ".join([*redis_client.keys("*"), *redis_client.hgetall(keys.SOURCE_CLOSED)])
    assert "another" not in stored  # a source's key is never written down


ALL_KEYS: dict[str, Any] = {
    "embedded_exchange": False,  # else nobody but it is at hand
    "alpaca_api_key": SecretStr("a-first-key"), "alpaca_secret_key": SecretStr("a-first-secret"),
    "marketstack_api_key": SecretStr("a-first-key"), "fmp_api_key": SecretStr("a-first-key"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "more", "another_account"),
    [
        ("alpaca", {"alpaca_api_key": SecretStr("another-key")}, True),
        ("alpaca", {"alpaca_secret_key": SecretStr("another-secret")}, False),
        ("alpaca", {"alpaca_data_feed": "sip"}, False),
        ("alpaca", {"alpaca_data_url": "http://127.0.0.1:2"}, False),
        ("marketstack", {"marketstack_api_key": SecretStr("another-key")}, True),
        ("marketstack", {"marketstack_url": "http://127.0.0.1:2"}, False),
        ("marketstack", {"market_plans": '{"marketstack": {"per_month": 10000}}'}, False),
        ("fmp", {"market_plans": '{"fmp": {"bars": true}}'}, False),
        ("yfinance", {"yfinance_url": "http://127.0.0.1:2"}, False),
    ],
    ids=str,
)
def test_what_another_key_address_feed_or_plan_met_is_forgotten_of_that_source_alone(
    world: World, redis_client: redis.Redis, source: str, more: dict[str, Any], another_account: bool
) -> None:
    before, used_up = world.another(**ALL_KEYS), Period(source, "month", datetime(2026, 3, 1, tzinfo=UTC))
    before.feeds[source].gate._close(Hold(Fault.AUTH, FOREVER))
    names = ("fmp", source) if source != "fmp" else ("marketstack", source)
    with transaction(world.engine) as connection:
        sources.refuse(connection, {(name, "AAPL"): "plan" for name in names}, world.wall())
        quotas.use_up(connection, [Claim(used_up._replace(source=name), 0, 100) for name in names], world.wall())

    assert world.another(**ALL_KEYS).feeds[source].gate.hold() == Hold(Fault.AUTH, FOREVER)
    assert {row["source"] for row in world.rows(tables.source_refusals)} == set(names)

    assert world.another(**ALL_KEYS | more).feeds[source].gate.hold() is None
    assert [row["source"] for row in world.rows(tables.source_refusals)] == [names[0]]
    counted = {row["source"] for row in world.rows(tables.source_quotas)}
    assert counted == ({names[0]} if another_account else set(names))
    stored = [*redis_client.keys("*"), *redis_client.hgetall(keys.SOURCE_CLOSED)]
    shown = f"{stored}{world.rows(tables.source_accesses)}"
    assert not [one for one in ("first", "another") if one in shown]  # no key is ever written down


def test_a_used_up_quota_closes_it_until_the_vendor_s_own_midnight(workers: Workers, world: World) -> None:
    workers.wall = lambda: NOON
    source = Source(fails(Fault.QUOTA))
    with pytest.raises(ProviderError):
        workers.gate(FMP).call(1, source)
    held = workers.gate(FMP).hold()
    assert held == Hold(Fault.QUOTA, period(FMP.limits[1], NOON).renews_at)
    assert max(row["used"] for row in world.rows(tables.source_quotas)) == 250
    with pytest.raises(Closed):
        workers.gate(FMP).call(1, source)
    assert source.asked == 1


def test_it_is_asked_again_once_the_time_is_over(workers: Workers) -> None:
    gate = workers.gate()
    gate._close(Hold(Fault.QUOTA, clock.wall_now() + timedelta(seconds=2)))
    source = Source("prices")
    with pytest.raises(Closed):
        gate.call(1, source)
    clock.pause(2.1)
    assert workers.gate().call(1, source) == "prices"
    assert workers.gate().hold() is None


def test_after_a_flushall_a_used_up_quota_is_still_known(workers: Workers, redis_client: redis.Redis) -> None:
    workers.wall = lambda: NOON
    with pytest.raises(ProviderError):
        workers.gate(FMP).call(1, Source(fails(Fault.QUOTA)))
    redis_client.flushall()
    source = Source("prices")
    with pytest.raises(Closed) as closed:
        workers.gate(FMP).call(1, source)
    assert (closed.value.fault, source.asked) == (Fault.QUOTA, 0)


def test_an_answer_that_ended_early_is_kept_and_its_end_heard_of(workers: Workers) -> None:
    ended = Answer({}, {}, 1, fails(Fault.AUTH))
    assert workers.gate().call(1, Source(ended)) is ended
    assert workers.gate().hold() == Hold(Fault.AUTH, FOREVER)


def test_threads_of_one_process_ask_at_the_same_time(workers: Workers) -> None:
    gate = workers.gate(FREE_OF_LIMITS)
    gate.call(1, Source("prices"))
    begun = clock.monotonic_s()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: gate.call(1, lambda: clock.pause(0.5)), range(4)))
    assert clock.monotonic_s() - begun < 1.9


# --- quotas -----------------------------------------------------------------------------------------------------------


def used(workers: Workers, plan: Plan = TWELVEDATA) -> int:
    limit = next(limit for limit in plan.limits if limit.span is Span.DAY)
    key = Period(plan.source, "day", period(limit, clock.wall_now()).begins_at)
    with transaction(workers.engine) as connection:
        return quotas.used(connection, [key])[key]


def test_a_request_is_counted_before_it_leaves_and_settled_by_its_answer(workers: Workers) -> None:
    seen: list[int] = []

    def ask() -> Answer:
        seen.append(used(workers))
        return Answer({}, credits=3)

    workers.gate(TWELVEDATA).call(8, ask)
    assert (seen, used(workers)) == ([8], 3)


def test_every_try_counts(workers: Workers) -> None:
    workers.gate(FMP).call(1, Source(fails(Fault.TRANSIENT), Answer({}, credits=1)))
    assert used(workers, FMP) == 2


def test_a_failure_counts_what_it_cost_and_one_that_does_not_say_counts_once(workers: Workers) -> None:
    told = ProviderError("fmp", Fault.NO_DATA, "nothing", credits=3)
    for error, counted in ((told, 3), (ProviderError("fmp", Fault.NO_DATA, "nothing"), 4)):
        with pytest.raises(ProviderError):
            workers.gate(FMP).call(1, Source(error))
        assert used(workers, FMP) == counted


def test_where_no_connection_comes_about_nothing_is_used_up(workers: Workers) -> None:
    """A name that cannot be resolved is no reason to ask nobody for the rest of the month."""
    wire = Wire("fmp", f"http://127.0.0.1:{free_port()}", WireKey(SecretStr("key"), header="apikey"))
    for _ in range(2):
        with pytest.raises(ProviderError):
            workers.gate(FMP).call(1, lambda: Fmp(wire).quotes(["AAPL"], clock.wall_now()))
    assert used(workers, FMP) == 0


def test_one_that_is_too_much_is_not_asked_and_one_whose_turn_does_not_come_costs_nothing(workers: Workers) -> None:
    source = Source(Answer({}))
    limit = FMP.limits[1]
    now = clock.wall_now()
    with transaction(workers.engine) as connection:
        quotas.use_up(connection, [Claim(Period("fmp", "day", period(limit, now).begins_at), 0, 250)], now)
    with pytest.raises(Closed, match="the 250 of this day are used up"):
        workers.gate(FMP).call(1, source)
    gate = workers.gate(TWELVEDATA)
    gate.call(8, Source(Answer({}, credits=8)))
    gate._pace.wait = lambda symbols: 30.0  # type: ignore[method-assign]
    with pytest.raises(Closed, match="its turn is in 30 s"):
        gate.call(8, source)
    assert (source.asked, used(workers)) == (0, 8)


def test_without_redis_or_postgres_nothing_is_asked_and_nothing_counted(workers: Workers, world: World) -> None:
    source = Source("prices")
    nobody = client_of(world.without_redis().settings)
    with pytest.raises(BoardUnavailable):
        Gate(FMP, "key", nobody, world.engine).call(1, source)
    lost = workers.gate(FMP)
    assert lost.hold() is None
    lost._pace = Pace(nobody, FMP)  # it goes away in between
    with pytest.raises(BoardUnavailable):
        lost.call(1, source)
    with pytest.raises(StoreUnavailable):
        Gate(FMP, "key", workers.client, world.without_postgres().engine).call(1, source)
    assert (source.asked, used(workers, FMP)) == (0, 0)


def test_what_is_closed_is_said_in_words() -> None:
    at = datetime(2026, 3, 5, tzinfo=UTC)
    assert Hold(Fault.QUOTA, at).words == "its quota is used up, until 2026-03-05 00:00 UTC"
    assert Hold(Fault.AUTH, FOREVER).words == "its key is refused"
    assert Hold(Fault.TRANSIENT, at).words == "it fails, until 2026-03-05 00:00 UTC"
