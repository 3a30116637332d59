"""Circuit breakers on a whole QBot: they trip, hold, let exits go on, and only a human's resume releases them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.dialects.postgresql import insert
from typer.testing import Result

from qbot import control, limits, pipeline, reconciliation, risk_watch
from qbot.contract import keys
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.errors import BrokerError
from qbot.runtime import Runtime
from qbot.store import bars, models, state, tables
from qbot.store import risk as store
from qbot.store.engine import transaction
from qbot.types import Source
from tests.support import commands
from tests.support.runtime import CONFIG, SESSION, World, calm, limit_entry

UNBOUND = replace(CONFIG, max_position_per_trade=9_999, max_position_size=9_999)


def trading(world: World) -> World:
    """On, in a calm market, with a position and its protection, and an entry at rest."""
    control.sync_switch(world.rt)
    world.say(keys.TRADING_CONFIG, {"ml_confidence_threshold": 0.5, "max_position_size": 10})
    start(world, 0)
    world.buy("SPY", 2, cycle_id="c0")
    world.send(world.commit(limit_entry(world, "AAPL"), cycle_id="c1"))
    world.believe("SPY", 0.0)
    return world


def start(world: World, second: int) -> bool:
    world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "timestamp": f"2025-09-26T13:15:{second:02d}Z"})
    return control.sync_switch(world.rt).on


def minutes(world: World, *cash: str) -> None:
    """A minute each: the account has so much cash then, QBot reads it, and the risk engine looks."""
    venue = world.exchange.venue
    assert venue is not None
    for usd in cash:
        venue.book.ledger.cash_usd = Decimal(usd)
        minute(world)


def minute(world: World, rt: Runtime | None = None) -> None:
    world.market.advance(minutes=1)
    world.wall.advance(minutes=1)
    with transaction(world.engine) as connection:
        calm(connection, world.market())
    world.reconcile(rt)
    pipeline.risk_engine(rt or world.rt)


def read(world: World, *usd: int) -> None:
    """As `minutes`, but for readings that are there already, and one look at the end."""
    with transaction(world.engine) as connection:
        for value in usd:
            world.market.advance(minutes=1)
            world.wall.advance(minutes=1)
            row = {"at": world.market(), "equity_usd": value, "cash_usd": value}
            connection.execute(insert(tables.equity).values(**row).on_conflict_do_nothing())
        calm(connection, world.market())
    pipeline.risk_engine(world.rt)


def crash(world: World) -> World:
    """The equity falls by a fifth, and two minutes confirm it."""
    read(world, 100_000, 100_000, 100_000, 80_000, 80_000)
    return world


def switch(world: World) -> Any:
    with transaction(world.engine) as connection:
        return state.load_switch(connection)


def tripped(world: World) -> list[str]:
    return [row["name"] for row in world.rows(tables.breakers) if row["resumed_at"] is None]


# --- tripping ---------------------------------------------------------------------------------------------------------


def test_a_crash_trips_latches_cancels_entries_and_leaves_protection(world: World) -> None:
    crash(trading(world))
    assert sorted(tripped(world)) == ["drawdown", "rolling_loss"]
    now = switch(world)
    assert (now.on, now.latched, now.breaker, now.reducing) == (False, True, True, True)
    assert [(order["symbol"], order["side"]) for order in world.resting()] == [("SPY", "sell")] * 2
    assert {title for severity, title in world.alerts() if severity == "CRITICAL"} == {
        "Circuit breaker: drawdown", "Circuit breaker: rolling_loss",
    }  # fmt: skip
    assert all("qbot resume" in row["message"] for row in world.rows(tables.alerts) if row["severity"] == "CRITICAL")


def test_a_crash_is_shown_on_the_board_and_logged_with_its_numbers(world: World) -> None:
    crash(trading(world))
    pipeline.monitor_autotrading_frontend(world.rt)
    assert world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.STOPPED
    assert "circuit breaker: drawdown, rolling_loss" in world.told(keys.TRADING_STATUS).stop_reason
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is True
    shown = world.told(keys.RISK_STATUS)
    assert (shown.risk_factor, shown.breakers) == (0, ("drawdown", "rolling_loss"))
    assert shown.drawdown_pct == pytest.approx(0.2, abs=0.01)
    last = world.rows(tables.risk_log)[-1]
    assert (last["risk_factor"], last["tripped"]) == (0, ["drawdown", "rolling_loss"])
    assert float(last["numbers"]["breaker_drawdown"]) == pytest.approx(0.2, abs=0.01)


def test_one_bad_reading_trips_nothing_and_costs_nothing(world: World) -> None:
    minutes(trading(world), "100000", "100000", "100000", "20000", "100000", "100000", "300000", "100000", "100000")
    assert (tripped(world), switch(world).on) == ([], True)
    assert {row["risk_factor"] for row in world.rows(tables.risk_log)[-1:]} == {1}


def test_an_equity_that_cash_and_positions_contradict_is_told_and_is_no_loss(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(trading(world), 100_000, 100_000, 100_000)
    readings = len(world.rows(tables.equity))
    rt = world.another()
    rt.__dict__["broker"] = Misreading(rt.broker)
    for _ in range(3):
        minute(world, rt)
    pipeline.reconcile_orders(rt)
    assert (tripped(world), len(world.rows(tables.equity))) == ([], readings)
    assert ("WARNING", "The equity told by the broker is doubted") in world.alerts()
    world.market.advance(minutes=15)
    minute(world, rt)
    assert "equity_unknown" in world.told(keys.RISK_STATUS).risk_reasons
    assert risk_watch.report(rt, world.market()) is None


class Misreading:
    """A broker that tells a tenth of the equity, with all its cash and positions."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def account(self) -> Any:
        told = self._broker.account()
        return replace(told, equity_usd=told.equity_usd / 10)


