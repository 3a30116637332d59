"""Everything to cash, whatever single symbols or processes do: on a small venue of its own and simulated time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from qbot import flatten, limits
from qbot.broker.protocol import no_fence
from qbot.clock import Uptime
from qbot.desk import Desk
from qbot.errors import BoardUnavailable, BrokerError, BrokerRejected, OrderInDoubt, StoreUnavailable
from qbot.flatten import Flattening, Terms
from qbot.store.protocol import COMMITTED, IN_DOUBT
from qbot.types import BrokerOrder, IntentKind, OrderSpec, OrderType, Position, Side, TimeInForce, TradingConfig
from tests.simulation.memory import MemoryStore, pass_by

OPEN, CLOSED = datetime(2025, 7, 7, 15, 0, tzinfo=UTC), datetime(2025, 7, 7, 21, 0, tzinfo=UTC)
PRICE = Decimal("100.00")


@dataclass
class Venue:
    """Positions, resting orders, and what goes wrong with some symbols."""

    held: dict[str, Decimal] = field(default_factory=dict)
    orders: dict[str, BrokerOrder] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)  # symbols whose cancels show no effect
    broken: set[str] = field(default_factory=set)  # symbols whose cancels and closings the venue answers with an error
    idle: set[str] = field(default_factory=set)  # symbols whose sales rest: halted, or the exchange is closed
    doubtful: list[str] = field(default_factory=list)  # symbols whose next POST has no answer, and no order
    refused: set[str] = field(default_factory=set)
    late: list[BrokerOrder] = field(default_factory=list)  # one of these turns up with every look
    submitted: list[OrderSpec] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    arrived: set[str] = field(default_factory=set)  # orders of ours that came and went
    price: Decimal = PRICE
    mute: bool = False  # look-ups have no answer

    def positions(self) -> list[Position]:
        return [Position(s, q, PRICE, q * PRICE, Decimal(0), self.price) for s, q in sorted(self.held.items()) if q]

    def open_orders(self) -> list[BrokerOrder]:
        if self.late:
            order = self.late.pop(0)
            self.orders[order.broker_order_id] = order
        return list(self.orders.values())

    def cancel(self, broker_order_id: str) -> None:
        self.cancelled.append(broker_order_id)
        if self.orders[broker_order_id].symbol in self.broken:
            raise BrokerError("no answer")
        if self.orders[broker_order_id].symbol not in self.stuck:
            del self.orders[broker_order_id]

    def cancel_all(self) -> int:
        count = len(self.orders)
        self.orders = {key: order for key, order in self.orders.items() if order.symbol in self.stuck}
        return count

    def submit(self, spec: OrderSpec, fence: Callable[[], None] = no_fence) -> BrokerOrder:
        fence()
        self.submitted.append(spec)
        if spec.symbol in self.refused:
            raise BrokerRejected("refused", status=403, code=40310000)
        if spec.symbol in self.doubtful:
            self.doubtful.remove(spec.symbol)
            raise OrderInDoubt("no answer")
        return self._trade(spec.client_order_id, spec.symbol, spec.side, spec.qty)

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        if self.mute:
            raise BrokerError("no answer")
        if client_order_id in self.arrived:
            return replace(resting(client_order_id, "AAPL"), status="filled")
        return next((order for order in self.orders.values() if order.client_order_id == client_order_id), None)

    def close_all(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            qty = self.held[symbol]
            if symbol in self.broken:
                raise BrokerError("no answer")
            self.closed.append(symbol)
            self._trade(f"venue-{len(self.closed)}", symbol, Side.SELL if qty > 0 else Side.BUY, abs(qty))

    def _trade(self, client_order_id: str, symbol: str, side: Side, qty: Decimal) -> BrokerOrder:
        order = resting(client_order_id, symbol, side, qty)
        if symbol in self.idle:
            self.orders[order.broker_order_id] = order
            return order
        self.held[symbol] -= qty if side is Side.SELL else -qty
        return replace(order, status="filled", filled_qty=qty, filled_avg_price_usd=PRICE)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"an emergency needs no {name}")


def resting(client_order_id: str, symbol: str, side: Side = Side.SELL, qty: Decimal = Decimal(1)) -> BrokerOrder:
    return BrokerOrder(
        f"id-{client_order_id}", client_order_id, symbol, side, qty, Decimal(0), None, "market", "day", None, None,
        "new", OPEN, OPEN,
    )  # fmt: skip


@dataclass
class Floor:
    """A venue with a desk before it, and time that only waiting moves."""

    venue: Venue
    store: MemoryStore = field(default_factory=MemoryStore)
    market: datetime = OPEN
    waited_s: float = 0.0

    @property
    def desk(self) -> Desk:
        def pause(seconds: float) -> None:
            self.waited_s += seconds

        def moment() -> datetime:
            return self.market + timedelta(seconds=self.waited_s)

        return Desk(  # type: ignore[arg-type]
            self.venue, self.store, moment, moment, lambda: self.waited_s, pause, lambda: Uptime("here", self.waited_s)
        )  # fmt: skip

    def flatten(self, name: str = "e1", **more: Any) -> str:
        self.venue.cancel_all()
        return Flattening(self.desk, name, more.pop("terms", lambda: Terms(TradingConfig(), 1)), **more).run()

    def intents(self) -> dict[str, str]:
        return {row["symbol"]: row["status"] for row in self.store.tables["intents"].values()}


def floor(**held: int) -> Floor:
    return Floor(Venue(held={symbol: Decimal(qty) for symbol, qty in held.items()}))


def test_every_position_is_sold_by_one_order_of_ours() -> None:
    here = floor(AAPL=2, MSFT=3)
    assert here.flatten() == "2 positions closed and verified"
    assert [(spec.symbol, spec.qty, spec.order_type) for spec in here.venue.submitted] == [
        ("AAPL", 2, OrderType.MARKET), ("MSFT", 3, OrderType.MARKET)
    ]  # fmt: skip
    assert (here.intents(), here.venue.closed) == ({"AAPL": "closed", "MSFT": "closed"}, [])


def test_a_cancel_that_sticks_keeps_no_other_symbol_from_being_sold() -> None:
    here = floor(AAPL=2, MSFT=3)
    here.venue.orders["id-stop"] = resting("stop", "AAPL")
    here.venue.stuck.add("AAPL")
    with pytest.raises(BrokerError, match=r"after 20 s: AAPL$"):
        here.flatten()
    assert here.venue.held == {"AAPL": 2, "MSFT": 0}
    assert here.venue.cancelled.count("id-stop") == 3, "asked for again every five seconds, not at every look"
    here.venue.stuck.clear()
    assert here.flatten() == "1 positions closed and verified"


def test_an_entry_that_arrives_late_is_cancelled_and_what_it_bought_is_sold() -> None:
    here = floor(AAPL=2)
    here.venue.late = [resting("entry", "MSFT", Side.BUY)]
    here.venue.idle.add("MSFT")
    assert here.flatten() == "1 positions closed and verified"
    assert here.venue.cancelled == [] or here.venue.cancelled == ["id-entry"]
    assert here.venue.orders == {}


def test_a_sale_without_effect_is_left_to_the_venue_which_sells_no_more_than_is_held() -> None:
    here = floor(AAPL=2, MSFT=3)
    here.venue.doubtful, here.venue.refused = ["AAPL"], {"MSFT"}
    with pytest.raises(BrokerError, match="not verified"):
        here.flatten()
    assert here.venue.held == {"AAPL": 0, "MSFT": 0}
    assert sorted(spec.symbol for spec in here.venue.submitted) == ["AAPL", "MSFT"]
    assert (here.venue.closed, here.intents()["AAPL"]) == (["AAPL", "MSFT"], IN_DOUBT)
    assert here.waited_s >= limits.FLATTEN_AGAIN_S


def test_two_that_carry_out_the_same_emergency_send_one_order() -> None:
    here = floor(AAPL=2)
    here.venue.idle.add("AAPL")
    with pytest.raises(BrokerError):
        here.flatten()
    here.venue.cancel_all()
    here.venue.idle.clear()
    assert here.flatten() == "1 positions closed and verified"
    assert (len(here.venue.submitted), here.venue.closed) == (1, ["AAPL"])


def test_one_that_was_overtaken_between_its_look_and_its_commit_leaves_the_sale_to_the_other() -> None:
    here = floor(AAPL=2)

    def overtaken(name: str) -> None:
        if name == "committed":  # that was the look: no intent was there
            here.store.point = pass_by
            assert here.flatten() == "1 positions closed and verified"

    def terms() -> Terms:
        here.store.point = overtaken
        return Terms(TradingConfig(), 1)

    assert here.flatten(terms=terms) == "1 positions closed and verified"
    assert ([spec.client_order_id for spec in here.venue.submitted], here.venue.closed) == (["qbot-e1-AAPL-sell"], [])
    assert (here.venue.held, here.intents()) == ({"AAPL": 0}, {"AAPL": "closed"})


def test_fractions_and_short_positions_are_closed_by_the_venue() -> None:
    here = floor()
    here.venue.held = {"AAPL": Decimal("1.5"), "MSFT": Decimal(-2), "SPY": Decimal(1)}
    assert here.flatten() == "3 positions closed and verified"
    assert (sorted(here.venue.closed), [spec.symbol for spec in here.venue.submitted]) == (["AAPL", "MSFT"], ["SPY"])


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), BoardUnavailable("gone"), ValueError("another version")])
def test_without_settings_the_venue_flattens(error: Exception) -> None:
    def terms() -> Terms:
        raise error

    here = floor(AAPL=2)
    assert here.flatten(terms=terms) == "1 positions closed and verified"
    assert (here.venue.submitted, here.venue.closed) == ([], ["AAPL"])


def test_without_a_store_the_venue_flattens() -> None:
    here = floor(AAPL=2)
    here.store.down = True
    assert here.flatten() == (
        "1 positions closed; the broker shows nothing more. Postgres cannot be asked what may still be on its way there"
    )
    assert (here.venue.submitted, here.venue.closed) == ([], ["AAPL"])


def test_a_store_that_fails_between_the_sales_leaves_none_out() -> None:
    here = floor(AAPL=2, MSFT=3)
    points: list[str] = []

    def point(name: str) -> None:
        points.append(name)
        here.store.down = here.store.down or len(here.venue.submitted) == 1

    here.store.point = point
    assert here.flatten().startswith("2 positions closed; the broker shows nothing more.")
    assert here.venue.held == {"AAPL": 0, "MSFT": 0}


def test_at_a_closed_exchange_the_sales_are_queued_once_nothing_else_rests() -> None:
    here = floor(AAPL=2)
    here.market = CLOSED
    here.venue.idle.add("AAPL")
    assert here.flatten() == "1 positions are sold when the market opens"
    (sale,) = here.venue.submitted
    assert (sale.order_type, sale.limit_price_usd, sale.extended_hours) == (OrderType.MARKET, None, False)


def test_force_offers_them_in_extended_hours_at_the_collar() -> None:
    here = floor(AAPL=2)
    here.market = CLOSED
    here.venue.idle.add("AAPL")
    assert here.flatten(force=True) == "1 positions are on offer at a limit in extended hours"
    (sale,) = here.venue.submitted
    assert (sale.order_type, sale.limit_price_usd, sale.extended_hours) == (OrderType.LIMIT, Decimal("98.00"), True)


def test_force_offers_what_costs_less_than_a_dollar_by_hundredths_of_a_cent() -> None:
    here = floor(AAPL=2)
    here.market, here.venue.price = CLOSED, Decimal("0.5001")
    here.venue.idle.add("AAPL")
    here.flatten(force=True)
    assert here.venue.submitted[0].limit_price_usd == Decimal("0.4900")


@pytest.mark.parametrize("price", ["0", "-1", "NaN"])
def test_force_without_a_usable_price_makes_no_limit_of_it(price: str) -> None:
    here = floor(AAPL=2)
    here.market, here.venue.price = CLOSED, Decimal(price)
    here.venue.idle.add("AAPL")
    here.flatten(force=True)
    assert [spec for spec in here.venue.submitted if spec.limit_price_usd is not None or spec.extended_hours] == []
    assert [order.symbol for order in here.venue.orders.values()] == ["AAPL"], "on offer all the same, once"


def test_force_in_an_open_market_sells_at_the_market() -> None:
    here = floor(AAPL=2)
    assert here.flatten(force=True) == "1 positions closed and verified"
    assert here.venue.submitted[0].order_type is OrderType.MARKET


def test_it_is_not_done_while_an_entry_may_still_arrive() -> None:
    here = floor()
    row = {
        "client_order_id": "qbot-c1-AAPL-buy", "symbol": "AAPL", "status": COMMITTED, "kind": IntentKind.ENTRY,
        "market_day": "2025-07-07", "created_at_wall": OPEN,
    }  # fmt: skip
    with here.store.transaction() as ledger:
        ledger.add_intents([row])
    with pytest.raises(BrokerError, match="AAPL"):
        here.flatten()
    with here.store.transaction() as ledger:
        ledger.mark_unsent("qbot-c1-AAPL-buy", "denied", "stopped")
    assert here.flatten() == "0 positions closed and verified"


def on_its_way(here: Floor, name: str, kind: IntentKind, **more: Any) -> None:
    """An intent of somebody else, whose sender is at it."""
    row = {
        "client_order_id": name, "symbol": "AAPL", "status": COMMITTED, "kind": kind, "side": "sell",
        "market_day": "2025-07-07", "created_at": OPEN, "created_at_wall": OPEN, "qty": Decimal(2),
        "reserved_usd": Decimal(0), "source": "ml_prediction", **more,
    }  # fmt: skip
    with here.store.transaction() as ledger:
        ledger.add_intents([row])


def test_shares_that_somebody_else_is_selling_are_not_sold_as_well() -> None:
    """Sent at the same moment, the second of two sales would open a short position."""
    here = floor(AAPL=2, MSFT=3)
    on_its_way(here, "qbot-m1-AAPL-sell", IntentKind.EXIT)
    pause = here.desk.pause

    def arrives(seconds: float) -> None:
        pause(seconds)
        if here.waited_s < limits.FLATTEN_AGAIN_S and here.venue.held["AAPL"]:
            here.venue.submit(OrderSpec("theirs", "AAPL", Side.SELL, Decimal(2), OrderType.MARKET, TimeInForce.DAY))
            with here.store.transaction() as ledger:
                ledger.mark_unsent("qbot-m1-AAPL-sell", "closed", "its sender records the answer")

    desk = replace(here.desk, pause=arrives)
    assert "closed and verified" in Flattening(desk, "e1", lambda: Terms(TradingConfig(), 1)).run()
    assert here.venue.held == {"AAPL": 0, "MSFT": 0}
    assert [spec.client_order_id for spec in here.venue.submitted] == ["qbot-e1-MSFT-sell", "theirs"]


def test_a_sale_that_never_arrives_keeps_nothing_from_being_sold() -> None:
    here = floor(AAPL=2)
    on_its_way(here, "qbot-m1-AAPL-sell", IntentKind.EXIT, status=IN_DOUBT)
    pause, sold_s = here.desk.pause, []

    def watched(seconds: float) -> None:
        if here.venue.submitted:
            sold_s.append(here.waited_s)
        pause(seconds)

    with pytest.raises(BrokerError, match="AAPL"):
        Flattening(replace(here.desk, pause=watched), "e1", lambda: Terms(TradingConfig(), 1)).run()
    assert limits.FLATTEN_AGAIN_S <= sold_s[0] < 2 * limits.FLATTEN_AGAIN_S
    assert [spec.client_order_id for spec in here.venue.submitted] == ["qbot-e1-AAPL-sell"]


@pytest.mark.parametrize("kind", [IntentKind.EXIT, IntentKind.PROTECTION])
def test_while_a_sale_is_in_doubt_nothing_is_called_verified(kind: IntentKind) -> None:
    """It can open a short position until it is known not to come."""
    here = floor()
    on_its_way(here, "qbot-c1-AAPL-sell", kind, status=IN_DOUBT, since_uptime_s={"here": 0.0})
    for _ in range(limits.ABANDON_INTENT_S // int(limits.FLATTEN_WAIT_S)):
        with pytest.raises(BrokerError, match=r"not verified: .* AAPL"):
            here.flatten()
        if here.waited_s > limits.ABANDON_INTENT_S - limits.FLATTEN_WAIT_S - 5:
            break
    assert here.flatten() == "0 positions closed and verified"
    assert here.waited_s > limits.ABANDON_INTENT_S
    assert here.intents() == {"AAPL": "abandoned"}


def test_a_sale_in_doubt_is_looked_up_so_that_nobody_has_to_wait_for_another_to_do_it() -> None:
    here = floor()
    on_its_way(here, "qbot-c1-AAPL-sell", IntentKind.EXIT, status=IN_DOUBT)
    here.venue.arrived.add("qbot-c1-AAPL-sell")
    assert here.flatten() == "0 positions closed and verified"
    assert (here.intents(), here.waited_s < 1) == ({"AAPL": "closed"}, True)


def test_a_doubt_that_cannot_be_looked_up_stays_one_and_keeps_no_other_symbol_from_being_sold() -> None:
    here = floor(MSFT=3)
    on_its_way(here, "qbot-c1-AAPL-sell", IntentKind.EXIT, status=IN_DOUBT)
    here.venue.arrived.add("qbot-c1-AAPL-sell")
    here.venue.mute = True
    with pytest.raises(BrokerError, match=r"not verified: .* AAPL"):
        here.flatten()
    assert (here.venue.held, here.intents()["AAPL"]) == ({"MSFT": 0}, IN_DOUBT)
    here.venue.mute = False
    assert here.flatten() == "0 positions closed and verified"


def test_sales_queued_for_the_open_are_not_called_so_while_another_may_come_to_sell_the_same() -> None:
    here = floor(AAPL=2)
    here.market = CLOSED
    here.venue.idle.add("AAPL")
    on_its_way(here, "qbot-c1-AAPL-sell", IntentKind.EXIT, status=IN_DOUBT)
    with pytest.raises(BrokerError, match="in doubt, and may reach the broker yet: AAPL"):
        here.flatten()


def test_a_protection_that_arrives_late_is_cancelled_and_its_shares_are_sold() -> None:
    here = floor(AAPL=2)
    here.venue.refused.add("AAPL")  # our sale meets it
    here.venue.late = [
        replace(resting("late", "MSFT"), order_class="oco"),
        replace(resting("oco", "AAPL"), order_class="oco"),
    ]
    assert here.flatten() == "1 positions closed and verified"
    assert (here.venue.held, here.venue.orders) == ({"AAPL": 0}, {})


def test_errors_about_one_symbol_keep_no_other_from_being_sold() -> None:
    here = floor(AAPL=2, MSFT=3, SPY=1)
    here.venue.held["SPY"] = Decimal("0.5")
    for symbol in ("AAPL", "MSFT"):
        here.venue.orders[f"id-{symbol}"] = resting(symbol, symbol)
    here.venue.broken |= {"AAPL", "SPY"}
    run = Flattening(here.desk, "e1", lambda: Terms(TradingConfig(), 1), asked_all=False)
    with pytest.raises(BrokerError, match=r"after 20 s: AAPL, SPY$"):
        run.run()
    assert here.venue.held == {"AAPL": 2, "MSFT": 0, "SPY": Decimal("0.5")}


def test_every_look_is_a_sign_of_life() -> None:
    here = floor(AAPL=2)
    here.venue.idle.add("AAPL")
    signs: list[float] = []
    with pytest.raises(BrokerError):
        here.flatten(alive=lambda: signs.append(here.waited_s))
    gaps = [later - earlier for earlier, later in pairwise(signs)]
    assert max(gaps) == pytest.approx(limits.POLL_MAX_S)


def test_cancel_all_looks_until_nothing_is_left() -> None:
    here = floor()
    here.venue.orders["id-stop"] = resting("stop", "AAPL")
    here.venue.stuck.add("AAPL")
    with pytest.raises(BrokerError, match="AAPL"):
        flatten.cancel_all(here.desk)
    here.venue.stuck.clear()
    assert (flatten.cancel_all(here.desk), here.venue.orders) == (1, {})
