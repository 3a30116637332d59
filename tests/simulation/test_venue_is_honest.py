"""The simulated venue answers as the paper exchange does, through the client that QBot trades with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

import pytest

from qbot.broker.protocol import Broker
from qbot.errors import BrokerError, BrokerRejected
from qbot.types import BrokerOrder, OrderSpec, OrderType, Side, TimeInForce
from tests.simulation.broker import SimBroker, Wire
from tests.simulation.kernel import SECOND, Kernel
from tests.simulation.venue import Venue
from tests.support.exchange import MID_SESSION
from tests.support.runtime import World

BEGINNING = MID_SESSION.replace(year=2020)
SYMBOLS = ("AAPL", "MSFT")
Answer = tuple[Any, ...]


class Place(Protocol):
    """Where a script is played."""

    broker: Broker

    def price(self, symbol: str) -> Decimal: ...
    def settle(self) -> None: ...


@dataclass
class Real:
    """The paper exchange behind the client of QBot."""

    world: World

    def __post_init__(self) -> None:
        self.broker = self.world.rt.broker

    def price(self, symbol: str) -> Decimal:
        return self.world.price(symbol)

    def settle(self) -> None:
        self.world.market.advance(seconds=1)
        self.world.orders()


class Simulated:
    """The simulated venue at the same prices, without what only a real one does."""

    def __init__(self, prices: dict[str, Decimal]) -> None:
        self.kernel = Kernel(1, int(MID_SESSION.timestamp()) * SECOND)
        self.venue = Venue(self.kernel, {s: int(p * 100) for s, p in prices.items()}, 10_000_000, partial_one_in=0)
        self.venue.cancel_delay_s = self.venue.fill_delay_s = 0.0
        self.venue.is_open = True
        self.broker = SimBroker(Wire(self.kernel, self.venue))

    def price(self, symbol: str) -> Decimal:
        return Decimal(self.venue.price_c[symbol]) / 100

    def settle(self) -> None:
        self.kernel.run(self.kernel.now + SECOND)


def spec(name: str, side: Side, qty: int, **more: Any) -> OrderSpec:
    """An order of AAPL, at the market and for the day unless said otherwise."""
    base = OrderSpec(name, "AAPL", side, Decimal(qty), OrderType.MARKET, TimeInForce.DAY)
    return replace(base, **more)


def limit(price: Decimal, share: str) -> dict[str, Any]:
    return {"order_type": OrderType.LIMIT, "limit_price_usd": (price * Decimal(share)).quantize(Decimal("0.01"))}


def stop(price: Decimal, share: str) -> dict[str, Any]:
    return {"order_type": OrderType.STOP, "stop_price_usd": (price * Decimal(share)).quantize(Decimal("0.01"))}


def levels(price: Decimal) -> dict[str, Any]:
    cent = Decimal("0.01")
    return {
        "take_profit_usd": (price * Decimal("1.1")).quantize(cent),
        "stop_loss_usd": (price * Decimal("0.9")).quantize(cent),
        "time_in_force": TimeInForce.GTC,
    }  # fmt: skip


def sell_what_is_held_by_legs(place: Place, price: Decimal, ask: Callable[[OrderSpec], None]) -> None:
    ask(spec("entry", Side.BUY, 3, **levels(price)))
    ask(spec("too early", Side.SELL, 3))
    for order in place.broker.open_orders():
        if order.side is Side.SELL:
            place.broker.cancel(order.broker_order_id)
            break
    ask(spec("in time", Side.SELL, 3))


def entry_with_a_limit_rests_and_is_cancelled_with_its_legs(
    place: Place, price: Decimal, ask: Callable[[OrderSpec], None]
) -> None:
    ask(spec("entry", Side.BUY, 2, **{**levels(price * Decimal("0.95")), **limit(price, "0.95")}))
    place.broker.cancel(next(o.broker_order_id for o in place.broker.open_orders() if o.side is Side.BUY))


def orders_of_both_sides_meet(place: Place, price: Decimal, ask: Callable[[OrderSpec], None]) -> None:
    ask(spec("first", Side.BUY, 4))
    ask(spec("resting buy", Side.BUY, 1, **limit(price, "0.97")))
    ask(spec("sale into it", Side.SELL, 1))
    ask(spec("limit over it", Side.SELL, 1, **limit(price, "1.05")))
    ask(spec("buy into that", Side.BUY, 1))
    ask(spec("stop", Side.SELL, 1, **stop(price, "0.96")))
    ask(spec("bracket beside", Side.BUY, 1, **levels(price)))


def what_the_account_cannot_do(place: Place, price: Decimal, ask: Callable[[OrderSpec], None]) -> None:
    ask(spec("too much", Side.BUY, 5_000))
    ask(spec("nothing held", Side.SELL, 1))
    ask(spec("stop over the market", Side.SELL, 1, **stop(price, "1.05")))
    ask(spec("buy stop under it", Side.BUY, 1, **stop(price, "0.95")))
    ask(spec("wrong levels", Side.BUY, 1, **levels(price * Decimal("1.3"))))
    ask(spec("unknown", Side.BUY, 1, symbol="NOSUCH"))


def protection_is_put_back(place: Place, price: Decimal, ask: Callable[[OrderSpec], None]) -> None:
    ask(spec("first", Side.BUY, 5))
    ask(spec("oco", Side.SELL, 3, **{**levels(price), "order_type": OrderType.LIMIT}))
    ask(spec("the rest", Side.SELL, 2))
    ask(spec("more than free", Side.SELL, 1))
    place.broker.cancel(next(o.broker_order_id for o in place.broker.open_orders() if o.client_order_id == "oco"))
    ask(spec("now free", Side.SELL, 1))


def an_id_is_never_free_again(place: Place, price: Decimal, ask: Callable[[OrderSpec], None]) -> None:
    ask(spec("same", Side.BUY, 1, **limit(price, "0.9")))
    ask(spec("same", Side.BUY, 7))
    place.broker.cancel_all()
    ask(spec("same", Side.BUY, 7))


def all_is_closed_by_the_venue(place: Place, price: Decimal, ask: Callable[[OrderSpec], None]) -> None:
    ask(spec("entry", Side.BUY, 3, **levels(price)))
    ask(spec("other", Side.BUY, 2, symbol="MSFT"))
    place.broker.cancel_all()
    place.settle()
    place.broker.close_all(["AAPL", "MSFT"])


SCRIPTS = (
    sell_what_is_held_by_legs, entry_with_a_limit_rests_and_is_cancelled_with_its_legs, orders_of_both_sides_meet,
    what_the_account_cannot_do, protection_is_put_back, an_id_is_never_free_again, all_is_closed_by_the_venue,
)  # fmt: skip


def play(place: Place, script: Callable[..., None]) -> list[Answer]:
    """What a broker answers to a script, without names that the venue makes up and without prices of executions."""
    seen: list[Answer] = []

    def ask(wanted: OrderSpec) -> None:
        try:
            answer = place.broker.submit(wanted)
            seen.append((wanted.client_order_id, "taken", str(answer.qty), len(answer.legs)))
        except BrokerRejected as refused:
            seen.append((wanted.client_order_id, refused.status, refused.code))
        place.settle()
        seen.extend(standing(place.broker))

    script(place, place.price("AAPL"), ask)
    place.settle()
    return [*seen, *standing(place.broker)]


def standing(broker: Broker) -> list[Answer]:
    """Orders, positions and fills."""
    orders = broker.orders_since(BEGINNING)
    names = {order.broker_order_id: _name(order) for order in orders}

    def told(order: BrokerOrder) -> Answer:
        limits = (order.limit_price_usd, order.stop_price_usd)
        return (
            _name(order), str(order.side), order.qty, order.filled_qty, order.status, order.order_type,
            order.order_class, order.time_in_force, limits, names.get(order.parent_id or ""), len(order.legs),
        )  # fmt: skip

    positions = [(held.symbol, held.qty) for held in broker.positions()]
    fills = sorted((names[fill.broker_order_id], str(fill.side), fill.qty) for fill in broker.fills_since(BEGINNING))
    resting = sorted((_name(order), order.status, order.parent_id) for order in broker.open_orders())
    return [*sorted(map(told, orders), key=str), ("held", positions), ("fills", fills), ("open", resting)]


def _name(order: BrokerOrder) -> str:
    """A leg by what it is; the venue's own sale by that; others by their id."""
    known = " " in order.client_order_id or order.client_order_id in NAMES
    return order.client_order_id if known else f"{order.side} {order.order_type} of the venue"


NAMES = frozenset({"entry", "first", "stop", "unknown", "oco", "same", "other"})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_simulated_venue_answers_as_the_paper_exchange_does(world: World, script: Callable[..., None]) -> None:
    prices = {symbol: world.price(symbol) for symbol in SYMBOLS}
    assert play(Simulated(prices), script) == play(Real(world), script)


def test_a_broker_that_is_asked_for_an_order_it_does_not_know_says_so(world: World) -> None:
    prices = {symbol: world.price(symbol) for symbol in SYMBOLS}
    for broker in (Simulated(prices).broker, world.rt.broker):
        assert broker.order_by_client_id("never sent") is None
        broker.cancel("00000000-0000-0000-0000-000000000000")
        with pytest.raises(BrokerError, match="1 of 1 positions"):
            broker.close_all(["AAPL"])
