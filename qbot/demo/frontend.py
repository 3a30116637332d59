"""A stand-in for a frontend: it writes the documented frontend keys, with plain SETs and DELs, and nothing else.

The values below are the demo's only settings. They fit a replayed market and models that forecast honestly: the
documented thresholds of 5 % would never trade on a 60-minute horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import redis

from qbot import clock
from qbot.contract import acl, keys
from qbot.contract.board import SOCKET_TIMEOUT_S, Board, Snapshot
from qbot.contract.key import Direction, Key
from qbot.contract.payloads_autotrading import AutotradingSession, AutotradingStatus, Strategy, TradingHours
from qbot.contract.payloads_settings import BotStrategy, PortfolioSettings, SizingMethod, TradingConfig, UiState
from qbot.errors import BoardUnavailable
from qbot.session import FRONTEND_SOURCE
from qbot.settings import Settings

# A 60-minute move of these shares is about 0.25 %, and an honest forecast a small part of it. What counts is what is
# left of the way to its target, which moves with the price: 0.1 % is passed some twenty times a day.
BUY_THRESHOLD_PCT = 0.001
SELL_THRESHOLD_PCT = 0.001
STRATEGY = Strategy.MODERATE  # leaves the thresholds as they are
# An artifact without proven skill says 0.5, a coin. On the paper exchange the demo trades on it, labelled "no skill".
CONFIDENCE_THRESHOLD = 0.5
SHARES_PER_TRADE = 3  # about 1,300 USD: some 37 orders fit under the day's default cap of 50,000 USD
MAX_DAILY_TRADES = 50
STOP_LOSS_PCT = 0.01  # near enough to be reached within a demo's few days
TAKE_PROFIT_PCT = 0.02
CASH_RESERVE_USD = Decimal(5_000)
TRADING_CAPITAL_USD = Decimal(60_000)  # of the paper account's 100,000
POSITIONS = 5
MAX_POSITION_PCT = 0.20

HEARTBEAT_EVERY_S = 15.0
TAKEN_UP_WITHIN_S = 45.0  # a start that QBot has not taken up by then is pressed again, like a human would
STARTS_AT_MOST = 3

Writes = Sequence[tuple[Key[Any], Any]]


def new_session_id(wall: datetime) -> str:
    """The documented form: `frontend_` and the milliseconds since 1970."""
    return f"frontend_{int(wall.timestamp() * 1000)}"


def settings_writes(session_id: str, wall: datetime) -> Writes:
    """The three settings objects and the user interface's state."""
    config = TradingConfig(
        aggressiveness=3,
        max_position_size=SHARES_PER_TRADE,
        max_daily_trades=MAX_DAILY_TRADES,
        buy_threshold_pct=BUY_THRESHOLD_PCT,
        sell_threshold_pct=SELL_THRESHOLD_PCT,
        stop_loss_pct=STOP_LOSS_PCT,
        take_profit_pct=TAKE_PROFIT_PCT,
        cash_reserve=CASH_RESERVE_USD,
        trading_capital=TRADING_CAPITAL_USD,
        use_ml_signals=True,
        ml_confidence_threshold=CONFIDENCE_THRESHOLD,
        paper_mode=True,
        session_id=session_id,
        updated_at=wall,
        updated_by="trading_suite_ui",
    )
    strategy = BotStrategy(
        strategy_type=STRATEGY,
        use_grok_signals=False,  # the demo has no key for it
        use_ml_predictions=True,
        use_technical_analysis=True,
        grok_score_threshold=0.85,
        ml_confidence_threshold=CONFIDENCE_THRESHOLD,
        risk_level=3,
        position_sizing_method=SizingMethod.FIXED,
        diversification_target=POSITIONS,
        session_id=session_id,
        updated_at=wall,
    )
    portfolio = PortfolioSettings(
        target_diversification=POSITIONS,
        max_position_pct=MAX_POSITION_PCT,
        rebalance_enabled=False,
        rebalance_threshold=0.05,
        preferred_sectors=(),
        excluded_tickers=(),
        cash_reserve=CASH_RESERVE_USD,
        updated_at=wall,
    )
    return [
        (keys.TRADING_CONFIG, config),
        (keys.BOT_STRATEGY, strategy),
        (keys.PORTFOLIO_SETTINGS, portfolio),
        (keys.UI_STATE, ui_state(session_id, wall, trading=False)),
    ]


def ui_state(session_id: str, wall: datetime, *, trading: bool) -> UiState:
    """The heartbeat of the user interface."""
    return UiState(
        active_tab="dashboard",
        autotrading_enabled=trading,
        paper_mode=True,
        last_refresh=wall,
        notifications_enabled=True,
        chart_timeframe="1D",
        theme="dark",
        session_id=session_id,
    )


def start_writes(session_id: str, wall: datetime) -> Writes:
    """What a frontend writes when trading is switched on."""
    session = AutotradingSession(
        enabled=True,
        buy_threshold_pct=BUY_THRESHOLD_PCT,
        sell_threshold_pct=SELL_THRESHOLD_PCT,
        max_position_per_trade=SHARES_PER_TRADE,
        strategy=STRATEGY,
        timestamp=wall,
        source=FRONTEND_SOURCE,
        market_hours_check=True,
        session_id=session_id,
        trading_hours=TradingHours(market_open="09:30", market_close="16:00", timezone="America/New_York"),
    )
    return [
        (keys.AUTOTRADING_ENABLED, session),
        (keys.AUTOTRADING_STATUS, AutotradingStatus.ACTIVE),
        (keys.AUTOTRADING_TIMESTAMP, wall),
    ]


