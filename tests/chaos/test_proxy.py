"""The bad lines of the chaos rounds: each of toxiproxy's faults does what its name says, and heals."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests

from tests.chaos.broker_proxy import BrokerProxy, Hold
from tests.chaos.frames import Frames, without_compression
from tests.chaos.proxy import HOST, Proxy, running
from tests.chaos.toxics import Kind, Toxic
from tests.support.exchange import HEADERS, RunningExchange
from tests.support.runtime import MarketPlace
from tests.support.servers import wait_until

PAYLOAD = b"x" * 2_000


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends everything back."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(0.2)
        over = threading.Event()

        def serve(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                while data := connection.recv(65_536):
                    connection.sendall(data)

        def accept() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        over.set()
        thread.join()


@pytest.fixture
def line(echo: int) -> Iterator[Proxy]:
    proxy = Proxy(echo)
    with running(proxy):
        yield proxy


def _ask(port: int, timeout_s: float = 2.0) -> tuple[bytes, float]:
    """What comes back of PAYLOAD, and how long it took."""
    begun = time.monotonic()
    with socket.create_connection((HOST, port), timeout_s) as connection:
        connection.sendall(PAYLOAD)
        found = b""
        while len(found) < len(PAYLOAD) and (data := connection.recv(65_536)):
            found += data
    return found, time.monotonic() - begun


def test_a_good_line_passes_everything(line: Proxy) -> None:
    assert _ask(line.port)[0] == PAYLOAD


SLOW = [
    Toxic(Kind.LATENCY, seconds=0.2),
    Toxic(Kind.BANDWIDTH, kb_s=10),
    Toxic(Kind.SLICER, seconds=0.02, size_bytes=200),
]


@pytest.mark.parametrize("toxic", SLOW, ids=lambda toxic: toxic.kind)
def test_a_slow_line_brings_all_of_it_late(line: Proxy, toxic: Toxic) -> None:
    line.poison(toxic)
    found, seconds = _ask(line.port)

    assert found == PAYLOAD and seconds >= 0.15
    line.heal()
    assert _ask(line.port)[0] == PAYLOAD


def test_a_line_that_is_down_refuses_and_ends_what_there_was(line: Proxy) -> None:
    with socket.create_connection((HOST, line.port), 2.0) as open_before:
        open_before.sendall(b"x")
        assert open_before.recv(1) == b"x"
        line.poison(Toxic(Kind.DOWN))
        with suppress(ConnectionError):
            assert open_before.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        _ask(line.port)

    line.heal()
    assert _ask(line.port)[0] == PAYLOAD


def test_a_reset_peer_gets_a_reset_and_not_an_end(line: Proxy) -> None:
    line.poison(Toxic(Kind.RESET_PEER))
    with pytest.raises(ConnectionResetError):
        _ask(line.port)

    line.heal()
    assert _ask(line.port)[0] == PAYLOAD


def test_a_timeout_passes_nothing_until_it_ends_the_connection(line: Proxy) -> None:
    line.poison(Toxic(Kind.TIMEOUT, seconds=0.3))
    begun = time.monotonic()
    with suppress(ConnectionError):
        assert _ask(line.port)[0] == b""
    assert time.monotonic() - begun >= 0.25

    line.heal()
    assert _ask(line.port)[0] == PAYLOAD


def test_limited_data_ends_after_so_many_bytes(line: Proxy) -> None:
    line.poison(Toxic(Kind.LIMIT_DATA, size_bytes=700))
    with suppress(ConnectionError):
        found, _seconds = _ask(line.port)
        assert 0 < len(found) <= 700

    line.heal()
    assert _ask(line.port)[0] == PAYLOAD


def test_a_slow_close_is_an_end_that_comes_late(line: Proxy) -> None:
    line.poison(Toxic(Kind.SLOW_CLOSE, seconds=0.3))
    with socket.create_connection((HOST, line.port), 2.0) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        begun = time.monotonic()
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert time.monotonic() - begun >= 0.25


# --- the line to the broker -------------------------------------------------------------------------------------------


@pytest.fixture
def exchange(market_place: MarketPlace) -> RunningExchange:
    market_place.renew()
    return market_place.running


@pytest.fixture
def broker(exchange: RunningExchange) -> Iterator[BrokerProxy]:
    proxy = BrokerProxy(int(exchange.url.rsplit(":", 1)[1]))
    with running(proxy):
        yield proxy


def _post(broker: BrokerProxy, name: str, timeout_s: float = 5.0) -> int:
    order = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
    url = f"http://127.0.0.1:{broker.port}/v2/orders"
    answer = requests.post(url, json={**order, "client_order_id": name}, headers=HEADERS, timeout=timeout_s)
    return answer.status_code


def _placed(exchange: RunningExchange) -> list[str]:
    found = exchange.call("GET", "/v2/orders", params={"status": "all"}).json()
    return [order["client_order_id"] for order in found]


def test_every_order_on_the_wire_is_noted_with_its_answer(broker: BrokerProxy, exchange: RunningExchange) -> None:
    assert _post(broker, "one") == 200
    assert _post(broker, "one") == 422
    assert [(post.client_order_id, post.status) for post in broker.posts] == [("one", 200), ("one", 422)]
    assert _placed(exchange) == ["one"]


@pytest.mark.parametrize(("where", "stands"), [(Hold.BEFORE, []), (Hold.AFTER, ["held"])])
def test_an_order_is_caught_before_the_broker_or_before_its_answer(
    broker: BrokerProxy, exchange: RunningExchange, where: Hold, stands: list[str]
) -> None:
    broker.hold_next(where)
    sender = threading.Thread(target=_post, args=(broker, "held"))
    sender.start()
    assert broker.caught.wait(5.0)
    assert _placed(exchange) == stands

    broker.release()
    sender.join()
    assert _placed(exchange) == ["held"]


def test_an_order_whose_sender_died_before_it_left_never_arrives(
    broker: BrokerProxy, exchange: RunningExchange
) -> None:
    broker.hold_next(Hold.BEFORE)
    with pytest.raises(requests.Timeout):
        _post(broker, "given up", timeout_s=0.3)
    assert broker.caught.is_set()
    broker.release()
    wait_until(lambda: not broker.posts[0].reached, "the order given up", 5.0)
    assert _placed(exchange) == []


def test_an_order_answered_with_504_is_accepted_late(broker: BrokerProxy, exchange: RunningExchange) -> None:
    broker.accept_late(0.3)
    assert _post(broker, "late") == 504
    assert _placed(exchange) == [] and broker.on_their_way == 1

    wait_until(lambda: _placed(exchange) == ["late"], "the order", 5.0)
    assert broker.posts[0].reached


# --- events of the stream ---------------------------------------------------------------------------------------------

HANDSHAKE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def _frame(number: int, size: int = 20) -> bytes:
    body = json.dumps({"number": number}).encode().ljust(size)
    length = bytes([len(body)]) if len(body) < 126 else b"\x7e" + len(body).to_bytes(2, "big")
    return b"\x82" + length + body


FRAMES = [_frame(number, size) for number, size in enumerate((20, 300, 40, 20))]
ORDERS = [
    (False, False, [0, 1, 2, 3]),
    (True, False, [0, 0, 1, 1, 2, 2, 3, 3]),
    (False, True, [1, 0, 3, 2]),
]


@pytest.mark.parametrize(("doubled", "reordered", "expected"), ORDERS)
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_events_come_as_they_are_twice_or_out_of_order_however_they_are_cut(
    doubled: bool, reordered: bool, expected: list[int], chunk: int
) -> None:
    frames, sent = Frames(), HANDSHAKE + b"".join(FRAMES)
    pieces = [sent[begin : begin + chunk] for begin in range(0, len(sent), chunk)]
    passed = b"".join(out for piece in pieces for out in frames.feed(piece, doubled, reordered))

    assert passed == HANDSHAKE + b"".join(FRAMES[number] for number in expected)


def test_the_handshake_offers_no_compression() -> None:
    asked = b"GET /stream HTTP/1.1\r\nSec-WebSocket-Extensions: permessage-deflate\r\nHost: x\r\n\r\n"
    assert without_compression(asked) == b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
