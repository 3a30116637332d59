"""How far the clocks are apart: this machine's, and those of the servers it works with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from qbot import limits
from qbot.console.text import age
from qbot.doctor.finding import Finding, State
from qbot.stack.ports import HOST

HERE = frozenset({HOST, "localhost", "::1"})
ADVICE = "Set the clock of the machine that is wrong by NTP (`timedatectl set-ntp true`)."


def between(clock: Callable[[], datetime], ask: Callable[[], datetime]) -> float:
    """How many seconds `ask`'s clock is ahead of ours, which is read before and after."""
    before = clock()
    theirs = ask()
    after = clock()
    return (theirs - before - (after - before) / 2) / timedelta(seconds=1)


def judge(name: str, ahead_s: float, whose: str, allowed_s: float = limits.CLOCK_SKEW_S) -> Finding:
    """What that means; `whose` clock it is, as in words."""
    if abs(ahead_s) <= allowed_s:
        return Finding(name, State.OK, f"{abs(ahead_s):.1f} s from {whose}")
    way = "ahead of" if ahead_s > 0 else "behind"
    words = f"{whose} is {age(abs(ahead_s))} {way} this machine's clock; {allowed_s:g} s are allowed"
    return Finding(name, State.FAILED, words, ADVICE)


def whose(server: str, host: str) -> str:
    """A server on this machine has this machine's clock, and agrees whatever that says."""
    return f"{server}'s clock" + (", which is this machine's own" if host in HERE else f" at {host}")
