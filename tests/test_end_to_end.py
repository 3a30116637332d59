"""The whole system over real processes, in the order of a user's first day. Each test goes on where the last ended.

What happens when a process dies is asked by the chaos round, `tests/chaos/test_one_round.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

import beat_schedule
from qbot.contract import keys
from qbot.contract.key import Direction
from qbot.contract.payloads_autotrading import BackendStatus
from tests.support.servers import wait_until
from tests.support.whole import SESSION, Whole, whole_system

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

TRADING_SHOWS = (  # a start, a training and a trade
    keys.TRADES_LOG, keys.AUTOTRADING_ENABLED, keys.AUTOTRADING_SESSION_ACTIVE, keys.AUTOTRADING_LAST_TRADE,
    keys.PREDICTIONS_CURRENT, keys.MODEL_METRICS_HISTORY, keys.ML_TRAINING_STATUS, keys.ML_TRAINING_LOG,
    keys.LAST_TRAINING_STATS, keys.MODEL_PATHS, keys.MODEL_FEATURES,
)  # fmt: skip
OF_A_SESSION = {keys.AUTOTRADING_SESSION_ACTIVE.name, keys.AUTOTRADING_ERROR.name}  # they come and go with it
WHOLE_S = 90.0  # a frontend that follows has all of it sooner; the slowest key comes once a minute
OFF_S = 3.0  # well under the poll's ten seconds, with room for a busy machine


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_system(tmp_path_factory.mktemp("whole")) as system:
        system.start()
        yield system


def status(whole: Whole, wanted: BackendStatus, timeout_s: float = 90.0) -> None:
    wait_until(lambda: whole.value(keys.AUTOTRADING_BACKEND_STATUS) is wanted, f"{wanted}", timeout_s, every_s=0.3)


def acted_upon(whole: Whole, said: str) -> None:
    """Wait until this word of `autotrading:status` was looked at, and the stop is finished.

    The DEL before it stops as well, so the board tells nothing. A start that is seen at the same look as a stop counts
    for nothing, and on a busy machine a look may take seconds.
    """
    wanted = [(hashlib.sha256(said.encode()).hexdigest(), False)]
    query = "SELECT seen->>'status', stopping FROM switch"
    wait_until(lambda: whole.rows(query) == wanted, f"{said} is acted upon", 60, every_s=0.3)


def no_order_twice_and_books_agree(whole: Whole) -> None:
    orders = whole.at_exchange("orders?status=all&limit=500&nested=false")
    times_sent = Counter(order["client_order_id"] for order in orders if order["client_order_id"].startswith("qbot-"))
    assert times_sent and max(times_sent.values()) == 1
    wait_until(lambda: ledger_positions(whole) == broker_positions(whole), "ledger and broker agree", 60, every_s=0.5)
    unknown = whole.rows("SELECT client_order_id FROM intents WHERE status = 'sent' AND broker_order_id IS NULL")
    assert unknown == []


def ledger_positions(whole: Whole) -> dict[str, float]:
    query = "SELECT symbol, sum(CASE side WHEN 'buy' THEN qty ELSE -qty END) FROM fills GROUP BY symbol"
    return {symbol: float(qty) for symbol, qty in whole.rows(query) if qty}


def broker_positions(whole: Whole) -> dict[str, float]:
    return {position["symbol"]: float(position["qty"]) for position in whole.at_exchange("positions")}


@dataclass(frozen=True)
class Lost:
    """A FLUSHALL between two cycles: when, and what was there before."""

    at: datetime
    backend_keys: set[str]
    orders: set[str]


@pytest.fixture(scope="module")
def lost(whole: Whole) -> Lost:
    """The board is emptied while QBot trades, right after a cycle: none that began before can send anything now."""
    whole.make_administrator()
    status(whole, BackendStatus.RUNNING)
    whole.check(WHOLE_S)
    earlier = whole.value(keys.TRADING_STATUS).last_run
    wait_until(lambda: whole.value(keys.TRADING_STATUS).last_run > earlier, "a cycle", 60, every_s=0.05)
    backend = [key for key in keys.ENTRIES.values() if key.direction is Direction.BACKEND and not key.pattern]
    there = {name for name, reading in whole.board.read_many(backend).readings.items() if reading.present}
    orders = ids(whole)
    return Lost(at=whole.flush_all(), backend_keys=there, orders=orders)


def ids(whole: Whole) -> set[str]:
    """QBot's own orders at the exchange, the legs left out."""
    found = whole.at_exchange("orders?status=all&limit=500&nested=true")
    return {order["client_order_id"] for order in found if order["client_order_id"].startswith("qbot-")}


