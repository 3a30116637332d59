"""What a frontend writes, as the documents have it: pure, times and ids given. Every value is validated here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from qbot.contract import keys
from qbot.contract.fields import iso
from qbot.contract.key import Direction, Key
from qbot.contract.payloads_autotrading import AutotradingStatus
from qbot.contract.payloads_orders import MalformedOrder, ManualOrder, ManualOrderStatus
from qbot.contract.problems import describe

T = TypeVar("T")
P = TypeVar("P", bound=BaseModel)
Writes = Sequence[tuple[Key[Any], Any]]
Orders = tuple[ManualOrder | MalformedOrder, ...]

SOURCE = "frontend_ui"  # nothing else starts trading
ORDERS_BY = "manual_trading_ui"
SETTINGS_BY = "trading_suite_ui"
REGULAR_HOURS = {"market_open": "09:30", "market_close": "16:00", "timezone": "America/New_York"}
FINAL = frozenset({ManualOrderStatus.FILLED, ManualOrderStatus.CANCELED, ManualOrderStatus.REJECTED})
LIST_KEPT = 500  # of the 1,000 elements a shared list may have: beyond it, what is done with leaves


def unique_id(prefix: str, wall: datetime, tail: str) -> str:
    """The documented form, such as `frontend_1727354130123`, and a tail that two of one millisecond do not share."""
    return f"{prefix}_{int(wall.timestamp() * 1000)}_{tail}"


def milliseconds(wall: datetime) -> datetime:
    """The documents' times carry milliseconds."""
    return wall.replace(microsecond=wall.microsecond // 1000 * 1000)


def payload(key: Key[T], document: Mapping[str, Any] | BaseModel) -> T:
    """A document as the payload of a key. Raises ValueError with the contract's sentence, or for an unknown field."""
    return _validated(key.name, key.adapter, document)


def model(name: str, kind: type[P], document: Mapping[str, Any]) -> P:
    """As `payload`, for one element of the list that `name` holds."""
    return _validated(name, TypeAdapter(kind), document)


def _validated(name: str, adapter: TypeAdapter[T], document: Mapping[str, Any] | BaseModel) -> T:
    """Through JSON, as QBot will read it. QBot ignores unknown fields; here they are typing errors and refused."""
    try:
        if isinstance(document, BaseModel):
            return adapter.validate_json(document.model_dump_json(exclude_unset=True))
        value = adapter.validate_json(json.dumps(dict(document), default=_plain))
    except ValidationError as error:
        raise ValueError(f"{name}: {describe(error)}") from error
    known = type(value).model_fields if isinstance(value, BaseModel) else document
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise ValueError(f"{name}: no such field: {', '.join(unknown)}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return json.loads(value.model_dump_json(exclude_unset=True))
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date):
        return value.isoformat()
    raise ValueError(f"{type(value).__name__} has no form in JSON")


def check_writable(key: Key[Any]) -> None:
    """Raises ValueError for a key that is not for a frontend to write."""
    if key.direction is Direction.BACKEND or key.internal or key.pattern:
        raise ValueError(f"{key.name} is not for a frontend to write: only QBot does")


def start(session: Mapping[str, Any], session_id: str, wall: datetime) -> Writes:
    """What switches trading on: three keys, written at once."""
    at = milliseconds(wall)
    own = {"enabled", "timestamp", "source", "session_id"} & set(session)
    if own:
        raise ValueError(f"{', '.join(sorted(own))}: the client writes this itself")
    document = {
        "enabled": True,
        **session,
        "timestamp": at,
        "source": SOURCE,
        "market_hours_check": session.get("market_hours_check", True),
        "session_id": session_id,
        "trading_hours": session.get("trading_hours", REGULAR_HOURS),
    }
    return [
        (keys.AUTOTRADING_ENABLED, payload(keys.AUTOTRADING_ENABLED, document)),
        (keys.AUTOTRADING_STATUS, AutotradingStatus.ACTIVE),
        (keys.AUTOTRADING_TIMESTAMP, at),
    ]


def stop(wall: datetime) -> Writes:
    """What switches trading off; None stands for DEL."""
    return [
        (keys.AUTOTRADING_ENABLED, None),
        (keys.AUTOTRADING_STATUS, AutotradingStatus.STOPPED),
        (keys.AUTOTRADING_STOPPED_AT, milliseconds(wall)),
    ]


def signed(key: Key[T], document: Mapping[str, Any] | BaseModel, signature: Mapping[str, Any]) -> T:
    """A settings document with who wrote it and when, where it does not say so itself."""
    given = document.model_dump(exclude_unset=True) if isinstance(document, BaseModel) else document
    return payload(key, {**signature, **given})


def order(fields: Mapping[str, Any], session_id: str, wall: datetime) -> ManualOrder:
    """One manual order with every documented field, PENDING."""
    named = ("order_id", "symbol", "side", "quantity", "order_type", "limit_price", "stop_price", "time_in_force")
    document = {
        **{name: fields[name] for name in named},
        "created_at": milliseconds(wall),
        "created_by": ORDERS_BY,
        "session_id": session_id,
        "status": ManualOrderStatus.PENDING,
        "priority": fields["priority"],
    }
    return model(keys.MANUAL_ORDERS.name, ManualOrder, document)


def order_of(orders: Orders | None, order_id: str) -> ManualOrder | None:
    """One order of the list; None when it is not in it."""
    found = (one for one in orders or () if isinstance(one, ManualOrder) and one.order_id == order_id)
    return next(found, None)


def with_order(orders: Orders | None, new: ManualOrder) -> Orders | None:
    """The list with one more order; None when it is in it already. A long list loses its oldest final ones."""
    found = orders or ()
    if order_of(found, new.order_id):
        return None
    surplus = max(len(found) + 1 - LIST_KEPT, 0)
    done = [i for i, one in enumerate(found) if isinstance(one, ManualOrder) and one.status in FINAL][:surplus]
    return (*(one for i, one in enumerate(found) if i not in done), new)


def with_last(items: tuple[Any, ...] | None, new: BaseModel, identity: str) -> tuple[Any, ...] | None:
    """As `with_new`, without the oldest where it is long."""
    more = with_new(items, new, identity)
    return None if more is None else more[-LIST_KEPT:]


def with_new(items: tuple[Any, ...] | None, new: BaseModel, identity: str) -> tuple[Any, ...] | None:
    """A list with one more element; None when one of its identity is in it."""
    found = items or ()
    known = {getattr(one, identity, None) for one in found}
    return None if getattr(new, identity) in known else (*found, new)
