"""Ages, sizes and sentences for a terminal. Pure."""

from __future__ import annotations

import json

_KILO = 1_000.0


def age(seconds: float) -> str:
    """8 s, 12 min, 3.5 h or 4 days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def size(count: int) -> str:
    """187 B, 1.2 kB or 3.4 MB."""
    if count < _KILO:
        return f"{count} B"
    return f"{count / _KILO:.1f} kB" if count < _KILO**2 else f"{count / _KILO**2:.1f} MB"


def printable(words: str) -> str:
    """On one line, without control characters: a value must not move the cursor."""
    return " ".join("".join(character if character.isprintable() else " " for character in words).split())


def cut(words: str, width: int) -> str:
    """At most `width` characters, with … where something is left out."""
    return words if len(words) <= width else words[: max(width - 1, 0)] + "…"


def harmless(words: str) -> str:
    """JSON, laid out or not, as the same JSON without a character that moves a cursor or turns the writing around."""
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in words)


def one_line(words: str) -> str:
    """As `harmless`, for one line: a line end stands between the parts of JSON, never within a text."""
    return harmless(words.translate({ord(one): " " for one in "\t\n\r"}))
