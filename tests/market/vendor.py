"""One small web server that stands for one source: it answers each path as told and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

JSON = "application/json"


@dataclass(frozen=True)
class Said:
    """One answer. `pause_s` before it, `drip_s` between its bytes; `cut`: bytes of the body after which it hangs up."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    drip_s: float = 0.0
    cut: int | None = None
    length: bool = True
    kind: str = JSON


def said(body: Any, status: int = 200, **rest: Any) -> Said:
    """A body as JSON."""
    return Said(json.dumps(body).encode(), status, **rest)


@dataclass
class Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class Vendor:
    """What came in, and what is answered: by `answer`, which sees the request."""

    url: str = ""
    got: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Said] = lambda _request: Said()

    def says(self, *answers: Said) -> None:
        """These, one after the other; the last one for ever."""
        left = list(answers)
        self.answer = lambda _request: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def vendor() -> Iterator[Vendor]:
    """One that listens on a port of its own."""
    found = Vendor()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            request = Request(parts.path, query, {name.lower(): value for name, value in self.headers.items()})
            found.got.append(request)
            answer = found.answer(request)
            time.sleep(answer.pause_s)
            with suppress(OSError):  # who asked is gone
                self._send(answer)

        do_POST = do_GET

        def _send(self, answer: Said) -> None:
            if answer.cut == 0:
                return
            self.send_response(answer.status)
            headers = {"Content-Type": answer.kind} | answer.headers
            if answer.length:
                headers["Content-Length"] = str(len(answer.body))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            body = answer.body[: answer.cut]
            if not answer.drip_s:
                self.wfile.write(body)
                return
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(answer.drip_s)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
