"""The view draws whatever there is, at any size, and says what matters."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from qbot.contract.payloads_ml import TrainingStage
from qbot.demo.snapshot import Phase, RefusalGroup, SessionView, Snapshot
from qbot.demo.view import render, save_svg
from tests.demo import samples

SIZES = ((80, 24), (60, 18), (110, 30), (160, 50), (20, 6), (300, 80))


def drawn(snapshot: Snapshot, width: int = 160, height: int = 50) -> str:
    console = Console(file=StringIO(), width=width, height=height, force_terminal=False)
    console.print(render(snapshot, width, height), height=height)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", samples.ALL)
def test_every_snapshot_fills_its_terminal_and_no_more(name: str, size: tuple[int, int]) -> None:
    width, height = size
    lines = drawn(samples.ALL[name], width, height).splitlines()
    assert len(lines) == height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=str)
def test_a_trading_system_shows_market_money_decisions_trades_and_where_to_look(size: tuple[int, int]) -> None:
    text = drawn(samples.TRADING, *size)
    for expected in (
        "Mon 13 Jan 2025 10:42:07", "OPEN", "60×", "RUNNING", "frontend_1772452800123", "100,123.40",
        "+123.40 (+0.12 %)", "86,543.21", "@ 905.20", "COST", "60 min: forecast +0.031%", "COOLDOWN",
        "HOLD MSFT +7", "no skill",
        "redis", "flower", "http://127.0.0.1:5555", ".qbot/demo/secrets.json", "Ctrl-C",
    ):  # fmt: skip
        assert expected in text


def test_the_reason_why_nothing_is_traded_stands_at_the_top() -> None:
    stopped = replace(samples.TRADING.session, backend_status="STOPPED", reason="autotrading:enabled was deleted")
    latched = replace(samples.TRADING.session, backend_status="STOPPED", latched=True, reason="market crash")
    misconfigured = replace(samples.TRADING.session, backend_status="CONFIG_ERROR", error="NOT_JSON: trading_settings")
    closed = replace(samples.TRADING.session, backend_status="MARKET_CLOSED")
    cases = {
        "autotrading:enabled was deleted": replace(samples.TRADING, session=stopped),
        "the emergency stop is latched (market crash)": replace(samples.TRADING, session=latched),
        "NOT_JSON: trading_settings": replace(samples.TRADING, session=misconfigured),
        "the market to open at": replace(samples.TRADING, session=closed, market_open=False),
        "the session's trading hours": replace(samples.TRADING, session=closed),
        "redis to come back": samples.TROUBLED,
        "Postgres: gone": replace(samples.TRADING, problems={"Postgres": "gone"}),
        "the first models: Training 30min horizon": samples.TRAINING,
        "the processes to start: postgres": samples.STARTING,
        "the first forecasts": replace(samples.TRADING, forecasts_current=0),
        "the replayed market is at its end": replace(samples.TRADING, replay_finished=True),
        "trading is switched off": replace(samples.TRADING, phase=Phase.STOPPING),
    }
    for reason, snapshot in cases.items():
        assert reason in drawn(snapshot).splitlines()[1], reason
    assert "waiting" not in drawn(samples.TRADING)


def test_a_failed_training_says_why() -> None:
    failed = samples.training_status(TrainingStage.FAILED, 0.4, "TrainingFailed: no usable bars", active=False)
    text = drawn(replace(samples.TRAINING, training=failed))
    assert "the last one failed: TrainingFailed: no usable bars" in text


def test_training_progress_is_shown_until_there_are_models() -> None:
    assert "60%  training_horizon_30" in drawn(samples.TRAINING)
    assert "training_horizon_30" not in drawn(replace(samples.TRAINING, artifacts=samples.TRADING.artifacts))


def test_a_restarted_process_an_alert_and_a_logged_error_are_seen() -> None:
    text = drawn(samples.TROUBLED)
    for expected in ("redis restarting ×2", "Positions are unprotected", "3 errors in the logs", "raised unexpected"):
        assert expected in text


def test_markup_and_control_characters_in_messages_stay_text() -> None:
    evil = replace(samples.TRADING, refusals=(RefusalGroup("HOLD", "", ("A",), "[red]x[/red] \x1b[2J\x07 end"),))
    text = drawn(evil)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text and "\x07" not in text


def test_no_session_is_no_crash() -> None:
    assert "trading for session none" in drawn(replace(samples.TRADING, session=SessionView("RUNNING")))


def test_a_screenshot_is_an_svg_of_the_view(tmp_path: Path) -> None:
    save_svg(samples.TRADING, tmp_path / "img" / "view.svg")
    svg = (tmp_path / "img" / "view.svg").read_text()
    assert svg.startswith("<svg") and "RUNNING" in svg
    assert "@font-face" not in svg and 'url("http' not in svg
