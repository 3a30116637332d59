"""The judge of every round can say no: each of its checks catches a defect planted for it, and says nothing without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import requests
import sqlalchemy as sa

from qbot.store import tables
from qbot.types import Source
from tests.chaos import oracle
from tests.chaos.broker_proxy import BrokerProxy, Post
from tests.chaos.proxy import running
from tests.support.exchange import HEADERS
from tests.support.runtime import World, limit_entry

SETTLE_S = 240.0


@dataclass
class Watched:
    """A QBot, its venue, and what the judge says of both."""

    world: World
    venue: oracle.Venue
    posts: list[Post] = field(default_factory=list)
    late_s: float = 0.0

    def kinds(self) -> list[str]:
        return sorted({finding.kind for finding in self.findings()})

    def findings(self) -> list[oracle.Finding]:
        late = timedelta(seconds=self.late_s)
        return oracle.compare(self.world.engine, self.venue, self.posts, lambda: self.world.wall() + late, SETTLE_S)

    def execute(self, statement: str, **values: object) -> None:
        with self.world.engine.begin() as connection:
            connection.execute(sa.text(statement), values)


@pytest.fixture
def watched(world: World) -> Watched:
    def get(path: str, query: object) -> object:
        return world.exchange.call("GET", f"/v2/{path}", params=query).json()

    found = Watched(world, oracle.Venue(get))
    _switched(found, "started", before_s=60)
    return found


def _switched(watched: Watched, event: str, before_s: float) -> None:
    at = watched.world.wall() - timedelta(seconds=before_s)
    with watched.world.engine.begin() as connection:
        connection.execute(tables.switch_log.insert().values(event=event, session_id="s", reason="test", at_wall=at))


def _trade(watched: Watched) -> None:
    world = watched.world
    world.buy("AAPL", 2)
    world.market.advance(minutes=1)
    world.send(world.commit(world.exit("AAPL"), cycle_id="c2"))
    world.send(world.commit(limit_entry(world, "MSFT", source=Source.MANUAL), cycle_id="m1"))
    world.market.advance(minutes=1)
    world.reconcile()


def test_nothing_is_found_where_everything_went_well(watched: Watched) -> None:
    _trade(watched)

    assert watched.findings() == []
    assert len(watched.venue.orders) >= 5 and watched.venue.fills and watched.venue.positions == {}


def test_an_order_placed_between_the_two_looks_is_not_one_that_nobody_intended(watched: Watched) -> None:
    """A cycle goes on while ledger and venue are read, one after the other."""
    look = watched.venue.look

    def later() -> None:
        watched.world.buy("AAPL", 2)
        look()

    watched.venue.look = later  # type: ignore[method-assign]
    assert "lost" not in watched.kinds()


def _an_order_that_nobody_intended(watched: Watched) -> None:
    watched.world.by_hand(symbol="AAPL", qty="1", side="buy", client_order_id="qbot-c9-AAPL-buy")
    watched.world.reconcile()


def _an_intent_that_says_sent_and_was_not(watched: Watched) -> None:
    world = watched.world
    world.commit(world.entry("SPY"), cycle_id="c9")
    watched.execute("UPDATE intents SET status = 'sent' WHERE symbol = 'SPY'")


def _a_doubt_that_nobody_settles(watched: Watched) -> None:
    watched.world.commit(watched.world.entry("SPY"), cycle_id="c9")
    watched.late_s = SETTLE_S + 1


def _an_order_that_the_ledger_made_up(watched: Watched) -> None:
    watched.execute("UPDATE orders SET broker_order_id = 'made-up' WHERE symbol = 'MSFT'")


def _a_manual_order_accepted_and_forgotten(watched: Watched) -> None:
    outcome = '{"status": "SUBMITTED", "client_order_id": "qbot-m0-AAPL-buy"}'
    statement = "INSERT INTO handled (kind, key, outcome, at_wall) VALUES ('manual_order', 'x', :outcome, now())"
    watched.execute(statement, outcome=outcome)


def _an_order_sent_again_with_its_id(watched: Watched) -> None:
    watched.posts += [Post("qbot-c1-AAPL-buy", 0.0, 200), Post("qbot-c1-AAPL-buy", 1.0, None)]


def _a_purchase_made_while_another_was_on_its_way(watched: Watched) -> None:
    watched.world.market.advance(minutes=40)  # past the cooldown
    watched.world.buy("AAPL", 1, cycle_id="c9")
    watched.execute("UPDATE intents SET closed_at_wall = created_at_wall + interval '1 hour' WHERE kind = 'entry'")


def _a_purchase_while_trading_is_off(watched: Watched) -> None:
    _switched(watched, "stopped", before_s=30)
    watched.world.buy("SPY", 1, cycle_id="c9")


def _a_fill_that_the_ledger_lost(watched: Watched) -> None:
    watched.execute("DELETE FROM fills WHERE side = 'sell'")


def _an_execution_at_another_price(watched: Watched) -> None:
    watched.execute("UPDATE fills SET price_usd = price_usd + 0.01 WHERE side = 'sell'")


def _a_status_of_yesterday(watched: Watched) -> None:
    watched.execute("UPDATE orders SET status = 'accepted' WHERE side = 'sell'")


def _an_order_that_the_ledger_missed(watched: Watched) -> None:
    watched.execute("DELETE FROM orders WHERE symbol = 'MSFT'")


def _an_intent_given_up_whose_order_stands(watched: Watched) -> None:
    watched.execute("UPDATE intents SET status = 'abandoned' WHERE symbol = 'MSFT'")


DEFECTS: list[tuple[Callable[[Watched], None], str]] = [
    (_an_order_that_nobody_intended, "lost"),
    (_an_intent_that_says_sent_and_was_not, "lost"),
    (_a_doubt_that_nobody_settles, "lost"),
    (_an_order_that_the_ledger_made_up, "lost"),
    (_a_manual_order_accepted_and_forgotten, "lost"),
    (_an_order_sent_again_with_its_id, "duplicate"),
    (_a_purchase_made_while_another_was_on_its_way, "duplicate"),
    (_a_purchase_while_trading_is_off, "halted"),
    (_a_fill_that_the_ledger_lost, "behind"),
    (_an_execution_at_another_price, "behind"),
    (_a_status_of_yesterday, "behind"),
    (_an_order_that_the_ledger_missed, "behind"),
    (_an_intent_given_up_whose_order_stands, "behind"),
]


@pytest.mark.parametrize(("plant", "kind"), DEFECTS, ids=lambda one: getattr(one, "__name__", "").strip("_"))
def test_a_planted_defect_is_caught(watched: Watched, plant: Callable[[Watched], None], kind: str) -> None:
    _trade(watched)
    assert watched.findings() == []

    plant(watched)

    assert kind in watched.kinds()


def test_a_manual_order_that_became_two_is_caught(watched: Watched) -> None:
    for number in (1, 2):
        watched.world.by_hand(symbol="AAPL", qty="1", side="buy", client_order_id=f"qbot-mabc-AAPL-buy{number}")
    watched.venue.look()

    [finding] = oracle.repeated_by_hand(watched.venue, {"order_1": "qbot-mabc-", "order_2": "qbot-mdef-"})
    assert finding.kind == "duplicate" and "order_1" in finding.what


@pytest.fixture
def line(world: World) -> Iterator[BrokerProxy]:
    proxy = BrokerProxy(int(world.exchange.url.rsplit(":", 1)[1]))
    with running(proxy):
        yield proxy


def test_a_sender_that_sends_again_after_a_time_out_is_seen_on_the_wire(watched: Watched, line: BrokerProxy) -> None:
    world = watched.world
    order = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day",
             "client_order_id": "qbot-c9-AAPL-buy"}  # fmt: skip
    world.exchange.fault("timeout_after_accept", method="POST", times=1)
    answers = [
        requests.post(f"http://127.0.0.1:{line.port}/v2/orders", json=order, headers=HEADERS, timeout=5).status_code
        for _ in range(2)
    ]

    watched.posts = line.posts

    assert answers == [504, 422]
    assert [post.status for post in line.posts] == answers
    assert "duplicate" not in watched.kinds()  # the second was refused: the venue knew the id
    line.posts[1].status = None  # and had its answer been lost as well, nobody would know
    assert "duplicate" in watched.kinds()
