"""The store of a running QBot: the ledger's and the switch's queries, bound to one transaction at Postgres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from qbot.clock import Uptime
from qbot.errors import AlreadyCommitted
from qbot.protection import Attempts, Execution
from qbot.session import Event, Switch
from qbot.store import account as accounts
from qbot.store import engine, ledger, order_book, protections, state
from qbot.store.protocol import Ledger, Row
from qbot.types import Account, Activity, BrokerOrder, Fill, Opening, Source, Usage


@dataclass(frozen=True, slots=True)
class PostgresStore:
    """The Store at Postgres."""

    engine: Engine

    @contextmanager
    def transaction(self) -> Iterator[Ledger]:
        """One transaction."""
        with engine.transaction(self.engine) as connection:
            yield PostgresLedger(connection)


@dataclass(frozen=True, slots=True)
class PostgresLedger:
    """The Ledger of one connection."""

    connection: Connection

    def lock_gate(self) -> None:
        ledger.lock_gate(self.connection)

    def usage(self, day: str, cooldown_since: datetime, snapshot_wall: datetime, wall: datetime | None = None) -> Usage:
        return ledger.usage(self.connection, day, cooldown_since, snapshot_wall, wall)

    def add_decisions(self, rows: Sequence[Row]) -> None:
        try:
            ledger.add_decisions(self.connection, rows)
        except IntegrityError as error:
            raise AlreadyCommitted(f"cycle {rows[0]['cycle_id']} was committed before") from error

    def add_intents(self, rows: Sequence[Row]) -> None:
        try:
            ledger.add_intents(self.connection, rows)
        except IntegrityError as error:
            raise AlreadyCommitted(f"order {rows[0]['client_order_id']} was committed before") from error

    def intent(self, client_order_id: str) -> Row | None:
        return ledger.intent(self.connection, client_order_id)

    def unsettled_intents(self) -> list[Row]:
        return ledger.unsettled_intents(self.connection)

    def note_since(self, client_order_id: str, up: Uptime) -> None:
        ledger.note_since(self.connection, client_order_id, up)

    def rebalanced(self, day: str) -> frozenset[str]:
        return ledger.rebalanced(self.connection, day)

    def executions(self, symbols: Sequence[str]) -> list[Execution]:
        return protections.executions(self.connection, symbols)

    def protection_attempts(self, symbols: Sequence[str]) -> dict[str, Attempts]:
        return protections.protection_attempts(self.connection, symbols)

    def protection_withheld(self) -> bool:
        return protections.protection_withheld(self.connection)

    def withhold_protection(self, why: str, wall: datetime) -> None:
        protections.withhold_protection(self.connection, why, wall)

    def oldest_without_order(self, since: datetime) -> datetime | None:
        return ledger.oldest_without_order(self.connection, since)

    def mark_unsent(self, client_order_id: str, status: str, why: str) -> None:
        ledger.mark_unsent(self.connection, client_order_id, status, why)

    def net_quantities(self) -> dict[str, Decimal]:
        return ledger.net_quantities(self.connection)

    def record_orders(self, seen: Sequence[BrokerOrder], wall: datetime) -> None:
        order_book.record_orders(self.connection, seen, wall)

    def record_fills(self, seen: Sequence[Fill]) -> int:
        return ledger.record_fills(self.connection, seen)

    def record_equity(self, account: Account, at: datetime, expected_cash_usd: Decimal | None = None) -> None:
        ledger.record_equity(self.connection, account, at, expected_cash_usd)

    def opening(self) -> Opening | None:
        return accounts.opening(self.connection)

    def bind(self, new: Opening) -> Opening:
        return accounts.bind(self.connection, new)

    def saw_other(self, account_id: str | None, number: str | None) -> None:
        accounts.saw_other(self.connection, account_id, number)

    def set_opening_cash(self, cash_usd: Decimal) -> None:
        accounts.set_opening_cash(self.connection, cash_usd)

    def cash_flow(self) -> Decimal:
        return accounts.cash_flow(self.connection)

    def record_activities(self, seen: Sequence[Activity]) -> None:
        accounts.record_activities(self.connection, seen)

    def last_activity_at(self) -> datetime | None:
        return accounts.last_activity_at(self.connection)

    def open_orders(self) -> list[Row]:
        return order_book.open_orders(self.connection)

    def open_entries(self, id_prefix: str) -> list[str]:
        return order_book.open_entries(self.connection, id_prefix)

    def entries_on_their_way(self, begin: datetime, end: datetime, by_hand: Sequence[Source] = ()) -> bool:
        return ledger.entries_on_their_way(self.connection, begin, end, by_hand)

    def last_fill_at(self) -> datetime | None:
        return ledger.last_fill_at(self.connection)

    def last_order_at(self) -> datetime | None:
        return order_book.last_order_at(self.connection)

    def load_switch(self, *, for_update: bool = False) -> Switch:
        return state.load_switch(self.connection, for_update=for_update)

    def save_switch(self, switch: Switch, events: Sequence[Event], wall: datetime) -> None:
        state.save_switch(self.connection, switch, events, wall)
