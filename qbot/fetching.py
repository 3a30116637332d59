"""One pass over the tickers: plan → requests → judgement → Postgres → board; what did not come is asked of others.

What has come is shown every few seconds, so that a slow source holds up no other. Whatever a source says, a price
reaches the board through `settling` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import structlog

from qbot import alerts, clock, limits, settling
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.errors import DataUnavailable
from qbot.market import at_hand, backfilling, counting
from qbot.market.backfilling import Asker
from qbot.market.calendar import Session, known_hours, last_and_before, sessions_around
from qbot.market.carrying import Carriers, Told, When, carry_out
from qbot.market.feeds import Feed
from qbot.market.gaps import OVERLAP
from qbot.market.pacing import Rules, Source, is_open
from qbot.market.planning import Ask, Pass, Wanted, plan
from qbot.market.plans import Need
from qbot.runtime import Runtime
from qbot.store import bars, sources
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
HISTORY = timedelta(days=70)  # bars kept ready for training: about 48 sessions
REFUSED = timedelta(seconds=limits.REFUSED_FOR_S)
MAX_AGE = timedelta(seconds=limits.QUOTE_MAX_AGE_S)


@dataclass
class _Running:
    """A pass while it goes on."""

    rt: Runtime
    feeds: Mapping[str, Feed]
    rules: Rules
    sessions: Sequence[Session]
    tickers: tuple[str, ...]
    urgent: frozenset[str]
    began_at: datetime
    until_s: float  # of the monotonic clock
    settled: settling.Settled
    asked: list[Ask] = field(default_factory=list)
    held: list[Told] = field(default_factory=list)  # bars, until the prices are there by which they are judged

    @property
    def left_s(self) -> float:
        return self.until_s - clock.monotonic_s()


def fetch(
    rt: Runtime,
    tickers: Sequence[str],
    urgent: Collection[str],
    show: Callable[[], None] = lambda: None,
    within_s: float | None = None,
) -> settling.Settled:
    """Ask the sources at hand for what these tickers need. `show` is called whenever something is new in Postgres.

    `within_s`: what has not come by then is given up; wall time, by default most of the time up to the next pass.

    Raises DataUnavailable when the exchange is open and there is no price of it, with what the sources said;
    BoardUnavailable or StoreUnavailable where the quotas cannot be kept: then nobody is asked.
    """
    running = _begin(rt, tickers, urgent, _time_s() if within_s is None else within_s)
    carriers = Carriers(partial(_carry, running))
    try:
        _send(running, carriers)
        while carriers.asked and running.left_s > 0:
            told = carriers.come(min(running.left_s, limits.DATA_SETTLE_EVERY_S))
            if told:
                _settle(running, told, carriers.asked, show)
                _send(running, carriers)
    finally:
        late = list(carriers.give_up())
    if late or running.held:
        _settle(running, late, (), show)
    _check(running)
    return running.settled


def repair(rt: Runtime, tickers: Sequence[str]) -> None:
    """While the exchange is closed: ask for bars that are missing from the last weeks, in a few requests a pass."""
    hours = known_hours(rt.market())
    if hours is None or hours.is_open:
        return
    askers = [Asker(feed.plan, feed.bars, feed.gate) for feed in rt.feeds.values() if feed.bars is not None]
    order = at_hand.rules(rt.settings).order
    backfilling.repair(rt.engine, askers, tickers, rt.market, rt.wall, limits.REPAIR_REQUESTS, order=order)


def _begin(rt: Runtime, tickers: Sequence[str], urgent: Collection[str], within_s: float) -> _Running:
    now, rules = rt.market(), at_hand.rules(rt.settings)
    settled = settling.begin(rt, tickers, now, rules.order)
    return _Running(
        rt, rt.feeds, rules, sessions_around(now), tuple(tickers), frozenset(urgent), now,
        clock.monotonic_s() + within_s, settled,
    )  # fmt: skip


def _time_s() -> float:
    """What a pass may take."""
    return max(limits.FETCH_PASS_S * limits.PASS_BUSY_SHARE / clock.speed(), limits.DATA_PASS_FLOOR_S)


def _send(running: _Running, carriers: Carriers) -> None:
    """Ask for what is due and not on its way. For a close only once the bars are there: the last of them may be it."""
    asks = _plan(running, [*carriers.asked, *(one.ask for one in running.held)]).asks
    if any(ask.need is Need.BARS for ask in asks):
        asks = tuple(ask for ask in asks if ask.need is not Need.CLOSE)
    running.asked += asks
    carriers.send(asks)


def _plan(running: _Running, on_its_way: Sequence[Ask]) -> Pass:
    rt, now = running.rt, running.rt.market()
    waiting: dict[Need, set[str]] = {need: set() for need in Need}
    for ask in on_its_way:
        for need in (ask.need, *ask.brings):
            waiting[need].update(ask.symbols)
    with transaction(rt.engine) as connection:
        used = counting.used(connection, [feed.plan for feed in running.feeds.values()], rt.wall())
        refuses = sources.refusals(connection, rt.wall() - REFUSED)
        got = {need: sources.got(connection, need, running.tickers) for need in Need}
    if waiting[Need.BARS] or is_open(running.sessions, now):
        waiting[Need.CLOSE] |= set(running.tickers)
    wanted = {
        need: [
            Wanted(symbol, symbol in running.urgent, one.got_at, one.confirmed_at, one.disputed)
            for symbol in running.tickers
            if symbol not in waiting[need] and (one := got[need].get(symbol, sources.Got()))
        ]
        for need in Need
    }
    at_hand_now = [
        Source(feed.plan, used.get(name, {}), _closed(feed), refuses.get(name, frozenset()))
        for name, feed in running.feeds.items()
    ]
    earlier = Pass(running.began_at, tuple(running.asked))
    return plan(wanted, at_hand_now, now, running.sessions, running.rules, earlier if running.asked else None)


def _closed(feed: Feed) -> str | None:
    held = feed.gate.hold()
    return held.words if held else None


def _carry(running: _Running, ask: Ask, begin: Callable[[], None]) -> Told:
    """One request, on a thread of its source's."""
    now, starts = running.rt.market(), {}
    if ask.need is Need.BARS:
        with transaction(running.rt.engine) as connection:
            newest = bars.last_starts(connection, ask.symbols)
        earliest = now - HISTORY
        # From a little before the newest on: where both overlap, a split shows.
        starts = {symbol: max(newest.get(symbol, earliest) - OVERLAP, earliest) for symbol in ask.symbols}
    return carry_out(running.feeds[ask.source], ask, When(now, running.rt.wall, starts, begin))