def test_losses_do_not_begin_anew_at_midnight(world: World) -> None:
    read(trading(world), 100_000, 100_000, 100_000, 94_000, 94_000, 94_000)
    assert tripped(world) == []  # 6 %
    world.market.advance(days=1)
    world.wall.advance(days=1)
    read(world, 89_000, 89_000, 89_000)
    assert tripped(world) == ["rolling_loss"]  # 11 % in two days, 5 % in each


def test_what_changes_is_published_in_the_documented_format_and_only_then(world: World) -> None:
    heard = world.redis.pubsub(ignore_subscribe_messages=True)
    heard.subscribe(keys.RISK_UPDATES.name)
    heard.get_message(timeout=1)
    crash(trading(world))
    messages = []
    while (message := heard.get_message(timeout=0.2)) is not None:
        messages.append(json.loads(message["data"]))
    heard.close()
    assert all(set(message) == {"risk_factor", "reasons", "timestamp"} for message in messages)
    assert len(messages) == len(world.rows(tables.risk_log)) == len({json.dumps(m["reasons"]) for m in messages})
    assert (messages[-1]["risk_factor"], messages[-1]["reasons"][:2]) == (
        0,
        ["breaker_drawdown", "breaker_rolling_loss"],
    )


def test_drift_has_to_last_a_quarter_of_an_hour_and_to_be_seen_all_the_while(world: World) -> None:
    trading(world)
    with transaction(world.engine) as connection:
        connection.execute(tables.fills.delete())
        fill = {"execution_id": "x", "broker_order_id": "x", "symbol": "MSFT", "side": "buy", "qty": 5, "price_usd": 1}
        connection.execute(tables.fills.insert().values(**fill, at=world.market()))
    unseen(world, 10)
    world.wall.advance(seconds=limits.UNWATCHED_S)  # nobody looked: it begins anew
    world.market.advance(seconds=limits.UNWATCHED_S)
    unseen(world, 18)
    assert tripped(world) == []
    unseen(world, 5)
    assert tripped(world) == ["ledger_drift"]


def test_old_data_in_an_open_market_trip_only_after_half_an_hour(world: World) -> None:
    trading(world)
    fresh = int(limits.BAR_MAX_AGE_S / 60) - 10  # the newest bar began five to ten minutes ago
    unseen(world, fresh + int(limits.DATA_GAP_MINUTES_MAX))
    assert tripped(world) == []
    unseen(world, 9)
    assert tripped(world) == ["data_gap"]


