"""When a demo counts as failed, and what its summary tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qbot.demo.logs import LogError
from qbot.demo.summary import Outcome, failures, lines
from qbot.store.report import HorizonRecord, RunRecord

RECORD = RunRecord(
    decisions=40, refused=36, intents={"closed": 4}, orders=12, fills=4, traded_usd=18_000.0, forecasts=117,
    quality=(HorizonRecord(60, 39, 0.51, 0.5, 38, 19),), trainings={"success": 1}, critical_alerts=(),
    equity_first_usd=100_000.0, equity_last_usd=100_012.5,
)  # fmt: skip
GOOD = Outcome(300.0, 20.0, 95.0, RECORD, models=True)
CRASH = LogError(
    "worker-data", "[data] celery.app.trace: Task tasks.fetch_data.fetch_data raised unexpected: KeyError('x')"
)
LOST = LogError("worker-data", "Task handler raised unexpected: WorkerLostError('Worker exited prematurely: signal 9')")


def test_a_run_that_trained_and_traded_is_a_good_one() -> None:
    assert failures(GOOD) == []
    assert lines(GOOD)[-1] == "all went well"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (replace(GOOD, stack_error="port 6380 is taken"), "port 6380 is taken"),
        (replace(GOOD, errors=(CRASH,)), "a task crashed: worker-data"),
        (replace(GOOD, restarts={"beat": 4}), "beat was restarted 4 times"),
        (replace(GOOD, record=None), "Postgres could not be asked at the end"),
        (replace(GOOD, models=False), "no model was trained"),
        (replace(GOOD, record=replace(RECORD, trainings={"failed": 1, "success": 1})), "1 of the trainings failed"),
        (replace(GOOD, record=replace(RECORD, critical_alerts=("Drift: AAPL",))), "critical alert: Drift: AAPL"),
        (replace(GOOD, record=replace(RECORD, fills=0)), "nothing was traded"),
    ],
)
def test_whatever_failed_is_named_and_makes_the_run_fail(outcome: Outcome, reason: str) -> None:
    found = failures(outcome)
    assert len(found) == 1 and reason in found[0]
    assert f"FAILED: {found[0]}" in lines(outcome)
    assert "all went well" not in lines(outcome)


@pytest.mark.parametrize(
    "outcome",
    [
        replace(GOOD, restarts={"beat": 1, "redis": 3}),
        replace(GOOD, errors=(LOST,), error_count=1),
        replace(GOOD, running_s=239.0, first_trade_s=None, record=replace(RECORD, fills=0)),
        replace(GOOD, running_s=60.0, first_trade_s=None, models=False, record=replace(RECORD, fills=0)),
        replace(GOOD, running_s=3.0, ready_s=None, first_trade_s=None, record=None, models=False),
    ],
    ids=(
        "killed and came back",
        "a killed worker",
        "too short to trade",
        "too short to train",
        "stopped while starting",
    ),
)
def test_what_is_no_failure(outcome: Outcome) -> None:
    assert failures(outcome) == []


def test_the_summary_tells_what_was_done() -> None:
    text = "\n".join(lines(replace(GOOD, restarts={"beat": 1}, errors=(LOST,), error_count=1)))
    for expected in (
        "5:00 min", "first trade     after 1:35 min", "12 at the broker for 4 intents", "4, 18,000.00 USD",
        "+12.50 USD", "117", "39 came due, 50% the right way", "mean error 0.510 USD (no change: 0.500)",
        "beat ×1", "WorkerLostError",
    ):  # fmt: skip
        assert expected in text
