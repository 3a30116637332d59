"""What a human asks for: manual orders, emergencies, acknowledgements, price levels, a training."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from qbot import clock
from qbot.client import documents
from qbot.client.errors import EmergencyLatched, OrderNotFinal
from qbot.client.reader import Reader
from qbot.client.waiting import LOOKED_WITHIN_S, EmergencyReport, become_of, released_by
from qbot.contract import keys
from qbot.contract.payloads_extra import AlertAcknowledgement, PriceAlert
from qbot.contract.payloads_orders import EmergencyKind, ManualOrder, ManualOrderStatus
from qbot.contract.payloads_settings import RiskSettings

RELEASE_TRIES = 3  # one that QBot finds before it has looked at its own latch is no change to it


class Requests(Reader):
    """A reader that also asks. What QBot would refuse is refused here with a ValueError, and nothing is written."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 6380,
        password: str = "",
        username: str | None = None,
        session_id: str | None = None,
        *,
        patience_s: float = 5.0,
        wall: Callable[[], datetime] = clock.wall_now,
    ) -> None:
        super().__init__(host, port, password, username, patience_s=patience_s, wall=wall)
        self.session_id = session_id or self.new_session()

    def new_session(self) -> str:
        """A new session id, which is this client's from now on. Starting with it ends the session before."""
        self.session_id = self._new_id("frontend")
        return self.session_id

    # --- manual orders ---

    def place_order(
        self,
        symbol: str,
        side: str,
        quantity: int,
        *,
        order_type: str = "MARKET",
        limit_price: Any = None,
        stop_price: Any = None,
        time_in_force: str = "DAY",
        priority: str = "MEDIUM",
        order_id: str | None = None,
    ) -> str:
        """Asks for one order; returns its id. Asking again with the same id is the same order. USD a share.

        Raises ValueError; KeyUnusable when somebody has left something invalid in the shared list.
        """
        order_id = order_id or self._new_id("manual")
        fields = {
            "order_id": order_id, "symbol": symbol, "side": side, "quantity": quantity, "order_type": order_type,
            "limit_price": limit_price, "stop_price": stop_price, "time_in_force": time_in_force, "priority": priority,
        }  # fmt: skip
        order = documents.order(fields, self.session_id, self.wall())
        self._link.change(keys.MANUAL_ORDERS, lambda orders: documents.with_order(orders, order))
        return order_id

    def order(self, order_id: str) -> ManualOrder | None:
        """One order as it stands; None when the list does not have it."""
        return documents.order_of(self.get(keys.MANUAL_ORDERS).value, order_id)

    def wait_for_order(
        self,
        order_id: str,
        until: Iterable[ManualOrderStatus] = documents.FINAL,
        timeout_s: float = 60.0,
    ) -> ManualOrder:
        """Waits until an order is filled, cancelled or rejected, or as `until` says. Raises OrderNotFinal."""
        wanted, wait = set(until), self._wait([keys.MANUAL_ORDERS])

        def now() -> ManualOrder | None:
            return documents.order_of(wait.value(keys.MANUAL_ORDERS), order_id)

        wait.until(lambda: (order := now()) is not None and order.status in wanted, timeout_s)
        order = now()
        if order is None:
            raise OrderNotFinal(
                f"{order_id} is not on the list: someone wrote over it before QBot saw it, or removed it. Placing it"
                f" again with the same order_id cannot execute it twice{wait.trouble}"
            )
        if order.status not in wanted:
            raise OrderNotFinal(f"{order_id} is {order.status}{wait.trouble}")
        return order

    # --- emergencies ---

    def emergency(
        self,
        kind: EmergencyKind | str,
        reason: str,
        *,
        confirmed: bool = True,
        force: bool = False,
        wait_s: float | None = None,
    ) -> EmergencyReport | None:
        """STOP_ALL_TRADING, CLOSE_ALL_POSITIONS or CANCEL_ALL_ORDERS; wins over everything else.

        With `wait_s`, what became of it as far as the board told by then. Raises ValueError when it is not confirmed.
        """
        if not confirmed:
            raise ValueError(f"{keys.EMERGENCY_ACTIONS.name}: QBot acts only on what is confirmed")
        document = {
            "action": str(kind), "reason": reason, "timestamp": self.wall(), "session_id": self.session_id,
            "confirmed": confirmed, "force": force,
        }  # fmt: skip
        action = documents.payload(keys.EMERGENCY_ACTIONS, document)
        if wait_s is None:
            self._link.write([(keys.EMERGENCY_ACTIONS, action)])
            return None
        return become_of(self._wait, self._link, action, wait_s)

    def release_emergency_stop(self, wait_s: float | None = LOOKED_WITHIN_S) -> None:
        """Releases the latch; trading then needs a new `start`.

        Waits `wait_s` for QBot to look, since it refuses a start that it finds together with a release; None: it does
        not wait. Raises NotInTime, or EmergencyLatched when QBot sets the latch again and again.
        """

        def released(risk: RiskSettings | None) -> RiskSettings:
            return (risk or RiskSettings()).model_copy(update={"emergency_stop_active": False})

        for _ in range(RELEASE_TRIES):
            self._link.change(keys.RISK_SETTINGS, released)
            if wait_s is None or released_by(self._wait, self._link, wait_s):
                return
        raise EmergencyLatched("QBot keeps the emergency stop latched; its alerts say why")

    # --- what no document has ---

    def acknowledge(self, alert_id: str) -> None:
        """Marks an alert of `backend:alerts_active` as seen by a human."""
        document = {"alert_id": alert_id, "acknowledged_at": self._now(), "session_id": self.session_id}
        seen = documents.model(keys.ALERT_ACKNOWLEDGEMENTS.name, AlertAcknowledgement, document)
        self._link.change(keys.ALERT_ACKNOWLEDGEMENTS, lambda old: documents.with_last(old, seen, "alert_id"))

    def price_alert(self, symbol: str, *, above: Any = None, below: Any = None, note: str = "") -> str:
        """Asks to be told when a price crosses a level, once; returns the id of the request. USD a share.

        Raises ValueError where the list is full: no level leaves it but by `remove_price_alert`.
        """
        alert_id = self._new_id("price_alert")
        document = {
            "price_alert_id": alert_id, "symbol": symbol, "above": above, "below": below, "note": note,
            "created_at": self._now(), "session_id": self.session_id,
        }  # fmt: skip
        level = documents.model(keys.PRICE_ALERTS.name, PriceAlert, document)
        self._link.change(keys.PRICE_ALERTS, lambda old: documents.with_new(old, level, "price_alert_id"))
        return alert_id

    def remove_price_alert(self, price_alert_id: str) -> None:
        """Takes a level back; one that is not there is no error."""

        def without(old: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
            kept = tuple(level for level in old or () if getattr(level, "price_alert_id", None) != price_alert_id)
            return None if kept == (old or ()) else kept

        self._link.change(keys.PRICE_ALERTS, without)

    def train(self, reason: str) -> str:
        """Asks for a training; returns the id of the request. While another one runs, it waits."""
        request_id = self._new_id("training")
        document = {
            "request_id": request_id, "reason": reason, "created_at": self._now(), "session_id": self.session_id,
        }  # fmt: skip
        self._link.write([(keys.TRAINING_REQUEST, documents.payload(keys.TRAINING_REQUEST, document))])
        return request_id

    def _now(self) -> datetime:
        return documents.milliseconds(self.wall())

    def _new_id(self, prefix: str) -> str:
        return documents.unique_id(prefix, self.wall(), secrets.token_hex(4))
