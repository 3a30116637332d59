"""What would have traded at which thresholds, by hand, at a terminal, and out of Postgres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from qbot import cli_thresholds
from qbot.cli import app
from qbot.cli_thresholds import in_force
from qbot.console.installation import Installation
from qbot.costs import USUAL, Costs
from qbot.thresholds import DOCUMENTED, Rule, grid, outcomes, sentence, taken
from tests.support.made_up_forecasts import made_up_forecasts
from tests.support.runtime import World

FREE = Costs(half_spread_bps=0.0, sec_fee_usd_per_million=0.0, taf_usd_per_share=0.0)


def forecasts(*rows: tuple[str, str, float, float, float]) -> pd.DataFrame:
    """Of 15 minutes: symbol, time of the 3rd of March (or day and time), predicted, confidence, actual."""
    frame = pd.DataFrame(rows, columns=["symbol", "time", "predicted", "confidence", "actual"])
    frame["known_at"] = pd.to_datetime("2025-03-" + frame["time"], utc=True)
    return frame.assign(session=frame["known_at"].dt.date, horizon_minutes=15, close=100.0)


def test_a_ticker_that_is_held_is_not_bought_again_until_it_is_sold() -> None:
    frame = forecasts(
        ("AAA", "03 15:00", 0.01, 0.6, 0.001),
        ("AAA", "03 15:05", 0.01, 0.6, 0.5),
        ("AAA", "03 15:15", 0.01, 0.6, 0.002),
        ("BBB", "03 15:05", 0.01, 0.6, 0.004),
        ("AAA", "04 15:00", 0.01, 0.6, -0.003),
    ).sort_values(["symbol", "known_at"])
    assert taken(frame, Rule(0.5, 0.0))["actual"].tolist() == [0.001, 0.002, -0.003, 0.004]
    found = outcomes(frame, [Rule(0.5, 0.0)], FREE)[0]
    assert (found.forecasts, found.passed, found.trades, found.won) == (5, 5, 4, 3)
    assert found.gross_pct == found.net_pct == pytest.approx(0.001)
    assert found.daily == pytest.approx([(0.001 + 0.002 + 0.004) / 2, -0.003]) and found.total_pct == sum(found.daily)


def test_both_thresholds_must_be_passed_as_the_signals_compare_them() -> None:
    frame = forecasts(
        ("AAA", "03 15:00", 0.002, 0.60, 0.0),
        ("BBB", "03 15:00", 0.001, 0.60, 0.0),
        ("CCC", "03 15:00", 0.002, 0.59, 0.0),
        ("DDD", "03 15:00", -0.5, 0.99, 0.0),
    )
    assert taken(frame, Rule(0.60, 0.001))["symbol"].tolist() == ["AAA"]


def test_every_trade_pays_the_spread_and_the_fees() -> None:
    frame = forecasts(("AAA", "03 15:00", 0.01, 0.6, 0.001))
    found = outcomes(frame, [Rule(0.5, 0.0)])[0]
    assert found.net_pct == pytest.approx(0.001 - USUAL.round_trip_pct(np.array([100.0]))[0])


def test_days_without_a_trade_count_as_days() -> None:
    frame = forecasts(("AAA", "03 15:00", 0.01, 0.6, 0.001), ("AAA", "04 15:00", -0.01, 0.6, 0.001))
    assert outcomes(frame, [Rule(0.5, 0.0), Rule(0.9, 0.0)], FREE)[0].daily == pytest.approx([0.001, 0.0])
    nothing = outcomes(frame, [Rule(0.9, 0.0)], FREE)[0]
    assert nothing.daily == (0.0, 0.0) and (nothing.trades, nothing.net_pct, nothing.total_pct) == (0, 0.0, 0.0)


def test_higher_thresholds_never_pass_more() -> None:
    found = outcomes(made_up_forecasts(skill=0.3), grid())
    passed = np.array([each.passed for each in found]).reshape(6, 5)
    assert (np.diff(passed, axis=0) <= 0).all() and (np.diff(passed, axis=1) <= 0).all() and passed[0, 0] > 0


def test_the_sentence_says_plainly_that_nothing_would_have_traded_and_what_was_highest() -> None:
    frame = forecasts(("AAA", "03 15:00", 0.0031, 0.56, 0.0), ("BBB", "03 15:00", 0.001, 0.51, 0.0))
    assert sentence(frame, Rule(0.80, 0.02)) == (
        "At a confidence of at least 0.80 and a return over 2.00 %, none of 2 forecasts would have traded; the highest "
        "confidence seen was 0.56, the highest forecast return 0.31 %."
    )


def test_the_sentence_says_what_was_earned_or_lost_by_horizon() -> None:
    frame = forecasts(("AAA", "03 15:00", 0.003, 0.56, 0.01), ("BBB", "03 15:00", 0.001, 0.51, 0.0))
    both = pd.concat([frame, frame.assign(horizon_minutes=30, actual=-0.01)])
    assert sentence(both, Rule(0.55, 0.0), FREE) == (
        "At a confidence of at least 0.55 and a return over 0.00 %, 2 of 4 forecasts would have traded: 1 trades over "
        "15 minutes earned 0.50 %; 1 trades over 30 minutes lost 0.50 % of the capital after costs."
    )
    assert "No forecast has matured yet" in sentence(frame.head(0), DOCUMENTED)


def test_the_thresholds_in_force_are_bent_by_the_strategy() -> None:
    assert in_force({}) == Rule(0.80, pytest.approx(0.075)), "the documented 5 %, for the documented strategy"
    stored = {"ml_confidence_threshold": 0.6, "buy_threshold_pct": 0.01, "strategy": "CONSERVATIVE"}
    assert in_force(stored) == Rule(0.6, pytest.approx(0.015))


def test_the_command_reads_the_forecasts_of_an_evaluation(tmp_path: Path) -> None:
    made_up_forecasts(days=5, skill=0.3).to_parquet(tmp_path / "forecasts.parquet")
    done = CliRunner().invoke(app, ["thresholds", "--from", str(tmp_path), "--confidence", "0.8"])
    assert done.exit_code == 0, done.output
    assert all(part in done.output for part in ("625 matured forecasts", "15 minutes", "0.80*", "0.05\u00a0%"))
    assert "none of 625 forecasts would have traded; the highest confidence seen was 0." in done.output


def test_the_command_says_what_to_do_without_forecasts(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["thresholds", "--from", str(tmp_path)])
    assert done.exit_code == 1 and "`qbot evaluate BARS --out" in str(done.exception)


def test_the_command_looks_at_the_matured_forecasts_of_this_qbot(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        cli_thresholds.installation, "choose", lambda _: Installation("a test", world.rt.settings, None, None)
    )
    monkeypatch.setattr(cli_thresholds, "settings_of", lambda _: world.rt.settings)
    monkeypatch.setattr(cli_thresholds, "runtime_of", lambda *_: world.rt)
    monkeypatch.setattr(cli_thresholds, "quiet", lambda: None)
    done = CliRunner().invoke(app, ["thresholds"])
    assert done.exit_code == 0, done.output
    assert "No forecast has matured yet" in done.output
