"""The plots of an evaluation as SVG for a page of either theme: text and axes take the colour of the page's text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from qbot.evaluation_types import Evaluation, Horizon
from qbot.evaluation_words import COVERAGE_TOLERANCE
from qbot.scores import Bin, Estimate
from qbot.thresholds import Outcome, percent

BLUE, ORANGE, GREEN, RED, VIOLET, GREY = "#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#8792a5"
LINES = (BLUE, ORANGE, GREEN, RED, VIOLET, GREY)
INK = "#010203"  # stands for the colour of the page's text
LINES_MAX = 6
WIDTH_IN, HEIGHT_IN = 4.4, 3.0
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "qbot",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
}
Draw = Callable[[Axes], None]


def errors(evaluation: Evaluation) -> list[str]:
    """Mean errors of model, AR and no change, and what the first two gain on the last."""
    names = [f"{each.horizon_minutes} min" for each in evaluation.horizons]
    naive = np.array([each.naive.mae_usd for each in evaluation.horizons])
    model = np.array([each.model.mae_usd for each in evaluation.horizons])
    auto = np.array([each.ar.mae_usd for each in evaluation.horizons])

    def absolute(axes: Axes) -> None:
        _bars(axes, names, {"QBot": model, "AR": auto, "no change": naive}, (BLUE, ORANGE, GREY))
        axes.set(title="Mean error of the price", ylabel="USD")

    def gained(axes: Axes) -> None:
        gains = {"QBot": (1 - model / naive) * 100, "AR": (1 - auto / naive) * 100}
        _bars(axes, names, gains, (BLUE, ORANGE))
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(title="Closer than “no change” (below 0: worse)", ylabel="% of its error")

    return [_svg("Mean absolute error in USD", absolute), _svg("Gain on no change in percent", gained)]


def reliability(horizon: Horizon) -> str:
    """Promised against happened, of P(up) and of the confidence, with how many forecasts there were."""

    def draw(axes: Axes) -> None:
        found = horizon.direction
        every = [p for each in (*found.up_curve, *found.confidence_curve) for p in (each.promised, each.happened)]
        low, high = min([*every, 0.47]) - 0.01, max([*every, 0.53]) + 0.01
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=":")
        total = sum(each.count for each in found.up_curve)
        for curve, colour, label in (
            (found.up_curve, BLUE, "P(up)"),
            (found.confidence_curve, ORANGE, "confidence"),
        ):
            _curve(axes, curve, colour, label)
        below = axes.twinx()
        width = (high - low) / 60
        below.bar(
            [each.promised for each in found.up_curve],
            [each.count / total for each in found.up_curve],
            width=width,
            color=BLUE,
            alpha=0.22,
        )
        below.set(ylim=(0, 1.2), yticks=[])
        below.spines["left"].set_visible(False)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="promised probability", ylabel="happened")
        axes.set_title(f"{horizon.horizon_minutes} minutes")
        axes.grid(True)
        axes.legend(loc="upper left")

    return _svg(f"Calibration curve at {horizon.horizon_minutes} minutes", draw, height=3.4)


def coverage(horizon: Horizon) -> str:
    """Share inside the intervals, overall and by part, against the level ± 2 points."""

    def draw(axes: Axes) -> None:
        names = ["overall", *horizon.intervals[0].parts]
        places = np.arange(len(names))[::-1]
        for found, colour in zip(horizon.intervals, (BLUE, VIOLET), strict=False):
            band = (found.level - COVERAGE_TOLERANCE, found.level + COVERAGE_TOLERANCE)
            axes.axvspan(*band, color=colour, alpha=0.13, linewidth=0)
            axes.axvline(found.level, color=colour, linewidth=0.8, linestyle=":")
            _estimates(axes, [found.covered, *(found.parts[name] for name in names[1:])], places, colour)
        axes.set_yticks(places, names)
        axes.axhline(places[0] - 0.5, color=INK, linewidth=0.5, alpha=0.4)
        axes.axhline(places[0] - 3.5, color=INK, linewidth=0.5, alpha=0.4)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.set(title=f"{horizon.horizon_minutes} minutes", xlabel="outcomes inside the interval")

    return _svg(f"Interval coverage at {horizon.horizon_minutes} minutes", draw, height=3.4)


def widths(evaluation: Evaluation) -> list[str]:
    """Mean width of the interval and of the plain volatility interval, one plot a level."""
    names = [f"{each.horizon_minutes} min" for each in evaluation.horizons]

    def of_level(at: int) -> Draw:
        def draw(axes: Axes) -> None:
            found = [each.intervals[at] for each in evaluation.horizons]
            series = {
                "QBot": np.array([each.width_pct for each in found]) * 100,
                "plain volatility": np.array([each.plain_width_pct for each in found]) * 100,
            }
            _bars(axes, names, series, (BLUE, GREY))
            axes.set(title=f"Width of the {percent(found[0].level, 0)} interval", ylabel="% of the price")

        return draw

    levels = range(len(evaluation.horizons[0].intervals))
    return [_svg("Mean width of the intervals", of_level(at)) for at in levels]


def profit(evaluation: Evaluation, horizon: Horizon) -> str:
    """Return of the capital after costs, summed up day by day, for the rules that traded."""

    def draw(axes: Axes) -> None:
        for outcome, colour in zip(shown_rules(horizon), LINES, strict=False):
            rule, total = outcome.rule, np.cumsum(outcome.daily) * 100
            label = f"≥ {rule.confidence_min:.2f}, > {percent(rule.return_min_pct)} ({outcome.trades:,})"
            axes.plot(np.arange(len(total)), total, color=colour, label=label)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(title=f"{horizon.horizon_minutes} minutes", ylabel="% of the capital")
        _dates(axes, [str(day) for day in evaluation.days])
        axes.grid(True, axis="y")
        if axes.lines[:-1] and isinstance(axes.figure, Figure):
            axes.figure.legend(
                loc="outside lower center", ncols=2, title="confidence, return (trades)", title_fontsize=8
            )

    return _svg(f"Profit and loss after costs at {horizon.horizon_minutes} minutes", draw, height=3.9)


def shown_rules(horizon: Horizon) -> list[Outcome]:
    """Rules that differ: each return threshold at the lowest confidence, then each confidence at the lowest return."""
    traded = [each.outcome for each in horizon.trading if each.outcome.trades]
    if not traded:
        return []
    confidence = min(each.rule.confidence_min for each in traded)
    return_pct = min(each.rule.return_min_pct for each in traded)
    by_return = [each for each in traded if each.rule.confidence_min == confidence]
    by_confidence = [each for each in traded if each.rule.return_min_pct == return_pct]
    different: dict[tuple[float, ...], Outcome] = {}
    for each in (*by_return, *by_confidence):
        different.setdefault(each.daily, each)
    return list(different.values())[:LINES_MAX]


def tickers(horizon: Horizon) -> str:
    """AUC of each ticker with its interval."""

    def draw(axes: Axes) -> None:
        known = [(each.symbol, each.auc) for each in horizon.tickers if each.auc is not None]
        places = np.arange(len(known))[::-1]
        axes.axvline(0.5, color=INK, linewidth=0.8)
        _estimates(axes, [each for _, each in known], places, BLUE)
        axes.set_yticks(places, [symbol for symbol, _ in known])
        axes.grid(True, axis="x")
        axes.set(title=f"{horizon.horizon_minutes} minutes", xlabel="AUC of the direction (0.5 = a coin)")

    return _svg(f"AUC by ticker at {horizon.horizon_minutes} minutes", draw, height=0.9 + 0.2 * len(horizon.tickers))


def folds(horizon: Horizon) -> str:
    """AUC of each fold with its interval, in time order."""

    def draw(axes: Axes) -> None:
        known = [(each, each.auc) for each in horizon.folds if each.auc is not None]
        axes.axhline(0.5, color=INK, linewidth=0.8)
        for place, (_, found) in enumerate(known):
            if found.low is not None and found.high is not None:
                axes.plot([place, place], [found.low, found.high], color=BLUE, alpha=0.5)
        axes.plot(range(len(known)), [found.value for _, found in known], "o", color=BLUE, markersize=4.5)
        marks = [f"{each.first_day:%b %y}" for each, _ in known]
        step = max(1, -(-len(marks) // 6))
        axes.set_xticks(range(0, len(marks), step), marks[::step])
        axes.grid(True, axis="y")
        axes.set(title=f"{horizon.horizon_minutes} minutes", ylabel="AUC", xlabel="first month of the fold")

    return _svg(f"AUC by fold at {horizon.horizon_minutes} minutes", draw)


def _bars(axes: Axes, names: Sequence[str], series: dict[str, np.ndarray], colours: Sequence[str]) -> None:
    width = 0.8 / len(series)
    for number, ((label, values), colour) in enumerate(zip(series.items(), colours, strict=False)):
        places = np.arange(len(names)) + (number - (len(series) - 1) / 2) * width
        axes.bar(places, values, width * 0.92, color=colour, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.grid(True, axis="y")
    axes.margins(y=0.25)
    axes.legend(loc="upper left", ncols=len(series))


def _curve(axes: Axes, curve: Sequence[Bin], colour: str, label: str) -> None:
    axes.plot(
        [each.promised for each in curve],
        [each.happened for each in curve],
        "o-",
        color=colour,
        markersize=3.5,
        label=label,
    )


def _estimates(axes: Axes, found: Sequence[Estimate], places: np.ndarray, colour: str) -> None:
    for each, place in zip(found, places, strict=True):
        if each.low is not None and each.high is not None:
            axes.plot([each.low, each.high], [place, place], color=colour, alpha=0.5)
    axes.plot([each.value for each in found], places, "o", color=colour, markersize=4.5)


def _dates(axes: Axes, days: Sequence[str]) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))

    def label(at: float, _place: int | None) -> str:
        return days[int(at)][:7] if 0 <= at < len(days) else ""

    axes.xaxis.set_major_formatter(FuncFormatter(label))


def _svg(told: str, draw: Draw, height: float = HEIGHT_IN) -> str:
    """The drawing as an element for HTML; `told` is what a screen reader says."""
    with _styled():
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    body = file.getvalue()
    body = body[body.index("<svg") :].replace(INK, "currentColor")
    body = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{told}">', body)
    return re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)


@contextmanager
def _styled() -> Iterator[None]:
    with rc_context(STYLE):
        yield