def unseen(world: World, count: int) -> None:
    """So many minutes without new bars or readings; the engine looks every four minutes and at the end."""
    for begin in range(0, count, 4):
        step = min(4, count - begin)
        world.market.advance(minutes=step)
        world.wall.advance(minutes=step)
        pipeline.risk_engine(world.rt)


def test_in_a_replay_that_runs_fast_nothing_that_lasts_trips_within_minutes_on_the_wall(world: World) -> None:
    trading(world)
    for _ in range(4):
        world.market.advance(minutes=30)
        world.wall.advance(seconds=60)
        pipeline.risk_engine(world.rt)
    assert "data_gap" not in tripped(world)


@pytest.mark.parametrize(
    "broken", ["four", "five", "one taken in between", "five too fast", "five by hand", "a human's taken in between"]
)
def test_only_orders_that_the_venue_rejects_one_after_another_trip(world: World, broken: str) -> None:
    trading(world)
    for number in range(5 if broken != "four" else 4):
        world.market.advance(seconds=1)  # of two at one moment nobody can tell which came last
        if "taken in between" in broken and number == 3:
            whose = Source.MANUAL if "human" in broken else Source.ML
            world.send(world.commit(limit_entry(world, "MSFT", source=whose), cycle_id="taken"))
            taken = next(order for order in world.resting("buy") if order["symbol"] == "MSFT")
            world.exchange.call("DELETE", f"/v2/orders/{taken['id']}")
            world.reconcile()
        if broken == "five too fast":
            world.exchange.fault("rate_limited", method="POST", path="/v2/orders", times=1)
        source = Source.MANUAL if broken == "five by hand" else Source.ML
        huge = replace(world.entry("MSFT", 2_000), price_usd=Decimal(1), source=source)
        world.send(world.commit(huge, config=UNBOUND, cycle_id=f"m{number}"))
    minute(world)
    assert [row["status"] for row in world.rows(tables.intents)].count("rejected") == (4 if broken == "four" else 5)
    trips = broken in ("five", "a human's taken in between")
    assert tripped(world) == (["rejected_orders"] if trips else [])


@pytest.mark.parametrize(("lost", "trips"), [(11, False), (12, True)])
def test_trades_that_lose_one_after_another_trip_each_counted_once_however_it_filled(
    world: World, lost: int, trips: bool
) -> None:
    trading(world)
    at = world.market()
    with transaction(world.engine) as connection:
        for number in range(lost + 1):
            for part in range(2):  # the first trade won; of each loss one part won a little
                pnl = 1 if number == 0 else (0.1, -1)[part]
                connection.execute(tables.trades.insert().values(
                    entry_id=f"e{number}-{part}", exit_id=f"x{number}-{part}", entry_order_id=f"e{number}",
                    exit_order_id=f"x{number}", symbol="MSFT", side="buy", qty=1, entry_price_usd=1, exit_price_usd=1,
                    fees_usd=0, pnl_usd=pnl, opened_at=at, closed_at=at + timedelta(seconds=number)))  # fmt: skip
    minute(world)
    assert tripped(world) == (["losing_trades"] if trips else [])


# --- what goes on, and what does not ----------------------------------------------------------------------------------


def test_after_a_breaker_no_entry_is_sent_and_the_exits_of_the_cycles_go_on(world: World) -> None:
    crash(trading(world))
    posts = world.posts()
    world.believe("AAPL", 0.02)
    world.believe("SPY", -0.02)
    pipeline.trade_bot(world.rt)
    pipeline.reconcile_orders(world.rt)
    assert world.positions() == {}  # SPY is sold
    assert world.posts() == posts + 1
    refused = {row["symbol"]: row["refusal"] for row in world.rows(tables.decisions) if not row["allowed"]}
    assert refused["AAPL"] == "BREAKER_TRIPPED"
    order = {"order_id": "m1", "symbol": "AAPL", "side": "BUY", "order_type": "MARKET", "quantity": 1}
    world.say(keys.MANUAL_ORDERS, [{**order, "status": "PENDING"}])
    pipeline.process_manual_orders(world.rt)
    assert world.posts() == posts + 1
    (answer,) = world.told(keys.MANUAL_ORDERS)
    assert answer.status == "REJECTED" and "BREAKER_TRIPPED" in answer.status_reason


