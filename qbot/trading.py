"""The trading cycle: books → signals → sizes → gate → committed orders → broker. Called by the pipeline alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pandas as pd

from qbot import (
    clock,
    committing,
    execution,
    portfolio,
    protecting,
    quoting,
    rebalancing,
    reconciliation,
    risk,
    risk_market,
    sizing,
)
from qbot.committing import Judged
from qbot.control import Settings
from qbot.desk import Desk
from qbot.execution import Sent
from qbot.features import build_features, latest_rows
from qbot.market.calendar import MarketHours, day_and_before
from qbot.protecting import Protected
from qbot.rebalancing import Excess, Plan
from qbot.reconciliation import Books
from qbot.runtime import Runtime
from qbot.session import Switch
from qbot.signals import signals
from qbot.store import bars, models
from qbot.store.engine import transaction
from qbot.types import (
    BAR_MINUTES,
    HORIZONS_MINUTES,
    Action,
    Forecast,
    IntentKind,
    OrderType,
    Position,
    Proposal,
    Quote,
    RiskReport,
    Side,
    Signal,
    Source,
    TradingConfig,
)
from qbot.votes import GrokView, Technical

INDICATOR_SPAN = timedelta(hours=3)  # of sessions: the MACD and its signal need 35 bars
INDICATORS = ("rsi_14", "macd", "macd_signal_gap", "sma_distance_12", "bollinger_20")
INTERVAL_80_SIGMAS = 1.2816  # half an 80 % interval in standard deviations of a normal distribution


@dataclass(frozen=True, slots=True)
class View:
    """The forecasts that count, the latest prices, the signals that follow from them, and what the risk engine says."""

    forecasts: Sequence[Forecast]
    quotes: Mapping[str, Quote]
    wishes: Sequence[Signal]
    risk_report: RiskReport | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the signals come to before the gate: proposals in order of importance, and why not for all others."""

    proposals: list[Proposal]
    declined: list[tuple[Signal, str, str]]


@dataclass(frozen=True, slots=True)
class Cycle:
    """One trading cycle: the books it began with, and what it saw and did where it might trade."""

    books: Books
    view: View | None
    judged: Sequence[Judged]
    sent: Sent = field(default_factory=Sent)


def cycle(
    desk: Desk,
    settings: Settings,
    switch: Switch,
    hours: MarketHours,
    now: datetime,
    *,
    taken: Callable[[Books], None],
    protected: Callable[[Protected], None],
    pending: Callable[[], bool],
    view: Callable[[Collection[str]], View],
) -> Cycle:
    """Books → signals → committed intents → orders.

    `taken` is told the books at once, so that a human hears of a drift whatever comes next; `protected` what was done
    about shares without protection, which may take as long as the broker does. `pending`: whether an emergency waits
    to be carried out. `view` is asked for forecasts and prices, with the symbols that are held. Raises QBotError; then
    nothing more is sent.
    """
    books = reconciliation.reconcile(desk, now)
    taken(books)
    protected(protecting.protect(desk, books, now, market_open=hours.is_open))
    if not switch.cycles or not hours.is_open or pending() or books.other_account is not None:
        return Cycle(books, None, ())
    seen = view(books.positions)
    judged = decide(desk, settings, switch, hours, books, seen, now)
    sent = execution.send(desk, committing.orders_of(judged))
    return Cycle(books, seen, judged, sent)


def look(
    rt: Runtime,
    config: TradingConfig,
    now: datetime,
    held: Collection[str] = (),
    risk_report: RiskReport | None = None,
    grok: Mapping[str, GrokView] | None = None,
) -> View:
    """What the sources come to at the latest prices. `held`: symbols whose prices are wanted too; `grok`: its picks by
    symbol, None without a key.
    """
    tickers = rt.tickers
    with transaction(rt.engine) as connection:
        forecasts = models.latest_forecasts(connection, now - timedelta(minutes=max(HORIZONS_MINUTES)))
        configured = bool(forecasts) or bool(models.standing_artifacts(connection))
        recent = bars.load(connection, tickers, indicators_since(now), now - timedelta(minutes=BAR_MINUTES))
    symbols = sorted({forecast.symbol for forecast in forecasts} | set(held) | set(grok or ()))
    quotes = quoting.latest(rt, symbols) if symbols else {}
    wishes = signals(
        forecasts if configured else None, quotes, technicals_of(recent), config, now,
        allow_unskilled=rt.embedded, grok=grok,
    )  # fmt: skip
    return View(forecasts, quotes, wishes, risk_report)


def indicators_since(now: datetime) -> datetime:
    """From when on there is INDICATOR_SPAN of sessions up to now: in a young session, from the end of the last one."""
    (opened, closed), (_, closed_before) = day_and_before(now)
    over = min(now, closed) - opened
    if over >= INDICATOR_SPAN:
        return opened + over - INDICATOR_SPAN
    return closed_before - (INDICATOR_SPAN - max(over, timedelta(0)))


