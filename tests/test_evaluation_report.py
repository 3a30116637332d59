"""The report is one page that loads nothing, escapes what it shows, and says the verdict; the command tells errors."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from qbot import cli_evaluate
from qbot.cli import app
from qbot.errors import EvaluationError
from qbot.evaluation import evaluate
from qbot.evaluation_input import read_bars
from qbot.evaluation_plots import folds
from qbot.evaluation_report import Setting, page
from qbot.walk_forward import Plan
from tests.support.made_up_forecasts import made_up_forecasts
from tests.support.made_up_market import made_up_bars
from tests.test_walk_forward import LeastSquares

NAME = "<b>bars</b> & co.parquet"


@pytest.fixture(scope="module")
def report() -> str:
    frame = made_up_forecasts(days=12)
    both = pd.concat([frame, frame.assign(horizon_minutes=30)], ignore_index=True)
    return page(evaluate(both), Setting(NAME, "Two folds."))


class Tags(HTMLParser):
    """Checks that what is opened is closed, and collects what might load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "br"):
            self.open.pop()


def test_the_page_is_whole_and_loads_nothing_from_anywhere(report: str) -> None:
    tags = Tags()
    tags.feed(report)
    assert tags.open == []
    assert "script" not in tags.names and "img" not in tags.names and "link" not in tags.names
    assert all(link.startswith("#") for link in tags.links)
    assert "default-src &#x27;none&#x27;" in report or "default-src 'none'" in report
    assert "url(http" not in report and "@import" not in report


def test_what_comes_with_the_data_is_escaped(report: str) -> None:
    assert NAME not in report and "&lt;b&gt;bars&lt;/b&gt; &amp; co.parquet" in report


def test_it_says_the_verdict_first_and_names_units(report: str) -> None:
    assert report.index("No skill at any horizon") < report.index("No skill at 15 minutes") < report.index("<svg")
    for part in ("MAE (USD)", "MAPE (%)", "Width (% of price)", "Net (bps a trade)", "ECE of P(up)", "Deflated Sharpe"):
        assert part in report


def test_every_plot_is_told_to_a_screen_reader_and_takes_the_colour_of_the_text(report: str) -> None:
    assert len(re.findall(r'<svg viewBox="[^"]+" role="img" aria-label="[^"]+">', report)) == report.count("<svg") == 14
    assert "currentColor" in report and "#010203" not in report


def test_the_same_figures_make_the_same_plot() -> None:
    horizon = evaluate(made_up_forecasts(days=5)).horizons[0]
    assert folds(horizon) == folds(horizon)


def test_an_evaluation_leaves_report_forecasts_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars = made_up_bars(("AAA", "BBB", "CCC", "DDD"), sessions=26, seed=3)
    cli_evaluate.run(bars, "made up", tmp_path, (15,), Plan(10, 10, 6, 6, folds=1), LeastSquares())
    assert "no skill at any horizon" in capsys.readouterr().out.lower()
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert len(pd.read_parquet(tmp_path / "forecasts.parquet")) == 6 * 75 * 4
    figures = json.loads((tmp_path / "figures.json").read_text())
    horizon = figures["horizons"][0]
    assert horizon["verdict"]["grade"] == "none" and horizon["horizon_minutes"] == 15
    assert [each["level"] for each in horizon["intervals"]] == [0.8, 0.95]
    assert np.isfinite(horizon["model"]["mae_usd"])


def write(folder: Path, bars: pd.DataFrame, name: str = "bars.parquet") -> Path:
    path = folder / name
    if name.endswith(".csv"):
        bars.to_csv(path, index=False)
    else:
        bars.to_parquet(path)
    return path


def test_a_csv_is_read_as_a_parquet_file_is(tmp_path: Path) -> None:
    bars = made_up_bars(("AAA", "NA"), sessions=2, seed=1)
    from_csv, from_parquet = (read_bars(write(tmp_path, bars, name)) for name in ("bars.csv", "bars.parquet"))
    pd.testing.assert_frame_equal(from_csv, from_parquet, check_dtype=False)
    assert read_bars(tmp_path / "bars.csv", ("NA",))["symbol"].unique().tolist() == ["NA"]


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (lambda bars: bars.drop(columns="volume"), "bars.parquet", "no column volume"),
        (lambda bars: bars.assign(ts=bars["ts"].dt.tz_localize(None)), "bars.parquet", "no time zone"),
        (lambda bars: bars.assign(ts=bars["ts"].dt.tz_localize(None)), "bars.csv", "no time zone"),
        (lambda bars: bars.assign(ts=range(len(bars))), "bars.csv", "no time zone"),
        (lambda bars: bars.assign(ts="never Z"), "bars.csv", "no time"),
        (lambda bars: bars.assign(close="dear"), "bars.csv", "close holds what is no number"),
        (lambda bars: bars.iloc[::3], "bars.parquet", "15 minutes apart, 5 are needed"),
        (lambda bars: bars.head(0), "bars.parquet", "holds no bars"),
    ],
)
def test_bars_that_cannot_be_used_are_refused_with_what_to_do(
    tmp_path: Path, change: object, name: str, message: str
) -> None:
    assert callable(change)
    path = write(tmp_path, change(made_up_bars(("AAA",), sessions=2, seed=1)), name)
    with pytest.raises(EvaluationError, match=message):
        read_bars(path)


def test_a_missing_file_an_unknown_kind_and_an_unknown_ticker_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="there is no file"):
        read_bars(tmp_path / "none.parquet")
    (tmp_path / "bars.xlsx").write_text("")
    with pytest.raises(EvaluationError, match=r"neither \.parquet nor \.csv"):
        read_bars(tmp_path / "bars.xlsx")
    path = write(tmp_path, made_up_bars(("AAA",), sessions=2, seed=1))
    with pytest.raises(EvaluationError, match="no bars of ZZZ; it has AAA"):
        read_bars(path, ("AAA", "ZZZ"))


def test_too_few_sessions_and_odd_horizons_are_told_at_the_terminal(tmp_path: Path) -> None:
    path = write(tmp_path, made_up_bars(("AAA",), sessions=8, seed=1))
    few = CliRunner().invoke(app, ["evaluate", str(path), "--out", str(tmp_path / "out")])
    assert few.exit_code == 1 and "8 sessions of bars, 142 needed" in str(few.exception)
    odd = CliRunner().invoke(app, ["evaluate", str(path), "--out", str(tmp_path / "out"), "--horizons", "17"])
    assert odd.exit_code == 2 and "multiple of 5 minutes" in odd.output
