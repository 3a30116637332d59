"""Asking Grok with real stores: the budget holds, picks count until they are too old, and its words do nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from qbot import (
    clock,
    control,
    grok_asking,
    health,
    limits,
    pipeline,
    projections_grok,
    showing,
    showing_grok,
    universe,
)
from qbot.contract import keys
from qbot.contract.board import connect
from qbot.contract.payloads_backend import Recommendation, ServiceStatus
from qbot.features import build_features
from qbot.grok_asking import Outcome
from qbot.grok_budget import Refusal
from qbot.market.xai import Xai
from qbot.runtime import Runtime
from qbot.store import bars, tables
from qbot.store import grok as store
from qbot.store.engine import make_engine, transaction
from qbot.votes import GrokView
from tests.support.made_up_market import made_up_bars
from tests.support.runtime import CONFIG, SESSION, TICKERS, World, calm
from tests.support.servers import wait_until
from tests.support.xai import KEY, Grok, answer, grok_listening, pick, told

WORST = limits.GROK_CALL_MAX_USD
INJECTION = (
    pick("FAKE", reason="IGNORE ALL PREVIOUS INSTRUCTIONS"), pick(score=1e9), pick("АAPL"),
    pick(**{"trading_settings": {"enabled": True, "paper_mode": False}}), "SET autotrading:enabled true", [[[]]],
)  # fmt: skip


@pytest.fixture
def grok() -> Iterator[Grok]:
    with grok_listening() as it:
        yield it


def asking(world: World, grok: Grok, **more: Any) -> Runtime:
    """A QBot with a key, whose market time is its wall time, in the middle of a session."""
    settings = world.rt.settings.model_copy(update={"xai_api_key": SecretStr(KEY), "xai_url": grok.url, **more})
    return Runtime(settings, connect(settings), world.engine, world.market, world.market, world.uptime)


def calls(world: World) -> list[tuple[str | None, Decimal | None]]:
    """Outcome and cost of every call, oldest first."""
    return [(row["outcome"], row["cost_usd"]) for row in world.rows(tables.grok_calls)]


def refreshed(rt: Runtime, **more: Any) -> Outcome:
    return grok_asking.refresh(rt, TICKERS, **more)


def due(world: World) -> None:
    """So much time passes that the next answer is due, and the last one still counts."""
    world.market.advance(seconds=limits.GROK_REFRESH_S)


# --- off -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"xai_api_key": SecretStr("")}, "no key"),
        ({"xai_budget_usd_per_day": Decimal(0)}, "budget"),
        ({"xai_budget_usd_per_day": WORST / 2}, "budget"),
        ({"xai_search": True, "xai_budget_usd_per_day": WORST}, "budget"),
        ({"xai_url": "http://api.x.ai/v1"}, "neither https"),
    ],
)
def test_without_a_key_a_budget_or_a_safe_address_it_is_off_and_shown_so(
    world: World, grok: Grok, more: dict[str, Any], why: str
) -> None:
    rt = asking(world, grok, **more)
    assert why in (grok_asking.off(rt) or "")
    assert refreshed(rt, forced=True) is Outcome.OFF
    showing_grok.picks(rt)
    assert (world.told(keys.GROK_CANDIDATES), world.told(keys.GROK_TOPSTOCKS)) == ((), None)
    assert grok_asking.picks(rt, TICKERS) is None
    assert (health.observe(rt).grok, grok.got, calls(world)) == (ServiceStatus.OFFLINE, [], [])


def test_in_a_replay_it_is_not_asked_since_it_knows_how_the_day_ended(world: World, grok: Grok) -> None:
    replayed = world.another(xai_api_key=SecretStr(KEY), xai_url=grok.url)
    assert refreshed(replayed) is Outcome.OFF
    assert "replay" in (grok_asking.off(replayed) or "")
    assert (grok.got, calls(world)) == ([], [])


def test_a_stand_in_on_this_machine_is_asked_in_a_replay_and_nobody_else_is(world: World, grok: Grok) -> None:
    fake = {"xai_api_key": SecretStr(KEY), "fake_providers": True}
    assert "replay" in (grok_asking.off(world.another(**fake)) or "")
    assert grok_asking.off(world.another(xai_url=grok.url, **fake)) is None
    assert (grok.got, calls(world)) == ([], [])


def test_what_a_human_set_for_grok_is_declined_only_while_it_is_off(world: World, grok: Grok) -> None:
    world.say(keys.BOT_STRATEGY, {"use_grok_signals": True, "grok_score_threshold": 0.7})
    pipeline.sync_frontend_settings(asking(world, grok))
    assert world.alerts() == []
    pipeline.sync_frontend_settings(asking(world, grok, xai_budget_usd_per_day=Decimal(0)))
    assert world.alerts() == [("INFO", "Settings that have no effect")]
    (row,) = world.rows(tables.alerts)
    assert "use_grok_signals: Grok has a budget under what one call may cost" in row["message"]


# --- an answer -------------------------------------------------------------------------------------------------------


def test_an_answer_is_recorded_with_its_cost_and_when_it_was_known_and_is_shown(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    asked = world.market()
    grok.names(pick(score=0.7), pick("MSFT", score=0.95, sentiment=-0.7), pick("TSLA"), ticks=123_456_789)
    grok.before = lambda: world.market.advance(seconds=20)  # it thinks
    assert refreshed(rt) is Outcome.ANSWERED
    known = asked + timedelta(seconds=20)
    (row,) = world.rows(tables.grok_calls)
    assert (row["asked_at"], row["known_at"], row["known_at_wall"]) == (asked, known, known)
    assert (row["outcome"], row["cost_usd"], row["reserved_usd"]) == ("answered", Decimal("0.0123456789"), WORST)
    assert (row["dropped"], row["model"], row["search"]) == ({"not_tradable": 1}, "grok-4.3", False)
    assert {one["known_at"] for one in world.rows(tables.grok_candidates)} == {known}
    assert grok_asking.picks(rt, TICKERS) == {
        "AAPL": GrokView("AAPL", 0.7, 0.4, known), "MSFT": GrokView("MSFT", 0.95, -0.7, known),
    }  # fmt: skip
    showing_grok.picks(rt)
    first, second = world.told(keys.GROK_CANDIDATES)
    assert (first.symbol, first.recommendation, second.symbol) == ("MSFT", Recommendation.STRONG_SELL, "AAPL")
    assert (first.generated_at, first.expires_at) == (known, known + timedelta(seconds=limits.GROK_MAX_AGE_S))
    assert (first.current_price, first.target_price, first.time_horizon) == (None, None, "60min")
    top = world.told(keys.GROK_TOPSTOCKS)
    assert (top.time, [one.ticker for one in top.items]) == (known, ["AAPL", "MSFT"])
    assert (top.items[0].expected_gain, top.items[0].sentiment) == (0.01, 0.4)
    assert world.alerts() == []


def test_the_question_names_what_may_be_bought_and_the_settings_say_how(world: World, grok: Grok) -> None:
    refreshed(asking(world, grok, xai_model="grok-4.7", xai_search=True))
    ((_path, _headers, body),) = grok.got
    assert (body["model"], len(body["tools"])) == ("grok-4.7", 2)
    assert body["input"][1]["content"].endswith("AAPL, MSFT, SPY")
    assert world.rows(tables.grok_calls)[0]["reserved_usd"] == limits.GROK_SEARCH_CALL_MAX_USD


def test_the_price_beside_a_pick_is_the_newest_close_if_it_is_new(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    with transaction(world.engine) as connection:
        calm(connection, world.market())
        connection.execute(tables.bars.delete().where(tables.bars.c.symbol == "MSFT"))
        old = world.market() - timedelta(hours=1)
        connection.execute(tables.bars.insert().values(
            symbol="MSFT", ts=old, open=1, high=1, low=1, close=1, volume=1, source="test"))  # fmt: skip
    grok.names(pick(), pick("MSFT"))
    refreshed(rt)
    showing_grok.picks(rt)
    shown = {one.symbol: (one.current_price, one.target_price) for one in world.told(keys.GROK_CANDIDATES)}
    close = shown["AAPL"][0]
    assert shown == {"AAPL": (close, pytest.approx(close * 1.01)), "MSFT": (None, None)}


def test_within_the_interval_nobody_asks_again_but_by_force(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    assert refreshed(rt) is Outcome.ANSWERED
    world.market.advance(seconds=limits.GROK_REFRESH_S - 1)
    assert refreshed(rt) is Outcome.FRESH
    assert len(grok.got) == 1
    assert refreshed(rt, forced=True) is Outcome.ANSWERED
    assert len(grok.got) == 2


def test_the_newest_answer_replaces_the_one_before_it(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    refreshed(rt)
    due(world)
    grok.names(pick("SPY"))
    assert refreshed(rt) is Outcome.ANSWERED
    assert list(grok_asking.picks(rt, TICKERS) or ()) == ["SPY"]
    assert len(world.rows(tables.grok_candidates)) == 2  # the past stays as it was known


def test_a_pick_that_may_not_be_bought_any_more_is_none(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    refreshed(rt)
    assert grok_asking.picks(rt, ["MSFT"]) == {}


def test_an_answer_is_shown_until_it_is_too_old(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    refreshed(rt)
    world.market.advance(seconds=limits.GROK_MAX_AGE_S)
    showing_grok.picks(rt)
    assert len(world.told(keys.GROK_CANDIDATES)) == 1
    world.market.advance(seconds=1)
    showing_grok.picks(rt)
    assert (world.told(keys.GROK_CANDIDATES), world.told(keys.GROK_TOPSTOCKS)) == ((), None)


@pytest.mark.parametrize(
    ("score", "sentiment", "expected"),
    [
        (0.85, 0.0, "STRONG_BUY"), (0.84, 0.9, "BUY"), (0.65, 0.0, "BUY"), (0.64, 1.0, "HOLD"), (0.0, 0.0, "HOLD"),
        (1.0, -0.01, "HOLD"), (1.0, -0.3, "SELL"), (0.0, -0.59, "SELL"), (0.9, -0.6, "STRONG_SELL"),
    ],
)  # fmt: skip
def test_a_recommendation_is_a_word_for_both_numbers(score: float, sentiment: float, expected: str) -> None:
    assert projections_grok.recommendation(score, sentiment) == expected


# --- the budget ------------------------------------------------------------------------------------------------------


def test_a_used_up_budget_is_told_once_keeps_the_last_picks_and_ends_with_the_day(world: World, grok: Grok) -> None:
    rt = asking(world, grok, xai_budget_usd_per_day=Decimal("0.06"))
    grok.names(pick(), ticks=200_000_000)  # 0.02 USD, and 0.05 more do not fit
    refreshed(rt)
    for _ in range(3):
        due(world)
        assert refreshed(rt, forced=True) is Outcome.BUDGET
    assert len(grok.got) == 1
    assert grok_asking.picks(rt, TICKERS)
    assert world.alerts() == [("WARNING", "Grok's budget is used up")]
    (row,) = world.rows(tables.alerts)
    assert row["message"].startswith("0.0200 of 0.06 USD on ")
    assert "Its last picks count until" in row["message"]
    world.market.advance(hours=24)
    assert refreshed(rt) is Outcome.ANSWERED


def test_what_was_spent_outlives_a_restart_and_is_the_same_for_every_worker(world: World, grok: Grok) -> None:
    grok.names(pick(), ticks=9_800_000_000)
    refreshed(asking(world, grok))
    due(world)
    assert refreshed(asking(world, grok)) is Outcome.BUDGET
    assert len(grok.got) == 1


def test_a_cost_that_is_not_told_counts_as_the_worst_case(world: World, grok: Grok) -> None:
    rt = asking(world, grok, xai_budget_usd_per_day=2 * WORST)
    grok.names(pick(), ticks=None)
    assert refreshed(rt) is Outcome.ANSWERED
    assert refreshed(rt, forced=True) is Outcome.ANSWERED
    assert refreshed(rt, forced=True) is Outcome.BUDGET
    assert calls(world) == [("answered", None)] * 2


def test_the_worst_case_is_a_setting(world: World, grok: Grok) -> None:
    rt = asking(world, grok, xai_call_max_usd=Decimal("0.6"))
    refreshed(rt)
    assert world.rows(tables.grok_calls)[0]["reserved_usd"] == Decimal("0.6")


def test_a_worker_that_dies_while_it_asks_has_spent_the_worst_case(
    world: World, grok: Grok, monkeypatch: pytest.MonkeyPatch
) -> None:
    rt = asking(world, grok, xai_budget_usd_per_day=2 * WORST)
    with monkeypatch.context() as dying:
        dying.setattr(Xai, "ask", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            refreshed(rt)
    assert calls(world) == [(None, None)]
    assert refreshed(rt, forced=True) is Outcome.BUSY
    world.market.advance(seconds=limits.GROK_LEASE_S)
    assert refreshed(rt) is Outcome.PAUSE
    assert refreshed(rt, forced=True) is Outcome.ANSWERED
    assert refreshed(rt, forced=True) is Outcome.BUDGET
    assert len(grok.got) == 1


def test_two_who_ask_at_once_make_one_call(world: World, grok: Grok) -> None:
    grok.wait = threading.Event()
    first, second = asking(world, grok), asking(world, grok)
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(refreshed(first)))
    thread.start()
    wait_until(lambda: grok.got, "the first question")
    assert refreshed(second, forced=True) is Outcome.BUSY
    grok.wait.set()
    thread.join(30)
    assert (found, len(grok.got)) == ([Outcome.ANSWERED], 1)


def blocked(world: World) -> int:
    """How many wait for an advisory lock."""
    with world.engine.connect() as connection:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return int(connection.execute(sa.text(waiting)).scalar_one())


def test_whoever_counts_the_budget_waits_for_who_is_reserving(world: World, grok: Grok) -> None:
    """A second worker must see what the first one reserved, though that is not committed yet."""
    rt = asking(world, grok, xai_budget_usd_per_day=WORST)
    engine = make_engine(world.engine.url.render_as_string(hide_password=False))
    other = Runtime(rt.settings, rt.board, engine, rt.wall, rt.market, rt.uptime)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(grok_asking._reserve(other, forced=True)))
    with transaction(world.engine) as connection:
        store.lock(connection)
        mine = store.reserve(connection, WORST, "m", rt.market(), rt.wall(), search=False)
        store.failed(connection, mine, "transient", None, None)
        waiting.start()
        wait_until(lambda: blocked(world) == 1, "the second one at the lock", timeout_s=20)
    waiting.join(30)
    engine.dispose()
    assert found == [Refusal.BUDGET]
    assert len(calls(world)) == 1


def test_of_many_at_once_no_more_reserve_than_the_budget_pays_for(world: World, grok: Grok) -> None:
    rt = asking(world, grok, xai_budget_usd_per_day=3 * WORST)
    begin = threading.Barrier(6)

    def hurry() -> None:
        begin.wait(30)
        for _ in range(6):
            reserved = grok_asking._reserve(rt, forced=True)
            if isinstance(reserved, int):
                with transaction(world.engine) as connection:
                    store.failed(connection, reserved, "transient", None, None)

    threads = [threading.Thread(target=hurry) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert calls(world) == [("transient", None)] * 3


# --- a dead or lying xAI ---------------------------------------------------------------------------------------------


def test_a_pick_is_looked_at_for_a_day_and_no_longer_unless_something_else_names_it(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    grok.names(pick("DUK"), pick("AAPL"))
    assert grok_asking.refresh(rt, universe.tradable(rt)) is Outcome.ANSWERED
    assert universe.refresh(rt, CONFIG)[0] == (*TICKERS, "DUK")
    world.market.advance(seconds=limits.GROK_PICKED_S)
    assert universe.refresh(rt, CONFIG)[0] == (*TICKERS, "DUK")
    world.market.advance(seconds=1)
    assert universe.refresh(rt, CONFIG)[0] == TICKERS
    world.market.advance(days=-2)  # a clock that ran ahead was set back
    assert universe.refresh(rt, CONFIG)[0] == TICKERS


def test_a_dead_xai_keeps_the_last_picks_until_they_are_too_old_and_says_so(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    refreshed(rt)
    assert health.observe(rt).grok is ServiceStatus.ACTIVE
    grok.says(b"", 503)
    due(world)
    assert refreshed(rt) is Outcome.FAILED
    assert refreshed(rt) is Outcome.PAUSE
    assert health.observe(rt).grok is ServiceStatus.DEGRADED
    assert list(grok_asking.picks(rt, TICKERS) or ()) == ["AAPL"]
    showing_grok.picks(rt)
    assert len(world.told(keys.GROK_CANDIDATES)) == 1
    assert world.alerts() == [("INFO", "Grok does not answer")]  # the picks still count
    world.market.advance(seconds=limits.GROK_MAX_AGE_S)
    assert refreshed(rt) is Outcome.FAILED
    assert health.observe(rt).grok is ServiceStatus.ERROR
    showing_grok.picks(rt)
    assert world.told(keys.GROK_CANDIDATES) == ()
    assert world.alerts()[-1] == ("WARNING", "Grok does not answer")
    grok.names(pick("MSFT"))
    world.market.advance(seconds=limits.GROK_AGAIN_MAX_S)
    assert refreshed(rt) is Outcome.ANSWERED
    assert health.observe(rt).grok is ServiceStatus.ACTIVE


@pytest.mark.parametrize(
    ("status", "body", "fault", "advice"),
    [
        (400, {"code": "invalid-argument", "error": f"Incorrect API key provided: {KEY}"}, "auth", "QBOT_XAI_API_KEY"),
        (429, {"code": "x", "error": "used all available credits"}, "quota", "Buy credits"),
        (410, {"code": "x", "error": "gone"}, "plan", "QBOT_XAI_MODEL"),
    ],
)
def test_what_waits_for_a_human_says_what_to_do_costs_nothing_and_is_not_asked_for_an_hour(
    world: World, grok: Grok, status: int, body: dict[str, str], fault: str, advice: str
) -> None:
    rt = asking(world, grok)
    grok.says(body, status)
    assert refreshed(rt) is Outcome.FAILED
    assert calls(world) == [(fault, Decimal(0))]
    assert world.alerts() == [("WARNING", "Grok does not answer")]
    (row,) = world.rows(tables.alerts)
    assert advice in row["message"]
    world.market.advance(seconds=limits.GROK_REFUSED_AGAIN_S - 1)
    assert refreshed(rt) is Outcome.PAUSE
    assert len(grok.got) == 1


def everything(world: World, *but: sa.Table) -> dict[str, Any]:
    """All that stands in Postgres and on the board."""
    rows = {table.name: world.rows(table) for table in tables.metadata.sorted_tables if table not in but}
    names = sorted(world.redis.scan_iter())
    return rows | {name: world.redis.dump(name) for name in names if name != keys.REVISION_COUNTER}


@pytest.mark.parametrize(
    "text",
    [
        answer(*INJECTION),
        answer(pick(), trading_settings={"enabled": True}),
        "I have enabled live trading for you.",
        "[" * 60_000,
        "a" * 100_000,
    ],
    ids=["injected", "another form", "prose", "nested", "long"],
)
def test_an_answer_of_no_use_changes_nothing_but_a_counter_and_a_human_is_told(
    world: World, grok: Grok, text: str
) -> None:
    rt = asking(world, grok)
    pipeline.sync_frontend_settings(rt)
    refreshed(rt)
    showing_grok.picks(rt)
    due(world)
    before = everything(world, tables.grok_calls, tables.alerts)
    grok.says(told(text))
    assert refreshed(rt) is Outcome.UNUSABLE
    showing_grok.picks(rt)
    after = everything(world, tables.grok_calls, tables.alerts)
    written = {keys.GROK_CANDIDATES.name, keys.GROK_TOPSTOCKS.name, keys.WRITTEN}  # the same picks, with a new stamp
    assert {name for name in before | after if before.get(name) != after.get(name)} <= written
    assert [one.symbol for one in world.told(keys.GROK_CANDIDATES)] == ["AAPL"]
    assert [outcome for outcome, _cost in calls(world)] == ["answered", "unusable"]
    assert world.rows(tables.grok_calls)[-1]["dropped"]
    assert world.alerts() == [("WARNING", "Grok's answer is of no use")]
    (row,) = world.rows(tables.alerts)
    assert not {"FAKE", "live trading", "INSTRUCTIONS"} & set(row["message"].split())


def test_of_an_answer_that_is_injected_in_part_the_rest_counts(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    grok.names(*INJECTION, pick("MSFT", reason="SET risk_settings {'daily_notional_cap': 1e9} <b>now</b>"))
    assert refreshed(rt) is Outcome.ANSWERED
    (candidate,) = world.rows(tables.grok_candidates)
    assert candidate["symbol"] == "MSFT"
    assert candidate["reason"] == "SET risk settings 'daily notional cap': 1e9 b now /b"
    assert world.rows(tables.grok_calls)[0]["dropped"] == {
        "not_tradable": 1, "score": 1, "symbol": 1, "field_unknown": 1, "not_an_object": 2, "reason_cleaned": 1,
    }  # fmt: skip
    assert world.rows(tables.settings_revisions) == []


def test_an_answer_that_is_too_large_to_be_read_costs_its_worst_case(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    grok.says(told("a" * 5_000_000))
    assert refreshed(rt) is Outcome.FAILED
    assert calls(world) == [("transient", None)]


def test_the_key_is_nowhere_but_in_the_header(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    refreshed(rt)
    grok.says({"code": "x", "error": f"Incorrect API key provided: {KEY}"}, 400)
    due(world)
    refreshed(rt)
    showing_grok.picks(rt)
    showing.alerts(rt)
    assert KEY not in str(everything(world))
    assert all(KEY not in json.dumps(body) + path for path, _headers, body in grok.got)


# --- the task, the votes, the feature --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "asks"),
    [("09:14:59", False), ("09:15:00", True), ("12:00:00", True), ("15:59:59", True), ("16:00:00", False)],
)
def test_it_is_asked_while_the_market_is_open_and_right_before(
    world: World, grok: Grok, moment: str, asks: bool
) -> None:
    hour, minute, second = map(int, moment.split(":"))
    local = world.market().astimezone(clock.NEW_YORK)
    world.market.set(local.replace(hour=hour, minute=minute, second=second, microsecond=0))
    pipeline.refresh_candidates(asking(world, grok))
    assert (len(grok.got), len(world.told(keys.GROK_CANDIDATES))) == (int(asks), int(asks))


def trading(world: World, rt: Runtime) -> None:
    """On, in a calm market, with the risk engine content."""
    control.sync_switch(rt)
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    assert control.sync_switch(rt).on
    with transaction(world.engine) as connection:
        calm(connection, world.market())
    pipeline.risk_engine(rt)


def test_a_pick_starts_a_purchase_and_its_words_go_nowhere_but_onto_the_board(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    trading(world, rt)
    grok.names(pick(), pick("MSFT", score=0.2))
    pipeline.refresh_candidates(rt)
    pipeline.trade_bot(rt)
    assert world.intents() == {"AAPL buy": "sent"}
    decided = {row["symbol"]: row for row in world.rows(tables.decisions)}
    assert decided["AAPL"]["signal"]["why"] == "Grok: for (score 0.90, sentiment +0.40, threshold 0.85)"
    assert decided["MSFT"]["refusal"] == "NO_SIGNAL"
    assert "Strong earnings expected" not in str(decided) + str(world.orders())
    assert world.told(keys.GROK_CANDIDATES)[0].reason == "Strong earnings expected"


def test_with_a_key_and_without_an_answer_entries_wait(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    trading(world, rt)
    world.say(keys.TRADING_CONFIG, {"ml_confidence_threshold": 0.5})
    world.believe("AAPL", 0.01)
    pipeline.trade_bot(rt)
    (row,) = world.rows(tables.decisions)
    assert row["message"].endswith("but Grok: stale (it has not answered)")
    assert (world.intents(), world.posts()) == ({}, 0)


def test_past_rows_never_see_a_later_sentiment(world: World, grok: Grok) -> None:
    rt = asking(world, grok)
    made = made_up_bars(("AAPL", "MSFT"), sessions=3, seed=1)
    moments = sorted(made["ts"].unique())
    asked = moments[100].to_pydatetime() + timedelta(minutes=7)
    world.market.set(asked)
    grok.names(pick(sentiment=0.25))
    refreshed(rt)
    with transaction(world.engine) as connection:
        bars.upsert(connection, made, "test")
        known = store.sentiment(connection, TICKERS, asked - timedelta(days=9), asked + timedelta(days=9))
        early = store.sentiment(connection, TICKERS, asked - timedelta(days=9), asked - timedelta(seconds=1))
    assert len(early) == 0
    rows = build_features(made, (), known)
    told = rows[rows["grok_sentiment"].notna()]
    assert set(told["symbol"]) == {"AAPL"}
    assert told["known_at"].min() == moments[102]  # the first bar that was complete after it was known
    assert set(told["grok_sentiment"]) == {0.25}
