"""A stand-in for a frontend: the reference client and the demo's settings, and nothing else of QBot.

The values below are the demo's only settings. They fit a replayed market and models that forecast honestly: the
documented thresholds of 5 % would never trade on a 60-minute horizon.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from qbot.client import BoardUnavailable, QBotClient, State
from qbot.contract import acl, keys
from qbot.contract.payloads_autotrading import Strategy
from qbot.contract.payloads_settings import SizingMethod
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

CONFIG: dict[str, Any] = {
    "aggressiveness": 3,
    "max_position_size": SHARES_PER_TRADE,
    "max_daily_trades": MAX_DAILY_TRADES,
    "buy_threshold_pct": BUY_THRESHOLD_PCT,
    "sell_threshold_pct": SELL_THRESHOLD_PCT,
    "stop_loss_pct": STOP_LOSS_PCT,
    "take_profit_pct": TAKE_PROFIT_PCT,
    "cash_reserve": CASH_RESERVE_USD,
    "trading_capital": TRADING_CAPITAL_USD,
    "use_ml_signals": True,
    "ml_confidence_threshold": CONFIDENCE_THRESHOLD,
    "paper_mode": True,
}
STRATEGY_SETTINGS: dict[str, Any] = {
    "strategy_type": STRATEGY,
    "use_grok_signals": False,  # the demo has no key for it
    "use_ml_predictions": True,
    "use_technical_analysis": True,
    "grok_score_threshold": 0.85,
    "ml_confidence_threshold": CONFIDENCE_THRESHOLD,
    "risk_level": 3,
    "position_sizing_method": SizingMethod.FIXED,
    "diversification_target": POSITIONS,
}
PORTFOLIO: dict[str, Any] = {
    "target_diversification": POSITIONS,
    "max_position_pct": MAX_POSITION_PCT,
    "rebalance_enabled": False,
    "rebalance_threshold": 0.05,
    "preferred_sectors": (),
    "excluded_tickers": (),
    "cash_reserve": CASH_RESERVE_USD,
}
SESSION: dict[str, Any] = {
    "buy_threshold_pct": BUY_THRESHOLD_PCT,
    "sell_threshold_pct": SELL_THRESHOLD_PCT,
    "max_position_per_trade": SHARES_PER_TRADE,
    "strategy": STRATEGY,
}
SCREEN: dict[str, Any] = {
    "active_tab": "dashboard",
    "autotrading_enabled": False,
    "paper_mode": True,
    "notifications_enabled": True,
    "chart_timeframe": "1D",
    "theme": "dark",
}


def connect(settings: Settings) -> QBotClient:
    """A client such as a frontend has: it knows QBot's Redis and nothing else of QBot. Each `tick` is its next try."""
    password = settings.redis_frontend_password.get_secret_value()
    return QBotClient(settings.redis_host, settings.redis_port, password, acl.FRONTEND, patience_s=0.0)


@dataclass
class StandInFrontend:
    """One user interface with one session. `tick` does what is due; nothing here has a thread or reads a clock.

    `since_wall` is when this run's QBot was up: only what QBot wrote later proves that it is ready.
    """

    client: QBotClient
    since_wall: datetime
    starts: int = 0
    _settings_sent: bool = False
    _taken_up: bool = False
    _stopped: bool = False
    _started_wall: datetime | None = None
    _next_heartbeat: datetime | None = None

    def tick(self) -> None:
        """To be called about every second. Raises BoardUnavailable; the next call goes on where this one was."""
        if self._stopped:
            return
        wall = self.client.wall()
        if not self._settings_sent:
            self.client.configure(trading_config=CONFIG, bot_strategy=STRATEGY_SETTINGS, portfolio=PORTFOLIO)
            self.client.heartbeat(**SCREEN)
            self._settings_sent = True
            self._next_heartbeat = wall + timedelta(seconds=HEARTBEAT_EVERY_S)
        seen = self.client.state([keys.SYSTEM_STATUS, keys.AUTOTRADING_LAST_UPDATE, keys.AUTOTRADING_SESSION_ACTIVE])
        if self._start_is_due(seen, wall):
            self._start(wall)
        elif self._next_heartbeat is None or wall >= self._next_heartbeat:
            self._heartbeat(wall)

    def stop(self) -> None:
        """Switches trading off, for good. Raises BoardUnavailable."""
        self._stopped = True
        if self.starts:
            self.client.stop()
            self.client.heartbeat()

    def _start(self, wall: datetime) -> None:
        """Switches trading on; another start is another session."""
        if self.starts:
            self.client.new_session()
        self.client.start(**SESSION, wait_s=None)
        self.starts += 1
        self._started_wall = wall
        self._heartbeat(wall)

    def _start_is_due(self, seen: State, wall: datetime) -> bool:
        """The first start waits for QBot. It is pressed again where it was never taken up; a stop is left a stop."""
        if self._started_wall is None:
            return _ready(seen, self.since_wall, wall)
        self._taken_up |= seen[keys.AUTOTRADING_SESSION_ACTIVE].value == self.client.session_id
        late = wall - self._started_wall > timedelta(seconds=TAKEN_UP_WITHIN_S)
        return late and not self._taken_up and self.starts < STARTS_AT_MOST

    def _heartbeat(self, wall: datetime) -> None:
        self.client.heartbeat()
        self._next_heartbeat = wall + timedelta(seconds=HEARTBEAT_EVERY_S)


def _ready(seen: State, since_wall: datetime, wall: datetime) -> bool:
    """QBot is up and has looked at the switch once: a value written before that would count as left over."""
    status, looked = seen[keys.SYSTEM_STATUS].value, seen[keys.AUTOTRADING_LAST_UPDATE].value
    if status is None or looked is None or looked < since_wall:
        return False
    oldest = max(since_wall, wall - timedelta(seconds=keys.SYSTEM_STATUS.max_age_s or 0.0))
    return status.last_heartbeat >= oldest


def try_to_stop(frontend: StandInFrontend) -> None:
    """Stops the session where Redis still answers; where it does not, nothing trades anyway."""
    with suppress(BoardUnavailable):
        frontend.stop()
