"""What the files around the code promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import NoPermissionError

from qbot.settings import ROOT, Settings
from qbot.stack import programs, redis
from tasks.app import QUEUES
from tests.support.servers import free_port, running, wait_until

KNOWN = {f"QBOT_{name.upper()}" for name in Settings.model_fields}
KNOWN |= {"QBOT_CLOCK_FILE", "QBOT_QUEUE", "QBOT_READY_FILE"}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_lock_has_a_hash_for_every_package_and_no_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    packages = re.findall(r"^[a-z0-9][^\n]*", lock, re.MULTILINE)
    assert len(packages) > 100
    assert all(re.match(r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==", package) for package in packages)
    assert lock.count("--hash=sha256:") >= len(packages)
    assert "://" not in lock
    assert "--index" not in lock
    assert "--find-links" not in lock


def test_every_variable_of_the_example_exists_and_none_has_a_secret() -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        name, equals, value = line.removeprefix("#").partition("=")
        if equals and name.startswith("QBOT_"):
            assert name in KNOWN
            assert not value or not re.search("PASSWORD|SECRET_KEY|API_KEY", name) or value == "PAPER"


def test_every_target_of_the_makefile_is_told_by_make_help() -> None:
    text = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "up", "test", "check", "bench", "lock", "clean"):
        assert re.search(rf"^  {target} ", text, re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_runs_without_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert int(str(service["user"]).split(":")[0]) > 0
    assert "privileged" not in service
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_there_is_a_worker_for_every_queue_and_each_knows_its_own() -> None:
    for queue in QUEUES:
        service = SERVICES[f"worker-{queue}"]
        assert service["environment"]["QBOT_QUEUE"] == queue
        assert service["command"][service["command"].index("-Q") + 1] == queue


def test_containers_get_only_known_variables_and_no_secret_of_ours() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not name.startswith("QBOT_") or name in KNOWN
            if re.search("PASSWORD|SECRET|API_KEY", name):
                assert str(value).startswith("${")


def test_the_redis_of_the_containers_has_the_users_of_ours_and_knows_no_password_of_qbots(tmp_path: Path) -> None:
    """Its options, tried on the server of the wheel, with the file that the one-shot service writes."""
    users, server = SERVICES["redis-users"], SERVICES["redis"]
    assert server["depends_on"]["redis-users"]["condition"] == "service_completed_successfully"
    assert users["user"] == server["user"]  # else the server could not read its file
    assert set(server["environment"]) == {"VALKEYCLI_AUTH"}
    assert set(re.findall(r"QBOT_\w+", str(server["environment"]))) == {"QBOT_REDIS_VIEWER_PASSWORD"}
    passwords = {name: f"only-for-tests-{name[-17:]}" for name in users["environment"]}
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)} | passwords
    script = users["command"][2].replace("/acl/", f"{tmp_path}/")
    subprocess.run(["sh", "-c", script], env=environment, cwd=ROOT, check=True)
    assert (tmp_path / "users.acl").stat().st_mode & 0o777 == 0o600
    port = free_port()
    replaced = {"valkey-server": str(redis.binary()), "/acl/users.acl": f"{tmp_path}/users.acl", "/data": str(tmp_path)}
    command = [replaced.get(word, word) for word in server["command"]]
    values = Settings(_env_file=None, redis_port=port, redis_password=SecretStr(passwords["QBOT_REDIS_PASSWORD"]))
    with running([*command, "--port", str(port), "--bind", "127.0.0.1"], tmp_path / "log"):
        wait_until(lambda: programs.redis_answers(values), "the server")
        frontend = Redis(port=port, password=passwords["QBOT_REDIS_FRONTEND_PASSWORD"])
        with pytest.raises(NoPermissionError):
            frontend.set("system_status", "{}")
        frontend.close()


def test_the_two_servers_of_the_board_are_set_alike(tmp_path: Path) -> None:
    words = SERVICES["redis"]["command"][1:]
    theirs = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    ours = dict(line.split(" ", 1) for line in Path(redis.prepare(tmp_path, 1, "")[1]).read_text().splitlines()[1:])
    own_place = {"aclfile", "dir", "bind", "port", "protected-mode", "daemonize", "logfile"}
    assert {name: value.strip('"') for name, value in ours.items() if name not in own_place} == {
        name: value for name, value in theirs.items() if name not in own_place
    }


def test_only_those_who_trade_get_the_brokers_keys() -> None:
    with_keys = {name for name, service in SERVICES.items() if "QBOT_ALPACA_API_KEY" in service.get("environment", {})}
    assert with_keys == {f"worker-{queue}" for queue in QUEUES} | {"stream", "listener"}


def test_services_depend_only_on_services_that_exist_and_can_be_healthy() -> None:
    for service in SERVICES.values():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in SERVICES
            if condition["condition"] == "service_healthy":
                assert "test" in SERVICES[needed]["healthcheck"]
