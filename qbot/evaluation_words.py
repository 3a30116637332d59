"""An evaluation in plain words: one verdict a horizon, and "no skill" said first where there is none. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from qbot.evaluation_types import Evaluation, Horizon, Interval
from qbot.thresholds import DOCUMENTED, Outcome, percent

COVERAGE_TOLERANCE = 0.02  # of an interval, overall and in each part
ECE_MAX = 0.02
DEFLATED_MIN = 0.95


@dataclass(frozen=True)
class Verdict:
    """`grade`: skill, trace or none. `headline` is the first sentence, `sentences` the rest."""

    horizon_minutes: int
    grade: str
    headline: str
    sentences: tuple[str, ...]


def verdict(horizon: Horizon) -> Verdict:
    """What one would tell a friend about one horizon."""
    return Verdict(
        horizon_minutes=horizon.horizon_minutes,
        grade=grade(horizon),
        headline=_headline(horizon),
        sentences=(_direction(horizon), _probability(horizon), _intervals(horizon), *_trading(horizon)),
    )


def grade(horizon: Horizon) -> str:
    """skill: its price is closer than no change. trace: only its direction is better than chance."""
    if horizon.skilled:
        return "skill"
    auc = horizon.direction.auc
    return "trace" if auc is not None and auc.low is not None and auc.low > 0.5 else "none"


def overall(evaluation: Evaluation) -> str:
    """One line for the top."""
    skilled = [str(each.horizon_minutes) for each in evaluation.horizons if each.skilled]
    if not skilled:
        return "No skill at any horizon: nothing here is closer than “the price stays as it is”."
    best = max((t.deflated_sharpe or 0.0 for each in evaluation.horizons for t in each.trading), default=0.0)
    pays = "and trading it looks profitable" if best >= DEFLATED_MIN else "but no trading rule tried is proven to pay"
    return f"Skill at {' and '.join(skilled)} minutes, {pays} after costs."


def _headline(horizon: Horizon) -> str:
    minutes, found = horizon.horizon_minutes, grade(horizon)
    gain = 1.0 - horizon.model.mae_usd / horizon.naive.mae_usd if horizon.naive.mae_usd > 0 else 0.0
    p = "" if horizon.p_value is None else f" (p = {_p(horizon.p_value)})"
    if found == "skill":
        closer = f"the forecast price is {percent(gain)} closer than “the price stays as it is”{p}"
        return f"Skill at {minutes} minutes: {closer}."
    trace = " Only its direction is a little better than chance." if found == "trace" else ""
    return f"No skill at {minutes} minutes: the forecast is not better than “the price stays as it is”{p}.{trace}"


def _direction(horizon: Horizon) -> str:
    auc = horizon.direction.auc
    if auc is None or auc.low is None or auc.high is None:
        return "Whether it tells rises from falls cannot be said: there are too few days."
    reach = f"AUC {auc.value:.3f}, between {auc.low:.3f} and {auc.high:.3f} with 95 % certainty"
    if auc.low > 0.5:
        return f"It tells rises from falls better than a coin, if hardly: {reach}."
    if auc.high < 0.5:
        return f"It is wrong about the direction more often than a coin: {reach}."
    return f"It tells rises from falls no better than a coin: {reach}."


def _probability(horizon: Horizon) -> str:
    found = horizon.direction
    skill = found.brier_skill
    worth = "cannot be compared" if skill is None else f"have a Brier skill of {percent(skill, 2, sign=True)}"
    honest = "honest" if found.up_ece <= ECE_MAX else "not honest"
    return (
        f"Its probabilities are {honest} (off by {found.up_ece * 100:.1f} points on average; the constant up-rate by "
        f"{found.constant_ece * 100:.1f}) and {worth} against that constant; the highest confidence was "
        f"{found.confidence_max:.2f}."
    )


def _intervals(horizon: Horizon) -> str:
    return " ".join(_interval(each) for each in horizon.intervals)


def _interval(each: Interval) -> str:
    gap = "within" if each.worst_gap <= COVERAGE_TOLERANCE else "not everywhere within"
    wider = each.width_pct / each.plain_width_pct - 1.0 if each.plain_width_pct > 0 else 0.0
    return (
        f"The {percent(each.level, 0)} interval held {percent(each.covered.value, 1)} of outcomes ({gap} 2 points of "
        f"it by volatility and time of day) and is {percent(abs(wider), 1)} {'wider' if wider > 0 else 'narrower'} "
        "than the plain volatility one."
    )


def _trading(horizon: Horizon) -> list[str]:
    words = [f"Buying at every forecast rise {_earned(horizon.every_rise)}."]
    own = next((each.outcome for each in horizon.trading if each.outcome.rule == DOCUMENTED), None)
    if own is not None:
        at = f"confidence {DOCUMENTED.confidence_min:.2f}, return {percent(DOCUMENTED.return_min_pct, 0)}"
        words.append(f"Trading at the documented thresholds ({at}) {_earned(own)}.")
    return words


def _earned(outcome: Outcome) -> str:
    if not outcome.trades:
        return "would have bought nothing"
    verb = "earned" if outcome.total_pct >= 0 else "lost"
    total = percent(abs(outcome.total_pct), 1)
    return f"would have {verb} {total} of the capital after costs, in {outcome.trades:,} trades"


def _p(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else "under 0.01"
