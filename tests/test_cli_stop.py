"""`qbot stop` as a human runs it: with everything there, and with nothing there but the broker."""

from __future__ import annotations

from decimal import Decimal

import pytest
from typer.testing import Result

from qbot.contract import keys
from qbot.store import state, tables
from qbot.store.engine import transaction
from tests.support import commands
from tests.support.runtime import World, limit_entry

DEAD = {"QBOT_POSTGRES_PORT": "1", "QBOT_REDIS_PORT": "1"}


def run(world: World, *arguments: str, typed: str = "", **environment: str) -> Result:
    return commands.run(world, "stop", "--main", *arguments, typed=typed, **environment)


def latched(world: World) -> bool:
    with transaction(world.engine) as connection:
        return state.load_switch(connection).latched


@pytest.fixture
def holding(world: World) -> World:
    """A protected position, and an entry by a cycle at rest."""
    world.buy("SPY", 2)
    world.send(world.commit(limit_entry(world, "AAPL"), cycle_id="c2"))
    return world


def test_in_a_process_of_its_own_a_stop_latches_cancels_entries_and_leaves_protection(holding: World) -> None:
    done = commands.run_alone(holding, "stop", "--main", "--yes")
    assert done.returncode == 0, done.stderr
    assert latched(holding)
    assert [(order["symbol"], order["side"]) for order in holding.resting()] == [("SPY", "sell")] * 2
    assert "SPY" in done.stderr and "2 sell" in done.stderr


def test_close_all_sells_everything_by_recorded_orders(holding: World) -> None:
    done = run(holding, "--close-all", "--yes")
    assert done.exit_code == 0, done.stderr
    assert (holding.positions(), holding.resting(), latched(holding)) == ({}, [], True)
    assert "no position and no open order" in done.stderr
    assert [row["symbol"] for row in holding.rows(tables.intents) if row["source"] == "emergency"] == ["SPY"]
    assert holding.reconcile().drift == {}


def test_close_all_needs_nothing_but_the_broker_and_says_who_does_not_know(holding: World) -> None:
    done = run(holding, "--close-all", "--yes", **DEAD)
    assert (holding.positions(), holding.resting()) == ({}, [])
    assert done.exit_code == 1
    assert "Neither Postgres nor Redis knows" in done.stderr
    reached = [line.split()[0] for line in done.stderr.splitlines() if "left out" in line or "cannot be used" in line]
    assert reached == ["Postgres", "Redis"]  # each is named once
    assert holding.reconcile().drift == {}


def test_broker_only_asks_nobody_else(holding: World) -> None:
    done = run(holding, "--close-all", "--yes", "--broker-only")
    assert (holding.positions(), holding.resting(), latched(holding)) == ({}, [], False)
    assert (done.exit_code, done.stderr.count("not asked: left out")) == (1, 2)


def test_without_postgres_the_board_tells_of_the_stop(holding: World) -> None:
    done = run(holding, "--yes", QBOT_POSTGRES_PORT="1")
    assert done.exit_code == 0, done.stderr
    assert [order["side"] for order in holding.resting()] == ["sell"] * 2
    assert holding.told(keys.RISK_SETTINGS).emergency_stop_active is True


def test_cancel_all_takes_protection_too_and_does_not_stop(holding: World) -> None:
    done = run(holding, "--cancel-all", "--yes")
    assert done.exit_code == 0, done.stderr
    assert (holding.resting(), holding.positions(), latched(holding)) == ([], {"SPY": Decimal(2)}, False)


def test_it_asks_first_and_no_means_no(holding: World) -> None:
    before = holding.resting()
    done = run(holding, "--close-all", typed="n\n")
    assert done.exit_code == 1
    assert "SELL EVERYTHING" in done.stderr
    assert (holding.resting(), holding.positions(), latched(holding)) == (before, {"SPY": Decimal(2)}, False)


def test_what_remains_is_told_with_exit_status_1(holding: World) -> None:
    holding.exchange.fault("server_error", method="GET", path="/v2/positions", times=1)
    done = run(holding, "--close-all", "--yes")
    assert done.exit_code == 1
    assert "not done" in done.stderr and "SPY" in done.stderr
    assert holding.positions() == {"SPY": Decimal(2)}
    assert latched(holding)


def test_without_keys_it_says_so(world: World) -> None:
    done = commands.run_alone(world, "stop", "--main", "--yes", QBOT_ALPACA_API_KEY="", QBOT_ALPACA_SECRET_KEY="")
    assert (done.returncode, "no keys of a broker are set" in done.stderr) == (1, True)
