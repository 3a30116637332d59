"""`qbot train` at a terminal, on a QBot of a test's own: asked for as by a frontend, watched, told in plain words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from qbot import cli_train, forecasting, inputs, limits
from qbot.cli import app
from qbot.console.installation import Installation
from qbot.contract import keys
from qbot.errors import BoardUnavailable, TrainingFailed
from qbot.store import models, tables
from qbot.store.engine import transaction
from qbot.training_types import TrainingProgress
from tests.support.runtime import WALL, World
from tests.test_after_the_fact import fail, put, run_of, tick


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The command finds the QBot of the test, which has a bar."""
    found = Installation("QBot of a test", world.rt.settings, None, None)
    monkeypatch.setattr(cli_train.installation, "choose", lambda _demo: found)
    monkeypatch.setattr(cli_train, "settings_of", lambda _found: world.rt.settings)
    monkeypatch.setattr(cli_train, "runtime_of", lambda *_: world.rt)
    monkeypatch.setattr(cli_train, "quiet", lambda: None)
    put(world, ("AAPL", world.market(), 100.0))
    return world


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["train", *words])


def meanwhile(here: World, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """What QBot does while the command pauses, one step a pause."""
    left = list(steps)
    monkeypatch.setattr(cli_train, "follow", partial(cli_train.follow, pause=lambda _s: left and left.pop(0)()))


def train(here: World, run: forecasting.Run) -> Callable[[], object]:
    return lambda: tick(here, here.market(), run)


def test_a_training_is_asked_for_as_by_a_frontend_and_told_in_plain_words(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(here, monkeypatch, lambda: inputs.handle(here.rt), train(here, run_of(here, [], ["n0"])))
    done = run("--reason", "new week")
    assert done.exit_code == 0, done.output
    (request,) = here.rows(tables.training_requests)
    assert (request["reason"], request["session_id"]) == ("new week", "terminal")
    for part in (
        "Asked QBot of a test", "waiting for the training worker", "15 min refused: only 0 unseen days",
        "Trained on 1 rows of 1 tickers",
        "15 min  off by 0.4000 USD on average over 12 days it never saw", "by 0.4100 USD (2.44% less): no skill",
        "in use from now on",
    ):  # fmt: skip
        assert part in done.output


def test_a_training_that_fails_says_why_and_the_exit_status_tells(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(here, monkeypatch, lambda: inputs.handle(here.rt), train(here, fail))
    done = run()
    assert done.exit_code == 1
    assert "The training failed: made up" in done.output and "The models that served before still do" in done.output


def test_without_waiting_it_only_asks(here: World) -> None:
    done = run("--no-wait")
    assert done.exit_code == 0 and "request training_" in done.output
    assert here.told(keys.TRAINING_REQUEST).reason.startswith("`qbot train` by ")


def test_where_no_qbot_runs_it_says_how_to_start_one(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = here.rt.settings.model_copy(update={"redis_port": 1})
    found = Installation("QBot on .qbot/main", nobody, None, None)
    with pytest.raises(BoardUnavailable, match=r"does not run here: start it with `qbot up`"):
        cli_train.ask(found, "x")


def test_a_request_nobody_takes_up_is_given_up_watching_and_what_to_look_at_is_told(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_train, "TAKEN_WITHIN_S", 3.0)
    pauses: list[float] = []
    with pytest.raises(TrainingFailed, match="`qbot status` shows whether the training worker runs"):
        cli_train.follow(here.rt, "nobody's", Console(file=StringIO()), pause=pauses.append)
    assert sum(pauses) == pytest.approx(3.0)


def test_while_another_training_runs_it_waits_and_says_so(here: World) -> None:
    with transaction(here.engine) as connection:
        models.start_training(connection, "other", "scheduled", here.market(), WALL)
    screen, pauses = Console(file=StringIO()), 0

    def pause(_seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == limits.TRAINING_LOG_MAX:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cli_train.follow(here.rt, "mine", screen, pause=pause)
    told = screen.file.getvalue()  # type: ignore[attr-defined]
    assert told.count("another training runs; yours comes next") == 1


def test_on_a_terminal_there_is_a_bar_for_every_stage(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=StringIO(), force_terminal=True, width=120)
    with transaction(here.engine) as connection:
        models.start_training(connection, "mine", "manual", here.market(), WALL, "5 bars")
        connection.execute(
            tables.training_requests.insert().values(request_id="r", asked_at_wall=WALL, training_id="mine")
        )
    stages = [("training_horizon_15", 0.2), ("training_horizon_30", 0.4), ("training_horizon_60", 0.6)]

    def step(_seconds: float) -> None:
        with transaction(here.engine) as connection:
            if not stages:
                models.finish_training(connection, "mine", models.SUCCESS, {}, [], here.market(), WALL, "done")
                return
            stage, progress = stages.pop(0)
            told = TrainingProgress(True, stage, progress, "manual", "horizon_trained", f"MAE of {stage}", WALL, WALL)
            body = forecasting.PROGRESS.dump_python(told, mode="json")
            models.set_progress(connection, "mine", body)

    cli_train.follow(here.rt, "r", screen, pause=step)
    told = screen.file.getvalue()  # type: ignore[attr-defined]
    for part in ("bars and features", "15 minutes", "30 minutes", "60 minutes", "MAE of training_horizon_60"):
        assert part in told