def test_a_humans_stop_ends_the_exits_that_a_breaker_let_go_on(world: World) -> None:
    crash(trading(world))
    world.redis.delete(keys.AUTOTRADING_ENABLED.name)
    pipeline.emergency_handler(world.rt)
    now = switch(world)
    assert (now.breaker, now.latched, now.reducing) == (True, True, False)
    posts = world.posts()
    world.believe("SPY", -0.02)
    pipeline.trade_bot(world.rt)
    assert world.posts() == posts


def test_an_emergency_on_top_of_a_breaker_ends_the_exits_too(world: World) -> None:
    crash(trading(world))
    action = {"action": "STOP_ALL_TRADING", "confirmed": True, "session_id": "f", "timestamp": world.wall().isoformat()}
    world.say(keys.EMERGENCY_ACTIONS, action)
    pipeline.emergency_handler(world.rt)
    now = switch(world)
    assert (now.breaker, now.latched, now.reducing) == (True, True, False)


def test_a_breaker_that_trips_while_trading_is_off_latches_and_sells_nothing(world: World) -> None:
    control.sync_switch(world.rt)
    crash(world)
    now = switch(world)
    assert (now.latched, now.breaker, now.reducing) == (True, True, False)


# --- who releases it --------------------------------------------------------------------------------------------------


def test_no_frontend_releases_a_breaker_and_the_board_goes_back_to_true(world: World) -> None:
    crash(trading(world))
    for value in (False, False):
        body = json.loads(world.redis.get(keys.RISK_SETTINGS.name) or "{}")
        world.say(keys.RISK_SETTINGS, {**body, "emergency_stop_active": value, "cooldown_minutes": 31})
        control.sync_switch(world.rt)
        assert (switch(world).latched, switch(world).breaker) == (True, True)
        assert world.told(keys.RISK_SETTINGS).emergency_stop_active is True
    assert start(world, 1) is False
    assert "qbot resume" in switch(world).reason


@pytest.mark.parametrize("how", ["flushall", "restart", "both"])
def test_a_breaker_survives_flushall_and_restart(world: World, how: str) -> None:
    crash(trading(world))
    if how != "restart":
        world.redis.flushall()
    rt = world.rt if how == "flushall" else world.another()
    pipeline.monitor_autotrading_frontend(rt)
    start(world, 2)
    pipeline.risk_engine(rt)
    now = switch(world)
    assert (now.on, now.latched, now.breaker) == (False, True, True)
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is True
    assert world.told(keys.RISK_STATUS).breakers == ("drawdown", "rolling_loss")
    assert risk_watch.report(rt, world.market()).tripped == ("drawdown", "rolling_loss")  # type: ignore[union-attr]


def test_a_crash_between_the_record_and_the_latch_is_made_up_for_by_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(rt: Runtime, reason: str) -> bool:
        raise SystemExit("killed")

    read(trading(world), 100_000, 100_000, 100_000, 80_000)
    with monkeypatch.context() as once:
        once.setattr(control, "break_off", dies)
        with pytest.raises(SystemExit):
            read(world, 80_000)
    assert (sorted(tripped(world)), switch(world).latched) == (["drawdown", "rolling_loss"], False)
    report = risk_watch.report(world.rt, world.market())
    assert report is not None and report.tripped == ("drawdown", "rolling_loss")  # the gate knows already
    pipeline.risk_engine(world.another())
    assert switch(world).breaker is True
    assert len(world.rows(tables.breakers)) == 2


def test_entries_that_cannot_be_cancelled_are_told_and_cancelled_later(world: World) -> None:
    read(trading(world), 100_000, 100_000, 100_000, 80_000)
    world.exchange.fault("server_error", method="DELETE")
    read(world, 80_000)
    assert switch(world).breaker is True
    assert ("CRITICAL", "Entries could not be cancelled") in world.alerts()
    world.exchange.clear_faults()
    pipeline.emergency_handler(world.rt)
    assert world.resting("buy") == []


