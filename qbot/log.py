"""Logging of every process: one line an event on stderr, wall time in UTC, secrets blanked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote, unquote

import structlog
from pydantic import SecretStr

from qbot import clock
from qbot.settings import Settings, settings

BLANK = "***"
SECRET_MIN_CHARS = 6  # shorter ones would blank ordinary words
PART_MIN_CHARS = 8  # of an address, where words as `services` stand beside secrets
_PLAIN_HOSTS = {"http", "https", "json", "jsons", "form", "forms", "xml", "xmls"}  # others may have a key in its place
_FIRST = ("timestamp", "level", "logger", "event")
_QUIET = {"circus": logging.WARNING, "alembic": logging.WARNING, "urllib3": logging.WARNING, "asyncio": logging.WARNING}

Event = MutableMapping[str, Any]


def configure(process: str | None = None, to: Settings | None = None) -> None:
    """Sends structlog and the standard library's loggers to stderr. Safe to call twice. `process` names the sender."""
    values = to or settings()
    structlog.contextvars.clear_contextvars()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        _stamp,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    last: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _Line(secrets_of(values), process),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(values.log_level)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


def quiet() -> None:
    """No log at all: for commands that tell a human in their own words what happens."""
    structlog.configure(processors=[_drop])
    logging.disable(logging.CRITICAL)


def _drop(_logger: Any, _name: str, _event: Event) -> Event:
    raise structlog.DropEvent


def secrets_of(values: Settings) -> tuple[str, ...]:
    """The secret values that no line may show, longest first."""
    found = {value.get_secret_value() for _name, value in values if isinstance(value, SecretStr)}
    for url in values.notify_urls:
        found |= parts_of(url.get_secret_value())
    return tuple(sorted((secret for secret in found if len(secret) >= SECRET_MIN_CHARS), key=len, reverse=True))


def parts_of(url: str) -> set[str]:
    """What of an address may be a secret, in the forms a message may show it in: all but a plain host's name."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if scheme.lower() in _PLAIN_HOSTS:
        authority = authority.rpartition("@")[0]
    parts = {url, rest, *(part for part in re.split(r"[/?&=@:#]", f"{authority}{slash}{path}")), authority}
    parts = {form for part in parts for form in (part, unquote(part), quote(part, safe=""))}
    return {part for part in parts if len(part) >= PART_MIN_CHARS}


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """`text` without any of `secrets`."""
    for secret in secrets:
        text = text.replace(secret, BLANK)
    return text


def _stamp(_logger: Any, _name: str, event: Event) -> Event:
    event["timestamp"] = clock.wall_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return event


class _Line:
    """Renders an event as `time level logger event key=value …`; a traceback keeps to the line, with ⏎ for its ends."""

    def __init__(self, secrets: tuple[str, ...], process: str | None) -> None:
        self._secrets = secrets
        self._process = f"[{process}] " if process else ""

    def __call__(self, _logger: Any, _name: str, event: Event) -> str:
        traceback = event.pop("exception", None)
        time, level, logger, what = (event.pop(key, "") for key in _FIRST)
        pairs = "".join(f" {key}={_shown(value)}" for key, value in event.items())
        line = f"{time} {level:<8} {self._process}{logger}: {what}{pairs}"
        if traceback:
            line += f" | {traceback}"
        return redact(line, self._secrets).replace("\r", "").replace("\n", " ⏎ ")


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or "=" in text else text
