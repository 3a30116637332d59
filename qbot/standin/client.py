"""Breaks and heals the vendors of a running stand-in, and tells what they were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from qbot.errors import ConfigError, StackError
from qbot.standin.troubles import Trouble

EVERY = "all"
TIMEOUT_S = (1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Doing:
    """How a vendor does, and what it was asked since the counters were emptied. `faults`: those it can have."""

    fault: Trouble | None
    latency_s: float
    symbols: tuple[str, ...]
    times: int | None
    requests: int
    symbols_asked: int
    in_flight_max: int
    paths: Mapping[str, int]
    faults: tuple[Trouble, ...]


class Control:
    """The stand-in at `url`. Each method raises StackError where nobody answers, ConfigError where it says no."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # it is on this machine: no proxy

    def all(self) -> dict[str, Doing]:
        """Of every vendor, by name."""
        return {name: _doing(row) for name, row in self._call("GET", "")["vendors"].items()}

    def in_flight_max(self) -> int:
        """The most requests, of all vendors together, that were being answered at once."""
        return int(self._call("GET", "")["in_flight_max"])

    def switch(
        self,
        vendor: str,
        fault: Trouble | str | None = None,
        *,
        latency_s: float = 0.0,
        symbols: Sequence[str] = (),
        factor: float | None = None,
        hours: float | None = None,
        times: int | None = None,
    ) -> None:
        """From now on the vendor does so, whatever it did before; `all`: each that can. See `troubles.Switch`."""
        wanted = {"latency_s": latency_s, "symbols": list(symbols), "factor": factor, "hours": hours, "times": times}
        self._call("PUT", vendor, {"fault": None if fault is None else str(fault), **wanted})

    def heal(self, vendor: str = EVERY) -> None:
        """It is well and quick again."""
        self._call("DELETE", vendor)

    def forget(self) -> None:
        """Count from nothing again."""
        self._call("DELETE", "counters")

    def _call(self, method: str, name: str, body: object = None) -> Any:
        try:
            answer = self._session.request(method, f"{self.url}/control/{name}", json=body, timeout=TIMEOUT_S)
            told = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise StackError(f"no stand-in answers at {self.url}: `qbot up --fake-providers` starts one") from error
        if not answer.ok:
            raise ConfigError(str(told.get("message", answer.status_code)))
        return told


def _doing(row: Mapping[str, Any]) -> Doing:
    return Doing(
        fault=Trouble(row["fault"]) if row["fault"] else None, latency_s=row["latency_s"],
        symbols=tuple(row["symbols"]), times=row["times"], requests=row["requests"],
        symbols_asked=row["symbols_asked"], in_flight_max=row["in_flight_max"], paths=row["paths"],
        faults=tuple(Trouble(name) for name in row["faults"]),
    )  # fmt: skip
