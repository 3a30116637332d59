"""Bars that came, into the store: judged first, and what is on another scale since a split put right, all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import structlog
from sqlalchemy.engine import Connection

from qbot import limits
from qbot.clock import NEW_YORK
from qbot.errors import DataUnavailable
from qbot.market.bar_check import Heard, Judged, Outcome, Overlap, judge
from qbot.market.plans import ORDER
from qbot.store import bar_history, bars, locks, quotes
from qbot.store.bar_history import Split
from qbot.types import BAR_MINUTES

log = structlog.get_logger(__name__)
MAX_AGE = timedelta(seconds=limits.QUOTE_MAX_AGE_S)
SKEW = timedelta(seconds=limits.CLOCK_SKEW_S)
OF_NOW = timedelta(minutes=BAR_MINUTES, seconds=limits.BAR_OF_NOW_S)
HUMAN = "human"


@dataclass(frozen=True, slots=True)
class Kept:
    """`written`: bars that are new or changed. `doubtful`: symbols of which no bar was written, and why."""

    written: int = 0
    splits: tuple[Split, ...] = ()
    doubtful: Mapping[str, str] = field(default_factory=dict)


def keep(
    connection: Connection,
    frame: pd.DataFrame,
    source: str,
    now: datetime,
    wall: datetime,
    order: Sequence[str] = ORDER,
) -> Kept:
    """Write bars of one source, as `bars.upsert` does. A bar of a source that stands before it in `order` stays.

    Each symbol's bars are judged beside those there are and beside the prices of now, see `bar_check`: all of them are
    written, or none. After a split those there are become what they would be now, and it is noted. One writer at a
    time: no two see the same split.
    """
    locks.within(connection, locks.BARS)
    if frame.empty:
        return Kept()
    splits, doubtful = [], {}
    for symbol, part, judged in _judged(connection, frame, source, now):
        if judged.outcome is Outcome.DOUBTFUL:
            doubtful[symbol] = judged.words
            log.warning("bars_in_doubt", symbol=symbol, source=source, why=judged.words)
        elif judged.outcome is Outcome.SPLIT:
            assert judged.ratio is not None
            splits.append(_rescale(connection, symbol, judged.ratio, source, _ex_day(connection, symbol, part, now)))
            bar_history.note_split(connection, splits[-1], now, wall)
    if doubtful:
        frame = frame[~frame["symbol"].isin(list(doubtful))]
    written = bars.upsert(connection, frame, source, keeps=better(source, order))
    return Kept(written, tuple(splits), doubtful)


def better(source: str, order: Sequence[str] = ORDER) -> tuple[str, ...]:
    """The sources that are asked before this one."""
    return tuple(order[: order.index(source)]) if source in order else ()


def by_hand(connection: Connection, symbol: str, ratio: Decimal, now: datetime, wall: datetime) -> Split:
    """A split that a human has told of, of `ratio` new shares for an old one. Raises DataUnavailable without bars."""
    locks.within(connection, locks.BARS)
    if not bars.newest(connection, [symbol]):
        raise DataUnavailable(f"there are no bars of {symbol}")
    split = _rescale(connection, symbol, ratio, HUMAN, now)
    bar_history.note_split(connection, split, now, wall)
    return split


def _rescale(connection: Connection, symbol: str, ratio: Decimal, source: str, first: datetime) -> Split:
    changed = bars.rescale(connection, symbol, ratio)
    split = Split(symbol, first.astimezone(NEW_YORK).date(), ratio, source, changed)
    log.warning(
        "split", symbol=symbol, kind=split.kind, ratio=f"{ratio:.4g}", ex_day=split.ex_day, source=source, bars=changed,
    )  # fmt: skip
    return split


def _ex_day(connection: Connection, symbol: str, part: pd.DataFrame, now: datetime) -> datetime:
    """When the new shares came: at the first bar that is new, else now."""
    newest, _close = bars.newest(connection, [symbol])[symbol]
    later = part["ts"][part["ts"] > newest]
    return later.min().to_pydatetime() if len(later) else now


def _judged(
    connection: Connection, frame: pd.DataFrame, source: str, now: datetime
) -> Iterator[tuple[str, pd.DataFrame, Judged]]:
    once = frame.astype({"symbol": str}).drop_duplicates(["symbol", "ts"], keep="last").sort_values("ts")
    symbols = once["symbol"].unique().tolist()
    first, last = once["ts"].iloc[0].to_pydatetime(), once["ts"].iloc[-1].to_pydatetime()
    stored = bars.closes(connection, symbols, first, last + timedelta(microseconds=1))
    newest, heard = bars.newest(connection, symbols), _heard(connection, symbols, source, now)
    stored = stored[stored["close"].astype(float).between(0.0, math.inf, inclusive="neither")]  # else it is no price
    both = stored.merge(once[["symbol", "ts", "close"]], on=["symbol", "ts"], suffixes=("_known", "_came"))
    overlaps = {str(symbol): part for symbol, part in both.sort_values("ts").groupby("symbol")}
    for symbol, part in once.groupby("symbol"):
        yield (
            str(symbol),
            part,
            _judge(part, overlaps.get(str(symbol)), newest.get(str(symbol)), heard(str(symbol)), now),
        )


def _judge(
    part: pd.DataFrame,
    both: pd.DataFrame | None,
    newest: tuple[datetime, float] | None,
    heard: Heard,
    now: datetime,
) -> Judged:
    began, close = part["ts"].iloc[-1].to_pydatetime(), float(part["close"].iloc[-1])
    before_usd = newest[1] if newest is not None and newest[0] < part["ts"].iloc[0] else None
    before_usd = before_usd if before_usd is not None and 0.0 < before_usd < math.inf else None
    overlap = Overlap(np.empty(0), np.empty(0))
    if both is not None and newest is not None:
        to_newest = newest[0] <= both["ts"].iloc[-1].to_pydatetime()
        overlap = Overlap(both["close_known"].to_numpy(float), both["close_came"].to_numpy(float), to_newest)
    return judge(overlap, close, heard, of_now=now - began <= OF_NOW, before_usd=before_usd)


def _heard(connection: Connection, symbols: Sequence[str], source: str, now: datetime) -> Callable[[str], Heard]:
    """What is known of the prices of now. What was accepted of the source alone bears its bars out no better."""
    since, until = now - MAX_AGE, now + SKEW
    accepted = {s: one for s, one in quotes.accepted(connection, symbols).items() if {*one.sources} - {source}}
    young = {s: float(one.quote.price_usd) for s, one in accepted.items() if since <= one.quote.at <= until}
    told = quotes.told(connection, symbols, since, until)

    def of(symbol: str) -> Heard:
        others = [float(price) for name, price in told.get(symbol, {}).items() if name != source]
        return Heard(young.get(symbol), [price for price in others if 0.0 < price < math.inf])

    return of
