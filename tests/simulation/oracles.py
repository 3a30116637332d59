"""I1 to I7, reckoned from what the venue took, what the store holds and what processes were told. No product code.

Each check adds a violation with the name of its invariant; the runner stops at the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from qbot import limits
from qbot.session import Switch
from qbot.types import OrderSpec, Source, TradingConfig
from tests.simulation.broker import Posted, Wire
from tests.simulation.kernel import SECOND, Kernel, Run, micros, moment
from tests.simulation.market import Feed
from tests.simulation.memory import DECISIONS, EQUITY, FILLS, INTENTS, ORDERS, SWITCH
from tests.simulation.store import Changes, SimStore
from tests.simulation.venue import Order, Refused, Venue

Row = Mapping[str, Any]
BY_HAND = (Source.MANUAL, Source.EMERGENCY)
UNSETTLED = ("committed", "in_doubt", "sent")
GIVEN_UP = ("rejected", "denied", "abandoned")
TELL_S = 5.0
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    what: str
    at: datetime

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at:%Y-%m-%d %H:%M:%S.%f}: {self.what}"


@dataclass(slots=True)
class Lot:
    """Shares of one purchase that are still held."""

    entry: str
    qty: int
    stop_c: int


@dataclass(slots=True)
class Oracles:
    """Who watches. `revisions`: the settings there were. `stops`: when the switch changed, as it was committed."""

    kernel: Kernel
    venue: Venue
    wire: Wire
    store: SimStore
    feed: Feed
    found: list[Violation] = field(default_factory=list)
    revisions: dict[int, TradingConfig] = field(default_factory=dict)
    switches: list[tuple[int, Switch]] = field(default_factory=list)
    snapshots: dict[str, int] = field(default_factory=dict)
    committed_at: dict[str, int] = field(default_factory=dict)
    fill_log: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    last_fill: dict[str, int] = field(default_factory=dict)
    ours: list[Order] = field(default_factory=list)
    accepted: int = 0
    fence_s: float = 0.0
    protection: bool = False

    def __post_init__(self) -> None:
        self.venue.on_accept, self.venue.on_fill = self.on_accept, self.on_fill
        self.wire.on_post, self.store.watch = self.on_post, self.on_commit
        self.wire.on_refused = self.on_refused

    def broken(self, invariant: str, what: str) -> None:
        """Note a violation."""
        self.kernel.note(f"### {invariant}: {what}")
        self.found.append(Violation(invariant, what, moment(self.kernel.now)))

    # --- what leaves, what arrives ---

    def on_post(self, posted: Posted, spec: OrderSpec) -> None:
        """A POST leaves a process."""
        count = len(self.wire.posted[posted.client_order_id])
        if count > 1:
            self.broken("I1", f"{posted.client_order_id} was sent {count} times")
        row = self.store.tables[INTENTS].get(posted.client_order_id)
        if row is None:
            self.broken("I2", f"{posted.client_order_id} was sent without a committed intent")
        elif row["kind"] == "entry":
            self._may_enter(row, posted.at)

    def _may_enter(self, row: Row, at: int) -> None:
        """I4: an entry leaves only while that is allowed."""
        name, switch = row["client_order_id"], self._switch_at(at - int(self.fence_s * SECOND))
        if row["source"] in BY_HAND:
            if switch.latched and self._switch_at(at).latched:
                self.broken("I4", f"{name} left while the emergency stop was latched")
            return
        now = self._switch_at(at)
        if (not switch.on or switch.epoch != row["switch_epoch"]) and (not now.on or now.epoch != row["switch_epoch"]):
            self.broken("I4", f"{name} left though trading was stopped before: {now.reason}")

    def _switch_at(self, at: int) -> Switch:
        for since, switch in reversed(self.switches):
            if since <= at:
                return switch
        return Switch()

    def on_refused(self, spec: OrderSpec, refused: Refused) -> None:
        """The venue refuses an order: an exit must not meet QBot's own protection, which is there to be cancelled."""
        row = self.store.tables[INTENTS].get(spec.client_order_id)
        if row is None or row["kind"] != "exit" or "insufficient qty" not in str(refused):
            return
        looked = self.wire.posted[spec.client_order_id][-1].looked  # what came later was not there to be cancelled
        for order in self.venue.open.values():
            if order.symbol != spec.symbol or order.side != "sell" or not order.live or order.created >= looked:
                continue
            root = order.parent or order
            if root.client_order_id.startswith("qbot-") and (root.side == "buy" or root.order_class == "oco"):
                self.broken("exits", f"{spec.client_order_id} was refused for shares that QBot's own protection holds")
                return

    def on_accept(self, order: Order) -> None:
        """The venue takes an order."""
        if not order.client_order_id.startswith("qbot-"):
            return
        self.accepted += 1
        self.ours.append(order)
        row = self.store.tables[INTENTS].get(order.client_order_id)
        if row is None:
            self.broken("I1", f"{order.client_order_id} was accepted, no intent of that name is committed")
            return
        if row["status"] in GIVEN_UP:
            self.broken("I5", f"{order.client_order_id} was accepted after its caps were freed: {row['status']}")
        if (row["symbol"], row["side"], row["qty"]) != (order.symbol, order.side, order.qty):
            self.broken("I1", f"{order.client_order_id} is not the order that was committed")
        self._explained(row)
        if row["kind"] == "entry":
            self._caps_at_the_venue(row, order)

    def _explained(self, row: Row) -> None:
        """I6: from the order to the forecast and the settings."""
        decision = self.store.tables[DECISIONS].get(row["decision_id"])
        name = row["client_order_id"]
        if decision is None or not decision["allowed"]:
            self.broken("I6", f"{name} has no decision that allowed it")
        elif decision["settings_revision"] not in self.revisions:
            self.broken("I6", f"{name} names no revision of the settings")
        elif (
            row["source"] not in BY_HAND
            and row["kind"] != "protection"
            and decision["forecast_id"] not in self.feed.issued
        ):
            self.broken("I6", f"{name} names no forecast")

    def _caps_at_the_venue(self, row: Row, order: Order) -> None:
        """I5 of what the venue really has. An exit is never refused for a cap: one decided on after this entry, which
        arrives before it, does not count against it.
        """
        config = self._config(row)
        before = self.committed_at.get(row["client_order_id"], self.kernel.now)
        mine = [(o, self.store.tables[INTENTS].get(o.client_order_id)) for o in self.ours]
        today = [
            (o, r) for o, r in mine if r is not None and r["market_day"] == row["market_day"] and (o.open or o.filled)
        ]
        today = [
            (o, r)
            for o, r in today
            if r["kind"] == "entry" or (r["kind"] == "exit" and self.committed_at.get(o.client_order_id, 0) <= before)
        ]
        entries = [o for o, r in today if r["kind"] == "entry" and o.symbol == order.symbol]
        self._cap("max_daily_trades", len(today), config.max_daily_trades, row)
        self._cap("max_position_per_ticker", len(entries), config.max_position_per_ticker, row)

    def _config(self, row: Row) -> TradingConfig:
        decision = self.store.tables[DECISIONS].get(row["decision_id"])
        return self.revisions[decision["settings_revision"]] if decision else next(iter(self.revisions.values()))

    def _cap(self, name: str, used: Decimal | int, most: Decimal | int, row: Row) -> None:
        if used > most:
            self.broken("I5", f"{name}: {used} is over {most} with {row['client_order_id']}")

    def on_fill(self, order: Order, qty: int, price_c: int) -> None:
        """The venue trades."""
        self.fill_log.setdefault(order.id, []).append((self.kernel.now, qty, price_c))
        self.last_fill[order.symbol] = self.kernel.now
        if self.venue.qty(order.symbol) < 0:
            self.broken("short", f"{self.venue.qty(order.symbol)} shares of {order.symbol}")

    # --- what is committed ---

    def on_commit(self, changes: Changes, run: Run | None) -> None:
        """A transaction is about to be committed."""
        if SWITCH in changes:
            self.switches.append((self.kernel.now, changes[SWITCH][True]))
        if EQUITY in changes and run is not None:
            run.notes["compared_at"] = self.kernel.now
        if INTENTS not in changes:
            return
        known = self.store.tables[INTENTS]
        new = [row for key, row in changes[INTENTS].items() if key not in known]
        counted = [row for row in known.values() if row["market_day"] == new[0]["market_day"]] if new else []
        unsettled = [known[key] for key in self.store.unsettled] if new else []
        for place, row in enumerate(new):
            self.committed_at[row["client_order_id"]] = self.kernel.now
            if row["kind"] == "entry" and run is not None:
                self._reservation(row, [*counted, *new[:place]], [*unsettled, *new[:place]], place + 1, run)

    def _reservation(self, row: Row, today: list[Row], unsettled: list[Row], place: int, run: Run) -> None:
        """I4 and I5 of an entry at the moment its caps are reserved, on what its process had been told."""
        config, notes, symbol = self._revision_of(run), run.notes, row["symbol"]
        by_hand = row["source"] in BY_HAND
        seen = self._switch_at(notes["transaction_began"])
        if seen.latched or (not by_hand and not seen.on):
            self.broken("I4", f"{row['client_order_id']} is committed though trading is off: {seen.reason}")
        if not by_hand:
            self._cap("max_trades_per_run", place, config.max_trades_per_run, row)
            self._cap("max_position_per_trade", row["qty"], config.max_position_per_trade, row)
        self._cap("max_position_size", row["qty"], config.max_position_size, row)
        if symbol in config.excluded_tickers:
            self.broken("I5", f"{symbol} is excluded")
        counting = [other for other in today if self._counts(other)]
        entries = [other for other in counting if other["kind"] == "entry"]
        self._cap("max_daily_trades", len(counting) + 1, config.max_daily_trades, row)
        mine = [other for other in entries if other["symbol"] == symbol]
        self._cap("max_position_per_ticker", len(mine) + 1, config.max_position_per_ticker, row)
        for other in mine:
            if abs(row["created_at"] - other["created_at"]) < timedelta(minutes=config.cooldown_minutes):
                self.broken(
                    "I5", f"cooldown: {row['client_order_id']} came {row['created_at'] - other['created_at']} later"
                )
        self._money(row, counting, unsettled, config, run)
        self._fresh(row, run)
        account = notes["account"]
        if account.last_equity_usd - account.equity_usd >= limits.MAX_DAY_LOSS_PCT * account.last_equity_usd:
            self.broken("I5", f"{row['client_order_id']} enters past the day's loss limit")
        self._compared(row, run)
        if notes.get("live_problem"):
            self.broken("I4", f"{row['client_order_id']} enters with the keys of another account")
        opened, closed = self.session
        if not opened <= self.kernel.now + run.host.skew < closed + SECOND:
            self.broken("I4", f"{row['client_order_id']} enters while the exchange is closed")
        if not by_hand:
            self._spread(row, unsettled, config, run)

    def _spread(self, row: Row, unsettled: list[Row], config: TradingConfig, run: Run) -> None:
        """No more symbols than wanted."""
        positions: Any = run.notes["positions"]
        held = {position.symbol for position in positions}
        coming = {other["symbol"] for other in unsettled if other["kind"] == "entry" and self._counts(other)}
        if row["symbol"] not in held:
            self._cap(
                "target_diversification", len(held | coming | {row["symbol"]}), config.target_diversification, row
            )

    def _revision_of(self, run: Run) -> TradingConfig:
        revision = run.notes["revision"]
        assert isinstance(revision, int)
        return self.revisions[revision]

    def _counts(self, row: Row) -> bool:
        """Whether an intent came to something, or may yet: by the venue where that has an order. Protection is free."""
        if row["kind"] == "protection":
            return False
        order = self.venue.by_client_id.get(row["client_order_id"])
        if order is not None:
            return order.open or order.filled > 0
        return row["status"] in UNSETTLED

    def _money(self, row: Row, today: list[Row], unsettled: list[Row], config: TradingConfig, run: Run) -> None:
        """Cash, capital, the share of one position, the day's volume: at least what is certain counts."""
        at = run.notes["positions_at"]
        assert isinstance(at, int)
        own = row["reserved_usd"]
        coming: dict[str, Decimal] = {}
        for other in unsettled:
            if other["kind"] == "entry":
                coming[other["symbol"]] = coming.get(other["symbol"], ZERO) + self._unfilled(other, at)
        positions: Any = run.notes["positions"]
        values = {held.symbol: abs(held.market_value_usd) for held in positions}
        account: Any = run.notes["account"]
        total = sum(coming.values(), ZERO) + own
        self._cap("cash_reserve", total, min(account.cash_usd, account.cash_usd) - config.cash_reserve_usd, row)
        self._cap("trading_capital", sum(values.values(), ZERO) + total, config.trading_capital_usd, row)
        symbol = row["symbol"]
        used = values.get(symbol, ZERO) + coming.get(symbol, ZERO) + own
        self._cap("max_position_pct", used, account.equity_usd * config.max_position_pct, row)
        volume = sum((self._volume(other, at) for other in today), ZERO) + self._past_intents(row["market_day"], at)
        self._cap("daily_notional_cap", volume + own, config.daily_notional_cap_usd, row)

    def _unfilled(self, row: Row, at: int) -> Decimal:
        """What of a reservation the positions of a moment did not hold yet."""
        order = self.venue.by_client_id.get(row["client_order_id"])
        if order is None:
            return Decimal(row["reserved_usd"])
        if not order.open and self._last_change(order) <= at:
            return ZERO
        filled = sum(qty for when, qty, _ in self.fill_log.get(order.id, ()) if when <= at)
        left = (order.qty if order.open else order.filled) - filled
        return Decimal(row["reserved_usd"] * left / order.qty)

    def _last_change(self, order: Order) -> int:
        return order.updated

    def _volume(self, row: Row, at: int) -> Decimal:
        """What an intent of the day has moved for certain."""
        order = self.venue.by_client_id.get(row["client_order_id"])
        filled = Decimal(order.cost_c) / 100 if order is not None else ZERO
        if order is not None and not order.open:
            return min(filled, row["reserved_usd"]) if row["status"] in UNSETTLED else filled
        return Decimal(row["reserved_usd"])

    def _past_intents(self, day: str, at: int) -> Decimal:
        """Fills of the day by legs, by hand at the venue, by what rested overnight: those told of before a snapshot."""
        total, told = 0, at - SECOND - int(self.wire.fills_hidden_s * SECOND)
        for order_id in self.day_orders(day):
            order = self.venue.orders[order_id]
            row = self.store.tables[INTENTS].get(order.client_order_id)
            if row is not None and row["market_day"] == day:
                continue
            total += sum(qty * price for when, qty, price in self.fill_log[order_id] if self.begin <= when <= told)
        return Decimal(total) / 100

    begin: int = 0  # of the day
    session: tuple[int, int] = (0, 0)

    def day_orders(self, _day: str) -> list[str]:
        """Orders that filled today."""
        return [order_id for order_id, log in self.fill_log.items() if log[-1][0] >= self.begin]

    def _fresh(self, row: Row, run: Run) -> None:
        """I4: no entry on a price that is old or none."""
        quotes: Any = run.notes.get("quotes", {})
        quote = quotes.get(row["symbol"])
        if quote is None or not quote.price_usd.is_finite() or not row["reserved_usd"].is_finite():
            self.broken("I4", f"{row['client_order_id']} enters without a price")
            return
        age_s = (row["created_at"] - quote.at).total_seconds()
        if not -limits.CLOCK_SKEW_S <= age_s <= limits.QUOTE_MAX_AGE_S:
            self.broken("I4", f"{row['client_order_id']} enters on a price {age_s:.0f} s old")

    def _compared(self, row: Row, run: Run) -> None:
        """I4: no entry while ledger and venue differ, unless they came to since the process began."""
        began = run.notes["began"]
        assert isinstance(began, int)
        for symbol in self.venue.price_c:
            here, there = self.store.held.get(symbol, ZERO), self.venue.qty(symbol)
            if here != there and self.last_fill.get(symbol, 0) < began:
                self.broken(
                    "I4", f"{row['client_order_id']} enters while {symbol} is {here} here, {there} at the venue"
                )

    # --- when all is quiet ---

    def quiet(self) -> None:
        """I2 and I3, once faults have ended and a reconcile has passed."""
        tables, venue = self.store.tables, self.venue
        for symbol in venue.price_c:
            here, there = self.store.held.get(symbol, ZERO), venue.qty(symbol)
            if here != there:
                self.broken("I3", f"{symbol}: ledger {here}, venue {there}")
        for order in [*venue.open.values(), *self.changed_today()]:
            row = tables[ORDERS].get(order.id)
            if row is None:
                self.broken("I3", f"order {order.id} of {order.symbol} is not in the ledger")
            elif (row["status"], row["filled_qty"]) != (order.status, order.filled):
                told = f"{row['status']} {row['filled_qty']}"
                self.broken("I3", f"order {order.id}: ledger {told}, venue {order.status} {order.filled}")
        if len(tables[FILLS]) != len(venue.fills):
            self.broken("I3", f"{len(tables[FILLS])} fills in the ledger, {len(venue.fills)} at the venue")
        self._nothing_lost(tables)
        if self.protection:
            self._protected()

    def changed_today(self) -> list[Order]:
        """Orders of ours that were made today."""
        return [order for order in self.ours if order.created >= self.begin]

    def _nothing_lost(self, tables: Mapping[str, Mapping[Any, Row]]) -> None:
        for key in self.committed_at:
            row, order = tables[INTENTS].get(key), self.venue.by_client_id.get(key)
            if row is None:
                self.broken("I2", f"the intent {key} is gone")
            elif order is not None:
                status = "sent" if order.open else "closed"
                if row["status"] != status or row["broker_order_id"] != order.id:
                    self.broken("I2", f"{key} is {row['status']} here, its order is {order.status}")
            elif row["status"] not in GIVEN_UP:
                self.broken("I2", f"{key} is still {row['status']}, and the venue has no such order")
            elif not row["error"]:
                self.broken("I2", f"{key} ended as {row['status']} without a reason")

    def _protected(self) -> None:
        """Whatever a cycle bought is covered by resting sells, unless the price is under its stop-loss by now.

        While an entry with its own legs rests, nothing is put back for its symbol: see docs/simulation.md.
        """
        waiting = {order.symbol for order in self.venue.open.values() if order.client_order_id.startswith("qbot-c")}
        for symbol, held in self.venue.holdings.items():
            if symbol in waiting:
                continue
            owed = [lot for lot in self._lots(symbol) if lot.stop_c and lot.stop_c < self.venue.price_c[symbol]]
            wanted = min(held.qty, sum(lot.qty for lot in owed))
            covered = self.venue.held_for_orders(symbol)
            if covered < wanted:
                self.broken(
                    "protection", f"{wanted} of {held.qty} shares of {symbol} need protection, {covered} have it"
                )

    def _lots(self, symbol: str) -> list[Lot]:
        """What is left of each purchase: a protective sale takes from its own, any other from a human's first."""
        lots: list[Lot] = []
        for fill in self.venue.fills:
            if fill.symbol != symbol:
                continue
            order, left = self.venue.orders[fill.broker_order_id], int(fill.qty)
            if order.side == "buy":
                lots.append(Lot(order.client_order_id, left, self._stop_c(order)))
                continue
            own = self._protects(order)
            for lot in sorted(lots, key=lambda lot: (lot.entry != own if own else False, lot.stop_c > 0)):
                part = min(left, lot.qty)
                lot.qty -= part
                left -= part
        return lots

    def _stop_c(self, order: Order) -> int:
        """The stop-loss an entry was sent with; 0 of a human's."""
        if not order.client_order_id.startswith("qbot-c"):
            return 0
        return next((leg.stop_c for leg in order.legs if leg.stop_c is not None), 0)

    def _protects(self, order: Order) -> str | None:
        """The entry whose protection a sale is."""
        root = order.parent or order
        if root.side == "buy":
            return root.client_order_id
        decision = self.store.tables[INTENTS].get(root.client_order_id)
        spec = None if decision is None else decision["spec"].get("protects")
        return str(spec) if spec else None

    def told_in_time(self, what: str, noticed: int) -> None:
        """I7: a human is told of `what` now, and it was noticed then."""
        if self.kernel.now - noticed > TELL_S * SECOND:
            self.broken("I7", f"{what} was told {(self.kernel.now - noticed) / SECOND:.1f} s after it was noticed")


__all__ = ["Oracles", "Violation", "micros"]
