"""The page for people who write frontends: its snippets run, its commands write what the contract allows."""

from __future__ import annotations

import re
import runpy
import shlex
import threading
from datetime import timedelta
from typing import Any

import pytest
import redis

from qbot.contract import acl, keys
from qbot.contract.key import Direction
from qbot.settings import ROOT
from tests.client.test_flow import qbot
from tests.support.runtime import World
from tests.support.servers import RedisServer

PAGE = (ROOT / "docs" / "frontends.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
CLOSED_AFTER_S = 0.5


def test_every_snippet_runs_against_a_qbot_in_the_order_of_the_page(
    world: World, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    here = f'"{redis_server.host}", {redis_server.port}, "{redis_server.frontend_password}"'
    window_closed = threading.Event()
    known: dict[str, Any] = {"window_closed": window_closed}
    with qbot(world):
        for number, snippet in enumerate(PYTHON):
            if "window_closed" in snippet:
                threading.Timer(CLOSED_AFTER_S, window_closed.set).start()
            source = snippet.replace('"127.0.0.1", 6380, "pass123"', here)
            exec(compile(source, f"snippet {number}", "exec"), known)
            world.wall.set(world.wall() + timedelta(seconds=1))
    said = capsys.readouterr().out
    assert said.count("a heartbeat every 15 s") == 1
    assert re.search(r"^autotrading:backend_status \d+ STOPPED$", said, re.MULTILINE)
    assert re.search("^(RUNNING|MARKET_CLOSED)$", said, re.MULTILINE)
    assert re.search("^FILLED", said, re.MULTILINE)
    assert re.search("^True True", said, re.MULTILINE)


def test_every_command_of_the_page_is_allowed_and_every_value_valid(redis_client: redis.Redis) -> None:
    commands = re.findall(r"^(?:redis-cli -p 6380 )?([A-Z]{3,}\b.*)$", SHELL.replace("END\n", "\n"), re.MULTILINE)
    assert len(commands) > 20
    allowed = re.findall(r"\+([a-z|]+)", str(redis_client.execute_command("ACL", "GETUSER", acl.FRONTEND)))
    for line in commands:
        name, *arguments = shlex.split(line)
        assert name.lower() in allowed, line
        if name == "SET":
            key = keys.ENTRIES[arguments[0]]
            assert key.direction is not Direction.BACKEND
            assert key.reading(arguments[1].encode()).problem is None, line


def test_the_page_links_to_what_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_example_says_one_line_for_each_kind_of_value() -> None:
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "follow.py"))
    for key in keys.ENTRIES.values():
        if not key.internal and not key.pattern:
            text = example["shown"](key.decode(key.example.encode()))
            assert text and "\n" not in text
