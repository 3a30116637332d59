"""Bars that came, into the store: what is on another scale since a split is put right first, in one transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import pandas as pd
import structlog
from sqlalchemy.engine import Connection

from qbot import limits
from qbot.clock import NEW_YORK
from qbot.market import split_watch
from qbot.market.plans import ORDER
from qbot.store import bar_history, bars, locks
from qbot.store.bar_history import Split

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """`written`: bars that are new or changed. `doubtful`: symbols of which bars were left out, since they are on
    another scale than those there are and it is not clear why.
    """

    written: int = 0
    splits: tuple[Split, ...] = ()
    doubtful: tuple[str, ...] = ()


def keep(
    connection: Connection,
    frame: pd.DataFrame,
    source: str,
    now: datetime,
    wall: datetime,
    order: Sequence[str] = ORDER,
    prices: Mapping[str, Decimal] | None = None,
) -> Kept:
    """Write bars of one source, as `bars.upsert` does. A bar of a source that stands before it in `order` stays.

    `prices`: what tickers cost now by all sources, USD: a split that they contradict is none.

    Where they overlap with bars there are and show a split, those of the symbol are rescaled and the split is noted.
    One writer at a time: no two see the same split.
    """
    locks.within(connection, locks.BARS)
    if frame.empty:
        return Kept()
    splits, doubtful = [], []
    for symbol, seen in _seen(connection, frame).items():
        contradicted = prices is not None and symbol in prices and _contradicts(prices[symbol], frame, symbol, seen)
        if not seen.sure or contradicted or _behind(connection, symbol, seen):
            frame = frame[(frame["symbol"] != symbol) | (frame["ts"] > seen.until)]
            doubtful.append(symbol)
            log.warning("bars_on_another_scale", symbol=symbol, source=source, ratio=f"{seen.ratio:.4g}")
            continue
        changed = bars.rescale(connection, symbol, seen.until, seen.ratio)
        ex_day = (seen.after or now).astimezone(NEW_YORK).date()
        split = Split(symbol, ex_day, seen.ratio, source, changed)
        bar_history.note_split(connection, split, now, wall)
        splits.append(split)
        log.warning(
            "split", symbol=symbol, kind=split.kind, ratio=f"{seen.ratio:.4g}", ex_day=ex_day, source=source,
            bars=changed,
        )  # fmt: skip
    written = bars.upsert(connection, frame, source, keeps=better(source, order))
    return Kept(written, tuple(splits), tuple(doubtful))


def better(source: str, order: Sequence[str] = ORDER) -> tuple[str, ...]:
    """The sources that are asked before this one."""
    return tuple(order[: order.index(source)]) if source in order else ()


def _seen(connection: Connection, frame: pd.DataFrame) -> dict[str, split_watch.Seen]:
    end = frame["ts"].max() + pd.Timedelta(microseconds=1)
    symbols = [str(symbol) for symbol in frame["symbol"].unique()]
    stored = bars.closes(connection, symbols, frame["ts"].min().to_pydatetime(), end.to_pydatetime())
    found = {}
    for symbol in split_watch.changed(stored, frame):
        part = frame[frame["symbol"] == symbol].drop_duplicates("ts", keep="last")
        seen = split_watch.seen(stored[stored["symbol"] == symbol], part)
        if seen is not None:
            found[symbol] = seen
    return found


def _contradicts(price: Decimal, frame: pd.DataFrame, symbol: str, seen: split_watch.Seen) -> bool:
    """Whether a price of now is nearer to the scale of the bars there are than to that of those that came."""
    came = float(frame.loc[frame["symbol"] == symbol].sort_values("ts")["close"].iloc[-1])
    known = came * float(seen.ratio)
    return abs(math.log(float(price) / known)) < abs(math.log(float(price) / came))


def _behind(connection: Connection, symbol: str, seen: split_watch.Seen) -> bool:
    """Whether the source only does not know yet of a split that another one has told of."""
    return any(
        abs(split.ratio * seen.ratio - 1) < limits.SPLIT_BARS_TOLERANCE_PCT
        and abs((seen.until.date() - split.ex_day).days) <= limits.SPLIT_LAG_DAYS
        for split in bar_history.splits(connection, [symbol])
    )
