"""What humans do: press switches, start again, ask QBot for orders, and trade at the broker past it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from qbot import committing, risk
from qbot.reconciliation import Books
from qbot.types import IntentKind, OrderType, Proposal, Side, Source, TimeInForce
from tests.simulation import crew
from tests.simulation.kernel import SECOND
from tests.simulation.venue import Order, Refused

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


class Humans:
    """`names` makes each request another one; `race`: so many orders are cancelled once they have filled in part."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.names = self.race = 0

    def press_a_switch(self) -> None:
        """STOP_ALL_TRADING, CLOSE_ALL_POSITIONS or `enabled: false`; and a new start some time after."""
        if self.sim.quiet_now:
            return
        recent = self.sim.kernel.now - 1200 * SECOND
        for name, at in self.sim.armed.items():
            if at >= recent:
                self.sim.stops_during[name] += 1
        kind = self.sim.kernel.rng.choice(("STOP_ALL_TRADING", "CLOSE_ALL_POSITIONS", "enabled: false"))
        self.sim.kernel.note(f"a human: {kind}")
        self.names += 1
        stops = kind != "enabled: false"
        sells = kind.startswith("CLOSE")
        self.sim.task("stop", crew.stop(self.sim, kind, latched=stops, sells=sells, name=f"{self.names}"))
        self.restart_later()

    def restart_later(self) -> None:
        """A human starts trading again."""
        for minutes in (10 + 40 * self.sim.kernel.random(), 75, 120):
            self.sim.kernel.after(minutes * 60, self.restart)

    def restart(self) -> None:
        if not self.sim.quiet_now:
            self.sim.task("finish", crew.finish_stop(self.sim))
            self.sim.task("start", crew.start(self.sim), delay_s=20)

    def ask_by_hand(self, *, small: bool = False) -> None:
        """A human asks QBot for an order."""
        if self.sim.quiet_now:
            return
        self.names += 1
        rng = self.sim.kernel.rng
        symbol, dice = rng.choice(list(self.sim.venue.price_c)), rng.random()

        def make(books: Books, quotes: dict[str, object]) -> Proposal | None:
            return _by_hand(books, quotes, symbol, dice, small)

        self.sim.task("manual", crew.manual(self.sim, f"{self.names}", make))

    def order_by_hand(self) -> None:
        """A human gives an order at the broker itself."""
        if self.sim.quiet_now:
            return
        rng = self.sim.kernel.rng
        symbol = rng.choice(list(self.sim.venue.price_c))
        self.names += 1
        name, price_c = f"hand-{self.names}", self.sim.venue.price_c[symbol]
        self.sim.strikes["order by hand at the broker"] += 1
        if self.sim.venue.qty(symbol) and rng.random() < 0.5:
            for order in [o for o in self.sim.venue.open.values() if o.symbol == symbol and o.side == "sell"]:
                self._quietly(partial(self.sim.venue.cancel, order.id))
            self.sim.kernel.after(1, lambda: self._quietly(lambda: self.sim.venue.by_hand(symbol, "sell", 1, name)))
        elif rng.random() < 0.5:
            self._quietly(lambda: self.sim.venue.by_hand(symbol, "buy", 1 + int(rng.random() * 4), name))
        else:
            limit_c = int(price_c * 0.997)
            self._quietly(lambda: self.sim.venue.by_hand(symbol, "buy", 1 + int(rng.random() * 4), name, limit_c))

    def replace_by_hand(self) -> None:
        """A human changes a resting order at the broker; it may be taken and then not be done."""
        resting = [
            o
            for o in self.sim.venue.open.values()
            if o.type in ("limit", "stop") and o.live and o.status != "pending_cancel"
        ]
        if not resting:
            self.sim.kernel.after(1800, self._replace_later)
            return
        order = self.sim.kernel.rng.choice(resting)
        self.names += 1
        price_c = order.limit_c if order.limit_c is not None else order.stop_c
        assert price_c is not None
        rejected = self.sim.kernel.random() < 0.5
        self.sim.strikes["replace, then rejected" if rejected else "replaced"] += 1
        self.sim.venue.replace(order, f"hand-{self.names}", int(price_c * 1.001), rejected=rejected)

    def _replace_later(self) -> None:
        if not self.sim.quiet_now and self.sim.venue.open:
            self.replace_by_hand()

    def cancels_go_on(self) -> None:
        """Cancels that stuck are done."""
        self.sim.venue.cancels_stick = False
        self.sim.strikes["cancels stick"] += len(self.sim.venue.stuck)
        self.sim.venue.release_stuck()

    def _quietly(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Refused as refused:
            self.sim.kernel.note(f"refused: {refused}")

    def cancel_soon(self, order: Order) -> None:
        """A human cancels what has filled in part: the rest may fill before."""
        self.race -= 1

        def cancel() -> None:
            if order.open:
                self.sim.strikes["partial fill then cancel race"] += 1
                self.sim.venue.cancel_delay_s = 8.0
                self._quietly(lambda: self.sim.venue.cancel(order.id))
                self.sim.venue.cancel_delay_s = 0.05

        self.sim.kernel.after(9.9 * self.sim.kernel.random(), cancel)


def _by_hand(books: Books, quotes: dict[str, object], symbol: str, dice: float, small: bool) -> Proposal | None:
    held = books.positions.get(symbol) or next(iter(books.positions.values()), None)
    if held is not None and (dice < 0.5 or small):
        return replace(committing.exit_proposal(held, Source.MANUAL), qty=Decimal(1) if small else held.qty)
    quote = quotes.get(symbol)
    if not isinstance(quote, risk.Quote):
        return None
    kind = OrderType.MARKET if dice < 0.8 or not quote.price_usd.is_finite() else OrderType.LIMIT
    limit = (quote.price_usd * Decimal("0.998")).quantize(Decimal("0.01")) if kind is OrderType.LIMIT else None
    qty = Decimal(1 if small else 1 + int(60 * (dice * 10 % 1) ** 4))
    return Proposal(
        symbol=symbol, side=Side.BUY, qty=qty, kind=IntentKind.ENTRY, source=Source.MANUAL,
        price_usd=risk.worst_price(quote, kind, limit, Side.BUY), order_type=kind,
        time_in_force=TimeInForce.GTC if dice > 0.9 else TimeInForce.DAY, limit_price_usd=limit,
    )  # fmt: skip
