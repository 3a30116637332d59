"""`qbot account` and `qbot explain` at a terminal, on a QBot of a test's own."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from qbot import cli_account, cli_explain, limits
from qbot.cli import app
from qbot.console.installation import Installation
from qbot.errors import StoreUnavailable
from qbot.session import Switch
from qbot.store import state, tables
from qbot.store.engine import transaction
from tests.support.runtime import WALL, World
from tests.test_account import book, switch_account


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """The commands find the QBot of the test."""
    found = Installation("QBot of a test", world.rt.settings, None, None)
    for module in (cli_account, cli_explain):
        monkeypatch.setattr(module.installation, "choose", lambda _demo: found)
        monkeypatch.setattr(module, "settings_of", lambda _found: world.rt.settings)
        monkeypatch.setattr(module, "runtime_of", lambda *_: world.rt)
        monkeypatch.setattr(module, "quiet", lambda: None)
    return world


def run(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, [*words], input=answer)


def test_an_account_that_agrees_is_shown_with_its_shares_and_cash(here: World) -> None:
    here.buy("AAPL", 2)
    book(here, "FEE", activity_sub_type="TAF", net_amount="-0.02")
    here.reconcile()
    done = run("account")
    assert done.exit_code == 0, done.output
    for part in ("PA0QBOT0PAPER, paper", "AAPL", "they agree", "Fees     2025-07-07 0.02 USD", "FEE TAF"):
        assert part in done.output
    assert "differs" not in done.output


def test_an_account_nobody_has_seen_yet_is_shown_and_nothing_is_written(here: World) -> None:
    done = run("account")
    assert "has seen no account yet" in done.output
    assert "No shares are held" in done.output
    assert "does not reckon it yet" in done.output
    assert here.rows(tables.broker_accounts) == []


def test_a_difference_is_shown_with_the_way_out_and_the_exit_status_tells(here: World) -> None:
    here.reconcile()
    book(here, "SPLIT", symbol="AAPL", qty="3")
    assert here.exchange.venue is not None
    here.exchange.venue.book.ledger.cash_usd -= 5
    done = run("account")
    assert done.exit_code == 1
    for part in ("differs", "differ by -5.00 USD", "`qbot account adopt`", "SPLIT AAPL  0.00 USD, 3 shares"):
        assert part in done.output


def test_what_would_be_written_is_shown_and_only_a_yes_writes_it(here: World) -> None:
    here.reconcile()
    book(here, "JNLS", symbol="AAPL", qty="3")
    refused = run("account", "adopt", "--reason", "a transfer", answer="n\n")
    assert refused.exit_code == 1
    assert "differs" in refused.output
    assert here.rows(tables.adjustments) == []
    done = run("account", "adopt", "--reason", "a transfer", answer="y\n")
    assert (done.exit_code, "Taken over (opening" in done.output) == (0, True)
    (row,) = here.rows(tables.adjustments)
    assert (row["symbol"], row["qty"], row["reason"]) == ("AAPL", 3, "a transfer")
    assert here.reconcile().reconciled
    assert "There is nothing to take over" in run("account", "adopt", "--reason", "again").output
    assert len(here.rows(tables.broker_accounts)) == 2
    assert run("account", "adopt", "--reason", "again", "--anyway", "--yes").exit_code == 0
    assert len(here.rows(tables.broker_accounts)) == 3


def test_while_trading_is_on_it_is_refused_in_a_sentence(here: World) -> None:
    here.reconcile()
    book(here, "JNLS", symbol="AAPL", qty="3")
    with transaction(here.engine) as connection:
        state.save_switch(connection, Switch(on=True, reason="a test"), (), WALL)
    done = run("account", "adopt", "--reason", "a transfer", "--yes")
    assert "trading is on" in str(done.exception)
    assert here.rows(tables.adjustments) == []


def test_another_account_is_shown_beside_the_ledgers(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here.send(here.commit(here.entry("AAPL", 1)))
    here.reconcile()
    here.place.renew()
    switch_account(monkeypatch, number="9123")
    done = run("account")
    assert done.exit_code == 1
    said = " ".join(done.output.split())
    assert "ACCOUNT_CHANGED: the ledger is of account PA0QBOT0PAPER" in said
    assert "live, not paper: were the keys swapped?" in said
    assert "orders that the ledger holds open are not known to the broker" in said


def test_an_order_is_explained_for_humans_and_for_machines(here: World) -> None:
    here.buy("AAPL", 2)
    done = run("explain", "qbot-c1-AAPL-buy")
    assert done.exit_code == 2  # the made-up signal of this order has no forecast behind it
    assert "order to buy 2 AAPL: filled" in done.output
    assert "MISSING" in done.output
    body: dict[str, Any] = json.loads(run("explain", "qbot-c1-AAPL-buy", "--json").output)
    assert body["order"]["symbol"] == "AAPL"
    assert "forecast" in body["missing"]


def test_a_postgres_that_is_frozen_is_told_within_seconds(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        values = here.rt.settings.model_copy(update={"postgres_port": frozen.getsockname()[1]})
        monkeypatch.setattr(cli_explain, "settings_of", lambda _found: values)
        monkeypatch.setattr(limits, "STOP_PROBE_S", 0.2)
        done = run("explain", "nothing")
    assert isinstance(done.exception, StoreUnavailable)
    assert "no answer within 0 s" in str(done.exception)


def test_an_order_made_elsewhere_is_explained_in_full(here: World) -> None:
    placed = here.by_hand(symbol="MSFT", side="buy", qty="1")
    here.reconcile()
    assert run("explain", placed["id"]).exit_code == 0


def test_an_id_that_nobody_knows_is_said_to_be_unknown(here: World) -> None:
    done = run("explain", "nothing")
    assert (done.exit_code, "Nothing with the id nothing is recorded" in done.stderr) == (1, True)