def _settle(running: _Running, told: Sequence[Told], on_its_way: Sequence[Ask], show: Callable[[], None]) -> None:
    running.held += [one for one in told if one.ask.need is Need.BARS]
    bars_told: list[Told] = []
    if not any(ask.need is Need.PRICE or Need.PRICE in ask.brings for ask in on_its_way):
        bars_told, running.held = running.held, []
    settling.settle(running.rt, running.settled, told, bars_told)
    show()


def _check(running: _Running) -> None:
    """Raises DataUnavailable when there is no price of a session that has run for a while."""
    settled, now = running.settled, running.rt.market()
    (begin, close), _ = last_and_before(now)
    if not (is_open(running.sessions, now) and now - begin > MAX_AGE):
        return
    newest = max((one.quote.at for one in settled.accepted.values()), default=None)
    if newest is None or min(now, close) - newest > MAX_AGE:
        of = f"the newest is of {newest.isoformat()}" if newest else "there is none"
        why = settled.words if running.feeds else "no source is at hand: set a key in .env"
        words = f"the exchange is open and no price is of now: {of}. {why}".strip()
        _tell(running.rt, words)
        raise DataUnavailable(words)


def _tell(rt: Runtime, words: str) -> None:
    """A human: else nothing would be bought for hours, and only the log would say why."""
    title, what = "No prices", f"Nothing is bought until there are some: {words}"
    alerts.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, title, what, about="no prices")
