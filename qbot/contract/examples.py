"""The documented example of every key and channel, read from `examples.json`."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("examples.json")


@lru_cache(maxsize=1)
def _all() -> dict[str, list[Any]]:
    body: dict[str, list[Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return body


def documented(name: str) -> list[Any]:
    """Every documented form of one key's value, as parsed JSON; the fullest first. Raises KeyError."""
    return _all()[name]


def wire(name: str, *, text: bool = False) -> str:
    """The first example as it stands in Redis: JSON, or a plain string. Raises KeyError."""
    first = documented(name)[0]
    return str(first) if text else json.dumps(first)
