"""Fills a snapshot from its sources: the supervisor, the clock, the board and Postgres. Nothing here raises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from qbot import clock
from qbot.contract import keys
from qbot.contract.board import Board
from qbot.contract.board import Snapshot as Readings
from qbot.demo.snapshot import (
    AccountView,
    AlertView,
    ArtifactView,
    DecisionView,
    OrderView,
    Phase,
    PositionView,
    RefusalGroup,
    Snapshot,
    TradeView,
)
from qbot.demo.text import without_numbers
from qbot.errors import BoardUnavailable, StoreUnavailable
from qbot.market.calendar import market_hours
from qbot.stack.supervise import ProcessHealth
from qbot.store import ledger, models, report, state
from qbot.store.engine import transaction
from qbot.types import OrderType, Side

BOARD_KEYS = (
    keys.AUTOTRADING_BACKEND_STATUS,
    keys.AUTOTRADING_SESSION_ACTIVE,
    keys.AUTOTRADING_ENABLED,
    keys.AUTOTRADING_ERROR,
    keys.SYSTEM_STATUS,
    keys.PORTFOLIO_SUMMARY,
    keys.PORTFOLIO_POSITIONS,
    keys.ML_TRAINING_STATUS,
    keys.PREDICTIONS_CURRENT,
)
BOARD_FIELDS = ("session", "account", "positions", "training", "forecasts_current")
STORE_FIELDS = ("cycle_at", "decisions", "refusals", "orders", "trades", "artifacts", "alerts")
ROWS = 40  # of orders and trades: more than any terminal shows, and than one second brings
Row = Mapping[str, Any]


@dataclass
class Collector:
    """The sources of one demo. `health` is the supervisor's; `base` holds what never changes."""

    base: Snapshot
    health: Callable[[], Sequence[ProcessHealth]]
    board: Board
    engine: Engine
    started_s: float = field(default_factory=clock.monotonic_s)
    _last: Snapshot | None = None

    def collect(self, phase: Phase) -> Snapshot:
        """One look at everything that answers; what does not is shown as it was last seen, and named."""
        snapshot = replace(
            self.base,
            wall=clock.wall_now(),
            market=clock.market_now(),
            phase=phase,
            speed=clock.speed(),
            running_s=clock.monotonic_s() - self.started_s,
            processes=tuple(self.health()),
        )
        if phase is Phase.STARTING and not _server_runs("redis", snapshot):
            return snapshot
        self._last = self._with_store(self._with_board(with_hours(snapshot)))
        return self._last

    def _with_board(self, snapshot: Snapshot) -> Snapshot:
        try:
            readings = self.board.read_many(BOARD_KEYS)
        except BoardUnavailable as error:
            return _with_problem(self._as_last_seen(snapshot, BOARD_FIELDS), "Redis", error)
        return from_board(snapshot, readings)

    def _with_store(self, snapshot: Snapshot) -> Snapshot:
        try:
            with transaction(self.engine) as connection:
                return from_store(snapshot, connection)
        except (StoreUnavailable, SQLAlchemyError) as error:
            if snapshot.phase is Phase.STARTING:
                return snapshot  # not up yet, or not migrated
            return _with_problem(self._as_last_seen(snapshot, STORE_FIELDS), "Postgres", error)

    def _as_last_seen(self, snapshot: Snapshot, names: Sequence[str]) -> Snapshot:
        old = self._last or snapshot
        seen = replace(snapshot, **{name: getattr(old, name) for name in names})
        return replace(seen, session=replace(seen.session, backend_status=None)) if "session" in names else seen


def _server_runs(name: str, snapshot: Snapshot) -> bool:
    return any(each.name == name and each.state == "running" for each in snapshot.processes)


def _with_problem(snapshot: Snapshot, source: str, error: Exception) -> Snapshot:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return replace(snapshot, problems={**snapshot.problems, source: lines[0]})


def with_hours(snapshot: Snapshot) -> Snapshot:
    """The exchange's hours at the snapshot's market time."""
    hours, replay = market_hours(snapshot.market), clock.timeline()
    finished = replay is not None and replay.finished(snapshot.wall)
    return replace(snapshot, market_open=hours.is_open, next_open=hours.next_open, replay_finished=finished)


def from_board(snapshot: Snapshot, readings: Readings) -> Snapshot:
    """What the board adds. A key that is absent or invalid adds nothing."""
    status, enabled = readings[keys.AUTOTRADING_BACKEND_STATUS].value, readings[keys.AUTOTRADING_ENABLED].value
    beat = readings[keys.SYSTEM_STATUS].value
    session = replace(
        snapshot.session,
        backend_status=str(status) if status else None,
        wanted=enabled.session_id if enabled and enabled.enabled else None,
        active=readings[keys.AUTOTRADING_SESSION_ACTIVE].value,
        error=readings[keys.AUTOTRADING_ERROR].value,
        heartbeat_age_s=(snapshot.wall - beat.last_heartbeat).total_seconds() if beat else None,
    )
    summary, predictions = readings[keys.PORTFOLIO_SUMMARY].value, readings[keys.PREDICTIONS_CURRENT].value
    account = None
    if summary is not None:
        account = AccountView(summary.total_value, summary.cash_balance, summary.day_change, summary.day_change_pct)
    return replace(
        snapshot,
        session=session,
        account=account,
        positions=tuple(
            PositionView(
                p.ticker, float(p.qty), float(p.avg_entry_price), float(p.market_value), float(p.unrealized_pl)
            )
            for p in readings[keys.PORTFOLIO_POSITIONS].value or ()
        ),
        training=readings[keys.ML_TRAINING_STATUS].value,
        forecasts_current=len(predictions or {}),
    )


