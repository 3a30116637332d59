"""Bars in Postgres: written once, by the better source, on one scale; what was asked for; and what is too old goes."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from qbot import limits, pipeline
from qbot.errors import QBotError, StoreUnavailable
from qbot.market import keeping, retention
from qbot.store import bar_history, bars, hypertables, locks, quotas, quotes, tables
from qbot.store.bar_history import Answered, Split
from qbot.store.engine import transaction
from qbot.store.quotas import Claim, Period
from tests.support.commands import run
from tests.support.exchange import MID_SESSION
from tests.support.runtime import WALL, World
from tests.support.values import quote

STEP = timedelta(minutes=5)
MANY = bars.COPY_ROWS * 2


def frame(symbol: str, closes: list[float], first: datetime = MID_SESSION, volume: float = 100.0) -> pd.DataFrame:
    made = [(symbol, first + n * STEP, c, c + 1, c - 1, c, volume) for n, c in enumerate(closes)]
    out = pd.DataFrame(made, columns=list(bars.COLUMNS))
    return out.assign(ts=pd.to_datetime(out["ts"], utc=True))


def walk(count: int, seed: int = 1) -> list[float]:
    return list(100.0 + np.random.default_rng(seed).normal(0, 0.1, count).cumsum())


def closes(world: World, symbol: str = "AAPL") -> list[float]:
    return [row["close"] for row in world.rows(tables.bars) if row["symbol"] == symbol]


def upsert(world: World, rows: pd.DataFrame, source: str = "alpaca", **more: Any) -> int:
    with transaction(world.engine) as connection:
        return bars.upsert(connection, rows, source, **more)


def versions(world: World) -> set[str]:
    """Which transactions wrote the rows that there are."""
    with world.engine.connect() as connection:
        return set(connection.execute(sa.text("SELECT DISTINCT xmin::text FROM bars")).scalars())


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, MANY])
def test_the_same_bars_again_change_nothing_and_a_correction_changes_itself_alone(world: World, count: int) -> None:
    rows = frame("AAPL", walk(count))
    assert upsert(world, rows) == count
    before = versions(world)
    assert upsert(world, rows) == 0
    assert versions(world) == before
    corrected = rows.assign(close=rows["close"].where(rows.index != 3, 1.0))
    assert upsert(world, corrected) == 1
    assert [row["close"] for row in world.rows(tables.bars)] == corrected["close"].tolist()


def test_few_and_many_rows_are_written_alike(world: World) -> None:
    rows = pd.concat([frame(name, walk(MANY, n), volume=0.1 + 0.2) for n, name in enumerate(("AAPL", "BRK.B", "NA"))])
    few = pd.concat([part.head(100) for _, part in rows.groupby("symbol")])
    assert upsert(world, rows.sample(frac=1.0, random_state=1)) == len(rows)
    assert upsert(world, few) == 0, "to the last digit"
    with transaction(world.engine) as connection:
        found = bars.load(connection, ["AAPL", "BRK.B", "NA"], MID_SESSION, MID_SESSION + timedelta(days=30))
    expected = rows.sort_values(["symbol", "ts"]).reset_index(drop=True).assign(source="alpaca")
    pd.testing.assert_frame_equal(found.astype({"source": object}), expected, check_dtype=False)


@pytest.mark.parametrize("count", [10, MANY])
def test_of_two_bars_of_one_time_the_last_counts(world: World, count: int) -> None:
    assert upsert(world, pd.concat([frame("AAPL", [1.0] * count), frame("AAPL", [2.0] * count)])) == count
    assert set(closes(world)) == {2.0}


@pytest.mark.parametrize("count", [10, MANY])
def test_a_bar_of_a_better_source_stays_and_that_of_a_worse_one_is_replaced(world: World, count: int) -> None:
    upsert(world, frame("AAPL", walk(count), volume=5.0), "alpaca")
    assert upsert(world, frame("AAPL", walk(count + 4), volume=900.0), "yfinance", keeps=("alpaca",)) == 4
    assert [row["source"] for row in world.rows(tables.bars)] == ["alpaca"] * count + ["yfinance"] * 4
    assert {row["volume"] for row in world.rows(tables.bars)} == {5.0, 900.0}
    assert upsert(world, frame("AAPL", walk(count + 4), volume=5.0), "alpaca") == 4
    assert {row["source"] for row in world.rows(tables.bars)} == {"alpaca"}


def test_which_source_is_better_is_the_order_of_asking() -> None:
    assert keeping.better("yfinance", ("twelvedata", "alpaca", "yfinance")) == ("twelvedata", "alpaca")
    assert keeping.better("alpaca", ("alpaca", "yfinance")) == ()
    assert keeping.better("another", ("alpaca",)) == ()


def test_a_write_that_fails_is_a_named_error_and_leaves_nothing(world: World) -> None:
    with pytest.raises(StoreUnavailable), transaction(world.engine) as connection:
        bars.upsert(connection, frame("AAPL", walk(10)), "alpaca")
        victim = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": victim})
        bars.upsert(connection, frame("AAPL", walk(MANY)), "alpaca")
    assert world.rows(tables.bars) == []


# --- bars beside those there are --------------------------------------------------------------------------------------

TOMORROW = MID_SESSION + timedelta(days=1)


def keep(
    world: World, rows: pd.DataFrame, source: str = "alpaca", heard: dict[str, float] | None = None
) -> keeping.Kept:
    """`heard`: what other sources say that AAPL costs now."""
    told = [quote("AAPL", str(usd), source=name, at=TOMORROW, received_at=WALL) for name, usd in (heard or {}).items()]
    with transaction(world.engine) as connection:
        connection.execute(tables.source_quotes.delete())
        quotes.note(connection, told, {}, TOMORROW)
        return keeping.keep(connection, rows, source, TOMORROW, WALL)


def scaled(rows: pd.DataFrame, ratio: float) -> pd.DataFrame:
    prices = ["open", "high", "low", "close"]
    return rows.assign(**{name: rows[name] / ratio for name in prices}, volume=rows["volume"] * ratio)


@pytest.mark.parametrize(("ratio", "kind", "told"), [(4.0, "split", "4"), (0.1, "reverse_split", "0.1")])
def test_a_split_that_another_source_bears_out_puts_all_bars_before_it_on_the_new_scale_at_once(
    world: World, ratio: float, kind: str, told: str
) -> None:
    old, other = frame("AAPL", walk(60)), frame("MSFT", walk(60))
    keep(world, pd.concat([old, other]))
    morning = frame("AAPL", [close / ratio for close in walk(3, 2)], TOMORROW)
    heard = {"finnhub": float(morning["close"].iloc[-1])}
    kept = keep(world, pd.concat([scaled(old.tail(12), ratio), morning, other.tail(12)]), heard=heard)
    assert kept.splits == (Split("AAPL", morning["ts"].iloc[0].date(), Decimal(told), "alpaca", 60),)
    assert closes(world)[:60] == pytest.approx((old["close"] / ratio).tolist())
    assert closes(world)[60:] == pytest.approx(morning["close"].tolist())
    volumes = [row["volume"] for row in world.rows(tables.bars) if row["symbol"] == "AAPL"]
    assert volumes == pytest.approx([100.0 * ratio] * 60 + [100.0] * 3)
    assert closes(world, "MSFT") == other["close"].tolist()
    (noted,) = world.rows(tables.corporate_actions)
    assert (noted["kind"], noted["ratio"], noted["bars"], noted["noted_at_wall"]) == (kind, Decimal(told), 60, WALL)
    assert keep(world, pd.concat([scaled(old.tail(12), ratio), morning]), heard=heard) == keeping.Kept(), "once"


@pytest.mark.parametrize("heard", [{}, {"finnhub": 100.0}, {"alpaca": 25.0}, {"finnhub": 25.0, "yfinance": 100.0}])
def test_of_a_split_that_nobody_else_bears_out_no_bar_is_written_and_none_changed(
    world: World, heard: dict[str, float]
) -> None:
    old, other = frame("AAPL", [100.0 + number % 3 for number in range(60)]), frame("MSFT", walk(60))
    keep(world, old)
    morning = frame("AAPL", [25.0], TOMORROW)
    kept = keep(world, pd.concat([scaled(old.tail(12), 4.0), morning, other]), heard=heard)
    assert (kept.written, kept.splits, list(kept.doubtful)) == (60, (), ["AAPL"])
    assert closes(world) == old["close"].tolist()
    assert closes(world, "MSFT") == other["close"].tolist()
    assert world.rows(tables.corporate_actions) == []


def test_a_lie_of_a_few_percent_is_never_written_however_often_it_comes(world: World) -> None:
    old = frame("AAPL", walk(60))
    keep(world, old)
    lie = scaled(frame("AAPL", walk(72)).tail(24), 1 / 1.07)
    for end in range(13, 25):
        assert list(keep(world, lie.head(end)).doubtful) == ["AAPL"]
    assert closes(world) == old["close"].tolist()
    truth = frame("AAPL", walk(72)).tail(24)
    assert keep(world, truth).written == 12
    assert closes(world) == walk(72)


def test_bars_that_end_far_from_the_price_of_now_are_not_written(world: World) -> None:
    young = frame("AAPL", walk(12), TOMORROW - 12 * STEP)
    price = float(young["close"].iloc[-1])
    assert keep(world, young, heard={"finnhub": price * 1.07}).written == 0
    assert world.rows(tables.bars) == []
    assert keep(world, young, heard={"finnhub": price * 1.02}).written == 12


@pytest.mark.parametrize(("sources", "written"), [(("alpaca",), 12), (("finnhub", "alpaca"), 0)])
def test_a_price_that_was_accepted_of_the_bars_own_source_alone_tells_nothing_of_them(
    world: World, sources: tuple[str, ...], written: int
) -> None:
    young = frame("AAPL", [100.0] * 12, TOMORROW - 12 * STEP)
    price = quote("AAPL", "107", source=sources[0], at=TOMORROW, received_at=WALL)
    with transaction(world.engine) as connection:
        quotes.accept(connection, [quotes.Accepted(price, sources, "majority")])
    assert keep(world, young).written == written


@pytest.mark.parametrize("close", [float("inf"), float("nan"), 0.0, -1.0])
def test_a_stored_bar_that_is_no_price_keeps_no_other_from_being_written(world: World, close: float) -> None:
    upsert(world, frame("AAPL", [*walk(11), close]))
    fresh = frame("AAPL", walk(14))
    assert keep(world, fresh).doubtful == {}
    assert closes(world) == walk(14)
    upsert(world, frame("MSFT", [close]))
    assert keep(world, frame("MSFT", walk(3), TOMORROW)).written == 3


def test_a_fall_of_a_third_or_to_a_quarter_overnight_is_no_split(world: World) -> None:
    old = frame("AAPL", walk(60))
    keep(world, old)
    for fall in (0.7, 0.25):
        morning = frame("AAPL", [close * fall for close in walk(12)], TOMORROW)
        kept = keep(world, pd.concat([old.tail(12), morning]), heard={"finnhub": morning["close"].iloc[0]})
        assert (kept.splits, kept.doubtful) == ((), {})
        with world.engine.begin() as connection:
            connection.execute(tables.bars.delete().where(tables.bars.c.ts >= TOMORROW))
    assert closes(world) == old["close"].tolist()
    assert world.rows(tables.corporate_actions) == []


def test_a_thin_ticker_of_which_one_known_bar_comes_is_split_all_the_same(world: World) -> None:
    keep(world, frame("AAPL", walk(60)))
    morning = frame("AAPL", [walk(60)[-1] / 4] * 3, TOMORROW)
    kept = keep(world, pd.concat([scaled(frame("AAPL", walk(60)).tail(1), 4.0), morning]), heard={"finnhub": 25.0})
    assert len(kept.splits) == 1
    assert closes(world) == pytest.approx([close / 4 for close in walk(60)] + morning["close"].tolist())


def test_a_source_that_does_not_know_of_a_split_yet_takes_nothing_back(world: World) -> None:
    old = frame("AAPL", [100.0] * 60)
    keep(world, old)
    keep(world, scaled(old.tail(12), 4.0), heard={"finnhub": 25.0})
    for heard in ({}, {"finnhub": 25.0}):
        kept = keep(world, old.tail(12), "yfinance", heard)
        assert (kept.written, kept.splits, list(kept.doubtful)) == (0, (), ["AAPL"])
    assert closes(world) == pytest.approx([25.0] * 60)
    assert len(world.rows(tables.corporate_actions)) == 1


def test_a_gap_before_newer_bars_is_not_filled_on_another_scale(world: World) -> None:
    week = frame("AAPL", walk(60))
    keep(world, pd.concat([week.head(20), week.tail(20)]))
    kept = keep(world, scaled(week.iloc[8:40], 4.0), heard={"finnhub": walk(60)[39] / 4})
    assert (kept.written, list(kept.doubtful)) == (0, ["AAPL"])
    assert len(world.rows(tables.bars)) == 40
    assert keep(world, week.iloc[8:40]).written == 20


def test_two_writers_who_see_the_same_split_rescale_once(world: World) -> None:
    old = frame("AAPL", [100.0] * 60)
    keep(world, old)
    barrier = threading.Barrier(2)

    def see() -> None:
        barrier.wait()
        keep(world, scaled(old.tail(12), 4.0), heard={"finnhub": 25.0})

    threads = [threading.Thread(target=see) for _ in range(2)]
    with transaction(world.engine) as connection:
        locks.within(connection, locks.BARS)
        for thread in threads:
            thread.start()
        threads[0].join(0.2)
        assert all(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join(20)
    assert closes(world) == pytest.approx([25.0] * 60)
    assert len(world.rows(tables.corporate_actions)) == 1


def test_a_human_may_tell_of_a_split_and_take_it_back(world: World) -> None:
    keep(world, frame("AAPL", walk(20)))
    assert "20 bars of AAPL are on the new scale" in run(world, "market", "split", "aapl", "4", "--yes").output
    assert closes(world) == pytest.approx([close / 4 for close in walk(20)])
    (noted,) = world.rows(tables.corporate_actions)
    assert (noted["source"], noted["ratio"]) == (keeping.HUMAN, Decimal(4))
    assert run(world, "market", "split", "AAPL", "0.25", typed="y\n").exit_code == 0
    assert closes(world) == pytest.approx(walk(20))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("AAPL", "1"), "no ratio of a split"),
        (("AAPL", "four"), "no ratio of a split"),
        (("AAPL", "0"), "no ratio of a split"),
        (("AAPL", "nan"), "no ratio of a split"),
        (("../x", "4"), "no ticker"),
        (("MSFT", "4"), "no bars of MSFT"),
    ],
)
def test_what_is_no_split_is_refused_and_nothing_changes(world: World, words: tuple[str, str], why: str) -> None:
    keep(world, frame("AAPL", walk(20)))
    with pytest.raises(QBotError, match=why):
        run(world, "market", "split", *words, "--yes")
    assert run(world, "market", "split", "AAPL", "4", typed="n\n").exit_code == 1
    assert closes(world) == walk(20)
    assert world.rows(tables.corporate_actions) == []


# --- what there is, and what was asked for ----------------------------------------------------------------------------


def test_bars_are_counted_by_symbol_and_session_without_those_around_it(world: World) -> None:
    day = (MID_SESSION, MID_SESSION + 10 * STEP)
    upsert(world, pd.concat([frame("AAPL", walk(12), MID_SESSION - STEP), frame("MSFT", walk(3))]))
    with transaction(world.engine) as connection:
        found = bar_history.counts(connection, ["AAPL", "MSFT", "SPY"], [day, (day[1], day[1] + 5 * STEP)])
        assert found == {("AAPL", day[0]): 10, ("MSFT", day[0]): 3, ("AAPL", day[1]): 1}
        assert bar_history.counts(connection, [], [day]) == bar_history.counts(connection, ["AAPL"], []) == {}


def test_what_a_source_answered_is_remembered_and_that_it_has_nothing_for_a_month(world: World) -> None:
    told = [Answered("AAPL", MID_SESSION, "alpaca", 60), Answered("AAPL", MID_SESSION, "twelvedata", 0)]
    with transaction(world.engine) as connection:
        bar_history.remember(connection, [*told, Answered("MSFT", MID_SESSION, "alpaca", 1)], WALL)
        bar_history.remember(connection, [Answered("MSFT", MID_SESSION, "alpaca", 2)], WALL)
        bar_history.remember(connection, [], WALL)
        found = bar_history.answered(connection, ["AAPL", "MSFT"], [MID_SESSION], WALL)
        later = bar_history.answered(connection, ["AAPL", "MSFT"], [MID_SESSION], WALL + timedelta(days=1))
    assert sorted(found) == [*told, Answered("MSFT", MID_SESSION, "alpaca", 2)]
    assert [each.source for each in later] == ["alpaca", "alpaca"]


def test_what_there_is_of_a_symbol_names_its_sources_by_their_share(world: World) -> None:
    upsert(world, frame("AAPL", walk(3)), "yfinance")
    upsert(world, frame("AAPL", walk(5), MID_SESSION + 3 * STEP), "alpaca")
    with transaction(world.engine) as connection:
        (found,) = bar_history.extents(connection, ["AAPL", "SPY"], MID_SESSION, MID_SESSION + timedelta(days=1))
    assert (found.bars, found.first, found.last) == (8, MID_SESSION, MID_SESSION + 7 * STEP)
    assert found.sources == ("alpaca", "yfinance")


# --- what is too old --------------------------------------------------------------------------------------------------


def test_old_bars_answers_and_quotas_go_in_small_steps_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BARS_PRUNED_AT_ONCE", 4)
    monkeypatch.setattr(limits, "BARS_PRUNED_MAX", 8)
    upsert(world, pd.concat([frame("AAPL", walk(20)), frame("MSFT", walk(1))]))
    old, new = (Period("fmp", "day", WALL - timedelta(days=days)) for days in (limits.QUOTAS_KEPT_DAYS + 1, 1))
    with transaction(world.engine) as connection:
        bar_history.remember(connection, [Answered("AAPL", MID_SESSION, "alpaca", 60)], WALL)
        quotas.add(connection, [Claim(old, 1, 9), Claim(new, 1, 9)], WALL)
    day = timedelta(days=limits.BARS_KEPT_DAYS)
    assert retention.prune(world.engine, MID_SESSION + day, WALL) == 0
    assert len(world.rows(tables.bars_answered)) == 1
    assert [row["begins_wall"] for row in world.rows(tables.source_quotas)] == [new.begins_wall]
    now = MID_SESSION + day + 10 * STEP
    assert [retention.prune(world.engine, now, WALL) for _ in range(3)] == [8, 3, 0]
    assert closes(world) == walk(20)[10:]
    assert world.rows(tables.bars_answered) == []


def test_the_periodic_tasks_let_old_bars_go(world: World) -> None:
    old = MID_SESSION - timedelta(days=limits.BARS_KEPT_DAYS + 1)
    upsert(world, pd.concat([frame("AAPL", [1.0], old), frame("AAPL", [2.0])]))
    pipeline.evaluate_predictions(world.rt)
    assert closes(world) == [2.0]


# --- TimescaleDB ------------------------------------------------------------------------------------------------------


def test_without_the_extension_bars_are_an_ordinary_table(world: World) -> None:
    with transaction(world.engine) as connection:
        assert hypertables.ensure(connection) is False


class Database:
    """A connection to a Postgres with or without the extension; remembers what it was told."""

    def __init__(self, *, installed: bool, already: bool) -> None:
        self.answers, self.told = [installed, already], list[str]()

    def scalar(self, statement: sa.TextClause, _values: object = None) -> bool:
        asked = str(statement)
        assert ("pg_extension" in asked) is (len(self.answers) == 2)
        return self.answers.pop(0)

    def execute(self, statement: sa.TextClause, _values: object = None) -> None:
        self.told.append(str(statement))


def test_with_the_extension_bars_become_a_hypertable_once() -> None:
    fresh, done, absent = (
        Database(installed=True, already=False),
        Database(installed=True, already=True),
        Database(installed=False, already=False),
    )
    assert [hypertables.ensure(each) for each in (fresh, done, absent)] == [True, False, False]  # type: ignore[arg-type]
    assert (done.told, absent.told) == ([], [])
    assert fresh.told[0] == "SET LOCAL statement_timeout = 0"
    assert fresh.told[1].startswith("SELECT create_hypertable(CAST(:name AS regclass), 'ts'")
    for part in ("migrate_data => true", "create_default_indexes => false", "if_not_exists => true"):
        assert part in fresh.told[1]
