"""Values as a human reads them in a terminal. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from qbot.clock import NEW_YORK

_BLOCKS = "▁▂▃▄▅▆▇█"
_NUMBER = re.compile(r"[-+]?\d[\d.,]*%?")


def usd(value: float) -> str:
    """12,345.67"""
    return f"{value:,.2f}"


def signed_usd(value: float) -> str:
    """+12.30 or -12.30; nothing is 0.00."""
    return f"{value:+,.2f}" if round(value, 2) else "0.00"


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction as signed percent: 0.0123 is +1.23 %."""
    return f"{fraction * 100:+.{digits}f} %"


def ny(at: datetime, form: str = "%H:%M") -> str:
    """A time on New York's clock."""
    return at.astimezone(NEW_YORK).strftime(form)


def shares(qty: float) -> str:
    """Whole shares without a point."""
    return f"{qty:,.0f}" if float(qty).is_integer() else f"{qty:,.4g}"


def duration(seconds: float) -> str:
    """42 s, 3:05 min or 2:07 h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as `width` blocks at most, the lowest of them lowest. Empty for fewer than two."""
    if len(values) < 2 or width < 2:
        return ""
    step = max(1.0, len(values) / width)
    picked = [values[min(len(values) - 1, int((at + 1) * step) - 1)] for at in range(min(width, len(values)))]
    low, span = min(picked), max(picked) - min(picked)
    if span <= 0:
        return _BLOCKS[3] * len(picked)
    return "".join(_BLOCKS[round((value - low) / span * (len(_BLOCKS) - 1))] for value in picked)


def meter(share: float, width: int) -> str:
    """A progress bar of `width` characters; `share` runs from 0 to 1."""
    done = round(min(max(share, 0.0), 1.0) * width)
    return "━" * done + "─" * (width - done)


def without_numbers(sentence: str) -> str:
    """What two reasons have in common when only their numbers differ."""
    return _NUMBER.sub("#", sentence)


def printable(words: str) -> str:
    """Control characters as blanks: a message must not move the cursor."""
    return "".join(character if character.isprintable() else " " for character in words)


def one_line(sentence: str) -> str:
    """A sentence on one line, without runs of blanks."""
    return " ".join(printable(sentence).split())
