"""One look at the whole system as plain values: what the view draws, the plain log compares and the summary adds up.

A source that could not be asked leaves its fields empty and says why in `problems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from qbot.contract.payloads_ml import TrainingStage, TrainingStatus
from qbot.demo.text import ny
from qbot.stack.supervise import ProcessHealth


class Phase(StrEnum):
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class SessionView:
    """On or off, and why. `wanted` is the frontend's session, `active` the one QBot trades for."""

    backend_status: str | None = None
    wanted: str | None = None
    active: str | None = None
    latched: bool = False
    reason: str = ""
    error: str | None = None
    heartbeat_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class AccountView:
    """Money in USD; `day_change_pct` is a fraction; `curve` is the equity of today, oldest first."""

    equity_usd: float
    cash_usd: float
    day_change_usd: float
    day_change_pct: float
    curve: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PositionView:
    symbol: str
    qty: float
    entry_usd: float
    value_usd: float
    unrealized_usd: float


@dataclass(frozen=True, slots=True)
class DecisionView:
    """One decision that became an order. `reason` is the signal's."""

    decision_id: str
    at: datetime
    symbol: str
    action: str
    qty: float
    status: str
    reason: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RefusalGroup:
    """Symbols of the last cycle for which nothing was sent for one and the same reason; `example` is the nearest."""

    action: str
    refusal: str
    symbols: tuple[str, ...]
    example: str


@dataclass(frozen=True, slots=True)
class OrderView:
    order_id: str
    at: datetime
    symbol: str
    side: str
    qty: float
    filled_qty: float
    order_type: str
    status: str
    source: str
    protective: bool


@dataclass(frozen=True, slots=True)
class TradeView:
    """One execution. `protective`: a resting stop-loss or take-profit did it."""

    execution_id: str
    at: datetime
    symbol: str
    side: str
    qty: float
    price_usd: float
    source: str
    protective: bool


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """One standing artifact and what it was worth on days it had not seen; `gain_pct` over "no change", a fraction."""

    horizon_minutes: int
    skilled: bool
    gain_pct: float | None


@dataclass(frozen=True, slots=True)
class AlertView:
    alert_id: str
    severity: str
    title: str
    message: str


@dataclass(frozen=True, slots=True)
class Access:
    """Where things are, for the footer."""

    flower_url: str = ""
    flower_user: str = ""
    secrets_file: str = ""
    logs: str = ""
    redis: str = ""  # with the password of frontends, which the demo alone may show


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`wall` and `market` are the two times; `running_s` counts from the start of the demo, on the wall."""

    wall: datetime
    market: datetime
    phase: Phase = Phase.STARTING
    speed: float = 1.0
    running_s: float = 0.0
    minutes: float | None = None
    market_open: bool | None = None
    next_open: datetime | None = None
    replay_finished: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)
    processes: tuple[ProcessHealth, ...] = ()
    session: SessionView = SessionView()
    account: AccountView | None = None
    positions: tuple[PositionView, ...] = ()
    cycle_at: datetime | None = None
    decisions: tuple[DecisionView, ...] = ()
    refusals: tuple[RefusalGroup, ...] = ()
    orders: tuple[OrderView, ...] = ()
    trades: tuple[TradeView, ...] = ()
    training: TrainingStatus | None = None
    artifacts: tuple[ArtifactView, ...] = ()
    forecasts_current: int = 0
    alerts: tuple[AlertView, ...] = ()
    errors: tuple[str, ...] = ()
    error_count: int = 0
    access: Access = Access()

    @property
    def minutes_left(self) -> float | None:
        """Of a run that ends by itself."""
        return None if self.minutes is None else max(0.0, self.minutes - self.running_s / 60)

    def waiting_for(self) -> str | None:
        """Why nothing is traded at this moment, the first cause first; None when QBot trades."""
        session = self.session
        causes = (
            self._stack_is_not_up(),
            f"`qbot resume`: the emergency stop is latched ({session.reason})" if session.latched else None,
            "a start with --fresh: the replayed market is at its end" if self.replay_finished else None,
            self._backend_errs(),
            self._is_training(),
            self._backend_says(),
            self._market_is_closed(),
            None if self.forecasts_current else "the first forecasts",
            None if self.cycle_at else "the first trading cycle",
        )
        return next((cause for cause in causes if cause), None)

    def _stack_is_not_up(self) -> str | None:
        if self.phase is Phase.STOPPING:
            return "the end: trading is switched off, then everything stops (up to half a minute)"
        late = [each.name for each in self.processes if each.state != "running"]
        if self.phase is Phase.STARTING:
            return f"the processes to start: {', '.join(late)}" if late else "the processes to start"
        if late:
            return f"{', '.join(late)} to come back"
        down = next(iter(self.problems.items()), None)
        return f"{down[0]}: {down[1]}" if down else None

    def _is_training(self) -> str | None:
        training = self.training
        if self.artifacts:
            return None
        if training is None:
            return "bars to train the first models on"
        if training.stage is TrainingStage.FAILED:
            return f"a training that succeeds; the last one failed: {training.detail}"
        return f"the first models: {training.detail}" if training.active else "the first models"

    def _backend_errs(self) -> str | None:
        session = self.session
        if session.backend_status not in ("ERROR", "CONFIG_ERROR"):
            return None
        return f"a cure: {session.error or 'see autotrading:error'}"

    def _backend_says(self) -> str | None:
        session = self.session
        match session.backend_status:
            case "RUNNING" | "MARKET_CLOSED":
                return None
            case "STOPPED":
                return f"a start by the frontend ({session.reason})" if session.reason else "a start by the frontend"
        return "QBot to look at the trading switch for the first time"

    def _market_is_closed(self) -> str | None:
        if self.market_open is not False and self.session.backend_status != "MARKET_CLOSED":
            return None
        if self.next_open is None or self.market_open:
            return "the session's trading hours"
        return f"the market to open at {ny(self.next_open)} in New York"
