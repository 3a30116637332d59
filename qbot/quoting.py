"""The price of a moment: the broker's own feed now, held against what all sources came to in the last pass.

A lie, or a leap, of the one feed that is asked at the moment of a trade has to get past the others' word; where it does
not, there is no price, and whoever needs one waits for the next pass. What it tells of another time tells nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from sqlalchemy.engine import Connection

from qbot import limits
from qbot.errors import ConfigError, DataUnavailable
from qbot.market.aggregation import Basis, Market, Reason, near, unsound
from qbot.market.alpaca_data import SOURCE
from qbot.market.calendar import UNUSABLE, last_and_before, sessions_around
from qbot.runtime import Runtime
from qbot.store import bars, quotes
from qbot.store.engine import transaction
from qbot.store.quotes import Accepted
from qbot.types import Quote

log = structlog.get_logger(__name__)
MAX_AGE = timedelta(seconds=limits.QUOTE_MAX_AGE_S)
SKEW = timedelta(seconds=limits.CLOCK_SKEW_S)
OF_ITS_TIME = frozenset({Reason.STALE, Reason.OUT_OF_SESSION, Reason.FUTURE, Reason.OLDER})  # the next one may be right
_OWED = threading.BoundedSemaphore(limits.QUOTES_OWED_MAX)


def latest(rt: Runtime, symbols: Collection[str]) -> dict[str, Quote]:
    """What these symbols cost now, where that is known. Raises DataUnavailable when nothing is; StoreUnavailable."""
    wanted, now = sorted(symbols), rt.market()
    with transaction(rt.engine) as connection:
        known = quotes.accepted(connection, wanted)
        doubted = quotes.refused(connection, SOURCE, wanted, now - MAX_AGE, now + SKEW)
        verdicts = quotes.verdicts(connection, wanted, now - MAX_AGE, now + SKEW)
        market = _market(connection, wanted, now)
    why: DataUnavailable | None = None
    try:
        fresh = _ask(rt, wanted)
    except DataUnavailable as error:
        fresh, why = {}, error
    odd = {symbol: wrong[0] for symbol, quote in fresh.items() if (wrong := unsound(quote, market))}
    unused = set(odd) | {symbol for symbol, reason in doubted.items() if reason not in OF_ITS_TIME}
    # No price of the pass either: what it heard settles nothing, or what the broker tells now is a split, or no number.
    unsettled = {symbol for symbol, reasons in verdicts.items() if _open(reasons)}
    unsettled |= {symbol for symbol, reason in odd.items() if reason not in OF_ITS_TIME}
    believed = {symbol: quote for symbol, quote in fresh.items() if symbol not in unused | unsettled}
    found = of_now(believed, {symbol: one for symbol, one in known.items() if symbol not in unsettled}, now)
    if why is not None and not found:
        raise why
    in_doubt = sorted((set(fresh) - set(found)) | unsettled)
    if in_doubt or why is not None:
        log.warning("prices_in_doubt", symbols=in_doubt, why=str(why) if why else "others told something else")
    return found


def _ask(rt: Runtime, symbols: Sequence[str]) -> dict[str, Quote]:
    """What the broker's feed tells, within QUOTES_WITHIN_S. Raises DataUnavailable.

    In a thread of its own, since an answer that comes byte by byte outlasts every time-out of a socket; past its time
    it is left to itself and ends with its connection.
    """
    try:
        data, received_at = rt.data, rt.wall()
    except ConfigError as error:
        raise DataUnavailable(str(error)) from None
    if not _OWED.acquire(blocking=False):
        raise DataUnavailable(f"{SOURCE}: earlier questions are not answered yet")
    done: list[dict[str, Quote] | Exception] = []

    def ask() -> None:
        try:
            done.append(data.latest(symbols, received_at))
        except Exception as error:  # noqa: BLE001 — raised where it was asked for
            done.append(error)
        finally:
            _OWED.release()

    thread = threading.Thread(target=ask, name="prices of a trade", daemon=True)
    thread.start()
    thread.join(limits.QUOTES_WITHIN_S)
    outcome = done[0] if done else DataUnavailable(f"{SOURCE}: no whole answer in time")
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _market(connection: Connection, symbols: Collection[str], now: datetime) -> Market:
    """What a quote of now is judged by. Raises DataUnavailable without a calendar: it could be of any session."""
    try:
        sessions, before = sessions_around(now), last_and_before(now)[1]
    except UNUSABLE as error:
        raise DataUnavailable(f"no calendar to judge prices by: {type(error).__name__}: {error}") from error
    return Market(now, sessions, bars.last_closes(connection, symbols, before))


def of_now(fresh: Mapping[str, Quote], known: Mapping[str, Accepted], now: datetime) -> dict[str, Quote]:
    """The newer of both where they are near; the known one alone while it is young, and the fresh one alone.

    `fresh`: sound quotes of now.
    """
    young = {s: one for s, one in known.items() if -SKEW <= now - one.quote.at <= MAX_AGE}
    found = {symbol: quote for symbol, quote in fresh.items() if symbol not in young}
    for symbol, one in young.items():
        quote = fresh.get(symbol)
        if quote is None:
            found[symbol] = one.quote
        elif near(quote.price_usd, one.quote.price_usd, _band_pct(one)):
            found[symbol] = max(one.quote, quote, key=lambda each: each.at)
    return found


def _open(reasons: Collection[str | None]) -> bool:
    """Whether the newest pass heard of other prices and could use none: then the one before it is nobody's any more."""
    return None not in reasons and any(reason not in OF_ITS_TIME for reason in reasons)


def _band_pct(known: Accepted) -> Decimal:
    alone = known.basis == Basis.ALONE
    return limits.QUOTE_JUMP_PCT if alone else limits.QUOTE_DRIFT_PCT
