"""Everything to cash: cancel → sell → look, until the broker shows neither orders nor positions.

Each symbol goes its own way: one whose cancel sticks does not keep the others from being sold. The first sale of a
symbol is an order of ours, by a committed intent; every further one is left to the venue, which closes what it holds
and cannot sell more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, Decimal

import structlog

from qbot import committing, execution, limits, reconciliation
from qbot.broker.pace import urgent
from qbot.desk import Desk
from qbot.errors import AlreadyCommitted, BoardUnavailable, BrokerError, StoreUnavailable
from qbot.market.calendar import market_hours
from qbot.risk import Market
from qbot.store.protocol import SENT
from qbot.types import (
    BrokerOrder,
    IntentKind,
    OrderType,
    Position,
    Proposal,
    Side,
    Source,
    TradingConfig,
    TradingState,
)

log = structlog.get_logger(__name__)
Held = Mapping[str, Position]


@dataclass(frozen=True, slots=True)
class Coming:
    """Symbols of what was committed and may reach the venue yet: entries, sales, those sales that are not of this run.

    `known`: the store could be asked.
    """

    entries: Set[str] = frozenset()
    sales: Set[str] = frozenset()
    others_sales: Set[str] = frozenset()
    known: bool = True

    @property
    def symbols(self) -> Set[str]:
        return self.entries | self.sales


@dataclass(frozen=True, slots=True)
class Terms:
    """By which settings the sales are judged and recorded."""

    config: TradingConfig
    revision: int


@dataclass(slots=True)
class Flattening:
    """One run of `flatten`.

    `name` makes the ids of its orders: whoever else carries out the same emergency makes the same ones, and sells
    nothing twice. `terms`: None when they cannot be read; then the venue sells. `force`: at a closed exchange offer the
    shares in extended hours, at a limit, rather than wait for the open. `alive` is called with every look. `asked_all`:
    a cancel of all orders was just taken.
    """

    desk: Desk
    name: str
    terms: Callable[[], Terms]
    force: bool = False
    alive: Callable[[], None] = lambda: None
    asked_all: bool = True
    sold_at_s: dict[str, float] = field(default_factory=dict)
    sold_by: dict[str, Side] = field(default_factory=dict)  # a short position is bought back
    asked_at_s: dict[str, float] = field(default_factory=dict)  # cancels, by the broker's id
    looked_up_s: float | None = None  # when the venue was asked for what is in doubt
    left_at_s: dict[str, float] = field(default_factory=dict)  # since when a symbol is left to another's sale

    @urgent()
    def run(self) -> str:
        """Sell everything; what came of it. Raises BrokerError naming what is still there after FLATTEN_WAIT_S."""
        desk, pause_s = self.desk, limits.RELEASE_POLL_S
        deadline_s, first_look = desk.monotonic_s() + limits.FLATTEN_WAIT_S, True
        while True:
            self.alive()
            coming = on_their_way(desk, self.name)
            resting = desk.broker.open_orders()
            held = held_now(desk)  # read after the orders: one that is gone may have filled
            if not held and not resting and not coming.symbols:
                return self._closed_told(coming)
            strangers = [order for order in resting if not self._ours(order)]
            if ready := self._ready(held, resting, coming.others_sales):
                self._sell(ready)
            elif not coming.symbols and not strangers and self._queued(held, resting):
                return self._queue_told(held)
            elif desk.monotonic_s() > deadline_s:  # what was sold just now is looked at once more
                raise BrokerError(_left(held, resting, coming))
            elif coming.symbols:
                self._look_up()
            self._cancel(strangers, just_asked=first_look and self.asked_all)
            first_look = False
            desk.pause(pause_s)
            pause_s = min(2 * pause_s, limits.POLL_MAX_S)

    def _ours(self, order: BrokerOrder) -> bool:
        """Whether it is a sale of this run, and not what was there before."""
        sold = self.sold_by.get(order.symbol) is order.side and not order.protective
        return sold and order.broker_order_id not in self.asked_at_s

    def _ready(self, held: Held, resting: Sequence[BrokerOrder], leaving: Set[str]) -> dict[str, Position]:
        """What can be sold now: nothing of it rests, and what was sold before, by whomever, has had its time."""
        busy, now_s = {order.symbol for order in resting}, self.desk.monotonic_s()
        busy |= {s for s in leaving if now_s - self.left_at_s.setdefault(s, now_s) < limits.FLATTEN_AGAIN_S}
        busy |= {symbol for symbol, at_s in self.sold_at_s.items() if now_s - at_s < limits.FLATTEN_AGAIN_S}
        return {symbol: position for symbol, position in held.items() if symbol not in busy}

    def _queued(self, held: Held, resting: Sequence[BrokerOrder]) -> bool:
        """Whether all that is left to do is the venue's, once it opens."""
        on_offer = {order.symbol for order in resting}
        return bool(held) and held.keys() <= on_offer and not market_hours(self.desk.market()).is_open

    def _closed_told(self, coming: Coming) -> str:
        closed = f"{len(self.sold_at_s)} positions closed"
        if coming.known:
            return f"{closed} and verified"
        return f"{closed}; the broker shows nothing more. Postgres cannot be asked what may still be on its way there"

    def _queue_told(self, held: Held) -> str:
        how = "on offer at a limit in extended hours" if self.force else "sold when the market opens"
        return f"{len(held)} positions are {how}"

    def _look_up(self) -> None:
        """Ask the venue for what is in doubt: nobody else may be there to do it. Not with every look, for it counts."""
        now_s = self.desk.monotonic_s()
        if self.looked_up_s is not None and now_s - self.looked_up_s < limits.FLATTEN_AGAIN_S:
            return
        self.looked_up_s = now_s
        try:
            reconciliation.settle(self.desk)
        except (BrokerError, StoreUnavailable) as error:  # it stays in doubt
            log.warning("doubt_not_settled", why=str(error))

    def _cancel(self, orders: Sequence[BrokerOrder], *, just_asked: bool) -> None:
        """Ask for a cancel of what is new here, and again of what sticks. `just_asked`: of all at once, before."""
        now_s = self.desk.monotonic_s()
        for order in orders:
            asked_s = now_s if just_asked else self.asked_at_s.get(order.broker_order_id)
            if asked_s is None or now_s - asked_s > limits.FLATTEN_AGAIN_S:
                asked_s = now_s
                try:
                    self.desk.broker.cancel(order.broker_order_id)
                except BrokerError as error:  # asked for again: the others do not wait for it
                    log.warning("cancel_failed", broker_order_id=order.broker_order_id, why=str(error))
            self.asked_at_s[order.broker_order_id] = asked_s

    # --- selling ---

    def _sell(self, held: Held) -> None:
        """The first time by committed intents, like every order; where these cannot be made the venue is asked."""
        again = {symbol for symbol in held if symbol in self.sold_at_s}
        try:
            orders = self._commit({symbol: held[symbol] for symbol in held.keys() - again})
        except AlreadyCommitted:  # somebody else is at it
            self._note(held)
            return
        except (StoreUnavailable, BoardUnavailable, ValueError) as error:  # ValueError: settings of another version
            log.error("flattened_by_the_venue", why=f"{type(error).__name__}: {error}")
            orders = []
        by_venue = sorted(held.keys() - {order.spec.symbol for order in orders})
        self._note(held)
        try:
            execution.send(self.desk, orders, released=True)
        except StoreUnavailable as error:  # some may be at the broker: the next look tells
            log.error("emergency_not_recorded", why=str(error))
        try:
            self.desk.broker.close_all(by_venue)
        except BrokerError as error:  # as with a cancel
            log.warning("not_closed", why=str(error))

    def _note(self, held: Held) -> None:
        self.sold_at_s |= dict.fromkeys(held, self.desk.monotonic_s())
        self.sold_by |= {symbol: Side.SELL if position.qty > 0 else Side.BUY for symbol, position in held.items()}

    def _commit(self, held: Held) -> list[committing.Order]:
        """Intents for what none was made for; what is refused, as a fraction or a short position is, is left out."""
        desk = self.desk
        if not held:
            return []
        terms = self.terms()
        with desk.store.transaction() as ledger:
            epoch = ledger.load_switch().epoch
            ids = {symbol: committing.client_order_id(self.name, symbol, Side.SELL) for symbol in held}
            new = [held[symbol] for symbol in sorted(held) if ledger.intent(ids[symbol]) is None]
        judged = committing.commit(
            desk,
            [self._proposal(position) for position in new],
            terms.config,
            _market(desk, held),
            cycle_id=self.name,
            revision=terms.revision,
            epoch=epoch,
            snapshot_wall=desk.wall(),
        )
        return committing.orders_of(judged)

    def _proposal(self, position: Position) -> Proposal:
        sale = committing.exit_proposal(position, Source.EMERGENCY)
        if not self.force or market_hours(self.desk.market()).is_open:
            return sale
        price = position.current_price_usd
        if not price.is_finite() or price <= 0:
            return sale
        step = Decimal("0.01") if price >= 1 else Decimal("0.0001")
        limit = (price * (1 - limits.PRICE_COLLAR_PCT)).quantize(step, ROUND_DOWN)
        return replace(sale, order_type=OrderType.LIMIT, limit_price_usd=limit, extended_hours=True)


