"""The paper exchange that also notes when each request came in: `python -m tests.bench.watched_exchange`.

The time is taken before anything is done about a request, on the monotonic clock, which all processes of a machine
share.
"""

from __future__ import annotations

import os
import time

from qbot.exchange import __main__ as exchange
from qbot.exchange.faults import Fault, Faults
from qbot.settings import settings

ARRIVALS = "arrivals.log"  # in the exchange's folder; a line a request: nanoseconds, method, path


def main() -> None:
    """As `python -m qbot.exchange`."""
    folder = settings().home / "exchange"
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / ARRIVALS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    take = Faults.take

    def noted(self: Faults, method: str, path: str) -> list[Fault]:
        os.write(log, f"{time.monotonic_ns()} {method} {path}\n".encode())
        return take(self, method, path)

    Faults.take = noted  # type: ignore[method-assign]
    exchange.main()


if __name__ == "__main__":
    main()