def cycles_since(whole: Whole, at: datetime) -> int:
    return len(whole.rows("SELECT name FROM task_ticks WHERE name = 'trade_bot' AND started_at > :at", at=at))


def decisions(whole: Whole) -> int:
    return int(whole.rows("SELECT count(*) FROM decisions")[0][0])


def test_nothing_is_traded_before_a_frontend_says_so(whole: Whole) -> None:
    status(whole, BackendStatus.STOPPED)
    assert whole.at_exchange("orders?status=all") == []
    assert whole.value(keys.TRADING_SETTINGS).enabled is False


def test_the_documented_writes_start_trading_and_a_trade_is_filled(whole: Whole) -> None:
    whole.begin_trading()
    whole.wait_for_trade()
    assert whole.value(keys.AUTOTRADING_SESSION_ACTIVE) == SESSION["session_id"]
    no_order_twice_and_books_agree(whole)


def test_every_documented_key_is_valid_and_fresh_or_absent_for_a_named_reason(whole: Whole) -> None:
    found = whole.check(WHOLE_S)
    verdicts = {each["key"]: (each["status"], each["reason"]) for each in found["keys"]}
    assert {key: said for key, said in verdicts.items() if said[0] not in ("ok", "absent")} == {}
    assert found["unknown"] == [] and verdicts.keys() == keys.ENTRIES.keys()
    assert all(reason for status, reason in verdicts.values() if status == "absent")
    assert {each.name for each in TRADING_SHOWS} <= {key for key, said in verdicts.items() if said[0] == "ok"}


def test_an_order_leads_back_to_its_forecast_artifact_settings_and_verdict(whole: Whole) -> None:
    chain = whole.rows(
        "SELECT i.client_order_id FROM intents i JOIN decisions d USING (decision_id)"
        " JOIN forecasts f USING (forecast_id) JOIN artifacts a USING (artifact_id)"
        " JOIN settings_revisions s ON s.revision = d.settings_revision WHERE d.allowed"
    )
    sent = whole.rows("SELECT client_order_id FROM intents")
    assert sorted(chain) == sorted(sent) != []


def test_del_stops_trading_and_leaves_the_protection_resting(whole: Whole) -> None:
    whole.cli("DEL", keys.AUTOTRADING_ENABLED.name)
    whole.cli("SET", keys.AUTOTRADING_STATUS.name, "STOPPED")
    status(whole, BackendStatus.STOPPED)
    acted_upon(whole, "STOPPED")
    assert whole.value(keys.AUTOTRADING_SESSION_ACTIVE) is None
    assert whole.value(keys.AUTOTRADING_STOPPED_AT) is not None
    assert whole.value(keys.TRADING_SETTINGS).enabled is False
    orders = whole.at_exchange("orders?status=open&nested=false")
    assert [order for order in orders if order["side"] == "buy"] == []
    before = len(whole.at_exchange("orders?status=all&limit=500"))
    cycles = whole.value(keys.TRADING_STATUS).last_run
    wait_until(lambda: whole.value(keys.TRADING_STATUS).last_run > cycles, "one more cycle", 60, every_s=0.5)
    assert len(whole.at_exchange("orders?status=all&limit=500")) == before


