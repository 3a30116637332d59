"""Whether broker and ledger agree: what the venue itself says against what stands in Postgres. Read-only.

Nothing of QBot's own reading of either is used, so that a mistake in that cannot hide itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from qbot.store.tables import fills, handled, intents, orders, switch_log
from qbot.types import CLOSED_ORDER_STATUSES
from tests.chaos.broker_proxy import Post

Row = Mapping[str, Any]
Get = Callable[[str, Mapping[str, str]], Any]  # path below /v2 and query → the venue's answer
OURS = "qbot-"
AUTOMATIC = "qbot-c"
PAGE, FILLS_PAGE = 500, 100
STOP_TAKES = timedelta(seconds=2)  # from a stop in Postgres until nobody is at an entry any more
REFUSED = (400, 401, 403, 404, 422, 429)  # an answer that says: there is no order
AT_THE_VENUE = ("sent", "closed")
NOT_AT_THE_VENUE = ("rejected", "denied", "abandoned")


# --- the venue --------------------------------------------------------------------------------------------------------


@dataclass
class Venue:
    """Every order and execution the venue ever had, read on from where the last look ended, and its positions."""

    get: Get
    orders: dict[str, Row] = field(default_factory=dict)  # by the venue's id, legs included
    fills: dict[str, Row] = field(default_factory=dict)
    positions: dict[str, Decimal] = field(default_factory=dict)
    _newest_fill: str = ""

    def look(self) -> None:
        """Bring all three up to date."""
        believed_open = {key for key, order in self.orders.items() if order["status"] not in CLOSED_ORDER_STATUSES}
        newest = max((order["submitted_at"] for order in self.orders.values()), default="2000-01-01T00:00:00Z")
        fresh = {order["id"] for order in self._orders(newest)}
        now_open = {order["id"]: order for order in self._pages({"status": "open"}, "2000-01-01T00:00:00Z")}
        self.orders.update(now_open)
        for gone in believed_open - now_open.keys() - fresh:
            self.orders[gone] = self.get(f"orders/{gone}", {})
        self._look_at_fills()
        self.positions = {p["symbol"]: Decimal(p["qty"]) for p in self.get("positions", {})}

    def _orders(self, after: str) -> list[Row]:
        found = self._pages({"status": "all"}, after)
        self.orders.update((order["id"], order) for order in found)
        return found

    def _pages(self, query: Mapping[str, str], after: str) -> list[Row]:
        """Oldest first. `after` excludes, and others of one moment may stand on the next page: one moment back."""
        found: dict[str, Row] = {}
        while True:
            more = {
                **query,
                "after": _a_little_before(after),
                "limit": str(PAGE),
                "direction": "asc",
                "nested": "false",
            }
            page = self.get("orders", more)
            new = [order for order in page if order["id"] not in found]
            found.update((order["id"], order) for order in new)
            if len(page) < PAGE or not new:
                return list(found.values())
            after = page[-1]["submitted_at"]

    def _look_at_fills(self) -> None:
        while True:
            query = {"direction": "asc", "page_size": str(FILLS_PAGE)}
            if self._newest_fill:
                query["page_token"] = self._newest_fill
            page = self.get("account/activities/FILL", query)
            for fill in page:
                self.fills[fill["id"]] = fill
                self._newest_fill = fill["id"]
            if len(page) < FILLS_PAGE:
                return


def _a_little_before(stamp: str) -> str:
    return (datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00") - timedelta(microseconds=1)).isoformat()


# --- the ledger -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Books:
    """What stands in Postgres."""

    intents: Sequence[Row]
    orders: Sequence[Row]
    fills: Sequence[Row]
    manual: Sequence[Row]  # claims of manual orders
    switched: Sequence[Row]  # the log of the switch, oldest first


def books(engine: Engine) -> Books:
    """All of it at one moment."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():

        def rows(query: sa.Select[Any]) -> list[Row]:
            return [dict(row) for row in connection.execute(query).mappings()]

        asked = sa.select(handled).where(handled.c.kind == "manual_order")
        return Books(
            rows(sa.select(intents)),
            rows(sa.select(orders)),
            rows(sa.select(fills)),
            rows(asked),
            rows(sa.select(switch_log).order_by(switch_log.c.id)),
        )


# --- do they agree? ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Finding:
    """`kind`: duplicate, lost or halted may never be; behind is over once the ledger has caught up."""

    kind: str
    what: str


