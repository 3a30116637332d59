"""Field types that several payloads share. Each carries its unit and its bounds, so that a schema can show them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from qbot.types import ticker

_ISO_START = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")
_DAY = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME_OF_DAY = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?"
_DECIMAL_PATTERN = "^-?[0-9]{1,30}([.][0-9]{1,30})?$"
_SENTENCE_MAX = 1_000
_NUMBER_MAX = 1e15  # beyond it a double no longer holds cents: no price, cap or count is that large


class Payload(BaseModel):
    """A value of the board: immutable, finite numbers only, no silent conversions.

    A field that was not given is absent on the wire; unknown fields are ignored, since either side may be newer.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class PartialPayload(Payload):
    """Settings a frontend may write in part: a field that is not there has no value (None) and changes nothing."""

    @model_validator(mode="after")
    def _no_explicit_null(self) -> Self:
        """An explicit null would be read as "no limit" by some and "zero" by others: it is refused."""
        nulls = sorted(name for name in self.model_fields_set if getattr(self, name) is None)
        if nulls:
            raise ValueError(f"null is no value for {', '.join(nulls)}; leave the field out")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As the validator above: None stands for "not there", and no value on the wire is null."""
        shown = handler(core)
        fields = handler.resolve_ref_schema(shown)["properties"]
        for name, field in fields.items():
            kept = [option for option in field.pop("anyOf", []) if option != {"type": "null"}]
            if len(kept) == 1:
                fields[name] = kept[0] | {key: value for key, value in field.items() if key != "default"}
        return shown


def _iso_text(value: Any) -> Any:
    """Pydantic would take 1700000000 for a time, as a number or a string; the contract knows ISO 8601 only."""
    if isinstance(value, datetime) or (isinstance(value, str) and _ISO_START.match(value)):
        return value
    raise ValueError("not an ISO 8601 time")


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("time out of range") from error


def _naive_is_utc(value: datetime) -> datetime:
    return _to_utc(value if value.tzinfo else value.replace(tzinfo=UTC))


def iso(value: datetime) -> str:
    """ISO 8601 with zone; UTC as `Z`; milliseconds or microseconds only where there are any."""
    timespec = "auto" if value.microsecond % 1000 else "milliseconds" if value.microsecond else "seconds"
    return value.isoformat(timespec=timespec).replace("+00:00", "Z")


def _decimal_from_text(value: Any) -> Any:
    """On the wire a string of digits alone: no exponent, no JSON number, which would have lost its last digits."""
    if isinstance(value, str) and re.fullmatch(_DECIMAL_PATTERN, value):
        return Decimal(value)
    if isinstance(value, Decimal):
        return value
    raise ValueError("not a decimal as a string")


def _finite(value: Any) -> int | float | Decimal:
    """JSON numbers only: no bool, no string, no infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("not a number")
    if value > _NUMBER_MAX or value < -_NUMBER_MAX:
        raise ValueError("number out of range")
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is 5."""
    number = _finite(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _decimal(value: Any) -> Decimal:
    """Through the shortest text of the double: 0.1 becomes Decimal("0.1")."""
    return Decimal(str(_finite(value)))


def _plain_number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("unknown time zone") from error
    return name


def _cut(value: Any) -> Any:
    return value.replace("\x00", "")[:_SENTENCE_MAX] if isinstance(value, str) else value


_TIME_WIRE = PlainSerializer(iso, return_type=str, when_used="json")
# The second arguments tell a schema what the functions take.
_BOUNDED = Annotated[float, Field(ge=-_NUMBER_MAX, le=_NUMBER_MAX)]
_FLOAT = BeforeValidator(_finite, json_schema_input_type=_BOUNDED)
_WHOLE = BeforeValidator(_whole, json_schema_input_type=Annotated[int, Field(ge=-_NUMBER_MAX, le=_NUMBER_MAX)])
_DECIMAL = BeforeValidator(_decimal, json_schema_input_type=_BOUNDED)

Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_iso_text),
    AfterValidator(_to_utc),
    _TIME_WIRE,
    Field(strict=False, description="ISO 8601 with zone"),
]
LenientTimestamp = Annotated[
    datetime,
    BeforeValidator(_iso_text),
    AfterValidator(_naive_is_utc),
    _TIME_WIRE,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "pattern": f"^{_DAY}[Tt ]{_TIME_OF_DAY}$"},
            ]
        }
    ),
    Field(strict=False, description="ISO 8601; without a zone: UTC"),
]
EasternTimestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_iso_text),
    _TIME_WIRE,
    Field(strict=False, description="ISO 8601 with New York's offset"),
]

# No NUL: Postgres cannot hold it. No lone surrogates: the JSON parser refuses them.
Text = Annotated[str, StringConstraints(max_length=_SENTENCE_MAX, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
# What QBot says: too long a sentence is cut, since failing to report an error is worse.
Sentence = Annotated[str, BeforeValidator(_cut)]
Ticker = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Za-z][A-Za-z0-9.\-]{0,11}$"),
    AfterValidator(ticker),
    Field(description="US ticker"),
]
ClockTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$"), Field(description="HH:MM")]
TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_time_zone), Field(description="IANA name")]

Number = Annotated[float, _FLOAT]
Fraction = Annotated[float, _FLOAT, Field(ge=0, le=1, description="fraction: 0.05 = 5 %")]
SignedFraction = Annotated[float, _FLOAT, Field(description="fraction, signed: 0.05 = 5 %")]
Percent = Annotated[float, _FLOAT, Field(description="percent: 5.0 = 5 %")]
Usd = Annotated[float, _FLOAT, Field(description="USD")]
Price = Annotated[float, _FLOAT, Field(ge=0, description="USD a share")]
Minutes = Annotated[float, _FLOAT, Field(ge=0, le=10_080, description="minutes")]
Count = Annotated[int, _WHOLE, Field(ge=0)]
Scale5 = Annotated[int, _WHOLE, Field(ge=1, le=5, description="1 (cautious) to 5 (bold)")]
Shares = Annotated[int, _WHOLE, Field(ge=0, le=1_000_000, description="whole shares")]
Quantity = Annotated[
    float,
    _FLOAT,
    PlainSerializer(_plain_number, return_type=int | float, when_used="json"),
    Field(ge=0, description="shares"),
]
# What a frontend sets in dollars meets the risk gate as Decimal, and the wire as a JSON number.
_DECIMAL_WIRE = PlainSerializer(float, return_type=float, when_used="json")
UsdLimit = Annotated[Decimal, _DECIMAL, _DECIMAL_WIRE, Field(ge=0, le=10**12, description="USD")]
PriceLimit = Annotated[Decimal, _DECIMAL, _DECIMAL_WIRE, Field(gt=0, le=10**7, description="USD a share")]


def _decimal_text(value: Decimal) -> str:
    return format(value, "f")


DecimalText = Annotated[
    Decimal,
    BeforeValidator(_decimal_from_text, json_schema_input_type=Annotated[str, Field(pattern=_DECIMAL_PATTERN)]),
    Field(allow_inf_nan=False, max_digits=30),
    PlainSerializer(_decimal_text, return_type=str, when_used="json"),
]
