"""`qbot doctor`: each part broken in turn is told with what to do about it, and all the others are still told."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from qbot import channels, cli_doctor, clock, limits
from qbot.broker import alpaca
from qbot.broker.protocol import MarketClock
from qbot.cli import app
from qbot.console import installation as choosing
from qbot.console.installation import Installation
from qbot.contract.board import client_of, connect
from qbot.doctor import clocks, environment, installation, sources
from qbot.doctor.environment import problem_of
from qbot.doctor.finding import Examination, Finding, Group, State, examine
from qbot.errors import StackError
from qbot.exchange import wire as exchange_wire
from qbot.market import at_hand, feeds, marketstack, plans
from qbot.market.limiting import FOREVER, Gate, Hold
from qbot.market.marketstack import Marketstack
from qbot.market.provider import Answer, Fault, Provider, ProviderError
from qbot.market.providers import Sources
from qbot.market.wire import Key, Wire
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.stack import lock
from qbot.stack.stack import STATUS_FILE
from qbot.store import grok as grok_store
from qbot.store import migrate, quotas, tables
from qbot.store import sources as source_store
from qbot.store.engine import make_engine, transaction
from qbot.store.quotas import Claim, Period
from qbot.types import Account, Quote
from tests.market.vendor import Vendor, said, vendor
from tests.support.runtime import World
from tests.support.servers import PostgresServer, RedisServer
from tests.test_account import switch_account

PLANTED = "planted-s3cret-0123456789"
NAMES = (".env", "names", "values", "Python", "disk", "processes", "Redis", "Redis user", "Redis memory", "Redis clock",
         "Redis events", "Postgres", "migrations", "Postgres clock", "account", "orders", "broker clock", "alpaca",
         "finnhub", "twelvedata", "fmp", "marketstack", "yfinance", "budget", "last call", "1 json")  # fmt: skip


@dataclass
class Says:
    """A source that gives a price of now, or what it is told to; counts how often it was asked."""

    name: str
    error: ProviderError | None = None
    hangs: threading.Event | None = None
    missing: Fault | None = None
    asked: int = 0

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        self.asked += 1
        if self.hangs is not None:
            self.hangs.wait(60)
        if self.error is not None:
            raise self.error
        (symbol,) = symbols
        if self.missing is not None:
            return Answer({}, {symbol: self.missing}, credits=1)
        usd, at = Decimal("622.1"), received_at - timedelta(seconds=12)
        return Answer({symbol: Quote(symbol, usd, usd, usd, at, received_at, self.name)}, credits=1)


class Told:
    """The broker, by whose clock it is as late as here; the replay of the tests is of another year."""

    def __init__(self, rt: Runtime, ahead_s: float = 0.0) -> None:
        self._rt, self._ahead = rt, timedelta(seconds=ahead_s)

    def account(self) -> Account:
        return alpaca.connect(self._rt.settings).account()

    def clock(self) -> MarketClock:
        now = self._rt.wall() + self._ahead
        return MarketClock(now, True, now, now)


@dataclass
class Here:
    """The QBot that the command finds: at a broker, with a key of every source, all of which answer."""

    world: World
    env_file: Path
    rt: Runtime
    sources: dict[str, Says]
    pid: int | None = 1
    unusable: dict[str, str] = field(default_factory=dict)

    def change(self, feed_of: Provider | None = None, **more: Any) -> None:
        """Other settings, another engine, or another adapter of one source."""
        engine = more.pop("engine", self.rt.engine)
        settings = self.rt.settings.model_copy(update=more)
        self.rt = Runtime(settings, connect(settings), engine, self.rt.wall, self.rt.wall)
        asked: list[Any] = [one for one in self.sources.values() if feed_of is None or one.name != feed_of.name]
        asked += [] if feed_of is None else [feed_of]
        given = feeds.connect(settings, client_of(settings), engine, self.rt.wall, Sources(tuple(asked)))
        vars(self.rt).update(feeds=given, broker=Told(self.rt))

    @property
    def calls(self) -> dict[str, int]:
        return {name: one.asked for name, one in self.sources.items()}


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Here]:
    for name in [name for name in os.environ if name.startswith("QBOT_")]:
        monkeypatch.delenv(name)
    world.wall.set(clock.wall_now())  # the servers have clocks of their own
    key = SecretStr(PLANTED)
    keys = {f"{name}_api_key": key for name in ("finnhub", "twelvedata", "fmp", "marketstack", "xai")}
    env_file = tmp_path / ".env"
    env_file.write_text("QBOT_TICKERS=SPY\n")
    env_file.chmod(0o600)
    found = Here(world, env_file, world.rt, {name: Says(name) for name in plans.FREE})
    urls = (SecretStr(f"json://{PLANTED}/x"),)
    found.change(None, embedded_exchange=False, yfinance=True, notify_urls=urls, **keys)
    channels.channels_of(found.rt.settings)[0].prepare()  # what is loaded at the first one counts for no bound

    def chosen(_demo: object, main: object) -> Installation:
        return Installation("a test", found.rt.settings, found.pid, None)

    monkeypatch.setattr(cli_doctor, "ENV_FILE", env_file)
    monkeypatch.setattr(environment, "read", lambda _file: (found.rt.settings, found.unusable))
    monkeypatch.setattr(choosing, "choose", chosen)
    monkeypatch.setattr(cli_doctor, "settings_of", lambda _found: found.rt.settings)
    monkeypatch.setattr(cli_doctor, "runtime_of", lambda *_: found.rt)
    with lock.held(world.rt.settings.home):
        status(found, running=16)
        yield found


def status(here: Here, **states: int) -> None:
    """What the supervisor tells: so many processes in each state."""
    processes = [
        {"name": f"worker-{state}", "state": state, "restarts": 0} for state in states for _ in range(states[state])
    ]
    (here.world.rt.settings.home / STATUS_FILE).write_text(json.dumps({"processes": processes}))


def run(*words: str) -> Result:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["doctor", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert PLANTED not in done.output
    return done


def told(*words: str) -> dict[str, dict[str, str]]:
    """The findings by name; the exit status fits them."""
    done = run("--json", *words)
    body = json.loads(done.output)
    failed = [one["name"] for one in body["findings"] if one["state"] == "failed"]
    assert (done.exit_code, body["whole"]) == ((1, False) if failed else (0, True))
    for one in body["findings"]:
        assert one["advice"] or one["state"] in ("ok", "off"), one
    return {one["name"]: one for one in body["findings"]}


def only(name: str, state: str, *words: str) -> dict[str, str]:
    """The finding of what is broken; of all else a word is said, and none of it failed."""
    found = told()
    one = found[name]
    assert one["state"] == state, one
    said = f"{one['words']} {one['advice']}"
    for part in words:
        assert part in said, said
    others = {other: each["state"] for other, each in found.items() if other != name}
    assert set(others) | {name} >= set(NAMES) - {name}
    assert "failed" not in others.values(), found
    return one


# --- everything well --------------------------------------------------------------------------------------------------


def test_where_everything_works_all_is_told_in_eighty_columns_and_the_exit_status_is_zero(here: Here) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    places = [done.output.index(f"\n{group}\n") for group in Group]
    assert places == sorted(places)
    for part in ("SPY 622.10 USD, 12 s old", "the keys open a paper account", "100,000.00 USD", "1.00 of 1.00 USD"):
        assert part in " ".join(done.output.split())
    assert "asked for one price of SPY: one call of its quota" in done.output
    assert "FAILED" not in done.output
    assert "one call of its quota" not in run("--no-calls").output


def test_every_part_has_its_finding_and_each_source_is_asked_once_and_counted(here: Here) -> None:
    found = told()
    assert tuple(found) == NAMES
    assert {one["state"] for one in found.values()} == {"ok"}
    assert here.calls == dict.fromkeys(plans.FREE, 1)
    assert "799 of 800 symbols left of the day" in found["twelvedata"]["words"]
    assert "99 of 100 symbols left of the month" in found["marketstack"]["words"]
    used = {row["source"]: row["used"] for row in here.world.rows(tables.source_quotas)}
    assert used == {"twelvedata": 1, "fmp": 1, "marketstack": 1}


def test_without_calls_no_source_is_asked_and_nothing_is_used(here: Here) -> None:
    with transaction(here.rt.engine) as connection:
        source_store.answered(connection, ["finnhub"], here.rt.wall())
        source_store.failed(connection, "fmp", "plan", f"HTTP 402: {PLANTED}", here.rt.wall())
    found = told("--no-calls")
    assert here.calls == dict.fromkeys(plans.FREE, 0)
    assert here.world.rows(tables.source_quotas) == []
    assert "it last answered at" in found["finnhub"]["words"]
    assert (found["fmp"]["state"], "HTTP 402: ***" in found["fmp"]["words"]) == ("warning", True)
    assert found["yfinance"]["words"].startswith("not asked yet")


# --- the installation -------------------------------------------------------------------------------------------------


def test_an_env_file_that_others_may_read_is_told_with_the_command_that_mends_it(here: Here) -> None:
    here.env_file.chmod(0o644)
    only(".env", "warning", "mode 644", f"chmod 600 {here.env_file}")


def test_without_an_env_file_it_says_how_to_make_one(here: Here) -> None:
    here.env_file.unlink()
    only(".env", "off", "cp .env.example .env")


def test_a_misspelt_variable_is_told_with_the_nearest_one(here: Here) -> None:
    here.env_file.write_text(f"QBOT_FINHUB_API_KEY={PLANTED}\nOTHER=1\n")
    only("names", "warning", "QBOT_FINHUB_API_KEY", "QBOT_FINNHUB_API_KEY?")


def test_a_variable_that_cannot_be_used_is_told_and_the_rest_is_looked_at_with_its_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QBOT_REDIS_PORT", "many")
    monkeypatch.setenv("QBOT_POSTGRES_PORT", "7000")
    settings, unusable = environment.read(tmp_path / ".env")
    assert (settings.redis_port, settings.postgres_port) == (6380, 7000)
    (one,) = environment.values(settings, unusable)
    assert (one.state, "QBOT_REDIS_PORT: Input should be a valid integer" in one.words) == (State.FAILED, True)


def test_an_env_file_that_is_not_utf_8_is_told_by_its_line_and_the_rest_is_looked_at(here: Here) -> None:
    here.env_file.write_bytes(f"QBOT_TICKERS=SPY\nQBOT_FMP_API_KEY={PLANTED}\xe9\n".encode("latin-1"))
    only(".env", "failed", "line 2 is not UTF-8", "Save it as UTF-8")


def test_an_env_file_that_is_somebody_elses_is_told_and_what_the_environment_says_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QBOT_TICKERS", "QQQ")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        path.write_text("QBOT_REDIS_PORT=1\n")
        path.chmod(0)
        Path(folder).chmod(0o755)
        me = os.geteuid()
        os.seteuid(me or 65_534)  # whoever is root may read all
        try:
            values, unusable = environment.read(path)
            (one,) = environment.file(path)
            names = environment.names(path, {})
        finally:
            os.seteuid(me)
    assert (values.tickers, values.redis_port, unusable) == ("QQQ", 6380, {})
    assert (one.state, "PermissionError" in one.words, f"chmod 600 {path}" in one.advice) == (State.FAILED, True, True)
    assert [name.state for name in names] == [State.OK]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (f'"{PLANTED}"', "has quotes"), (f"{PLANTED} ", "a space"), ("your_key_here", "a placeholder"),
        ("<key>", "a placeholder"), ("PAPER", "a placeholder"), ("QBOT_FMP_API_KEY=abc", "a whole line"),
        ("“abcdefghijk”", "has quotes"), ("abcdéfghijkl", "characters"), ("abc", "too short"),
    ],
)  # fmt: skip
def test_a_key_that_was_pasted_carelessly_is_told_and_not_shown(here: Here, key: str, problem: str) -> None:
    here.change(fmp_api_key=SecretStr(key))
    one = only("values", "warning", "QBOT_FMP_API_KEY", problem, "to the key alone")
    assert key.strip('" ') not in one["words"]


@given(st.text("abcdefghijkmnpqrstuvwABCDEFGHJKLMNPQRSTUVW23456789", min_size=20, max_size=64))
def test_a_key_as_vendors_make_them_is_not_called_odd(key: str) -> None:
    assert problem_of(f"9Q{key}") is None


def test_a_python_and_a_disk_that_do_not_do_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert [one.state for one in installation.python((3, 13))] == [State.FAILED]
    for low, least, state in ((1e9, 0.0, State.WARNING), (1e9, 1e9, State.FAILED)):
        monkeypatch.setattr(limits, "DISK_LOW_GB", low)
        monkeypatch.setattr(limits, "DISK_MIN_GB", least)
        (one,) = installation.disk(tmp_path / "not" / "yet")
        assert (one.state, "QBOT_HOME" in one.advice) == (state, True)


def test_a_process_that_is_down_is_told_with_its_log(here: Here) -> None:
    status(here, running=15, restarting=1)
    only("processes", "failed", "worker-restarting is restarting", "logs/worker-restarting.log")


def test_a_qbot_that_starts_is_not_taken_for_one_that_runs(here: Here) -> None:
    (here.world.rt.settings.home / STATUS_FILE).unlink()
    only("processes", "warning", "starting or stopping")


def test_passwords_that_cannot_be_read_are_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_found: object) -> None:
        raise StackError("others may read secrets.json; run `chmod 600 secrets.json`")

    monkeypatch.setattr(cli_doctor, "settings_of", refused)
    only("secrets", "failed", "chmod 600")


def test_a_demo_that_cannot_be_looked_at_is_told_with_what_is_looked_at_instead(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(demo: bool | None, main: object) -> Installation:
        if demo:
            raise StackError("clock.json cannot be read; `qbot reset` starts over")
        return Installation("the other", here.rt.settings, here.pid, None)

    monkeypatch.setattr(choosing, "choose", chosen)
    assert "demo" not in told("--main")
    found = told("--demo")
    assert (found["demo"]["state"], found["Redis"]["state"]) == ("failed", "ok")
    for part in ("clock.json cannot be read", "of the other"):
        assert part in found["demo"]["words"]


def test_passwords_of_neither_that_can_be_read_are_told_of_both(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(demo: bool | None, main: object) -> Installation:
        raise StackError("of the demo" if demo else "of the main one")

    monkeypatch.setattr(choosing, "choose", chosen)
    found = told("--demo")
    assert "of the demo" in found["demo"]["words"]
    assert "of the main one" in found["secrets"]["words"]
    assert "demo" not in told()


# --- the stores -------------------------------------------------------------------------------------------------------


def test_a_redis_that_is_gone_is_told_and_no_source_is_asked_uncounted(here: Here) -> None:
    here.change(redis_port=1)
    here.pid = None
    found = told()
    assert (found["Redis"]["state"], found["Redis"]["words"]) == ("failed", "nothing answers at 127.0.0.1:1")
    assert "make up" in found["Redis"]["advice"]
    assert found["finnhub"]["words"] == "not asked and not counted, since Redis cannot be used"
    assert here.calls == dict.fromkeys(plans.FREE, 0)
    assert {found[name]["state"] for name in ("Postgres", "migrations", "account", "budget", "1 json")} == {"ok"}


@pytest.mark.parametrize(
    ("user", "password", "words"),
    [("backend", PLANTED, "does not accept user backend"), ("frontend", "test-frontend", "lets it do too little")],
)
def test_a_wrong_password_and_a_wrong_user_of_redis_are_told(here: Here, user: str, password: str, words: str) -> None:
    here.change(redis_user=user, redis_password=SecretStr(password))
    found = told()
    assert (found["Redis"]["state"], words in found["Redis"]["words"]) == ("failed", True)
    assert "QBOT_REDIS_PASSWORD" in found["Redis"]["advice"]
    assert found["Postgres"]["state"] == "ok"


def test_a_redis_without_qbots_users_is_told(here: Here, redis_server: RedisServer) -> None:
    here.change(redis_user="admin", redis_password=SecretStr(redis_server.password))
    only("Redis user", "warning", "admin may do everything", "python -m qbot.stack.redis")


def test_a_redis_that_raises_no_events_is_told(here: Here) -> None:
    here.world.redis.config_set("notify-keyspace-events", "")
    only("Redis events", "warning", "notify-keyspace-events to KEA")


def test_a_redis_that_drops_keys_is_told(here: Here) -> None:
    here.world.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        only("Redis memory", "failed", "allkeys-lru", "maxmemory-policy to noeviction")
    finally:
        here.world.redis.config_set("maxmemory-policy", "noeviction")


def test_a_postgres_that_is_gone_is_told(here: Here) -> None:
    here.change(engine=make_engine("postgresql+psycopg2://qbot:secret@127.0.0.1:1/qbot"))
    found = told()
    assert (found["Postgres"]["state"], "nothing answers" in found["Postgres"]["words"]) == ("failed", True)
    assert found["Grok"]["words"] == "not known, since Postgres cannot be used"
    assert here.calls == dict.fromkeys(plans.FREE, 0)
    assert {found[name]["state"] for name in ("Redis", "Redis events", "account", "1 json")} == {"ok"}


def test_a_wrong_password_of_postgres_is_told(here: Here) -> None:
    here.change(engine=make_engine(str(here.rt.engine.url.set(password="no").render_as_string(hide_password=False))))
    one = told()["Postgres"]
    assert (one["state"], "does not accept user" in one["words"]) == ("failed", True)
    assert "QBOT_POSTGRES_PASSWORD" in one["advice"]


def test_a_postgres_that_takes_connections_and_never_answers_is_bounded(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        here.change(engine=make_engine(f"postgresql+psycopg2://q:q@127.0.0.1:{frozen.getsockname()[1]}/q"))
        monkeypatch.setattr(limits, "DOCTOR_WITHIN_S", 3.0)
        monkeypatch.setattr(limits, "DOCTOR_ASK_S", 3.0)
        found = told()
    assert (found["Postgres"]["state"], found["Postgres"]["words"]) == ("failed", "no answer within 3 s")
    assert found["Redis"]["state"] == "ok"


@pytest.mark.parametrize(
    ("revision", "words"),
    [(None, "there are no tables"), ("0012", "of an older source (0012)"), ("9999", "of a newer source (9999)")],
)
def test_tables_of_another_source_are_told(here: Here, postgres_url: str, revision: str | None, words: str) -> None:
    engine = make_engine(postgres_url, pool_size=1)
    with engine.begin() as connection:
        if revision is None:
            connection.execute(sa.text("DELETE FROM alembic_version"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :to"), {"to": revision})
    here.change(engine=engine)
    only("migrations", "failed", words)
    engine.dispose()


def test_the_migrations_of_this_source_are_counted_from_the_newest(postgres_server: PostgresServer) -> None:
    files = sorted(path.name[:4] for path in (migrate.MIGRATIONS / "versions").glob("0*.py"))
    assert migrate.revisions() == files[::-1]


def test_a_clock_that_is_minutes_off_is_told_of_each_server_with_whose_it_is(here: Here) -> None:
    here.world.wall.advance(minutes=-10)
    found = told()
    for name in ("Redis clock", "Postgres clock"):
        assert (found[name]["state"], "10 min ahead of this machine's" in found[name]["words"]) == ("failed", True)
        assert "which is this machine's own" in found[name]["words"]
        assert "timedatectl set-ntp true" in found[name]["advice"]
    assert found["broker clock"]["state"] == "ok"


def test_the_way_of_an_answer_is_no_difference_of_clocks() -> None:
    ours = iter(datetime(2026, 1, 5, 12, 0, second, tzinfo=UTC) for second in (0, 10))
    assert clocks.between(lambda: next(ours), lambda: datetime(2026, 1, 5, 12, 0, 5, tzinfo=UTC)) == 0.0


# --- the broker -------------------------------------------------------------------------------------------------------


def test_refused_keys_are_told_by_what_they_look_like(here: Here) -> None:
    for key, words in (("AKLIVE0000", "a live account"), ("PKPAPER000", "was replaced"), ("0123456789", "HTTP 401")):
        here.change(alpaca_api_key=SecretStr(key))
        found = told()
        assert (found["keys"]["state"], words in found["keys"]["words"]) == ("failed", True)
        assert "QBOT_ALPACA_API_KEY" in found["keys"]["advice"]
        assert found["Redis"]["state"] == "ok"


def test_the_address_of_real_money_is_told_whatever_the_key_and_nobody_is_asked(here: Here) -> None:
    here.change(alpaca_url="https://api.alpaca.markets", alpaca_api_key=SecretStr("PKPAPER000"))
    here.world.place.faults.seen.clear()
    one = told()["keys"]
    for part in ("trades real money", "looks like one of a paper account"):
        assert part in one["words"]
    assert "QBOT_ALPACA_URL" in one["advice"]
    assert here.world.place.faults.seen == []


def test_a_missing_half_of_the_keys_is_named(here: Here) -> None:
    here.change(alpaca_secret_key=SecretStr(""))
    assert told()["keys"]["advice"] == "Set QBOT_ALPACA_SECRET_KEY in .env."


def test_an_account_of_real_money_fails(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    switch_account(monkeypatch, number="9123")
    only("account", "failed", "live account", "paper only")


def test_a_blocked_account_is_told_in_the_brokers_words(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    sound: Callable[..., dict[str, Any]] = exchange_wire.account
    monkeypatch.setattr(exchange_wire, "account", lambda *given: sound(*given) | {"trading_blocked": True})
    only("orders", "failed", "trading_blocked", "broker's own site")


def test_a_broker_that_does_not_answer_is_told(here: Here) -> None:
    here.world.exchange.fault("server_error", path="/v2/account")
    found = told()
    assert (found["account"]["state"], "does not answer: HTTP 500" in found["account"]["words"]) == ("failed", True)
    assert found["finnhub"]["state"] == "ok"


def test_a_broker_whose_clock_is_off_is_told(here: Here) -> None:
    vars(here.rt)["broker"] = Told(here.rt, ahead_s=300)
    only("broker clock", "failed", "the broker's clock is 5 min ahead")


# --- market data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "state", "do"),
    [
        (Fault.AUTH, "failed", "Set QBOT_FMP_API_KEY"), (Fault.PLAN, "failed", "QBOT_MARKET_PLANS"),
        (Fault.MINUTE_LIMIT, "warning", "per_minute"), (Fault.QUOTA, "warning", "qbot market plan"),
        (Fault.TRANSIENT, "failed", "QBOT_FMP_URL"),
    ],
)  # fmt: skip
def test_a_source_that_fails_is_asked_once_and_told_with_what_to_do(
    here: Here, fault: Fault, state: str, do: str
) -> None:
    here.sources["fmp"].error = ProviderError("fmp", fault, f"it said {PLANTED}", credits=1)
    one = only("fmp", state, "it said ***", do)
    assert not one["words"].startswith("fmp:")
    assert here.calls == dict.fromkeys(plans.FREE, 1)


def test_a_source_without_a_price_of_it_fails(here: Here) -> None:
    here.sources["finnhub"].missing = Fault.UNKNOWN_SYMBOL
    only("finnhub", "failed", "no price of SPY (unknown_symbol)", "QBOT_FINNHUB_URL")


def test_a_source_that_hangs_is_bounded_and_the_others_are_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    here.sources["twelvedata"].hangs = end
    monkeypatch.setattr(limits, "DOCTOR_ASK_S", 6.0)
    begun_s = clock.monotonic_s()
    try:
        only("twelvedata", "failed", "no answer within 6 s", "`qbot doctor` again")
        assert clock.monotonic_s() - begun_s < 30
    finally:
        end.set()


def test_a_source_whose_turn_is_late_is_not_waited_for_and_nothing_is_used(here: Here) -> None:
    gate = here.rt.feeds["twelvedata"].gate
    gate.call(8, lambda: Answer({}, credits=8))  # all of this minute
    only("twelvedata", "warning", "not asked: its turn is in", "792 of 800 symbols left")
    assert here.sources["twelvedata"].asked == 0


def test_a_source_that_is_held_closed_is_not_asked_and_told_why(here: Here) -> None:
    values = here.rt.settings
    with transaction(here.rt.engine) as connection:
        source_store.failed(connection, "finnhub", "auth", "HTTP 401: Invalid API key", here.rt.wall())
    access = at_hand.access_of(values, "finnhub")
    Gate(plans.FINNHUB, access, client_of(values), here.rt.engine)._close(Hold(Fault.AUTH, FOREVER))
    only("finnhub", "failed", "its key is refused", "it said: HTTP 401: Invalid API key", "QBOT_FINNHUB_API_KEY")
    assert here.sources["finnhub"].asked == 0


def test_a_source_that_works_again_is_told_with_what_a_task_met_last(here: Here) -> None:
    with transaction(here.rt.engine) as connection:
        source_store.failed(connection, "finnhub", "transient", "HTTP 502: bad gateway", here.rt.wall())
    only("finnhub", "ok", "SPY 622.10 USD", "a task's call failed at", "HTTP 502: bad gateway")


def test_a_quota_that_is_used_up_is_told_with_when_it_is_whole_again(here: Here) -> None:
    now = here.rt.wall()
    begins = plans.period(plans.MARKETSTACK.limits[1], now).begins_at
    with transaction(here.rt.engine) as connection:
        quotas.add(connection, [Claim(Period("marketstack", "month", begins), 100, 100)], now)
    only("marketstack", "warning", "not asked: the 100 of this month are used up", "0 of 100 symbols left")
    assert here.sources["marketstack"].asked == 0


def test_a_source_without_a_key_is_told_with_what_it_would_bring(here: Here) -> None:
    here.change(twelvedata_api_key=SecretStr(""), yfinance=False)
    only("twelvedata", "off", "price, bars, close", "800 symbols a day", "Set QBOT_TWELVEDATA_API_KEY")
    assert "QBOT_YFINANCE=true" in told("--no-calls")["yfinance"]["advice"]


def test_plans_that_are_none_are_told(here: Here) -> None:
    here.rt = Runtime(
        here.rt.settings.model_copy(update={"market_order": "bloomberg"}), here.rt.board, here.rt.engine, here.rt.wall,
        here.rt.wall,
    )  # fmt: skip
    vars(here.rt)["broker"] = Told(here.rt)
    found = told()
    assert (found["plans"]["state"], "bloomberg: no source" in found["plans"]["words"]) == ("failed", True)
    assert found["account"]["state"] == "ok"


def test_a_price_that_is_too_old_while_the_exchange_is_open_is_no_good() -> None:
    now = datetime(2026, 11, 30, 16, 0, tzinfo=UTC)  # a Monday, 11:00 in New York
    usd = Decimal(622)
    for old_s, state in ((60, State.OK), (1_000, State.WARNING), (-90, State.WARNING)):
        at = now - timedelta(seconds=old_s)
        quote = Quote("SPY", usd, usd, usd, at, now, "finnhub")
        assert sources.priced(plans.FINNHUB, quote, now).state is state
        assert sources.priced(plans.FINNHUB, quote, at + timedelta(hours=9, seconds=old_s)).state is State.OK


def test_in_a_replay_no_source_is_asked_and_it_says_why(here: Here) -> None:
    here.change(embedded_exchange=True)
    found = told()
    assert found["prices"]["words"].startswith("come from the replay: no source is asked")
    assert "finnhub, twelvedata, fmp, marketstack" in found["sources"]["words"]
    assert "none" not in found
    assert here.calls == dict.fromkeys(plans.FREE, 0)
    assert found["account"]["state"] == "ok"


def test_with_a_stand_in_the_sources_are_asked_and_it_says_that_prices_are_made_up(here: Here) -> None:
    here.change(embedded_exchange=True, fake_providers=True)
    only("finnhub", "ok", "SPY 622.10 USD")
    assert "QBOT_FAKE_PROVIDERS" in told("--no-calls")["stand-in"]["advice"]


# --- Grok and notifications -------------------------------------------------------------------------------------------


def test_groks_budget_and_last_call_are_told_without_a_call(here: Here) -> None:
    now = here.rt.wall()
    with transaction(here.rt.engine) as connection:
        made = grok_store.reserve(connection, Decimal("0.98"), "grok", now, now, search=False)
        grok_store.failed(connection, made, "auth", Decimal("0.98"), None)
    found = told()
    assert (found["budget"]["state"], "0.02 of 1.00 USD" in found["budget"]["words"]) == ("warning", True)
    assert "QBOT_XAI_BUDGET_USD_PER_DAY" in found["budget"]["advice"]
    assert (found["last call"]["state"], "QBOT_XAI_API_KEY" in found["last call"]["advice"]) == ("failed", True)
    assert len(here.world.rows(tables.grok_calls)) == 1


@pytest.mark.parametrize(
    ("more", "state", "words"),
    [
        ({"xai_api_key": SecretStr("")}, "off", "Set QBOT_XAI_API_KEY"),
        ({"xai_url": "http://elsewhere.example"}, "failed", "QBOT_XAI_URL"),
        ({"xai_budget_usd_per_day": Decimal(0)}, "off", "QBOT_XAI_BUDGET_USD_PER_DAY above 0"),
        ({"xai_budget_usd_per_day": Decimal("0.01")}, "warning", "under what one call may cost"),
    ],
)
def test_why_grok_is_off_is_told(here: Here, more: dict[str, Any], state: str, words: str) -> None:
    here.change(**more)
    one = told("--no-calls")["Grok"]
    assert (one["state"], words in f"{one['words']} {one['advice']}") == (state, True)


def test_channels_are_told_by_kind_alone(here: Here) -> None:
    assert "1 json" in told("--no-calls")
    here.change(notify_urls=(SecretStr(PLANTED),))
    assert told("--no-calls")["1 ?"]["state"] == "failed"
    here.change(notify_urls=())
    assert "QBOT_NOTIFY_URLS" in told("--no-calls")["channels"]["advice"]


# --- secrets, and parts that break off --------------------------------------------------------------------------------


@pytest.fixture
def service() -> Iterator[Vendor]:
    with vendor() as it:
        yield it


@pytest.mark.parametrize("around", ["", '"', " "])
def test_a_key_that_a_source_repeats_is_not_shown(here: Here, service: Vendor, around: str) -> None:
    mine = "an0ther-s3cret-of-one-source"
    service.says(said({"error": {"message": f"{mine} is no key of {mine}"}}, 401))
    pasted = SecretStr(f"{around}{mine}{around}")
    wire = Wire("marketstack", service.url, Key(pasted, parameter=marketstack.KEY_PARAMETER))
    here.change(Marketstack(wire), marketstack_api_key=pasted)
    one = told()["marketstack"]
    assert (one["state"], "*** is no key of ***" in one["words"]) == ("failed", True)
    assert len(service.got) == 1
    assert mine not in run().output


def test_what_nobody_expected_in_one_part_is_told_by_its_kind_and_the_others_are_told(here: Here) -> None:
    here.sources["fmp"].quotes = None  # type: ignore[assignment,method-assign]
    only("fmp", "failed", "broke off: TypeError")


def test_findings_come_in_their_order_whichever_is_there_first() -> None:
    first, never = threading.Event(), threading.Event()

    def late() -> Sequence[Finding]:
        first.wait(10)
        return [Finding("late", State.OK, f"say {PLANTED}")]

    def early() -> Sequence[Finding]:
        first.set()
        return [Finding("early", State.OK, "\x1b[2J", "x")]

    def broken() -> Sequence[Finding]:
        raise redis.ConnectionError(PLANTED)

    def hanging() -> Sequence[Finding]:
        never.wait(60)
        return []

    looks = {"late": late, "hangs": hanging, "broken": broken, "early": early}
    waited: list[Sequence[str]] = []
    try:
        made = [Examination(Group.STORES, name, look, 0.3 if name == "hangs" else 10) for name, look in looks.items()]
        found = [one for _group, one in examine(made, (PLANTED,), waited.append)]
    finally:
        never.set()
    assert [one.name for one in found] == list(looks)
    assert [one.state for one in found] == [State.OK, State.FAILED, State.FAILED, State.OK]
    assert (found[0].words, found[2].words) == ("say ***", "the look at it broke off: ConnectionError")
    assert "\x1b" not in found[3].words
    assert any("hangs" in names for names in waited)


def test_with_nothing_there_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"HOME": tmp_path / "home", "REDIS_PORT": 1, "POSTGRES_PORT": 1, "ALPACA_API_KEY": ""}.items():
        monkeypatch.setenv(f"QBOT_{name}", str(value))
    monkeypatch.setattr(cli_doctor, "ENV_FILE", tmp_path / ".env")
    done = run("--main")
    said = " ".join(done.output.split())
    assert done.exit_code == 1
    for part in ("`make up`", "`cp .env.example .env`", "does not run here", "nothing answers at 127.0.0.1:1",
                 "come from the replay", "QBOT_ALPACA_API_KEY", "QBOT_XAI_API_KEY", "QBOT_NOTIFY_URLS"):  # fmt: skip
        assert part in said
    assert not (tmp_path / "home").exists()


def test_with_an_env_file_that_nobody_can_read_both_are_looked_at_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"HOME": tmp_path / "home", "REDIS_PORT": 1, "POSTGRES_PORT": 1, "ALPACA_API_KEY": ""}.items():
        monkeypatch.setenv(f"QBOT_{name}", str(value))
    env_file = tmp_path / ".env"
    env_file.write_bytes(f"QBOT_FMP_API_KEY={PLANTED}\xe9\n".encode("latin-1"))
    monkeypatch.setattr(cli_doctor, "ENV_FILE", env_file)
    monkeypatch.setitem(Settings.model_config, "env_file", env_file)
    assert not environment.read(env_file)[0].fmp_api_key.get_secret_value()
    main = told("--main", "--no-calls")
    assert (main[".env"]["state"], "demo" in main) == ("failed", False)
    demo = told("--demo", "--no-calls")
    assert (demo[".env"]["state"], demo["demo"]["state"]) == ("failed", "failed")
    assert "cannot be used (UnicodeDecodeError)" in demo["demo"]["words"]
