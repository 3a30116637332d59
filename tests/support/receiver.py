"""A web server that stands for a human's webhook and for Telegram's Bot API, and misbehaves when told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr

HOOK = "hook/T0PSECRET-abcdefghijkl"
TOKEN = "123456789:AAE-abcdefghijklmnopqrstuvwxyz_0123"
TELEGRAM_REFUSAL = b'{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}'


@dataclass
class Receiver:
    """What came in, and how the next requests are answered: a status, with a body, after a while."""

    port: int = 0
    got: list[tuple[str, Any]] = field(default_factory=list)
    status: int = 200
    body: bytes = b"{}"
    slow: threading.Event | None = None
    _server: ThreadingHTTPServer | None = None

    @property
    def webhook(self) -> SecretStr:
        """Its address as a webhook."""
        return SecretStr(f"json://127.0.0.1:{self.port}/{HOOK}")

    @property
    def telegram(self) -> SecretStr:
        """A Telegram address; with `telegram_api_url` the messages come here."""
        return SecretStr(f"tgram://{TOKEN}/4242/")

    @property
    def url(self) -> str:
        """Its base."""
        return f"http://127.0.0.1:{self.port}"

    def titles(self) -> list[str]:
        """Of what came to the webhook, in order."""
        return [body["title"] for path, body in self.got if path == f"/{HOOK}"]

    def answer(self, status: int, body: bytes = b"{}") -> None:
        """From now on, so."""
        self.status, self.body = status, body

    def gone(self) -> None:
        """Nobody listens any more."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def back(self) -> None:
        """Listens again, at the same port."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((self.path, json.loads(raw)))
                if receiver.slow is not None:
                    receiver.slow.wait(30)
                try:
                    self.send_response(receiver.status)
                    self.end_headers()
                    self.wfile.write(receiver.body)
                except OSError:
                    pass  # who asked is gone

            def log_message(self, *_args: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """One that listens."""
    receiver = Receiver()
    receiver.back()
    try:
        yield receiver
    finally:
        if receiver.slow is not None:
            receiver.slow.set()
        if receiver._server is not None:
            receiver.gone()