@urgent()
def cancel_all(desk: Desk) -> int:
    """Cancel what is open now and look until it is. The number of orders. Raises BrokerError if some remain."""
    before = {order.broker_order_id for order in desk.broker.open_orders()}
    count = desk.broker.cancel_all()
    deadline_s, pause_s = desk.monotonic_s() + limits.RELEASE_WAIT_S, limits.RELEASE_POLL_S
    while left := [order.symbol for order in desk.broker.open_orders() if order.broker_order_id in before]:
        if desk.monotonic_s() > deadline_s:
            raise BrokerError(f"not cancelled after {limits.RELEASE_WAIT_S:.0f} s: {', '.join(sorted(set(left)))}")
        desk.pause(pause_s)
        pause_s = min(2 * pause_s, limits.POLL_MAX_S)
    return count


def held_now(desk: Desk) -> dict[str, Position]:
    """Every position, short ones too."""
    return {position.symbol: position for position in desk.broker.positions() if position.qty != 0}


def on_their_way(desk: Desk, name: str) -> Coming:
    """What may reach the venue yet, as far as the store can be asked. `name`: of this run.

    A sale that arrives once everything is sold opens a short position where the account may have one.
    """
    try:
        with desk.store.transaction() as ledger:
            waiting = [row for row in ledger.unsettled_intents() if row["status"] != SENT]
    except StoreUnavailable:
        return Coming(known=False)
    entries = {row["symbol"] for row in waiting if row["kind"] == IntentKind.ENTRY}
    mine = {committing.client_order_id(name, row["symbol"], Side.SELL) for row in waiting}
    sales = [row for row in waiting if row["kind"] != IntentKind.ENTRY]
    others = {row["symbol"] for row in sales if row["client_order_id"] not in mine}
    return Coming(entries, {row["symbol"] for row in sales}, others)


def _left(held: Held, resting: Sequence[BrokerOrder], coming: Coming) -> str:
    """What keeps it from being done."""
    there = sorted({*held, *(order.symbol for order in resting)})
    doubts = ", ".join(sorted(coming.symbols))
    if not there:
        return f"not verified: nothing is held, but an order is in doubt and may reach the broker yet: {doubts}"
    left = f"still held or not cancelled after {limits.FLATTEN_WAIT_S:.0f} s: {', '.join(there)}"
    return f"{left}; in doubt, and may reach the broker yet: {doubts}" if doubts else left


def _market(desk: Desk, held: Held) -> Market:
    """All that an emergency sale is judged by."""
    return Market(
        now=desk.market(),
        state=TradingState.HALTED,
        latched=True,
        market_open=None,
        reconciled=False,
        settings_problem=None,
        paper_problem=None,
        account=None,
        quotes={},
        positions=held,
        open_orders=(),
        max_day_loss_pct=Decimal(0),
    )
