"""Names for what can be wrong with a value on the board, and one short sentence for a human."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ValidationError

_SHOWN = 3
_SENTENCE_MAX = 300


class Problem(StrEnum):
    """The first word of every `Reading.problem`."""

    NOT_JSON = "NOT_JSON"
    BAD_VALUE = "BAD_VALUE"
    TOO_LARGE = "TOO_LARGE"
    WRONG_REDIS_TYPE = "WRONG_REDIS_TYPE"


def describe(error: ValidationError) -> str:
    """The first faults as `field: what is wrong`. Never the value itself: it may be huge, or a secret."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    parts = []
    for fault in faults[:_SHOWN]:
        where = ".".join(str(step)[:40] for step in fault["loc"])
        parts.append(f"{where}: {fault['msg']}" if where else fault["msg"])
    more = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
    return ("; ".join(parts) + more)[:_SENTENCE_MAX]


def problem_of(error: ValidationError) -> str:
    """`NOT_JSON: …` or `BAD_VALUE: …`."""
    kinds = {fault["type"] for fault in error.errors(include_url=False, include_input=False, include_context=False)}
    name = Problem.NOT_JSON if "json_invalid" in kinds else Problem.BAD_VALUE
    return f"{name}: {describe(error)}"