def from_store(snapshot: Snapshot, connection: Connection) -> Snapshot:
    """What Postgres adds. Raises StoreUnavailable or SQLAlchemyError."""
    switch = state.load_switch(connection)
    session = replace(snapshot.session, latched=switch.latched, reason=switch.reason)
    cycle = report.last_cycle(connection)
    curve = ledger.equity_curve(connection, _day_start(snapshot.market))
    serving = models.usable(models.standing_artifacts(connection))
    return replace(
        snapshot,
        session=session,
        account=_with_curve(snapshot.account, tuple(float(value) for _at, value in curve)),
        cycle_at=cycle[0]["decided_at"] if cycle else None,
        decisions=tuple(decision(row) for row in report.allowed_decisions(connection, ROWS)),
        refusals=group_refusals([row for row in cycle if not row["allowed"]]),
        orders=tuple(order(row) for row in report.recent_orders(connection, ROWS)),
        trades=tuple(trade(row) for row in report.recent_executions(connection, ROWS)),
        artifacts=tuple(artifact(row) for _horizon, row in sorted(serving.items())),
        alerts=tuple(
            AlertView(row["alert_id"], row["severity"], row["title"], row["message"])
            for row in state.active_alerts(connection, snapshot.wall)
        ),
    )


def _day_start(market: datetime) -> datetime:
    local = market.astimezone(clock.NEW_YORK)
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def _with_curve(account: AccountView | None, curve: tuple[float, ...]) -> AccountView | None:
    """The ledger's newest equity is minutes fresher than the board's summary, so the day's change moves with it."""
    if account is None or not curve:
        return account
    opening = account.equity_usd - account.day_change_usd
    change = curve[-1] - opening
    share = change / opening if opening > 0 else 0.0
    return replace(account, equity_usd=curve[-1], day_change_usd=change, day_change_pct=share, curve=curve)


def decision(row: Row) -> DecisionView:
    """One allowed decision, with the signal's reason for it."""
    return DecisionView(
        decision_id=row["decision_id"],
        at=row["decided_at"],
        symbol=row["symbol"],
        action=row["action"],
        qty=float(row["qty"]),
        status=row["intent_status"],
        reason=_reason(row) or row["message"],
        error=row["error"],
    )


def group_refusals(rows: Sequence[Row]) -> tuple[RefusalGroup, ...]:
    """One group a reason, whatever its numbers: what the gate refused first, then the largest group."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["action"], row["refusal"] or "", without_numbers(row["message"])].append(row)
    made = [(key, sorted(members, key=_closeness, reverse=True)) for key, members in groups.items()]
    made.sort(key=lambda group: (group[0][0] == "HOLD", -len(group[1]), group[0]))
    return tuple(
        RefusalGroup(action, refusal, tuple(row["symbol"] for row in members), members[0]["message"])
        for (action, refusal, _sentence), members in made
    )


def _closeness(row: Row) -> float:
    """How large the forecast move is: the largest of a group came nearest to a trade."""
    return abs(float((row["signal"] or {}).get("predicted_return_pct") or 0.0))


def _reason(row: Row) -> str:
    """What settled it; of decisions made before there was such a sentence, all reasons."""
    signal = row["signal"] or {}
    return str(signal.get("why") or ", ".join(str(reason) for reason in signal.get("reasons") or ()))


def order(row: Row) -> OrderView:
    """One order of the ledger."""
    return OrderView(
        order_id=row["broker_order_id"],
        at=row["created_at"],
        symbol=row["symbol"],
        side=row["side"],
        qty=float(row["qty"]),
        filled_qty=float(row["filled_qty"]),
        order_type=row["order_type"],
        status=row["status"],
        source=row["source"],
        protective=_protective(row),
    )


def trade(row: Row) -> TradeView:
    """One execution of the ledger."""
    return TradeView(
        execution_id=row["execution_id"],
        at=row["at"],
        symbol=row["symbol"],
        side=row["side"],
        qty=float(row["qty"]),
        price_usd=float(row["price_usd"]),
        source=row["source"] or "",
        protective=_protective(row),
    )


def _protective(row: Row) -> bool:
    """A leg of a bracket. The stream tells of legs without their parent: what rests and has no intent is one, too."""
    resting = row["kind"] is None and row["side"] == Side.SELL and row["order_type"] != OrderType.MARKET
    return row["parent_id"] is not None or (resting and row["order_type"] is not None)


def artifact(row: Row) -> ArtifactView:
    """One standing artifact; its record holds the metrics of `qbot.skill`."""
    metrics = row["metrics"].get("metrics", {})
    mae, naive = metrics.get("mae"), metrics.get("naive_mae")
    gain = 1.0 - mae / naive if mae is not None and naive else None
    return ArtifactView(row["horizon_minutes"], row["skilled"], gain)
