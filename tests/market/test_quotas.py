"""Quotas are counted in Postgres: before the call, over restarts, and never over the limit whoever asks at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.engine import Engine

from qbot import limits
from qbot.errors import StoreUnavailable
from qbot.market import counting
from qbot.market.counting import Counted
from qbot.market.plans import FINNHUB, FMP, MARKETSTACK, TWELVEDATA, Limit, Need, Plan, Span, Unit
from qbot.store import quotas, tables
from qbot.store.engine import make_engine, transaction
from qbot.store.quotas import Claim, Period
from tests.support.runtime import World

NOON = datetime(2026, 3, 4, 17, tzinfo=UTC)
DAY = Period("twelvedata", "day", datetime(2026, 3, 4, tzinfo=UTC))
BOTH = Plan(
    "both",
    (Limit(10, Span.DAY, Unit.CALLS, "test"), Limit(12, Span.MONTH, Unit.CALLS, "test")),
    1,
    frozenset({Need.PRICE}),
    "note",
)


def used(engine: Engine, *periods: Period) -> list[int]:
    with transaction(engine) as connection:
        return list(quotas.used(connection, periods).values())


def reserve(engine: Engine, *claims: Claim) -> bool:
    with transaction(engine) as connection:
        return quotas.reserve(connection, claims, NOON) is None


def test_what_is_reserved_is_counted_and_what_is_too_much_is_refused_and_counts_nothing(world: World) -> None:
    assert [reserve(world.engine, Claim(DAY, 3, 8)) for _ in range(3)] == [True, True, False]
    assert used(world.engine, DAY) == [6]
    assert not reserve(world.engine, Claim(Period("x", "day", NOON), 9, 8))
    assert used(world.engine, Period("x", "day", NOON)) == [0]


def test_a_call_is_counted_in_all_its_quotas_or_in_none(world: World) -> None:
    counted = Counted(BOTH, world.engine)
    taken = [counted.reserve(1, NOON + timedelta(days=number // 8))[1] for number in range(14)]
    assert [refused is None for refused in taken] == [True] * 12 + [False] * 2
    last = taken[-1]
    assert last is not None
    assert (last.limit.span, last.renews_at) == (Span.MONTH, datetime(2026, 4, 1, tzinfo=UTC))
    days = [Period("both", "day", datetime(2026, 3, day, tzinfo=UTC)) for day in (4, 5)]
    assert used(world.engine, *days) == [8, 4]  # the refused ones left no trace in the day


def test_workers_that_ask_at_once_get_together_what_there_is(world: World) -> None:
    """Two engines stand for two processes."""
    url = world.engine.url.render_as_string(hide_password=False)
    engines = [make_engine(url), make_engine(url)]
    start = threading.Barrier(2)

    def work(engine: Engine) -> int:
        counted = Counted(TWELVEDATA, engine)
        start.wait()
        return sum(counted.reserve(8, NOON)[1] is None for _ in range(70))

    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(work, engines))
    assert sum(got) == 100  # of 140 wanted
    assert min(got) > 0
    assert used(world.engine, DAY) == [800]
    for engine in engines:
        engine.dispose()


def test_one_that_waits_for_another_s_transaction_sees_what_it_counted(world: World) -> None:
    answered: list[bool] = []
    with transaction(world.engine) as connection:
        assert quotas.reserve(connection, [Claim(DAY, 800, 800)], NOON) is None
        other = threading.Thread(target=lambda: answered.append(reserve(world.engine, Claim(DAY, 1, 800))))
        other.start()
        other.join(0.3)
        assert answered == []
    other.join(10)
    assert answered == [False]


def test_what_was_not_used_is_given_back_to_the_day_it_was_reserved_in(world: World) -> None:
    counted = Counted(TWELVEDATA, world.engine)
    before_midnight = datetime(2026, 3, 4, 23, 50, tzinfo=UTC)
    claims, _ = counted.reserve(8, before_midnight)
    counted.give_back(claims, before_midnight + timedelta(hours=1))
    assert used(world.engine, DAY, DAY._replace(begins_wall=datetime(2026, 3, 5, tzinfo=UTC))) == [0, 0]
    counted.give_back(claims, NOON)
    assert used(world.engine, DAY) == [0]  # never below nothing


@pytest.mark.parametrize(("credits", "stands"), [(None, 8), (0, 0), (3, 3), (8, 8), (11, 11)])
def test_what_the_source_says_that_it_cost_takes_the_place_of_what_was_reserved(
    world: World, credits: int | None, stands: int
) -> None:
    counted = Counted(TWELVEDATA, world.engine)
    claims, _ = counted.reserve(8, NOON)
    counted.settle(claims, credits, NOON)
    assert used(world.engine, DAY) == [stands]


def test_a_source_that_says_it_is_used_up_has_nothing_left_for_anybody(world: World) -> None:
    counted = Counted(FMP, world.engine)
    assert counted.reserve(1, NOON)[1] is None
    assert counted.use_up(NOON) == datetime(2026, 3, 5, 5, tzinfo=UTC)
    refused = Counted(FMP, world.engine).reserve(1, NOON)[1]
    assert refused is not None
    assert Counted(FMP, world.engine).reserve(1, NOON + timedelta(days=1))[1] is None
    assert Counted(FINNHUB, world.engine).use_up(NOON) is None


@pytest.mark.parametrize(
    ("plan", "begins_at"),
    [(FMP, datetime(2026, 3, 4, 5, tzinfo=UTC)), (MARKETSTACK, datetime(2026, 3, 1, tzinfo=UTC))],
    ids=["day", "month"],
)
def test_just_after_a_renewal_a_source_that_is_used_up_may_mean_the_time_before_it(
    world: World, plan: Plan, begins_at: datetime
) -> None:
    counted, sure_at = Counted(plan, world.engine), begins_at + timedelta(seconds=limits.RENEWAL_GUARD_S)
    for after_s in (0, 5, limits.RENEWAL_GUARD_S - 1):
        assert counted.use_up(begins_at + timedelta(seconds=after_s)) == sure_at
        assert world.rows(tables.source_quotas) == []
    renews_at = counted.use_up(sure_at)
    assert renews_at is not None
    assert renews_at > sure_at + timedelta(hours=23)
    refused = counted.reserve(1, sure_at)[1]
    assert refused is not None
    assert refused.renews_at == renews_at


def test_near_midnight_a_call_takes_from_both_days(world: World) -> None:
    Counted(TWELVEDATA, world.engine).reserve(8, datetime(2026, 3, 4, 23, 59, tzinfo=UTC))
    assert used(world.engine, DAY, DAY._replace(begins_wall=datetime(2026, 3, 5, tzinfo=UTC))) == [8, 8]


def test_planning_is_told_what_is_used_of_each_limit_in_its_present_period(world: World) -> None:
    Counted(MARKETSTACK, world.engine).reserve(14, NOON)
    Counted(FMP, world.engine).reserve(1, NOON)
    plans = (MARKETSTACK, FMP, FINNHUB)
    with transaction(world.engine) as connection:
        assert counting.used(connection, plans, NOON) == {
            "marketstack": {Span.MONTH: 14}, "fmp": {Span.DAY: 1}, "finnhub": {},
        }  # fmt: skip
        assert counting.used(connection, plans, NOON + timedelta(days=40))["marketstack"] == {Span.MONTH: 0}


def test_old_periods_go(world: World) -> None:
    assert reserve(world.engine, Claim(DAY, 1, 8))
    with transaction(world.engine) as connection:
        assert quotas.prune(connection, DAY.begins_wall) == 0
        assert quotas.prune(connection, DAY.begins_wall + timedelta(days=1)) == 1
    assert world.rows(tables.source_quotas) == []


def test_without_postgres_nobody_may_be_asked(world: World) -> None:
    with pytest.raises(StoreUnavailable):
        Counted(FMP, world.without_postgres().engine).reserve(1, NOON)
