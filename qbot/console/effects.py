"""What QBot did about a write, as far as the board tells within a few seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from qbot import clock
from qbot.console.changes import short
from qbot.console.writing import Wish
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_channels import StrategyConfigChange, Update
from qbot.contract.payloads_extra import AlertAcknowledgement
from qbot.contract.payloads_orders import EmergencyAction, EmergencyKind, ManualOrder, ManualOrderStatus

WAIT_S = 5.0
_STEP_S = 0.1
_LINGER_S = 0.4  # what belongs together is told in one breath
_SWITCH = {
    key.name
    for key in (
        keys.AUTOTRADING_ENABLED,
        keys.TRADING_SETTINGS,
        keys.AUTOTRADING_STATUS,
        keys.RISK_SETTINGS,
        keys.EMERGENCY_ACTIONS,
    )
}
_SETTINGS = {key.name for key in (keys.TRADING_CONFIG, keys.BOT_STRATEGY, keys.PORTFOLIO_SETTINGS)}
_STATE = {key.name for key in (keys.AUTOTRADING_BACKEND_STATUS, keys.AUTOTRADING_SESSION_ACTIVE)}
# How long QBot may take at most, in seconds: the beat task that reads the key when nothing else has.
_LOOKS_EVERY_S = {keys.MANUAL_ORDERS.name: 30, keys.ALERT_ACKNOWLEDGEMENTS.name: 30, keys.UI_STATE.name: 30}


@dataclass(frozen=True)
class Effect:
    """One thing that QBot was heard to do ("": the state tells it); `settled`: nothing more is to be waited for."""

    words: str
    settled: bool = True


@contextmanager
def listening(client: redis.Redis) -> Iterator[redis.client.PubSub]:
    """Subscribed before anything is written, so that no answer is missed. Raises redis.RedisError."""
    with client.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(keys.UPDATES.name, keys.STRATEGY_CONFIG.name)
        listener.get_message(timeout=1.0)
        yield listener


def answers(key: Key[Any]) -> bool:
    """Whether QBot says anything on the board about a write of this key."""
    return key.name != keys.PRICE_ALERTS.name


def heard(listener: redis.client.PubSub, wanted: Wish, wait_s: float) -> list[str] | None:
    """What QBot did, in the order told; None when it has said nothing by then. Raises redis.RedisError."""
    told: list[str] | None = None
    deadline = clock.monotonic_s() + wait_s
    while clock.monotonic_s() < deadline:
        message = listener.get_message(timeout=_STEP_S)
        effect = effect_of(wanted, str(message["channel"], "utf-8"), message["data"]) if message else None
        if effect is None:
            continue
        told = told or []
        if effect.words and effect.words not in told:
            told.append(effect.words)
        if effect.settled:
            deadline = min(deadline, clock.monotonic_s() + _LINGER_S)
    return told


def effect_of(wanted: Wish, channel: str, raw: bytes) -> Effect | None:
    """What one message says about the write; None where it is about something else."""
    if channel == keys.STRATEGY_CONFIG.name:
        change = StrategyConfigChange.model_validate_json(raw)
        words = f"{change.key} is now {short(change.value)} (settings revision {change.revision})"
        return Effect(words) if wanted.key.name in _SETTINGS | _SWITCH else None
    update = Update.model_validate_json(raw)
    if update.key == keys.AUTOTRADING_ERROR.name and update.value is not None:
        return Effect("")
    if wanted.key.name in _SWITCH:
        return _of_the_switch(wanted, update)
    special = _SPECIAL.get(wanted.key.name)
    return special(wanted, update) if special else None


def state(client: redis.Redis) -> str:
    """What QBot does now, in one line. Raises redis.RedisError."""
    status = _value(client, keys.AUTOTRADING_BACKEND_STATUS)
    session, error = _value(client, keys.AUTOTRADING_SESSION_ACTIVE), _value(client, keys.AUTOTRADING_ERROR)
    line = f"{keys.AUTOTRADING_BACKEND_STATUS.name}: {status or 'not written yet'}"
    line += f"; session {session}" if session else "; no session trades"
    return line + (f"; {keys.AUTOTRADING_ERROR.name}: {short(error, 300)}" if error else "")


def silence(key: Key[Any], wait_s: float) -> str:
    """What to say when nothing was heard."""
    if key.name == keys.PRICE_ALERTS.name:
        return "QBot raises one alert for each level that is crossed"
    every = 10 if key.name in _SWITCH else _LOOKS_EVERY_S.get(key.name, 120)
    return (
        f"QBot has said nothing about it within {wait_s:g} s. It looks at this key every {every} s at the latest,"
        " while it runs; `qbot contract watch` shows when it does"
    )


def _value(client: redis.Redis, key: Key[Any]) -> Any:
    return key.reading(client.get(key.name)).value  # type: ignore[arg-type]


def _of_the_switch(wanted: Wish, update: Update) -> Effect | None:
    if update.key in _STATE:
        return Effect("")
    if update.key == keys.AUTOTRADING_STOPPED_AT.name:
        return Effect("trading was stopped, open entries are cancelled", settled=False)
    if update.key == keys.RISK_SETTINGS.name and isinstance(update.value, dict):
        latched = update.value.get("emergency_stop_active")
        return Effect("the emergency stop is latched" if latched else "no emergency stop is latched", settled=False)
    emergency = wanted.value if isinstance(wanted.value, EmergencyAction) else None
    if emergency and update.key == keys.ALERTS_ACTIVE.name and isinstance(update.value, list) and update.value:
        newest = max(update.value, key=lambda each: str(each.get("triggered_at")) if isinstance(each, dict) else "")
        words = f"{newest.get('title')}: {newest.get('message')}" if isinstance(newest, dict) else short(newest)
        return Effect(short(words, 300), settled=emergency.action is EmergencyKind.CANCEL_ALL_ORDERS)
    return None


def _of_orders(wanted: Wish, update: Update) -> Effect | None:
    mine = {order.order_id for order in wanted.value or () if isinstance(order, ManualOrder)}
    if update.key != keys.MANUAL_ORDERS.name or not isinstance(update.value, list):
        return None
    orders = [each for each in update.value if isinstance(each, dict) and each.get("order_id") in mine]
    said = [each for each in orders if each.get("status", ManualOrderStatus.PENDING) != ManualOrderStatus.PENDING]
    if not said:
        return None
    words = [f"{each['order_id']} is {each['status']} {each.get('status_reason') or ''}".strip() for each in said]
    return Effect("; ".join(words), settled=len(said) == len(mine))


def _of_alerts(wanted: Wish, update: Update) -> Effect | None:
    mine = {each.alert_id for each in wanted.value or () if isinstance(each, AlertAcknowledgement)}
    if update.key != keys.ALERTS_ACTIVE.name or not isinstance(update.value, list):
        return None
    seen = [
        str(each["alert_id"])
        for each in update.value
        if isinstance(each, dict) and each.get("acknowledged") and each.get("alert_id") in mine
    ]
    return Effect(f"acknowledged: {', '.join(seen)}") if seen else None


def _of_training(_: Wish, update: Update) -> Effect | None:
    if update.key != keys.ML_TRAINING_STATUS.name:
        return None
    return Effect(f"training: {short(update.value, 200)}")


def _of_sessions(wanted: Wish, update: Update) -> Effect | None:
    if update.key != keys.SYSTEM_HEALTH.name or not isinstance(update.value, dict):
        return None
    sessions = update.value.get("active_sessions")
    mine = wanted.value is not None and isinstance(sessions, list) and wanted.value.session_id in sessions
    return Effect(f"active_sessions: {json.dumps(sessions)}") if mine else None


_SPECIAL: dict[str, Callable[[Wish, Update], Effect | None]] = {
    keys.MANUAL_ORDERS.name: _of_orders,
    keys.ALERT_ACKNOWLEDGEMENTS.name: _of_alerts,
    keys.TRAINING_REQUEST.name: _of_training,
    keys.UI_STATE.name: _of_sessions,
}
