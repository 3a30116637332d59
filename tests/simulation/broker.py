"""The wire between QBot and the simulated exchange: `qbot.broker.protocol.Broker`, with everything a wire does.

Errors come as `qbot.broker.alpaca` turns them out: what a request met is one thing, what its sender may know another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from qbot.broker.protocol import MarketClock, no_fence
from qbot.errors import BrokerError, BrokerRejected, OrderInDoubt
from qbot.types import Account, Activity, BrokerOrder, Fill, OrderSpec, Position
from tests.simulation.kernel import SECOND, Kernel, Run, moment
from tests.simulation.venue import Order, Refused, Venue

T = TypeVar("T")
REQUEST_US, ANSWER_US = 20_000, 20_000
READ_TIMEOUT_S, CONNECT_TIMEOUT_S = 10.0, 3.0
LATE_MAX_S = 170.0  # so long after it left a venue takes an order at most: under limits.ABANDON_INTENT_S

# What a wire can do to a request. `late` and `lost_answer` concern orders above all.
UNREACHABLE, TIMEOUT_BEFORE, LOST_ANSWER, LATE, STORM, SLOW = (
    "connection refused", "time-out before arrival", "time-out, but accepted", "5xx, accepted late", "429 storm",
    "answer delayed",
)  # fmt: skip
WIRE_FAULTS = (UNREACHABLE, TIMEOUT_BEFORE, LOST_ANSWER, LATE, STORM, SLOW)


@dataclass(slots=True)
class Trouble:
    """A fault of the wire: it strikes one request in `one_in` of `kinds` (all if empty), `times` often."""

    kind: str
    until: int
    one_in: float = 1.0
    kinds: frozenset[str] = frozenset()
    times: int = 1_000_000


@dataclass(slots=True)
class Posted:
    """One POST of an order, as it left the process. `looked`: when that was told last what rests at the venue."""

    client_order_id: str
    at: int
    looked: int
    run: Run | None


class Wire:
    """What is wrong between QBot and the venue just now, and what was sent over it."""

    def __init__(self, kernel: Kernel, venue: Venue) -> None:
        self.kernel, self.venue = kernel, venue
        self.troubles: list[Trouble] = []
        self.struck: Counter[str] = Counter()
        self.posted: dict[str, list[Posted]] = {}
        self.on_post: Callable[[Posted, OrderSpec], None] = lambda _posted, _spec: None
        self.on_refused: Callable[[OrderSpec, Refused], None] = lambda _spec, _refused: None
        self.on_trouble: Callable[[str, str], None] = lambda _fault, _kind: None
        self.swapped_until = 0  # the keys are those of another account until then
        self.fills_hidden_s = 0.0  # REST tells of executions only so much later

    def befalls(self, kind: str) -> str | None:
        """The fault that strikes a request of a kind."""
        now = self.kernel.now
        for trouble in self.troubles:
            if trouble.until < now or trouble.times <= 0 or (trouble.kinds and kind not in trouble.kinds):
                continue
            if trouble.one_in > 1 and self.kernel.random() * trouble.one_in >= 1:
                continue
            trouble.times -= 1
            self.struck[trouble.kind] += 1
            self.kernel.note(f"!! {trouble.kind}: {kind}")
            self.on_trouble(trouble.kind, kind)
            return trouble.kind
        if self.troubles:
            self.troubles = [one for one in self.troubles if one.until >= now and one.times > 0]
        return None


class SimBroker:
    """The Broker of one process."""

    __slots__ = ("kernel", "venue", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire, self.kernel, self.venue = wire, wire.kernel, wire.venue

    # --- questions ---

    def _ask(self, kind: str, answer: Callable[[], T]) -> T:
        """One question and its answer. Raises BrokerError."""
        kernel, wire = self.kernel, self.wire
        kernel.point(kind, REQUEST_US)
        fault = wire.befalls(kind) if wire.troubles else None
        if fault is None:
            found = answer()
            kernel.point("answer", ANSWER_US)
            return found
        self._fail(fault)
        found = answer()
        kernel.pause(1 + 8 * kernel.random())
        return found

    def _fail(self, fault: str) -> None:
        """Raise what a fault looks like to who asked; SLOW alone has an answer."""
        kernel = self.kernel
        if fault == UNREACHABLE:
            kernel.pause(0.05 if kernel.random() < 0.7 else CONNECT_TIMEOUT_S)
            raise kernel.noticed(BrokerError("no usable answer: ConnectionError"))
        if fault in (TIMEOUT_BEFORE, LOST_ANSWER):
            kernel.pause(READ_TIMEOUT_S)
            raise kernel.noticed(BrokerError("no usable answer: ReadTimeout"))
        if fault == STORM:
            kernel.point("answer", ANSWER_US)
            raise kernel.noticed(BrokerRejected("HTTP 429: rate limit exceeded", status=429, code=42910000))
        if fault == LATE:
            kernel.point("answer", ANSWER_US)
            text = "HTTP 500: internal server error occurred"
            raise kernel.noticed(BrokerRejected(text, status=500, code=50010000))

    def clock(self) -> MarketClock:
        now = moment(self.kernel.now)
        return self._ask("GET clock", lambda: MarketClock(now, self.venue.is_open, now, now))

    def account(self) -> Account:
        return self._noted("account", self._ask("GET account", self._account))

    def _account(self) -> Account:
        told = self.venue.account()
        if self.wire.swapped_until < self.kernel.now:
            return told
        self.wire.struck["paper and live keys swapped"] += 1
        return replace(told, account_id="another", number="LIVE1")

    def positions(self) -> list[Position]:
        return self._noted("positions", self._ask("GET positions", self._positions))

    def _positions(self) -> list[Position]:
        run = self.kernel.current
        if run is not None:
            run.notes["positions_at"] = self.kernel.now
        return self.venue.positions()

    def _noted(self, name: str, answer: T) -> T:
        """What the venue told a process last, for who judges what that made of it."""
        run = self.kernel.current
        if run is not None:
            run.notes[name] = answer
        return answer

    def open_orders(self) -> list[BrokerOrder]:
        return self._ask("GET open orders", self._open_orders)

    def _open_orders(self) -> list[BrokerOrder]:
        venue, found = self.venue, []
        if self.kernel.current is not None:
            self.kernel.current.notes["open_at"] = self.kernel.now
        for order in venue.open.values():
            if venue.hides_held and order.status == "held" and order.live:
                continue
            found.append(venue.told_alone(order))
        return found

    def orders_since(self, after: datetime) -> list[BrokerOrder]:
        return self._ask("GET orders", lambda: self._orders_since(after))

    def _orders_since(self, after: datetime) -> list[BrokerOrder]:
        venue, found, seen = self.venue, [], set()
        for order in venue.since(after):
            if order.id in seen:
                continue
            told = venue.told(order)
            if order.parent is not None:
                if order.parent.id in seen:
                    continue
                told = venue.told_alone(order)
            found.append(told)
            found.extend(told.legs)
            seen.add(order.id)
            seen.update(leg.broker_order_id for leg in told.legs)
        return found

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        def look() -> BrokerOrder | None:
            order = self.venue.by_client_id.get(client_order_id)
            return None if order is None else self.venue.told_alone(order)

        return self._ask("GET order", look)

    def fills_since(self, after: datetime) -> list[Fill]:
        return self._ask("GET fills", lambda: self._fills_since(after))

    def _fills_since(self, after: datetime) -> list[Fill]:
        found = self.venue.fills_since(after)
        if self.wire.fills_hidden_s:
            last = moment(self.kernel.now - int(self.wire.fills_hidden_s * SECOND))
            found = [fill for fill in found if fill.at <= last]
        return found

    def activities_since(self, after: datetime) -> list[Activity]:
        return self._ask("GET activities", list)  # of this account there are trades and nothing else

    # --- orders ---

    def submit(self, spec: OrderSpec, fence: Callable[[], None] = no_fence) -> BrokerOrder:
        kernel, wire = self.kernel, self.wire
        fence()
        run = kernel.current
        posted = Posted(spec.client_order_id, kernel.now, run.notes.get("open_at", 0) if run else 0, run)
        wire.posted.setdefault(spec.client_order_id, []).append(posted)
        wire.on_post(posted, spec)
        kernel.point("POST order", REQUEST_US)
        fault = wire.befalls("POST order") if wire.troubles else None
        if fault is None:
            told = self._placed(spec)
            kernel.point("POST answer", ANSWER_US)
            return told
        return self._placed_badly(spec, fault)

    def _placed(self, spec: OrderSpec) -> BrokerOrder:
        try:
            order = self.venue.submit(spec)
        except Refused as refused:
            self.kernel.note(f"refused {spec.client_order_id}: {refused}")
            self.wire.on_refused(spec, refused)
            if "must be unique" not in str(refused):
                self.kernel.point("POST answer", ANSWER_US)
                raise BrokerRejected(
                    f"HTTP {refused.status}: {refused}", status=refused.status, code=refused.code
                ) from refused
            found = self.order_by_client_id(spec.client_order_id)
            assert found is not None
            return found
        return self.venue.told(order)

    def _placed_badly(self, spec: OrderSpec, fault: str) -> BrokerOrder:
        kernel = self.kernel
        if fault == LOST_ANSWER:
            self._placed_late(spec)
        elif fault == LATE:
            sent_s = (kernel.now - self.wire.posted[spec.client_order_id][-1].at) / SECOND
            delay = max(0.0, min(LATE_MAX_S - sent_s, 1.0 + 200.0 * kernel.random() ** 2))
            kernel.after(delay, lambda: self._placed_late(spec))
        elif fault == SLOW:
            told = self._placed(spec)
            kernel.pause(1 + 8 * kernel.random())
            return told
        try:
            self._fail(fault)
        except BrokerRejected as refused:
            if refused.status >= 500:
                raise OrderInDoubt(str(refused)) from refused
            raise
        except BrokerError as broken:
            raise OrderInDoubt(str(broken)) from broken
        raise AssertionError(f"{fault} has an answer")

    def _placed_late(self, spec: OrderSpec) -> Order | None:
        """The venue takes an order whose sender does not hear of it."""
        try:
            return self.venue.submit(spec)
        except Refused as refused:
            self.kernel.note(f"refused late {spec.client_order_id}: {refused}")
            return None

    # --- cancels ---

    def cancel(self, broker_order_id: str) -> None:
        def ask() -> None:
            try:
                self.venue.cancel(broker_order_id)
            except Refused as refused:
                if refused.status not in (404, 422):
                    raise BrokerRejected(str(refused), status=refused.status, code=refused.code) from refused

        self._do("DELETE order", ask)

    def cancel_all(self) -> int:
        return self._do("DELETE orders", self.venue.cancel_all)

    def close_all(self, symbols: Sequence[str]) -> None:
        failed: list[BrokerError] = []
        for symbol in symbols:

            def ask(symbol: str = symbol) -> None:
                try:
                    self.venue.close_position(symbol, f"venue-{self.kernel.now}-{symbol}")
                except Refused as refused:
                    raise BrokerRejected(str(refused), status=refused.status, code=refused.code) from refused

            try:
                self._do("DELETE position", ask)
            except BrokerError as error:
                failed.append(error)
        if failed:
            raise BrokerError(
                f"{len(failed)} of {len(symbols)} positions could not be closed: {failed[0]}"
            ) from failed[0]

    def _do(self, kind: str, act: Callable[[], T]) -> T:
        """A request that changes something: where only its answer is lost, it has been done."""
        kernel, wire = self.kernel, self.wire
        kernel.point(kind, REQUEST_US)
        fault = wire.befalls(kind) if wire.troubles else None
        if fault in (None, SLOW):
            done = act()
            kernel.point("answer", ANSWER_US if fault is None else 4 * SECOND)
            return done
        if fault == LOST_ANSWER:
            act()
        elif fault == LATE:
            kernel.after(1 + 30 * kernel.random(), lambda: _quietly(act))
        self._fail(fault or "")
        raise AssertionError("a fault raises")


def _quietly(act: Callable[[], object]) -> None:
    """What is done too late to be answered."""
    try:
        act()
    except BrokerError:
        return
