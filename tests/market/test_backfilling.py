"""Bars that are missing come from whoever has them, once, within its limits; and what cannot be had is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr
from rich.console import Console
from typer.testing import CliRunner, Result

from qbot import cli_backfill, limits
from qbot.cli import app
from qbot.console.installation import Installation
from qbot.contract.board import client_of
from qbot.market import backfilling, providers
from qbot.market.backfilling import Asker, Filled, Wanted, Within
from qbot.market.calendar import sessions_between
from qbot.market.gaps import OVERLAP
from qbot.market.limiting import Closed, Gate
from qbot.market.plans import ALPACA, TWELVEDATA, YFINANCE, Limit, Plan, Span, Unit
from qbot.market.provider import Fault, ProviderError
from qbot.market.providers import Sources
from qbot.runtime import Runtime
from qbot.store import bars, tables
from tests.support.bar_sources import BarSource, session_bars
from tests.support.runtime import World

NOW = datetime(2026, 3, 3, 1, 0, tzinfo=UTC)  # a Monday evening in New York
SESSIONS = sessions_between(NOW - timedelta(days=14), NOW)[-8:]
WANTED = Wanted(("AAPL", "MSFT"), SESSIONS[0][0], NOW)
NOTHING = session_bars("AAPL", [])


def both(**more: Any) -> pd.DataFrame:
    return pd.concat([session_bars(name, SESSIONS, **more) for name in WANTED.symbols], ignore_index=True)


class Open:
    """A gate that lets everything through, or is closed as told."""

    def __init__(self, *closed: Closed) -> None:
        self.closed, self.calls = list(closed), 0

    def call(self, symbols: int, ask: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        self.calls += 1
        if self.closed:
            raise self.closed.pop(0)
        return ask()


def asker(source: BarSource, plan: Plan = ALPACA, gate: Any = None) -> Asker:
    return Asker(plan, source, gate or Open())


def fill(world: World, *askers: Asker, wanted: Wanted = WANTED, within: Within = Within(), **more: Any) -> Filled:
    return backfilling.fill(world.engine, askers, wanted, lambda: NOW, lambda: NOW, within, **more)


def stored(world: World) -> int:
    return len(world.rows(tables.bars))


# --- filling ----------------------------------------------------------------------------------------------------------


def test_what_is_missing_comes_once_and_the_next_run_asks_nobody(world: World) -> None:
    source = BarSource("alpaca", both())
    found = fill(world, asker(source))
    assert (found.gaps, found.left, found.written, stored(world)) == (16, [], 8 * 78 * 2, 8 * 78 * 2)
    assert {(row["source"], row["adjustment"]) for row in world.rows(tables.bars)} == {("alpaca", "split")}
    asked = len(source.asked)
    again = fill(world, asker(source))
    assert (again.gaps, again.requests, len(source.asked)) == (0, 0, asked)


def test_only_what_is_missing_is_asked_for(world: World) -> None:
    fill(world, asker(BarSource("alpaca", both())))
    with world.engine.begin() as connection:
        lost = tables.bars.c.ts.between(*SESSIONS[3]) & (tables.bars.c.symbol == "MSFT")
        connection.execute(tables.bars.delete().where(lost))
    source = BarSource("alpaca", both())
    found = fill(world, asker(source))
    assert (found.gaps, found.written, stored(world)) == (1, 78, 8 * 78 * 2)
    ((symbols, start, end),) = source.asked
    assert symbols == ("MSFT",)
    assert (start, end) == (SESSIONS[2][1] - OVERLAP, SESSIONS[4][0] + OVERLAP), "with what is known on both sides"


def test_sessions_with_holes_are_not_asked_for_again_and_no_other_volume_is_mixed_in(world: World) -> None:
    thin, whole = BarSource("alpaca", both(every=3)), BarSource("yfinance", both(volume=5_000.0))
    found = fill(world, asker(thin), asker(whole, YFINANCE))
    assert (found.left, whole.asked, stored(world)) == ([], [], 8 * 26 * 2)
    asked = len(thin.asked)
    assert fill(world, asker(thin), asker(whole, YFINANCE)).requests == 0
    assert (len(thin.asked), whole.asked) == (asked, [])


def test_the_next_source_is_asked_for_what_the_first_does_not_have(world: World) -> None:
    first = BarSource("alpaca", session_bars("AAPL", SESSIONS))
    second = BarSource("twelvedata", both(volume=7.0))
    found = fill(world, asker(first), asker(second, TWELVEDATA))
    assert (found.left, {symbols for symbols, _, _ in second.asked}) == ([], {("MSFT",)})
    by_source = {(row["symbol"], row["source"]) for row in world.rows(tables.bars)}
    assert by_source == {("AAPL", "alpaca"), ("MSFT", "twelvedata")}


def test_what_nobody_has_is_told_and_asked_for_again_in_a_month(world: World) -> None:
    source = BarSource("alpaca", session_bars("AAPL", SESSIONS))
    found = fill(world, asker(source))
    assert {gap.symbol for gap in found.left} == {"MSFT"}
    assert backfilling.why_not(found.left[0], [asker(source)], found, NOW) == "alpaca: has no bars"
    again = fill(world, asker(source))
    assert (len(again.left), again.requests) == (8, 0)
    month = NOW + timedelta(days=limits.BARS_NONE_AGAIN_DAYS + 1)
    later = backfilling.fill(world.engine, [asker(source)], WANTED, lambda: NOW, lambda: month)
    assert later.requests > 0


def test_yahoo_is_not_asked_for_what_lies_further_back_than_it_goes(world: World) -> None:
    long = replace(WANTED, since=NOW - timedelta(days=80))
    source = BarSource("yfinance", both())
    found = fill(world, asker(source, YFINANCE), wanted=long)
    assert all(start >= NOW - timedelta(days=59) for _, start, _ in source.asked)
    assert all(len(symbols) == 1 for symbols, _, _ in source.asked)
    oldest = min(found.left, key=lambda gap: gap.session)
    assert backfilling.why_not(oldest, [asker(source, YFINANCE)], found, NOW) == "yfinance: goes back 59 days"


def test_a_running_session_is_filled_up_to_now_and_not_remembered_as_whole(world: World) -> None:
    now = SESSIONS[-1][0] + timedelta(minutes=32)
    thin = BarSource("alpaca", both(every=2))
    wanted = replace(WANTED, since=SESSIONS[-1][0] - timedelta(hours=1))
    found = backfilling.fill(world.engine, [asker(thin)], wanted, lambda: now, lambda: now)
    assert (found.gaps, found.left) == (2, [])
    assert world.rows(tables.bars_answered) == []
    assert max(row["ts"] for row in world.rows(tables.bars)) == now - timedelta(minutes=12)


# --- limits and failures ----------------------------------------------------------------------------------------------


def fails(fault: Fault) -> ProviderError:
    return ProviderError("yfinance", fault, "as told")


def test_what_was_written_before_a_failure_stays_and_the_next_source_goes_on(world: World) -> None:
    first = BarSource("yfinance", both(), [None, fails(Fault.QUOTA)])
    found = fill(world, asker(first, YFINANCE))
    assert ([symbols for symbols, _, _ in first.asked], stored(world)) == ([("AAPL",), ("MSFT",)], 8 * 78)
    assert (found.why, {gap.symbol for gap in found.left}) == ({"yfinance": "as told"}, {"MSFT"})
    second = BarSource("alpaca", both())
    fill(world, asker(BarSource("yfinance", NOTHING, [fails(Fault.AUTH)]), YFINANCE), asker(second))
    assert stored(world) == 8 * 78 * 2


def test_what_came_before_a_request_failed_is_written_and_the_rest_is_no_answer(world: World) -> None:
    error = fails(Fault.TRANSIENT)
    error.bars = pd.concat([session_bars("AAPL", SESSIONS), session_bars("MSFT", SESSIONS[:3], every=2)])
    source = BarSource("alpaca", both(), [error])
    found = fill(world, asker(source), within=Within(requests=1))
    assert {(gap.symbol, gap.session) for gap in found.left} == {("MSFT", session) for session in SESSIONS}
    assert stored(world) == 8 * 78 + 3 * 39
    assert world.rows(tables.bars_answered) == []
    assert fill(world, asker(source)).left == []
    assert stored(world) == 8 * 78 * 2


def test_a_request_that_fails_for_now_costs_no_other_and_two_in_a_row_end_it(world: World) -> None:
    wanted = replace(WANTED, symbols=tuple("ABCDEF"))
    had = pd.concat([session_bars(name, SESSIONS) for name in wanted.symbols])
    again = fails(Fault.TRANSIENT)
    source = BarSource("yfinance", had, [again, None, again, again])
    found = fill(world, asker(source, YFINANCE), wanted=wanted)
    assert (found.requests, [symbols[0] for symbols, _, _ in source.asked]) == (4, list("ABCD"))
    assert (stored(world), len(found.left)) == (8 * 78, 40)
    assert fill(world, asker(BarSource("yfinance", had), YFINANCE), wanted=wanted).left == []


def test_a_turn_is_waited_for_and_a_used_up_quota_is_not(world: World) -> None:
    paused: list[float] = []
    turn = Closed("alpaca", Fault.MINUTE_LIMIT, "its turn is in 70 s")
    busy = Open(turn, turn)
    assert fill(world, asker(BarSource("alpaca", both()), gate=busy), pause=paused.append).left == []
    assert paused == [limits.DATA_PACE_WAIT_S] * 2
    quota = Open(Closed("alpaca", Fault.QUOTA, "used up", NOW + timedelta(hours=3)))
    other = replace(WANTED, symbols=("SPY",))
    found = fill(world, asker(BarSource("alpaca", both()), gate=quota), wanted=other, pause=paused.append)
    assert (quota.calls, found.requests, len(paused)) == (1, 1, 2)


def test_a_run_takes_its_share_of_a_days_quota_and_leaves_the_rest_to_the_session(world: World) -> None:
    plan = replace(YFINANCE, limits=(Limit(9, Span.DAY, Unit.CALLS, "test"),))
    source = BarSource("yfinance", both())
    wanted = Wanted(tuple(f"T{n}" for n in range(20)), SESSIONS[0][0], NOW)
    gate = Gate(plan, "", client_of(world.rt.settings), world.engine, world.rt.wall)
    found = backfilling.fill(world.engine, [Asker(plan, source, gate)], wanted, lambda: NOW, world.rt.wall)
    assert len(source.asked) == 4, "half of nine"
    assert found.why == {"yfinance": "its share of this day's quota is used up"}
    assert {row["used"] for row in world.rows(tables.source_quotas)} == {4}


def test_repair_asks_little_of_settled_sessions_alone_and_goes_on_next_time(world: World) -> None:
    source = BarSource("alpaca", both())

    def repair(at: datetime, requests: int) -> Filled:
        return backfilling.repair(world.engine, [asker(source)], WANTED.symbols, lambda: at, lambda: at, requests)

    evening = SESSIONS[-1][1] + timedelta(minutes=30)
    assert repair(evening, 0).requests == 0
    assert repair(evening, 1).requests == 1
    assert max(row["ts"] for row in world.rows(tables.bars)) < SESSIONS[-1][0], "the last one is not settled yet"
    while repair(NOW, 1).requests:
        pass
    assert stored(world) == 8 * 78 * 2


# --- splits -----------------------------------------------------------------------------------------------------------


def after_split(rows: pd.DataFrame, ratio: float) -> pd.DataFrame:
    prices = ["open", "high", "low", "close"]
    return rows.assign(**{name: rows[name] / ratio for name in prices}, volume=rows["volume"] * ratio)


def stored_closes(world: World) -> list[float]:
    return [row["close"] for row in world.rows(tables.bars)]


@pytest.mark.parametrize("ratio", [4.0, 0.1])
@pytest.mark.parametrize("side", ["before", "after", "between"])
def test_bars_on_another_scale_than_their_neighbours_are_left_out_and_asked_for_again(
    world: World, ratio: float, side: str
) -> None:
    known = {"before": [*SESSIONS[3:]], "after": [*SESSIONS[:5]], "between": [*SESSIONS[:2], *SESSIONS[5:]]}[side]
    rows = session_bars("AAPL", known)
    with world.engine.begin() as connection:
        bars.upsert(connection, rows, "alpaca")
    wanted = replace(WANTED, symbols=("AAPL",))
    found = fill(world, asker(BarSource("alpaca", after_split(both(), ratio))), wanted=wanted)
    assert (found.written, found.splits, list(found.doubtful)) == (0, [], ["AAPL"])
    assert len(found.left) == 8 - len(known)
    nobody_else = backfilling.why_not(found.left[0], [asker(BarSource("alpaca", NOTHING))], found, NOW)
    assert "nobody else tells a price of now on the new scale" in nobody_else
    assert stored_closes(world) == rows["close"].tolist()
    again = fill(world, asker(BarSource("alpaca", both())), wanted=wanted)
    assert again.left == []
    assert stored_closes(world) == session_bars("AAPL", SESSIONS)["close"].tolist()


def test_bars_of_years_are_judged_beside_those_that_came_just_before(world: World) -> None:
    wanted = replace(WANTED, symbols=("AAPL",), since=NOW - timedelta(days=200))
    truth = session_bars("AAPL", wanted.calendar(NOW))

    def lie_from_the_second_request_on() -> None:
        if len(source.asked) == 1:
            source.had = after_split(truth, 2.0)

    source = BarSource("alpaca", truth, before=lie_from_the_second_request_on)
    found = fill(world, asker(source), wanted=wanted)
    assert (len(source.asked) > 1, list(found.doubtful)) == (True, ["AAPL"])
    assert 0 < stored(world) == found.written
    assert set(stored_closes(world)) <= set(truth["close"])
    assert fill(world, asker(BarSource("alpaca", truth)), wanted=wanted).left == []


# --- the command ------------------------------------------------------------------------------------------------------


class Here:
    """The command finds the QBot of the test, whose market time is NOW."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self.world, self._patch = world, patch
        patch.setattr(cli_backfill, "quiet", lambda: None)
        patch.setattr(cli_backfill.console, "width", 100)
        self.settle(embedded_exchange=False, alpaca_api_key=SecretStr("k"), tickers="AAPL,MSFT", yfinance=False)
        self.has(BarSource("alpaca", both()))

    def settle(self, **more: Any) -> None:
        rt = self.world.another(**more)
        rt = Runtime(rt.settings, rt.board, rt.engine, lambda: NOW, lambda: NOW, rt.uptime)
        self._patch.setattr(
            cli_backfill.installation, "choose", lambda _demo: Installation("a test", rt.settings, None, None)
        )
        self._patch.setattr(cli_backfill, "settings_of", lambda _found: rt.settings)
        self._patch.setattr(cli_backfill, "runtime_of", lambda *_: rt)

    def has(self, *sources: BarSource) -> None:
        self._patch.setattr(providers, "sources_of", lambda _settings: Sources(bars=sources))


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(world, monkeypatch)