def compare(
    engine: Engine, venue: Venue, posts: Sequence[Post], wall: Callable[[], datetime], settle_s: float
) -> list[Finding]:
    """Everything that does not fit, while cycles go on: the ledger is read before the venue, and once more after it.

    What an order of ours at the venue needs in the ledger was there before it; what an intent claims of the venue is
    there by then. So either is compared with the reading that cannot be too early for it.
    """
    before = books(engine)
    venue.look()
    return findings(venue, before, books(engine), posts, wall(), settle_s)


def findings(
    venue: Venue, ledger: Books, later: Books, posts: Sequence[Post], wall: datetime, settle_s: float
) -> list[Finding]:
    """See `compare`. `later`: the ledger after the venue. `settle_s`: how long an intent in doubt may stay so."""
    return sorted(
        {
            *_duplicates(venue, ledger, posts),
            *_lost(venue, ledger, wall, settle_s),
            *_unintended(venue, later),
            *_while_halted(venue, ledger),
            *_behind(venue, ledger),
        }
    )


def _duplicates(venue: Venue, ledger: Books, posts: Sequence[Post]) -> Iterable[Finding]:
    """One order an intent: by its id at the venue, on the wire, for a human's order, and for a symbol at a time."""
    for name, times in Counter(order["client_order_id"] for order in venue.orders.values()).items():
        if times > 1:
            yield Finding("duplicate", f"{name} stands {times} times at the venue")
    for name, times in Counter(p.client_order_id for p in posts if p.status not in REFUSED).items():
        if times > 1:
            yield Finding("duplicate", f"{name} was sent {times} times")
    decided = Counter(intent["decision_id"] for intent in ledger.intents)
    yield from (Finding("duplicate", f"{name} has {times} intents") for name, times in decided.items() if times > 1)
    placed = {order["client_order_id"] for order in venue.orders.values()}
    entries: dict[str, list[Row]] = defaultdict(list)
    for intent in ledger.intents:
        name = intent["client_order_id"]
        if name.startswith(AUTOMATIC) and name in placed and intent["kind"] == "entry":
            entries[intent["symbol"]].append(intent)
    for symbol, made in entries.items():
        made.sort(key=lambda intent: intent["created_at_wall"])
        for earlier, later in pairwise(made):
            ended = earlier["closed_at_wall"]
            if ended is None or ended > later["created_at_wall"] + timedelta(seconds=1):
                yield Finding("duplicate", f"{symbol} was bought again while a purchase was on its way: "
                              f"{earlier['client_order_id']}, {later['client_order_id']}")  # fmt: skip


def repeated_by_hand(venue: Venue, manual_orders: Mapping[str, str]) -> list[Finding]:
    """`manual_orders`: the beginning of the client order ids that belong to one `order_id` of a human."""
    found = []
    for order_id, begin in manual_orders.items():
        times = sum(order["client_order_id"].startswith(begin) for order in venue.orders.values())
        if times > 1:
            found.append(Finding("duplicate", f"the manual order {order_id} became {times} orders"))
    return found


def _lost(venue: Venue, ledger: Books, wall: datetime, settle_s: float) -> Iterable[Finding]:
    """Every intent that says so has its order, and no doubt lasts for ever."""
    placed = {order["client_order_id"]: order for order in venue.orders.values()}
    known = {intent["client_order_id"]: intent for intent in ledger.intents}
    for name, intent in known.items():
        if intent["status"] in AT_THE_VENUE and name not in placed:
            yield Finding("lost", f"{name} is {intent['status']} and not at the venue")
        if intent["status"] in NOT_AT_THE_VENUE and name in placed:
            yield Finding("behind", f"{name} is {intent['status']} and stands at the venue")
        age_s = (wall - intent["created_at_wall"]).total_seconds()
        if intent["status"] not in (*AT_THE_VENUE, *NOT_AT_THE_VENUE) and age_s > settle_s:
            yield Finding("lost", f"{name} is {intent['status']} after {age_s:.0f} s")
    for claim in ledger.manual:
        name = claim["outcome"].get("client_order_id")
        if name and name not in known:
            yield Finding("lost", f"the manual order {claim['key']} was accepted and has no intent")


