"""What QBot asks of a broker. Alpaca is the first; a second one has to offer just this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from qbot.types import Account, Activity, BrokerOrder, Fill, OrderSpec, Position


@dataclass(frozen=True, slots=True)
class MarketClock:
    """The venue's own word on its hours, market time."""

    at: datetime
    is_open: bool
    next_open: datetime
    next_close: datetime


def no_fence() -> None:
    """Nothing stands between."""


class Broker(Protocol):
    """Every call raises BrokerError when the venue cannot be asked; `submit` alone may leave doubt."""

    def clock(self) -> MarketClock: ...

    def account(self) -> Account: ...

    def positions(self) -> list[Position]: ...

    def open_orders(self) -> list[BrokerOrder]:
        """Open orders as a flat list, without word of which belong together.

        A leg that the venue holds back while its sibling rests may be missing: a cancel of the sibling takes it along.
        """
        ...

    def orders_since(self, after: datetime) -> list[BrokerOrder]:
        """All orders submitted after `after`, whatever their state; legs stand in the list too, with their parent."""
        ...

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        """The order of that id, or None when the venue does not know it (which is not proof that it never will)."""
        ...

    def fills_since(self, after: datetime) -> list[Fill]: ...

    def activities_since(self, after: datetime) -> list[Activity]:
        """What changed the account besides trades, of what the venue made after `after`."""
        ...

    def submit(self, spec: OrderSpec, fence: Callable[[], None] = no_fence) -> BrokerOrder:
        """Send once. Raises BrokerRejected when refused for good, OrderInDoubt when it may have arrived.

        `fence` is called with nothing left to be done before the request; what it raises goes through, nothing is sent.
        """
        ...

    def cancel(self, broker_order_id: str) -> None:
        """Ask for a cancel. Returns without error when the order is already closed."""
        ...

    def cancel_all(self) -> int:
        """Ask for a cancel of everything open; the number of orders the venue took it for."""
        ...

    def close_all(self, symbols: Sequence[str]) -> None:
        """Ask the venue itself to flatten: the last resort of the emergency, past the ledger."""
        ...
