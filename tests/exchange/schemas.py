"""Validation of bodies against the published schemas, see openapi/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openapi_schema_validator import OAS30Validator, OAS31Validator, oas30_format_checker, oas31_format_checker

FOLDER = Path(__file__).parent / "openapi"


def _load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return document


TRADING, DATA = _load("trading.json"), _load("data.json")
# The one place where recorded answers differ: a leg's `legs` is null.
TRADING["components"]["schemas"]["OrderLeg"]["properties"]["legs"] = {"type": ["object", "null"]}


def check_trading(schema: str, body: Any) -> None:
    """Raises ValidationError if `body` is not what the trading API's `schema` says."""
    rule = {"$ref": f"#/components/schemas/{schema}", **TRADING}
    OAS31Validator(rule, format_checker=oas31_format_checker).validate(body)


def check_data(schema: str, body: Any) -> None:
    """Raises ValidationError if `body` is not what the data API's `schema` says."""
    # A $ref hides its neighbours in OpenAPI 3.0, hence allOf beside the components.
    rule = {"allOf": [{"$ref": f"#/components/schemas/{schema}"}], **DATA}
    OAS30Validator(rule, format_checker=oas30_format_checker).validate(body)
