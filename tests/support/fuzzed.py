"""One input key of a QBot that runs, with orders at the venue that nothing bad may touch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from qbot import configuration, control, emergency, inputs, manual
from qbot.contract import keys
from qbot.contract.key import Key, Reading
from qbot.control import Settings
from qbot.market.calendar import market_hours
from qbot.session import Switch
from qbot.store import state, tables
from qbot.store.engine import transaction
from qbot.types import Source, TradingConfig
from tests.support.bad_values import Bad, example
from tests.support.runtime import CONFIG, SESSION, World, limit_entry

SETTINGS_KEYS = frozenset(key.name for key in configuration.SOURCES)
STOPS_ENTRIES = SETTINGS_KEYS | {keys.EMERGENCY_ACTIONS.name}
DOCUMENTS = {
    keys.TRADING_SETTINGS.name: "settings", keys.RISK_SETTINGS.name: "risk", keys.AUTOTRADING_ENABLED.name: "session",
    keys.TRADING_CONFIG.name: "config", keys.BOT_STRATEGY.name: "strategy", keys.PORTFOLIO_SETTINGS.name: "portfolio",
}  # fmt: skip
ROOMY = replace(
    CONFIG,
    max_position_per_ticker=10**6,
    max_daily_trades=10**6,
    cooldown_minutes=0,
    daily_notional_cap_usd=Decimal(10**9),
)
LIMITS = {"ml_confidence_threshold": 0.5, "max_position_size": 10, "cash_reserve": 1000}


@dataclass(frozen=True)
class Holding:
    """What a bad value must leave as it is."""

    config: TradingConfig
    on: bool
    latched: bool
    epoch: int
    session_id: str | None
    asked_of_the_venue: tuple[int, int, int]


class Fuzzed:
    """`good` writes a good value of the key, `bad` a bad one; both let QBot look at it."""

    def __init__(self, world: World, key: Key[Any], on: bool) -> None:
        self.world, self.key, self.on = world, key, on
        self.settings: Settings
        self.due = False  # whether the last value was by chance an emergency that was still to be carried out
        self._writes = self._deletes = 0
        self.bad_since_good = 0
        control.sync_switch(world.rt)
        world.say(keys.TRADING_CONFIG, LIMITS)
        self.reset()
        self.document = self._document()
        self.good()

    def _document(self) -> Any:
        """What stands under the key while all is well."""
        wanted: dict[str, Any] = {
            keys.AUTOTRADING_ENABLED.name: SESSION | {"enabled": self.on},
            keys.AUTOTRADING_STATUS.name: "ACTIVE" if self.on else "STOPPED",
            keys.TRADING_CONFIG.name: example(keys.TRADING_CONFIG) | LIMITS | {"paper_mode": True},
            keys.MANUAL_ORDERS.name: [],
        }
        more: dict[str, Any] = {
            keys.TRADING_SETTINGS.name: {"enabled": self.on},
            keys.EMERGENCY_ACTIONS.name: {"confirmed": False},
            keys.BOT_STRATEGY.name: {"ml_confidence_threshold": 0.5},
        }
        found = wanted.get(self.key.name, example(self.key))
        return found | more[self.key.name] if self.key.name in more else found

    @property
    def dangerous(self) -> Any:
        """The document to be broken: had it one fault less, it would start, stop, order or close."""
        if self.key.name in (keys.AUTOTRADING_ENABLED.name, keys.TRADING_SETTINGS.name):
            return self.document | {"enabled": not self.on}
        if self.key.name in (keys.MANUAL_ORDERS.name, keys.EMERGENCY_ACTIONS.name):
            return example(self.key)
        return self.document

    # --- QBot ---

    def look(self) -> None:
        """What the tasks do first of all, and the listener at once."""
        rt = self.world.rt
        self.sync()
        emergency.handle(rt)
        now, stopping = rt.market(), lambda: emergency.pending(rt)
        manual.process(rt, self.settings, market_hours(now), now, stopping=stopping)
        inputs.handle(rt)
        control.bad_inputs(rt)

    def sync(self) -> None:
        """Settings and switch only: all that a good value of them needs."""
        self.settings = control.sync_settings(self.world.rt)
        control.sync_switch(self.world.rt)

    def switch(self) -> Switch:
        with transaction(self.world.engine) as connection:
            return state.load_switch(connection)

    def holding(self) -> Holding:
        now = self.switch()
        seen = [method for method, _ in self.world.place.faults.seen]
        counts = (seen.count("POST"), seen.count("DELETE"), seen.count("PATCH"))
        return Holding(self.settings.config, now.on, now.latched, now.epoch, now.session_id, counts)

    def alerts(self, problem: str) -> set[str]:
        """The severities of the alerts that tell of a problem."""
        found = sa.select(tables.alerts.c.severity).where(tables.alerts.c.message.contains(problem, autoescape=True))
        with self.world.engine.connect() as connection:
            return set(connection.execute(found).scalars())

    # --- writes ---

    def good(self) -> Holding:
        """A good value, and QBot as it should be with it."""
        self.say(self.key, self.document)
        self.sync()
        now = self.holding()
        if (now.on, now.latched, now.asked_of_the_venue[1]) != (self.on, False, self._deletes):
            self.reset()
            self.say(self.key, self.document)
            self.sync()
            now = self.holding()
        assert (now.on, now.latched, self.settings.problem) == (self.on, False, None)
        self.bad_since_good = 0
        return now

    def well(self, bad_in_a_row: int) -> Holding:
        """As `good`, but only after so many bad ones: until then they have changed nothing."""
        return self.good() if self.bad_since_good >= bad_in_a_row else self.holding()

    def bad(self, value: Bad) -> Reading[Any]:
        """A bad value, and what the contract says of it. A key alerts once an hour: the last one is over."""
        self.bad_since_good += 1
        with transaction(self.world.engine) as connection:
            connection.execute(tables.alerts.delete())
        value.put(self.world.redis, self.key)
        reading = self.world.rt.board.read(self.key)
        self.due = emergency.pending(self.world.rt) and reading.problem is None
        self.look()
        return reading

    def say(self, key: Key[Any], value: Any) -> None:
        self.world.say(key, value)

    # --- the state that values by chance good have changed ---

    def reset(self) -> None:
        """Released, on or off as wanted, a human's order resting, and while it trades an automatic one too."""
        self._writes += 1
        self.world.redis.delete(keys.EMERGENCY_ACTIONS.name, keys.MANUAL_ORDERS.name)
        self.sync()  # a latch is released once the board has shown it
        self.say(keys.RISK_SETTINGS, example(keys.RISK_SETTINGS) | {"emergency_stop_active": False})
        self.look()
        if self.on:
            self.say(keys.AUTOTRADING_STATUS, "ACTIVE")
            self.say(keys.AUTOTRADING_ENABLED, SESSION | {"timestamp": f"2025-09-26T13:15:30.{self._writes:06d}Z"})
        else:
            self.say(keys.AUTOTRADING_STATUS, "STOPPED")
            self.say(keys.AUTOTRADING_ENABLED, SESSION | {"enabled": False})
        self.look()
        for symbol, source in self._missing().items():
            proposal = limit_entry(self.world, symbol, source=source)
            cycle_id = f"{'c' if source is Source.ML else 'm'}{self._writes}"
            self.world.send(self.world.commit(proposal, cycle_id=cycle_id, config=ROOMY))
        assert not self._missing()
        self._deletes = self.holding().asked_of_the_venue[1]

    def _missing(self) -> dict[str, Source]:
        wanted = {"AAPL": Source.ML, "MSFT": Source.MANUAL} if self.on else {"MSFT": Source.MANUAL}
        resting = {order.symbol for order in self.world.rt.broker.open_orders()}
        return {symbol: source for symbol, source in wanted.items() if symbol not in resting}
