"""The board from nothing: after a FLUSHALL every key QBot writes is written again, from Postgres, broker and provider.

Nothing here trades: what stood on the board starts nothing, and no order is made of what is shown. Each part stands
by itself; one that fails is told to a human, and the ticks bring it later.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from qbot import (
    control,
    enhancing,
    grok_asking,
    health,
    reconciliation,
    showing,
    showing_grok,
    showing_market,
    showing_ml,
    trading,
)
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.errors import BoardUnavailable, QBotError
from qbot.market.calendar import market_hours
from qbot.runtime import Runtime
from qbot.store import state
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
Part = Callable[[Runtime], object]


def needed(rt: Runtime) -> bool:
    """True when the board is new or was lost: only a training and a rebuild write this key, so no tick brings it."""
    return not rt.board.read(keys.MODEL_TRAINED).present


def rebuild(rt: Runtime) -> list[str]:
    """Write every key again; the names of the parts that could not be. Sends no order. Raises BoardUnavailable."""
    failed = [name for name, part in PARTS.items() if not _done(rt, name, part)]
    showing.alerts(rt)
    log.info("board_rebuilt", parts=len(PARTS), failed=failed)
    return failed


def _done(rt: Runtime, name: str, part: Part) -> bool:
    try:
        part(rt)
    except BoardUnavailable:
        raise
    except (QBotError, LookupError, ValueError) as error:  # ValueError: stored by another version, not valid any more
        log.error("part_not_rebuilt", part=name, why=f"{type(error).__name__}: {error}")
        title, message = "A part of the board could not be rebuilt", f"{name}: {type(error).__name__}: {error}"
        control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, title, message)
        return False
    return True


def _forecasts(rt: Runtime) -> None:
    now = rt.market()
    view = trading.look(rt, control.sync_settings(rt).config, now, grok=grok_asking.picks(rt, rt.tickers))
    showing_ml.forecasts(rt, view.wishes, now)


def _books(rt: Runtime) -> None:
    showing.books(rt, reconciliation.snapshot(rt.desk))


def _session(rt: Runtime) -> None:
    settings = control.sync_settings(rt)
    control.sync_switch(rt)
    with transaction(rt.engine) as connection:
        stopped_at = state.last_stop_wall(connection)
    if stopped_at is not None and not rt.board.read(keys.AUTOTRADING_STOPPED_AT).present:
        rt.board.write(keys.AUTOTRADING_STOPPED_AT, stopped_at, now=rt.wall())
    showing.session(rt, settings, market_hours(rt.market()))


PARTS: dict[str, Part] = {  # what a human misses most comes first; the session counts the positions of the books
    "market status": showing.market_status,
    "system status": health.show_status,
    "books": _books,
    "session": _session,
    "health": health.show_health,
    "market data": showing_market.market_data,
    "days of Yahoo Finance": lambda rt: enhancing.show(rt, rt.tickers),
    "forecasts": _forecasts,
    "Grok's picks": showing_grok.picks,
    "outcomes of forecasts": showing_ml.outcomes,
    "performance": showing.performance,
    "training": showing_ml.training,  # last: `needed` asks for it
}
