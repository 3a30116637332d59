"""From anything with an id back to what made it: order → intent → verdict, settings → signal → forecast → artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.performance import RoundTrip
from qbot.store import trades
from qbot.store.manual_orders import KIND as MANUAL
from qbot.store.tables import (
    adjustments,
    artifacts,
    decisions,
    fills,
    forecasts,
    handled,
    intents,
    manual_orders,
    orders,
    settings_revisions,
    switch_log,
    trainings,
)
from qbot.types import IntentKind, Source

Row = Mapping[str, Any]
BY_FORECAST = (Source.ML,)
BY_SIGNAL = (Source.ML, Source.GROK)
STARTED = "started"


@dataclass(frozen=True, slots=True)
class Trail:
    """Everything behind one id. What does not apply is None or empty; `missing` names what should be there and is not.

    `order` is the one that was asked for; `way` leads from it to the one that QBot made: over the parent of a leg, and
    over what an order took the place of. `entry` is the trail of the entry that a protection protects.
    """

    asked: str
    found_as: str
    order: Row | None
    way: Sequence[Row]
    legs: Sequence[Row]
    fills: Sequence[Row]
    trades: Sequence[RoundTrip]
    intent: Row | None
    decision: Row | None
    forecast: Row | None
    artifact: Row | None
    training: Row | None
    settings: Row | None
    session: Row | None
    manual: Row | None
    adjustment: Row | None
    entry: Trail | None
    missing: tuple[str, ...]

    @property
    def source(self) -> str:
        """Who asked for it."""
        of = self.intent or (self.way[-1] if self.way else None)
        return str(of["source"]) if of else str(Source.FOREIGN) if self.order else ""


def trail(connection: Connection, asked: str, manual_cycle_id: str | None = None) -> Trail | None:
    """What is recorded behind an id: broker's or client's id of an order, of an execution, a manual order, a decision,
    an adjustment. None when nobody knows it. `manual_cycle_id`: how a manual order of that id would have been named.
    """
    start = _start(connection, asked, manual_cycle_id)
    return _behind(connection, asked, start) if start else None


class Start(NamedTuple):
    """What an id is of."""

    found_as: str
    order: Row | None = None
    intent: Row | None = None
    decision: Row | None = None
    manual: Row | None = None
    adjustment: Row | None = None


def _start(connection: Connection, asked: str, manual_cycle_id: str | None) -> Start | None:
    order, found_as = _order(connection, asked)
    if found_as:
        return Start(found_as, order)
    if (intent := _one(connection, intents, intents.c.client_order_id, asked)) is not None:
        return Start("intent", intent=intent)
    if (manual := _manual(connection, asked)) is not None:
        decision = _one(connection, decisions, decisions.c.cycle_id, manual_cycle_id or "")
        return _decided(connection, Start("manual order", decision=decision, manual=manual))
    if (decision := _one(connection, decisions, decisions.c.decision_id, asked)) is not None:
        return _decided(connection, Start("decision", decision=decision))
    adjustment = _one(connection, adjustments, adjustments.c.adjustment_id, asked)
    return Start("adjustment", adjustment=adjustment) if adjustment else None


def _decided(connection: Connection, start: Start) -> Start:
    """With the intent and the order that a decision led to, if it did."""
    intent = _one(connection, intents, intents.c.decision_id, (start.decision or {}).get("decision_id"))
    order = _order(connection, intent["client_order_id"])[0] if intent else None
    return start._replace(intent=intent, order=order)


def _behind(connection: Connection, asked: str, start: Start) -> Trail:
    order, intent, decision, adjustment = start.order, start.intent, start.decision, start.adjustment
    way = _way(connection, order) if order else []
    if intent is None and way:
        intent = _one(connection, intents, intents.c.client_order_id, way[-1]["client_order_id"])
    if intent is not None:
        decision = _one(connection, decisions, decisions.c.decision_id, intent["decision_id"])
    forecast = _one(connection, forecasts, forecasts.c.forecast_id, (decision or {}).get("forecast_id"))
    artifact = _one(connection, artifacts, artifacts.c.artifact_id, (forecast or {}).get("artifact_id"))
    settings = _one(
        connection, settings_revisions, settings_revisions.c.revision, (decision or {}).get("settings_revision")
    )
    ids = [order["broker_order_id"]] if order else []
    found = Trail(
        asked=asked,
        found_as=start.found_as,
        order=order,
        way=way,
        legs=_rows(connection, orders, orders.c.parent_id.in_(ids), orders.c.created_at, orders.c.broker_order_id),
        fills=_rows(connection, fills, fills.c.broker_order_id.in_(ids), fills.c.at, fills.c.execution_id),
        trades=trades.of_orders(connection, ids or [asked] if adjustment else ids),
        intent=intent,
        decision=decision,
        forecast=forecast,
        artifact=artifact,
        training=_one(connection, trainings, trainings.c.training_id, (artifact or {}).get("training_id")),
        settings=settings,
        session=_session(connection, intent),
        manual=start.manual or _manual_of(connection, intent),
        adjustment=adjustment,
        entry=_entry(connection, intent),
        missing=(),
    )
    return checked(found)


def checked(found: Trail) -> Trail:
    """Names every link that should be there and is not (invariant I6)."""
    missing = ["order"] if found.found_as == "fill" and found.order is None else []
    if found.way and found.source != Source.FOREIGN and found.intent is None:
        missing.append("intent")
    if found.order is not None:
        filled = sum(row["qty"] for row in found.fills)
        if filled < found.order["filled_qty"]:
            missing.append("fills")
        if found.order["parent_id"] and len(found.way) < 2:
            missing.append("parent order")
    if found.intent is not None and found.intent["source"] == Source.MANUAL and found.manual is None:
        missing.append("manual order")
    if found.intent is not None and found.intent["kind"] == IntentKind.PROTECTION and found.entry is None:
        missing.append("protected entry")
    missing += _missing_reasons(found)
    return replace(found, missing=tuple(missing))


def _missing_reasons(found: Trail) -> list[str]:
    """Of the verdict, what led to it and the settings."""
    if found.decision is None:
        return ["decision"] if found.intent is not None else []
    missing = ["settings"] if found.settings is None else []
    signal = found.decision["signal"]
    asked_by = found.intent["source"] if found.intent else (signal or {}).get("source")
    own = found.intent is None or found.intent["kind"] != IntentKind.PROTECTION
    if signal is None and own and asked_by in BY_SIGNAL:
        missing.append("signal")
    if found.decision["forecast_id"] or (own and asked_by in BY_FORECAST):
        links = {"forecast": found.forecast, "artifact": found.artifact, "training": found.training}
        missing += [name for name, row in links.items() if row is None]
    return missing


# --- the links -------------------------------------------------------------------------------------------------------


def _order(connection: Connection, asked: str) -> tuple[Row | None, str]:
    """An order by either id or one of its executions, and what the id was."""
    for column in (orders.c.broker_order_id, orders.c.client_order_id):
        found = _one(connection, orders, column, asked)
        if found is not None:
            return found, "order"
    fill = _one(connection, fills, fills.c.execution_id, asked)
    if fill is None:
        return None, ""
    return _one(connection, orders, orders.c.broker_order_id, fill["broker_order_id"]), "fill"


def _way(connection: Connection, order: Row) -> list[Row]:
    """From an order to the one that was asked for: over parents and over what was replaced."""
    way, seen = [order], {order["broker_order_id"]}
    while (before := way[-1]["parent_id"] or way[-1]["replaces"]) and before not in seen:
        found = _one(connection, orders, orders.c.broker_order_id, before)
        if found is None:
            break
        seen.add(before)
        way.append(found)
    return way


def _session(connection: Connection, intent: Row | None) -> Row | None:
    """The start of trading that a cycle's order was made under."""
    if intent is None or intent["source"] in (Source.MANUAL, Source.EMERGENCY):
        return None
    before = sa.and_(switch_log.c.event == STARTED, switch_log.c.at_wall <= intent["created_at_wall"])
    query = switch_log.select().where(before).order_by(switch_log.c.at_wall.desc(), switch_log.c.id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return dict(row) if row else None


def _entry(connection: Connection, intent: Row | None) -> Trail | None:
    """The trail of the entry that a protection protects."""
    protects = (intent or {"spec": {}})["spec"].get("protects")
    return trail(connection, protects) if protects and protects != (intent or {}).get("client_order_id") else None


def _manual(connection: Connection, order_id: str) -> Row | None:
    claim = sa.and_(handled.c.kind == MANUAL, handled.c.key == manual_orders.c.order_id)
    joined = manual_orders.join(handled, claim, isouter=True)
    query = sa.select(*manual_orders.c, handled.c.outcome).select_from(joined)
    row = connection.execute(query.where(manual_orders.c.order_id == order_id)).mappings().first()
    return dict(row) if row else None


def _manual_of(connection: Connection, intent: Row | None) -> Row | None:
    """The manual order that an intent was made of."""
    if intent is None or intent["source"] != Source.MANUAL:
        return None
    mine = handled.c.outcome["client_order_id"].astext == intent["client_order_id"]
    key = connection.execute(sa.select(handled.c.key).where(handled.c.kind == MANUAL, mine)).scalar()
    return _manual(connection, key) if key is not None else None


def _one(connection: Connection, table: sa.Table, column: sa.Column[Any], value: object) -> Row | None:
    if value is None:
        return None
    row = connection.execute(table.select().where(column == value).limit(1)).mappings().first()
    return dict(row) if row else None


def _rows(connection: Connection, table: sa.Table, condition: sa.ColumnElement[bool], *by: sa.Column[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(table.select().where(condition).order_by(*by)).mappings()]
