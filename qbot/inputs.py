"""Three inputs beyond the documents: acknowledge an alert, watch a price level, ask for a training.

Each is done once for ever, whatever is written again. An invalid value changes nothing and is told to a human; an
invalid element does its neighbours no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from qbot import alerts, control, limits, quoting, showing, showing_ml
from qbot.contract import keys
from qbot.contract.key import Key, Reading
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_extra import AlertAcknowledgement, MalformedElement, PriceAlert, TrainingRequest
from qbot.errors import DataUnavailable
from qbot.runtime import Runtime
from qbot.store import inputs as store
from qbot.store import state
from qbot.store.engine import transaction
from qbot.types import Quote

log = structlog.get_logger(__name__)
LEVEL, OUTSIDE = "price_alert", "price_alert_outside"  # kinds of what was told once for ever
SHOWN = timedelta(seconds=limits.PRICE_ALERT_SHOWN_S)
KEYS: tuple[Key[Any], ...] = (keys.ALERT_ACKNOWLEDGEMENTS, keys.PRICE_ALERTS, keys.TRAINING_REQUEST)


def handle(rt: Runtime) -> None:
    """Do what the three inputs ask for and was not done yet. Safe to call at any time and by several at once.

    New price levels are looked at here, all levels after each fetch. Raises BoardUnavailable, StoreUnavailable.
    """
    snapshot = rt.board.read_many(KEYS)
    for key in KEYS:
        _tell_what_is_invalid(rt, snapshot[key])
    acknowledge(rt, _sound(snapshot[keys.ALERT_ACKNOWLEDGEMENTS], AlertAcknowledgement))
    if not snapshot[keys.PRICE_ALERTS].problem:
        watch(rt, _sound(snapshot[keys.PRICE_ALERTS], PriceAlert))
    request = snapshot[keys.TRAINING_REQUEST].value
    if request is not None:
        ask_for_training(rt, request)


def acknowledge(rt: Runtime, seen: Sequence[AlertAcknowledgement]) -> None:
    """Mark alerts as seen by a human, and show it. Ids of no alert are ignored.

    An acknowledged alert stays on the board until it expires: it shows as acknowledged.
    """
    with transaction(rt.engine) as connection:
        unseen = store.not_acknowledged(connection, [one.alert_id for one in seen])
        new = [one for one in seen if one.alert_id in unseen]
        for one in new:
            store.acknowledge(connection, one.alert_id, one.session_id, rt.wall())
    for one in new:
        log.info("alert_acknowledged", alert_id=one.alert_id, by=one.session_id)
    if new:
        showing.alerts(rt)


def ask_for_training(rt: Runtime, request: TrainingRequest) -> None:
    """Record the request; the training worker asks for it within seconds. Until then `retrain_status` is pending."""
    with transaction(rt.engine) as connection:
        new = store.ask_for_training(connection, request.request_id, request.session_id, request.reason, rt.wall())
    if new:
        log.info("training_asked_for", request_id=request.request_id, reason=request.reason)
        showing_ml.training(rt)


# --- price levels -----------------------------------------------------------------------------------------------------


def watch(rt: Runtime, levels: Sequence[PriceAlert]) -> None:
    """From now on these levels are watched, and no others. New ones are looked at at once."""
    body = [json.loads(level.model_dump_json(exclude_unset=True)) for level in levels]
    with transaction(rt.engine) as connection:
        changed = store.keep(connection, keys.PRICE_ALERTS.name, body, rt.wall())
    tickers = set(rt.tickers)
    _tell_of_unknown(rt, [level for level in levels if level.symbol not in tickers])
    wanted = sorted({level.symbol for level in levels if level.symbol in tickers})
    if not changed or not wanted:
        return
    try:
        quotes = quoting.latest(rt, wanted)
    except DataUnavailable as error:
        log.warning("levels_not_looked_at", why=str(error))  # the next fetch does
    else:
        check_levels(rt, quotes)


def check_levels(rt: Runtime, quotes: Mapping[str, Quote]) -> None:
    """Raise the alert of each watched level that a fresh quote is at or beyond; once for each price_alert_id, ever.

    The levels are the last valid ones, also while the key is invalid.
    """
    now, raised = rt.market(), False
    with transaction(rt.engine) as connection:
        bodies = store.last_good(connection, keys.PRICE_ALERTS.name) or []
    levels = _sound(keys.PRICE_ALERTS.reading(json.dumps(bodies).encode()), PriceAlert)
    for level in _not_yet(rt, LEVEL, levels):
        quote = quotes.get(level.symbol)
        reached = _reached(level, quote, now) if quote else None
        if quote is not None and reached is not None:
            title = f"{level.symbol} is {reached} USD"
            message = f"{title}: the last price is {quote.price_usd.normalize():f} USD."
            raised = _raise(rt, LEVEL, level, Severity.WARNING, title, message) or raised
    if raised:
        showing.alerts(rt)


def _not_yet(rt: Runtime, kind: str, levels: Sequence[PriceAlert]) -> list[PriceAlert]:
    with transaction(rt.engine) as connection:
        told = state.known(connection, kind, [level.price_alert_id for level in levels])
    return [level for level in levels if level.price_alert_id not in told]


def _reached(level: PriceAlert, quote: Quote, now: datetime) -> str | None:
    """Which level the price is at or beyond, in words; None when none, or when the quote is not of this moment."""
    age_s = (now - quote.at).total_seconds()
    if not -limits.CLOCK_SKEW_S <= age_s <= limits.QUOTE_MAX_AGE_S:
        return None
    if level.above is not None and quote.price_usd >= level.above:
        return f"at or above {level.above.normalize():f}"
    if level.below is not None and quote.price_usd <= level.below:
        return f"at or below {level.below.normalize():f}"
    return None


def _tell_of_unknown(rt: Runtime, levels: Sequence[PriceAlert]) -> None:
    title = "A price level cannot be watched"
    told = False
    for level in _not_yet(rt, OUTSIDE, levels):
        message = f"QBot has no quotes of {level.symbol}: it is none of its tickers."
        told = _raise(rt, OUTSIDE, level, Severity.INFO, title, message) or told
    if told:
        showing.alerts(rt)


def _raise(rt: Runtime, kind: str, level: PriceAlert, severity: Severity, title: str, message: str) -> bool:
    """Raise an alert once for ever for a level's id, however often it is asked for."""
    now = rt.wall()
    alert_id = f"{kind}_{hashlib.sha256(level.price_alert_id.encode()).hexdigest()[:24]}"
    words = f"{message} {level.note}" if level.note else message
    row = alerts.row_of(alert_id, AlertType.PRICE_ALERT, severity, title, words, level.symbol, now, life=SHOWN)
    with transaction(rt.engine) as connection:
        if not state.first_time(connection, kind, level.price_alert_id, now):
            return False
        alerts.enter(rt, connection, [row])
    log.info("price_alert", price_alert_id=level.price_alert_id, title=title)
    return True


# --- what cannot be used ----------------------------------------------------------------------------------------------


def _sound(reading: Reading[Any], kind: type[Any]) -> list[Any]:
    return [item for item in reading.value or () if isinstance(item, kind)]


def _tell_what_is_invalid(rt: Runtime, reading: Reading[Any]) -> None:
    """One alert for a key: the value as a whole, or the first element that is not valid."""
    problem = reading.problem
    if problem is None and isinstance(reading.value, tuple):
        broken = [(at, item) for at, item in enumerate(reading.value, 1) if isinstance(item, MalformedElement)]
        if broken:
            at, item = broken[0]
            problem = f"element {at} of {len(reading.value)} is left out: {item.problem}"
    if problem is not None:
        message = f"{reading.key}: {problem}"
        title = "An input is unreadable"
        control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, title, message, about=reading.key)
