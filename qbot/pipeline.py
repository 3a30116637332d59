"""READ THIS FIRST: one short function per task, each reading as the flow of its data.

    provider → bars → features → forecast → signal → risk verdict → intent → order → fill → portfolio → board

Stages (`features`, `forecast`, `signals`, `sizing`, `risk`, `portfolio`, `performance`) are pure; `execution` alone
sends orders, `contract` alone names keys, `store` alone speaks SQL. No function here calls another task: what
one leaves behind in Postgres or on the board, the next one finds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog

from qbot import (
    control,
    emergency,
    execution,
    forecasting,
    health,
    manual,
    performance,
    projections,
    projections_ml,
    projections_system,
    reconciliation,
    showing,
    trading,
)
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.errors import QBotError
from qbot.market import freshness
from qbot.market.calendar import market_hours
from qbot.runtime import Runtime
from qbot.signals import signals
from qbot.store import bars, ledger, models, state
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)

HISTORY = timedelta(days=70)  # bars kept ready for training: about 48 sessions


# --- data and forecasts ----------------------------------------------------------------------------------------------


def fetch_data(rt: Runtime) -> None:
    """Quotes and bars from the provider into Postgres and onto the board. The first run fills the history."""
    now = rt.market()
    quotes = rt.data.latest(rt.tickers, rt.wall())
    freshness.check(quotes, now)
    with transaction(rt.engine) as connection:
        newest = bars.last_starts(connection, rt.tickers)
    unknown = [symbol for symbol in rt.tickers if symbol not in newest]
    frames = [rt.data.bars(unknown, now - HISTORY, now)] if unknown else []
    if newest:
        frames.append(rt.data.bars(sorted(newest), max(min(newest.values()), now - HISTORY), now))
    with transaction(rt.engine) as connection:
        written = sum(bars.upsert(connection, frame, rt.data.source) for frame in frames)
    rt.board.write_many(projections_system.market_data(quotes, rt.tickers, now), now=rt.wall())
    log.info("fetched", quotes=len(quotes), bars=written)


def generate_predictions(rt: Runtime) -> None:
    """Bars → features → artifacts → forecasts → store and board; then the outcome of those whose time has come."""
    now = rt.market()
    settings = control.sync_settings(rt)
    made = forecasting.forecast(rt, now)
    matured = forecasting.mature(rt, now)
    quotes = rt.data.latest(sorted({forecast.symbol for forecast in made}), rt.wall()) if made else {}
    wishes = signals(made, quotes, {}, settings.config, now, allow_unskilled=rt.embedded)
    with transaction(rt.engine) as connection:
        pending = models.pending_forecasts(connection)
    writes: list[tuple[Key[Any], Any]] = [
        (keys.PREDICTIONS_PENDING, projections_ml.predictions_pending(pending)),
        (keys.ML_PREDICTIONS_ENHANCED, projections_ml.enhanced(made, wishes, now)),
        (keys.ML_TRADING_SIGNALS, projections_ml.trading_signals(wishes, frozenset())),
    ]
    if made:
        writes.append((keys.PREDICTIONS_CURRENT, projections_ml.predictions_current(made)))
    rt.board.write_many(writes, now=rt.wall())
    rt.board.append(keys.DEVIATION_TRACKER, projections_ml.deviations(matured), now=rt.wall())
    rt.board.publish(keys.FORECAST_UPDATES, projections_ml.forecast_updates(made))
    log.info("forecast", made=len(made), matured=len(matured))


def evaluate_predictions(rt: Runtime) -> None:
    """How the forecasts that matured in the last day did, per horizon."""
    now = rt.market()
    found = forecasting.quality(rt, now)
    if found:
        entry = projections_ml.quality(found, forecasting.QUALITY_HOURS, now)
        rt.board.append(keys.PREDICTION_QUALITY, (entry,), now=rt.wall())


def train_models(rt: Runtime) -> None:
    """Train one artifact a horizon on the history in a process of its own; the new ones serve from then on."""
    forecasting.train_if_due(rt, rt.market())


# --- trading ---------------------------------------------------------------------------------------------------------


def trade_bot(rt: Runtime) -> None:
    """One trading cycle: settings and switch → books → signals → gate → committed intents → orders → board."""
    now = rt.market()
    try:
        settings = control.sync_settings(rt)
        switch = control.sync_switch(rt)
        hours = market_hours(now)
        books = reconciliation.reconcile(rt.broker, rt.engine, rt.wall, now)
        showing.drift(rt, books)
        showing.unprotected(rt, books)
        if switch.on and hours.is_open and not emergency.pending(rt):
            judged = trading.decide(rt, settings, switch, hours, books, now)
            execution.send(rt.broker, rt.engine, execution.orders_of(judged), rt.wall)
    except QBotError as error:
        showing.failed_cycle(rt, error, now)
        raise
    showing.cycle(rt, settings, switch, hours, books, now)


def reconcile_orders(rt: Runtime) -> None:
    """Take the broker's truth into the ledger and show it: the net under the trade stream."""
    books = reconciliation.reconcile(rt.broker, rt.engine, rt.wall, rt.market())
    showing.drift(rt, books)
    showing.unprotected(rt, books)
    showing.books(rt, books)


