"""`qbot up` whose workers reach Redis, Postgres and the broker through proxies: `python -m tests.chaos.stack up`.

Servers and supervisor are where they always are; only QBot's own processes are told other ports. The artifacts that a
training would leave are made up, so that forecasts written by the test have something to name and nothing is trained.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta

from qbot import clock, log
from qbot.settings import settings
from qbot.stack import programs, replay
from qbot.stack.stack import Stack
from qbot.stack.supervise import Program
from qbot.store import models
from qbot.store.engine import make_engine, transaction
from qbot.types import HORIZONS_MINUTES
from tests.support.whole import ADMINISTRATOR, FRONTEND_PASSWORD

REDIS_ENV, POSTGRES_ENV, BROKER_ENV = "CHAOS_REDIS_PORT", "CHAOS_POSTGRES_PORT", "CHAOS_BROKER_PORT"
MADE_UP = "made-up"
FIRST_S = (clock.CLOSED_MARGIN_MINUTES + 5) * 60.0  # of market time: five minutes after the first open
NEVER_DUE = timedelta(days=60)  # of market time: longer than the whole replay


class Proxied(Stack):
    """The stack with another way from the workers to the servers, and with a user who may empty the board."""

    def _programs(self) -> list[Program]:
        self._begin_in_open_market()
        self._redis_users += f"user {ADMINISTRATOR} on >{FRONTEND_PASSWORD} ~* &* +@all\n"
        broker = f"http://127.0.0.1:{os.environ[BROKER_ENV]}"
        there = {
            "QBOT_REDIS_PORT": os.environ[REDIS_ENV],
            "QBOT_POSTGRES_PORT": os.environ[POSTGRES_ENV],
            "QBOT_ALPACA_URL": broker,
            "QBOT_ALPACA_DATA_URL": broker,
        }
        made = super()._programs()
        return [replace(each, env={**each.env, **there}) if each.stage == programs.WORKERS else each for each in made]

    def _begin_in_open_market(self) -> None:
        """A new replay begins a while before its first session; nobody needs to wait for that here."""
        file, bars_file = self.settings.home / replay.STATE_FILE, replay.SAMPLE
        if not file.exists():
            source = f"{bars_file.name}:{bars_file.stat().st_size}:{self.settings.replay_days}"
            replay.write(file, json.dumps({"source": source, "elapsed_s": FIRST_S}))

    async def _migrate(self) -> None:
        await super()._migrate()
        engine = make_engine(self.settings.postgres_url, pool_size=1)
        with transaction(engine) as connection:
            if not models.standing_artifacts(connection):
                wall, at = clock.wall_now(), clock.market_now() + NEVER_DUE
                rows = [
                    {
                        "artifact_id": f"{MADE_UP}-{horizon}", "horizon_minutes": horizon, "path": "/nowhere",
                        "sha256": "0", "features": [], "metrics": {}, "skilled": True,
                    }
                    for horizon in HORIZONS_MINUTES
                ]  # fmt: skip
                models.start_training(connection, MADE_UP, "manual", clock.market_now(), wall)
                models.finish_training(connection, MADE_UP, models.SUCCESS, {}, rows, at, wall)
        engine.dispose()


def main() -> None:
    """Until a signal ends it."""
    stack = Proxied(settings())
    log.configure("up", stack.settings)
    stack.run(lambda _stack: None)


if __name__ == "__main__":
    main()
