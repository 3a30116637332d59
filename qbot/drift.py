"""Whether forecasts err more than they did on the days their artifact was measured on. Pure; days are the sample.

Rows of one day overlap and move together, so a day counts once: the mean of its absolute errors, each divided by half
the width of the row's own interval. A market that is merely wilder has wider intervals and changes nothing.

The test is a conformal test martingale (Vovk, Nouretdinov and Gammerman 2003, "Testing exchangeability on-line"; Vovk
et al. 2021, "Retrain or not retrain: conformal test martingales for change-point detection"). Each new day is ranked
among the reference days and the days before it; large errors have small p-values, uniform as long as the days are
exchangeable. A gambler who bets on small ones has wealth `evidence`, 1 at the start and no more than 1 on average: by
Ville's inequality it ever reaches 1 / ALPHA with a probability of ALPHA at most, whatever the errors' distribution and
however long one looks. How it does where days depend on each other is in docs/after-the-fact.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from qbot import limits

Array = npt.NDArray[np.float64]

ALPHA = 0.01  # of an artifact and horizon: the chance that it is ever alarmed about without a reason
SIZE_MIN = 1.5  # evidence alone may be of a change nobody minds: an alarm is of errors half again as large, at least
RECENT_DAYS = 5  # over which the size is measured: a single wild day is no drift
REFERENCE_DAYS_MIN = 4  # the fewest that a training leaves
WHOLE_SHARE = 2.0 / 3.0  # of the usual issue times: mornings are wilder, so a part of a day is no day
NAIVE_RATIO_MAX = 1.5  # the plain bound: a day's errors over those of "no change" on the same rows
# The bets: κ·p^(κ−1) for each κ. Half of the money waits, and a part of all of it changes sides every day, so that a
# change after months of quiet is found as soon as one at the beginning.
POWERS = np.array([0.1, 0.3, 0.5])
WAITING, MOVED = 0.5, 0.02


@dataclass(frozen=True)
class DayError:
    """One New York day of one artifact. Errors are mean absolute ones in half widths of the rows' own intervals.

    `naive`: that of "no change". `outside`: the share outside the 80 % interval. `times`: moments of issue.
    """

    day: date
    scaled: float
    naive: float
    outside: float
    rows: int
    times: int


@dataclass(frozen=True)
class Drift:
    """What the days since the last alarm say. `ratio` is the mean error of the last RECENT_DAYS over the usual one."""

    days: int
    evidence: float
    ratio: float
    alarm: bool


DAYS = TypeAdapter(tuple[DayError, ...])


def daily(
    predicted: Array, actual: Array, low: Array, high: Array, times: Sequence[datetime] | npt.NDArray[np.object_],
    sessions: npt.NDArray[np.object_],
) -> tuple[DayError, ...]:  # fmt: skip
    """The days of a part of a training, oldest first; rows without a usable interval are left out. Returns: fractions.

    Give it the moments at which QBot forecasts, not every bar: a mean over more rows scatters less.
    """
    half = (high - low) / 2.0
    usable = np.isfinite(half) & (half > 0) & np.isfinite(actual) & np.isfinite(predicted)
    moments, found = np.asarray(times), []
    for day in sorted(set(sessions[usable])):
        at = usable & (sessions == day)
        found.append(
            DayError(
                day=day,
                scaled=float(np.mean(np.abs(actual[at] - predicted[at]) / half[at])),
                naive=float(np.mean(np.abs(actual[at]) / half[at])),
                outside=float(np.mean((actual[at] < low[at]) | (actual[at] > high[at]))),
                rows=int(at.sum()),
                times=len(set(moments[at])),
            )
        )
    return tuple(found)


def whole(days: Sequence[DayError], reference: Sequence[DayError]) -> list[DayError]:
    """Those with most of the usual moments of issue: neither a half day nor one on which QBot was down."""
    usual = float(np.median([day.times for day in reference])) if reference else 0.0
    return [day for day in days if day.times >= WHOLE_SHARE * usual]


def p_values(errors: Array, reference: int, ties: Array) -> Array:
    """Of each value after the first `reference` ones (last axis), its rank among itself and all before it, in (0, 1].

    `ties` are uniform in [0, 1), one for each p-value: with them the p-values are exactly uniform.
    """
    found = np.empty_like(ties)
    for at in range(reference, errors.shape[-1]):
        past, now = errors[..., :at], errors[..., at : at + 1]
        larger, same = (past > now).sum(axis=-1), (past == now).sum(axis=-1) + 1
        found[..., at - reference] = (larger + (1.0 - ties[..., at - reference]) * same) / (at + 1)
    return found


def evidence(p: Array) -> Array:
    """The gambler's wealth after each p-value (last axis); before the first one it is 1."""
    home = np.concatenate([[WAITING], np.full(len(POWERS), (1.0 - WAITING) / len(POWERS))])
    held = np.broadcast_to(home, (*p.shape[:-1], len(home)))
    path = np.empty_like(p)
    for at in range(p.shape[-1]):
        now = p[..., at : at + 1]
        gains = np.concatenate([np.ones_like(now), POWERS * now ** (POWERS - 1.0)], axis=-1)
        held = ((1.0 - MOVED) * held + MOVED * held.sum(axis=-1, keepdims=True) * home) * gains
        path[..., at] = held.sum(axis=-1)
    return path


