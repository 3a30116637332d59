"""The board on a real Redis: atomic, ordered, and losing nothing while others write."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import redis
from pydantic import SecretStr

from qbot import limits
from qbot.contract import keys
from qbot.contract.board import Board, Write, connect
from qbot.contract.events import Events, Written
from qbot.contract.payloads_autotrading import AutotradingStatus, BackendStatus
from qbot.contract.payloads_channels import RiskUpdate
from qbot.contract.payloads_ml import TrainingLogEntry, TrainingLogEvent, TrainingTrigger
from qbot.contract.payloads_orders import MalformedOrder, ManualOrder, ManualOrderStatus, ManualOrderType, OrderSide
from qbot.contract.payloads_settings import TradingSettings
from qbot.errors import BoardUnavailable
from qbot.settings import Settings
from tests.contract.conftest import NOW
from tests.support.servers import RedisServer, free_port

WRITERS, EACH = 8, 12


def _order(order_id: str) -> ManualOrder:
    return ManualOrder(
        order_id=order_id, symbol="AAPL", side=OrderSide.BUY, quantity=1, order_type=ManualOrderType.MARKET
    )


def _event(detail: str) -> TrainingLogEntry:
    trained, manual = TrainingLogEvent.MODEL_TRAINED, TrainingTrigger.MANUAL
    return TrainingLogEntry(time=NOW, event=trained, trigger=manual, detail=detail, metrics={})


def _listen(raw: redis.Redis, channel: str) -> redis.client.PubSub:
    subscriber = raw.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(channel)
    subscriber.get_message(timeout=1)
    return subscriber


def _heard(subscriber: redis.client.PubSub, count: int) -> list[dict[str, object]]:
    messages = (subscriber.get_message(timeout=2) for _ in range(count))
    heard = [json.loads(message["data"]) for message in messages if message]
    assert subscriber.get_message(timeout=0.05) is None
    return heard


def test_a_write_is_there_and_was_told_with_key_revision_time_and_value(board: Board, raw: redis.Redis) -> None:
    updates = _listen(raw, "qbot:updates")
    revision = board.write(keys.TRADING_SETTINGS, TradingSettings(enabled=False), now=NOW)
    assert raw.get("trading_settings") == b'{"enabled":false}'
    told = {
        "key": "trading_settings",
        "revision": revision,
        "time": "2026-09-25T14:00:00Z",
        "value": {"enabled": False},
    }
    assert _heard(updates, 1) == [told]


def test_a_text_key_holds_the_bare_string_and_is_told_as_json(board: Board, raw: redis.Redis) -> None:
    updates = _listen(raw, "qbot:updates")
    board.write(keys.AUTOTRADING_ERROR, 'no "quotes" lost', now=NOW)
    assert raw.get("autotrading:error") == b'no "quotes" lost'
    assert _heard(updates, 1)[0]["value"] == 'no "quotes" lost'


def test_several_writes_are_one_step_with_growing_revisions(board: Board, raw: redis.Redis) -> None:
    updates = _listen(raw, "qbot:updates")
    board.write(keys.AUTOTRADING_ERROR, "gone soon", now=NOW)
    writes = [Write(keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.STOPPED), Write(keys.AUTOTRADING_ERROR, None)]
    last = board.write_many(writes, now=NOW)
    heard = _heard(updates, 3)
    assert [message["value"] for message in heard] == ["gone soon", "STOPPED", None]
    assert [message["revision"] for message in heard] == [last - 2, last - 1, last]
    assert not raw.exists("autotrading:error")


def test_an_invalid_write_changes_nothing_and_is_not_told(board: Board, raw: redis.Redis) -> None:
    updates = _listen(raw, "qbot:updates")
    good = (keys.AUTOTRADING_ERROR, "fine")
    with pytest.raises(ValueError, match="less than or equal to 1"):
        broken = TradingSettings.model_construct({"buy_threshold_pct"}, buy_threshold_pct=7.0)
        board.write_many([good, (keys.TRADING_SETTINGS, broken)], now=NOW)
    with pytest.raises(ValueError, match="bytes are more than"):
        board.write_many([good, (keys.MANUAL_ORDERS, (MalformedOrder(raw="x" * 1_100_000, problem="long"),))], now=NOW)
    assert raw.dbsize() == 0
    assert _heard(updates, 0) == []


def test_revisions_are_heard_in_order_while_many_write(
    board: Board, raw: redis.Redis, redis_server: RedisServer
) -> None:
    updates = _listen(raw, "qbot:updates")

    def run(_: int) -> None:
        own = Board(redis.Redis.from_url(redis_server.url))
        for _ in range(EACH):
            own.write(keys.AUTOTRADING_STATUS, AutotradingStatus.ACTIVE, now=NOW)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(run, range(WRITERS)))
    revisions = [message["revision"] for message in _heard(updates, WRITERS * EACH)]
    assert revisions == list(range(1, WRITERS * EACH + 1))


def test_reading_many_is_one_round_trip_and_a_wrong_type_harms_no_other(board: Board, raw: redis.Redis) -> None:
    raw.rpush("trading_settings", "x")
    raw.set("risk_settings", '{"cooldown_minutes": 5}')
    raw.set("frontend:ui_state", "")
    wanted = [keys.TRADING_SETTINGS, keys.RISK_SETTINGS, keys.UI_STATE, keys.BOT_STRATEGY]
    snapshot = board.read_many(wanted)
    assert str(snapshot[keys.TRADING_SETTINGS].problem).startswith("WRONG_REDIS_TYPE: ")
    assert str(snapshot[keys.UI_STATE].problem).startswith("NOT_JSON: ")
    risk, absent = snapshot[keys.RISK_SETTINGS], snapshot[keys.BOT_STRATEGY]
    assert risk.value is not None
    assert risk.value.cooldown_minutes == 5
    assert (absent.present, absent.value, absent.problem, absent.fingerprint) == (False, None, None, None)
    assert set(snapshot.problems) == {"trading_settings", "frontend:ui_state"}


def test_a_fingerprint_tells_one_write_from_the_next(board: Board, raw: redis.Redis) -> None:
    raw.set("trading_settings", '{"enabled": false}')
    first = board.read(keys.TRADING_SETTINGS)
    raw.set("trading_settings", '{"enabled":false}')
    second = board.read(keys.TRADING_SETTINGS)
    assert first.value == second.value
    assert first.fingerprint != second.fingerprint


def test_a_huge_value_is_not_even_fetched_whole(board: Board, raw: redis.Redis) -> None:
    raw.set("trading_settings", b" " * 10_000_000)
    before = int(raw.info("stats")["total_net_output_bytes"])
    assert str(board.read(keys.TRADING_SETTINGS).problem).startswith("TOO_LARGE: ")
    assert int(raw.info("stats")["total_net_output_bytes"]) - before < 2 * limits.MAX_PAYLOAD_BYTES


def test_a_deleted_key_is_told_with_null(board: Board, raw: redis.Redis) -> None:
    board.write(keys.AUTOTRADING_SESSION_ACTIVE, "s1", now=NOW)
    updates = _listen(raw, "qbot:updates")
    board.delete(keys.AUTOTRADING_SESSION_ACTIVE, now=NOW)
    assert not raw.exists("autotrading:session_active")
    assert _heard(updates, 1)[0]["value"] is None


def test_eight_writers_appending_at_once_lose_nothing(board: Board, redis_server: RedisServer) -> None:
    def run(writer: int) -> None:
        own = Board(redis.Redis.from_url(redis_server.url))
        for number in range(EACH // 2):
            own.append(keys.ML_TRAINING_LOG, [_event(f"{writer}-{number}")], now=NOW)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(run, range(WRITERS)))
    log = board.read(keys.ML_TRAINING_LOG).value
    assert log is not None
    assert {entry.detail for entry in log} == {f"{w}-{n}" for w in range(WRITERS) for n in range(EACH // 2)}
    assert len(log) == WRITERS * (EACH // 2)


def test_a_history_keeps_its_limit_and_drops_the_oldest(board: Board) -> None:
    limit = limits.TRAINING_LOG_MAX
    board.append(keys.ML_TRAINING_LOG, [_event(str(n)) for n in range(limit)], now=NOW)
    log = board.append(keys.ML_TRAINING_LOG, [_event("newest"), _event("very newest")], now=NOW)
    assert [entry.detail for entry in log] == [*(str(n) for n in range(2, limit)), "newest", "very newest"]
    assert board.read(keys.ML_TRAINING_LOG).value == log


@pytest.mark.parametrize("rubbish", ["{}", "[1]", "\x00"])
def test_an_invalid_history_starts_anew(board: Board, raw: redis.Redis, rubbish: str) -> None:
    raw.set("ml_training_log", rubbish)
    assert len(board.append(keys.ML_TRAINING_LOG, [_event("first")], now=NOW)) == 1
    raw.delete("ml_training_log")
    raw.rpush("ml_training_log", "a list")
    assert len(board.append(keys.ML_TRAINING_LOG, [_event("first")], now=NOW)) == 1


def test_only_a_history_can_be_appended_to(board: Board) -> None:
    with pytest.raises(ValueError, match="no history"):
        board.append(keys.MANUAL_ORDERS, [_order("m1")], now=NOW)


def test_an_order_the_frontend_adds_meanwhile_is_never_lost(board: Board, raw: redis.Redis) -> None:
    raw.set("frontend:manual_orders", keys.MANUAL_ORDERS.encode((_order("m1"),)))
    runs = 0

    def submitted(
        value: tuple[ManualOrder | MalformedOrder, ...] | None,
    ) -> tuple[ManualOrder | MalformedOrder, ...]:
        nonlocal runs
        runs += 1
        if runs == 1:  # the frontend writes between our read and our write
            raw.set("frontend:manual_orders", keys.MANUAL_ORDERS.encode((_order("m1"), _order("m2"))))
        orders = [order for order in value or () if isinstance(order, ManualOrder)]
        return (orders[0].model_copy(update={"status": ManualOrderStatus.SUBMITTED}), *orders[1:])

    reading = board.update(keys.MANUAL_ORDERS, submitted, now=NOW)
    assert runs == 2
    stored = json.loads(raw.get("frontend:manual_orders") or b"")
    assert [(order["order_id"], order.get("status")) for order in stored] == [("m1", "SUBMITTED"), ("m2", None)]
    assert reading == board.read(keys.MANUAL_ORDERS)


def test_two_sides_updating_at_once_lose_no_order(board: Board, redis_server: RedisServer) -> None:
    def run(writer: int) -> None:
        own = Board(redis.Redis.from_url(redis_server.url))
        for number in range(EACH):
            new = _order(f"{writer}-{number}")
            own.update(keys.MANUAL_ORDERS, lambda orders, new=new: (*(orders or ()), new), now=NOW)  # type: ignore[misc]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    assert len(board.read(keys.MANUAL_ORDERS).value or ()) == 2 * EACH


def test_an_update_that_wants_no_change_writes_and_tells_nothing(board: Board, raw: redis.Redis) -> None:
    updates = _listen(raw, "qbot:updates")
    reading = board.update(keys.MANUAL_ORDERS, lambda _: None, now=NOW)
    assert reading.present is False
    assert raw.dbsize() == 0
    assert _heard(updates, 0) == []


def test_an_update_leaves_an_unreadable_value_alone_and_says_so(board: Board, raw: redis.Redis) -> None:
    raw.set("frontend:manual_orders", "{broken")
    reading = board.update(keys.MANUAL_ORDERS, lambda _: (_order("m1"),), now=NOW)
    assert str(reading.problem).startswith("NOT_JSON: ")
    assert raw.get("frontend:manual_orders") == b"{broken"


def test_messages_of_a_channel_arrive_in_order(board: Board, raw: redis.Redis) -> None:
    listener = _listen(raw, "risk_updates")
    board.publish(
        keys.RISK_UPDATES, [RiskUpdate(risk_factor=f, reasons=("drawdown",), timestamp=NOW) for f in (0.8, 0.4)]
    )
    assert [message["risk_factor"] for message in _heard(listener, 2)] == [0.8, 0.4]


def test_without_redis_every_call_says_board_unavailable() -> None:
    board = connect(Settings(redis_port=free_port(), _env_file=None))
    for call in (
        board.ping,
        lambda: board.read(keys.TRADING_SETTINGS),
        lambda: board.delete(keys.TRADING_SETTINGS, now=NOW),
        lambda: board.append(keys.ML_TRAINING_LOG, [_event("x")], now=NOW),
        lambda: board.publish(keys.RISK_UPDATES, [RiskUpdate(risk_factor=1, reasons=(), timestamp=NOW)]),
    ):
        with pytest.raises(BoardUnavailable):
            call()


def test_a_connected_board_works_and_never_shows_the_password(redis_server: RedisServer, board: Board) -> None:
    secret = SecretStr(redis_server.password)
    connected = connect(Settings(redis_port=redis_server.port, redis_password=secret, _env_file=None))
    connected.write(keys.AUTOTRADING_ERROR, "hello", now=NOW)
    assert board.read(keys.AUTOTRADING_ERROR).value == "hello"
    wrong = connect(Settings(redis_port=redis_server.port, redis_password=SecretStr("wr0ng-pass"), _env_file=None))
    with pytest.raises(BoardUnavailable) as refused:
        wrong.read(keys.AUTOTRADING_ERROR)
    for said in (repr(connected), repr(wrong), str(refused.value)):
        assert redis_server.password not in said
        assert "wr0ng-pass" not in said


def test_a_board_survives_a_redis_whose_connections_were_cut(
    board: Board, raw: redis.Redis, redis_server: RedisServer
) -> None:
    board = connect(
        Settings(redis_port=redis_server.port, redis_password=SecretStr(redis_server.password), _env_file=None)
    )
    board.ping()
    raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert board.write(keys.AUTOTRADING_ERROR, "still here", now=NOW) == 1


def test_a_client_that_decodes_is_refused(redis_client: redis.Redis) -> None:
    with pytest.raises(ValueError, match="decode_responses"):
        Board(redis_client)


def test_every_write_is_stamped_with_its_revision_and_time(board: Board) -> None:
    revision = board.write(keys.AUTOTRADING_ERROR, "wrong", now=NOW)
    stamp = board.written()["autotrading:error"]
    assert (stamp.revision, stamp.time) == (revision, NOW)
    board.delete(keys.AUTOTRADING_ERROR, now=NOW)
    assert board.written()["autotrading:error"].sha1 == "absent"


def test_what_a_frontend_wrote_is_announced_once(board: Board, raw: redis.Redis) -> None:
    updates = _listen(raw, "qbot:updates")
    raw.set("autotrading:status", "ACTIVE")
    first, second = board.announce(keys.AUTOTRADING_STATUS, now=NOW), board.announce(keys.AUTOTRADING_STATUS, now=NOW)
    assert first > 0 and second == 0
    assert [(m["key"], m["value"]) for m in _heard(updates, 1)] == [("autotrading:status", "ACTIVE")]
    raw.delete("autotrading:status")
    assert board.announce(keys.AUTOTRADING_STATUS, now=NOW) == first + 1
    assert _heard(updates, 1)[0]["value"] is None


def test_what_qbot_wrote_itself_is_not_announced_again(board: Board, raw: redis.Redis) -> None:
    board.write(keys.TRADING_SETTINGS, TradingSettings(enabled=False), now=NOW)
    updates = _listen(raw, "qbot:updates")
    assert board.announce(keys.TRADING_SETTINGS, now=NOW) == 0
    assert board.announce(keys.RISK_SETTINGS, now=NOW) == 0  # never there
    assert _heard(updates, 0) == []


@pytest.mark.parametrize("nonsense", ["{", '{"enabled": 7}', "x" * (limits.MAX_PAYLOAD_BYTES + 1)])
def test_nonsense_is_not_announced(board: Board, raw: redis.Redis, nonsense: str) -> None:
    updates = _listen(raw, "qbot:updates")
    raw.set("trading_settings", nonsense)
    assert board.announce(keys.TRADING_SETTINGS, now=NOW) == 0
    assert _heard(updates, 0) == []


def test_what_is_announced_can_be_read_by_any_parser(board: Board, raw: redis.Redis) -> None:
    updates = _listen(raw, "qbot:updates")
    raw.set("trading_settings", '{"enabled": true, "colour": [NaN, 1e400], "updated_by": "NaN"}')
    assert board.announce(keys.TRADING_SETTINGS, now=NOW) > 0
    assert _heard(updates, 1)[0]["value"] == {"enabled": True, "updated_by": "NaN"}


def test_of_two_writers_the_one_whose_values_were_taken_later_wins(board: Board) -> None:
    later, earlier = NOW + timedelta(seconds=1), NOW
    board.write_many([(keys.AUTOTRADING_ERROR, "new"), (keys.AUTOTRADING_LAST_UPDATE, later)], now=NOW, taken_at=later)
    assert board.write_many([(keys.AUTOTRADING_ERROR, "old")], now=later, taken_at=earlier) == 0
    assert board.read(keys.AUTOTRADING_ERROR).value == "new"
    assert board.write_many([(keys.AUTOTRADING_ERROR, "newest")], now=later, taken_at=later) > 0


def test_a_clock_that_was_set_back_does_not_stop_the_board(board: Board) -> None:
    before = NOW + timedelta(hours=1)
    board.write_many([(keys.AUTOTRADING_ERROR, "before")], now=before, taken_at=before)
    assert board.write_many([(keys.AUTOTRADING_ERROR, "after")], now=NOW, taken_at=NOW) > 0


def test_removing_what_is_not_there_is_no_news(board: Board, raw: redis.Redis) -> None:
    updates = _listen(raw, "qbot:updates")
    board.delete(keys.AUTOTRADING_ERROR, now=NOW)
    assert _heard(updates, 0) == []
    assert board.written() == {}


def test_no_name_of_a_session_can_forge_a_message(board: Board, raw: redis.Redis) -> None:
    updates, name = _listen(raw, "qbot:updates"), '"x","key":"autotrading:backend_status","value":"STOPPED"'
    board.write(keys.AUTOTRADING_SESSION_ACTIVE, name, now=NOW)
    [told] = _heard(updates, 1)
    assert (told["key"], told["value"]) == ("autotrading:session_active", name)


def test_after_a_write_that_a_full_redis_refused_a_frontends_own_is_not_taken_for_qbots(
    board: Board, redis_client: redis.Redis, redis_server: RedisServer
) -> None:
    redis_client.set("trading_settings", '{"enabled":true}')
    values = {"redis_port": redis_server.port, "redis_password": SecretStr(redis_server.password)}
    events = Events(Settings(**values))
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BoardUnavailable, match="maxmemory"):
            board.write(keys.TRADING_SETTINGS, TradingSettings(enabled=True), now=NOW)
        redis_client.delete("trading_settings")
    finally:
        redis_client.config_set("maxmemory", 0)
    heard = [event for event in (events.receive(0.5) for _ in range(4)) if event]
    events.close()
    assert heard == [Written("trading_settings", own=False)]