def process_manual_orders(rt: Runtime) -> None:
    """Orders a human asks for: each once for ever, through the same gate, its status written back."""
    settings = control.sync_settings(rt)
    manual.process(rt, settings, market_hours(rt.market()), rt.market())


def emergency_handler(rt: Runtime) -> None:
    """The emergency switch first, then everything else that stops: DEL, `enabled: false`, STOPPED."""
    emergency.handle(rt)
    switch = control.sync_switch(rt)
    if not switch.on:
        # A stop whose cancels failed, or an order that was on its way: asked for again until nothing is open.
        execution.cancel_entries(rt.broker, automatic_only=not switch.latched)


# --- what frontends are told ----------------------------------------------------------------------------------------


def monitor_autotrading_frontend(rt: Runtime) -> None:
    """`autotrading:*`: the session and what QBot does about it."""
    settings = control.sync_settings(rt)
    switch = control.sync_switch(rt)
    showing.session(rt, settings, switch, market_hours(rt.market()))


def sync_frontend_settings(rt: Runtime) -> None:
    """Every settings key into one effective configuration with its revision."""
    settings = control.sync_settings(rt)
    log.info("settings", revision=settings.revision, problem=settings.problem)


def update_backend_responses(rt: Runtime) -> None:
    """`backend:*` from the books and the ledger."""
    # Health first: when Postgres or the broker does not answer, this is what says so.
    rt.board.write(keys.SYSTEM_HEALTH, projections_system.health(health.observe(rt), rt.wall()), now=rt.wall())
    with transaction(rt.engine) as connection:
        active = state.active_alerts(connection, rt.wall())
    rt.board.write(keys.ALERTS_ACTIVE, projections.alerts(active), now=rt.wall())
    showing.books(rt, reconciliation.snapshot(rt.broker, rt.wall))


def performance_calculator(rt: Runtime) -> None:
    """`backend:trading_performance` from the equity curve and the closed round trips."""
    now = rt.market()
    books = reconciliation.snapshot(rt.broker, rt.wall)
    with transaction(rt.engine) as connection:
        fills = ledger.all_fills(connection)
        curve = ledger.equity_curve(connection, reconciliation.BEGINNING)
    trips = performance.round_trips(fills)
    found = performance.performance(trips, curve, books.account, list(books.positions.values()), now)
    rt.board.write(keys.TRADING_PERFORMANCE, projections_system.trading_performance(found), now=rt.wall())


def system_heartbeat(rt: Runtime) -> None:
    """`system_status`: which parts are alive."""
    status = projections_system.status(health.observe(rt), rt.wall(), rt.market())
    rt.board.write(keys.SYSTEM_STATUS, status, now=rt.wall())


def market_status(rt: Runtime) -> None:
    """`market_status` from the exchange calendar."""
    now = rt.market()
    rt.board.write(keys.MARKET_STATUS, projections.market_status(market_hours(now), now), now=rt.wall())