def run(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, ["market", "backfill", *words])


def told(done: Result) -> str:
    return " ".join((done.output + str(done.exception or "")).split())


def test_it_fills_and_shows_what_there_is_of_each_ticker(here: Here) -> None:
    done = run("--since", "2026-02-19")
    assert done.exit_code == 0, told(done)
    said = told(done)
    assert "Asking alpaca: 16 sessions of a ticker are missing." in said
    assert "AAPL 624 2026-02-19 2026-03-02 alpaca" in said
    assert "1,248 bars are new or corrected" in said
    assert "Nothing was missing." in told(run("--since", "2026-02-19"))


def test_at_a_terminal_a_bar_shows_how_far_it_is(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_backfill, "console", Console(force_terminal=True, width=120, highlight=False))
    here.settle(embedded_exchange=False, alpaca_api_key=SecretStr(""), yfinance=True, tickers="AAPL,MSFT")
    here.has(BarSource("yfinance", both()))
    done = run("--since", "2026-02-19")
    assert done.exit_code == 0, told(done)
    assert "yfinance: MSFT, 2026-02-18 to 2026-03-02" in done.output
    assert "8/16" in done.output


def test_only_some_symbols_days_and_sources(here: Here) -> None:
    other = BarSource("yfinance", both())
    here.settle(embedded_exchange=False, alpaca_api_key=SecretStr("k"), yfinance=True)
    here.has(BarSource("alpaca", both()), other)
    words = ("--since", "2026-02-20", "--until", "2026-02-24", "--symbols", "msft", "--source", "yfinance")
    done = run(*words)
    assert done.exit_code == 0, told(done)
    rows = here.world.rows(tables.bars)
    assert {(row["symbol"], row["source"]) for row in rows} == {("MSFT", "yfinance")}
    assert len(rows) == 3 * 78


