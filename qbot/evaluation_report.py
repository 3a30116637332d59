"""An evaluation as one HTML page that needs nothing from anywhere, for either theme and any width."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from qbot import evaluation_plots as plots
from qbot.evaluation_html import figure, judged, more, page_of, section, table
from qbot.evaluation_types import Errors, Evaluation, Horizon, Trading
from qbot.evaluation_words import COVERAGE_TOLERANCE, DEFLATED_MIN, ECE_MAX, overall, verdict
from qbot.scores import Estimate

GRADES = {"skill": "skill", "trace": "no skill, a trace of direction", "none": "no skill"}


@dataclass(frozen=True)
class Setting:
    """What the page says about how it was made: `title` names the bars, `made` the folds and the models."""

    title: str
    made: str


def page(evaluation: Evaluation, setting: Setting) -> str:
    """The whole page. All text that came with the data is escaped."""
    body = "".join(
        (
            _head(evaluation, setting),
            _verdicts(evaluation),
            _errors(evaluation),
            _direction(evaluation),
            _calibration(evaluation),
            _intervals(evaluation),
            _trading(evaluation),
        )
    )
    return page_of(f"QBot evaluation: {setting.title}", body)


def _head(evaluation: Evaluation, setting: Setting) -> str:
    first, last = evaluation.days[0], evaluation.days[-1]
    return (
        f"<h1>What the forecasts of {escape(setting.title)} are worth</h1>"
        f'<p class="soft">{len(evaluation.symbols)} tickers ({escape(", ".join(evaluation.symbols))}), '
        f"{len(evaluation.days)} test days from {first} to {last}. {escape(setting.made)} "
        "Every figure is of days that the model and its calibration had never seen.</p>"
        f'<p class="lead">{escape(overall(evaluation))}</p>'
    )


def _verdicts(evaluation: Evaluation) -> str:
    cards = []
    for horizon in evaluation.horizons:
        found = verdict(horizon)
        told = "".join(f"<p>{escape(each)}</p>" for each in found.sentences)
        cards.append(
            f'<section class="card"><span class="grade {found.grade}">{GRADES[found.grade]}</span>'
            f"<h3>{horizon.horizon_minutes} minutes</h3><strong>{escape(found.headline)}</strong>{told}</section>"
        )
    return f'<div class="row">{"".join(cards)}</div>'


def _errors(evaluation: Evaluation) -> str:
    rows = []
    for each in evaluation.horizons:
        for name, found in (("QBot", each.model), ("AR", each.ar), ("no change", each.naive)):
            p = "" if name != "QBot" or each.p_value is None else f"{each.p_value:.3f}"
            rows.append([f"{each.horizon_minutes} min, {name}", *_error_cells(found), p, f"{each.rows:,}"])
    header = ["Horizon, forecast", "MAE (USD)", "RMSE (USD)", "MAPE (%)", "p (better than no change)", "Forecasts"]
    text = (
        "“No change” forecasts that the price stays as it is, AR is a least-squares line through the last returns. "
        "The p is one-sided, from a paired test over days."
    )
    tickers = [_ticker_table(each) for each in evaluation.horizons]
    return (
        section("How far off the price is", text, plots.errors(evaluation))
        + table(header, rows)
        + more("By ticker", tickers)
    )


def _ticker_table(horizon: Horizon) -> str:
    header = [
        f"{horizon.horizon_minutes} min", "MAE (USD)", "RMSE (USD)", "MAPE (%)",
        "no change: MAE (USD)", "RMSE (USD)", "MAPE (%)", "p", "AUC (95 % interval)", "Forecasts",
    ]  # fmt: skip
    rows = [
        [
            each.symbol,
            *_error_cells(each.model),
            *_error_cells(each.naive),
            "" if each.p_value is None else f"{each.p_value:.3f}",
            _reach(each.auc),
            f"{each.rows:,}",
        ]
        for each in horizon.tickers
    ]
    return table(header, rows)


def _direction(evaluation: Evaluation) -> str:
    header = ["Horizon", "AUC (95 % interval)", "Right direction (%)", "Rank IC (95 % interval)", "t of the IC"]
    rows = [
        [
            f"{each.horizon_minutes} min",
            _reach(each.direction.auc),
            f"{each.direction.right_share * 100:.2f}",
            _reach(each.direction.rank_ic, 4),
            "" if each.direction.rank_ic_t is None else f"{each.direction.rank_ic_t:+.2f}",
        ]
        for each in evaluation.horizons
    ]
    text = (
        "The AUC is the chance that of a rise and a fall the rise had the higher forecast: 0.5 is a coin, 0.52 is much "
        "on five-minute bars. The lines are 95 % intervals that take a day for one observation."
    )
    return (
        section("Rise or fall", text, [plots.tickers(each) for each in evaluation.horizons])
        + f'<div class="row">{"".join(figure(plots.folds(each)) for each in evaluation.horizons)}</div>'
        + table(header, rows)
    )


def _calibration(evaluation: Evaluation) -> str:
    bins = max(len(each.direction.up_curve) for each in evaluation.horizons)
    text = (
        "Of the forecasts that promise 53 %, do 53 % come true? On the dotted line they do. Each point is a bin of "
        f"equally many forecasts (up to {bins} bins); the pale columns show how many promise what. The constant is "
        f"the share of rises on the calibrating days. ECE up to {ECE_MAX} counts as honest; a Brier skill above 0 says "
        "more than the constant."
    )
    header = [
        "Horizon", "ECE of P(up)", "of the confidence", "of the constant", "Bins", "Brier", "Brier, constant",
        "Brier skill (%)", "t over days", "Highest confidence",
    ]  # fmt: skip
    rows = []
    for each in evaluation.horizons:
        d = each.direction
        rows.append(
            [
                f"{each.horizon_minutes} min",
                judged(f"{d.up_ece:.4f}", d.up_ece <= ECE_MAX),
                judged(f"{d.confidence_ece:.4f}", d.confidence_ece <= ECE_MAX),
                f"{d.constant_ece:.4f}",
                f"{len(d.up_curve)}",
                f"{d.brier:.5f}",
                f"{d.constant_brier:.5f}",
                "" if d.brier_skill is None else judged(f"{d.brier_skill * 100:+.3f}", d.brier_skill > 0),
                "" if d.brier_skill_t is None else f"{d.brier_skill_t:+.2f}",
                f"{d.confidence_max:.3f}",
            ]
        )
    return section("Is it as sure as it says", text, map(plots.reliability, evaluation.horizons)) + table(header, rows)


def _intervals(evaluation: Evaluation) -> str:
    text = (
        "An 80 % interval should hold 80 % of what comes: not only on average, but in calm and wild markets and at any "
        f"time of day. The bands are the level ± {COVERAGE_TOLERANCE * 100:.0f} points. The plain interval is "
        "± a constant × recent volatility × √bars around no change. The score adds to the width a fine for each miss: "
        "smaller is better."
    )
    header = [
        "Horizon, level", "Held (%)", "Worst part off by (points)", "Width (% of price)", "Score (% of price)",
        "plain: held (%)", "Width (% of price)", "Score (% of price)",
    ]  # fmt: skip
    rows = [
        [
            f"{each.horizon_minutes} min, {found.level * 100:.0f} %",
            f"{found.covered.value * 100:.1f}",
            judged(f"{found.worst_gap * 100:.1f}", found.worst_gap <= COVERAGE_TOLERANCE),
            f"{found.width_pct * 100:.3f}",
            f"{found.score_pct * 100:.3f}",
            f"{found.plain_covered.value * 100:.1f}",
            f"{found.plain_width_pct * 100:.3f}",
            f"{found.plain_score_pct * 100:.3f}",
        ]
        for each in evaluation.horizons
        for found in each.intervals
    ]
    wide = "".join(map(figure, plots.widths(evaluation)))
    return (
        section("Do the intervals hold", text, map(plots.coverage, evaluation.horizons))
        + f'<div class="row">{wide}</div>'
        + table(header, rows)
    )


def _trading(evaluation: Evaluation) -> str:
    costs = evaluation.costs
    text = (
        "Buy when the forecast return and the confidence are over the thresholds, hold for the horizon, sell. Long "
        "only, one position a ticker, each ticker an equal share of the capital, not compounded. A round trip costs "
        f"{2 * costs.half_spread_bps:.1f} bps of spread, SEC fee {costs.sec_fee_usd_per_million:.2f} USD a million, "
        f"TAF {costs.taf_usd_per_share} USD a share. The deflated Sharpe ratio is the probability that the rule is "
        f"more than the luckiest of the {evaluation.trials} that traded; {DEFLATED_MIN} is the usual bar. A "
        "market that rose makes any long rule look good before costs."
    )
    shown = [plots.profit(evaluation, each) for each in evaluation.horizons]
    tables = [_trading_table(each) for each in evaluation.horizons]
    return section("What trading it would have earned", text, shown) + more("All thresholds", tables)


def _trading_table(horizon: Horizon) -> str:
    header = [
        f"{horizon.horizon_minutes} min: confidence ≥", "Return > (%)", "Over both (forecasts)", "Trades", "Won (%)",
        "Gross (bps a trade)", "Net (bps a trade)", "Net (% of capital)", "Sharpe (a year)", "Deflated Sharpe (prob.)",
    ]  # fmt: skip
    return table(header, [_rule_cells(each) for each in horizon.trading])


def _rule_cells(each: Trading) -> list[str]:
    found = each.outcome
    cells = [f"{found.rule.confidence_min:.2f}", f"{found.rule.return_min_pct * 100:.2f}", f"{found.passed:,}"]
    if not found.trades:
        return [*cells, "0", "", "", "", "", "", ""]
    return [
        *cells,
        f"{found.trades:,}",
        f"{found.won / found.trades * 100:.1f}",
        f"{found.gross_pct * 1e4:+.2f}",
        f"{found.net_pct * 1e4:+.2f}",
        judged(f"{found.total_pct * 100:+.2f}", found.total_pct > 0),
        "" if each.sharpe_year is None else f"{each.sharpe_year:+.2f}",
        "" if each.deflated_sharpe is None else f"{each.deflated_sharpe:.3f}",
    ]


def _error_cells(found: Errors) -> list[str]:
    return [f"{found.mae_usd:.4f}", f"{found.rmse_usd:.4f}", f"{found.mape_percent:.4f}"]


def _reach(found: Estimate | None, digits: int = 3) -> str:
    if found is None:
        return ""
    value = f"{found.value:.{digits}f}"
    if found.low is None or found.high is None:
        return value
    return f"{value} ({found.low:.{digits}f} to {found.high:.{digits}f})"
