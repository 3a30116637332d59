"""`qbot market plan` at a terminal of 80 columns: whom it would ask, how fresh that is, and plain words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from qbot import cli_market
from qbot.cli import app
from qbot.console.installation import Installation
from qbot.contract.board import client_of
from qbot.market import at_hand
from qbot.market.counting import Counted
from qbot.market.limiting import FOREVER, Gate, Hold
from qbot.market.plans import FINNHUB, TWELVEDATA
from qbot.market.provider import Fault
from qbot.store import sources, tables
from qbot.store.engine import transaction
from tests.support.exchange import MID_SESSION
from tests.support.runtime import World


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """The command finds the QBot of the test, with keys of two sources, at Alpaca."""
    key, none = SecretStr("k"), SecretStr("")
    rt = world.another(
        embedded_exchange=False, alpaca_api_key=none, finnhub_api_key=key, twelvedata_api_key=key, yfinance=False
    )
    values = rt.settings
    monkeypatch.setattr(cli_market.installation, "choose", lambda _demo: Installation("a test", values, None, None))
    monkeypatch.setattr(cli_market, "settings_of", lambda _found: values)
    monkeypatch.setattr(cli_market, "runtime_of", lambda *_: rt)
    monkeypatch.setattr(cli_market, "quiet", lambda: None)
    monkeypatch.setattr(cli_market.console, "width", 80)
    return world


def run(*words: str) -> Result:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["market", "plan", *words])
    assert max(map(len, done.output.splitlines()), default=0) <= 80
    return done


def told(done: Result) -> str:
    """Without the breaks of the lines."""
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_it_shows_who_is_asked_and_how_fresh_prices_are_and_asks_nobody(here: World) -> None:
    said = told(run())
    assert "A pass over 3 tickers, every 5 minutes" in said
    for part in ("finnhub 3 3 prices 60 a minute", "twelvedata 2 3 prices, 3 bars", "800 of 800 left of the day"):
        assert part in said
    assert "3 others every 5 min" in said
    assert here.rows(tables.source_quotas) == []


def test_what_is_held_comes_first_and_a_line_a_ticker_tells_its_age(here: World) -> None:
    here.buy("AAPL", 2)
    with transaction(here.engine) as connection:
        sources.note_got(connection, "price", {"MSFT": sources.Got(MID_SESSION - timedelta(minutes=7))})
    assert "1 held or ordered every 5 min" in told(run())
    said = told(run("--each"))
    assert "AAPL yes every 5 min –" in said
    assert "MSFT every 5 min 7 min old" in said


def test_what_is_used_up_or_closed_is_shown_with_what_that_means(here: World) -> None:
    now = here.rt.wall()
    counted = Counted(TWELVEDATA, here.engine)
    for _ in range(99):
        counted.reserve(8, now)
    access = at_hand.access_of(here.another(finnhub_api_key=SecretStr("k")).settings, "finnhub")
    Gate(FINNHUB, access, client_of(here.rt.settings), here.engine)._close(Hold(Fault.AUTH, FOREVER))
    said = told(run("--count", "100"))
    assert "8 of 800 left of the day" in said
    assert "finnhub: its key is refused." in said
    assert "The 100 tickers cannot stay fresh: twelvedata allows" in said
    assert "Only twelvedata has live prices here" in said


def test_as_if_there_were_other_keys(here: World) -> None:
    assert "100 prices, 100 bars" in told(run("--free", "--count", "100"))
    said = told(run("--without", "finnhub", "--without", "twelvedata"))
    assert "No source of market data is at hand" in said
    assert "never" in said
    assert "no source of market data; there are" in str(run("--without", "bloomberg").exception)


def test_without_redis_and_postgres_it_says_what_it_does_not_know(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = cli_market.Reached(False, False, dict.fromkeys(("Postgres", "Redis"), "does not answer"))
    monkeypatch.setattr(cli_market, "ask_who_answers", lambda _values: nobody)
    said = told(run())
    assert "Postgres does not answer: what was used of the quotas is not known." in said
    assert "Redis does not answer: which sources are closed is not known." in said
