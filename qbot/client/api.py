"""`QBotClient`: everything a frontend does, by the documented keys alone.

One client is one user interface with one session; threads may share it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from qbot.client import documents
from qbot.client.errors import WrongPassword
from qbot.client.requests import Requests
from qbot.client.waiting import LOOKED_WITHIN_S, await_start
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.errors import BoardUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
Document = Mapping[str, Any] | BaseModel
HEARTBEAT_S = 15.0  # a few of them fit into the time after which QBot takes a user interface for gone


class QBotClient(Requests):
    """A frontend: it reads and asks as its bases do, starts and stops trading, and writes settings."""

    _ui: Mapping[str, Any] = {}

    def start(self, *, wait_s: float | None = LOOKED_WITHIN_S, **session: Any) -> BackendStatus | None:
        """Switches trading on: `session` holds the documented fields of `autotrading:enabled`, thresholds as fractions.

        Waits until QBot has taken it up and returns what it does then; `wait_s` None returns at once, with None.
        Raises EmergencyLatched (nothing was written), or StartNotTakenUp with what QBot says: the start is withdrawn.
        """
        writes = documents.start(session, self.session_id, self.wall())
        status = None
        if wait_s is None:
            self._link.write(writes)
        else:
            status = await_start(self._wait, self._link, writes, self.session_id, self.wall, wait_s)
        self._ui = {**self._ui, "autotrading_enabled": True}
        return status

    def stop(self) -> None:
        """Switches trading off. Entries are cancelled, protective stops rest. It does not wait; see `wait_until`."""
        self._link.write(documents.stop(self.wall()))
        self._ui = {**self._ui, "autotrading_enabled": False}

    def heartbeat(self, within_s: float | None = None, **ui_state: Any) -> None:
        """A sign of life. `ui_state`: fields of `frontend:ui_state`; they are remembered for the next one."""
        shown = {**self._ui, **ui_state}
        document = {**shown, "last_refresh": self._now(), "session_id": self.session_id}
        state = documents.payload(keys.UI_STATE, document)
        self._ui = shown
        self._link.write([(keys.UI_STATE, state)], within_s)

    @contextmanager
    def session(self, every_s: float = HEARTBEAT_S, **ui_state: Any) -> Iterator[Self]:
        """Heartbeats in the background until the block ends. It neither starts nor stops trading."""
        self.heartbeat(**ui_state)
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(over, every_s), name="qbot-heartbeat", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()

    def _beat(self, over: threading.Event, every_s: float) -> None:
        while not over.wait(every_s) and not self._link.closed.is_set():
            try:
                self.heartbeat(within_s=0.0)  # the next one is the next try
            except BoardUnavailable as error:
                log.warning("no heartbeat: %s", error)
            except WrongPassword as error:
                log.error("no heartbeats any more: %s", error)
                return

    def configure(
        self,
        *,
        trading_config: Document | None = None,
        bot_strategy: Document | None = None,
        portfolio: Document | None = None,
    ) -> None:
        """Writes settings, all at once. A field that is left out stays as it is in QBot. Raises ValueError."""
        at = self._now()
        mine = {"session_id": self.session_id, "updated_at": at}
        given: list[tuple[Key[Any], Document | None, dict[str, Any]]] = [
            (keys.TRADING_CONFIG, trading_config, {**mine, "updated_by": documents.SETTINGS_BY}),
            (keys.BOT_STRATEGY, bot_strategy, mine),
            (keys.PORTFOLIO_SETTINGS, portfolio, {"updated_at": at}),
        ]
        self._link.write([(key, documents.signed(key, doc, sign)) for key, doc, sign in given if doc is not None])

    def write(self, key: Key[T], value: T | None) -> None:
        """Writes any key that a frontend may write, whole; None removes it. Raises ValueError."""
        self._link.write([(key, value)])
