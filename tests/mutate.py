"""`make mutate`: changes the gate in every small way and sees whether a test notices. Exits 1 under SCORE_MIN_PCT.

The gate and its tests are copied to a folder of their own, without the fixtures of servers, which these tests do not
need; mutmut changes the copies and runs the tests in forks of one process.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GATE = ("risk", "risk_case", "risk_caps", "risk_order", "risk_permission", "sizing")
TESTS = ("test_risk", "test_risk_checks", "test_risk_words", "test_sizing")
SUPPORT = ("__init__.py", "support/__init__.py", "support/scenes.py", "support/values.py")
SCORE_MIN_PCT = 95.0

# Changed lines that make no difference, and why not: without its sign, as mutmut shows it.
EQUIVALENT = {
    "usage = reserve(usage, proposal, None)": "a second entry in a run is a duplicate, whatever its cooldown",
    'told = f"{age_s:.0f} s old" if age_s >= most_s else f"from {-age_s:.0f} s ahead of this cycle"': "not at it",
    "return Decimal(1) if HALF_A_SHARE < left <= 1 else left": "one is one",
    "return Decimal(1) if HALF_A_SHARE < left < 2 else left": "it is rounded down to one anyway",
    "if volatility_pct is None or not 0 < volatility_pct <= math.inf:": "the formula buys nothing at an endless one",
}


def main() -> int:
    """Run, print killed, survived and the score with each survivor; 1 when too many survive."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="qbot-mutants-") as folder:
        here = Path(folder)
        _copy(here)
        subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count() or 1)], cwd=here)
        fates = _fates(here)
        survivors = {name: _diff(here, name) for name, fate in fates.items() if fate not in (1, 3, 152)}
    equivalent = {name: why for name, diff in survivors.items() if (why := _equivalent(diff)) is not None}
    for name, diff in survivors.items():
        print(f"\n{'equivalent' if name in equivalent else 'survived'}: {name}\n{equivalent.get(name, diff)}")
    counted = len(fates) - len(equivalent)
    killed = len(fates) - len(survivors)
    score = 100.0 * killed / counted if counted else 0.0
    left, took_s = len(survivors) - len(equivalent), time.monotonic() - begun
    print(
        f"\n{len(fates)} mutants of {len(GATE)} modules: {killed} killed, {left} survived, {len(equivalent)} equivalent"
    )
    print(f"score {score:.1f} %, at least {SCORE_MIN_PCT} % in {took_s:.0f} s")
    return 0 if score >= SCORE_MIN_PCT else 1


def _copy(here: Path) -> None:
    shutil.copytree(ROOT / "qbot", here / "qbot", ignore=shutil.ignore_patterns("__pycache__", "*.parquet"))
    for name in (*SUPPORT, *(f"{test}.py" for test in TESTS)):
        if (ROOT / "tests" / name).exists():
            (here / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "tests" / name, here / "tests" / name)
    settings = {
        "source_paths": ["qbot"],
        "only_mutate": [f"qbot/{name}.py" for name in GATE],
        "also_copy": ["tests"],
        "pytest_add_cli_args_test_selection": [f"tests/{test}.py" for test in TESTS],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:xdist"],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (here / "pyproject.toml").write_text("\n".join(["[tool.mutmut]", *lines, ""]))


def _fates(here: Path) -> dict[str, int | None]:
    """The exit code of the tests for each mutant: 1 or 3 when they failed, 0 when nothing was noticed."""
    found: dict[str, int | None] = {}
    for path in sorted((here / "mutants" / "qbot").glob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def _diff(here: Path, name: str) -> str:
    """The lines in which a mutant differs from the function it was made of: both stand in the changed module."""
    module, _, function = name.rpartition(".")
    text = (here / "mutants" / Path(*module.split("."))).with_suffix(".py").read_text()
    found = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    original = re.sub(r"__mutmut_\d+$", "__mutmut_orig", function)
    before, after = (_body(text, found[each]) for each in (original, function))
    return "\n".join(line for line in difflib.ndiff(before, after) if line[:1] in "+-")


def _body(text: str, node: ast.FunctionDef) -> list[str]:
    return text.splitlines()[node.body[0].lineno - 1 : node.end_lineno]


def _equivalent(diff: str) -> str | None:
    added = [line[1:].strip() for line in diff.splitlines() if line.startswith("+")]
    return next((EQUIVALENT[line] for line in added if line in EQUIVALENT), None)


if __name__ == "__main__":
    sys.exit(main())
