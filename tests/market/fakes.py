"""Sources without a network: answers as told, in the forms that the adapters read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qbot.market.finnhub import Finnhub
from qbot.market.fmp import Fmp
from qbot.market.marketstack import Marketstack
from qbot.market.provider import Provider
from qbot.market.reply import Reply, reply_of
from qbot.market.twelvedata import TwelveData
from qbot.market.wire import Getter

SAMPLES = Path(__file__).parent / "samples"
NOW = datetime(2026, 11, 27, 15, 0, tzinfo=UTC)
Adapter = Callable[[Getter], Provider]
OVER_HTTP: dict[str, Adapter] = {
    "finnhub": Finnhub, "twelvedata": TwelveData, "fmp": Fmp, "marketstack": Marketstack,
}  # fmt: skip


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    """A body as JSON; a text as it is."""
    text = body if isinstance(body, str) else json.dumps(body)
    return reply_of(status, {name.replace("_", "-"): value for name, value in headers.items()}, text)


class Source:
    """Answers by path and query, and remembers what it was asked and at what cost."""

    def __init__(self, answer: Callable[[str, Mapping[str, str]], Reply] | Reply) -> None:
        self._answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.cost = 0

    def get(self, path: str, query: Mapping[str, str], credits: int = 1) -> Reply:
        self.asked.append((path, dict(query)))
        self.cost += credits
        return self._answer if isinstance(self._answer, Reply) else self._answer(path, query)

    def symbols(self) -> list[str]:
        return [query.get("symbol") or query["symbols"] for _path, query in self.asked]
