"""Who may do what on Redis: the users of the server, made from the contract.

`backend` is QBot itself, with Celery and Flower. `frontend` reads what the contract documents and writes what it gives
to frontends. `viewer` only reads. `default` is whoever logs in with a password alone, as the frontends' documents say:
it is the frontend by another name. The file holds hashes, no passwords. It needs Valkey, or Redis from 7.0: Redis 6
cannot let a user read some keys and write others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from qbot.contract import keys
from qbot.contract.key import TICKER_SLOT, Direction
from qbot.errors import ConfigError

BACKEND, FRONTEND, VIEWER, BY_PASSWORD_ALONE = "backend", "frontend", "viewer", "default"
DOCUMENTED_PASSWORD = "pass123"  # everybody knows it: for the demo alone
SHORTEST, FEWEST_CHARACTERS = 12, 6  # 12 signs, 6 of them different: no placeholder, and still to be typed by hand
_PLACEHOLDERS = (DOCUMENTED_PASSWORD, "password", "changeme", "secret")

_GLOB = re.compile(r"([*?\[\]^\\])")
_READ = ("get", "mget", "getrange", "strlen", "exists", "type", "hget", "hmget", "hgetall")
_WRITE = ("set", "del")
_COMPARE_AND_SET = ("watch", "unwatch", "multi", "exec", "discard")
_LISTEN = ("subscribe", "unsubscribe", "psubscribe", "punsubscribe")
_CONNECTION = (
    "auth", "hello", "ping", "echo", "quit", "reset", "select", "client|setname", "client|getname", "client|setinfo",
    "client|id",
)  # fmt: skip
_READER = (*_READ, *_COMPARE_AND_SET, *_LISTEN, *_CONNECTION)


def readable() -> list[str]:
    """Patterns of what a frontend reads: every documented key, and when each was written."""
    return [*_patterns(key.name for key in keys.ENTRIES.values() if not key.internal), *_STAMPS]


def writable() -> list[str]:
    """Patterns of what a frontend writes."""
    frontends = (key for key in keys.ENTRIES.values() if key.direction is not Direction.BACKEND)
    return _patterns(key.name for key in frontends if not key.internal)


def users_file(backend_password: str, frontend_password: str, viewer_password: str) -> str:
    """The whole ACL file. Raises ConfigError when a password is empty or serves two users."""
    if not all((backend_password, frontend_password, viewer_password)):
        raise ConfigError("every user of Redis needs a password")
    if len({backend_password, frontend_password, viewer_password}) < 3:
        raise ConfigError("the users of Redis must have different passwords: else a frontend could log in as QBot")
    channels = [f"&{name}" for name in keys.CHANNELS]
    reads = [*(f"%R~{name}" for name in readable()), *channels]
    writes = [f"~{name}" for name in writable()]
    # @dangerous holds KEYS, FLUSHALL, CONFIG and the like; INFO is in it and harmless
    backend = ["~*", "&*", "+@all", "-@admin", "-@dangerous", "+info"]
    frontend = [*reads, *writes, *_commands((*_READER, *_WRITE))]
    users = [
        _user(BACKEND, backend_password, backend),
        _user(FRONTEND, frontend_password, frontend),
        _user(BY_PASSWORD_ALONE, frontend_password, frontend),
        _user(VIEWER, viewer_password, [*reads, *_commands(_READER)]),
    ]
    return "\n".join(users) + "\n"


def refuse_weak(passwords: Mapping[str, str]) -> None:
    """`passwords`: by the variable that sets it. Raises ConfigError, naming the variable, on a placeholder."""
    for variable, password in passwords.items():
        placeholder = password.lower().startswith(_PLACEHOLDERS)
        if placeholder or len(password) < SHORTEST or len(set(password)) < FEWEST_CHARACTERS:
            raise ConfigError(
                f"{variable} is a placeholder or too short: whoever guesses it can trade. Set {SHORTEST} random"
                " characters or more; `qbot up` makes one by itself where the variable is empty"
            )


def _user(name: str, password: str, rules: Iterable[str]) -> str:
    return " ".join(["user", name, "reset", "on", f"#{hashlib.sha256(password.encode()).hexdigest()}", *rules])


def _commands(names: Iterable[str]) -> list[str]:
    return [f"+{name}" for name in names]


def _patterns(names: Iterable[str]) -> list[str]:
    """Names as glob patterns: `*` for the ticker, everything else as it stands."""
    return ["*".join(_GLOB.sub(r"\\\1", part) for part in name.split(TICKER_SLOT)) for name in names]


_STAMPS = _patterns([keys.WRITTEN, keys.REVISION_COUNTER])
