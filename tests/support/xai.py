"""A web server that stands for xAI: it answers with recorded bodies, and misbehaves when told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[1] / "recorded" / "xai"
KEY = "xai-T0PSECRET-abcdefghijklmnopqrstuvwxyz"
PICK = {
    "symbol": "AAPL", "score": 0.9, "sentiment": 0.4, "confidence": 0.7, "expected_return": 0.01, "risk_level": 2,
    "reason": "Strong earnings expected",
}  # fmt: skip
Body = dict[str, Any]


def recorded(name: str) -> Body:
    """Status, headers and body of one recorded answer."""
    found: Body = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def pick(symbol: str = "AAPL", **changes: object) -> Body:
    """One candidate as Grok gives it."""
    return {**PICK, "symbol": symbol, **changes}


def answer(*candidates: object, **more: object) -> str:
    """The text of an answer with these candidates."""
    return json.dumps({"candidates": list(candidates), **more})


def told(text: str, ticks: object = 60_000_000) -> Body:
    """A recorded body with another text and cost; ticks: 1e-10 USD, `None` takes the field away."""
    body: Body = deepcopy(recorded("schema")["body"])
    body["output"][-1]["content"][0]["text"] = text
    body["usage"]["cost_in_usd_ticks"] = ticks
    if ticks is None:
        del body["usage"]["cost_in_usd_ticks"]
    return body


@dataclass
class Grok:
    """How the next requests are answered, and what came in: path, headers in small letters, body."""

    port: int = 0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    got: list[tuple[str, dict[str, str], Body]] = field(default_factory=list)
    wait: threading.Event | None = None  # nothing is answered until it is set
    drip_s: float = 0.0  # between two bytes
    drip_headers: bool = False
    before: Callable[[], None] = lambda: None
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Its base."""
        return f"http://127.0.0.1:{self.port}/v1"

    def says(self, body: Body | bytes, status: int = 200, **headers: str) -> None:
        """From now on, so."""
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def names(self, *candidates: object, ticks: object = 60_000_000) -> None:
        """From now on these candidates, at this cost."""
        self.says(told(answer(*candidates), ticks))

    def gone(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def start(self) -> None:
        """Listens."""
        grok = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                grok.got.append((self.path, headers, json.loads(raw)))
                if grok.wait is not None:
                    grok.wait.wait(30)
                grok.before()
                with suppress(OSError):  # who asked is gone
                    self._answer()

            def _answer(self) -> None:
                length = {"Content-Length": str(len(grok.body))}
                lines = [f"HTTP/1.1 {grok.status} X", *(f"{n}: {v}" for n, v in {**length, **grok.headers}.items())]
                head = ("\r\n".join(lines) + "\r\n\r\n").encode()
                self._send(head, drip=grok.drip_headers)
                self._send(grok.body, drip=grok.drip_s > 0)

            def _send(self, data: bytes, *, drip: bool) -> None:
                if not drip:
                    self.wfile.write(data)
                    return
                for number in range(len(data)):
                    self.wfile.write(data[number : number + 1])
                    self.wfile.flush()
                    time.sleep(grok.drip_s)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@contextmanager
def grok_listening() -> Iterator[Grok]:
    """One that listens, and names AAPL."""
    grok = Grok()
    grok.names(pick())
    grok.start()
    try:
        yield grok
    finally:
        if grok.wait is not None:
            grok.wait.set()
        grok.gone()
