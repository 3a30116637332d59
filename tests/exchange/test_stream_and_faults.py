"""The `trade_updates` websocket as alpaca-py hears it, and every fault that can be switched on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from alpaca.trading.stream import TradingStream
from websockets.sync.client import ClientConnection, connect

from qbot.clock import monotonic_s
from tests.support.exchange import KEY, SECRET, RunningExchange

ORDER = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
RESTING = {**ORDER, "type": "limit", "limit_price": "150"}


def post(exchange: RunningExchange, **order: Any) -> requests.Response:
    return exchange.call("POST", "/v2/orders", json={**ORDER, **order})


def lookup(exchange: RunningExchange, client_order_id: str) -> requests.Response:
    return exchange.call("GET", f"/v2/orders:by_client_order_id?client_order_id={client_order_id}")


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end, pause = monotonic_s() + seconds, threading.Event()
    while not condition():
        assert monotonic_s() < end, "did not happen in time"
        pause.wait(0.02)


@contextmanager
def listening(exchange: RunningExchange) -> Iterator[list[Any]]:
    """alpaca-py's stream in a thread; yields what it hears, once it listens."""
    heard: list[Any] = []
    stream = TradingStream(KEY, SECRET, url_override=exchange.stream_url)

    async def hear(update: Any) -> None:
        heard.append(update)

    stream.subscribe_trade_updates(hear)
    thread = threading.Thread(target=stream.run, daemon=True)
    thread.start()
    assert exchange.venue is not None
    hub = exchange.venue.hub
    until(lambda: hub.listeners == 1)
    try:
        yield heard
    finally:
        stream.stop()
        assert stream._loop is not None and stream._ws is not None
        asyncio.run_coroutine_threadsafe(stream.close(), stream._loop)
        thread.join(10)


def say(socket: ClientConnection, action: str, **data: Any) -> Any:
    socket.send(json.dumps({"action": action, "data": data}))
    return socket.recv(timeout=10)


def test_alpaca_py_hears_every_step_of_an_order(exchange: RunningExchange) -> None:
    with listening(exchange) as heard:
        post(exchange, client_order_id="heard")
        until(lambda: len(heard) == 2)
        new, fill = heard
        assert [u.event for u in heard] == ["new", "fill"]
        assert new.execution_id is None and fill.execution_id is not None
        assert (fill.qty, fill.position_qty, fill.order.client_order_id) == (1.0, 1.0, "heard")
        resting = post(exchange, **RESTING).json()
        replaced = exchange.call("PATCH", f"/v2/orders/{resting['id']}", json={"limit_price": "151"}).json()
        exchange.call("DELETE", f"/v2/orders/{replaced['id']}")
        exchange.call("POST", "/v2/orders", json=RESTING)
        exchange.clock.advance(hours=7)
        until(lambda: len(heard) == 8)
        names = [u.event for u in heard[2:]]
        assert names == ["new", "replaced", "new", "canceled", "new", "expired"]


def test_frames_are_binary_and_text_for_who_asks(exchange: RunningExchange) -> None:
    for suffix, kind in (("", bytes), ("?frames=text", str)):
        with connect(exchange.stream_url + suffix) as socket:
            answer = say(socket, "authenticate", key_id=KEY, secret_key=SECRET)
            assert isinstance(answer, kind)
            assert json.loads(answer) == {
                "stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}  # fmt: skip
            answer = say(socket, "listen", streams=["trade_updates"])
            assert json.loads(answer) == {"stream": "listening", "data": {"streams": ["trade_updates"]}}


def test_who_is_not_authorized_hears_nothing(exchange: RunningExchange) -> None:
    with connect(exchange.stream_url) as socket:
        answer = json.loads(say(socket, "authenticate", key_id=KEY, secret_key="guess"))
        assert answer["data"]["status"] == "unauthorized"
        assert json.loads(say(socket, "listen", streams=["trade_updates"]))["stream"] == "error"
        assert post(exchange).status_code == 200
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.4)


def test_a_silent_stream_stays_open_and_what_happened_meanwhile_is_lost(exchange: RunningExchange) -> None:
    with listening(exchange) as heard:
        exchange.fault("silent_stream")
        post(exchange, client_order_id="unheard")
        until(lambda: lookup(exchange, "unheard").json()["status"] == "filled")
        exchange.clear_faults()
        post(exchange, client_order_id="heard")
        until(lambda: len(heard) == 2)
        assert {u.order.client_order_id for u in heard} == {"heard"}


@pytest.mark.parametrize(("kind", "status"), [("rate_limited", 429), ("server_error", 500)])
def test_a_refusing_fault_lets_no_order_through(exchange: RunningExchange, kind: str, status: int) -> None:
    exchange.fault(kind, method="POST", path="/v2/orders", times=1)
    assert post(exchange, client_order_id="x").status_code == status
    assert lookup(exchange, "x").status_code == 404
    assert post(exchange, client_order_id="x").status_code == 200


def test_after_a_504_the_order_is_there_and_its_id_is_taken(exchange: RunningExchange) -> None:
    exchange.fault("timeout_after_accept", method="POST", path="/v2/orders", times=1)
    assert post(exchange, client_order_id="late").status_code == 504
    assert lookup(exchange, "late").json()["status"] == "filled"
    again = post(exchange, client_order_id="late")
    assert (again.status_code, again.json()["code"]) == (422, 40010001)


def test_a_dropped_connection_hides_an_order_that_was_accepted(exchange: RunningExchange) -> None:
    exchange.fault("drop_after_accept", method="POST", path="/v2/orders", times=1)
    with pytest.raises(requests.ConnectionError):
        post(exchange, client_order_id="cut")
    assert lookup(exchange, "cut").json()["status"] == "filled"
    assert exchange.venue is not None and len(exchange.venue.book.orders) == 1


def test_latency_delays_the_answer_and_nothing_else(exchange: RunningExchange) -> None:
    exchange.fault("latency", seconds=0.3, path="/v2/clock")
    begin = monotonic_s()
    assert exchange.call("GET", "/v2/clock").status_code == 200
    assert monotonic_s() - begin >= 0.3
    with pytest.raises(requests.ReadTimeout):
        exchange.session.get(exchange.url + "/v2/clock", timeout=0.1)


def test_a_held_cancel_sticks_in_pending_cancel_and_holds_its_shares(exchange: RunningExchange) -> None:
    post(exchange, qty="5")
    sell = post(exchange, side="sell", qty="5", type="limit", limit_price="900", client_order_id="stuck").json()
    exchange.fault("hold_cancels")
    assert exchange.call("DELETE", f"/v2/orders/{sell['id']}").status_code == 204
    assert lookup(exchange, "stuck").json()["status"] == "pending_cancel"
    assert exchange.call("DELETE", "/v2/positions/AAPL").status_code == 403
    exchange.clear_faults()
    assert lookup(exchange, "stuck").json()["status"] == "canceled"
    assert exchange.call("DELETE", "/v2/positions/AAPL").status_code == 200


def test_faults_are_listed_and_unknown_ones_refused(exchange: RunningExchange) -> None:
    exchange.fault("latency", seconds=0.0)
    assert [f["kind"] for f in requests.get(exchange.url + "/faults", timeout=10).json()] == ["latency"]
    assert requests.post(exchange.url + "/faults", json={"kind": "earthquake"}, timeout=10).status_code == 422
    exchange.clear_faults()
    assert requests.get(exchange.url + "/faults", timeout=10).json() == []
