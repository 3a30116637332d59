"""Writes Grok's picks onto the board, from Postgres: what is lost can be shown again."""

from __future__ import annotations

from typing import Any

from qbot import grok_asking, projections_grok
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.runtime import Runtime


def picks(rt: Runtime) -> None:
    """`backend:grok_candidates` and `grok_topstocks_prediction`. Without picks that count: none, and not there."""
    answer = grok_asking.shown(rt, rt.market())
    writes: list[tuple[Key[Any], Any]] = [
        (keys.GROK_CANDIDATES, projections_grok.candidates(answer) if answer else ()),
        (keys.GROK_TOPSTOCKS, projections_grok.top_stocks(answer) if answer else None),
    ]
    rt.board.write_many(writes, now=rt.wall())
