"""What the processes wrote to their logs since the demo began: errors, so that none stays unseen in a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qbot.demo.text import one_line

READ_AT_MOST = 1_000_000  # bytes of one file a look: a process that floods its log must not hold up the view
TASK_CRASHED = "raised unexpected"  # Celery's words for a task that ended by an error nobody expected
PROCESS_LOST = "WorkerLostError"  # its process was killed: restarts count that
_LINE = re.compile(r"^\S+Z (?P<level>\w+)\s+(?P<text>.*)$")
# The id of a task's run: without it the same fault reads the same every time.
_RUN_ID = re.compile(r"(\[|\stask_id=)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\]?")
_LEVELS = ("error", "critical")


@dataclass(frozen=True, slots=True)
class LogError:
    """One line of level error or critical."""

    process: str
    text: str

    @property
    def task_crashed(self) -> bool:
        """True when a task broke in a way QBot has no name for."""
        return TASK_CRASHED in self.text and PROCESS_LOST not in self.text


class LogWatch:
    """Follows every `*.log` of a folder from the moment it is made. `poll` returns what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {path: path.stat().st_size for path in folder.glob("*.log")}

    def poll(self) -> list[LogError]:
        """The errors logged since the last call. A file that cannot be read is skipped this time."""
        found: list[LogError] = []
        for path in sorted(self._folder.glob("*.log")):
            for line in self._new_lines(path):
                match = _LINE.match(line)
                if match and match["level"].lower() in _LEVELS:
                    found.append(LogError(path.stem, one_line(_RUN_ID.sub("", match["text"]))))
        return found

    def _new_lines(self, path: Path) -> list[str]:
        try:
            size = path.stat().st_size
            offset = self._offsets.get(path, 0)
            offset = 0 if size < offset else offset  # it was rotated
            if size == offset:
                return []
            with path.open("rb") as file:
                file.seek(offset)
                block = file.read(READ_AT_MOST)
        except OSError:
            return []
        whole = block[: block.rfind(b"\n") + 1] or (block if len(block) == READ_AT_MOST else b"")
        self._offsets[path] = offset + len(whole)
        return whole.decode(errors="replace").splitlines()