def test_outside_the_sessions_own_hours_the_market_is_closed(whole: Whole) -> None:
    hours = {"market_open": "04:00", "market_close": "04:01", "timezone": "America/New_York"}
    whole.cli("SET", keys.AUTOTRADING_ENABLED.name, json.dumps(SESSION | {"trading_hours": hours}))
    whole.cli("SET", keys.AUTOTRADING_STATUS.name, "ACTIVE")
    status(whole, BackendStatus.MARKET_CLOSED)


def test_the_same_session_id_with_an_old_timestamp_starts_again(whole: Whole) -> None:
    whole.cli("SET", keys.AUTOTRADING_ENABLED.name, json.dumps(SESSION))

    status(whole, BackendStatus.RUNNING)
    assert whole.rows('SELECT "on" FROM switch') == [(True,)]


# --- the board is lost ------------------------------------------------------------------------------------------------


def test_flushall_turns_trading_off_before_anything_is_sent(whole: Whole, lost: Lost) -> None:
    wait_until(lambda: whole.rows('SELECT "on" FROM switch') == [(False,)], "off", OFF_S, every_s=0.01)
    print(f"off within {(datetime.now(UTC) - lost.at).total_seconds():.2f} s")
    status(whole, BackendStatus.STOPPED, 10.0)
    later = whole.rows("SELECT max(started_at) FROM task_ticks WHERE name = 'trade_bot'")[0][0]
    wait_until(lambda: cycles_since(whole, later) >= 1, "one more cycle", 60, every_s=0.5)
    assert whole.rows("SELECT client_order_id FROM intents WHERE created_at_wall > :at", at=lost.at) == []
    assert ids(whole) == lost.orders


def test_the_board_is_built_again_by_itself(whole: Whole, lost: Lost) -> None:
    found = whole.check(WHOLE_S)
    verdicts = {each["key"]: (each["status"], each["reason"]) for each in found["keys"]}
    assert {key: said for key, said in verdicts.items() if said[0] not in ("ok", "absent")} == {}
    again = {key for key, said in verdicts.items() if said[0] == "ok"}
    assert lost.backend_keys - OF_A_SESSION - again == set()


def test_beat_and_the_workers_of_every_queue_go_on_without_what_was_lost(whole: Whole, lost: Lost) -> None:
    queue_of = {entry.name: entry.queue for entry in beat_schedule.ENTRIES}

    def reached() -> set[str]:
        ran = whole.rows("SELECT name FROM task_ticks WHERE started_at > :at", at=lost.at)
        return {queue_of[name] for (name,) in ran if name in queue_of}

    wait_until(lambda: reached() == set(queue_of.values()), "a tick of every queue", 90, every_s=0.5)
    assert {each["state"] for each in whole.processes()} == {"running"}


def test_after_that_a_new_start_trades_again(whole: Whole, lost: Lost) -> None:
    assert whole.rows('SELECT "on" FROM switch') == [(False,)]
    whole.begin_trading()
    status(whole, BackendStatus.RUNNING)
    before = decisions(whole)
    wait_until(lambda: decisions(whole) > before, "signals judged again", 90, every_s=0.5)
    no_order_twice_and_books_agree(whole)


def test_a_killed_supervisor_takes_its_children_along(whole: Whole) -> None:
    whole.kill()
    wait_until(lambda: not whole.left(), "every process is gone", 30, every_s=0.5)


def test_the_next_start_recovers_later_in_the_replay_and_with_the_same_books(whole: Whole) -> None:
    saved = saved_s(whole)
    whole.start()
    assert begun_s(whole) >= saved > 0
    no_order_twice_and_books_agree(whole)


def test_ctrl_c_leaves_no_process_and_no_port_and_saves_the_replay(whole: Whole) -> None:
    assert whole.interrupt() == 0
    assert whole.left() == []
    assert saved_s(whole) > begun_s(whole)


def begun_s(whole: Whole) -> float:
    """Where in the replay this run began, in market seconds."""
    return float(json.loads((whole.home / "clock.json").read_text())["anchor_elapsed_s"])


def saved_s(whole: Whole) -> float:
    """Where the next one will."""
    return float(json.loads((whole.home / "replay.json").read_text())["elapsed_s"])
