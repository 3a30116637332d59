"""The addresses a human is told at: webhook, Telegram and whatever else Apprise knows.

An address holds secrets. It is never logged, shown or raised: what a channel says of itself is its number and kind.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qbot import limits
from qbot.log import parts_of, redact
from qbot.settings import Settings

PROBLEM_MAX = 300  # characters
INSTEAD = {"https": "jsons", "http": "json"}  # a plain address is a webhook that takes JSON
KINDS = {"INFO": "info", "WARNING": "warning", "CRITICAL": "failure"}  # Apprise's words
SEVERITIES = ("INFO", "WARNING", "CRITICAL")
KIND = re.compile(r"([A-Za-z][A-Za-z0-9]{1,15})://")
NOT_UNDERSTOOD = "the address is not understood; docs/notifications.md shows how they are written"


@dataclass(frozen=True, slots=True)
class Message:
    """What a human is told."""

    severity: str
    title: str
    text: str


@dataclass(slots=True)
class Channel:
    """One address. `name` tells it from the others and gives nothing away."""

    name: str
    _url: str = field(repr=False)
    _telegram_url: str | None = field(default=None, repr=False)
    _service: Any = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def prepare(self) -> None:
        """Load what sending needs, which takes half a second the first time."""
        self._load()

    def understood(self) -> bool:
        """Whether the address is one that a message can be sent to. Nothing is sent."""
        return self._load() is not None

    def send(self, message: Message) -> str | None:
        """Send it, and wait for the answer at most NOTIFY_TIMEOUT_S. None when it was taken, else what went wrong.

        A webhook has taken it when it answers with a status of the 200s, whatever else it says.
        """
        with self._lock:  # of two at once, one waits: what the service said must be told of its own message
            service = self._load()
            if service is None:
                return NOT_UNDERSTOOD
            result = service.notify(
                title=f"{message.severity}: {message.title}",
                body=message.text,
                notify_type=KINDS[message.severity],
                body_format="text",
                timeout=limits.NOTIFY_TIMEOUT_S,
            )
        if result:
            return None
        said = "; ".join(entry.message for one in result for attempt in one for entry in attempt)
        return self._harmless(said or "it was not taken")

    def _load(self) -> Any:
        """The service behind the address; None when there is none."""
        if self._service is None:
            import apprise  # not at the top: whoever sends nothing need not wait for its hundred plugins

            # What it logs below a warning has the address in it; what it warns of comes back with the result.
            logger = logging.getLogger("apprise")
            logger.propagate, logger.level = False, logging.WARNING
            if not logger.handlers:
                logger.addHandler(logging.NullHandler())
            service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="QBot", app_desc="QBot", secure_logging=True))
            scheme, _, rest = self._url.partition("://")
            if not service.add(self._url) and scheme.lower() in INSTEAD:
                service.add(f"{INSTEAD[scheme.lower()]}://{rest}")
            if len(service) == 0:
                return None
            telegram: Any = service[0]
            if self._telegram_url and hasattr(telegram, "bot_token"):
                telegram.notify_url = f"{self._telegram_url.rstrip('/')}/bot"
            self._service = service
        return self._service

    def _harmless(self, text: str) -> str:
        secrets = sorted(parts_of(self._url), key=len, reverse=True)
        return redact(text, tuple(secrets))[:PROBLEM_MAX]


def channels_of(settings: Settings) -> tuple[Channel, ...]:
    """The channels of these settings, in their order."""
    urls = [url.get_secret_value() for url in settings.notify_urls]
    return tuple(
        Channel(name, url, settings.telegram_api_url) for name, url in zip(names_of(settings), urls, strict=True)
    )


def names_of(settings: Settings) -> list[str]:
    """The names of the channels, as `1 tgram`. Of what is no address nothing is shown: it may be a bare key."""
    found = [KIND.match(url.get_secret_value()) for url in settings.notify_urls]
    return [f"{number} {kind[1].lower() if kind else '?'}" for number, kind in enumerate(found, 1)]


def severe_enough(severity: str, settings: Settings) -> bool:
    """Whether an alert is for the channels, or for the board alone."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(settings.notify_min_severity)


def wanted(severity: str, settings: Settings, without: Sequence[str] = ()) -> list[str]:
    """The names of the channels that have to be told an alert of this severity."""
    return [name for name in names_of(settings) if name not in without] if severe_enough(severity, settings) else []