def stop_writes(wall: datetime) -> Writes:
    """What a frontend writes when trading is switched off; None stands for DEL."""
    return [
        (keys.AUTOTRADING_ENABLED, None),
        (keys.AUTOTRADING_STATUS, AutotradingStatus.STOPPED),
        (keys.AUTOTRADING_STOPPED_AT, wall),
    ]


def connect(settings: Settings) -> redis.Redis:
    """A client such as a frontend has: it knows QBot's Redis and nothing else of QBot."""
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        username=acl.FRONTEND,
        password=settings.redis_frontend_password.get_secret_value() or None,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
    )


@dataclass
class StandInFrontend:
    """One user interface with one session. `tick` does what is due; nothing here has a thread or reads a clock.

    `since_wall` is when this run's QBot was up: only what QBot wrote later proves that it is ready.
    """

    client: redis.Redis
    board: Board
    since_wall: datetime
    session_id: str | None = None
    starts: int = 0
    _settings_sent: bool = False
    _taken_up: bool = False
    _stopped: bool = False
    _started_wall: datetime | None = None
    _next_heartbeat: datetime | None = None

    def tick(self, wall: datetime) -> None:
        """To be called about every second. Raises BoardUnavailable; the next call goes on where this one was."""
        wall = _milliseconds(wall)
        if self._stopped:
            return
        if not self._settings_sent:
            self.session_id = self.session_id or new_session_id(wall)
            self._write(settings_writes(self.session_id, wall))
            self._settings_sent = True
            self._next_heartbeat = wall + timedelta(seconds=HEARTBEAT_EVERY_S)
        seen = self.board.read_many([keys.SYSTEM_STATUS, keys.AUTOTRADING_LAST_UPDATE, keys.AUTOTRADING_SESSION_ACTIVE])
        if self._start_is_due(seen, wall):
            self.start(wall)
        if self._next_heartbeat is None or wall >= self._next_heartbeat:
            self._heartbeat(wall)

    def start(self, wall: datetime) -> None:
        """Switches trading on; another start is another session. Raises BoardUnavailable."""
        wall = _milliseconds(wall)
        if self.starts or self.session_id is None:
            self.session_id = new_session_id(wall)
        self._write([*start_writes(self.session_id, wall), (keys.UI_STATE, self._state(wall, trading=True))])
        self.starts += 1
        self._started_wall = wall

    def stop(self, wall: datetime) -> None:
        """Switches trading off, for good. Raises BoardUnavailable."""
        wall = _milliseconds(wall)
        self._stopped = True
        if self.session_id is not None and self.starts:
            self._write([*stop_writes(wall), (keys.UI_STATE, self._state(wall, trading=False))])

    def _start_is_due(self, seen: Snapshot, wall: datetime) -> bool:
        """The first start waits for QBot. It is pressed again where it was never taken up; a stop is left a stop."""
        if self._started_wall is None:
            return _ready(seen, self.since_wall, wall)
        self._taken_up |= seen[keys.AUTOTRADING_SESSION_ACTIVE].value == self.session_id
        late = wall - self._started_wall > timedelta(seconds=TAKEN_UP_WITHIN_S)
        return late and not self._taken_up and self.starts < STARTS_AT_MOST

    def _heartbeat(self, wall: datetime) -> None:
        self._write([(keys.UI_STATE, self._state(wall, trading=self.starts > 0))])
        self._next_heartbeat = wall + timedelta(seconds=HEARTBEAT_EVERY_S)

    def _state(self, wall: datetime, *, trading: bool) -> UiState:
        return ui_state(self.session_id or new_session_id(wall), wall, trading=trading)

    def _write(self, writes: Writes) -> None:
        """Plain SET and DEL, in order and at once. Raises ValueError for a key that is not a frontend's to write."""
        with self.client.pipeline(transaction=True) as pipe:
            for key, value in writes:
                if key.direction is Direction.BACKEND:
                    raise ValueError(f"{key.name} is not for a frontend to write")
                pipe.delete(key.name) if value is None else pipe.set(key.name, key.encode(value))
            try:
                pipe.execute()
            except (redis.RedisError, OSError) as error:
                raise BoardUnavailable(str(error)) from error


def _ready(seen: Snapshot, since_wall: datetime, wall: datetime) -> bool:
    """QBot is up and has looked at the switch once: a value written before that would count as left over."""
    status, looked = seen[keys.SYSTEM_STATUS].value, seen[keys.AUTOTRADING_LAST_UPDATE].value
    if status is None or looked is None or looked < since_wall:
        return False
    oldest = max(since_wall, wall - timedelta(seconds=keys.SYSTEM_STATUS.max_age_s or 0.0))
    return status.last_heartbeat >= oldest


def _milliseconds(wall: datetime) -> datetime:
    """The documents' times carry milliseconds."""
    return wall.replace(microsecond=wall.microsecond // 1000 * 1000)


def try_to_stop(frontend: StandInFrontend) -> None:
    """Stops the session where Redis still answers; where it does not, nothing trades anyway."""
    with suppress(BoardUnavailable):
        frontend.stop(clock.wall_now())
