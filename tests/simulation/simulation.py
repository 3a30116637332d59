"""Trading days from a seed: QBot's own code against the simulated exchange, with faults, watched by the oracles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

from qbot import limits
from qbot.clock import NEW_YORK
from qbot.protecting import Protected
from qbot.reconciliation import Books
from qbot.session import Switch
from qbot.types import (
    BrokerOrder,
    Fill,
    IntentKind,
    OrderType,
    Proposal,
    Side,
    SizingMethod,
    Source,
    Strategy,
    TimeInForce,
    TradingConfig,
)
from qbot import committing, risk
from tests.simulation import crew, faults
from tests.simulation.broker import SimBroker, Wire
from tests.simulation.faults import Fate
from tests.simulation.kernel import SECOND, Host, Kernel, Killed, Run, moment
from tests.simulation.market import Feed, choose_days
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.store import SimStore
from tests.simulation.venue import Order, Refused, Venue, usd

CYCLES, CYCLE_S = 39, 600
ORDERS_A_DAY, FAULTS_A_DAY = 5, 3
MINUTE = 60 * SECOND
HALF_DAY_S = 4 * 3600
LOOSE: dict[str, Any] = {
    "max_daily_trades": 60, "daily_notional_cap_usd": Decimal(200_000), "max_position_per_ticker": 20,
    "cash_reserve_usd": Decimal(2_000), "trading_capital_usd": Decimal(150_000), "cooldown_minutes": 0.0,
}  # fmt: skip
QUIET_MINUTES = (6, 10, 14)  # after the close: the last one finds nothing left to do
PRICES_C = {"AAPL": 23_000, "PEP": 14_000, "SPY": 60_000}
CASH_C = (4_000_000, 10_000_000)


@dataclass(slots=True)
class Day:
    """What a day came to."""

    date: str
    cycles: int = 0
    orders: int = 0
    faults: int = 0


@dataclass(slots=True)
class Defects:
    """Parts to be exchanged for broken ones."""

    broker: type[SimBroker] = SimBroker
    store: type[SimStore] = SimStore


class Simulation:
    """A few days in a row. `violations` is empty, or nothing else counts."""

    def __init__(self, seed: int, days: int, *, traced: bool = False, defects: Defects | None = None) -> None:
        parts = defects or Defects()
        self.seed = seed
        rng = Random(f"world {seed}")
        self.sessions = choose_days(rng, days)
        self.kernel = Kernel(seed, self.sessions[0][0] - 3600 * SECOND)
        self.kernel.trace = [] if traced else None
        cash_c = rng.choice(CASH_C)
        self.venue = Venue(self.kernel, PRICES_C, cash_c, partial_one_in=rng.choice((3, 6, 10)))
        self.venue.hides_held = rng.random() < 0.5
        self.wire = Wire(self.kernel, self.venue)
        self.store = parts.store(self.kernel)
        self.broker_class = parts.broker
        self.feed = Feed(self.kernel, self.venue)
        self.oracles = Oracles(self.kernel, self.venue, self.wire, self.store, self.feed)
        self.hosts = [Host("host 1"), Host("host 2", int(rng.uniform(-0.4, 0.4) * SECOND))]
        self.start_usd = usd(cash_c)
        self.config, self.revision = _config(rng, self.start_usd), 1
        self.oracles.revisions[1] = self.config
        self.oracles.fence_s, self.oracles.protection = limits.FENCE_MAX_S, True
        self.days: list[Day] = []
        self.strikes: Counter[str] = Counter()
        self.stops_during: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.drifts = self.restored = 0
        self.cycles_traded = 0
        self.running: dict[Run, str] = {}
        self.fates: list[Fate] = []
        self.stream_faults: dict[str, int] = {}
        self.stream_queue: list[tuple[BrokerOrder, Fill | None]] = []
        self.stream_run: Run | None = None
        self.armed: dict[str, int] = {}
        self.twice = self.race = 0
        self.two_beats_until = self.board_down_until = self.swapped_until = 0
        self.emergency_waits = False
        self.names = 0
        self.quiet_now = False
        self.venue.on_event = self._event
        self.wire.on_trouble = self._trouble
        self.kernel.on_freeze = self._frozen
        self.stop_at_beat = False

    @property
    def violations(self) -> list[Violation]:
        return self.oracles.found

    # --- running ---

    def play(self) -> list[Day]:
        """All days, up to the first violation."""
        for opened, closed in self.sessions:
            self._day(opened, closed)
            if self.violations:
                break
        return self.days

    def _day(self, opened: int, closed: int) -> None:
        kernel, rng = self.kernel, self.kernel.rng
        day = Day(moment(opened).astimezone(NEW_YORK).date().isoformat())
        self.days.append(day)
        kernel.run(opened - 10 * MINUTE)
        self._boot(opened, closed)
        self._plan_faults(opened)
        until = opened + CYCLES * CYCLE_S * SECOND
        accepted, struck = self.oracles.accepted, self._struck()
        for number in range(CYCLES):
            kernel.run(opened + number * CYCLE_S * SECOND)
            if self.violations:
                return
            if number % 2 == 0:
                self.feed.predict()
            self._beat()
            day.cycles += 1
            done = self.oracles.accepted - accepted
            share = (kernel.now - opened) / (closed - opened)
            if 0.25 < share < 0.98 and done < ORDERS_A_DAY * share + 1:
                self._do_more(late=share > 0.6)
            if number in (26, 30, 34) and self._struck() - struck < FAULTS_A_DAY:
                for name in ("order by hand at the broker", "clock jump", "halted symbol"):
                    self.arm(name)
            if rng.random() < 0.12:
                self.task("reconcile", crew.reconcile(self), delay_s=rng.random() * 500)
        kernel.run(until)
        self._end_faults()
        self._quieten(until)
        day.orders = self.oracles.accepted - accepted
        day.faults = self._struck() - struck

    def _do_more(self, *, late: bool) -> None:
        """A day on which little happens gets more: humans trade, start again what they stopped, and loosen the caps."""
        if not self.switch.on:
            self._restart()
        if late:
            self._set(replace(self.config, **LOOSE))
        for number in range(3 if late else 1):
            self.kernel.after(60 + 200 * number, partial(self.ask_by_hand, small=True))

    @property
    def switch(self) -> Switch:
        """As it is committed."""
        return self.oracles.switches[-1][1] if self.oracles.switches else Switch()

    def _boot(self, opened: int, closed: int) -> None:
        """The morning: everything starts anew, and the market opens with a gap."""
        kernel, rng = self.kernel, self.kernel.rng
        self.oracles.begin, self.oracles.session = opened - 12 * 3600 * SECOND, (opened, closed)
        self.strikes["restart overnight"] += 1
        if closed - opened < HALF_DAY_S * SECOND:
            self.strikes["half day"] += 1
        if moment(opened).astimezone(NEW_YORK).utcoffset() != getattr(self, "_offset", None):
            self.strikes["DST"] += hasattr(self, "_offset")
            self._offset = moment(opened).astimezone(NEW_YORK).utcoffset()
        if rng.random() < 0.3:
            self._new_config()
        self.feed.walk(gap=0.03 if rng.random() < 0.3 else 0.006)
        self.task("reconcile", crew.reconcile(self))
        self.task("start", crew.start(self), delay_s=60)
        kernel.at(opened, self.venue.open_session)
        kernel.at(closed, self.venue.close_session)
        for number in range(1, 78):
            kernel.at(opened + number * 5 * MINUTE - 7 * SECOND, self.feed.walk)

    def _new_config(self) -> None:
        self._set(_config(self.kernel.rng, self.start_usd))

    def _set(self, config: TradingConfig) -> None:
        """A human changes the settings."""
        if config != self.config:
            self.revision += 1
            self.config = config
            self.oracles.revisions[self.revision] = config

    def _plan_faults(self, opened: int) -> None:
        rng = self.kernel.rng
        names = list(faults.HERE)
        for _ in range(3 + int(rng.random() * 5)):
            at = opened + int(rng.random() * 380 * 60) * SECOND
            self.kernel.at(at, partial(self.arm, rng.choice(names)))
        if rng.random() < 0.2:
            self.kernel.at(opened + int(rng.random() * 360 * 60) * SECOND, self._press_soon)
        if rng.random() < 0.3:
            self.kernel.at(opened - 4 * MINUTE, self.ask_by_hand)
        for _ in range(int(rng.random() * 3)):
            self.kernel.at(opened + int(rng.random() * 370 * 60) * SECOND, self.ask_by_hand)

    def arm(self, name: str) -> None:
        """Bring a fault about; now and then the kill switch is pressed right under it."""
        if self.quiet_now:
            return
        self.kernel.note(f"fault: {name}")
        self.armed[name] = self.kernel.now
        faults.HERE[name](self)
        if self.kernel.random() < 0.06:
            self.kernel.after(self.kernel.random() * 400, self.press_a_switch)

    def _press_soon(self) -> None:
        if self.kernel.random() < 0.5:
            self.press_a_switch()
        else:
            self.stop_at_beat = True

    def _frozen(self, run: Run) -> None:
        """A process stands still: its transaction is lost after a while, and a human may stop trading meanwhile."""
        run.notes["frozen"] = True
        self.store.frozen(run)
        if self.kernel.random() < 0.4 and run.name in ("cycle", "manual"):
            self.kernel.after(2 * self.kernel.random(), self.press_a_switch)

    def _trouble(self, fault: str, kind: str) -> None:
        """Where an order is in doubt, the reconcile of each minute matters."""
        if kind == "POST order" and not self.quiet_now:
            for minute in range(3):
                self.task("reconcile", crew.reconcile(self), delay_s=60 * (minute + self.kernel.random()))

    def _struck(self) -> int:
        return (
            sum(self.strikes.values()) + sum(self.wire.struck.values()) + sum(self.feed.struck.values())
            + self.store.outage_struck + self.store.mid_commit_struck
        )  # fmt: skip

    def struck(self) -> Counter[str]:
        """How often each fault took effect."""
        found = self.strikes + self.wire.struck + Counter(self.feed.struck)
        found["Postgres gone for minutes"] += self.store.outage_struck
        found["Postgres killed mid-commit"] += self.store.mid_commit_struck
        return found

    def _beat(self) -> None:
        """A tick of the trading cycle, delivered as often as it is."""
        rng = self.kernel.rng
        host = self.hosts[int(rng.random() * 2)]
        self.task("cycle", crew.cycle(self), host=host)
        if self.stop_at_beat:
            self.stop_at_beat = False
            kernel = self.kernel
            kernel.after(0.7 * rng.random(), self.press_a_switch)
        if self.twice:
            self.twice -= 1
            self.strikes["same task twice at once"] += 1
            self.task("cycle", crew.cycle(self), host=self._other(host), delay_s=rng.random() * 0.2)
        if self.two_beats_until > self.kernel.now:
            self.strikes["two beats"] += 1
            self.task("cycle", crew.cycle(self), host=self._other(host), delay_s=1.5 * rng.random())

    def _other(self, host: Host) -> Host:
        return self.hosts[1] if host is self.hosts[0] else self.hosts[0]

    def task(self, name: str, work: crew.Work, *, host: Host | None = None, delay_s: float = 0.0) -> Run:
        """A process takes up a task."""
        kernel = self.kernel
        run = kernel.start(name, host or self.hosts[int(kernel.random() * 2)], work, self._ended, delay_s)
        run.notes["began"] = kernel.now
        if self.fates and not self.quiet_now:
            self._meet(run)
        self.running[run] = name
        return run

    def _meet(self, run: Run) -> None:
        for fate in self.fates:
            if run.name in fate.tasks:
                self.fates.remove(fate)
                run.fate, run.aim = fate.kind, fate.aim
                most = 1 if fate.aim else max(2, self.kernel.longest[run.name])
                run.fuse = 1 + int(self.kernel.random() * most)
                run.notes["fate"] = fate
                return

    def _ended(self, run: Run, error: BaseException | None) -> None:
        """A task is over."""
        self.running.pop(run, None)
        self.kernel.longest[run.name] = max(self.kernel.longest[run.name], min(run.passed, 150))
        fate = run.notes.get("fate")
        if isinstance(fate, Fate):
            if run.fate:
                self.fates.append(fate)
            else:
                self.strikes[fate.fault] += 1
        if isinstance(error, Killed):
            self._after_death(run)
        elif error is not None:
            self.kernel.note(f"{run.name} ended: {type(error).__name__}: {error}")
            self.errors[type(error).__name__] += 1
            at, what = run.notes.get("noticed") or (0, None)
            if what is not None and what in (error, error.__cause__) and "frozen" not in run.notes:
                self.oracles.told_in_time(f"{run.name}: {error}", at)
            if run.name in ("stop", "finish", "start") and not self.quiet_now:
                self.kernel.after(10, lambda: self.again(run))
        if run is self.stream_run:
            self.stream_run = None
            if error is not None:
                self.task("reconcile", crew.reconcile(self), delay_s=1)
            self._pump()

    def again(self, run: Run) -> None:
        """The next tick of what must not be left undone."""
        self.task(run.name, run.work, host=run.host)

    def _after_death(self, run: Run) -> None:
        """The task is delivered again to another worker, or it is not."""
        if run.name in ("stop", "finish", "start") or self.kernel.random() < 0.7:
            again = {"reconcile": crew.reconcile(self), "stream": crew.reconcile(self)}.get(run.name, run.work)
            name = "reconcile" if run.name == "stream" else run.name
            self.task(name, again, host=self._other(run.host), delay_s=1 + 120 * self.kernel.random())

    def _end_faults(self) -> None:
        """The evening: whatever was wrong is right again."""
        self.quiet_now = True
        self.fates.clear()
        self.wire.troubles.clear()
        self.stream_faults.clear()
        self.feed.faults.clear()
        self.feed.runaway_until = 0
        self.wire.fills_hidden_s = 0.0
        self.store.latency_us = 1_000
        self.stop_at_beat = False
        self.venue.halted.clear()
        self.store.down = False
        self.store.mid_commit = 0
        self.twice = self.race = 0
        self.two_beats_until = self.board_down_until = self.swapped_until = 0
        self.cancels_go_on()
        for run in self.running:
            run.fate = ""

    def _quieten(self, until: int) -> None:
        """Reconciles without faults; after the last one everything has to fit."""
        for minutes in QUIET_MINUTES:
            self.task("finish", crew.finish_stop(self))
            self.kernel.run(until + minutes * MINUTE - 30 * SECOND)
            self.task("reconcile", crew.reconcile(self))
            self.kernel.run(until + minutes * MINUTE)
        if not self.violations:
            self.oracles.quiet()
        self.quiet_now = False

    # --- what processes tell ---

    def protected(self, done: Protected) -> None:
        """What was done about lost protection."""
        self.restored += len(done.restored)

    def taken(self, run: Run, books: Books) -> None:
        """What a human is told of the books."""
        if books.drift:
            self.drifts += 1
            seen = run.notes.get("compared_at")
            if isinstance(seen, int) and "frozen" not in run.notes:
                self.oracles.told_in_time(f"{run.name}: drift", seen)
            self.kernel.note(f"drift: {dict(books.drift)}")

    def stop_recorded(self, run: Run) -> None:
        """A stop is in the store."""
        self.kernel.after(12, lambda: self.task("finish", crew.finish_stop(self)))
        self.kernel.after(40, self._finish_again)

    def _finish_again(self) -> None:
        if not self.switch.on and not self.quiet_now:
            self.task("finish", crew.finish_stop(self))
            self.kernel.after(60 if self.switch.stopping else 300, self._finish_again)

    def live_problem(self) -> str | None:
        """Why nothing may be entered though the keys work: they are those of the other account."""
        if self.swapped_until > self.kernel.now:
            self.strikes["paper and live keys swapped"] += 1
            return "these keys are of another account"
        return None

    # --- the stream ---

    def _event(self, name: str, order: Order, fill: Fill | None) -> None:
        """What the venue tells on its stream."""
        if self.race and name == "partial_fill":
            self._cancel_soon(order)
        told, now, rng = self.venue.told_alone(order), self.kernel.now, self.kernel.rng
        delay_s = 0.01 + 0.2 * rng.random()
        for kind, until in list(self.stream_faults.items()):
            if until < now:
                del self.stream_faults[kind]
                continue
            if kind == "stream gap":
                if rng.random() < 0.5:
                    continue
                self.strikes[kind] += 1
                return
            self.strikes[kind] += 1
            if kind == "stream silent":
                return
            if kind == "stream duplicate":
                self.kernel.after(delay_s + 3 * rng.random(), lambda: self._deliver(told, fill))
            else:
                delay_s += 20 * rng.random()
        self.kernel.after(delay_s, lambda: self._deliver(told, fill))

    def _deliver(self, order: BrokerOrder, fill: Fill | None) -> None:
        self.stream_queue.append((order, fill))
        self._pump()

    def _pump(self) -> None:
        if self.stream_queue and self.stream_run is None:
            self.stream_run = self.task("stream", crew.listen(self, self.stream_queue), host=self.hosts[0])

    def _cancel_soon(self, order: Order) -> None:
        """A human cancels what has filled in part: the rest may fill before."""
        self.race -= 1

        def cancel() -> None:
            if order.open:
                self.strikes["partial fill then cancel race"] += 1
                self.venue.cancel_delay_s = 8.0
                self._quietly(lambda: self.venue.cancel(order.id))
                self.venue.cancel_delay_s = 0.05

        self.kernel.after(9.9 * self.kernel.random(), cancel)

    # --- humans ---

    def press_a_switch(self) -> None:
        """STOP_ALL_TRADING, CLOSE_ALL_POSITIONS or `enabled: false`; and a new start some time after."""
        if self.quiet_now:
            return
        recent = self.kernel.now - 1200 * SECOND
        for name, at in self.armed.items():
            if at >= recent:
                self.stops_during[name] += 1
        kind = self.kernel.rng.choice(("STOP_ALL_TRADING", "CLOSE_ALL_POSITIONS", "enabled: false"))
        self.kernel.note(f"a human: {kind}")
        self.names += 1
        stops = kind != "enabled: false"
        self.task("stop", crew.stop(self, kind, latched=stops, sells=kind.startswith("CLOSE"), name=f"{self.names}"))
        self.restart_later()

    def restart_later(self) -> None:
        """A human starts trading again."""
        for minutes in (10 + 40 * self.kernel.random(), 75, 120):
            self.kernel.after(minutes * 60, self._restart)

    def _restart(self) -> None:
        if not self.quiet_now:
            self.task("finish", crew.finish_stop(self))
            self.task("start", crew.start(self), delay_s=20)

    def ask_by_hand(self, *, small: bool = False) -> None:
        """A human asks QBot for an order."""
        if self.quiet_now:
            return
        self.names += 1
        rng = self.kernel.rng
        symbol, dice = rng.choice(list(PRICES_C)), rng.random()

        def make(books: Books, quotes: dict[str, object]) -> Proposal | None:
            return _by_hand(books, quotes, symbol, dice, small)

        self.task("manual", crew.manual(self, f"{self.names}", make))

    def order_by_hand(self) -> None:
        """A human gives an order at the broker itself."""
        if self.quiet_now:
            return
        rng = self.kernel.rng
        symbol = rng.choice(list(PRICES_C))
        self.names += 1
        name, price_c = f"hand-{self.names}", self.venue.price_c[symbol]
        self.strikes["order by hand at the broker"] += 1
        if self.venue.qty(symbol) and rng.random() < 0.5:
            for order in [o for o in self.venue.open.values() if o.symbol == symbol and o.side == "sell"]:
                self._quietly(partial(self.venue.cancel, order.id))
            self.kernel.after(1, lambda: self._quietly(lambda: self.venue.by_hand(symbol, "sell", 1, name)))
        elif rng.random() < 0.5:
            self._quietly(lambda: self.venue.by_hand(symbol, "buy", 1 + int(rng.random() * 4), name))
        else:
            limit_c = int(price_c * 0.997)
            self._quietly(lambda: self.venue.by_hand(symbol, "buy", 1 + int(rng.random() * 4), name, limit_c))

    def replace_by_hand(self) -> None:
        """A human changes a resting order at the broker; it may be taken and then not be done."""
        resting = [o for o in self.venue.open.values() if o.type in ("limit", "stop") and o.live and o.status != "pending_cancel"]
        if not resting:
            self.kernel.after(1800, self._replace_later)
            return
        order = self.kernel.rng.choice(resting)
        self.names += 1
        price_c = order.limit_c if order.limit_c is not None else order.stop_c
        assert price_c is not None
        rejected = self.kernel.random() < 0.5
        self.strikes["replace, then rejected" if rejected else "replaced"] += 1
        self.venue.replace(order, f"hand-{self.names}", int(price_c * 1.001), rejected=rejected)

    def _replace_later(self) -> None:
        if not self.quiet_now and self.venue.open:
            self.replace_by_hand()

    def cancels_go_on(self) -> None:
        """Cancels that stuck are done."""
        self.venue.cancels_stick = False
        self.strikes["cancels stick"] += len(self.venue.stuck)
        self.venue.release_stuck()

    def _quietly(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Refused as refused:
            self.kernel.note(f"refused: {refused}")


def _by_hand(books: Books, quotes: dict[str, object], symbol: str, dice: float, small: bool) -> Proposal | None:
    held = books.positions.get(symbol) or next(iter(books.positions.values()), None)
    if held is not None and (dice < 0.5 or small):
        return replace(committing.exit_proposal(held, Source.MANUAL), qty=Decimal(1) if small else held.qty)
    quote = quotes.get(symbol)
    if not isinstance(quote, risk.Quote):
        return None
    kind = OrderType.MARKET if dice < 0.8 or not quote.price_usd.is_finite() else OrderType.LIMIT
    limit = (quote.price_usd * Decimal("0.998")).quantize(Decimal("0.01")) if kind is OrderType.LIMIT else None
    return Proposal(
        symbol=symbol, side=Side.BUY, qty=Decimal(1 if small else 1 + int(60 * (dice * 10 % 1) ** 4)), kind=IntentKind.ENTRY, source=Source.MANUAL,
        price_usd=risk.worst_price(quote, kind, limit, Side.BUY), order_type=kind,
        time_in_force=TimeInForce.GTC if dice > 0.9 else TimeInForce.DAY, limit_price_usd=limit,
    )  # fmt: skip


def _config(rng: Random, cash_usd: Decimal) -> TradingConfig:
    """Settings whose caps come into play."""
    return TradingConfig(
        buy_threshold_pct=0.001,
        sell_threshold_pct=0.002,
        strategy=rng.choice(tuple(Strategy)),
        max_position_per_trade=rng.choice((2, 5, 12)),
        max_position_size=rng.choice((4, 10, 100)),
        max_position_per_ticker=rng.choice((2, 4, 8)),
        max_trades_per_run=rng.choice((1, 2, 3)),
        max_daily_trades=rng.choice((8, 12, 40)),
        daily_notional_cap_usd=Decimal(rng.choice((12_000, 30_000, 120_000))),
        cooldown_minutes=rng.choice((0.0, 15.0, 30.0)),
        cash_reserve_usd=cash_usd * Decimal(rng.choice(("0.05", "0.6", "0.85"))),
        trading_capital_usd=Decimal(rng.choice((9_000, 30_000, 120_000))),
        max_position_pct=Decimal(rng.choice(("0.04", "0.08", "0.20"))),
        target_diversification=rng.choice((2, 3, 5)),
        stop_loss_pct=Decimal(rng.choice(("0.01", "0.02", "0.05"))),
        take_profit_pct=Decimal(rng.choice(("0.01", "0.02", "0.10"))),
        ml_confidence_threshold=rng.choice((0.55, 0.7)),
        aggressiveness=rng.choice((1, 3, 5)),
        risk_level=rng.choice((2, 3, 4)),
        position_sizing=rng.choice(tuple(SizingMethod)),
        excluded_tickers=frozenset({"PEP"}) if rng.random() < 0.2 else frozenset(),
    )


__all__ = ["Day", "Defects", "Simulation", "datetime", "limits", "QBotError"]
