"""`python -m qbot.web.migrate`: Django's own tables, then the beat schedule. Run in a process of its own."""

from __future__ import annotations

from qbot import log
from qbot.web.schedule import seed
from qbot.web.setup import set_up


def migrate() -> None:
    """Runs Django's migrations and writes the schedule. Safe to run again."""
    set_up()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    seed()


if __name__ == "__main__":
    log.configure("migrate")
    migrate()
