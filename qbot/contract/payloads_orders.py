"""Payloads of `frontend:manual_orders` and `frontend:emergency_actions`: what a human asks for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
    model_validator,
)
from pydantic_core import to_json

from qbot.contract.fields import LenientTimestamp, Name, Payload, PriceLimit, Sentence, Shares, Text, Ticker, Timestamp
from qbot.contract.problems import describe


class OrderSide(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class ManualOrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP_LOSS = "STOP_LOSS"


class ManualTimeInForce(StrEnum):
    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class ManualOrderStatus(StrEnum):
    PENDING = "PENDING"
    SUBMITTED = "SUBMITTED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"


class Priority(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class EmergencyKind(StrEnum):
    STOP_ALL_TRADING = "STOP_ALL_TRADING"
    CLOSE_ALL_POSITIONS = "CLOSE_ALL_POSITIONS"
    CANCEL_ALL_ORDERS = "CANCEL_ALL_ORDERS"


def _needs(order_type: ManualOrderType, price: str) -> dict[str, JsonValue]:
    """A schema's words for `_prices_fit_the_type`."""
    is_it: dict[str, JsonValue] = {"properties": {"order_type": {"const": order_type.value}}}
    has_it: dict[str, JsonValue] = {"required": [price], "properties": {price: {"type": "number"}}}
    return {"if": is_it, "then": has_it}


class ManualOrder(Payload):
    """One order a human asks for. `order_id` is executed once for ever. Fields QBot does not know are written back."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "allOf": [_needs(ManualOrderType.LIMIT, "limit_price"), _needs(ManualOrderType.STOP_LOSS, "stop_price")]
        },
    )

    order_id: Name = Field(description="Chosen by the frontend; one id is one order, for ever.")
    symbol: Ticker
    side: OrderSide
    quantity: Annotated[Shares, Field(gt=0)]
    order_type: ManualOrderType = Field(description="STOP_LOSS: a market order once stop_price is reached.")
    limit_price: PriceLimit | None = Field(None, description="USD a share; LIMIT needs it.")
    stop_price: PriceLimit | None = Field(None, description="USD a share; STOP_LOSS needs it.")
    time_in_force: ManualTimeInForce = ManualTimeInForce.DAY
    created_at: Timestamp | None = None
    created_by: Text | None = Field(None, description="Who asked.")
    session_id: Name | None = None
    status: ManualOrderStatus = Field(ManualOrderStatus.PENDING, description="A frontend writes PENDING alone.")
    priority: Priority = Field(Priority.MEDIUM, description="CRITICAL goes first, then by age.")
    status_reason: Sentence | None = Field(None, description="Why QBot rejected or cancelled it (extension).")
    updated_at: Timestamp | None = Field(None, description="When QBot last changed the status (extension).")

    @model_validator(mode="after")
    def _prices_fit_the_type(self) -> ManualOrder:
        if self.order_type is ManualOrderType.LIMIT and self.limit_price is None:
            raise ValueError("a LIMIT order needs limit_price")
        if self.order_type is ManualOrderType.STOP_LOSS and self.stop_price is None:
            raise ValueError("a STOP_LOSS order needs stop_price")
        return self


class MalformedOrder(Payload):
    """An element of `frontend:manual_orders` that is no order. Its neighbours still count; it goes back as it came."""

    raw: JsonValue
    problem: str

    @model_serializer
    def _as_it_came(self) -> Any:
        return self.raw

    @property
    def settled(self) -> bool:
        """True when it already says REJECTED, or cannot say anything."""
        return not isinstance(self.raw, dict) or self.raw.get("status") == ManualOrderStatus.REJECTED

    def rejected(self) -> MalformedOrder:
        """The same element with status REJECTED and the reason, for writing back. Not an object: unchanged."""
        if not isinstance(self.raw, dict):
            return self
        verdict: dict[str, JsonValue] = {"status": ManualOrderStatus.REJECTED.value, "status_reason": self.problem}
        return MalformedOrder(raw=self.raw | verdict, problem=self.problem)


_ORDER = TypeAdapter(ManualOrder)


def _keep_malformed(value: Any, _: ValidatorFunctionWrapHandler) -> ManualOrder | MalformedOrder:
    if isinstance(value, ManualOrder | MalformedOrder):
        return value
    try:
        return _ORDER.validate_json(to_json(value, inf_nan_mode="constants"))
    except ValidationError as error:
        return MalformedOrder(raw=value, problem=describe(error))


ManualOrderItem = Annotated[
    ManualOrder | MalformedOrder, WrapValidator(_keep_malformed, json_schema_input_type=ManualOrder)
]
ManualOrders = Annotated[tuple[ManualOrderItem, ...], Field(max_length=1_000)]


def _or(default: str | bool | None) -> WrapValidator:
    """What is not valid counts as not given."""

    def judged(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            return default

    return WrapValidator(judged)


class EmergencyAction(Payload):
    """`frontend:emergency_actions`. Only what decides is strict: a stop must not fail for the form of its time."""

    action: EmergencyKind
    reason: Annotated[Text, _or("the reason given cannot be read")] = Field("", description="For a human.")
    timestamp: Annotated[LenientTimestamp | None, _or(None)] = Field(
        None, description="With session_id, the identity of the action."
    )
    session_id: Annotated[Name | None, _or(None)] = Field(None, description="The session it was asked for in.")
    confirmed: bool = Field(False, description="Acts only when true.")
    force: Annotated[bool, _or(False)] = Field(
        False, description="Override checks: with the market closed, do not wait for the open."
    )
