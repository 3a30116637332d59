"""What the files around the code promise."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from qbot.settings import ROOT, Settings
from tasks.app import QUEUES

KNOWN = {f"QBOT_{name.upper()}" for name in Settings.model_fields} | {"QBOT_CLOCK_FILE", "QBOT_QUEUE"}
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


def test_only_those_who_trade_get_the_brokers_keys() -> None:
    with_keys = {name for name, service in SERVICES.items() if "QBOT_ALPACA_API_KEY" in service.get("environment", {})}
    assert with_keys == {f"worker-{queue}" for queue in QUEUES} | {"stream"}


def test_services_depend_only_on_services_that_exist_and_can_be_healthy() -> None:
    for service in SERVICES.values():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in SERVICES
            if condition["condition"] == "service_healthy":
                assert "test" in SERVICES[needed]["healthcheck"]
