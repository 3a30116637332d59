"""Secrets of one installation: made at the first start, kept with mode 0600 beside its data."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from qbot.errors import StackError
from qbot.settings import Settings

FILE = "secrets.json"
NAMES = (
    "redis_password",
    "redis_frontend_password",
    "redis_viewer_password",
    "postgres_password",
    "flower_password",
    "django_secret_key",
)
_BYTES = 32


def with_secrets(settings: Settings) -> Settings:
    """`settings` with every secret that the environment leaves empty taken from the home's file, made when missing.

    Raises StackError when the file is unusable or others may read it.
    """
    missing = [name for name in NAMES if not getattr(settings, name).get_secret_value()]
    kept = _load(settings.home / FILE)
    new = {name: secrets.token_urlsafe(_BYTES) for name in missing if name not in kept}
    if new:
        kept |= new
        _save(settings.home / FILE, kept)
    return settings.model_copy(update={name: SecretStr(kept[name]) for name in missing})


def _load(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    if path.stat().st_mode & 0o077:
        raise StackError(f"others may read {path}; run `chmod 600 {path}` (and change what it holds)")
    try:
        body = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StackError(f"{path} cannot be read: {error}") from error
    if not isinstance(body, dict) or not all(isinstance(value, str) and value for value in body.values()):
        raise StackError(f"{path} does not hold names and secrets; restore it, or start over with `qbot reset`")
    return body


def _save(path: Path, body: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(body, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
