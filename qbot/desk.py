"""Where orders are made: the broker, the ledger, and the times. A simulation sits down here with its own of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from qbot import clock
from qbot.broker.protocol import Broker
from qbot.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Desk:
    """What execution, reconciliation and the emergency work with, and all they may work with."""

    broker: Broker
    store: Store
    wall: Callable[[], datetime] = clock.wall_now
    market: Callable[[], datetime] = clock.market_now
    monotonic_s: Callable[[], float] = clock.monotonic_s
    pause: Callable[[float], None] = clock.pause
    uptime: Callable[[], clock.Uptime] = clock.uptime
