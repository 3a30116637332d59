"""What the processes of the embedded stack find in their environment: assembled here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from qbot.clock import CLOCK_FILE_ENV
from qbot.settings import ROOT, Settings

READY_FILE_ENV = "QBOT_READY_FILE"
# What a process needs of its surroundings; nothing else is passed on, so that no stray variable changes QBot.
_INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TERM", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_DATA_KEYS = ("QBOT_FINNHUB_API_KEY", "QBOT_TWELVEDATA_API_KEY", "QBOT_FMP_API_KEY", "QBOT_MARKETSTACK_API_KEY")
# Whoever trades asks for prices, and has alerts.
_BROKER_KEYS = ("QBOT_ALPACA_API_KEY", "QBOT_ALPACA_SECRET_KEY", "QBOT_NOTIFY_URLS", "QBOT_XAI_API_KEY", *_DATA_KEYS)
_OTHERS_PASSWORDS = ("QBOT_REDIS_FRONTEND_PASSWORD", "QBOT_REDIS_VIEWER_PASSWORD")  # QBot itself is `backend`


def plain() -> dict[str, str]:
    """For programs that are not QBot's (Redis, Postgres): no settings, no secrets."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | {"TZ": "UTC"}


def of_children(settings: Settings, clock_file: Path | None, threads: int = 1) -> dict[str, str]:
    """For QBot's own processes: every setting as its QBOT_* variable, the clock, and thread limits.

    But for the passwords of others on Redis; those are empty, not missing: `.env` must not fill them again.

    One thread a library by default: on a small machine each worker's own pool of threads would fight the others'.
    """
    network = {name: os.environ[name] for upper in _NETWORK for name in (upper, upper.lower()) if name in os.environ}
    values = {f"QBOT_{name.upper()}": _text(value) for name, value in settings if value is not None}
    fixed = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), "REMAP_SIGTERM": "SIGQUIT"}
    limits = dict.fromkeys(_THREADS, str(threads))
    replay = {CLOCK_FILE_ENV: str(clock_file)} if clock_file else {}
    return plain() | network | fixed | limits | values | dict.fromkeys(_OTHERS_PASSWORDS, "") | replay


def without_broker_keys(environment: dict[str, str]) -> dict[str, str]:
    """For processes that never talk to the broker. Empty, not missing: `.env` must not fill them again."""
    return environment | dict.fromkeys(_BROKER_KEYS, "")


def tell_ready() -> None:
    """Called by a process once it is ready. Off Linux its parent is the watching launcher, so both pids are told."""
    file = os.environ.get(READY_FILE_ENV)
    if file:
        Path(file).write_text(f"{os.getpid()} {os.getppid()}")


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return " ".join(_text(part) for part in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
