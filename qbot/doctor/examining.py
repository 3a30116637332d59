"""All that `qbot doctor` looks at, in the order of telling."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from qbot import limits
from qbot.console.installation import Installation
from qbot.doctor import broker, environment, installation, services, sources, stores
from qbot.doctor.finding import Examination, Finding, Group, State
from qbot.errors import ConfigError
from qbot.market import at_hand
from qbot.market.plans import FREE
from qbot.runtime import Runtime

UNCOUNTED = "not asked and not counted"


@dataclass(frozen=True)
class Case:
    """One QBot to look at. `rt` has its settings with their secrets. `unusable`: variables that are not, and why;
    `secrets_problem`: why its passwords cannot be read; `instead`: why it is this one and not the demo. Without `calls`
    no source of market data is asked.
    """

    rt: Runtime
    found: Installation
    env_file: Path
    calls: bool = True
    unusable: Mapping[str, str] = field(default_factory=dict)
    secrets_problem: str | None = None
    instead: str | None = None


def examinations(case: Case) -> list[Examination]:
    """One a part; each can be run by itself."""
    return [*_installation(case), *_stores(case), _broker(case), *_market_data(case), *_services(case)]


def _installation(case: Case) -> list[Examination]:
    values, one = case.rt.settings, partial(Examination, Group.INSTALLATION, within_s=limits.DOCTOR_WITHIN_S)
    return [
        one("demo", lambda: installation.passed_over(case.instead, case.found.name)),
        one(".env", lambda: environment.file(case.env_file)),
        one("names", lambda: environment.names(case.env_file, os.environ)),
        one("values", lambda: environment.values(values, case.unusable)),
        one("Python", installation.python),
        one("disk", lambda: installation.disk(values.home)),
        one("secrets", lambda: installation.secrets(case.secrets_problem)),
        one("processes", lambda: installation.stack(case.found)),
    ]


def _stores(case: Case) -> list[Examination]:
    rt, one = case.rt, partial(Examination, Group.STORES, within_s=limits.DOCTOR_WITHIN_S)
    redis, postgres = "Restart QBot: Redis takes connections and hangs.", "Restart QBot: Postgres hangs."
    return [
        one("Redis", lambda: stores.redis_server(rt, case.found), when_late=redis),
        one("Postgres", lambda: stores.postgres_server(rt, case.found), when_late=postgres),
    ]


def _broker(case: Case) -> Examination:
    speed = case.found.timeline.speed if case.found.timeline else 1.0
    late = "Look at the network; the broker's page of its status tells whether it is down."
    look = partial(broker.look, case.rt, case.found.pid, speed)
    return Examination(Group.BROKER, "account", look, limits.DOCTOR_ASK_S, late)


def _market_data(case: Case) -> list[Examination]:
    rt, one = case.rt, partial(Examination, Group.MARKET_DATA, within_s=limits.DOCTOR_ASK_S)
    stood_in_for = [one("stand-in", sources.made_up)] if rt.settings.fake_providers else []
    if rt.settings.embedded_exchange and not stood_in_for:
        set_up = [name for name in FREE if name != "alpaca" and at_hand.key_of(rt.settings, name)]
        return [one("prices", lambda: sources.replayed(set_up))]
    try:
        here = {plan.source: plan for plan in at_hand.plans(rt.settings)}
    except ConfigError as error:
        return [one("plans", _telling("plans", f"{error}", "Mend QBOT_MARKET_PLANS or QBOT_MARKET_ORDER in .env."))]
    late = "Look at the network, and run `qbot doctor` again; meanwhile the others are asked."
    return stood_in_for + [
        one(name, partial(sources.look, rt, here[name], calls=case.calls), when_late=late, unknown=UNCOUNTED)
        if name in here
        else one(name, partial(sources.missing, plan))
        for name, plan in FREE.items()
    ]


def _services(case: Case) -> list[Examination]:
    return [
        Examination(Group.GROK, "Grok", lambda: services.grok(case.rt), limits.DOCTOR_WITHIN_S),
        Examination(
            Group.NOTIFICATIONS, "channels", lambda: services.notifications(case.rt.settings), limits.DOCTOR_WITHIN_S
        ),
    ]


def _telling(name: str, words: str, advice: str) -> Callable[[], Sequence[Finding]]:
    return lambda: (Finding(name, State.FAILED, words, advice),)
