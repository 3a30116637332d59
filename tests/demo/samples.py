"""Snapshots to draw: empty, starting, training, trading, troubled and huge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from qbot.contract.payloads_ml import TrainingEvent, TrainingStage, TrainingStatus, TrainingTrigger
from qbot.demo.snapshot import (
    Access,
    AccountView,
    AlertView,
    ArtifactView,
    DecisionView,
    OrderView,
    Phase,
    PositionView,
    RefusalGroup,
    SessionView,
    Snapshot,
    TradeView,
)
from qbot.stack.supervise import ProcessHealth

WALL = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MARKET = datetime(2025, 1, 13, 15, 42, 7, tzinfo=UTC)  # 10:42 in New York
POOLS = ("worker-emergency", "worker-trading", "worker-data", "worker-misc", "worker-training")
NAMES = ("redis", "postgres", "exchange", *POOLS, "stream", "beat", "flower")
EMPTY = Snapshot(WALL, MARKET)
ACCESS = Access(
    "http://127.0.0.1:5555", "qbot", ".qbot/demo/secrets.json", ".qbot/demo/logs", "127.0.0.1:6380, password pass123"
)


def process(name: str, state: str = "running", restarts: int = 0, pid: int | None = 4711) -> ProcessHealth:
    return ProcessHealth(name, pid, state, restarts, 42.0)


def order(number: int, status: str = "filled", **changed: object) -> OrderView:
    made = OrderView(f"o{number}", MARKET, "AAPL", "buy", 10.0, 10.0, "market", status, "ml_prediction", False)
    return replace(made, **changed)  # type: ignore[arg-type]


def trade(number: int, **changed: object) -> TradeView:
    made = TradeView(f"x{number}", MARKET, "AAPL", "buy", 10.0, 231.12, "ml_prediction", False)
    return replace(made, **changed)  # type: ignore[arg-type]


def decision(number: int, **changed: object) -> DecisionView:
    reason = "60 min: forecast +0.031% is over the buy threshold +0.020%, no skill"
    made = DecisionView(f"d{number}", MARKET, "AAPL", "BUY", 10.0, "closed", reason)
    return replace(made, **changed)  # type: ignore[arg-type]


def training_status(stage: TrainingStage, progress: float, detail: str, active: bool = True) -> TrainingStatus:
    event = TrainingEvent.FAILED if stage is TrainingStage.FAILED else TrainingEvent.START
    return TrainingStatus(
        active=active, stage=stage, progress=progress, trigger=TrainingTrigger.MANUAL, event=event, detail=detail,
        started=WALL, updated=WALL,
    )  # fmt: skip


STARTING = replace(EMPTY, processes=(process("redis"), process("postgres", "starting")), access=ACCESS, running_s=2.0)
UP = replace(
    EMPTY,
    phase=Phase.UP,
    speed=60.0,
    running_s=95.0,
    market_open=True,
    next_open=MARKET + timedelta(days=1),
    processes=tuple(process(name, pid=4000 + number) for number, name in enumerate(NAMES)),
    access=ACCESS,
)
TRAINING = replace(
    UP,
    session=SessionView("STOPPED", "frontend_1772452800123", None, False, "never started", None, 3.0),
    training=training_status(TrainingStage.HORIZON_30, 0.6, "Training 30min horizon"),
)
TRADING = replace(
    UP,
    running_s=185.0,
    session=SessionView("RUNNING", "frontend_1772452800123", "frontend_1772452800123", False, "", None, 3.0),
    account=AccountView(100_123.4, 86_543.21, 123.4, 0.001234, tuple(100_000 + 7 * (n % 9) * n for n in range(40))),
    positions=(
        PositionView("AAPL", 10, 231.12, 2320.1, 8.9),
        PositionView("META", 10, 601.5, 5990.0, -25.0),
        PositionView("COST", 10, 905.2, 9100.0, 48.0),
    ),
    cycle_at=MARKET - timedelta(minutes=2),
    decisions=(
        decision(3, symbol="COST", status="sent"),
        decision(2, symbol="META", action="SELL", reason="60 min: forecast -0.024% is under -0.020%"),
        decision(1),
    ),
    refusals=(
        RefusalGroup("BUY", "COOLDOWN", ("META",), "META was bought lately"),
        RefusalGroup(
            "HOLD", "NO_SIGNAL", ("MSFT", "ADBE", "AMZN", "GOOGL", "MA", "PEP", "QQQ", "SPY"),
            "60 min: forecast +0.012% lies between the thresholds -0.020% and +0.020%",
        ),
    ),
    orders=(order(3, "accepted"), order(2), order(1), order(9, "held", side="sell", protective=True)),
    trades=(trade(3, symbol="COST", price_usd=905.2), trade(2, symbol="META", side="sell", price_usd=598.01), trade(1)),
    training=training_status(TrainingStage.COMPLETE, 1.0, "Training completed", active=False),
    artifacts=(ArtifactView(15, False, -0.001), ArtifactView(30, False, 0.0), ArtifactView(60, True, 0.004)),
    forecasts_current=13,
)  # fmt: skip
TROUBLED = replace(
    TRADING,
    problems={"Redis": "Connection refused"},
    processes=(process("redis", "restarting", 2, None), *TRADING.processes[1:]),
    alerts=(AlertView("a", "CRITICAL", "Positions are unprotected", "all orders were cancelled"),),
    errors=("[trading] celery.app.trace: Task tasks.trade_bot.trade_bot raised unexpected: KeyError('x')",),
    error_count=3,
)
HUGE = replace(
    TRADING,
    positions=tuple(PositionView(f"T{n}", 1e6, 99_999.99, 1e11, -1e9) for n in range(500)),
    decisions=tuple(decision(n, reason="very long " * 200) for n in range(300)),
    refusals=tuple(RefusalGroup("HOLD", f"R{n}", tuple(f"T{m}" for m in range(500)), "why " * 300) for n in range(50)),
    trades=tuple(trade(n, price_usd=123_456_789.0, symbol="ABCDEFGHIJKL") for n in range(300)),
    processes=tuple(process(f"worker-with-a-long-name-{n}", "restarting", 999) for n in range(60)),
    alerts=tuple(AlertView(str(n), "WARNING", "t" * 500, "[bold]m\n\x1b[2J" * 100) for n in range(50)),
    errors=tuple("e" * 5000 for _ in range(5)),
    error_count=99_999,
)
ALL = {
    "empty": EMPTY, "starting": STARTING, "training": TRAINING, "trading": TRADING, "troubled": TROUBLED, "huge": HUGE,
}  # fmt: skip
