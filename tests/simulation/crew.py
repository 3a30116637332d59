"""What the processes do: the product's own functions, called as the tasks of a running QBot call them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qbot import committing, execution, flatten, limits, protecting, reconciliation, risk_market, session, trading
from qbot.control import Settings
from qbot.desk import Desk
from qbot.errors import BoardUnavailable
from qbot.market.calendar import market_hours
from qbot.reconciliation import Books
from qbot.session import Event, Switch
from qbot.signals import signals
from qbot.types import BrokerOrder, Fill, Proposal, RiskReport, Source
from tests.simulation.broker import SimBroker
from tests.simulation.kernel import Host, Run

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Work = Callable[[Run], None]


def desk_of(sim: Simulation, run: Run) -> Desk:
    """Where a process makes its orders. It remembers nothing, so all processes of a machine share it."""
    found = sim.desks.get(run.host)
    if found is None:
        found = sim.desks[run.host] = _desk(sim, run.host)
    return found


def _desk(sim: Simulation, host: Host) -> Desk:
    kernel = sim.kernel
    return Desk(
        sim.broker_class(sim.wire),
        sim.store,
        lambda: kernel.wall(host),
        lambda: kernel.wall(host),
        kernel.monotonic_s,
        kernel.pause,
        lambda: kernel.uptime(host),
    )


def _settings(sim: Simulation, run: Run) -> Settings:
    """The newest effective settings. Raises BoardUnavailable, as with Redis gone or full."""
    run.notes["began"] = sim.kernel.now
    if sim.board_down_until > sim.kernel.now:
        sim.strikes["Redis full or gone"] += 1
        raise BoardUnavailable("OOM command not allowed when used memory > 'maxmemory'")
    run.notes["revision"] = sim.revision
    run.notes["live_problem"] = problem = sim.live_problem()
    return Settings(sim.config, sim.revision, None, problem, sim.kernel.wall(run.host))


def _switch(sim: Simulation) -> Switch:
    with sim.store.transaction() as ledger:
        return ledger.load_switch()


def _report(now: datetime) -> RiskReport:
    """The risk engine sees nothing to lower a risk for."""
    return RiskReport(now, Decimal(1), (), (), Decimal(0), Decimal(0))


def cycle(sim: Simulation) -> Work:
    """`trade_bot`."""

    def work(run: Run) -> None:
        desk = desk_of(sim, run)
        now = desk.market()
        settings, switch = _settings(sim, run), _switch(sim)

        def view(_held: Collection[str]) -> trading.View:
            sim.kernel.point("look", 5_000)
            forecasts = sim.feed.usable_forecasts()
            quotes = sim.feed.quotes()
            run.notes["quotes"] = quotes
            wishes = signals(forecasts, quotes, sim.feed.technicals(), settings.config, now, allow_unskilled=True)
            return trading.View(forecasts, quotes, wishes, _report(now))

        done = trading.cycle(
            desk, settings, switch, market_hours(now), now,
            taken=lambda books: sim.taken(run, books), protected=sim.protected,
            pending=lambda: sim.emergency_waits, view=view,
        )  # fmt: skip
        sim.cycles_traded += done.view is not None

    return work


def reconcile(sim: Simulation) -> Work:
    """`reconcile_orders`, and what follows a connect of the stream."""

    def work(run: Run) -> None:
        run.notes["began"] = sim.kernel.now
        desk = desk_of(sim, run)
        now = desk.market()
        books = reconciliation.reconcile(desk, now)
        sim.taken(run, books)
        sim.protected(protecting.protect(desk, books, now, market_open=market_hours(now).is_open))

    return work


def manual(sim: Simulation, name: str, make: Callable[[Books, dict[str, Any]], Proposal | None]) -> Work:
    """`process_manual_orders` for one order that a human asked for."""

    def work(run: Run) -> None:
        desk = desk_of(sim, run)
        now = desk.market()
        settings = _settings(sim, run)
        books = reconciliation.reconcile(desk, now)
        quotes = sim.feed.quotes()
        run.notes["quotes"] = quotes
        switch = _switch(sim)
        proposal = make(books, quotes)
        if proposal is None:
            return
        market = risk_market.market(settings, switch, market_hours(now), books, quotes, now, _report(now))
        judged = committing.commit(
            desk, [proposal], settings.config, market, cycle_id=f"{committing.MANUAL_PREFIX}{name}",
            revision=settings.revision, epoch=switch.epoch, snapshot_wall=books.taken_at_wall,
        )  # fmt: skip
        execution.send(desk, committing.orders_of(judged))

    return work


def stop(sim: Simulation, why: str, *, latched: bool = False, sells: bool = False, name: str = "") -> Work:
    """Block → cancel → flatten: `enabled: false`, STOP_ALL_TRADING, CLOSE_ALL_POSITIONS."""

    def work(run: Run) -> None:
        desk = desk_of(sim, run)
        with desk.store.transaction() as ledger:
            before = ledger.load_switch(for_update=True)
            if latched and not before.latched:
                ledger.save_switch(session.latch(before, why), [Event.LATCHED], desk.wall())
            elif not latched and before.on:
                off = replace(before, on=False, stopping=True, reason=why, epoch=before.epoch + 1)
                ledger.save_switch(off, [Event.STOPPED], desk.wall())
            known = ledger.open_entries("" if latched else committing.AUTOMATIC)
        sim.stop_recorded(run)
        asked = execution.cancel_known(desk.broker, known)
        if not sells:
            execution.cancel_entries(desk.broker, automatic_only=not latched, asked=asked)
            return
        desk.broker.cancel_all()
        terms = flatten.Terms(sim.config, sim.revision)
        run.notes["revision"] = sim.revision
        flatten.Flattening(desk, f"{committing.EMERGENCY_PREFIX}{name}", lambda: terms).run()

    return work


def finish_stop(sim: Simulation) -> Work:
    """`control.finish_stop`: what a stop left over is cancelled until nothing can arrive."""

    def work(run: Run) -> None:
        desk = desk_of(sim, run)
        grace = timedelta(seconds=limits.SEND_GRACE_S)
        with desk.store.transaction() as ledger:
            switch = ledger.load_switch()
            by_hand = (Source.MANUAL,) if switch.latched else ()
            wall = desk.wall()
            arriving = switch.stopping and ledger.entries_on_their_way(wall - grace, wall + grace, by_hand)
        if switch.on:
            return
        execution.cancel_entries(desk.broker, automatic_only=not switch.latched)
        if not switch.stopping or arriving:
            return
        with desk.store.transaction() as ledger:
            now = ledger.load_switch(for_update=True)
            if now.epoch == switch.epoch:
                ledger.save_switch(replace(now, stopping=False), [], desk.wall())

    return work


def start(sim: Simulation) -> Work:
    """A human releases what is latched and starts anew, once the stop before is over."""

    def work(run: Run) -> None:
        desk = desk_of(sim, run)
        with desk.store.transaction() as ledger:
            before = ledger.load_switch(for_update=True)
            if before.on or before.stopping or sim.emergency_waits:
                return
            events = [Event.STARTED]
            if before.latched:
                before = session.release(before, "released by a human")
                events.insert(0, Event.RELEASED)
            on = replace(before, on=True, session_id="simulated", reason="started", epoch=before.epoch + 1)
            ledger.save_switch(on, events, desk.wall())

    return work


def listen(sim: Simulation, events: list[tuple[BrokerOrder, Fill | None]]) -> Work:
    """`qbot.stream.record` for events that have come."""

    def work(run: Run) -> None:
        desk = desk_of(sim, run)
        while events:
            order, fill = events.pop(0)
            with desk.store.transaction() as ledger:
                ledger.record_orders([order], desk.wall())
                if fill is not None:
                    ledger.record_fills([fill])

    return work


__all__ = ["SimBroker", "cycle", "desk_of", "finish_stop", "listen", "manual", "reconcile", "start", "stop"]
