"""What runs when: the one list of periodic tasks. `qbot.web.schedule` brings it into the database at every start.

`every_s` is the documented interval, in market time where `market` is true (in a replay these run `speed` times
faster) and in wall time otherwise. `soft_s` is the wall time a run may take; without it, most of its interval.
Every entry expires with its interval: a tick that nobody took by then is worth less than the next one, and a queue
that filled up while a worker was down must not be worked off late.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "qbot:"  # rows of the database's schedule with this prefix belong to this file; others are the owner's

# A replayed market can ask for a run every few seconds; below this beat and the workers would do nothing else.
FASTEST_S = 2
# Ticks that pile up collapse into one, so a run may outlast a short replayed interval; this much it always gets.
LIMIT_FLOOR_REPLAY_S = 60.0
SOFT_SHARE, HARD_SHARE = 0.8, 0.95  # of the interval: a run is over before its successor is due


@dataclass(frozen=True)
class Entry:
    """One periodic task. `at_start`: it also runs as soon as beat starts, not only one interval later."""

    name: str
    every_s: int
    queue: str
    market: bool = False
    at_start: bool = True
    soft_s: float | None = None

    @property
    def task(self) -> str:
        """The Celery name: one module, one task."""
        return f"tasks.{self.name}.{self.name}"

    def interval_s(self, speed: float) -> int:
        """Wall seconds between two runs when the market passes `speed` times faster than the wall."""
        return max(FASTEST_S, round(self.every_s / speed)) if self.market else self.every_s

    def limits_s(self, speed: float) -> tuple[float, float]:
        """Soft and hard time limit of one run, in wall seconds."""
        if self.soft_s is not None:
            return self.soft_s, self.soft_s * HARD_SHARE / SOFT_SHARE
        allowed = float(self.interval_s(speed))
        if self.market and speed > 1.0:
            allowed = max(allowed, LIMIT_FLOOR_REPLAY_S / SOFT_SHARE)
        return allowed * SOFT_SHARE, allowed * HARD_SHARE


ENTRIES = (
    # Latency class `emergency`: a worker of its own, so that nothing ever waits in front of it. One run may have to
    # cancel, sell and verify at a slow broker: cutting that off after ten seconds would be worse than a late tick.
    Entry("emergency_handler", 10, "emergency", soft_s=40.0),
    # `trading`: what sends, follows or mirrors orders.
    Entry("trade_bot", 600, "trading", market=True),
    Entry("process_manual_orders", 30, "trading"),
    Entry("monitor_autotrading_frontend", 60, "trading"),
    Entry("reconcile_orders", 60, "trading", market=True),  # the net under the broker's stream
    # `data`: pandas and the artifacts; spawned processes.
    # A pass takes at most 240 s (limits.PASS_BUSY_SHARE), and then writes what came; the hard limit is its interval.
    Entry("fetch_data", 300, "data", market=True, soft_s=252.0),
    Entry("generate_predictions", 900, "data", market=True),
    Entry("evaluate_predictions", 900, "data", market=True),
    Entry("refresh_candidates", 300, "data"),  # here, since Grok may take two minutes; asked only when it is due
    # `misc`: cheap and frequent.
    Entry("system_heartbeat", 30, "misc"),
    Entry("update_backend_responses", 30, "misc"),
    Entry("sync_frontend_settings", 120, "misc"),
    Entry("market_status", 60, "misc"),
    Entry("send_notifications", 60, "misc", soft_s=15.0),  # the net under the listener's lanes
    Entry("performance_calculator", 300, "misc", market=True),
    Entry("risk_engine", 60, "misc", market=True),  # not with those it may have to stop
    # `training`: minutes long, niced. The tick only asks whether a training is due, which is cheap; so often because a
    # human may have asked for one.
    Entry("train_models", 30, "training", market=True, soft_s=1_200.0),
)

LONGEST_RUN_S = max(entry.limits_s(1.0)[1] for entry in ENTRIES)
