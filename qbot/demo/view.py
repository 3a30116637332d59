"""The live view: a pure function from a snapshot to what rich draws, for 80×24 up to whatever a terminal has."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rich.console import Console, RenderableType
from rich.layout import Layout
from rich.text import Text

from qbot.demo import panels
from qbot.demo.snapshot import Snapshot

_WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # rich names one on the web; any fixed-width font does
WIDE = 134  # columns from which decisions stand beside the portfolio: below, their reasons would be cut
FRAME = 2  # rows that a panel's border takes
TOP_ROWS = 7  # portfolio and trades on a narrow terminal
SCREENSHOT = (146, 34)  # columns and rows


def render(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """The whole screen."""
    system_rows = panels.system_rows(snapshot, width - 4)
    head, foot = panels.header(snapshot), panels.footer(snapshot)
    middle = max(height - len(head) - len(foot) - system_rows, 3)
    screen = Layout()
    screen.split_column(
        Layout(_lines(head), size=len(head)),
        _wide(snapshot, width, middle) if width >= WIDE else _narrow(snapshot, width, middle),
        Layout(panels.system(snapshot, width - 4), size=system_rows),
        Layout(_lines(foot), size=len(foot)),
    )
    return screen


def _lines(lines: list[Text]) -> Text:
    joined = Text("\n").join(lines)
    joined.no_wrap, joined.overflow = True, "ellipsis"
    return joined


def _wide(snapshot: Snapshot, width: int, rows: int) -> Layout:
    side = min(max(40, width // 3), 60)
    upper = (rows + 1) // 2
    right = Layout(size=side)
    right.split_column(
        Layout(panels.portfolio(snapshot, upper - FRAME, side - 4), size=upper),
        Layout(panels.trades(snapshot, rows - upper - FRAME)),
    )
    row = Layout(size=rows)
    row.split_row(Layout(panels.decisions(snapshot, rows - FRAME)), right)
    return row


def _narrow(snapshot: Snapshot, width: int, rows: int) -> Layout:
    upper = min(TOP_ROWS + max(rows - 16, 0) // 2, rows)
    top = Layout(size=upper)
    half = width // 2
    top.split_row(
        Layout(panels.portfolio(snapshot, upper - FRAME, half - 4)), Layout(panels.trades(snapshot, upper - FRAME))
    )
    both = Layout(size=rows)
    both.split_column(top, Layout(panels.decisions(snapshot, rows - upper - FRAME)))
    return both


def save_svg(snapshot: Snapshot, path: Path, size: tuple[int, int] = SCREENSHOT) -> None:
    """The view as a picture that loads nothing from elsewhere. Raises OSError when it cannot be written."""
    width, height = size
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=width, height=height, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(render(snapshot, width, height), height=height)
    svg = _WEB_FONT.sub("", console.export_svg(title="qbot demo"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg)
