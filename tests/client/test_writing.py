"""What the client writes: exactly the documented keys and fields, valid, and nothing that QBot would refuse."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

from qbot import session
from qbot.client import BoardUnavailable, KeyUnusable, NotAllowed, QBotClient, documents
from qbot.contract import examples, keys
from qbot.contract.board import Board
from qbot.contract.key import Key
from qbot.contract.payloads_settings import PortfolioSettings
from tests.client.conftest import MakeClient
from tests.support.exchange import ManualClock
from tests.support.servers import RedisServer, free_port, wait_until

START = {
    "buy_threshold_pct": 0.05, "sell_threshold_pct": 0.05, "max_position_per_trade": 1, "strategy": "CONSERVATIVE",
}  # fmt: skip
AT = "2026-03-02T12:00:00.123Z"


@pytest.fixture(autouse=True)
def _milliseconds(wall: ManualClock) -> None:
    wall.set(wall() + timedelta(microseconds=123_456))


def stands(client: redis.Redis) -> dict[str, Any]:
    """Everything on the server; JSON where it is JSON."""
    found = {}
    for name in client.scan_iter():
        raw = client.get(name)
        found[name] = raw if keys.ENTRIES[name].text else json.loads(raw)
    return found


def as_documented(value: Any, name: str, **differs: Any) -> None:
    """The same fields in the same order and of the same types; the same values but for those named."""
    documented = examples.documented(name)[0]
    if isinstance(documented, list):
        assert isinstance(value, list)
        (value,), documented = value, documented[0]
    expected = {**documented, **differs}
    assert list(value) == list(documented)
    for field, wanted in expected.items():
        if callable(wanted):
            assert wanted(value[field]), (field, value[field])
        else:
            assert (value[field], type(value[field])) == (wanted, type(wanted)), field


def matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


def test_a_start_is_exactly_the_documented_one(client: QBotClient, redis_client: redis.Redis) -> None:
    client.start(**START, wait_s=None)
    found = stands(redis_client)
    assert set(found) == {"autotrading:enabled", "autotrading:status", "autotrading:timestamp"}
    as_documented(found["autotrading:enabled"], "autotrading:enabled", timestamp=AT, session_id=client.session_id)
    assert (found["autotrading:status"], found["autotrading:timestamp"]) == ("ACTIVE", AT)
    assert re.fullmatch(r"frontend_1772452800123_[0-9a-f]{8}", client.session_id)


def test_a_stop_is_exactly_the_documented_one(client: QBotClient, redis_client: redis.Redis) -> None:
    client.start(**START, wait_s=None)
    client.stop()
    found = stands(redis_client)
    assert "autotrading:enabled" not in found
    assert (found["autotrading:status"], found["autotrading:stopped_at"]) == ("STOPPED", AT)


def test_the_source_is_the_one_that_starts_trading() -> None:
    assert documents.SOURCE == session.FRONTEND_SOURCE


def test_a_manual_order_is_exactly_the_documented_one(client: QBotClient, redis_client: redis.Redis) -> None:
    order_id = client.place_order("AAPL", "BUY", 10, priority="HIGH")
    as_documented(
        stands(redis_client)["frontend:manual_orders"], "frontend:manual_orders",
        order_id=order_id, created_at=AT, session_id=client.session_id,
    )  # fmt: skip
    assert re.fullmatch(r"manual_1772452800123_[0-9a-f]{8}", order_id)


def test_an_emergency_is_exactly_the_documented_one(client: QBotClient, redis_client: redis.Redis) -> None:
    client.emergency("STOP_ALL_TRADING", "Market crash detected")
    found = stands(redis_client)
    assert set(found) == {"frontend:emergency_actions"}
    at = "2026-03-02T12:00:00.123456Z"  # to the microsecond: two of one millisecond are two
    as_documented(
        found["frontend:emergency_actions"], "frontend:emergency_actions", timestamp=at, session_id=client.session_id
    )


def test_settings_are_exactly_the_documented_ones(client: QBotClient, redis_client: redis.Redis) -> None:
    names = ("frontend:trading_config", "frontend:bot_strategy", "frontend:portfolio_settings")
    signed = {"session_id", "updated_at", "updated_by"}
    config, strategy, portfolio = (
        {field: value for field, value in examples.documented(name)[0].items() if field not in signed} for name in names
    )
    client.configure(trading_config=config, bot_strategy=strategy, portfolio=portfolio)
    found = stands(redis_client)
    assert set(found) == set(names)
    as_documented(found[names[0]], names[0], session_id=client.session_id, updated_at=AT, cash_reserve=5000.0)
    as_documented(found[names[1]], names[1], session_id=client.session_id, updated_at=AT)
    as_documented(found[names[2]], names[2], updated_at=AT)


def test_a_partial_document_has_only_what_was_given_and_who_gave_it(
    client: QBotClient, redis_client: redis.Redis
) -> None:
    client.configure(trading_config={"stop_loss_pct": 0.03}, portfolio=PortfolioSettings(excluded_tickers=("TSLA",)))
    found = stands(redis_client)
    assert set(found["frontend:trading_config"]) == {"stop_loss_pct", "session_id", "updated_at", "updated_by"}
    assert found["frontend:portfolio_settings"] == {"excluded_tickers": ["TSLA"], "updated_at": AT}


def test_a_heartbeat_remembers_what_the_screen_shows(client: QBotClient, redis_client: redis.Redis) -> None:
    documented = examples.documented("frontend:ui_state")[0]
    client.heartbeat(**{f: v for f, v in documented.items() if f not in ("last_refresh", "session_id")})
    client.heartbeat()
    as_documented(
        stands(redis_client)["frontend:ui_state"], "frontend:ui_state", last_refresh=AT, session_id=client.session_id
    )
    client.start(**START, wait_s=None)
    client.heartbeat()
    assert stands(redis_client)["frontend:ui_state"]["autotrading_enabled"] is True


def test_the_extensions_are_written_as_the_contract_has_them(client: QBotClient, redis_client: redis.Redis) -> None:
    client.acknowledge("alert_1")
    first = client.price_alert("AAPL", above=Decimal("250.5"), note="sell?")
    second = client.price_alert("MSFT", above=500, below=400)
    client.remove_price_alert(first)
    client.remove_price_alert("never there")
    request = client.train("new bars")
    found = stands(redis_client)
    assert [a["alert_id"] for a in found["frontend:alert_acknowledgements"]] == ["alert_1"]
    assert [level["price_alert_id"] for level in found["frontend:price_alerts"]] == [second]
    assert found["frontend:training_request"]["request_id"] == request


def test_everything_it_writes_is_valid(client: QBotClient, redis_client: redis.Redis, board: Board) -> None:
    everything(client)
    written = [keys.ENTRIES[name] for name in redis_client.scan_iter()]
    assert len(written) == 13
    for key in written:
        reading = board.read(key)
        assert reading.present and reading.problem is None, reading


def everything(client: QBotClient) -> None:
    """One of each write."""
    client.start(**START, wait_s=None)
    client.heartbeat(active_tab="trading")
    client.configure(trading_config={"stop_loss_pct": 0.03}, bot_strategy={"risk_level": 1}, portfolio={})
    client.place_order("AAPL", "SELL", 1, order_type="LIMIT", limit_price=Decimal("250.10"), time_in_force="GTC")
    client.place_order("AAPL", "SELL", 1, order_type="STOP_LOSS", stop_price=200.5, priority="CRITICAL")
    client.emergency("CANCEL_ALL_ORDERS", "a test", force=True)
    client.acknowledge("alert_1")
    client.remove_price_alert(client.price_alert("AAPL", below=1))
    client.train("a test")
    client.stop()
    client.release_emergency_stop(wait_s=None)


# --- refused here -----------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[QBotClient], Any], str]] = {
    "a key of QBot's": (
        lambda c: c.write(keys.AUTOTRADING_SESSION_ACTIVE, "mine"), "session_active is not for a frontend to write",
    ),
    "QBot's bookkeeping": (lambda c: c.write(keys.SENTINEL, "epoch-1"), "sentinel is not for a frontend"),
    "a family of keys": (lambda c: c.write(keys.YFINANCE_ENHANCED, None), "not for a frontend"),
    "the removal of a key of QBot's": (lambda c: c.write(keys.TRADES_LOG, None), "not for a frontend"),
    "a threshold of 5": (lambda c: c.start(buy_threshold_pct=5, wait_s=None), "buy_threshold_pct: .* less than or"),
    "an unknown strategy": (lambda c: c.start(strategy="BOLD", wait_s=None), "strategy: .*not a strategy"),
    "a start that is none": (lambda c: c.start(enabled=False, wait_s=None), "enabled: the client writes this itself"),
    "an unknown field": (lambda c: c.configure(trading_config={"stop_los_pct": 0.1}), "no such field: stop_los_pct"),
    "a null": (lambda c: c.configure(bot_strategy={"risk_level": None}), "null is no value for risk_level"),
    "not a number": (lambda c: c.configure(trading_config={"stop_loss_pct": float("nan")}), "trading_config"),
    "a second document": (
        lambda c: c.configure(trading_config={"stop_loss_pct": 0.1}, portfolio={"max_position_pct": 2}), "portfolio",
    ),
    "half a share": (lambda c: c.place_order("AAPL", "BUY", 0.5), "quantity"),  # type: ignore[arg-type]
    "a limit without a price": (lambda c: c.place_order("AAPL", "BUY", 1, order_type="LIMIT"), "needs limit_price"),
    "a stop without a price": (lambda c: c.place_order("AAPL", "SELL", 1, order_type="STOP_LOSS"), "needs stop_price"),
    "no ticker": (lambda c: c.place_order("$$$", "BUY", 1), "symbol"),
    "a side that is none": (lambda c: c.place_order("AAPL", "HOLD", 1), "side"),
    "an unconfirmed emergency": (lambda c: c.emergency("STOP_ALL_TRADING", "x", confirmed=False), "is confirmed"),
    "an unknown emergency": (lambda c: c.emergency("PANIC", "x"), "action"),
    "a price alert without a level": (lambda c: c.price_alert("AAPL"), "needs above, below, or both"),
    "crossed levels": (lambda c: c.price_alert("AAPL", above=1, below=2), "below must be under above"),
    "an unknown field of the screen": (lambda c: c.heartbeat(tab="x"), "no such field: tab"),
    "an unknown key to read": (lambda c: c.state(["trading_setings"]), "did you mean trading_settings"),
    "a family to read": (lambda c: c.state([keys.YFINANCE_ENHANCED]), "the key of one ticker"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_qbot_would_refuse_is_refused_here_and_nothing_is_written(
    what: str, client: QBotClient, redis_client: redis.Redis
) -> None:
    act, sentence = REFUSED[what]
    with pytest.raises(ValueError, match=sentence):
        act(client)
    assert redis_client.keys() == []
    client.heartbeat()  # and the client is as good as before
    assert redis_client.keys() == ["frontend:ui_state"]


def test_a_user_who_may_only_read_is_told_so(make: MakeClient, redis_server: RedisServer) -> None:
    with QBotClient(redis_server.host, redis_server.port, redis_server.viewer_password, "viewer") as viewer:
        assert viewer.get(keys.TRADING_STATUS).problem is None
        with pytest.raises(NotAllowed):
            viewer.heartbeat()
        with pytest.raises(NotAllowed):
            viewer.place_order("AAPL", "BUY", 1)


# --- shared lists -----------------------------------------------------------------------------------------------------


def test_two_frontends_and_many_threads_placing_orders_at_once_lose_none(
    make: MakeClient, redis_client: redis.Redis
) -> None:
    clients, threads, each = (make(), make()), 12, 8
    placed: list[str] = []
    gate = threading.Barrier(threads)

    def place(number: int) -> None:
        gate.wait(10)
        for _ in range(each):
            placed.append(clients[number % 2].place_order("AAPL", "BUY", number + 1))

    workers = [threading.Thread(target=place, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    listed = [order["order_id"] for order in stands(redis_client)["frontend:manual_orders"]]
    assert len(listed) == threads * each
    assert sorted(listed) == sorted(placed)


def test_a_blind_set_of_another_frontend_loses_only_what_it_did_not_know(
    client: QBotClient, redis_client: redis.Redis
) -> None:
    lost = client.place_order("AAPL", "BUY", 1)
    blind = [{**examples.documented("frontend:manual_orders")[0][0], "note": "by hand"}]
    redis_client.set("frontend:manual_orders", json.dumps(blind))
    kept = client.place_order("MSFT", "BUY", 1)
    listed = stands(redis_client)["frontend:manual_orders"]
    assert [order["order_id"] for order in listed] == [blind[0]["order_id"], kept]
    assert listed[0] == blind[0]  # as it came, with the field nobody knows
    assert client.order(lost) is None
    assert client.place_order("AAPL", "BUY", 1, order_id=lost) == lost  # once for ever, so asking again is safe
    assert client.order(lost) is not None


def test_asking_twice_with_the_same_id_is_one_order(client: QBotClient, redis_client: redis.Redis) -> None:
    order_id = client.place_order("AAPL", "BUY", 1)
    client.place_order("AAPL", "BUY", 1, order_id=order_id)
    assert len(stands(redis_client)["frontend:manual_orders"]) == 1


def test_what_is_no_order_stays_as_it_is(client: QBotClient, redis_client: redis.Redis) -> None:
    redis_client.set("frontend:manual_orders", json.dumps([{"symbol": 7}, "nonsense"]))
    client.place_order("AAPL", "BUY", 1)
    assert stands(redis_client)["frontend:manual_orders"][:2] == [{"symbol": 7}, "nonsense"]


@pytest.mark.parametrize("left", ["{", "{}", '"text"', b"\xff", "[" * 2_000])
def test_an_unusable_list_is_told_and_left_alone(
    client: QBotClient, redis_client: redis.Redis, redis_server: RedisServer, left: Any
) -> None:
    raw = redis.Redis.from_url(redis_server.admin_url)
    raw.set("frontend:manual_orders", left)
    before = raw.get("frontend:manual_orders")
    with pytest.raises(KeyUnusable, match="frontend:manual_orders holds something invalid"):
        client.place_order("AAPL", "BUY", 1)
    assert raw.get("frontend:manual_orders") == before


def test_a_long_list_loses_its_oldest_final_orders_and_no_open_one(
    client: QBotClient, redis_client: redis.Redis
) -> None:
    def one(number: int) -> dict[str, Any]:
        status = "PENDING" if number % 50 == 0 else "FILLED"
        return {**examples.documented("frontend:manual_orders")[0][0], "order_id": f"m{number}", "status": status}

    redis_client.set("frontend:manual_orders", json.dumps([one(number) for number in range(800)]))
    client.place_order("AAPL", "BUY", 1)
    listed = stands(redis_client)["frontend:manual_orders"]
    assert len(listed) == documents.LIST_KEPT
    assert [order["order_id"] for order in listed if order["status"] == "PENDING"][:-1] == [
        f"m{number}" for number in range(0, 800, 50)
    ]
    assert listed[-2]["order_id"] == "m799"


def test_acknowledgements_of_two_frontends_stand_side_by_side(make: MakeClient, redis_client: redis.Redis) -> None:
    one, other = make(), make()
    one.acknowledge("alert_1")
    other.acknowledge("alert_2")
    other.acknowledge("alert_1")
    seen = stands(redis_client)["frontend:alert_acknowledgements"]
    assert [(a["alert_id"], a["session_id"]) for a in seen] == [
        ("alert_1", one.session_id), ("alert_2", other.session_id),
    ]  # fmt: skip


def test_no_level_that_is_watched_leaves_for_a_new_one(client: QBotClient, redis_client: redis.Redis) -> None:
    watched = [{"price_alert_id": f"p{n}", "symbol": "AAPL", "above": 900} for n in range(999)]
    redis_client.set("frontend:price_alerts", json.dumps(watched))
    client.price_alert("AAPL", above=901)
    with pytest.raises(ValueError, match="at most 1000 items"):
        client.price_alert("AAPL", above=902)
    found = stands(redis_client)["frontend:price_alerts"]
    assert [level["above"] for level in found] == [900] * 999 + [901]


# --- the connection ---------------------------------------------------------------------------------------------------


def test_the_heartbeat_thread_beats_survives_a_lost_connection_and_ends(
    client: QBotClient, redis_client: redis.Redis, wall: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def refreshed() -> str:
        return str(stands(redis_client).get("frontend:ui_state", {}).get("last_refresh"))

    with client.session(every_s=0.02, active_tab="dashboard"):
        assert refreshed() == AT
        redis_client.execute_command("CLIENT", "PAUSE", "2500", "WRITE")  # longer than a client waits for an answer
        wait_until(lambda: "no heartbeat" in caplog.text, "a heartbeat that failed", 10)
        redis_client.execute_command("CLIENT", "UNPAUSE")
        wall.set(wall() + timedelta(minutes=1))
        wait_until(lambda: refreshed() == "2026-03-02T12:01:00.123Z", "a heartbeat after the loss", 10)
    assert not [thread for thread in threading.enumerate() if thread.name == "qbot-heartbeat"]
    assert "autotrading:enabled" not in stands(redis_client)


def test_without_a_server_a_call_gives_up_after_its_patience_and_connect_waits() -> None:
    client = QBotClient("127.0.0.1", free_port(), "x", patience_s=0.0)
    for act in (client.heartbeat, client.stop, lambda: client.get(keys.TRADING_STATUS), lambda: client.connect(0.1)):
        with pytest.raises(BoardUnavailable, match=r"127\.0\.0\.1"):
            act()


def test_a_call_goes_on_after_its_connection_was_killed(client: QBotClient, redis_client: redis.Redis) -> None:
    for _ in range(5):
        client.heartbeat()
        client.place_order("AAPL", "BUY", 1)
        redis_client.execute_command("CLIENT", "KILL", "USER", "frontend")
    assert len(stands(redis_client)["frontend:manual_orders"]) == 5


def test_it_shows_no_password(redis_server: RedisServer, client: QBotClient) -> None:
    assert redis_server.frontend_password not in repr(client)
    assert f":{redis_server.port}" in repr(client)


ALLOWED = {
    "AUTH", "HELLO", "CLIENT SETINFO", "CLIENT SETNAME", "SELECT", "PING", "GET", "MGET", "GETRANGE", "EXISTS",
    "STRLEN", "SET", "DEL", "WATCH", "UNWATCH", "MULTI", "EXEC", "DISCARD", "SUBSCRIBE", "UNSUBSCRIBE", "HGET", "HMGET",
    "HGETALL",
}  # fmt: skip


def test_it_sends_only_the_commands_that_a_frontend_may_send(
    make: MakeClient, redis_client: redis.Redis, redis_server: RedisServer
) -> None:
    redis_client.config_resetstat()
    noise = commands(redis_client)
    client = make()
    everything(client)
    client.state()
    client.get(keys.TRADING_STATUS)
    changes = client.updates()
    next(changes)
    changes.close()  # type: ignore[attr-defined]
    sent = {name for name, calls in commands(redis_client).items() if calls > noise.get(name, 0)}
    assert sent - {"CONFIG RESETSTAT", "INFO"} <= ALLOWED
    assert {"AUTH", "MULTI", "WATCH", "SUBSCRIBE", "HMGET"} <= sent


def commands(client: redis.Redis) -> dict[str, int]:
    """How often each command was called, refused ones too."""
    stats: dict[str, Any] = client.info("commandstats")
    return {
        name.removeprefix("cmdstat_").replace("|", " ").upper(): entry["calls"] + entry["rejected_calls"]
        for name, entry in stats.items()
    }


def test_a_typed_read_is_typed(client: QBotClient, board: Board, wall: ManualClock) -> None:
    key: Key[Any] = keys.PORTFOLIO_SUMMARY
    board.write(key, key.decode(key.example.encode()), now=wall())
    found = client.state([key, "autotrading:error"])
    assert found.revision == found.revision_of(key.name) == 1
    assert found.written_at(key.name) == wall()
    assert found[keys.PORTFOLIO_SUMMARY].value is not None
    assert not found[keys.AUTOTRADING_ERROR].present
