"""Prints one line for each change of the board, as it happens: `.venv/bin/python docs/examples/follow.py [KEY …]`.

Where Redis is: QBOT_REDIS_HOST, QBOT_REDIS_PORT and QBOT_REDIS_FRONTEND_PASSWORD, else the demo's.
"""

from __future__ import annotations

import json
import os
import sys

from qbot.client import Change, ChangeKind, QBotClient

WIDTH = 110


def line(change: Change) -> str:
    """What a human reads of one change."""
    at = f"{change.time:%H:%M:%S}" if change.time else "        "
    if change.reading is None:
        return f"{at}           {change.kind.upper()} {change.reason}"
    value = change.problem or ("(absent)" if not change.reading.present else shown(change.value))
    text = f"{at} {change.revision:>7}  {change.key:<34} {value}"
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def shown(value: object) -> str:
    """Lists by their length and newest element, objects by their fields."""
    if isinstance(value, tuple):
        return f"{len(value)} × {shown(value[-1])}" if value else "[]"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {shown(each)}" for name, each in value.items()) or "{}"
    dump = getattr(value, "model_dump", None)
    if dump is None:
        return str(value)
    fields = dump(mode="json", exclude_unset=True)
    return " ".join(f"{name}={each if isinstance(each, str) else json.dumps(each)}" for name, each in fields.items())


def main() -> int:
    """Until Ctrl-C."""
    client = QBotClient(
        os.environ.get("QBOT_REDIS_HOST", "127.0.0.1"),
        int(os.environ.get("QBOT_REDIS_PORT", "6380")),
        os.environ.get("QBOT_REDIS_FRONTEND_PASSWORD", "pass123"),
    )
    try:
        for change in client.updates(sys.argv[1:] or None):
            first = change.kind is ChangeKind.SNAPSHOT and change.reading and not change.reading.present
            if not first:
                print(line(change), flush=True)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
