"""The plain log: each event once, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from qbot.contract.payloads_ml import TrainingStage
from qbot.demo.plain import PlainLog
from qbot.demo.snapshot import AlertView, Phase, Snapshot
from tests.demo import samples
from tests.demo.samples import MARKET, decision, order, process, trade

QUIET = replace(samples.UP, processes=(), artifacts=samples.TRADING.artifacts, session=samples.TRADING.session)


def later(snapshot: Snapshot, minutes: float = 1, **changed: object) -> Snapshot:
    moved = {
        "market": snapshot.market + timedelta(minutes=minutes),
        "wall": snapshot.wall + timedelta(minutes=minutes / 60),
    }
    return replace(snapshot, **{**moved, **changed})  # type: ignore[arg-type]


def started() -> PlainLog:
    log = PlainLog()
    log.lines(QUIET)
    return log


def kinds(lines: list[str]) -> list[str]:
    return [line[21:30].strip() for line in lines]


def test_the_same_snapshot_twice_is_logged_once() -> None:
    for name, snapshot in samples.ALL.items():
        log = PlainLog()
        assert log.lines(snapshot) or name == "empty"
        assert log.lines(snapshot) == []


def test_a_decision_its_order_and_its_fill_are_one_line_each() -> None:
    log = started()
    decided = later(QUIET, decisions=(decision(1),))
    ordered = later(decided, orders=(order(1, "new", filled_qty=0.0),))
    partly = later(ordered, orders=(order(1, "partially_filled", filled_qty=4.0),))
    filled = later(partly, orders=(order(1),), trades=(trade(1),))
    seen = [log.lines(each) for each in (decided, ordered, partly, filled, later(filled))]
    assert [kinds(lines) for lines in seen] == [["decision"], ["order"], ["order"], ["order", "trade"], []]
    assert seen[0][0].endswith("BUY 10 AAPL: 60 min: forecast +0.031% is over the buy threshold +0.020%, no skill")
    assert seen[2][0].endswith("BUY 10 AAPL market: partially_filled, 4 filled")
    assert seen[3][1].endswith("BUY 10 AAPL @ 231.12")


def test_several_events_of_one_look_come_oldest_first() -> None:
    lines = started().lines(later(QUIET, trades=(trade(2, symbol="META"), trade(1, symbol="COST"))))
    assert ["COST" in lines[0], "META" in lines[1], len(lines)] == [True, True, 2]


def test_what_an_earlier_run_did_is_not_told_again() -> None:
    old = MARKET - timedelta(hours=1)
    log = PlainLog()
    before = replace(QUIET, trades=(trade(1, at=old),), orders=(order(1, at=old),), decisions=(decision(1, at=old),))
    assert not {"decision", "order", "trade"} & set(kinds(log.lines(before)))


def test_the_resting_legs_of_a_bracket_are_told_only_when_they_trade() -> None:
    log = started()
    legs = (order(7, "held", protective=True, side="sell"),)
    assert log.lines(later(QUIET, orders=legs)) == []
    lines = log.lines(later(QUIET, orders=legs, trades=(trade(7, side="sell", protective=True),)))
    assert lines[0].endswith("SELL 10 AAPL @ 231.12 (stop or target)")


def test_a_killed_process_is_told_with_its_restart_and_its_new_pid() -> None:
    log = PlainLog()
    log.lines(replace(QUIET, processes=(process("beat", pid=1),)))
    gone = log.lines(later(QUIET, processes=(process("beat", "restarting", 1, None),)))
    back = log.lines(later(QUIET, processes=(process("beat", "running", 1, 2),)))
    assert [line[31:] for line in gone] == ["beat ended and is started again (restart 1)"]
    assert [line[31:] for line in back] == ["beat runs (pid 2)"]


def test_training_session_state_and_alerts_are_told_as_they_change() -> None:
    log = PlainLog()
    log.lines(samples.TRAINING)
    done = samples.training_status(TrainingStage.COMPLETE, 1.0, "Training completed", active=False)
    lines = log.lines(replace(samples.TRADING, training=done, alerts=(AlertView("a", "WARNING", "Low", "cash"),)))
    text = "\n".join(lines)
    for expected in ("100% complete: Training completed", "60 min skilled", "state     RUNNING", "WARNING Low: cash"):
        assert expected in text


def test_every_new_error_is_told() -> None:
    log = started()
    first = log.lines(later(QUIET, errors=("a", "b"), error_count=2))
    second = log.lines(later(QUIET, errors=("a", "b", "c"), error_count=3))
    assert [line[-1] for line in first] == ["a", "b"] and [line[-1] for line in second] == ["c"]


def test_the_same_error_again_is_not_told_again() -> None:
    log = started()
    log.lines(later(QUIET, errors=("a",), error_count=1))
    assert log.lines(later(QUIET, errors=("a", "a", "b"), error_count=3))[0].endswith("b")
    assert log.lines(later(QUIET, errors=("a", "b", "a"), error_count=4)) == []


def test_each_half_hour_of_the_market_has_one_status_line_with_the_reason_why_not() -> None:
    log = started()
    day = [later(samples.TRADING, minutes, phase=Phase.UP) for minutes in range(0, 120, 5)]
    status = [line for each in day for line in log.lines(each) if kinds([line]) == ["status"]]
    assert len(status) == 4
    assert "not traded: 8 × HOLD, e.g. MSFT: 60 min: forecast +0.012%" in status[0]


def test_a_lost_redis_is_told_and_its_return_too() -> None:
    log = started()
    lost = log.lines(later(QUIET, problems={"Redis": "Connection refused"}))
    back = log.lines(later(QUIET))
    assert lost[0].endswith("Redis does not answer: Connection refused") and back[0].endswith("Redis answers again")


def test_a_message_with_line_ends_stays_one_line() -> None:
    lines = started().lines(later(QUIET, alerts=(AlertView("a", "INFO", "x", "one\ntwo\x1b[2J"),)))
    assert len(lines) == 1 and "\n" not in lines[0] and "\x1b" not in lines[0]