def sizes(errors: Array, reference: int) -> Array:
    """After each value, the mean of the last RECENT_DAYS new ones over the mean of the reference (last axis)."""
    usual = errors[..., :reference].mean(axis=-1)
    later = errors[..., reference:]
    spans = [later[..., max(0, at + 1 - RECENT_DAYS) : at + 1].mean(axis=-1) for at in range(later.shape[-1])]
    return np.asarray(np.stack(spans, axis=-1) / usual[..., None], dtype=float)


def alarms(errors: Array, reference: int, ties: Array) -> npt.NDArray[np.bool_]:
    """After each new value, whether there is an alarm: enough evidence, of an increase that matters."""
    found = evidence(p_values(errors, reference, ties)) >= 1.0 / ALPHA
    return np.asarray(found & (sizes(errors, reference) >= SIZE_MIN))


def judge(reference: Sequence[DayError], days: Sequence[DayError], seed: str) -> Drift | None:
    """What the whole days since the artifact began, or since its last alarm, say; None where there is nothing to say.

    `seed` names the artifact: ties are broken by it and the day, so that a second look finds what the first one did.
    """
    if len(reference) < REFERENCE_DAYS_MIN or not days:
        return None
    errors = np.array([day.scaled for day in (*reference, *days)])
    ties = np.array([_uniform(f"{seed} {day.day}") for day in days])
    path = evidence(p_values(errors, len(reference), ties))
    return Drift(
        days=len(days),
        evidence=float(path[-1]),
        ratio=float(sizes(errors, len(reference))[-1]),
        alarm=bool(alarms(errors, len(reference), ties)[-1]),
    )


def beyond_bound(day: DayError) -> bool:
    """The plain bound: the artifact did a day's work much worse than no artifact at all."""
    return day.naive > 0 and day.scaled >= NAIVE_RATIO_MAX * day.naive


def may_train(now: datetime, last_training: datetime | None, by_deviation: Sequence[datetime]) -> bool:
    """Whether a deviation may start a training. Times are market time; `by_deviation`: of those it started before.

    It waits for the cool-down after any training, twice as long for each training that a deviation started within
    DEVIATION_MEMORY_S: where retraining does not help, it is tried less and less often.
    """
    since = now - timedelta(seconds=limits.DEVIATION_MEMORY_S)
    doublings = sum(at > since for at in by_deviation)
    wait = timedelta(seconds=limits.DEVIATION_COOLDOWN_S * 2.0**doublings)
    return last_training is None or now >= last_training + wait


def _uniform(text: str) -> float:
    """A number in [0, 1) that the text alone determines."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2.0**48