def test_resume_releases_and_counts_losses_from_then_on(world: World) -> None:
    crash(trading(world))
    risk_watch.resume(world.rt, "tester")
    now = switch(world)
    assert (now.on, now.latched, now.breaker, now.reducing) == (False, False, False, False)
    assert {row["resumed_by"] for row in world.rows(tables.breakers)} == {"tester"}
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is False
    read(world, 80_000, 80_000, 80_000, 80_000)
    assert (tripped(world), switch(world).latched) == ([], False)  # the same loss does not trip again
    assert world.told(keys.RISK_STATUS).drawdown_pct == 0
    assert start(world, 3) is True
    read(world, 80_000, 64_000, 64_000)
    assert sorted(tripped(world)) == ["drawdown", "rolling_loss"]  # a new one does


def test_a_start_that_was_asked_for_before_the_resume_starts_nothing_after_it(world: World) -> None:
    """Nobody looked in between: the processes were down, and a human resumes before they are back."""
    crash(trading(world))
    world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "timestamp": "2025-09-26T14:00:00Z", "session_id": "impatient"})
    risk_watch.resume(world.rt, "tester")
    assert (switch(world).on, switch(world).latched) == (False, False)
    assert control.sync_switch(world.rt).on is False
    assert start(world, 4) is True


def test_a_broker_that_is_gone_neither_trips_nor_stops_the_watch(world: World) -> None:
    read(trading(world), 100_000, 100_000, 100_000)
    world.exchange.fault("server_error")
    for _ in range(4):
        world.market.advance(minutes=4)
        world.wall.advance(minutes=4)
        pipeline.risk_engine(world.rt)
    with pytest.raises(BrokerError):
        reconciliation.reconcile(world.rt.desk, world.market())
    assert tripped(world) == []
    assert "equity_unknown" in world.told(keys.RISK_STATUS).risk_reasons


def test_what_is_looked_at_is_what_stands_in_postgres(world: World) -> None:
    now = trading(world).market()
    world.believe("MSFT", 0.01, horizon=15, confidence=0.3)
    world.believe("MSFT", 0.01, horizon=60, confidence=0.5)
    with transaction(world.engine) as connection:
        assert sorted(models.newest_confidences(connection, now - timedelta(hours=1))) == [0.5, 0.9]
        assert models.newest_confidences(connection, now) == []
        newest = bars.last_starts(connection, ["AAPL"])["AAPL"]
        connection.execute(tables.bars.delete().where(tables.bars.c.symbol == "SPY", tables.bars.c.ts >= newest))
        assert bars.fresh(connection, ["AAPL", "SPY"], newest) == {"AAPL"}
        assert bars.fresh(connection, ["AAPL", "SPY"], newest + timedelta(seconds=1)) == set()


# --- the command ------------------------------------------------------------------------------------------------------


def command(world: World, *arguments: str, typed: str = "") -> Result:
    return commands.run(world, "resume", "--main", *arguments, typed=typed)


def test_the_command_shows_what_tripped_asks_and_releases(world: World) -> None:
    crash(trading(world))
    refused = command(world, typed="n\n")
    assert refused.exit_code == 1
    assert "drawdown" in refused.stdout and "peak_usd" in refused.stdout and "limit 0.15" in refused.stdout
    assert (switch(world).breaker, len(tripped(world))) == (True, 2)
    done = command(world, typed="y\n")
    assert done.exit_code == 0, done.output
    assert (switch(world).latched, tripped(world)) == (False, [])
    again = command(world, "--yes")
    assert again.exit_code == 0
    assert "nothing to resume" in " ".join(again.stdout.split()), again.output


def test_the_command_also_releases_an_emergency_stop(world: World) -> None:
    control.sync_switch(world.rt)
    control.latch(world.rt, "a human's stop")
    done = commands.run_alone(world, "resume", "--main", "--yes")
    assert (done.returncode, switch(world).latched) == (0, False)
    assert "a human's stop" in done.stdout


def test_what_was_said_last_can_be_asked_for(world: World) -> None:
    crash(trading(world))
    with transaction(world.engine) as connection:
        last, history = store.last_report(connection), store.history(connection, 2)
    assert last is not None and last.tripped == ("drawdown", "rolling_loss")
    assert [row["tripped"] for row in history][-1] == ["drawdown", "rolling_loss"]
    assert history[-1]["at"] - history[0]["at"] <= timedelta(minutes=6)
