"""How a check looks: one line a key, faults with their reason, one line that sums up; or all of it as JSON."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from rich.text import Text

from qbot.console.text import age, cut, printable, size
from qbot.contract.checking import FAULTS, Report, Status, Verdict
from qbot.contract.fields import iso
from qbot.contract.key import Pace

STYLES = {
    Status.OK: "green",
    Status.ABSENT: "dim",
    Status.STALE: "dark_orange3",
    Status.INVALID: "red",
    Status.MISSING: "red",
}
INDENT = 6  # of the reason under a fault
NAME, STATUS, AGE = 36, 9, 24  # columns; what is left of 80 is the size


def lines(report: Report, width: int) -> list[Text]:
    """The whole report for a terminal of `width` columns."""
    made: list[Text] = []
    group = ""
    for verdict in report.verdicts:
        if verdict.group != group:
            group = verdict.group
            made.append(Text(group, "bold"))
        made += _lines_of(verdict, width)
    made.append(Text())
    if not report.market_open and any(verdict.pace is Pace.MARKET for verdict in report.verdicts):
        made.append(Text("The exchange is closed: keys that follow the market rest.", "dim"))
    if report.unknown:
        made.append(Text(f"Left by another version: {', '.join(map(printable, report.unknown))}", "dark_orange3"))
    made.append(Text(report.summary(), "bold green" if report.whole else "bold red"))
    return made


def _lines_of(verdict: Verdict, width: int) -> list[Text]:
    head = Text(no_wrap=True)
    head.append(f"  {verdict.key:<{NAME}}")
    head.append(f"{verdict.status:<{STATUS}}", STYLES[verdict.status])
    reason = printable(verdict.reason or "")
    if verdict.status in (Status.ABSENT, Status.MISSING):
        return [_with_reason(head, reason, width)]
    head.append(f"{_age(verdict):<{AGE}}")
    head.append(f"{_size(verdict):>9}", "dim")
    if reason and verdict.status in FAULTS:
        said = wrap(reason, max(width - INDENT, 20), break_on_hyphens=False)
        return [head, *(Text(" " * INDENT + part, STYLES[verdict.status]) for part in said)]
    return [head]


def _with_reason(head: Text, reason: str, width: int) -> Text:
    return head.append(cut(reason, max(width - head.cell_len, 20)), "dim")


def _age(verdict: Verdict) -> str:
    if verdict.age_s is None:
        return ""
    if verdict.allowed_s is None:
        return age(verdict.age_s)
    market = " market" if verdict.pace is Pace.MARKET else ""
    return f"{age(verdict.age_s)} of {age(verdict.allowed_s)}{market}"


def _size(verdict: Verdict) -> str:
    if verdict.members is not None:
        return f"{verdict.members} of {verdict.candidates}"
    return "" if verdict.size_bytes is None else size(verdict.size_bytes)


def progress(report: Report) -> str:
    """What a wait still waits for: 3 to go: market_data (missing), …"""
    named = ", ".join(f"{verdict.key} ({verdict.status})" for verdict in report.faults[:3])
    return f"{len(report.faults)} to go: {named}{', …' if len(report.faults) > 3 else ''}"


def as_json(report: Report, looked_at: str) -> dict[str, Any]:
    """For machines. Ages are in seconds of `pace`: of the wall, or of open market time."""
    return {
        "looked_at": looked_at,
        "whole": report.whole,
        "market_open": report.market_open,
        "counts": {str(status): count for status, count in report.counts().items()},
        "keys": [_entry(verdict) for verdict in report.verdicts],
        "unknown": list(report.unknown),
    }


def _entry(verdict: Verdict) -> dict[str, Any]:
    stamp = verdict.stamp
    body: dict[str, Any] = {
        "key": verdict.key,
        "group": verdict.group,
        "status": str(verdict.status),
        "reason": verdict.reason,
        "pace": str(verdict.pace),
        "age_s": None if verdict.age_s is None else round(verdict.age_s, 3),
        "max_age_s": verdict.allowed_s,
        "size_bytes": verdict.size_bytes,
        "revision": stamp.revision if stamp else None,
        "written_at": iso(stamp.time) if stamp else None,
    }
    if verdict.candidates is not None:
        body |= {"members": verdict.members, "candidates": verdict.candidates}
    return body


def one_line(verdict: Verdict) -> str:
    """A verdict with age, size and last write, for the head of a single value."""
    stamp = verdict.stamp
    parts = [f"{verdict.key}: {verdict.status}", _age(verdict) and f"age {_age(verdict)}", _size(verdict)]
    parts.append(f"revision {stamp.revision} at {iso(stamp.time)}" if stamp else "")
    parts.append(printable(verdict.reason or ""))
    return ", ".join(part for part in parts if part)
