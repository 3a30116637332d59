"""The contract in other languages and for people, all from the one source. `python -m qbot.contract.exports` writes."""

from __future__ import annotations

from pathlib import Path

from qbot.contract.exports import asyncapi, cpp, markdown, schema, typescript
from qbot.contract.exports.source import COMMAND, Contract

__all__ = ["COMMAND", "Contract", "render", "stale", "write"]


def render(contract: Contract | None = None) -> dict[Path, str]:
    """Every file by its path within `docs`. The same contract gives the same text, always.

    Raises ValueError when a payload cannot be expressed, or two names would share an identifier.
    """
    shown = contract or Contract()
    document = schema.document(shown)
    return {
        Path("contract.md"): markdown.text(shown, document),
        Path("contract/qbot.schema.json"): schema.serialised(document),
        Path("contract/asyncapi.yaml"): asyncapi.text(shown, document),
        Path("contract/qbot-contract.ts"): typescript.text(shown, document),
        Path("contract/qbot_contract.h"): cpp.text(shown, document),
    }


def stale(folder: Path, contract: Contract | None = None) -> list[str]:
    """The files in `folder` that are missing or not what `render` gives, by path."""
    return [str(path) for path, text in render(contract).items() if not _is_current(folder / path, text)]


def write(folder: Path, contract: Contract | None = None) -> list[str]:
    """Brings `folder` up to date. Returns the paths that changed."""
    changed = []
    for path, text in render(contract).items():
        if not _is_current(folder / path, text):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())
            changed.append(str(path))
    return changed


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
