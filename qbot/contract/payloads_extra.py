"""Payloads of the inputs that no document has and people need: acknowledging an alert, price levels, a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import to_json

from qbot.contract.fields import Name, Payload, PriceLimit, Text, Ticker, Timestamp
from qbot.contract.payloads_orders import MalformedOrder
from qbot.contract.problems import describe

MalformedElement = MalformedOrder  # an element that is not valid, of any array that frontends write
P = TypeVar("P", bound=Payload)


class AlertAcknowledgement(Payload):
    """One element of `frontend:alert_acknowledgements`."""

    alert_id: Name = Field(description="As in backend:alerts_active.")
    acknowledged_at: Timestamp | None = Field(None, description="When the human saw it.")
    session_id: Name | None = Field(None, description="The session it was seen in.")


_IS_NUMBER: JsonValue = {"type": "number"}


class PriceAlert(Payload):
    """One element of `frontend:price_alerts`: a level above or below the price, or both. Raised once for each id."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [level], "properties": {level: _IS_NUMBER}} for level in ("above", "below")]
        }
    )

    price_alert_id: Name = Field(description="Chosen by the frontend; another level needs another id.")
    symbol: Ticker
    above: PriceLimit | None = Field(None, description="Raised when the price is at or above it; USD a share.")
    below: PriceLimit | None = Field(None, description="Raised when the price is at or below it; USD a share.")
    note: Text | None = Field(None, description="Shown with the alert.")
    created_at: Timestamp | None = None
    session_id: Name | None = Field(None, description="The session it was asked for in.")

    @model_validator(mode="after")
    def _one_level_at_least(self) -> PriceAlert:
        if self.above is None and self.below is None:
            raise ValueError("a price alert needs above, below, or both")
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise ValueError("below must be under above")
        return self


class TrainingRequest(Payload):
    """`frontend:training_request`: one training for each request_id; while another one runs, it waits."""

    request_id: Name = Field(description="Chosen by the frontend; the same id is never trained twice.")
    reason: Text | None = Field(None, description="For the record.")
    created_at: Timestamp | None = None
    session_id: Name | None = Field(None, description="The session it was asked for in.")


def _or_malformed(model: type[P]) -> Callable[[Any, ValidatorFunctionWrapHandler], P | MalformedElement]:
    """Judges one element by itself: one that is not valid does its neighbours no harm."""
    adapter = TypeAdapter(model)

    def judged(value: Any, _: ValidatorFunctionWrapHandler) -> P | MalformedElement:
        if isinstance(value, model | MalformedElement):
            return value
        try:
            return adapter.validate_json(to_json(value, inf_nan_mode="constants"))
        except ValidationError as error:
            return MalformedElement(raw=value, problem=describe(error))

    return judged


AcknowledgementItem = Annotated[
    AlertAcknowledgement | MalformedElement,
    WrapValidator(_or_malformed(AlertAcknowledgement), json_schema_input_type=AlertAcknowledgement),
]
PriceAlertItem = Annotated[
    PriceAlert | MalformedElement, WrapValidator(_or_malformed(PriceAlert), json_schema_input_type=PriceAlert)
]
AlertAcknowledgements = Annotated[tuple[AcknowledgementItem, ...], Field(max_length=1_000)]
PriceAlerts = Annotated[tuple[PriceAlertItem, ...], Field(max_length=1_000)]
