"""The store in memory within the simulation: outages, a server that dies in mid-commit, sessions that are cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any

from qbot.errors import StoreUnavailable
from qbot.types import BrokerOrder, Source
from tests.simulation.kernel import IDLE_S, Kernel, Run
from tests.simulation.memory import ORDERS, MemoryLedger, MemoryStore

FOREIGN = Source.FOREIGN
Changes = dict[str, dict[Any, Any]]


class SimLedger(MemoryLedger):
    """As MemoryLedger; what was told last and is told again is passed over, since a cycle is told it ten times."""

    __slots__ = ()
    store: SimStore

    def record_orders(self, seen: Sequence[BrokerOrder], wall: datetime) -> None:
        last, rows = self.store.told_last, self.store.tables[ORDERS]
        new = []
        for order in seen:
            family = (order, *order.legs)
            for one in family:
                row = rows.get(one.broker_order_id)
                before = last.get(one.broker_order_id)
                if row is None or row["source"] == FOREIGN or (before is not one and before != one):
                    new.append(order)
                    self.told.update((one.broker_order_id, one) for one in family)
                    break
        if new:
            super().record_orders(new, wall)

    @property
    def told(self) -> dict[str, BrokerOrder]:
        """What this transaction was told; remembered with its commit."""
        return self.changes.setdefault("told", {})

    def commit(self) -> None:
        self.store.told_last.update(self.changes.pop("told", {}))
        super().commit()


class SimStore(MemoryStore):
    """The Store of all processes. `watch` is told what is about to be committed."""

    ledger_class: type[SimLedger] = SimLedger

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(self._point, self._wait)
        self.kernel = kernel
        self.latency_us = 1_000
        self.told_last: dict[str, BrokerOrder] = {}
        self.mid_commit = 0  # so many commits end with an error, done or not
        self.mid_commit_struck = 0
        self.outage_struck = 0
        self.watch: Callable[[Changes, Run | None], None] = lambda _changes, _run: None

    def _point(self, name: str) -> None:
        self.kernel.point(name, self.latency_us)

    def transaction(self) -> AbstractContextManager[MemoryLedger]:
        """One transaction."""
        return _Transaction(self)

    def require_up(self) -> None:
        """Raises StoreUnavailable during an outage."""
        if self.down:
            self.outage_struck += 1
            self.kernel.pause(0.01 if self.kernel.random() < 0.8 else 5.0)
            raise self.kernel.noticed(StoreUnavailable("Postgres: connection refused"))

    def _wait(self, until: Callable[[], bool]) -> None:
        if not self.kernel.wait(until):
            raise StoreUnavailable("Postgres: canceling statement due to lock timeout")

    def frozen(self, run: Run) -> None:
        """Whoever sits still in a transaction loses it, and its locks."""
        mine = run.notes.get("ledger")
        if not isinstance(mine, MemoryLedger):
            return

        def cut_off() -> None:
            if run.notes.get("ledger") is mine and not run.done:
                run.session_lost = True
                mine.release()

        self.kernel.after(IDLE_S, cut_off)


class _Transaction(AbstractContextManager[MemoryLedger]):
    """As MemoryStore has it, with what can happen to a real one."""

    __slots__ = ("ledger", "run", "store")

    def __init__(self, store: SimStore) -> None:
        self.store = store

    def __enter__(self) -> MemoryLedger:
        store = self.store
        store.point("begin")
        if store.down:
            store.require_up()
        self.run = store.kernel.current
        self.ledger = store.ledger_class(store)
        if self.run is not None:
            self.run.notes["ledger"] = self.ledger
            self.run.notes["transaction_began"] = store.kernel.now
        return self.ledger

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._over()
            return
        store, run = self.store, self.run
        try:
            store.point("commit")
            if store.down:
                store.require_up()
            if run is not None and run.session_lost:
                raise StoreUnavailable("Postgres: terminating connection due to idle-in-transaction timeout")
            lost = store.mid_commit > 0 and self._lost_while_committing()
            if self.ledger.changes or self.ledger.events:
                store.watch(self.ledger.changes, run)
                self.ledger.commit()
        finally:
            self._over()
        if lost:
            raise StoreUnavailable("Postgres: server closed the connection unexpectedly")
        store.point("committed")

    def _lost_while_committing(self) -> bool:
        """The server dies around a commit: with it undone, it raises; True: it is done, and nobody is told."""
        store = self.store
        if not self.ledger.changes:
            return False
        store.mid_commit -= 1
        store.mid_commit_struck += 1
        store.kernel.note("!! Postgres killed mid-commit")
        if store.kernel.random() < 0.5:
            return True
        raise StoreUnavailable("Postgres: server closed the connection unexpectedly")

    def _over(self) -> None:
        self.ledger.release()
        if self.run is not None:
            self.run.notes["ledger"] = None
            self.run.session_lost = False
