"""No module outside `qbot/contract` spells a Redis key: a rename happens in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from qbot.contract import keys

ROOT = Path(__file__).resolve().parents[2]
NAMES = {*keys.ENTRIES, *keys.CHANNELS, keys.REVISION_COUNTER}
PREFIXES = ("autotrading:", "frontend:", "backend:", "yfinance_enhanced:", "qbot:")
# Words that are also something else: a task's name; the session id of a start by the older switch, which has none.
OTHER_MEANINGS = {"beat": {"market_status"}, "session": {"trading_settings"}, "market_status": {"market_status"}}
SOURCES = sorted(
    path for folder in ("qbot", "tasks") for path in (ROOT / folder).rglob("*.py") if "contract" not in path.parts
)


def _docstrings(tree: ast.AST) -> set[int]:
    owners = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    bodies = (node.body for node in ast.walk(tree) if isinstance(node, owners))
    return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


def named_keys(source: str, module: str = "") -> Iterator[tuple[int, str]]:
    """Line and text of every string constant that is a key, or starts as one. Docstrings may name keys."""
    tree = ast.parse(source)
    prose = _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            text = node.value
            is_sentence = " " in text
            if text in NAMES - OTHER_MEANINGS.get(module, set()) or (text.startswith(PREFIXES) and not is_sentence):
                yield node.lineno, text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_outside_the_contract_names_no_key(path: Path) -> None:
    assert list(named_keys(path.read_text(encoding="utf-8"), path.stem)) == []


@pytest.mark.parametrize("line", ['get("trading_settings")', 'get(f"frontend:{x}")', 'k = "autotrading:" + "enabled"'])
def test_a_planted_key_is_found(line: str) -> None:
    assert len(list(named_keys(line))) == 1


def test_a_docstring_may_name_a_key() -> None:
    assert list(named_keys('def f():\n    """trading_settings"""')) == []
