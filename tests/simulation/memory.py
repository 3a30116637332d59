"""The store in memory: transactions that see what is committed, locks that wait, nothing left of one that dies.

What Postgres does is done here in plain dictionaries, so that a simulated cycle costs microseconds. Both have to pass
`test_stores_agree`. Time passes, and others have their turn, only where `point` and `wait` are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter, itemgetter
from typing import Any

from qbot import clock
from qbot.clock import Uptime
from qbot.errors import AlreadyCommitted, StoreUnavailable
from qbot.protection import PREFIX, Attempts, Execution
from qbot.session import Event, Switch
from qbot.store import locks, tables
from qbot.store.account import CANCELED
from qbot.store.ledger import MINUTE, usage_of
from qbot.store.order_book import asked_by, inherited
from qbot.store.protections import attempts_of, execution_of
from qbot.store.protocol import ABANDONED, CLOSED, COMMITTED, IN_DOUBT, SENT, UNSETTLED
from qbot.types import (
    CLOSED_ORDER_STATUSES,
    Account,
    Activity,
    BrokerOrder,
    Fill,
    IntentKind,
    Opening,
    Side,
    Source,
    Usage,
)

Row = dict[str, Any]
DECISIONS, INTENTS, ORDERS, FILLS, EQUITY, SWITCH = "decisions", "intents", "orders", "fills", "equity", "switch"
OPENINGS, ACTIVITIES = "openings", "activities"
KEYS = {DECISIONS: "decision_id", INTENTS: "client_order_id", ORDERS: "broker_order_id", FILLS: "execution_id"}
ORDER_COLUMNS = tuple(column.name for column in tables.orders.columns if column.name != "source")
FILL_COLUMNS = tuple(field.name for field in fields(Fill))
COLUMNS_OF_ORDER, COLUMNS_OF_FILL = attrgetter(*ORDER_COLUMNS), attrgetter(*FILL_COLUMNS)
AWAITED = (COMMITTED, IN_DOUBT, ABANDONED)
KEPT = {"broker_order_id", "created_at", "parent_id", "source"}
NEW_INTENT: Row = {
    "broker_order_id": None, "error": None, "filled_usd": Decimal(0), "closed_at_wall": None, "since_uptime_s": {},
}  # fmt: skip
MICRO = Decimal("0.000001")  # as precise as the columns of Postgres
ZERO = Decimal(0)


def pass_by(_name: str) -> None:
    """A point where nobody else has a turn."""


def insist(until: Callable[[], bool]) -> None:
    """A wait where nobody else has a turn: what is not so now will never be."""
    if not until():
        raise RuntimeError("deadlock: nobody is left who could free what is waited for")


class MemoryStore:
    """The Store in memory. `point` is told where a process may die or lose its turn, `wait` returns once its condition
    holds. `down` makes every transaction fail, one under way at its commit.
    """

    def __init__(self, point: Callable[[str], None] = pass_by, wait: Callable[..., None] = insist) -> None:
        self.point, self.wait, self.down = point, wait, False
        self.tables: dict[str, dict[Any, Any]] = {name: {} for name in (*KEYS, EQUITY, SWITCH, OPENINGS, ACTIVITIES)}
        self.switch_log: list[tuple[Event, datetime]] = []
        self.owners: dict[object, MemoryLedger] = {}  # of advisory locks, by number, and of rows being written
        # What would be scanned for over and over: kept with each commit.
        self.unsettled: dict[str, None] = {}
        self.open_orders: dict[str, None] = {}
        self.by_day: dict[str, dict[str, None]] = {}
        self.awaited: dict[str, None] = {}
        self.intent_of: dict[str, str] = {}  # by its decision
        self.attempts: dict[str, None] = {}  # decisions about lost protection
        self.fills_by_day: dict[str, list[Row]] = {}
        self.fills_of: dict[str, list[str]] = {}
        self.held: dict[str, Decimal] = {}
        self.cash_flow = ZERO
        self.last_order_at: datetime | None = None
        self.last_fill_at: datetime | None = None

    @contextmanager
    def transaction(self) -> Iterator[MemoryLedger]:
        """One transaction. Whatever is raised into it, also at a point, takes it back."""
        self.point("begin")
        self._require_up()
        ledger = MemoryLedger(self)
        try:
            yield ledger
            self.point("commit")
            self._require_up()
            ledger.commit()
        finally:
            ledger.release()
        self.point("committed")

    def _require_up(self) -> None:
        if self.down:
            raise StoreUnavailable("the store in memory is switched off")


class MemoryLedger:
    """The Ledger of one transaction: `changes` are seen by itself alone until they are committed.

    A row is never changed, another one takes its place: so those that are asked for need not be copied.
    """

    __slots__ = ("changes", "events", "store")

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.changes: dict[str, dict[Any, Any]] = {}
        self.events: list[tuple[Event, datetime]] = []

    # --- rows and locks ---

    def _lock(self, key: object) -> None:
        owners = self.store.owners
        if owners.get(key) is self:
            return
        if isinstance(key, int):
            self.store.point("lock")
        if key in owners:
            self.store.wait(lambda: key not in owners)
        owners[key] = self

    def _get(self, table: str, key: Any) -> Any:
        changed = self.changes.get(table)
        if changed is not None and key in changed:
            return changed[key]
        return self.store.tables[table].get(key)

    def _put(self, table: str, key: Any, row: Any) -> None:
        self.changes.setdefault(table, {})[key] = row

    def _own(self, table: str, key: Any) -> Any:
        """The row as it is once nobody else is writing it: of two that insert or change it, the second waits."""
        self._lock((table, key))
        return self._get(table, key)

    def _rows(self, table: str, keys: Iterable[Any] | None = None) -> Iterator[Row]:
        """Rows by key, those of this transaction as it sees them; all without `keys`, which need not name its own."""
        changed = self.changes.get(table)
        base = self.store.tables[table]
        for key in base if keys is None else keys:
            if changed is None or key not in changed:
                yield base[key]
        if changed is not None:
            yield from changed.values()

    def commit(self) -> None:
        """Make the changes everybody's."""
        store = self.store
        for table, changed in self.changes.items():
            base = store.tables[table]
            for key, row in changed.items():
                if table == FILLS and key not in base:
                    self._add_fill(row)
                base[key] = row
                if table == INTENTS:
                    self._index_intent(key, row)
                elif table == ORDERS:
                    self._index_order(key, row)
                elif table == DECISIONS and row["cycle_id"].startswith(PREFIX):
                    store.attempts[key] = None
        store.switch_log += self.events

    def release(self) -> None:
        """Free every lock, committed or not."""
        owners = self.store.owners
        if owners:
            for key in [key for key, owner in owners.items() if owner is self]:
                del owners[key]

    def _add_fill(self, row: Row) -> None:
        store = self.store
        signed = row["qty"] if row["side"] == Side.BUY else -row["qty"]
        store.held[row["symbol"]] = store.held.get(row["symbol"], ZERO) + signed
        store.cash_flow -= signed * row["price_usd"]
        store.fills_by_day.setdefault(clock.market_day(row["at"]), []).append(row)
        store.fills_of.setdefault(row["symbol"], []).append(row["execution_id"])
        store.last_fill_at = max(row["at"], store.last_fill_at or row["at"])

    def _index_intent(self, key: str, row: Row) -> None:
        store = self.store
        store.by_day.setdefault(row["market_day"], {})[key] = None
        if row.get("decision_id") is not None:  # some tests write rows of their own
            store.intent_of[row["decision_id"]] = key
        for index, statuses in ((store.unsettled, UNSETTLED), (store.awaited, AWAITED)):
            if row["status"] in statuses:
                index[key] = None
            else:
                index.pop(key, None)

    def _index_order(self, key: str, row: Row) -> None:
        store = self.store
        store.last_order_at = max(row["created_at"], store.last_order_at or row["created_at"])
        if row["status"] in CLOSED_ORDER_STATUSES:
            store.open_orders.pop(key, None)
        else:
            store.open_orders[key] = None

    # --- the gate ---

    def lock_gate(self) -> None:
        self._lock(locks.GATE)

    def usage(self, day: str, cooldown_since: datetime, snapshot_wall: datetime, wall: datetime | None = None) -> Usage:
        late, minute_ago = snapshot_wall - timedelta(seconds=1), (wall or snapshot_wall) - MINUTE
        rows = [
            row
            for row in self._rows(INTENTS)
            if row["market_day"] == day
            or row["status"] in UNSETTLED
            or (row["closed_at_wall"] is not None and row["closed_at_wall"] >= late)
            or row["created_at"] > cooldown_since
            or row["created_at_wall"] > minute_ago
        ]
        counted = usage_of(rows, day, snapshot_wall, wall)
        past = self._filled_past_intents(day)
        return replace(counted, notional_today_usd=counted.notional_today_usd + past) if past else counted

    def _filled_past_intents(self, day: str) -> Decimal:
        today = (row for row in self._rows(INTENTS, self.store.by_day.get(day, ())) if row["market_day"] == day)
        ours = {row["broker_order_id"] for row in today if row["kind"] != IntentKind.PROTECTION}
        new, known = self.changes.get(FILLS, {}), self.store.tables[FILLS]
        mine = [row for key, row in new.items() if key not in known and clock.market_day(row["at"]) == day]
        fills = [*self.store.fills_by_day.get(day, ()), *mine]
        return sum((row["qty"] * row["price_usd"] for row in fills if row["broker_order_id"] not in ours), ZERO)

    def add_decisions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._insert(DECISIONS, [dict(row) for row in rows])

    def add_intents(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._insert(INTENTS, [{**NEW_INTENT, **row} for row in rows])

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        for row in rows:
            key = row[KEYS[table]]
            if self._own(table, key) is not None:
                raise AlreadyCommitted(f"{key} was committed before")
            self._put(table, key, row)

    # --- intents ---

    def intent(self, client_order_id: str) -> Mapping[str, Any] | None:
        row: Row | None = self._get(INTENTS, client_order_id)
        return row

    def unsettled_intents(self) -> list[Mapping[str, Any]]:
        rows = [row for row in self._rows(INTENTS, self.store.unsettled) if row["status"] in UNSETTLED]
        return sorted(rows, key=itemgetter("created_at_wall"))

    def note_since(self, client_order_id: str, up: Uptime) -> None:
        row = self._own(INTENTS, client_order_id)
        if row is not None:
            seen = {up.boot: up.seconds, **row["since_uptime_s"]}
            self._put(INTENTS, client_order_id, {**row, "since_uptime_s": seen})

    def executions(self, symbols: Sequence[str]) -> list[Execution]:
        keys = [key for symbol in symbols for key in self.store.fills_of.get(symbol, ())]
        found = [row for row in self._rows(FILLS, keys) if row["symbol"] in symbols]
        return [execution_of(self._asked(row)) for row in sorted(found, key=lambda r: (r["at"], r["execution_id"]))]

    def _asked(self, fill: Row) -> Row:
        """The fill beside the intent and the revision behind it, as a join would give them."""
        order = self._get(ORDERS, fill["broker_order_id"]) or {}
        parent = self._get(ORDERS, order.get("parent_id")) or {}
        intent = self._get(INTENTS, parent.get("client_order_id") or order.get("client_order_id")) or {}
        decision = self._get(DECISIONS, intent.get("decision_id")) or {}
        named = {name: intent.get(name) for name in ("client_order_id", "kind", "source", "spec")}
        return {**fill, **named, "settings_revision": decision.get("settings_revision")}

    def protection_attempts(self, symbols: Sequence[str]) -> dict[str, Attempts]:
        found = []
        for row in self._rows(DECISIONS, self.store.attempts):
            if row["symbol"] in symbols and row["cycle_id"].startswith(PREFIX):
                known = self.store.intent_of.get(row["decision_id"])
                intents = self._rows(INTENTS, () if known is None else (known,))
                intent = next((one for one in intents if one["decision_id"] == row["decision_id"]), {})
                found.append({**row, "status": intent.get("status")})
        return attempts_of(found)

    def protection_withheld(self) -> bool:
        events = (event for event, _ in (*self.store.switch_log, *self.events))
        told = [event for event in events if event in (Event.STARTED, Event.UNPROTECTED)]
        return told[-1:] == [Event.UNPROTECTED]

    def withhold_protection(self, why: str, wall: datetime) -> None:
        self.events.append((Event.UNPROTECTED, wall))

    def rebalanced(self, day: str) -> frozenset[str]:
        rows = [row for row in self._rows(INTENTS, self.store.by_day.get(day, {})) if row["market_day"] == day]
        even = [row for row in rows if row["source"] == Source.AUTOTRADING and row["kind"] == IntentKind.EXIT]
        return frozenset(row["symbol"] for row in even)

    def oldest_without_order(self, since: datetime) -> datetime | None:
        rows = [row for row in self._rows(INTENTS, self.store.awaited) if row["status"] in AWAITED]
        return min((row["created_at"] for row in rows if row["created_at"] > since), default=None)

    def mark_unsent(self, client_order_id: str, status: str, why: str) -> None:
        row = self._own(INTENTS, client_order_id)
        if row is not None and row["status"] in (COMMITTED, IN_DOUBT):
            self._put(INTENTS, client_order_id, {**row, "status": status, "error": why})

    def entries_on_their_way(self, begin: datetime, end: datetime, by_hand: Sequence[Source] = ()) -> bool:
        left_out = {Source.MANUAL, Source.EMERGENCY} - set(by_hand)
        return any(
            row["status"] in (COMMITTED, IN_DOUBT)
            and row["kind"] == IntentKind.ENTRY
            and row["source"] not in left_out
            and begin <= row["created_at_wall"] <= end
            for row in self._rows(INTENTS, self.store.unsettled)
        )

    # --- orders and fills ---

    def record_orders(self, seen: Sequence[BrokerOrder], wall: datetime) -> None:
        family = {one.broker_order_id: one for order in seen for one in (*order.legs, order)}
        if not family:
            return
        self._lock(locks.ORDERS)
        lost = {order.replaces for order in family.values() if order.replaces and order.parent_id is None}
        parents = {key: row["parent_id"] for key in lost if (row := self._get(ORDERS, key)) is not None}
        told = inherited([family[order_id] for order_id in sorted(family)], parents)
        known = self._sources(told)
        for order in told:
            row = dict(zip(ORDER_COLUMNS, COLUMNS_OF_ORDER(order), strict=True))
            row |= {"side": str(order.side), "source": known[order.broker_order_id]}
            self._record_order(order.broker_order_id, row)
            self._settle(order, wall)

    def _sources(self, told: Sequence[BrokerOrder]) -> dict[str, str]:
        by_id, recorded = {}, {}
        for order in told:
            intent = self._get(INTENTS, order.client_order_id)
            if intent is not None:
                by_id[order.client_order_id] = str(intent["source"])
            for kin in (order.parent_id, order.replaces):
                row = self._get(ORDERS, kin) if kin else None
                if row is not None and row["source"] != Source.FOREIGN:
                    recorded[row["broker_order_id"]] = row["source"]
        return asked_by(told, by_id, recorded)

    def _record_order(self, key: str, new: Row) -> None:
        old = self._own(ORDERS, key)
        if old is None:
            self._put(ORDERS, key, new)
            return
        row = {**new, **{name: old[name] for name in KEPT}} if _newer(new, old) else old
        if (new["source"] != Source.FOREIGN or new["parent_id"]) and (
            row["parent_id"] is None or row["source"] == Source.FOREIGN
        ):
            source = new["source"] if row["source"] == Source.FOREIGN else row["source"]
            row = {**row, "parent_id": row["parent_id"] or new["parent_id"], "source": source}
        if row is not old:
            self._put(ORDERS, key, row)

    def _settle(self, told: BrokerOrder, wall: datetime) -> None:
        if self._get(INTENTS, told.client_order_id) is None:
            return
        order, intent = self._get(ORDERS, told.broker_order_id), self._own(INTENTS, told.client_order_id)
        ended = order["status"] in CLOSED_ORDER_STATUSES
        filled_usd = (order["filled_qty"] * (order["filled_avg_price_usd"] or ZERO)).quantize(MICRO)
        change = {
            "status": CLOSED if ended else SENT,
            "broker_order_id": told.broker_order_id,
            "filled_usd": filled_usd,
            "closed_at_wall": (intent["closed_at_wall"] or wall) if ended else None,
            "error": None,
        }
        if any(intent[name] != value for name, value in change.items()):
            self._put(INTENTS, told.client_order_id, {**intent, **change})

    def record_fills(self, seen: Sequence[Fill]) -> int:
        new = 0
        if seen:
            self._lock(locks.ORDERS)
        for fill in sorted(seen, key=lambda fill: fill.execution_id):
            if self._get(FILLS, fill.execution_id) is None and self._own(FILLS, fill.execution_id) is None:
                row = dict(zip(FILL_COLUMNS, COLUMNS_OF_FILL(fill), strict=True))
                self._put(FILLS, fill.execution_id, row | {"side": str(fill.side)})
                new += 1
        return new

    def net_quantities(self) -> dict[str, Decimal]:
        held = dict(self.store.held)
        for key, row in self.changes.get(FILLS, {}).items():
            if key not in self.store.tables[FILLS]:
                signed = row["qty"] if row["side"] == Side.BUY else -row["qty"]
                held[row["symbol"]] = held.get(row["symbol"], ZERO) + signed
        return {symbol: qty for symbol, qty in held.items() if qty}

    def record_equity(self, account: Account, at: datetime, expected_cash_usd: Decimal | None = None) -> None:
        if self._own(EQUITY, at) is None:
            row = {"at": at, "equity_usd": account.equity_usd, "cash_usd": account.cash_usd}
            self._put(EQUITY, at, {**row, "expected_cash_usd": expected_cash_usd})

    # --- the account: nobody adopts another one here, so there is one opening, and every fill counts ---

    def opening(self) -> Opening | None:
        found: Opening | None = self._get(OPENINGS, True)
        return found

    def bind(self, new: Opening) -> Opening:
        found: Opening | None = self._own(OPENINGS, True)
        if found is None:
            found = replace(new, opening=1)
            self._put(OPENINGS, True, found)
        return found

    def saw_other(self, account_id: str | None, number: str | None) -> None:
        self._amend(other_account_id=account_id, other_number=number)

    def set_opening_cash(self, cash_usd: Decimal) -> None:
        self._amend(cash_usd=cash_usd)

    def _amend(self, **values: Any) -> None:
        found = self._own(OPENINGS, True)
        if found is not None:
            self._put(OPENINGS, True, replace(found, **values))

    def cash_flow(self) -> Decimal:
        flow = self.store.cash_flow
        for key, row in self.changes.get(FILLS, {}).items():
            if key not in self.store.tables[FILLS]:
                flow += (-row["qty"] if row["side"] == Side.BUY else row["qty"]) * row["price_usd"]
        return flow + sum((one.amount_usd for one in self._activities() if one.status != CANCELED), ZERO)

    def record_activities(self, seen: Sequence[Activity]) -> None:
        if self.opening() is not None:
            for one in seen:
                known = self._own(ACTIVITIES, one.activity_id)
                new = replace(known, status=one.status, amount_usd=one.amount_usd) if known else one
                self._put(ACTIVITIES, one.activity_id, new)

    def last_activity_at(self) -> datetime | None:
        return max((one.at for one in self._activities()), default=None)

    def _activities(self) -> list[Activity]:
        return list({**self.store.tables[ACTIVITIES], **self.changes.get(ACTIVITIES, {})}.values())

    def open_orders(self) -> list[Mapping[str, Any]]:
        rows = [row for row in self._rows(ORDERS, self.store.open_orders) if row["status"] not in CLOSED_ORDER_STATUSES]
        return sorted(rows, key=itemgetter("created_at"))

    def open_entries(self, id_prefix: str) -> list[str]:
        mine = [r for r in self.open_orders() if r["side"] == Side.BUY and r["client_order_id"].startswith(id_prefix)]
        return [row["broker_order_id"] for row in reversed(mine)]

    def last_fill_at(self) -> datetime | None:
        times = [row["at"] for row in self.changes.get(FILLS, {}).values()]
        return max((at for at in (*times, self.store.last_fill_at) if at is not None), default=None)

    def last_order_at(self) -> datetime | None:
        times = [row["created_at"] for row in self.changes.get(ORDERS, {}).values()]
        return max((at for at in (*times, self.store.last_order_at) if at is not None), default=None)

    # --- the switch ---

    def load_switch(self, *, for_update: bool = False) -> Switch:
        if for_update:
            self._lock(locks.SWITCH)
        found: Switch | None = self._get(SWITCH, True)
        return found or Switch()

    def save_switch(self, switch: Switch, events: Sequence[Event], wall: datetime) -> None:
        self._own(SWITCH, True)
        self._put(SWITCH, True, replace(switch, seen=dict(switch.seen) if switch.seen else None))
        self.events += [(event, wall) for event in events]


def _newer(new: Row, old: Row) -> bool:
    """As `qbot.store.ledger` has it."""
    if new["updated_at"] != old["updated_at"]:
        return bool(new["updated_at"] > old["updated_at"])
    closed = CLOSED_ORDER_STATUSES
    return new["filled_qty"] >= old["filled_qty"] and (old["status"] not in closed or new["status"] in closed)
