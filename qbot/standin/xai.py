"""xAI's Responses API, as recorded: what Grok would say is made up from the schema and the symbols of the question."""

from __future__ import annotations

import json
import re
from typing import Any

from qbot.standin import addresses
from qbot.standin.refusals import ANY
from qbot.standin.troubles import Trouble
from qbot.standin.vendor import Ask, Market, Said, Vendor, said
from qbot.standin.walk import chance

CANDIDATES_MAX = 8
TICKS = 60_000_000  # 0.006 USD, as recorded calls cost
LISTED = re.compile(r"symbols: ([A-Z0-9.\-, ]+)")
SLOT_MINUTES = 25  # so long an opinion stands
Body = dict[str, Any]


def _error(code: str, words: str) -> Body:
    return {"code": code, "error": words}


BAD_KEY = _error("invalid-argument", "Incorrect API key provided. You can obtain an API key from https://console.x.ai.")
NO_CREDITS = _error(
    "resource-exhausted",
    "Your team made-up has either used all available credits or reached its monthly spending limit.",
)
TOO_MANY = _error("resource-exhausted", "Too many requests for team made-up. Your team's limit is 1800 per minute.")
NO_MODEL = _error("not-found", "The model does not exist or your team made-up does not have access to it.")


def _without_key(ask: Ask) -> Said | None:
    kind, _space, key = ask.headers.get("authorization", "").partition(" ")
    return None if kind == "Bearer" and key else said(BAD_KEY, 400)


def _answer(ask: Ask, market: Market) -> Said:
    if ask.path != "/responses":
        return said(_error("not-found", "The requested resource was not found."), 404)
    try:
        body = json.loads(ask.body)
        schema, model = body["text"]["format"]["schema"], str(body["model"])
        asked = " ".join(str(part["content"]) for part in body["input"])
    except (ValueError, LookupError, TypeError):
        return said(_error("invalid-argument", "A json_schema, a model and an input are asked for here."), 422)
    named = LISTED.findall(asked)
    symbols = [symbol.strip() for symbol in named[-1].split(",") if symbol.strip()] if named else []
    return said(_whole(json.dumps(_made_up(schema, symbols, market)), model, schema, market))


def _made_up(schema: Body, symbols: list[str], market: Market) -> Any:
    """A value that fits the schema; an array of objects with a `symbol` has one of each, the best first."""
    kind = schema.get("type")
    if kind == "object":
        return {name: _made_up(part, symbols, market) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        item = schema.get("items", {})
        if "symbol" not in item.get("properties", {}):
            return []
        best_first = sorted(symbols, key=lambda symbol: -_score(symbol, market))[:CANDIDATES_MAX]
        return [_pick(item["properties"], symbol, market) for symbol in best_first]
    return {"string": "made up", "integer": 1, "number": 0.5, "boolean": False}.get(str(kind))


def _pick(wanted: Body, symbol: str, market: Market) -> Body:
    score = _score(symbol, market)
    known = {
        "symbol": symbol, "score": score, "sentiment": round(2 * score - 1, 2), "confidence": 0.6,
        "expected_return": round((score - 0.5) / 50, 4), "risk_level": 1 + int(4.9 * chance(f"{symbol} risk")),
        "reason": "Made up: nobody was asked about it",
    }  # fmt: skip
    return {name: known.get(name, _made_up(part, [], market)) for name, part in wanted.items()}


def _score(symbol: str, market: Market) -> float:
    slot = int(market.now.timestamp() // (60 * SLOT_MINUTES))
    return round(0.3 + 0.7 * chance(f"{symbol} {slot}"), 2)


def _whole(words: str, model: str, schema: Body, market: Market) -> Body:
    """The body around the words."""
    at = int(market.now.timestamp())
    content = {"type": "output_text", "text": words, "logprobs": [], "annotations": []}
    message = {"content": [content], "id": "msg_made-up", "role": "assistant", "type": "message", "status": "completed"}
    thought = {"id": "rs_made-up", "summary": [], "type": "reasoning", "status": "completed"}
    usage = {
        "input_tokens": 254, "input_tokens_details": {"cached_tokens": 192}, "output_tokens": 221,
        "output_tokens_details": {"reasoning_tokens": 212}, "total_tokens": 475, "num_sources_used": 0,
        "num_server_side_tools_used": 0, "cost_in_usd_ticks": TICKS,
    }  # fmt: skip
    return {
        "created_at": at, "completed_at": at, "id": "made-up", "max_output_tokens": None, "model": model,
        "object": "response", "output": [thought, message], "parallel_tool_calls": True, "previous_response_id": None,
        "temperature": 0.7, "text": {"format": {"type": "json_schema", "schema": schema}}, "tool_choice": "auto",
        "tools": [], "top_p": 0.95, "usage": usage, "user": None, "incomplete_details": None, "status": "completed",
        "store": False, "metadata": {}, "error": None, "instructions": None,
    }  # fmt: skip


VENDOR = Vendor(
    name="xai",
    prefix=addresses.XAI,
    without_key=_without_key,
    answer=_answer,
    symbols_of=lambda _ask: (),
    lies=frozenset(),
    refusals=ANY
    | {
        Trouble.MINUTE_LIMIT: said(TOO_MANY, 429, **{"Retry-After": "20"}),
        Trouble.QUOTA: said(NO_CREDITS, 429),
        Trouble.PLAN: said(NO_MODEL, 404),
        Trouble.AUTH: said(BAD_KEY, 400),
        Trouble.SERVER_ERROR: said(_error("internal", "Service temporarily unavailable."), 503),
    },
)
