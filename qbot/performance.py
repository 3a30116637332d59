"""How trading did: round trips out of fills, and the figures of `backend:trading_performance`. Pure.

Profits over a period are differences of equity, so they hold fees, open positions and everything else; deposits too.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

from qbot.types import Account, Fill, Position, Side

NEW_YORK = ZoneInfo("America/New_York")
TRADING_DAYS_A_YEAR = 252
MIN_EQUITY_USD = 1.0  # of a return: an account under a dollar has none worth naming
EquityPoint = tuple[datetime, Decimal]


@dataclass(frozen=True, slots=True)
class Lot:
    """Shares still held (or, after a sale of what was not held, owed) from one fill."""

    symbol: str
    side: Side
    qty: Decimal
    price_usd: Decimal
    at: datetime
    order_id: str
    execution_id: str = ""

    def worth_usd(self, price_usd: Decimal) -> Decimal:
        """Unrealised profit at a price."""
        change = price_usd - self.price_usd
        return self.qty * (change if self.side is Side.BUY else -change)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Shares that were opened by one fill and closed by another. `side` is the opening one: BUY is a long trade."""

    symbol: str
    side: Side
    qty: Decimal
    entry_price_usd: Decimal
    exit_price_usd: Decimal
    opened_at: datetime
    closed_at: datetime
    entry_order_id: str
    exit_order_id: str
    exit_execution_id: str
    entry_execution_id: str = ""

    @property
    def pnl_usd(self) -> Decimal:
        """Realised profit; the venue charges no commission for US shares."""
        change = self.exit_price_usd - self.entry_price_usd
        return self.qty * (change if self.side is Side.BUY else -change)

    @property
    def pnl_pct(self) -> float | None:
        """Realised return: a fraction of what the shares cost (sold short: brought in); None if that was nothing."""
        cost = self.qty * self.entry_price_usd
        return float(self.pnl_usd / cost) if cost else None

    @property
    def minutes(self) -> float:
        """How long the shares were held."""
        return (self.closed_at - self.opened_at).total_seconds() / 60


@dataclass(frozen=True, slots=True)
class Performance:
    """The fields of `backend:trading_performance` by the same names: USD, fractions, minutes."""

    timestamp: datetime
    daily_pnl: float
    weekly_pnl: float
    monthly_pnl: float
    total_pnl: float
    win_rate: float
    avg_trade_duration: float
    sharpe_ratio: float | None
    max_drawdown: float
    total_trades: int
    winning_trades: int
    losing_trades: int
    avg_win: float
    avg_loss: float
    current_positions: int
    portfolio_value: float
    cash_balance: float
    buying_power: float
    total_fees: float = 0.0


def in_order(fills: Iterable[Fill]) -> list[Fill]:
    """Fills in the order of execution. Of one moment buys come first: what is sold then was bought before."""
    return sorted(fills, key=lambda fill: (fill.at, fill.side is not Side.BUY, fill.execution_id))


def match(fills: Sequence[Fill], held: Sequence[Lot] = ()) -> tuple[list[RoundTrip], list[Lot]]:
    """First in, first out, symbol by symbol: what was closed, in the order of closing, and what is still open.

    `fills` are in the order of execution, `held` the lots that were open before them, oldest first. A fill that
    exceeds the open lots of the other side turns the position.
    """
    trips: list[RoundTrip] = []
    lots: defaultdict[str, deque[Lot]] = defaultdict(deque)
    for lot in held:
        lots[lot.symbol].append(lot)
    for fill in fills:
        queue, left = lots[fill.symbol], fill.qty
        while left and queue and queue[0].side is not fill.side:
            lot = queue.popleft()
            qty = min(left, lot.qty)
            trips.append(_trip(lot, fill, qty))
            left -= qty
            if lot.qty > qty:
                queue.appendleft(replace(lot, qty=lot.qty - qty))
        if left:
            one = Lot(fill.symbol, fill.side, left, fill.price_usd, fill.at, fill.broker_order_id, fill.execution_id)
            queue.append(one)
    return trips, [lot for queue in lots.values() for lot in queue]


def round_trips(fills: Sequence[Fill]) -> list[RoundTrip]:
    """The closed part of `match`: one round trip for each pair of an opening and a closing fill."""
    return match(fills)[0]


