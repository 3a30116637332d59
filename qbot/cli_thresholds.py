"""`qbot thresholds`: what past forecasts would have traded at which thresholds, and what that would have earned."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from qbot import thresholds
from qbot.cli_stop import Reached, runtime_of, settings_of
from qbot.configuration import DEFAULTS
from qbot.console import installation
from qbot.errors import EvaluationError
from qbot.evaluation_input import read_forecasts
from qbot.log import quiet
from qbot.store import hindsight, state
from qbot.store.engine import transaction
from qbot.thresholds import DOCUMENTED, Outcome, Rule
from qbot.types import Strategy
from qbot.votes import THRESHOLD_FACTOR

console = Console(highlight=False)


def command(
    folder: Annotated[
        Path | None, typer.Option("--from", help="Forecasts of a folder that `qbot evaluate` wrote, instead of QBot's.")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, help="Only QBot's forecasts of so many days.")] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", min=0, max=1, help="A threshold of yours, 0 to 1.")
    ] = None,
    return_pct: Annotated[
        float | None, typer.Option("--return", min=0, max=1, help="A threshold of yours, a fraction: 0.001 is 0.1 %.")
    ] = None,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Show how many past forecasts would have traded at which thresholds, and what they would have earned after costs.

    Long only, one position a ticker, each ticker an equal share of the capital. Without options it looks at the
    matured forecasts of this QBot and at the thresholds that it has now.
    """
    quiet()
    if folder is not None:
        forecasts, rule, name = read_forecasts(folder), DOCUMENTED, str(folder)
    else:
        forecasts, rule, name = _own(demo, days)
    rule = Rule(
        rule.confidence_min if confidence is None else confidence,
        rule.return_min_pct if return_pct is None else return_pct,
    )
    missing = set(thresholds.COLUMNS) - set(forecasts.columns)
    if missing:
        raise EvaluationError(f"{name} lacks {', '.join(sorted(missing))}: is it of `qbot evaluate`?")
    show(forecasts, rule, name)


def show(forecasts: pd.DataFrame, rule: Rule, name: str) -> None:
    """One table a horizon and the sentence about the thresholds that count."""
    if len(forecasts):
        days = forecasts["session"]
        say(f"{len(forecasts):,} matured forecasts of {name}, {days.min()} to {days.max()}.")
        say("Trades, and what they earned of the capital after costs; * = thresholds asked about.\n")
    rules = thresholds.grid(
        {*thresholds.CONFIDENCES, rule.confidence_min}, {*thresholds.RETURNS_PCT, rule.return_min_pct}
    )
    for horizon, group in forecasts.groupby("horizon_minutes"):
        console.print(_table(int(str(horizon)), thresholds.outcomes(group, rules), rule))
    say(thresholds.sentence(forecasts, rule))


def say(text: str) -> None:
    """A line that is not broken, with no word of it taken for a colour."""
    console.print(text, soft_wrap=True, markup=False)


def _table(horizon: int, found: tuple[Outcome, ...], own: Rule) -> Table:
    returns = sorted({each.rule.return_min_pct for each in found})
    table = Table(title=f"{horizon} minutes", title_justify="left", box=None, pad_edge=False, padding=(0, 2))
    table.add_column("confidence ≥", no_wrap=True)
    for return_pct in returns:
        mark = "*" if return_pct == own.return_min_pct else ""
        table.add_column(f"return > {_whole(thresholds.percent(return_pct))}{mark}", justify="right")
    for confidence in sorted({each.rule.confidence_min for each in found}):
        cells = [_cell(each) for each in found if each.rule.confidence_min == confidence]
        table.add_row(f"{confidence:.2f}{'*' if confidence == own.confidence_min else ''}", *cells)
    return table


def _cell(found: Outcome) -> str:
    if not found.trades:
        return "[dim]–[/dim]"
    colour = "green" if found.total_pct > 0 else "red"
    return f"{found.trades:,} [{colour}]{_whole(thresholds.percent(found.total_pct, 1, sign=True))}[/{colour}]"


def _whole(text: str) -> str:
    """The number stays with its unit where a narrow terminal breaks a line."""
    return text.replace(" ", "\u00a0")


def _own(demo: bool | None, days: int | None) -> tuple[pd.DataFrame, Rule, str]:
    chosen = installation.choose(demo)
    rt = runtime_of(settings_of(chosen), chosen, Reached(postgres=True, redis=True))
    since = None if days is None else rt.market() - timedelta(days=days)
    with transaction(rt.engine) as connection:
        stored = state.newest_settings(connection).get("config", {})
        return hindsight.matured(connection, since), in_force(stored), chosen.name


def in_force(stored: Mapping[str, Any]) -> Rule:
    """The thresholds of the stored settings as `qbot.signals` bends them by the strategy; before any, the defaults."""
    return Rule(
        confidence_min=float(stored.get("ml_confidence_threshold", DEFAULTS.ml_confidence_threshold)),
        return_min_pct=float(stored.get("buy_threshold_pct", DEFAULTS.buy_threshold_pct))
        * THRESHOLD_FACTOR[Strategy(stored.get("strategy", DEFAULTS.strategy))],
    )
