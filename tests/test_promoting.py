"""The life of a model around its training: judged, standing, spoilt, rolled back, deleted; all of it in real stores."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from qbot import artifacts, cli_models, forecasting, limits, pipeline, promoting
from qbot.artifacts import RECORD_FILE, folder_sha256
from qbot.cli import app
from qbot.console.installation import Installation
from qbot.contract import keys
from qbot.contract.payloads_backend import ServiceStatus
from qbot.errors import ArtifactError, RollbackRefused
from qbot.grok import Candidate, Judged
from qbot.promotion import Trial
from qbot.signals import signals
from qbot.skill import Metrics
from qbot.store import bars, grok, models, standing, tables
from qbot.store.engine import transaction
from qbot.training_types import (
    RECORD,
    REQUEST,
    ArtifactRecord,
    HorizonResult,
    TrainingProgress,
    TrainingRequest,
    TrainingResult,
)
from qbot.types import Action
from tests.support.calibrations import calibration
from tests.support.runtime import CONFIG, TICKERS, World, quote_of
from tests.test_promotion import EVEN, GOOD, days

EAGER = replace(CONFIG, buy_threshold_pct=0.0001, ml_confidence_threshold=0.0, use_technical_analysis=False)
LOST = tuple(-gain for gain in GOOD)
JUDGED = ("INFO", "New models were judged")


class Sentimental:
    """A predictor that believes in nothing but sentiment."""

    def __call__(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        return rows["grok_sentiment"].fillna(0.5).to_numpy(dtype=float) / 100.0


class Predictor:
    """Stands in for what `inference.fastest` makes of AutoGluon's: the same return for every row."""

    def __init__(self, returns: float = 0.001) -> None:
        self.returns = returns

    def __call__(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        return np.full(len(rows), self.returns)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading checks hash and record as ever, and unpickles a Predictor: AutoGluon takes seconds."""

    def read(path: Path, sha256: str) -> artifacts.Artifact:
        try:
            record = RECORD.validate_json((path / RECORD_FILE).read_bytes())
            predictor = pickle.loads((path / "predictor.pkl").read_bytes())
        except Exception as error:
            raise ArtifactError(f"the artifact at {path} cannot be loaded: {error}") from error
        return artifacts.Artifact(f"h{record.horizon_minutes}-{sha256[:16]}", record, predictor)

    monkeypatch.setattr(artifacts, "_read", read)
    artifacts.forget()
    yield
    artifacts.forget()


@pytest.fixture
def market(world: World) -> World:
    """A market with bars of the last hours, so that a forecast can be made."""
    at = world.market() - timedelta(minutes=10)
    rows = [
        {"symbol": symbol, "ts": at - timedelta(minutes=5 * back), "open": 99.0, "high": 101.0, "low": 99.0,
         "close": 100.0, "volume": 1_000.0}
        for symbol in TICKERS for back in range(20)
    ]  # fmt: skip
    with transaction(world.engine) as connection:
        bars.upsert(connection, pd.DataFrame(rows), "test")
    return world


def record(world: World, horizon: int, trial: Trial, trained_at: Any) -> ArtifactRecord:
    metrics = Metrics(0.5, 0.4, 0.6, 0.01, 90, 0.51, 0.52, 1.0, 0.1, 12, False)
    now = world.market()
    return ArtifactRecord(
        horizon_minutes=horizon, trained_at=trained_at, symbols=TICKERS, features=("return_1",), models=("LightGBM",),
        metrics=metrics, calibration=calibration(horizon_minutes=horizon), skilled=False, degraded=False,
        data_from=now - timedelta(days=70), data_to=now,
        test_days=trial.days, fit_rows=1_500, autogluon_version="1", trial=trial,
    )  # fmt: skip


Seen = list[TrainingRequest]


def trainer(
    world: World, *gains: dict[str, tuple[float, ...]], seen: Seen | None = None, predictor: object | None = None
) -> forecasting.Run:
    """A training that leaves an artifact for the first horizons, which gained so much on its test days."""

    def run(
        history: pd.DataFrame, request: TrainingRequest, tell: Callable[[TrainingProgress], None], timeout_s: float
    ) -> TrainingResult:
        if seen is not None:
            seen.append(request)
        found = {}
        for horizon, more in zip(request.horizons, gains, strict=False):
            compared = request.standing.get(horizon)
            later = days(len(more.get("over_standing", ())))
            trial = Trial(later_days=later, standing_id=compared.artifact_id if compared else None, **more)
            trial = replace(trial, days=days(len(trial.over_naive)))
            path = request.run_folder / f"horizon_{horizon}"
            path.mkdir(parents=True)
            done = record(world, horizon, trial, request.now)
            (path / RECORD_FILE).write_bytes(RECORD.dump_json(done))
            (path / "predictor.pkl").write_bytes(pickle.dumps(predictor or Predictor()))
            found[horizon] = HorizonResult(path, folder_sha256(path), done)
        now = world.wall()
        return TrainingResult(
            request.trigger, request.now, now, 2_000, 1_900, 1_800, TICKERS, (), 150, False, now, now, found
        )

    return run


def train(world: World, *gains: dict[str, tuple[float, ...]]) -> None:
    """One training; time passes."""
    forecasting.train(world.rt, world.market(), "scheduled", trainer(world, *gains))
    world.wall.advance(minutes=1)


def serving(world: World, horizon: int = 15) -> dict[str, Any]:
    with transaction(world.engine) as connection:
        return dict(models.standing_artifacts(connection)[horizon])


def events(world: World) -> list[str]:
    return [row["event"] for row in world.rows(tables.artifact_log)]


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_what_is_refused_and_what_is_promoted_stands_in_postgres_and_is_told_to_the_frontend(world: World) -> None:
    train(world, {"over_naive": EVEN}, {"over_naive": GOOD})
    first, second = (serving(world, horizon) for horizon in (15, 30))
    assert (first["skilled"], second["skilled"]) == (False, True)
    assert (first["verdict"]["outcome"], second["verdict"]["outcome"]) == ("refused", "promoted")
    detail = world.told(keys.ML_TRAINING_LOG)[-1].detail
    assert detail.startswith("15 min refused: not better than no change (p = 0.") and "12 days" in detail
    assert "; 30 min promoted: better than no change (p = " in detail
    metrics = world.told(keys.LAST_TRAINING_STATS).metrics
    assert (metrics["15"].skilled, metrics["30"].skilled) == (False, True)
    assert metrics["15"].verdict.startswith("refused: not better")
    assert world.told(keys.MODEL_METRICS_HISTORY)[-1].metrics["30"].verdict.startswith("promoted")
    assert world.alerts() == [JUDGED]


def test_a_refused_candidate_leaves_the_skilled_one_standing_and_every_candidate_counts_as_a_trial(
    world: World,
) -> None:
    train(world, {"over_naive": GOOD})
    stands = serving(world)["artifact_id"]
    for _ in range(2):
        train(world, {"over_naive": EVEN, "over_standing": EVEN, "standing_over_naive": GOOD})
    assert serving(world)["artifact_id"] == stands
    assert sorted(row["trial"] for row in world.rows(tables.artifacts)) == [1, 2, 3]
    assert events(world) == ["stands", "refused", "refused"]
    assert len(world.told(keys.MODEL_PATHS)) == 1 and world.told(keys.MODEL_PATHS)["15"] == serving(world)["path"]


def test_a_better_candidate_replaces_it_and_names_what_it_was_held_against(world: World) -> None:
    train(world, {"over_naive": GOOD})
    old, seen = serving(world), Seen()
    run = trainer(world, {"over_naive": GOOD, "over_standing": GOOD, "standing_over_naive": GOOD}, seen=seen)
    forecasting.train(world.rt, world.market(), "scheduled", run)
    new = serving(world)
    assert new["artifact_id"] != old["artifact_id"] == new["verdict"]["standing_id"] and new["skilled"]
    assert new["metrics"]["trial"]["standing_id"] == old["artifact_id"]
    assert (seen[0].standing[15].sha256, seen[0].span_days) == (old["sha256"], 70.0)


def test_a_skilled_artifact_that_lost_its_skill_loses_its_label_and_that_is_told(world: World) -> None:
    train(world, {"over_naive": GOOD})
    train(world, {"over_naive": EVEN, "over_standing": LOST, "standing_over_naive": LOST})
    assert not serving(world)["skilled"] and serving(world)["trial"] == 1, "the candidate is worse still"
    assert ("WARNING", "The model 15 minutes ahead lost its skill") in world.alerts()
    assert "no longer counts as skilled" in world.told(keys.ML_TRAINING_LOG)[-1].detail
    assert events(world) == ["stands", "refused", "demoted"]


def test_an_artifact_that_stands_when_the_training_ends_and_did_not_when_it_began_is_not_replaced(world: World) -> None:
    train(world, {"over_naive": GOOD})
    first = serving(world)
    train(world, {"over_naive": GOOD, "over_standing": GOOD, "standing_over_naive": GOOD})
    run = trainer(world, {"over_naive": GOOD, "over_standing": GOOD, "standing_over_naive": GOOD})

    def meanwhile(*arguments: Any) -> TrainingResult:
        promoting.roll_back(world.rt, 15, "a human")
        return run(*arguments)

    forecasting.train(world.rt, world.market(), "scheduled", meanwhile)
    assert serving(world)["artifact_id"] == first["artifact_id"]
    assert "another stands meanwhile" in world.told(keys.ML_TRAINING_LOG)[-1].detail


def test_candidates_that_were_refused_are_not_trained_again_at_once(market: World) -> None:
    train(market, {"over_naive": GOOD})
    market.market.advance(days=8)
    train(market, {"over_naive": EVEN, "over_standing": EVEN, "standing_over_naive": GOOD})
    assert not forecasting.train_if_due(market.rt, market.market(), trainer(market, {"over_naive": EVEN}))


# --- what signals come of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gains", "skilled"), [(GOOD, True), (EVEN, False)], ids=["promoted", "refused"])
def test_forecasts_carry_the_verdict_and_only_the_paper_exchange_trades_on_unproven_ones(
    market: World, gains: tuple[float, ...], skilled: bool
) -> None:
    train(market, {"over_naive": gains})
    made = forecasting.forecast(market.rt, market.market())
    assert [one.symbol for one in made] == sorted(TICKERS) and {one.skilled for one in made} == {skilled}
    quotes = {symbol: quote_of(symbol, "100", market.market()) for symbol in TICKERS}
    for allowed in (False, True):
        wishes = signals(made, quotes, {}, EAGER, market.market(), allow_unskilled=allowed)
        assert {wish.action for wish in wishes} == {Action.BUY if skilled or allowed else Action.HOLD}


def told_by_grok(world: World, symbol: str, sentiment: float, known_at: datetime) -> None:
    """An answer of Grok's that was known from then on."""
    found = Judged(known_at, (Candidate(symbol, 0.5, sentiment, 0.5, 0.0, 3, ""),), {}, {})
    with transaction(world.engine) as connection:
        call_id = grok.reserve(connection, Decimal("0.05"), "grok-4.3", known_at, known_at, search=False)
        grok.answered(connection, call_id, found, None, known_at, {})


def test_forecasts_and_trainings_know_the_sentiment_that_was_known_and_no_later_one(market: World) -> None:
    seen: Seen = []
    now = market.market()
    bar_closed = now - timedelta(minutes=5)
    for symbol, sentiment, at in (
        ("AAPL", 0.8, bar_closed), ("AAPL", -0.8, bar_closed + timedelta(seconds=1)),
        ("MSFT", 0.9, bar_closed - timedelta(hours=24, seconds=1)), ("UNASKED", 0.1, bar_closed),
    ):  # fmt: skip
        told_by_grok(market, symbol, sentiment, at)
    run = trainer(market, {"over_naive": GOOD}, seen=seen, predictor=Sentimental())
    forecasting.train(market.rt, now, "scheduled", run)
    assert [(symbol, sentiment) for symbol, _at, sentiment in seen[0].sentiment] == [
        ("MSFT", 0.9), ("AAPL", 0.8), ("AAPL", -0.8)
    ]  # fmt: skip
    assert REQUEST.validate_json(REQUEST.dump_json(seen[0])).sentiment == seen[0].sentiment
    made = {one.symbol: one.return_pct for one in forecasting.forecast(market.rt, now)}
    assert made == pytest.approx({"AAPL": 0.008, "MSFT": 0.005, "SPY": 0.005})


# --- artifacts that cannot be used ------------------------------------------------------------------------------------


def removed(path: Path) -> None:
    (path / "predictor.pkl").unlink()


def all_removed(path: Path) -> None:
    shutil.rmtree(path)


def flipped(path: Path) -> None:
    content = bytearray((path / "predictor.pkl").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "predictor.pkl").write_bytes(content)


def truncated(path: Path) -> None:
    (path / "predictor.pkl").write_bytes((path / "predictor.pkl").read_bytes()[:-5])


def of_another_version(path: Path) -> None:
    body = json.loads((path / RECORD_FILE).read_bytes())
    del body["metrics"]
    (path / RECORD_FILE).write_text(json.dumps(body))


def recorded_so(world: World, path: Path) -> None:
    """As if it had been written and recorded in that state: the hash is right."""
    with transaction(world.engine) as connection:
        mine = tables.artifacts.update().where(tables.artifacts.c.path == str(path))
        connection.execute(mine.values(sha256=folder_sha256(path)))


@pytest.mark.parametrize(
    ("spoil", "recorded"),
    [(removed, False), (flipped, False), (truncated, False), (of_another_version, False), (all_removed, False),
     (removed, True), (truncated, True), (of_another_version, True)],
)  # fmt: skip
def test_a_spoilt_artifact_gives_no_forecasts_is_told_once_and_replaced(
    market: World, spoil: Callable[[Path], None], recorded: bool
) -> None:
    train(market, {"over_naive": GOOD}, {"over_naive": GOOD})
    path = Path(serving(market)["path"])
    spoil(path)
    if recorded:
        recorded_so(market, path)
    for _ in range(3):
        pipeline.generate_predictions(market.rt)
        assert {row["horizon_minutes"] for row in market.rows(tables.forecasts)} == {30}
        market.wall.advance(hours=1)
    assert market.alerts() == [JUDGED, ("WARNING", "No forecasts 15 minutes ahead")]
    assert list(market.told(keys.MODEL_PATHS)) == ["30"]
    pipeline.update_backend_responses(market.rt)
    assert market.told(keys.SYSTEM_HEALTH).ml_models_status is ServiceStatus.DEGRADED
    run = trainer(market, {"over_naive": EVEN}, {"over_naive": EVEN})
    assert not forecasting.train_if_due(market.rt, market.market(), run), "not at once"
    later = market.market() + timedelta(seconds=limits.REPAIR_AFTER_S)
    assert forecasting.train_if_due(market.rt, later, run)
    assert not forecasting.train_if_due(market.rt, later, run), "one training, not many"
    assert (serving(market)["trial"], serving(market)["unusable"], serving(market)["skilled"]) == (2, None, False)
    assert serving(market, 30)["trial"] == 1, "the sound one is skilled, and stays"
    assert sorted(market.told(keys.MODEL_PATHS)) == ["15", "30"]


def test_an_artifact_whose_files_are_back_serves_again(market: World) -> None:
    train(market, {"over_naive": GOOD})
    path = Path(serving(market)["path"])
    moved = path.rename(path.with_name("moved"))
    pipeline.generate_predictions(market.rt)
    assert serving(market)["unusable"] and not market.told(keys.MODEL_TRAINED)
    moved.rename(path)
    pipeline.generate_predictions(market.rt)
    assert serving(market)["unusable"] is None and market.told(keys.MODEL_TRAINED)
    assert len(market.rows(tables.forecasts)) == len(TICKERS)


def test_an_artifact_that_loads_and_cannot_predict_gives_none_and_hurts_no_other(
    market: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(market, {"over_naive": GOOD}, {"over_naive": GOOD})
    path = Path(serving(market)["path"])
    (path / "predictor.pkl").write_bytes(pickle.dumps("no predictor"))
    recorded_so(market, path)
    for _ in range(2):
        pipeline.generate_predictions(market.rt)
        assert {row["horizon_minutes"] for row in market.rows(tables.forecasts)} == {30}
        assert "cannot predict" in serving(market)["unusable"]
    assert market.alerts() == [JUDGED, ("WARNING", "No forecasts 15 minutes ahead")]


# --- going back -------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(market: World) -> World:
    """Three artifacts of which each replaced the one before."""
    for _ in range(3):
        train(market, {"over_naive": EVEN})
    return market


@pytest.fixture
def here(three: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The commands find the QBot of the test."""
    found = Installation("QBot of a test", three.rt.settings, None, None)
    monkeypatch.setattr(cli_models.installation, "choose", lambda _demo: found)
    monkeypatch.setattr(cli_models, "settings_of", lambda _found: three.rt.settings)
    monkeypatch.setattr(cli_models, "runtime_of", lambda *_: three.rt)
    monkeypatch.setattr(cli_models, "quiet", lambda: None)
    return three


def run(*words: str, answer: str = "") -> Result:
    cli_models.console.width = 80
    return CliRunner().invoke(app, ["models", *words], input=answer)


def by_trial(world: World) -> dict[int, dict[str, Any]]:
    return {row["trial"]: row for row in world.rows(tables.artifacts)}


def test_rolling_back_goes_step_by_step_and_the_next_forecasts_are_of_what_stands_again(here: World) -> None:
    assert run("rollback", "--horizon", "15", answer="n\n").exit_code == 1
    assert serving(here)["trial"] == 3
    done = run("rollback", "--horizon", "15", answer="y\n")
    second = by_trial(here)[2]["artifact_id"]
    assert (done.exit_code, f"{second} stands instead of" in done.output) == (0, True), done.output
    made = forecasting.forecast(here.rt, here.market())
    assert {one.artifact_id for one in made} == {second}
    assert here.told(keys.MODEL_PATHS)["15"] == serving(here)["path"]
    run("rollback", "--horizon", "15", "--yes")
    assert serving(here)["trial"] == 1
    third = by_trial(here)[3]["artifact_id"]
    run("rollback", "--horizon", "15", "--to", third, "--yes")
    assert serving(here)["trial"] == 3
    assert events(here) == ["stands"] * 3 + ["rolled_back"] * 3
    who = {row["who"] for row in here.rows(tables.artifact_log) if row["event"] == "rolled_back"}
    assert who and "qbot" not in who


@pytest.mark.parametrize(
    ("spoil", "to", "why"),
    [
        (all_removed, None, "no artifact at"),
        (flipped, None, "are not those that were recorded"),
        (None, "h15-unknown", "there is no model h15-unknown 15 minutes ahead"),
        (None, "3", "stands already"),
    ],
)
def test_what_cannot_stand_is_refused_with_the_reason_and_nothing_changes(
    three: World, spoil: Callable[[Path], None] | None, to: str | None, why: str
) -> None:
    if spoil is not None:
        spoil(Path(by_trial(three)[2]["path"]))
    before = three.rows(tables.artifacts)
    named = by_trial(three)[3]["artifact_id"] if to == "3" else to
    with pytest.raises(RollbackRefused, match=why):
        promoting.roll_back(three.rt, 15, "a human", named)
    assert three.rows(tables.artifacts) == before and "rolled_back" not in events(three)


def test_there_is_nothing_to_go_back_to_before_the_first(world: World) -> None:
    with pytest.raises(RollbackRefused, match="there is no model 15"):
        promoting.roll_back(world.rt, 15, "a human")
    train(world, {"over_naive": EVEN})
    with pytest.raises(RollbackRefused, match="nothing stood before"):
        promoting.roll_back(world.rt, 15, "a human")


def test_the_list_shows_what_stands_its_scores_with_units_and_every_verdict(here: World) -> None:
    shutil.rmtree(by_trial(here)[1]["path"])
    shown = run().output
    for part in ("15 minutes ahead", "MAE USD", "MAPE %", "0.5000", "0.5100", "no skill", "stands",
                 "refused: not better than no change", "its files are deleted"):  # fmt: skip
        assert part in shown, f"{part} is not in:\n{shown}"
    with transaction(here.engine) as connection:
        standing.set_unusable(connection, serving(here)["artifact_id"], "a byte is wrong")
    assert "cannot be used: a byte is wrong" in run().output


# --- old folders ------------------------------------------------------------------------------------------------------


def test_the_newest_folders_stay_with_what_stands_and_what_stood_before_it(market: World) -> None:
    for _ in range(2):
        train(market, {"over_naive": GOOD, "over_standing": GOOD, "standing_over_naive": GOOD})
    for _ in range(limits.ARTIFACTS_KEPT + 2):
        train(market, {"over_naive": EVEN, "over_standing": EVEN, "standing_over_naive": GOOD})
    rows = by_trial(market)
    there = [number for number, row in sorted(rows.items()) if Path(row["path"]).is_dir()]
    assert serving(market)["trial"] == 2
    assert there == [1, 2, *range(5, 5 + limits.ARTIFACTS_KEPT)] and len(rows) == limits.ARTIFACTS_KEPT + 4


def test_of_folders_that_nobody_recorded_only_old_ones_go_and_no_foreign_ones(market: World) -> None:
    root = market.rt.settings.home / "artifacts"
    young, old = market.wall() - timedelta(hours=1), market.wall() - timedelta(days=2)
    for name in (f"{young:%Y%m%dT%H%M%S}", f"{old:%Y%m%dT%H%M%S}", f"{old:%Y%m%dT%H%M%S}.partial", "mine"):
        (root / name / "horizon_15").mkdir(parents=True)
    promoting.tidy(market.rt)
    assert sorted(path.name for path in root.iterdir()) == [f"{young:%Y%m%dT%H%M%S}", "mine"]
