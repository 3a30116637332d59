"""Examinations side by side: one that breaks off or hangs costs no other its word, and all are told in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import SecretStr

from qbot.clock import monotonic_s
from qbot.console.text import printable
from qbot.errors import BoardUnavailable, QBotError, StoreUnavailable
from qbot.log import SECRET_MIN_CHARS, redact, secrets_of
from qbot.market.wire import forms_of
from qbot.settings import Settings

LOOK_EVERY_S = 0.2
PASTED_WITH = " \t\r\n\"'`“”‘’„«»"  # what stands around a key that was pasted carelessly
REPORT = "It is a mistake of QBot's: report it with the version of the source."


class State(StrEnum):
    """How a part does. OFF: not set up, or not to be asked here."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    OFF = "off"


class Group(StrEnum):
    """What belongs together, in the order of telling."""

    INSTALLATION = "Installation"
    STORES = "Stores"
    BROKER = "Broker"
    MARKET_DATA = "Market data"
    GROK = "Grok"
    NOTIFICATIONS = "Notifications"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part. `advice`: one plain sentence that names what to do; empty where nothing is."""

    name: str
    state: State
    words: str
    advice: str = ""


Look = Callable[[], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Examination:
    """One look. `when_late`: what to do when it has not come back `within_s`; `unknown`: what is so without a store."""

    group: Group
    name: str
    look: Look
    within_s: float
    when_late: str = "Try again; where it lasts, restart QBot."
    unknown: str = "not known"


@dataclass(slots=True)
class _Running:
    one: Examination
    until_s: float
    over: threading.Event = field(default_factory=threading.Event)
    findings: Sequence[Finding] = ()

    def run(self) -> None:
        self.findings = _looked(self.one)
        self.over.set()


def examine(
    examinations: Sequence[Examination],
    blank: Sequence[str] = (),
    waiting: Callable[[Sequence[str]], None] = lambda _names: None,
) -> Iterator[tuple[Group, Finding]]:
    """All findings in the order of `examinations`, each as soon as those before it are there.

    `blank`: what no finding may show. `waiting` hears the names of those that are still out.
    """
    begun_s = monotonic_s()
    running = [_Running(one, begun_s + one.within_s) for one in examinations]
    for each in running:  # one that hangs must not hold up the end of the process: no pool, which would wait for it
        threading.Thread(target=each.run, name=f"doctor-{each.one.name}", daemon=True).start()
    for each in running:
        while not each.over.is_set() and (left_s := each.until_s - monotonic_s()) > 0:
            waiting([other.one.name for other in running if not other.over.is_set()])
            each.over.wait(min(left_s, LOOK_EVERY_S))
        for found in each.findings if each.over.is_set() else (_late(each.one),):
            yield each.one.group, _harmless(found, blank)


def secret_forms(values: Settings) -> tuple[str, ...]:
    """Every form a secret of these settings may be shown in, longest first; also without what was pasted around it."""
    found = set(secrets_of(values))
    found |= {secret.strip(PASTED_WITH) for secret in found}
    forms = {form for secret in found for form in forms_of(SecretStr(secret))}
    return tuple(sorted((form for form in forms if len(form) >= SECRET_MIN_CHARS), key=len, reverse=True))


def _looked(one: Examination) -> Sequence[Finding]:
    try:
        return tuple(one.look())
    except (StoreUnavailable, BoardUnavailable) as error:
        where = "Postgres" if isinstance(error, StoreUnavailable) else "Redis"
        words = f"{one.unknown}, since {where} cannot be used"
        return (Finding(one.name, State.WARNING, words, f"Mend {where} first (see above)."),)
    except QBotError as error:
        return (Finding(one.name, State.FAILED, f"{error}", "Change .env as it says, and restart QBot."),)
    except Exception as error:  # noqa: BLE001 — whatever comes up in one part, the others are told
        # by its kind alone: messages of libraries repeat addresses and headers
        return (Finding(one.name, State.FAILED, f"the look at it broke off: {type(error).__name__}", REPORT),)


def _late(one: Examination) -> Finding:
    return Finding(one.name, State.FAILED, f"no answer within {one.within_s:g} s", one.when_late)


def _harmless(found: Finding, blank: Sequence[str]) -> Finding:
    hidden = tuple(blank)
    return replace(found, words=printable(redact(found.words, hidden)), advice=printable(redact(found.advice, hidden)))
