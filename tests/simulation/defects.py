"""Planted defects: parts of QBot made wrong on purpose, each of which the oracles have to notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from qbot import committing, execution, limits, protecting, reconciliation, risk
from qbot.broker.protocol import no_fence
from qbot.desk import Desk
from qbot.errors import OrderInDoubt
from qbot.protecting import Protected
from qbot.risk_case import Whose
from qbot.session import Switch
from qbot.types import BrokerOrder, Fill, OrderSpec
from tests.simulation.broker import SimBroker
from tests.simulation.simulation import Defects
from tests.simulation.store import SimLedger, SimStore

Row = Mapping[str, Any]
Patch = tuple[object, str, object]


class Unlocked(SimLedger):
    """Nobody waits for anybody at the gate."""

    def lock_gate(self) -> None:
        """Take nothing."""


class UnlockedStore(SimStore):
    ledger_class = Unlocked


class Retrying(SimBroker):
    """An order that was not answered is simply sent again."""

    def submit(self, spec: OrderSpec, fence: Callable[[], None] = no_fence) -> BrokerOrder:
        try:
            return super().submit(spec, fence)
        except OrderInDoubt:
            return super().submit(spec, fence)


class RetryingAnew(SimBroker):
    """The same, under a new id, so that the venue cannot tell."""

    def submit(self, spec: OrderSpec, fence: Callable[[], None] = no_fence) -> BrokerOrder:
        try:
            return super().submit(spec, fence)
        except OrderInDoubt:
            return super().submit(replace(spec, client_order_id=f"{spec.client_order_id}-2"), fence)


class Deferring(SimLedger):
    """Intents are kept in the process, and written down once their orders are sent."""

    __slots__ = ()
    kept: dict[str, dict[str, Any]] = {}  # noqa: RUF012  emptied by each store

    def add_intents(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.kept[row["client_order_id"]] = {"status": "committed", **row}

    def intent(self, client_order_id: str) -> Any:
        return super().intent(client_order_id) or self.kept.get(client_order_id)

    def record_orders(self, seen: Sequence[BrokerOrder], wall: Any) -> None:
        late = [self.kept.pop(one.client_order_id) for one in seen if one.client_order_id in self.kept]
        if late:
            super().add_intents(late)
        super().record_orders(seen, wall)


class DeferringStore(SimStore):
    ledger_class = Deferring

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        Deferring.kept.clear()


class OldSwitch(SimLedger):
    """A process looks at the switch once and believes that from then on."""

    __slots__ = ()

    def load_switch(self, *, for_update: bool = False) -> Switch:
        run = self.store.kernel.current
        found = super().load_switch(for_update=for_update)
        if for_update or run is None:
            return found
        believed = run.notes.setdefault("switch", found)
        assert isinstance(believed, Switch)
        return believed


class OldSwitchStore(SimStore):
    ledger_class = OldSwitch


class TwiceRecording(SimLedger):
    """The stream names an execution in its own way, so that REST brings it again."""

    __slots__ = ()

    def record_fills(self, seen: Sequence[Fill]) -> int:
        run = self.store.kernel.current
        if run is not None and run.name == "stream":
            seen = [replace(fill, execution_id=f"stream-{fill.execution_id}") for fill in seen]
        return super().record_fills(seen)


class TwiceRecordingStore(SimStore):
    ledger_class = TwiceRecording


def without(*refusals: str) -> tuple[Patch, ...]:
    """The gate without the checks that give these refusals."""
    left = [rule for rule in risk.RULES if not set(refusals) & set(rule.refusals)]
    assert len(left) == len(risk.RULES) - len(refusals), refusals
    return ((risk, "CHECKS", {each: tuple(rule.check for rule in left if each in rule.whose) for each in Whose}),)


def _by_the_wall(desk: Desk, intent: Row) -> committing.Age:
    """How old an intent is, by a clock that may have jumped."""
    age_s = (desk.wall() - intent["created_at_wall"]).total_seconds()
    return committing.Age(age_s, abs(age_s))


def _nothing(*_args: object, **_more: object) -> Any:
    return False


def _settle_nothing(*_args: object) -> Any:
    return {}


# Name → parts that are exchanged, what else is changed, and the oracles of which one has to notice it.
PLANTED: dict[str, tuple[Defects, tuple[Patch, ...], set[str]]] = {
    "drop the lock": (Defects(store=UnlockedStore), (), {"I5"}),
    "retry the POST": (Defects(broker=Retrying), (), {"I1"}),
    "retry the POST under a new id": (Defects(broker=RetryingAnew), (), {"I1", "I2"}),
    "reserve after commit": (Defects(store=DeferringStore), (), {"I2"}),
    "trust 'not found'": (Defects(), ((limits, "ABANDON_INTENT_S", 0),), {"I5"}),
    "give up by the wall's clock alone": (Defects(), ((reconciliation, "age", _by_the_wall),), {"I5"}),
    "no look at the switch before sending": (Defects(store=OldSwitchStore), (), {"I4"}),
    "record fills twice": (Defects(store=TwiceRecordingStore), (), {"I3", "I4"}),
    "do not release the shares": (Defects(), ((execution, "release_shares", _nothing),), {"exits"}),
    "settle no doubt": (Defects(), ((reconciliation, "settle", _settle_nothing),), {"I2"}),
    "ask for new fills only": (Defects(), ((reconciliation, "LOOK_BACK", reconciliation.OVERLAP),), {"I3", "I4"}),
    "put no protection back": (Defects(), ((protecting, "protect", lambda *_a, **_m: Protected()),), {"protection"}),
    "gate without EMERGENCY_LATCHED and TRADING_OFF": (Defects(), without("EMERGENCY_LATCHED", "TRADING_OFF"), {"I4"}),
    **{
        f"gate without {check}": (Defects(), without(check), names)
        for check, names in {
            "NOT_RECONCILED": {"I4"}, "QUOTE_STALE": {"I4"}, "COOLDOWN": {"I5"},
            "MAX_TRADES_PER_RUN": {"I5"}, "MAX_DAILY_TRADES": {"I5"}, "MAX_POSITION_PER_TICKER": {"I5"},
            "MAX_SHARES_PER_ORDER": {"I5"}, "MAX_POSITION_PCT": {"I5"}, "DAILY_NOTIONAL_CAP": {"I5"},
            "TRADING_CAPITAL": {"I5"}, "CASH_RESERVE": {"I5"}, "EXCLUDED": {"I5"}, "DAY_LOSS": {"I5"},
            "MARKET_CLOSED": {"I4"}, "LIVE_NOT_ALLOWED": {"I4"}, "TARGET_DIVERSIFICATION": {"I5"},
        }.items()
    },
}  # fmt: skip


def planted(patches: tuple[Patch, ...], patch: Callable[[object, str, object], None]) -> None:
    """Change what is to be changed, by the caller's means, which undo it."""
    for where, name, value in patches:
        patch(where, name, value)


__all__ = ["PLANTED", "AbstractContextManager", "planted"]