def decide(
    desk: Desk, settings: Settings, switch: Switch, hours: MarketHours, books: Books, view: View, now: datetime
) -> list[Judged]:
    """Judge every signal of this moment; the allowed ones come back as committed orders, ready to be sent."""
    even_out = _plan(desk, settings, books, view, now)
    wanted = propose(view, books, settings.config, even_out)
    cycle_id = f"{committing.CYCLE_PREFIX}{now:%Y%m%dT%H%M%S}"
    declined = [
        committing.hold_row(signal, cycle_id, settings.revision, now, refusal, why)
        for signal, refusal, why in wanted.declined
    ]
    return committing.commit(
        desk,
        wanted.proposals,
        settings.config,
        risk_market.market(settings, switch, hours, books, view.quotes, now, view.risk_report),
        cycle_id=cycle_id,
        revision=settings.revision,
        epoch=switch.epoch,
        snapshot_wall=books.taken_at_wall,
        extra_decisions=declined,
    )


def _plan(desk: Desk, settings: Settings, books: Books, view: View, now: datetime) -> Plan:
    """What rebalancing wants, on books and settings that can be relied upon, within the session's hours."""
    config = settings.config
    off_hours = config.market_hours_check and not risk.within_trading_hours(config.trading_hours, now)
    if not config.rebalance_enabled or off_hours or settings.problem or not books.reconciled:
        return rebalancing.NOTHING
    with desk.store.transaction() as ledger:
        done = ledger.rebalanced(clock.market_day(now))
    return rebalancing.plan(
        config, books.account, books.positions, view.quotes, now, open_orders=books.open_orders, done_today=done
    )


def technicals_of(recent: pd.DataFrame) -> dict[str, Technical]:
    """The indicators at the newest bar of each symbol; empty without bars."""
    if recent.empty:
        return {}
    rows = latest_rows(build_features(recent))
    figures = (rows[name].tolist() for name in INDICATORS)
    moments = (at.to_pydatetime() for at in rows["known_at"])
    return {
        str(symbol): Technical(at, 100.0 * rsi, *others)
        for symbol, at, rsi, *others in zip(rows["symbol"], moments, *figures, strict=True)
    }


def propose(view: View, books: Books, config: TradingConfig, even_out: Plan = rebalancing.NOTHING) -> Wanted:
    """Exits first, then sales that even out the portfolio, then entries: of what there is too little of, in a preferred
    sector, then by the forecast move times the confidence in it.
    """
    too_large = {excess.symbol for excess in even_out.sales}
    widths = {f.symbol: (f.high_return_pct - f.low_return_pct) / 2.0 / INTERVAL_80_SIGMAS for f in view.forecasts}
    factor = risk_factor(view.risk_report)
    exits: list[Proposal] = []
    entries: list[Proposal] = []
    declined: list[tuple[Signal, str, str]] = []
    for signal in sorted(view.wishes, key=_importance, reverse=True):
        position = books.positions.get(signal.symbol)
        if signal.action is Action.HOLD:
            declined.append((signal, "NO_SIGNAL", signal.why))
        elif signal.action is Action.SELL and position is not None and position.qty > 0:
            exits.append(committing.exit_proposal(position, signal.source, signal))
        elif signal.action is Action.BUY and signal.symbol in too_large:
            declined.append((signal, "REBALANCED", f"{signal.why}, but too large a part is held and sold"))
        elif signal.action is Action.SELL:
            declined.append((signal, "NOT_HELD", f"{signal.why}, but no share is held to sell"))
        else:
            quote = view.quotes[signal.symbol]
            qty = sizing.shares(config, books.account, quote.price_usd, widths.get(signal.symbol), factor)
            if qty > 0:
                entries.append(_entry(signal, quote, qty))
            else:
                declined.append((signal, "SIZE_ZERO", f"{signal.why}, but the size comes to no whole share"))
    leaving = {proposal.symbol for proposal in exits}
    exits += [_part(books.positions[one.symbol], one) for one in even_out.sales if one.symbol not in leaving]
    entries.sort(  # stable
        key=lambda entry: (
            entry.symbol not in even_out.too_small,
            not portfolio.preferred(entry.symbol, config.preferred_sectors),
        )
    )
    return Wanted(exits + entries, declined)


def _part(position: Position, excess: Excess) -> Proposal:
    """The sale of a part of a position. What protected all of it is put back for the rest."""
    whole = committing.exit_proposal(position, Source.AUTOTRADING)
    return replace(whole, qty=excess.qty, why=excess.why)


def risk_factor(report: RiskReport | None) -> Decimal:
    """What sizes are multiplied with. Nothing shrinks where the gate will refuse it anyway, so that it says why."""
    return Decimal(1) if report is None or report.tripped else report.factor


def _importance(signal: Signal) -> float:
    return abs(signal.predicted_return_pct) * signal.confidence


def _entry(signal: Signal, quote: Quote, qty: Decimal) -> Proposal:
    return Proposal(
        symbol=signal.symbol,
        side=Side.BUY,
        qty=qty,
        kind=IntentKind.ENTRY,
        source=signal.source,
        price_usd=risk.worst_price(quote, OrderType.MARKET, None, Side.BUY),
        order_type=OrderType.MARKET,
        signal=signal,
    )
