"""`qbot up --fake-providers`: what the processes are given, and what it refuses; the process; the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from qbot import cli_fake
from qbot.cli import app
from qbot.cli_stop import settings_of
from qbot.clock import CLOCK_FILE_ENV
from qbot.console import installation
from qbot.demo.run import Options, demo_settings
from qbot.errors import ConfigError
from qbot.market import at_hand
from qbot.market.plans import ORDER
from qbot.settings import ROOT, Settings
from qbot.stack import environment, lock, programs, secrets
from qbot.stack.stack import STATUS_FILE, Stack
from qbot.standin.addresses import KEY, YAHOO_HOST
from qbot.standin.running import Running
from qbot.standin.server import VENDORS
from qbot.standin.troubles import Trouble
from tests.support.servers import free_port, wait_until

URLS = ("FINNHUB", "TWELVEDATA", "FMP", "MARKETSTACK", "XAI", "YFINANCE", "ALPACA_DATA")


def settings(home: Path, **more: object) -> Settings:
    return Settings(_env_file=None, home=home, **more)  # type: ignore[call-arg, arg-type]


def fake(home: Path, **more: object) -> Settings:
    """As the stack has them."""
    return Stack(settings(home, fake_providers=True, fake_providers_port=7_777, **more)).settings


def looked_at(home: Path) -> Settings:
    """As a command has them that looks at this home from outside."""
    return settings_of(installation.choose(False, home / "no demo", settings(home)))


# --- what the processes are given ------------------------------------------------------------------------------------


def test_every_process_finds_every_vendor_at_the_stand_in_and_no_real_key(tmp_path: Path) -> None:
    real = {f"{name}_api_key": SecretStr("REAL-KEY") for name in ("finnhub", "twelvedata", "fmp", "marketstack", "xai")}
    env = environment.of_children(fake(tmp_path, finnhub_url="https://elsewhere", **real), None)
    addresses = [urlsplit(env[f"QBOT_{name}_URL"]) for name in URLS]
    assert {(address.hostname, address.port) for address in addresses} == {("127.0.0.1", 7_777), (YAHOO_HOST, 7_777)}
    assert len({address.path for address in addresses}) == len(URLS)
    assert "REAL-KEY" not in env.values()
    assert {env[f"QBOT_{name}_API_KEY"] for name in ("FINNHUB", "TWELVEDATA", "FMP", "MARKETSTACK", "XAI")} == {KEY}
    assert (env["QBOT_FAKE_PROVIDERS"], env["QBOT_EMBEDDED_EXCHANGE"], env["QBOT_YFINANCE"]) == ("true",) * 3
    assert urlsplit(env["QBOT_ALPACA_URL"]).port == 6_390


def test_another_command_sees_that_the_one_that_runs_was_started_so(tmp_path: Path) -> None:
    secrets.with_secrets(settings(tmp_path))
    stack = Stack(settings(tmp_path, fake_providers=True, fake_providers_port=7_777))
    stack._save()
    with lock.held(tmp_path):
        assert at_hand.plans(looked_at(tmp_path)) != at_hand.plans(Stack(settings(tmp_path)).settings)
        assert tuple(plan.source for plan in at_hand.plans(looked_at(tmp_path))) == ORDER
        Stack(settings(tmp_path))._save()
        assert looked_at(tmp_path).fake_providers is False
        (tmp_path / STATUS_FILE).write_text("{}")
        assert looked_at(tmp_path).fake_providers is False
    stack._save()  # left behind by one that was killed
    assert looked_at(tmp_path).fake_providers is False


def test_every_process_can_read_the_settings_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.of_children(fake(tmp_path), None).items():
        monkeypatch.setenv(name, value)
    found = Settings(_env_file=None)  # type: ignore[call-arg]
    assert found.fake_providers
    assert urlsplit(found.yfinance_url).hostname == YAHOO_HOST


def test_then_all_sources_are_at_hand_in_the_replay(tmp_path: Path) -> None:
    assert tuple(plan.source for plan in at_hand.plans(fake(tmp_path))) == ORDER
    assert tuple(plan.source for plan in at_hand.plans(Stack(settings(tmp_path)).settings)) == ("alpaca",)


def test_the_stand_in_is_one_more_process_without_any_key(tmp_path: Path) -> None:
    values = fake(tmp_path)
    program = programs.standin(values, environment.of_children(values, tmp_path / "clock.json"))
    assert program.stage == programs.EXCHANGE
    assert program.args[-6:] == (
        "-m", "qbot.standin", "--port", "7777", "--exchange", f"http://127.0.0.1:{values.exchange_port}",
    )  # fmt: skip
    assert KEY not in program.env.values()
    assert program.env[CLOCK_FILE_ENV] == str(tmp_path / "clock.json")
    ports = Stack(settings(tmp_path, fake_providers=True))._ports()
    assert (6_391, "QBOT_FAKE_PROVIDERS_PORT") in ports.values()
    assert len(ports) == len(Stack(settings(tmp_path))._ports()) + 1


def test_the_replay_runs_in_real_time_unless_a_speed_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fake(tmp_path).replay_speed == 1
    assert Stack(settings(tmp_path)).settings.replay_speed == 60
    assert fake(tmp_path, replay_speed=30).replay_speed == 30
    monkeypatch.setenv("QBOT_REPLAY_SPEED", "60")
    assert fake(tmp_path).replay_speed == 60


@pytest.mark.parametrize("name", ["alpaca_api_key", "alpaca_secret_key"])
def test_made_up_prices_never_meet_a_real_broker(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"QBOT_{name.upper()}") as raised:
        fake(tmp_path / "home", **{name: SecretStr("PKREAL")})
    assert "PKREAL" not in str(raised.value)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("name", "value", "named"), [
    ("market_order", "alpaca,bloomberg", "bloomberg"), ("market_plans", '{"fmp": {"per_week": 1}}', "per_week"),
])  # fmt: skip
def test_sources_that_there_are_not_are_named_before_anything_starts(
    tmp_path: Path, name: str, value: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        Stack(settings(tmp_path / "home", **{name: value}))
    assert not (tmp_path / "home").exists()


def test_without_the_switch_nothing_is_made_up(tmp_path: Path) -> None:
    for keys in ({}, {"alpaca_api_key": SecretStr("K"), "alpaca_secret_key": SecretStr("S")}):
        values = Stack(settings(tmp_path, **keys)).settings
        assert values.fake_providers is False
        assert values.finnhub_url.startswith("https://finnhub.io")
        assert values.finnhub_api_key.get_secret_value() == values.xai_api_key.get_secret_value() == ""


def test_the_demo_has_its_own_market_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QBOT_FAKE_PROVIDERS", "true")
    assert demo_settings(Options()).fake_providers is False


def test_the_document_tells_what_each_can_have() -> None:
    rows = [row for row in (ROOT / "docs" / "fake-providers.md").read_text().splitlines() if row.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    names = cells[0][2:]
    told = {name: {row[0].strip("`") for row in cells[2:] if row[2 + at] == "•"} for at, name in enumerate(names)}
    assert told == {vendor.name: {str(trouble) for trouble in vendor.troubles} for vendor in VENDORS}


# --- the process -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["INFO", "info"])
def test_it_runs_as_a_process_of_its_own_with_a_market_of_its_own(tmp_path: Path, level: str) -> None:
    port = free_port()
    env = environment.plain() | {"PYTHONPATH": str(ROOT), "QBOT_HOME": str(tmp_path), "QBOT_LOG_LEVEL": level}
    process = subprocess.Popen([sys.executable, "-m", "qbot.standin", "--port", str(port)], env=env)
    try:
        wait_until(lambda: programs._http_ok(f"http://127.0.0.1:{port}/healthz"), "the stand-in")
        url = f"http://127.0.0.1:{port}/finnhub/api/v1/quote?symbol=AAPL&token=k"
        assert requests.get(url, timeout=5).json()["c"] > 0
        elsewhere = requests.get(f"http://127.0.0.1:{port}/nobody", timeout=5)
        assert (elsewhere.status_code, elsewhere.json()["vendors"]["fmp"]) == (404, "/fmp/stable")
    finally:
        process.terminate()
        assert process.wait(10) in (0, -15)


# --- the command -----------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, standin: Running, *words: str) -> Result:
    port = urlsplit(standin.url).port
    monkeypatch.setattr(cli_fake, "settings", lambda: Settings(_env_file=None, fake_providers_port=port))  # type: ignore[call-arg]
    monkeypatch.setattr(cli_fake, "quiet", lambda: None)
    monkeypatch.setattr(cli_fake.console, "width", 80)
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, ["market", "fake", *words])


def test_a_provider_is_broken_and_healed_by_hand(standin: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(monkeypatch, standin, "twelvedata", "quota")
    assert (shown.exit_code, "quota" in shown.output) == (0, True)
    assert standin.control.all()["twelvedata"].fault is Trouble.QUOTA
    run(monkeypatch, standin, "finnhub", "lying_price", "--symbol", "AAPL", "--factor", "1.5", "--times", "3")
    found = standin.control.all()["finnhub"]
    assert (found.fault, found.symbols, found.times) == (Trouble.LYING_PRICE, ("AAPL",), 3)
    run(monkeypatch, standin, "twelvedata", "heal")
    assert standin.control.all()["twelvedata"].fault is None
    assert standin.control.all()["finnhub"].fault is Trouble.LYING_PRICE
    run(monkeypatch, standin, "heal")
    assert standin.control.all()["finnhub"].fault is None


def test_a_ticker_may_be_written_in_small_letters(standin: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, standin, "finnhub", "zero", "--symbol", "aapl", "--symbol", "brk.b")
    assert done.exit_code == 0
    assert standin.control.all()["finnhub"].symbols == ("AAPL", "BRK.B")


@pytest.mark.parametrize("words", [
    ["finnhub", "--symbol", "AAPL"], ["finnhub", "--times", "2"], ["finnhub", "--factor", "2"],
    ["finnhub", "--hours", "2"], ["finnhub", "--latency", "1", "--symbol", "AAPL"], ["--times", "2"],
    ["finnhub", "heal", "--symbol", "AAPL"], ["heal", "--times", "2"], ["finnhub", "zero", "--symbol", "A,B"],
    ["finnhub", "zero", "--symbol", ""], ["finnhub", "zero", "--factor", "2"], ["finnhub", "stale", "--hours", "2"],
])  # fmt: skip
def test_what_would_do_nothing_is_refused_in_a_sentence_and_changes_nothing(
    standin: Running, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    standin.control.switch("finnhub", Trouble.NULL)
    before = standin.control.all()
    done = run(monkeypatch, standin, *words)
    assert isinstance(done.exception, ConfigError), done.output
    assert len(str(done.exception).split()) > 5
    assert standin.control.all() == before


def test_it_shows_how_all_do_and_what_one_was_asked(standin: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    requests.get(f"{standin.url}/fmp/stable/quote?symbol=AAPL&apikey=k", timeout=5)
    standin.control.switch("fmp", latency_s=0.5)
    shown = " ".join(run(monkeypatch, standin).output.split())
    for part in ("alpaca well 0 0 0", "fmp well after 0.5 s 1 1 1"):
        assert part in shown
    one = " ".join(run(monkeypatch, standin, "fmp").output.split())
    assert "1 /quote" in one
    assert "plan_symbol" in one


def test_what_it_does_not_know_is_told_with_what_it_does(standin: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("finnhub", "melancholy"), ("nobody", "heal"), ("nobody",)):
        done = run(monkeypatch, standin, *words)
        assert isinstance(done.exception, ConfigError)
        assert "there are" in str(done.exception) or "Input should be" in str(done.exception)
