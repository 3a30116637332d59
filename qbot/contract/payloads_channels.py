"""Messages of the pub/sub channels."""

from __future__ import annotations

from pydantic import Field, JsonValue

from qbot.contract.fields import Count, Fraction, Name, Payload, SignedFraction, Ticker, Timestamp
from qbot.contract.payloads_ml import HorizonLabel


class Update(Payload):
    """`qbot:updates`: one change of one key. `revision` grows with every change; a gap means a missed message."""

    key: Name = Field(description="The key that changed.")
    revision: Count = Field(description="Grows by one with each change of any key.")
    time: Timestamp
    value: JsonValue = Field(description="What the key holds now, as JSON; null: the key is gone.")


class Stamp(Payload):
    """One field of the hash `qbot:written`, by key: when it was last written, and with which revision."""

    revision: Count = Field(description="As on `qbot:updates`.")
    time: Timestamp
    sha1: Name = Field(description="Of the bytes; `absent` once the key is gone.")


class ForecastUpdate(Payload):
    """`forecast_updates`."""

    asset: Ticker
    horizon: HorizonLabel
    prediction: SignedFraction = Field(description="Forecast return; fraction.")
    confidence: Fraction = Field(description="0 to 1")
    timestamp: Timestamp


class RiskUpdate(Payload):
    """`risk_updates`."""

    risk_factor: Fraction = Field(description="Factor on every new position; 0 to 1.")
    reasons: tuple[Name, ...] = Field(description="Names of what lowers it.")
    timestamp: Timestamp


class StrategyConfigChange(Payload):
    """`strategy_config`: one setting of the effective configuration changed."""

    key: Name = Field(description="The setting.")
    value: JsonValue = Field(description="What it is now, as JSON.")
    revision: Count = Field(description="Of the effective configuration.")
    timestamp: Timestamp
