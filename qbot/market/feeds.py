"""A source with all that asking it takes: what it allows, its gate, and its adapter by what it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import redis
import structlog
from sqlalchemy.engine import Engine

from qbot import clock
from qbot.market import at_hand
from qbot.market.company import FundamentalsProvider, NewsProvider
from qbot.market.limiting import Gate
from qbot.market.pace import Pace
from qbot.market.plans import Need, Plan
from qbot.market.provider import BarProvider, Provider
from qbot.market.providers import Sources, sources_of
from qbot.settings import Settings
from qbot.store import accesses
from qbot.store.accesses import Access
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Feed:
    """One source. `plan` offers no more than its adapter can be asked for. None: not asked for that."""

    plan: Plan
    gate: Gate
    quotes: Provider
    bars: BarProvider | None = None
    fundamentals: FundamentalsProvider | None = None
    news: NewsProvider | None = None


def connect(
    settings: Settings,
    client: redis.Redis,
    engine: Engine,
    wall: Callable[[], datetime],
    sources: Sources | None = None,
    pause: Callable[[float], None] = clock.pause,
) -> dict[str, Feed]:
    """Every source at hand, by name, in the order of asking; one set a process. Raises ConfigError.

    `pause`: what waits between two tries, a test's.
    """
    found = sources if sources is not None else sources_of(settings)
    bars = {one.name: one for one in found.bars}
    fundamentals = {one.name: one for one in found.fundamentals}
    news = {one.name: one for one in found.news}
    quotes = {one.name: one for one in found.quotes}
    can: Mapping[Need, Mapping[str, object]] = {
        Need.PRICE: quotes, Need.CLOSE: quotes, Need.BARS: bars, Need.FUNDAMENTALS: fundamentals, Need.NEWS: news,
    }  # fmt: skip
    feeds = {}
    for plan in at_hand.plans(settings):
        name = plan.source
        if name in quotes:
            offered = replace(plan, offers=frozenset(need for need in plan.offers if name in can[need]))
            gate = Gate(plan, at_hand.access_of(settings, name), client, engine, wall, pause, Pace(client, plan))
            feeds[name] = Feed(offered, gate, quotes[name], bars.get(name), fundamentals.get(name), news.get(name))
    return feeds


def note_access(settings: Settings, feeds: Mapping[str, Feed], engine: Engine, wall: datetime) -> None:
    """Forget what a source refused that is asked with another key, address or plan now, and what another key used up:
    else nobody asks it for a day, or a month. Raises StoreUnavailable.
    """
    with transaction(engine) as connection:
        for name, feed in sorted(feeds.items()):  # in one order: no process waits for another that waits for it
            key = at_hand.fingerprint(at_hand.key_of(settings, name))
            offers = sorted(feed.gate.plan.offers)  # a set has another order in each process
            access = at_hand.fingerprint(feed.gate.fingerprint, offers, feed.gate.plan.symbols_per_call)
            forgotten = accesses.note(connection, name, Access(key, access), wall)
            if forgotten:
                log.info("source_access_changed", source=name, forgotten=forgotten)