def test_what_could_not_be_had_is_named_with_the_reason_and_the_exit_status(here: Here) -> None:
    here.has(BarSource("alpaca", session_bars("AAPL", SESSIONS)))
    done = run("--since", "2026-02-19")
    assert done.exit_code == 1
    said = told(done)
    assert "MSFT 0 – – – 8 sessions: 2026-02-19 … 2026-03-02" in said
    assert "8 sessions of a ticker are missing. alpaca: has no bars." in said


def test_ctrl_c_keeps_what_has_come_and_the_same_command_goes_on(here: Here) -> None:
    def interrupt() -> None:
        if len(source.asked) == 1:
            raise KeyboardInterrupt

    source = BarSource("yfinance", both(), before=interrupt)
    here.settle(embedded_exchange=False, alpaca_api_key=SecretStr(""), yfinance=True, tickers="AAPL,MSFT")
    here.has(source)
    done = run("--since", "2026-02-19")
    assert done.exit_code == 130
    assert "Interrupted: what has come is kept" in told(done)
    assert stored(here.world) == 8 * 78
    here.has(BarSource("yfinance", both()))
    assert run("--since", "2026-02-19").exit_code == 0
    assert stored(here.world) == 8 * 78 * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday"), "does not match the format"),
        (("--since", "2026-03-09"), "2026-03-09 is yet to come; today is 2026-03-02"),
        (("--since", "2026-02-20", "--until", "2026-03-09"), "leave --until out"),
        (("--since", "2026-02-20", "--until", "2026-02-19"), "lies before --since"),
        (("--since", "2021-01-01"), "bars are kept for three years: the earliest day is 2023-03-03"),
        (("--since", "2026-02-20", "--symbols", "AAPL,X Y"), "X Y: no ticker"),
        (("--since", "2026-02-20", "--symbols", ","), "no ticker"),
        (("--since", "2026-02-20", "--source", "finnhub"), "finnhub cannot be asked for bars here"),
        (("--since", "2026-02-20", "--source", "bloomberg"), "no source of market data; there are"),
    ],
)
def test_what_cannot_be_done_is_said_and_nobody_is_asked(here: Here, words: tuple[str, ...], said: str) -> None:
    source = BarSource("alpaca", both())
    here.has(source)
    done = run(*words)
    assert done.exit_code in (1, 2)
    assert said in told(done).replace("│ ", "").replace(" │", "")
    assert (source.asked, stored(here.world)) == ([], 0)


def test_without_a_source_and_at_the_paper_exchange_it_says_what_to_do(here: Here) -> None:
    here.settle(embedded_exchange=False, alpaca_api_key=SecretStr(""), yfinance=False)
    assert "set a key in .env, or QBOT_YFINANCE=true" in told(run("--since", "2026-02-20"))
    here.settle(embedded_exchange=True)
    said = told(run("--since", "2026-02-20"))
    assert "its bars are there from the first minute" in said
    assert "set QBOT_ALPACA_API_KEY" in said
