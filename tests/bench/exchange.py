"""Orders a second at the paper exchange, one client, one after the other, beside its empty answer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import requests
from alpaca.trading.client import TradingClient

from qbot.clock import monotonic_s
from tests.support.exchange import HEADERS, KEY, SECRET, exchange_process

COUNT = 500


def run() -> Iterator[str]:
    """Lines to print."""
    # The venue's rate limit grows with the speed of its market, so at this speed it is out of the way.
    with (
        tempfile.TemporaryDirectory(prefix="qbot-bench-") as name,
        exchange_process(Path(name) / "home", speed=1000.0) as venue,
    ):
        session = requests.Session()
        floor = _rate(lambda: session.get(f"{venue.url}/healthz", timeout=10).raise_for_status())
        yield f"empty answers                 {floor:7.0f} a second"
        raw = _rate(lambda: _post(session, venue.url))
        yield f"orders over plain HTTP        {raw:7.0f} a second   {raw / floor:5.2f} of the empty answers"
        client = TradingClient(KEY, SECRET, raw_data=True, url_override=venue.url)
        sdk = _rate(lambda: client.post("/orders", _order()))
        yield f"orders through alpaca-py      {sdk:7.0f} a second   {sdk / floor:5.2f} of the empty answers"


def _rate(call: Callable[[], object]) -> float:
    call()
    begun = monotonic_s()
    for _ in range(COUNT):
        call()
    return COUNT / (monotonic_s() - begun)


def _post(session: requests.Session, url: str) -> None:
    session.post(f"{url}/v2/orders", json=_order(), headers=HEADERS, timeout=10).raise_for_status()


def _order() -> dict[str, str]:
    """A buy that rests far under the market."""
    return {
        "symbol": "AAPL", "qty": "1", "side": "buy", "type": "limit", "limit_price": "1.00", "time_in_force": "gtc",
        "client_order_id": uuid4().hex,
    }  # fmt: skip
