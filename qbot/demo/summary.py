"""The end of a demo: what it did, and whether it did it well. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qbot.demo import text as say
from qbot.demo.logs import LogError
from qbot.store.report import HorizonRecord, RunRecord

RESTARTS_MAX = 3  # of one process: a process may be killed; one that needs more than this keeps dying
TRADES_BY_MINUTES = 4.0  # a run that took longer must have traded
MODELS_BY_MINUTES = 2.5  # and this long must be enough for the first models
SHOWN = 5


@dataclass(frozen=True)
class Outcome:
    """What a run left behind. `record` is None when Postgres could not be asked at the end."""

    running_s: float
    ready_s: float | None
    first_trade_s: float | None
    record: RunRecord | None
    models: bool
    restarts: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[LogError] = ()
    error_count: int = 0
    stack_error: str | None = None


def failures(outcome: Outcome) -> list[str]:
    """Everything that makes the run a failed one; empty for a good one."""
    minutes = outcome.running_s / 60
    crashed = sorted({f"{error.process}: {error.text}" for error in outcome.errors if error.task_crashed})
    found = [outcome.stack_error] if outcome.stack_error else []
    found += [f"a task crashed: {text}" for text in crashed]
    found += [f"{n} was restarted {k} times" for n, k in outcome.restarts.items() if k > RESTARTS_MAX]
    record = outcome.record
    if record is None:
        if outcome.ready_s is not None:
            found.append("Postgres could not be asked at the end")
        return found
    found += [f"critical alert: {alert}" for alert in record.critical_alerts]
    if record.trainings.get("failed"):
        found.append(f"{record.trainings['failed']} of the trainings failed")
    if not outcome.models and minutes > MODELS_BY_MINUTES:
        found.append("no model was trained")
    if record.fills == 0 and minutes > TRADES_BY_MINUTES:
        found.append(f"nothing was traded in {say.duration(outcome.running_s)}")
    return found


def lines(outcome: Outcome) -> list[str]:
    """The summary, for the terminal."""
    if outcome.stack_error and outcome.ready_s is None:  # nothing ran that could be added up
        return [f"FAILED: {outcome.stack_error}"]
    record = outcome.record
    ready = "never" if outcome.ready_s is None else f"after {say.duration(outcome.ready_s)}"
    first = "none" if outcome.first_trade_s is None else f"after {say.duration(outcome.first_trade_s)}"
    text = [f"ran             {say.duration(outcome.running_s)}, all processes up {ready}", f"first trade     {first}"]
    if record is not None:
        text += _record_lines(record)
    restarts = ", ".join(f"{name} ×{count}" for name, count in outcome.restarts.items() if count)
    text.append(f"restarts        {restarts or 'none'}")
    text.append(f"errors logged   {outcome.error_count or 'none'}")
    kinds = dict.fromkeys(f"  {error.process}: {error.text[:160]}" for error in outcome.errors)
    text += list(kinds)[-SHOWN:]
    found = failures(outcome)
    text += [f"FAILED: {reason[:200]}" for reason in found] or ["all went well"]
    return text


def _record_lines(record: RunRecord) -> list[str]:
    text = [
        f"decisions       {record.decisions}, of which {record.refused} were not to trade",
        f"orders          {record.orders} at the broker for {sum(record.intents.values())} intents",
        f"fills           {record.fills}, {say.usd(record.traded_usd)} USD",
        f"profit or loss  {_profit(record)}",
        f"forecasts       {record.forecasts}",
    ]
    return text + [f"  {_quality(each)}" for each in record.quality]


def _profit(record: RunRecord) -> str:
    if record.equity_first_usd is None or record.equity_last_usd is None:
        return "no equity was recorded"
    change = record.equity_last_usd - record.equity_first_usd
    return f"{say.signed_usd(change)} USD, equity {say.usd(record.equity_last_usd)} USD"


def _quality(each: HorizonRecord) -> str:
    hits = f"{each.direction_right / each.moved:.0%}" if each.moved else "none"
    error = f"mean error {each.mae_usd:.3f} USD (no change: {each.naive_mae_usd:.3f})"
    return f"{each.horizon_minutes:>2} min: {each.matured} came due, {hits} the right way, {error}"
