"""READ THIS FIRST: one short function per task, each reading as the flow of its data.

    provider → bars → features → forecast → signal → risk verdict → intent → order → fill → portfolio → board

Stages (`features`, `forecast`, `signals`, `sizing`, `risk`, `portfolio`, `performance`) are pure; `execution` alone
sends orders, `contract` alone names keys, `store` alone speaks SQL. No function here calls another task: what
one leaves behind in Postgres or on the board, the next one finds.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from qbot import (
    book_alerts,
    clock,
    continuity,
    control,
    deviation,
    emergency,
    enhancing,
    fetching,
    forecasting,
    grok_asking,
    health,
    inputs,
    limits,
    manual,
    maturing,
    notifying,
    projections_ml,
    protecting,
    rebuild,
    reconciliation,
    risk_watch,
    sessions,
    showing,
    showing_grok,
    showing_market,
    showing_ml,
    trading,
    universe,
)
from qbot.contract import keys
from qbot.errors import QBotError
from qbot.market import retention
from qbot.market.calendar import known_hours, market_hours
from qbot.reconciliation import Books
from qbot.runtime import Runtime

log = structlog.get_logger(__name__)

EARLY = timedelta(seconds=limits.GROK_EARLY_S)


# --- data and forecasts ----------------------------------------------------------------------------------------------


def fetch_data(rt: Runtime) -> None:
    """The tickers to look at; their prices and bars from the sources at hand, judged, into Postgres and onto the board.

    The first run fills the history.
    """
    config = control.sync_settings(rt).config
    tickers, urgent = universe.refresh(rt, config)
    found = fetching.fetch(rt, tickers, urgent, show=lambda: showing_market.market_data(rt))
    inputs.check_levels(rt, {symbol: one.quote for symbol, one in found.accepted.items()})
    until_s = found.began_s + limits.DATA_EXTRAS_UNTIL_S
    enhancing.enhance(rt, tickers, until_s)
    if clock.monotonic_s() < until_s:
        fetching.repair(rt, tickers)
    log.info("fetched", tickers=len(tickers), priced=len(found.agreed), bars=found.bars)


def refresh_candidates(rt: Runtime) -> None:
    """Grok's picks, asked for while the market is open or about to, where that is due and within the budget."""
    hours = known_hours(rt.market())
    due = hours is not None and (hours.is_open or hours.next_open - rt.market() <= EARLY)
    if due and grok_asking.off(rt) is None:
        log.info("grok", outcome=grok_asking.refresh(rt, universe.tradable(rt)))
    showing_grok.picks(rt)


def generate_predictions(rt: Runtime) -> None:
    """Bars → features → artifacts → forecasts → store and board; then the outcome of those whose time has come."""
    now = rt.market()
    settings = control.sync_settings(rt)
    made = forecasting.forecast(rt, now)
    matured = maturing.mature(rt, now)
    view = trading.look(rt, settings.config, now, grok=grok_asking.picks(rt, rt.tickers))
    showing_ml.forecasts(rt, view.wishes, now)
    showing_ml.outcomes(rt)
    rt.board.publish(keys.FORECAST_UPDATES, projections_ml.forecast_updates(made))
    log.info("forecast", made=len(made), matured=matured)


def evaluate_predictions(rt: Runtime) -> None:
    """How the forecasts that matured did: the figures of the last day, and whether the artifacts have drifted.

    Then bars that are too old go.
    """
    now = rt.market()
    if maturing.quality(rt, now):
        showing_ml.outcomes(rt)
    if deviation.look(rt, now):
        showing_ml.training(rt)
        showing.alerts(rt)
    retention.prune(rt.engine, now, rt.wall())


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
        done = trading.cycle(
            rt.desk,
            settings,
            switch,
            hours,
            now,
            taken=lambda books: _tell(rt, books),
            protected=lambda done: showing.protected(rt, done),
            pending=lambda: emergency.pending(rt),
            view=lambda held: trading.look(
                rt, settings.config, now, held, risk_watch.report(rt, now), grok_asking.picks(rt, rt.tickers)
            ),
        )
        showing.recalled(rt, done.sent.recalled)
        if done.view is not None:
            showing_ml.signals(rt, done.view.wishes, now)
    except QBotError as error:
        showing.failed_cycle(rt, error, now)
        raise
    book_alerts.rebalanced(rt, done.judged)
    book_alerts.portfolio(rt, settings.config, done.books)
    book_alerts.trades(rt)
    showing.cycle(rt, settings, hours, done.books, now)


