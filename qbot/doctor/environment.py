"""What `.env` and the environment say: read by others, misspelt, or pasted carelessly. No value is ever shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_settings import DotEnvSettingsSource

from qbot.doctor.finding import PASTED_WITH, Finding, State
from qbot.settings import Settings

PREFIX = "QBOT_"
OURS = frozenset({"QBOT_CLOCK_FILE", "QBOT_QUEUE", "QBOT_READY_FILE"})  # set for processes by those who start them
KNOWN = frozenset(f"{PREFIX}{name.upper()}" for name in Settings.model_fields) | OURS
KEYS = tuple(name for name in Settings.model_fields if name.endswith(("_api_key", "alpaca_secret_key")))
SHORTEST = 8  # characters: no vendor's key is shorter
PLACEHOLDER = re.compile(
    r"(your|my|the)[-_ ].*|x{3,}|<.*>|\.{2,}|…|paper|none|null|todo|test|demo|secret|0+|\*+"
    r"|.*(changeme|change_me|placeholder|example|api_?key).*",
    re.IGNORECASE,
)


def read(path: Path, **known: object) -> tuple[Settings, dict[str, str]]:
    """The settings, with the default for what cannot be used, and why of each variable that cannot.

    Without the file where that cannot be read.
    """
    known["_env_file"] = None if unreadable(path) else path
    try:
        return Settings(**known), {}  # type: ignore[arg-type]
    except ValidationError as error:
        bad = {str(each["loc"][0]): each["msg"] for each in error.errors()}
        instead = {name: Settings.model_fields[name].get_default(call_default_factory=True) for name in bad}
        return Settings(**{**known, **instead}), {f"{PREFIX}{name.upper()}": why for name, why in bad.items()}


def unreadable(path: Path) -> tuple[str, str] | None:
    """Why a file cannot be read, and what to do; None: it can, or there is none."""
    try:
        held = path.read_bytes()
        held.decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        line = held.count(b"\n", 0, error.start) + 1
        advice = "Save it as UTF-8, or take the line out; no key has letters beyond ASCII."
        return f"line {line} is not UTF-8: QBot does not start with it", advice
    except OSError as error:
        advice = f"Make it yours to read: `ls -l {path}` shows whose it is, `chmod 600 {path}` lets its owner."
        return f"it cannot be read ({type(error).__name__}): QBot does not start with it", advice
    return None


def file(path: Path) -> list[Finding]:
    """Whether it is there, can be read, and by nobody else: it holds the keys."""
    name = ".env"
    if (problem := unreadable(path)) is not None:
        return [Finding(name, State.FAILED, *problem)]
    if not path.exists():
        advice = "Where you have keys, `cp .env.example .env`, put them in, and restart QBot."
        return [Finding(name, State.OFF, "there is none: the defaults hold", advice)]
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        words = f"others of this machine may read the keys in it (mode {mode:o})"
        return [Finding(name, State.WARNING, words, f"Run `chmod 600 {path}`.")]
    return [Finding(name, State.OK, f"{len(names_in(path))} variables of QBot's, to be read by you alone")]


def names(path: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Variables that QBot does not know: most are misspelt, and do nothing."""
    unknown = sorted({*names_in(path), *(name for name in environment if name.startswith(PREFIX))} - KNOWN)
    if not unknown:
        return [Finding("names", State.OK, "every variable is known")]
    return [
        Finding("names", State.WARNING, f"{name} is not known and does nothing", _nearest(name)) for name in unknown
    ]


def _nearest(name: str) -> str:
    near = get_close_matches(name, sorted(KNOWN - OURS), n=1)
    return f"Did you mean {near[0]}?" if near else "Take it out of .env; .env.example has the names there are."


def names_in(path: Path) -> list[str]:
    """The variables of QBot's that a file sets, as far as it can be read."""
    if unreadable(path) or not path.exists():
        return []
    found = DotEnvSettingsSource(Settings, env_file=path).env_vars
    return [name.upper() for name in found if name.upper().startswith(PREFIX)]


def values(settings: Settings, unusable: Mapping[str, str]) -> list[Finding]:
    """What cannot be used, and keys that look as if they were not the key alone."""
    advice = "Set it as .env.example shows, and restart QBot, which does not start with it."
    found = [Finding("values", State.FAILED, f"{name}: {why}", advice) for name, why in unusable.items()]
    for name, problem in _odd_keys(settings):
        advice = f"Set {name} in .env to the key alone, as the vendor shows it."
        found.append(Finding("values", State.WARNING, f"{name} {problem}", advice))
    count = sum(bool(getattr(settings, name).get_secret_value()) for name in _yours(settings))
    many = f"{count} keys are set, and look like keys" if count > 1 else "one key is set, and looks like a key"
    words = many if count else "no key is set"
    return found or [Finding("values", State.OK, words)]


def _yours(settings: Settings) -> list[str]:
    """The keys but for those of a venue that has some of its own."""
    return [name for name in KEYS if settings.alpaca_url is None or not name.startswith("alpaca_")]


def _odd_keys(settings: Settings) -> Iterable[tuple[str, str]]:
    for name in _yours(settings):
        held: SecretStr = getattr(settings, name)
        problem = problem_of(held.get_secret_value())
        if problem is not None:
            yield f"{PREFIX}{name.upper()}", problem


def problem_of(key: str) -> str | None:
    """What is odd about a key, to follow its name; None when nothing is, or there is none."""
    bare = key.strip(PASTED_WITH)
    told: Sequence[tuple[bool, str]] = (
        (not key, ""),
        (key.startswith(PREFIX), "holds a whole line and not the key alone"),
        (bool(PLACEHOLDER.fullmatch(bare)) or not bare, "holds a placeholder and no key"),
        (any(sign in key for sign in PASTED_WITH.strip()), "has quotes in it"),
        (any(sign.isspace() for sign in key), "has a space in it"),
        (not (key.isascii() and key.isprintable()), "has characters in it that no key has"),
        (len(key) < SHORTEST, "is too short for a key"),
    )
    return next((problem for holds, problem in told if holds), "") or None
