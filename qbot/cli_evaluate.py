"""`qbot evaluate`: what the forecasts are worth, on any bars, on days that the models have never seen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from qbot import log
from qbot.errors import EvaluationError
from qbot.types import BAR_MINUTES, HORIZONS_MINUTES

# Their modules import AutoGluon, scipy and matplotlib: the other commands shall not wait for these.
REPORT_FILE, FORECASTS_FILE, FIGURES_FILE = "report.html", "forecasts.parquet", "figures.json"

console = Console(highlight=False)


def evaluate(
    bars: Annotated[
        Path | None,
        typer.Argument(
            help="Five-minute bars, .parquet or .csv: symbol, ts (start, with time zone), open, high, low, close, "
            "volume. Without it, the bars of this QBot."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report; made when it is not there.")] = ...,  # type: ignore[assignment]
    horizons: Annotated[str, typer.Option("--horizons", help="Minutes ahead, with commas.")] = "15,30,60",
    tickers: Annotated[str, typer.Option("--tickers", help="Only these, with commas.")] = "",
    folds: Annotated[int | None, typer.Option("--folds", min=1, help="Only the last so many folds.")] = None,
    seconds: Annotated[int | None, typer.Option("--seconds", min=5, help="Limit of one training.")] = None,
    train: Annotated[int | None, typer.Option("--train", min=5, help="Sessions to train on, at most.")] = None,
    calibrate: Annotated[int | None, typer.Option("--calibrate", min=2, help="Sessions to calibrate on.")] = None,
    test: Annotated[int | None, typer.Option("--test", min=2, help="Sessions of a fold's test.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The last three folds with short trainings.")] = False,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Without BARS: which QBot, where both run.")
    ] = None,
) -> None:
    """Train, calibrate and forecast again and again through history, and tell what the forecasts are worth.

    Writes report.html (open it in a browser), forecasts.parquet and figures.json. Two years of a dozen tickers take
    some minutes.
    """
    log.quiet()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait shall sleep; read when LightGBM loads
    from qbot.evaluation_input import read_bars
    from qbot.walk_forward import DEFAULT, QUICK, AutoGluonFitter

    minutes, wanted = _horizons(horizons), tuple(filter(None, (part.strip() for part in tickers.split(","))))
    given = {"folds": folds, "seconds": seconds, "train": train, "calibrate": calibrate, "test": test}
    plan = replace(QUICK if quick else DEFAULT, **{name: value for name, value in given.items() if value is not None})
    if train is not None:
        plan = replace(plan, train_min=min(plan.train_min, train))
    frame, title = (_own(wanted, demo), "this QBot's bars") if bars is None else (read_bars(bars, wanted), bars.name)
    _writable(out)
    run(frame, title, out, minutes, plan, AutoGluonFitter(plan.seconds))


def run(frame: pd.DataFrame, title: str, out: Path, horizons: Sequence[int], plan: Any, fitter: Any) -> None:
    """Walk, measure and write. `plan` and `fitter` are those of `walk_forward`."""
    from qbot.evaluation import evaluate as measure
    from qbot.evaluation_report import Setting, page
    from qbot.evaluation_types import Evaluation
    from qbot.walk_forward import walk

    walked = _with_progress(plan, frame, horizons, lambda step: walk(frame, fitter, plan, horizons, step))
    walked.forecasts.to_parquet(out / FORECASTS_FILE, index=False)
    with console.status("Measuring …"):
        found: Evaluation = measure(walked.forecasts)
        made = (
            f"{len(walked.folds)} folds; each trained on up to {plan.train} sessions, was calibrated on the "
            f"{plan.calibrate} after, and forecast the {plan.test} after those, with a session left out in between."
        )
        (out / REPORT_FILE).write_text(page(found, Setting(title, made)), encoding="utf-8")
    (out / FIGURES_FILE).write_text(json.dumps(plain(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(found)
    console.print(f"Report: {out / REPORT_FILE}", soft_wrap=True, markup=False)


def show(found: Any) -> None:
    """The verdict of each horizon and the figures that count most."""
    from qbot.evaluation_words import overall, verdict

    table = Table(box=None, pad_edge=False, padding=(0, 1))  # it fits into 80 columns
    for name in (
        "ahead", "MAE\nUSD", "no\nchange", "p", "AUC\n(95 %)", "80 %\nheld", "95 %\nheld", "ECE of\nP(up)",
        "Brier\nskill",
    ):  # fmt: skip
        table.add_column(name, justify="left" if name == "ahead" else "right", no_wrap=True)
    for each in found.horizons:
        table.add_row(*_cells(each))
    console.print(table)
    for each in found.horizons:
        told = verdict(each)
        colour = {"skill": "green", "trace": "yellow"}.get(told.grade, "red")
        console.print(f"[{colour}]{told.headline}[/{colour}]", soft_wrap=True)
    console.print(f"[bold]{overall(found)}[/bold]", soft_wrap=True)


def plain(found: Any) -> dict[str, Any]:
    """The evaluation as JSON: fractions where a name ends in `_pct`, USD and percent where it says so."""
    out: dict[str, Any] = json.loads(json.dumps(asdict(found), default=str))
    from qbot.evaluation_words import verdict

    for horizon, each in zip(out["horizons"], found.horizons, strict=True):
        told = verdict(each)
        horizon["verdict"] = {"grade": told.grade, "headline": told.headline, "sentences": told.sentences}
    return out


def _cells(each: Any) -> list[str]:
    auc, direction = each.direction.auc, each.direction
    reach = "" if auc is None or auc.low is None else f"{auc.value:.3f} ({auc.low:.3f}–{auc.high:.3f})"
    return [
        f"{each.horizon_minutes} min",
        f"{each.model.mae_usd:.4f}",
        f"{each.naive.mae_usd:.4f}",
        "" if each.p_value is None else f"{each.p_value:.3f}",
        reach,
        *(f"{found.covered.value:.1%}" for found in each.intervals),
        f"{direction.up_ece:.3f}",
        "" if direction.brier_skill is None else f"{direction.brier_skill:+.2%}",
    ]


def _with_progress(plan: Any, frame: pd.DataFrame, horizons: Sequence[int], walk: Callable[[Any], Any]) -> Any:
    from qbot.walk_forward import plan_folds

    sessions = frame["ts"].dt.tz_convert("America/New_York").dt.date.unique().tolist()
    total = len(plan_folds(sessions, plan)) * len(horizons)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Building features", total=total)

        def step(told: str) -> None:
            progress.update(task, advance=1, description=told)

        return walk(step)


def _horizons(text: str) -> tuple[int, ...]:
    try:
        found = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise typer.BadParameter(f"--horizons takes minutes with commas, such as {HORIZONS_MINUTES}") from error
    if any(each <= 0 or each % BAR_MINUTES or each >= 390 for each in found):
        raise typer.BadParameter(f"a horizon is a multiple of {BAR_MINUTES} minutes within a session of 390")
    return found


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{out} cannot be made: {error}") from error


def _own(tickers: Sequence[str], demo: bool | None) -> pd.DataFrame:
    from qbot.cli_stop import Reached, runtime_of, settings_of
    from qbot.console import installation
    from qbot.evaluation_input import checked
    from qbot.store import hindsight
    from qbot.store.engine import transaction

    chosen = installation.choose(demo)
    rt = runtime_of(settings_of(chosen), chosen, Reached(postgres=True, redis=True))
    with transaction(rt.engine) as connection:
        return checked(hindsight.all_bars(connection), tickers, chosen.name)