def _tell(rt: Runtime, books: Books) -> None:
    """What a human must know of the books at once: whatever comes next may take its time, or fail."""
    showing.drift(rt, books)
    showing.doubted(rt, books)
    showing.short(rt, books)
    showing.recalled(rt, books.recalled)


def reconcile_orders(rt: Runtime) -> None:
    """Take the broker's truth into the ledger and show it: the net under the trade stream."""
    now = rt.market()
    hours = known_hours(now)
    books = reconciliation.reconcile(rt.desk, now)
    _tell(rt, books)
    showing.protected(rt, protecting.protect(rt.desk, books, now, market_open=hours is not None and hours.is_open))
    book_alerts.trades(rt)
    showing.books(rt, books)


def risk_engine(rt: Runtime) -> None:
    """What may be risked now; circuit breakers that trip; the board, `risk_updates` and the log hear of it."""
    risk_watch.watch(rt)
    showing.risk_engine(rt)


def process_manual_orders(rt: Runtime) -> None:
    """Orders a human asks for: each once for ever, through the same gate, its status written back."""
    settings = control.sync_settings(rt)
    now, stopping = rt.market(), lambda: emergency.pending(rt)
    manual.process(rt, settings, market_hours(now), now, stopping=stopping)
    book_alerts.trades(rt)


def emergency_handler(rt: Runtime) -> None:
    """The emergency switch first, then everything else that stops: DEL, `enabled: false`, STOPPED."""
    try:
        while emergency.handle(rt) is not None:
            log.info("emergency_again", why="what was asked for meanwhile is seen at the end, not at the next tick")
    finally:
        switch = control.sync_switch(rt)
        if not switch.on:
            # A stop whose cancels failed, or an order that was on its way: asked for again until nothing is open.
            control.finish_stop(rt, switch)


# --- what frontends are told ----------------------------------------------------------------------------------------


def monitor_autotrading_frontend(rt: Runtime) -> None:
    """`autotrading:*`: the session and what QBot does about it. A board that was lost is rebuilt."""
    if rebuild.needed(rt):
        rebuild.rebuild(rt)
    settings = control.sync_settings(rt)
    control.sync_switch(rt)
    showing.session(rt, settings, market_hours(rt.market()))
    sessions.observe(rt)


def sync_frontend_settings(rt: Runtime) -> None:
    """Every settings key into one effective configuration with its revision; then what is asked for besides."""
    settings = control.sync_settings(rt)
    showing.declined(rt)
    log.info("settings", revision=settings.revision, problem=settings.problem)
    inputs.handle(rt)


def update_backend_responses(rt: Runtime) -> None:
    """`backend:*` from the books and the ledger."""
    # Health first: when Postgres or the broker does not answer, this is what says so.
    book_alerts.parts(rt, health.show_health(rt))
    showing.alerts(rt)
    showing.books(rt, reconciliation.snapshot(rt.desk))


def performance_calculator(rt: Runtime) -> None:
    """`backend:trading_performance` from the equity curve and the closed round trips."""
    showing.performance(rt)


def system_heartbeat(rt: Runtime) -> None:
    """`system_status`: which parts are alive. How far the board has come is recorded, to tell if it goes back."""
    health.show_status(rt)
    continuity.note_revision(rt)


def send_notifications(rt: Runtime) -> None:
    """What the listener should have sent to a human and did not; alerts that are old go."""
    notifying.deliver_overdue(rt)


def market_status(rt: Runtime) -> None:
    """`market_status` from the exchange calendar."""
    showing.market_status(rt)