def performance(
    trips: Sequence[RoundTrip],
    curve: Sequence[EquityPoint],
    account: Account,
    positions: Sequence[Position],
    now: datetime,
    fees_usd: Decimal = Decimal(0),
) -> Performance:
    """All figures as of `now`, in market time. `curve` is the equity over time, oldest first; it may be empty."""
    points = [*(point for point in curve if point[0] < now), (now, account.equity_usd)]
    trades = trades_of(trips)
    pnls = [float(sum(trip.pnl_usd for trip in trade)) for trade in trades]
    wins, losses = [pnl for pnl in pnls if pnl > 0], [pnl for pnl in pnls if pnl < 0]
    week, month = _periods(now)
    return Performance(
        timestamp=now,
        daily_pnl=_cents(account.equity_usd - (account.last_equity_usd or points[0][1])),
        weekly_pnl=_cents(account.equity_usd - _equity_before(points, week)),
        monthly_pnl=_cents(account.equity_usd - _equity_before(points, month)),
        total_pnl=_cents(account.equity_usd - points[0][1]),
        win_rate=len(wins) / len(pnls) if pnls else 0.0,
        avg_trade_duration=_mean([_held_minutes(trade) for trade in trades]),
        sharpe_ratio=sharpe(daily_values(points)),
        max_drawdown=max_drawdown([float(equity) for _, equity in points]),
        total_trades=len(pnls),
        winning_trades=len(wins),
        losing_trades=len(losses),
        avg_win=round(_mean(wins), 2),
        avg_loss=round(_mean(losses), 2),
        current_positions=len(positions),
        portfolio_value=_cents(account.equity_usd),
        cash_balance=_cents(account.cash_usd),
        buying_power=_cents(account.buying_power_usd),
        total_fees=_cents(fees_usd),
    )


def trades_of(trips: Sequence[RoundTrip]) -> list[list[RoundTrip]]:
    """Round trips grouped into trades: one entry order closed by one exit order, however many partial fills."""
    trades: defaultdict[tuple[str, str], list[RoundTrip]] = defaultdict(list)
    for trip in trips:
        trades[trip.entry_order_id, trip.exit_order_id].append(trip)
    return list(trades.values())


def daily_values(points: Sequence[EquityPoint]) -> list[float]:
    """The first equity, then the last of each New York weekday; the last day may be unfinished."""
    closes: dict[str, float] = {}
    for at, equity in points:
        day = at.astimezone(NEW_YORK).date()
        if day.weekday() < 5:  # no trading at weekends: their zeros would flatter the deviation
            closes[day.isoformat()] = float(equity)
    return [float(points[0][1]), *closes.values()] if points else []


def sharpe(values: Sequence[float]) -> float | None:
    """Annualised Sharpe ratio of daily values over a riskless rate of 0: mean / deviation of returns × √252.

    None with fewer than two returns (three values) or where none differs (Sharpe 1994, "The Sharpe Ratio").
    """
    returns = [after / before - 1 for before, after in pairwise(values) if before >= MIN_EQUITY_USD]
    if len(returns) < 2:
        return None
    deviation = statistics.stdev(returns)
    if deviation < 1e-12:
        return None
    return round(statistics.mean(returns) / deviation * math.sqrt(TRADING_DAYS_A_YEAR), 4)


def max_drawdown(values: Sequence[float]) -> float:
    """The largest fall from an earlier peak, as a fraction of that peak: 0 to 1."""
    peak = worst = 0.0
    for value in values:
        peak = max(peak, value)
        if peak > 0:
            worst = max(worst, (peak - value) / peak)
    return min(worst, 1.0)


def _trip(lot: Lot, fill: Fill, qty: Decimal) -> RoundTrip:
    return RoundTrip(
        symbol=lot.symbol,
        side=lot.side,
        qty=qty,
        entry_price_usd=lot.price_usd,
        exit_price_usd=fill.price_usd,
        opened_at=lot.at,
        closed_at=fill.at,
        entry_order_id=lot.order_id,
        exit_order_id=fill.broker_order_id,
        exit_execution_id=fill.execution_id,
        entry_execution_id=lot.execution_id,
    )


def _periods(now: datetime) -> tuple[datetime, datetime]:
    """Begin of New York's week (Monday) and month."""
    day = now.astimezone(NEW_YORK).date()
    first_days = (day - timedelta(days=day.weekday()), day.replace(day=1))
    week, month = (datetime.combine(first, time(), NEW_YORK) for first in first_days)
    return week, month


def _equity_before(points: Sequence[EquityPoint], begin: datetime) -> Decimal:
    """The last equity before `begin`; the first there is when trading began later."""
    return next((equity for at, equity in reversed(points) if at < begin), points[0][1])


def _held_minutes(trade: Sequence[RoundTrip]) -> float:
    """Mean over a trade's shares."""
    shares = sum(float(trip.qty) for trip in trade)
    return sum(trip.minutes * float(trip.qty) for trip in trade) / shares


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _cents(value: Decimal) -> float:
    return round(float(value), 2)