def _unintended(venue: Venue, later: Books) -> Iterable[Finding]:
    """Every order of ours has its intent."""
    known = {intent["client_order_id"] for intent in later.intents}
    for name in {order["client_order_id"] for order in venue.orders.values()} - known:
        if name.startswith(OURS):
            yield Finding("lost", f"{name} stands at the venue and has no intent")


def _while_halted(venue: Venue, ledger: Books) -> Iterable[Finding]:
    """No purchase of a cycle is made between a stop and the next start."""
    placed = {order["client_order_id"] for order in venue.orders.values()}
    changes = [row for row in ledger.switched if row["event"] in ("started", "stopped", "latched")]
    for intent in ledger.intents:
        name, at = intent["client_order_id"], intent["created_at_wall"]
        if intent["kind"] != "entry" or not name.startswith(AUTOMATIC) or name not in placed:
            continue
        before = [row for row in changes if row["at_wall"] < at - STOP_TAKES]
        recent = [row for row in changes if at - STOP_TAKES <= row["at_wall"] <= at + STOP_TAKES]
        on = bool(before) and before[-1]["event"] == "started"
        if not on and not any(row["event"] == "started" for row in recent):
            yield Finding("halted", f"{name} was bought at {at:%H:%M:%S} while trading was off")


def _behind(venue: Venue, ledger: Books) -> Iterable[Finding]:
    """Orders, executions and holdings, one by one."""
    recorded = {order["broker_order_id"]: order for order in ledger.orders}
    for order_id, order in venue.orders.items():
        row = recorded.get(order_id)
        if row is None:
            yield Finding("behind", f"{_named(order)} is not in the ledger")
        elif row["status"] != order["status"] or row["filled_qty"] != Decimal(order["filled_qty"] or 0):
            here = f"{row['status']} {row['filled_qty'].normalize():f}"
            yield Finding("behind", f"{_named(order)} is {here} in the ledger, {order['status']} {order['filled_qty']}")
    for order_id in recorded.keys() - venue.orders.keys():
        yield Finding("lost", f"{recorded[order_id]['client_order_id']} is in the ledger and not at the venue")
    there = _sums((f["order_id"], Decimal(f["qty"]), Decimal(f["price"])) for f in venue.fills.values())
    here = _sums((f["broker_order_id"], f["qty"], f["price_usd"]) for f in ledger.fills)
    for order_id in there.keys() | here.keys():
        if there.get(order_id) != here.get(order_id):
            yield Finding("behind", f"fills of {order_id}: ledger {here.get(order_id)}, venue {there.get(order_id)}")
    held = Counter[str]()
    for fill in ledger.fills:
        held[fill["symbol"]] += fill["qty"] if fill["side"] == "buy" else -fill["qty"]
    for symbol in held.keys() | venue.positions.keys():
        if Decimal(held.get(symbol, 0)) != venue.positions.get(symbol, Decimal(0)):
            where = f"ledger {held.get(symbol, 0)}, venue {venue.positions.get(symbol, 0)}"
            yield Finding("behind", f"{symbol}: {where}")


def _named(order: Row) -> str:
    return f"{order['symbol']} {order['side']} {order['client_order_id']}"


def _sums(parts: Iterable[tuple[str, Decimal, Decimal]]) -> dict[str, tuple[int, Decimal, Decimal]]:
    """How many, how many shares and for how much, by order."""
    found: dict[str, tuple[int, Decimal, Decimal]] = {}
    for order_id, qty, price in parts:
        count, shares, usd = found.get(order_id, (0, Decimal(0), Decimal(0)))
        found[order_id] = (count + 1, shares + qty, usd + (qty * price).quantize(Decimal("0.0001")))
    return {key: (count, shares.normalize(), usd.normalize()) for key, (count, shares, usd) in found.items()}


def in_flight(ledger: Books) -> int:
    """Intents that are committed, in doubt, or open at the venue."""
    return sum(intent["status"] in ("committed", "in_doubt", "sent") for intent in ledger.intents)


def open_purchases(venue: Venue, prefixes: Collection[str] = (AUTOMATIC,)) -> list[str]:
    """Client order ids of the cycles' purchases that can still trade."""
    return [
        order["client_order_id"]
        for order in venue.orders.values()
        if order["side"] == "buy"
        and order["status"] not in CLOSED_ORDER_STATUSES
        and order["client_order_id"].startswith(tuple(prefixes))
    ]
