"""Django without a web server, for the processes that use its tables."""

from __future__ import annotations

import os

SETTINGS_MODULE = "qbot.web.settings"


def set_up() -> None:
    """Makes Django's models importable. Safe to call twice. Raises ConfigError on an empty secret key."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS_MODULE)
    import django

    django.setup()
