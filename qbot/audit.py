"""Why an order was made, in words: what `qbot explain` prints. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.engine import Engine

from qbot import clock, manual
from qbot.store import audit
from qbot.store.audit import Trail
from qbot.store.engine import transaction
from qbot.types import Side, Source

Row = Mapping[str, Any]
Section = tuple[str, Sequence[str]]  # a heading, and lines under it

WHO = {
    Source.AUTOTRADING: "QBot's trading cycle",
    Source.MANUAL: "a human, by a manual order",
    Source.GROK: "QBot, on a signal of Grok's",
    Source.ML: "QBot, on its own forecast",
    Source.EMERGENCY: "the emergency switch",
    Source.FOREIGN: "nobody here: it was made elsewhere, and taken over",
}
SETTINGS_SHOWN = (
    "strategy", "buy_threshold_pct", "sell_threshold_pct", "ml_confidence_threshold", "stop_loss_pct",
    "take_profit_pct", "position_sizing", "paper_mode",
)  # fmt: skip


def look(engine: Engine, asked: str) -> Trail | None:
    """Everything behind an id; None when nobody knows it. Raises StoreUnavailable."""
    with transaction(engine) as connection:
        return audit.trail(connection, asked, manual.cycle_id(asked))


def plain(value: Any) -> Any:
    """As JSON: for machines. Numbers that money and shares are counted in stay text."""
    if isinstance(value, Trail):
        fields = {name: plain(getattr(value, name)) for name in Trail.__dataclass_fields__}
        return {**fields, "source": value.source}
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if hasattr(value, "__dataclass_fields__"):
        body = {**asdict(value), "pnl_usd": value.pnl_usd, "pnl_pct": value.pnl_pct}
        return {name: plain(part) for name, part in body.items()}
    return value


def told(found: Trail) -> list[Section]:
    """Everything behind an id, for a human, in the order in which one would ask."""
    sections: list[Section] = [("What it is", _what(found))]
    for name, lines in (
        ("Why", _why(found)),
        ("The verdict of the gate", _verdict(found)),
        ("The forecast", _forecast(found)),
        ("The settings", _settings(found)),
        ("What came of it", _outcome(found)),
    ):
        if lines:
            sections.append((name, lines))
    if found.entry is not None:
        sections += [(f"The entry that it protects: {name.lower()}", lines) for name, lines in told(found.entry)]
    if found.missing:
        sections.append(("MISSING", [f"{name}: it should be recorded and is not" for name in found.missing]))
    return sections


def both(at: datetime) -> str:
    """A moment in New York and in UTC."""
    return f"{at.astimezone(clock.NEW_YORK):%a %Y-%m-%d %H:%M:%S} in New York ({at:%H:%M:%S} UTC)"


def shares(qty: Decimal) -> str:
    return f"{qty.normalize():f}"


def usd(value: Decimal | float, digits: int = 2) -> str:
    """With a sign only where it is negative."""
    return f"{value:,.{digits}f} USD"


def _what(found: Trail) -> list[str]:
    lines = []
    if found.order is not None:
        lines += _order(found.order)
    elif found.intent is not None:
        lines.append(f"{_intended(found.intent)}: {found.intent['status']}, no order of it is known")
    if found.adjustment is not None:
        lines += _adjustment(found.adjustment)
    if found.source:
        lines.append(f"asked for by {WHO.get(Source(found.source), found.source)}")
    lines += [_step(one, found.way[n]) for n, one in enumerate(found.way[1:])]
    lines += [f"with it: {_short(leg)}" for leg in found.legs]
    if found.manual is not None:
        lines += _manual(found.manual)
    return lines


def _order(order: Row) -> list[str]:
    limits = [
        f"{name} {usd(order[column])}"
        for name, column in (("limit", "limit_price_usd"), ("stop", "stop_price_usd"))
        if order[column] is not None
    ]
    return [
        ", ".join([f"order to {_short(order)}", f"{order['order_type']} {order['time_in_force']}", *limits]),
        f"made {both(order['created_at'])}",
        f"broker's id {order['broker_order_id']}, client's id {order['client_order_id']}",
    ]


def _short(order: Row) -> str:
    return f"{order['side']} {shares(order['qty'])} {order['symbol']}: {order['status']}"


def _intended(intent: Row) -> str:
    return f"intent to {intent['side']} {shares(intent['qty'])} {intent['symbol']} ({intent['client_order_id']})"


def _step(before: Row, after: Row) -> str:
    how = "a leg of" if after["parent_id"] == before["broker_order_id"] else "in the place of"
    return f"{how} the order to {_short(before)} ({before['client_order_id']})"


def _adjustment(row: Row) -> list[str]:
    return [
        f"taken over from the broker: {shares(row['qty'])} {row['symbol']} at {usd(row['price_usd'])}, "
        f"where the ledger had {shares(row['qty_before'])}",
        f"by {row['who']}, {both(row['at'])}: {row['reason']}",
    ]


def _manual(row: Row) -> list[str]:
    outcome = row["outcome"] or {}
    said = ", ".join(f"{name} {value}" for name, value in outcome.items() if name != "client_order_id")
    return [
        f"manual order {row['order_id']}, first seen {both(row['first_seen_wall'])}",
        f"it asked for {', '.join(f'{name} {value}' for name, value in row['body'].items())}",
        f"handled: {said or 'not yet'}",
    ]


def _why(found: Trail) -> list[str]:
    signal = (found.decision or {}).get("signal")
    if not signal:
        return []
    lines = list(signal["reasons"])
    lines.append(
        f"signal {signal['signal_id']}: {signal['action']}, expected return {signal['predicted_return_pct']:+.2%} in "
        f"{signal['horizon_minutes']} minutes, confidence {signal['confidence']:.0%}"
    )
    return lines


def _verdict(found: Trail) -> list[str]:
    row = found.decision
    if row is None:
        return []
    lines = [f"{'allowed' if row['allowed'] else 'REFUSED: ' + str(row['refusal'])} {both(row['decided_at'])}"]
    lines += [row["message"]] if row["message"] else []
    lines += [f"{name} {value}" for name, value in row["numbers"].items()]
    lines.append(f"decision {row['decision_id']} of cycle {row['cycle_id']}")
    if found.session is not None:
        session = found.session["session_id"] or "without an id"
        lines.append(f"trading session {session}, started {both(found.session['at_wall'])}")
    return lines


def _forecast(found: Trail) -> list[str]:
    row, made_by, training = found.forecast, found.artifact, found.training
    if row is None:
        return []
    target = row["current_price_usd"] * (1 + row["return_pct"])
    lines = [
        f"{row['symbol']} {row['return_pct']:+.2%} within {row['horizon_minutes']} minutes, from "
        f"{usd(row['current_price_usd'])} to {usd(target)}; 80 % between {row['low_return_pct']:+.2%} and "
        f"{row['high_return_pct']:+.2%}, confidence {row['confidence']:.0%}",
        f"issued {both(row['issued_at'])} ({row['forecast_id']})",
    ]
    if row["actual_price_usd"] is not None:
        lines.append(f"it came to {usd(row['actual_price_usd'])}")
    if made_by is not None:
        skill = "better than naive on unseen days" if made_by["skilled"] else "NO SKILL shown over naive"
        lines.append(f"artifact {made_by['artifact_id']} ({skill}), sha256 {made_by['sha256']}")
        if made_by["verdict"] is not None:
            lines.append(f"when it was trained: {made_by['verdict']['outcome']}: {made_by['verdict']['why']}")
    if training is not None:
        lines.append(
            f"of training {training['training_id']} ({training['trigger']}), begun {both(training['started_at'])}"
        )
    return lines


def _settings(found: Trail) -> list[str]:
    if found.settings is None:
        return []
    config = found.settings["effective"].get("config", {})
    shown = ", ".join(f"{name} {config[name]}" for name in SETTINGS_SHOWN if name in config)
    made = both(found.settings["made_at_wall"])
    return [f"revision {found.settings['revision']}, made {made}", *([shown] if shown else [])]


def _outcome(found: Trail) -> list[str]:
    lines = []
    if found.intent is not None:
        error = f": {found.intent['error']}" if found.intent["error"] else ""
        lines.append(f"{_intended(found.intent)}: {found.intent['status']}{error}")
    for row in found.fills:
        price = usd(row["price_usd"], 4)
        lines.append(f"filled {shares(row['qty'])} at {price}, {both(row['at'])} ({row['execution_id']})")
    mine = {row["execution_id"] for row in found.fills}
    for trip in found.trades:
        other = f"order {trip.entry_order_id}" if trip.exit_execution_id in mine else f"order {trip.exit_order_id}"
        verb = "closed" if trip.exit_execution_id in mine else "closed later,"
        percent = "" if trip.pnl_pct is None else f" ({trip.pnl_pct:+.2%})"
        entered, left = ("bought", "sold") if trip.side is Side.BUY else ("sold", "bought back")
        lines.append(
            f"{verb} {shares(trip.qty)} {trip.symbol} {entered} at {usd(trip.entry_price_usd, 4)}, {left} at "
            f"{usd(trip.exit_price_usd, 4)}: {usd(trip.pnl_usd)}{percent}; {other}"
        )
    return lines
