"""Lines and tables of the contract commands on a terminal, or in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qbot.console.changes import Part
from qbot.console.text import one_line, printable
from qbot.console.watching import Line
from qbot.contract import keys
from qbot.contract.key import Direction

NAME_WIDTH = 34  # of the longest key
PIPE_WIDTH = 500  # of a line that no terminal cuts
TREND = {1: "green", 0: "", -1: "red"}
SIDE = {Direction.FRONTEND: "cyan", Direction.BOTH: "magenta", Direction.BACKEND: "bold"}


def width(console: Console) -> int:
    """Columns that a line may take."""
    return console.width if console.is_terminal else PIPE_WIDTH


def tell(line: Line, console: Console, as_json: bool) -> None:
    """One line of a watch, at once. Raises OSError when nobody reads any more."""
    if line.key is None:
        typer.secho(f"-- {line.words[0].words}", fg="yellow", err=as_json)
    elif as_json:
        sys.stdout.write(f"{one_line(line.raw or '')}\n")
    else:
        text = as_text(line)
        text.truncate(width(console), overflow="ellipsis")
        console.print(text, soft_wrap=True)
    sys.stdout.flush()


def as_text(line: Line) -> Text:
    """Time, revision, key in the colour of who writes it, and what changed in that of its direction."""
    name = line.key or ""
    entry = keys.ENTRIES.get(name)
    text = Text(no_wrap=True)
    text.append(f"{(line.time or '')[11:19]:<8} {'' if line.revision is None else line.revision:>7} ", "dim")
    text.append(printable(name), SIDE[entry.direction] if entry else "yellow")
    text.append("  ")
    return text.append_text(_words(line.words))


def table(rows: Iterable[Sequence[str]], styles: Sequence[str], first: int | None = None) -> Table:
    """Columns without lines; the first one is never broken, and at least `first` wide."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for number, style in enumerate(styles):
        leading = number == 0
        made.add_column(style=style, overflow="fold", no_wrap=leading, min_width=first if leading else None)
    for row in rows:
        made.add_row(*(Text(each) for each in row))
    return made


def _words(parts: Sequence[Part]) -> Text:
    return Text(", ").join(Text(printable(part.words), TREND[part.direction]) for part in parts)
