"""The replayed market's time line: written at start for all processes, saved while running, taken up again later.

`python -m qbot.stack.replay` keeps it for processes that `qbot up` does not run.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from qbot import clock
from qbot.clock import CLOCK_FILE_ENV, Timeline
from qbot.errors import StackError
from qbot.settings import ROOT, Settings, settings

SAMPLE = ROOT / "qbot" / "exchange" / "sample" / "us_equity_5m.parquet"
CLOCK_FILE = "clock.json"
STATE_FILE = "replay.json"
# What is saved lies this far ahead: a run killed between two saves must not see the same market minutes again.
AHEAD_S = 3.0
SAVE_EVERY_S = 1.0


@dataclass(frozen=True)
class Replay:
    """The replay of this run. `clock_file` is what QBOT_CLOCK_FILE of the processes names."""

    clock_file: Path
    state_file: Path
    source: str
    timeline: Timeline

    def save(self, ahead_s: float = AHEAD_S) -> None:
        """Keeps how far the market has come, `ahead_s` wall seconds from now."""
        elapsed_s = self.timeline.elapsed_s(clock.wall_now()) + ahead_s * self.timeline.speed
        body = {"source": self.source, "elapsed_s": min(elapsed_s, self.timeline.length_s)}
        write(self.state_file, json.dumps(body))

    def finished(self) -> bool:
        """True when the market of this replay has come to its end."""
        return self.timeline.finished(clock.wall_now())


def begin(values: Settings) -> Replay:
    """Takes the replay up where the last run left it and makes it this process' clock.

    Raises StackError when it is at its end, or was begun with other bars.
    """
    from qbot.exchange.replay import build_timeline

    bars_file, home = values.replay_file or SAMPLE, values.home
    if not bars_file.is_file():
        raise StackError(f"there are no bars to replay at {bars_file}; set QBOT_REPLAY_FILE")
    source = f"{bars_file.name}:{bars_file.stat().st_size}:{values.replay_days}"
    resume_s = _resume_s(home / STATE_FILE, source)
    timeline = build_timeline(values.replay_file, values.replay_days, values.replay_speed, resume_s, clock.wall_now())
    if timeline.anchor_elapsed_s >= timeline.length_s:
        raise StackError(f"the replayed market of {home} is at its end; `qbot reset` starts over")
    write(home / CLOCK_FILE, timeline.to_json())
    os.environ[CLOCK_FILE_ENV] = str(home / CLOCK_FILE)
    clock.timeline.cache_clear()
    replay = Replay(home / CLOCK_FILE, home / STATE_FILE, source, timeline)
    replay.save()
    return replay


def _resume_s(state_file: Path, source: str) -> float:
    if not state_file.exists():
        return 0.0
    try:
        body = json.loads(state_file.read_text())
        known, elapsed_s = str(body["source"]), float(body["elapsed_s"])
    except (ValueError, KeyError, TypeError) as error:
        raise StackError(f"{state_file} cannot be read ({error}); `qbot reset` starts over") from error
    if known != source:
        raise StackError(f"this home replays {known}, not {source}; use another QBOT_HOME, or `qbot reset`")
    return elapsed_s


def write(path: Path, text: str) -> None:
    """Replaces a file whole: a reader, or a kill, never sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


if __name__ == "__main__":
    running = begin(settings())
    while True:
        running.save()
        time.sleep(SAVE_EVERY_S)
