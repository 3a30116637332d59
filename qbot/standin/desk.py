"""How each vendor does, and what it was asked: the state that `/control` shows and changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from qbot.standin.troubles import Switch, Trouble
from qbot.standin.vendor import Ask, Vendor

WELL = Switch()
OF_CONNECTION = (Trouble.DEAD, Trouble.SLOW)  # whatever is asked for


@dataclass(slots=True)
class Load:
    """Requests that are being answered, and the most that ever were at once."""

    now: int = 0
    most: int = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield
        finally:
            self.now -= 1

    def forget(self) -> None:
        """Look for the most again."""
        self.most = self.now


@dataclass(slots=True)
class Desk:
    """One vendor's. `paths`: requests by the path below the prefix, without symbols in it."""

    vendor: Vendor
    switch: Switch = WELL
    requests: int = 0
    symbols: int = 0
    load: Load = field(default_factory=Load)
    paths: Counter[str] = field(default_factory=Counter)

    def befalls(self, ask: Ask) -> Switch:
        """Count a request; what is wrong with its answer. Latency is of every request, but for a `slow` of symbols.

        `times` counts those alone that have something wrong.
        """
        symbols = self.vendor.symbols_of(ask)
        self.requests += 1
        self.symbols += len(symbols)
        self.paths[_without_symbol(ask.path)] += 1
        found, kept_s = self.switch, 0.0 if self.switch.fault is Trouble.SLOW else self.switch.latency_s
        spared = found.fault not in OF_CONNECTION and self.vendor.aside(ask.path)
        if spared or not found.concerns(symbols):
            return Switch(latency_s=kept_s)
        if found.times is not None:
            left = found.times - 1
            self.switch = found.model_copy(update={"times": left}) if left else Switch(latency_s=kept_s)
        return found

    def put(self, switch: Switch) -> None:
        """Raises ValueError for a trouble that this vendor cannot have."""
        if switch.fault is not None and switch.fault not in self.vendor.troubles:
            raise ValueError(f"{self.vendor.name} has no {switch.fault}; there are {', '.join(self.vendor.troubles)}")
        self.switch = switch

    def forget(self) -> None:
        """Count from nothing again. What is being answered stays counted."""
        self.requests = self.symbols = 0
        self.paths.clear()
        self.load.forget()

    def as_json(self) -> Mapping[str, Any]:
        told = self.switch.model_dump(mode="json")
        counts = {"requests": self.requests, "symbols_asked": self.symbols, "in_flight_max": self.load.most}
        return {**told, **counts, "paths": dict(self.paths), "faults": list(self.vendor.troubles)}


def _without_symbol(path: str) -> str:
    """Those of Yahoo end with one."""
    head, _slash, last = path.rpartition("/")
    return head if last.isupper() and head else path
