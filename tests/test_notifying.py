"""A human is told: at once, once, whatever the channel does; and no address is ever shown."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from qbot import alerts, channels, clock, limits, log, notifying, pipeline
from qbot.channels import Message
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.stack import environment
from qbot.store import notifications, tables
from qbot.store.engine import transaction
from tests.support.listening import listening
from tests.support.receiver import HOOK, TELEGRAM_REFUSAL, TOKEN, Receiver, receiving
from tests.support.runtime import World
from tests.support.servers import free_port, wait_until

SECRETS = (HOOK.split("/")[1], TOKEN, TOKEN.split(":")[1])
HELLO = Message("CRITICAL", "Emergency stop", "all <b>sold</b> & done")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as it:
        yield it


def told_at(world: World, *urls: SecretStr, **more: Any) -> Runtime:
    """A QBot that has these channels."""
    return world.another(notify_urls=urls, **more)


def trouble(rt: Runtime, title: str = "Trouble", severity: Severity = Severity.WARNING, message: str = "why") -> None:
    alerts.raise_alert(rt, AlertType.SYSTEM_ALERT, severity, title, message)


def outcomes(world: World) -> dict[str, str | None]:
    """What became of each notification, by the alert's title."""
    query = sa.select(tables.alerts.c.title, tables.notifications.c.outcome)
    with world.engine.connect() as connection:
        return dict(connection.execute(query.join_from(tables.notifications, tables.alerts)).all())


def deliver(rt: Runtime) -> int:
    return sum(notifying.deliver(rt, channel) for channel in notifying.made(rt.settings))


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_a_webhook_gets_json_and_telegram_a_message_of_its_bot_api(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook, receiver.telegram, telegram_api_url=receiver.url)
    assert [channel.send(HELLO) for channel in notifying.made(rt.settings)] == [None, None]
    (path, body), (bot_path, bot_body) = receiver.got
    assert (path, bot_path) == (f"/{HOOK}", f"/bot{TOKEN}/sendMessage")
    assert (body["title"], body["message"], body["type"]) == (
        "CRITICAL: Emergency stop", "all <b>sold</b> & done", "failure"
    )  # fmt: skip
    assert bot_body["chat_id"] == 4242
    assert bot_body["text"] == "<b>CRITICAL: Emergency stop</b>\r\nall &lt;b&gt;sold&lt;/b&gt; &amp; done"


def test_a_plain_address_is_a_webhook(receiver: Receiver) -> None:
    settings = Settings(notify_urls=f"{receiver.url}/{HOOK}")
    assert [channel.send(HELLO) for channel in channels.channels_of(settings)] == [None]
    assert receiver.titles() == ["CRITICAL: Emergency stop"]


def test_telegram_is_asked_at_its_own_address_by_default() -> None:
    channel = channels.channels_of(Settings(notify_urls=f"tgram://{TOKEN}/4242/"))[0]
    channel.prepare()
    assert channel._service[0].notify_url == "https://api.telegram.org/bot"


def test_a_message_names_symbol_type_time_and_id(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    alerts.raise_alert(rt, AlertType.TRADE_ALERT, Severity.WARNING, "Refused", "too much", "AAPL")
    assert deliver(rt) == 1
    (row,) = world.rows(tables.alerts)
    (_path, body) = receiver.got[0]
    assert body["message"] == f"too much\nAAPL · TRADE_ALERT · 2026-03-02 12:00:00 UTC · {row['alert_id']}"


# --- at once, once ---------------------------------------------------------------------------------------------------


def test_an_alert_is_on_the_board_and_with_the_human_within_five_seconds(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    with listening(world, rt):
        begun = clock.monotonic_s()
        trouble(world.another(notify_urls=(receiver.webhook,)))  # in another process
        wait_until(lambda: receiver.titles() == ["WARNING: Trouble"], "the message")
        wait_until(lambda: [a.title for a in world.told(keys.ALERTS_ACTIVE) or ()] == ["Trouble"], "the board")
        assert clock.monotonic_s() - begun < 5
        wait_until(lambda: outcomes(world) == {"Trouble": "sent"}, "the record")
    assert len(receiver.got) == 1


def test_an_alert_of_a_transaction_that_fails_is_never_told(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    with listening(world, rt) as listener:
        with pytest.raises(RuntimeError), transaction(world.engine) as connection:
            alerts.alert(rt, connection, AlertType.SYSTEM_ALERT, Severity.CRITICAL, "Never", "it did not happen")
            raise RuntimeError
        trouble(rt)
        wait_until(lambda: receiver.titles() == ["WARNING: Trouble"], "the message")
        wait_until(listener.quiet, "the lanes")
    assert receiver.titles() == ["WARNING: Trouble"]


def test_a_slow_channel_delays_neither_the_other_nor_the_board(world: World, receiver: Receiver) -> None:
    with receiving() as slow:
        slow.slow = threading.Event()
        rt = told_at(world, slow.webhook, receiver.webhook)
        with listening(world, rt):
            trouble(rt, "One")
            wait_until(lambda: slow.titles() == ["WARNING: One"], "the slow one to be asked")
            trouble(rt, "Two")
            wait_until(lambda: receiver.titles() == ["WARNING: One", "WARNING: Two"], "the quick one")
            wait_until(lambda: len(world.told(keys.ALERTS_ACTIVE) or ()) == 2, "the board")
            assert slow.titles() == ["WARNING: One"]
            slow.slow.set()
            wait_until(lambda: len(slow.got) == 2, "the rest")


def test_the_same_trouble_is_told_once_an_hour(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    for _ in range(3):
        trouble(rt)
    assert (deliver(rt), deliver(rt)) == (1, 0)
    world.wall.advance(hours=1)
    trouble(rt)
    assert deliver(rt) == 1


def test_a_reason_that_changes_with_every_write_is_one_alert_a_key_and_hour(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    for broken in ('{"enabled": tru', '{"enabled": true,, ', "{"):
        world.say(keys.TRADING_SETTINGS, broken)
        pipeline.sync_frontend_settings(rt)
    for broken in ("[{", "[{}, ", "["):
        world.say(keys.MANUAL_ORDERS, broken)
        pipeline.monitor_autotrading_frontend(rt)
    for broken in ("[{", "[{}, ", "["):
        world.say(keys.PRICE_ALERTS, broken)
        pipeline.sync_frontend_settings(rt)
    titles = [title for _severity, title in world.alerts()]
    assert sorted(titles) == ["An input is unreadable", "An input is unreadable", "Settings are invalid"]
    assert deliver(rt) == 3


def test_only_alerts_severe_enough_are_sent_and_all_are_on_the_board(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook, notify_min_severity="CRITICAL")
    for severity in Severity:
        trouble(rt, severity, severity)
    assert deliver(rt) == 1
    assert receiver.titles() == ["CRITICAL: CRITICAL"]
    assert len(world.rows(tables.alerts)) == 3


def test_without_channels_nothing_is_owed(world: World) -> None:
    trouble(world.rt)
    assert world.rows(tables.notifications) == []


def test_what_is_critical_goes_first(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    trouble(rt, "A")
    trouble(rt, "B", Severity.CRITICAL)
    deliver(rt)
    assert receiver.titles() == ["CRITICAL: B", "WARNING: A"]


# --- channels that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(500, b"oops", "error=500"), (404, b"\xff\x00garbage", "error=404"), (429, b"{}", "error=429")],
)
def test_a_refusal_is_named_and_tried_again(
    world: World, receiver: Receiver, status: int, body: bytes, said: str
) -> None:
    rt = told_at(world, receiver.webhook)
    receiver.answer(status, body)
    trouble(rt)
    assert (deliver(rt), deliver(rt)) == (0, 0)
    assert len(receiver.got) == 1  # not again before its time
    (row,) = world.rows(tables.notifications)
    assert said in row["problem"]
    assert row["next_try_wall"] == world.wall() + timedelta(seconds=1)
    receiver.answer(200)
    world.wall.advance(seconds=1)
    assert deliver(rt) == 1
    assert outcomes(world) == {"Trouble": "sent"}


def test_telegram_says_why(world: World, receiver: Receiver) -> None:
    receiver.answer(400, TELEGRAM_REFUSAL)
    rt = told_at(world, receiver.telegram, telegram_api_url=receiver.url)
    (channel,) = notifying.made(rt.settings)
    assert "chat not found" in (channel.send(HELLO) or "")


def test_a_channel_that_cannot_be_reached_takes_what_it_missed_when_it_is_back(
    world: World, receiver: Receiver
) -> None:
    rt = told_at(world, receiver.webhook)
    receiver.gone()
    trouble(rt, "Missed")
    assert deliver(rt) == 0
    receiver.back()
    world.wall.advance(seconds=2)
    assert deliver(rt) == 1
    assert receiver.titles() == ["WARNING: Missed"]


def test_the_pauses_grow_and_in_the_end_it_is_given_up_and_the_board_says_so(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    receiver.answer(500)
    trouble(rt)
    waits = []
    for attempt in range(1, limits.NOTIFY_ATTEMPTS + 1):
        deliver(rt)
        row = _of_trouble(world)
        assert row["attempts"] == attempt
        if row["outcome"] is None:
            waits.append((row["next_try_wall"] - world.wall()).total_seconds())
            world.wall.set(row["next_try_wall"])
    assert waits == [min(2.0**n, limits.NOTIFY_PAUSE_MAX_S) for n in range(limits.NOTIFY_ATTEMPTS - 1)]
    assert outcomes(world) == {"Trouble": "given_up"}  # the board's alert is not owed to the channel that fails
    assert ("WARNING", "Notifications do not arrive") in world.alerts()
    world.wall.advance(hours=1)
    deliver(rt)
    assert len(receiver.got) == limits.NOTIFY_ATTEMPTS


def _of_trouble(world: World) -> dict[str, Any]:
    (row,) = world.rows(tables.notifications)
    return row


def test_the_other_channels_are_told_of_one_that_fails(world: World, receiver: Receiver) -> None:
    with receiving() as other:
        rt = told_at(world, receiver.webhook, other.webhook)
        receiver.answer(500)
        trouble(rt)
        for _ in range(limits.NOTIFY_TELL_AFTER):
            deliver(rt)
            world.wall.advance(minutes=1)
        deliver(rt)
        assert other.titles() == ["WARNING: Trouble", "WARNING: Notifications do not arrive"]
        assert set(receiver.titles()) == {"WARNING: Trouble"}


def test_an_address_that_is_none_is_told_like_any_other_failure(world: World) -> None:
    rt = told_at(world, SecretStr("nonsense://x"), SecretStr("justakey0123456789"))
    assert channels.names_of(rt.settings) == ["1 nonsense", "2 ?"]
    assert notifying.test(rt.settings) == [("1 nonsense", channels.NOT_UNDERSTOOD), ("2 ?", channels.NOT_UNDERSTOOD)]


def test_what_is_too_old_is_no_news(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    trouble(rt)
    world.wall.advance(hours=7)
    assert (deliver(rt), receiver.got) == (0, [])
    assert outcomes(world) == {"Trouble": "given_up"}


# --- not too many ----------------------------------------------------------------------------------------------------


def test_what_is_over_the_hours_number_comes_in_one_message_but_for_what_is_critical(
    world: World, receiver: Receiver
) -> None:
    rt = told_at(world, receiver.webhook)
    for number in range(limits.NOTIFY_PER_HOUR + 3):
        trouble(rt, "Flood", message=str(number))
    trouble(rt, "Emergency", Severity.CRITICAL)
    assert deliver(rt) == limits.NOTIFY_PER_HOUR
    assert receiver.titles()[0] == "CRITICAL: Emergency"
    trouble(rt, "Another emergency", Severity.CRITICAL)
    assert deliver(rt) == 1
    assert deliver(rt) == 0
    before = len(receiver.got)
    world.wall.advance(seconds=limits.NOTIFY_SUMMARY_S)
    deliver(rt)
    deliver(rt)
    ((_path, body),) = receiver.got[before:]
    assert body["title"] == "WARNING: 4 more alerts were held back"
    assert body["message"] == "4 × Flood\nAll are on the board."


def test_a_summary_that_is_not_taken_is_tried_again_later(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    for number in range(limits.NOTIFY_PER_HOUR + 1):
        trouble(rt, "Flood", message=str(number))
    deliver(rt)
    receiver.answer(500)
    world.wall.advance(seconds=limits.NOTIFY_SUMMARY_S)
    for _ in range(3):
        deliver(rt)
    assert len(receiver.got) == limits.NOTIFY_PER_HOUR + 1
    receiver.answer(200)
    world.wall.advance(seconds=limits.NOTIFY_SUMMARY_S)
    deliver(rt)
    assert receiver.titles()[-1] == "WARNING: 1 more alerts were held back"


@given(st.lists(st.sampled_from(channels.SEVERITIES), min_size=1), st.integers(1, 12))
def test_a_summary_is_as_severe_as_the_worst_and_counts_all(severities: list[str], kinds: int) -> None:
    rows = [{"severity": one, "title": f"T{number % kinds}"} for number, one in enumerate(severities)]
    message = notifying.summary(rows)
    assert message.severity == max(severities, key=channels.SEVERITIES.index)
    assert message.title.startswith(f"{len(rows)} more")
    assert len(message.text.splitlines()) <= notifying.TITLES_SHOWN + 2


# --- who does it -----------------------------------------------------------------------------------------------------


def test_two_who_deliver_at_once_send_each_alert_once(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    for number in range(10):
        trouble(rt, message=str(number))
    together = threading.Barrier(3)

    def run() -> None:
        mine = world.another(notify_urls=(receiver.webhook,))
        together.wait(10)
        for channel in channels.channels_of(mine.settings):
            notifying.deliver(mine, channel)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(receiver.got) == len({body["message"] for _path, body in receiver.got}) == 10


def test_what_a_dead_process_had_in_hand_is_sent_after_its_lease(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    trouble(rt)
    with transaction(world.engine) as connection:
        assert notifications.claim(connection, "1 json", world.wall(), notifying.LEASE) is not None
    assert deliver(rt) == 0
    world.wall.advance(seconds=limits.NOTIFY_LEASE_S)
    assert deliver(rt) == 1


def test_the_beat_task_sends_what_nobody_sent_and_only_that(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    trouble(rt)
    pipeline.send_notifications(rt)
    assert receiver.got == []  # the listener's
    world.wall.advance(seconds=limits.NOTIFY_OVERDUE_S + 1)
    pipeline.send_notifications(rt)
    assert receiver.titles() == ["WARNING: Trouble"]


def test_nothing_is_owed_any_more_to_a_channel_that_is_gone(world: World, receiver: Receiver) -> None:
    trouble(told_at(world, receiver.webhook))
    pipeline.send_notifications(world.rt)
    assert outcomes(world) == {"Trouble": "given_up"}
    assert receiver.got == []


def test_old_alerts_go_but_for_those_that_wait_for_a_human(world: World, receiver: Receiver) -> None:
    rt = told_at(world, receiver.webhook)
    trouble(rt, "Warning")
    trouble(rt, "Emergency", Severity.CRITICAL)
    world.wall.advance(hours=2)
    trouble(rt, "Emergency", Severity.CRITICAL)
    world.wall.advance(days=limits.ALERTS_KEPT_DAYS)
    trouble(rt, "New")
    for _ in range(2):
        pipeline.send_notifications(rt)
        world.wall.advance(days=1)
    assert [title for _severity, title in world.alerts()] == ["Emergency", "New"]
    assert len(world.rows(tables.notifications)) == 2


# --- without Postgres ------------------------------------------------------------------------------------------------


def test_without_postgres_an_alert_is_sent_all_the_same_once(world: World, receiver: Receiver) -> None:
    dead = world.without_postgres()
    settings = dead.settings.model_copy(update={"notify_urls": (receiver.webhook,)})
    rt = Runtime(settings, dead.board, dead.engine, world.wall, world.market, world.uptime)
    for _ in range(3):
        trouble(rt, "Emergency stop", Severity.CRITICAL, "without a store")
    trouble(rt, "No matter", Severity.INFO)
    wait_until(lambda: receiver.titles() == ["CRITICAL: Emergency stop"], "the message")
    assert len(receiver.got) == 1


def test_without_postgres_nobody_waits_for_a_channel_that_hangs(world: World, receiver: Receiver) -> None:
    receiver.slow = threading.Event()
    dead = world.without_postgres()
    settings = dead.settings.model_copy(update={"notify_urls": (receiver.webhook,)})
    rt = Runtime(settings, dead.board, dead.engine, world.wall, world.market, world.uptime)
    trouble(rt, "Hangs", Severity.CRITICAL)  # comes back though the channel never answers
    wait_until(lambda: receiver.titles() == ["CRITICAL: Hangs"], "the message")
    assert not receiver.slow.is_set()


# --- no address is ever shown ----------------------------------------------------------------------------------------


def test_no_log_line_result_or_record_shows_an_address(world: World, receiver: Receiver) -> None:
    lines = io.StringIO()
    rt = told_at(world, receiver.webhook, receiver.telegram, telegram_api_url=receiver.url, log_level="DEBUG")
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        with redirect_stderr(lines):
            log.configure("test", rt.settings)
            said = _every_fault(world, rt, receiver)
            logging.getLogger("urllib3").error("https://api.telegram.org/bot%s/sendMessage", TOKEN)
            structlog.get_logger("x").error("boom", url=receiver.webhook.get_secret_value())
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    written = lines.getvalue() + repr(said) + repr(rt.settings) + repr(notifying.made(rt.settings))
    written += repr([world.rows(table) for table in tables.metadata.sorted_tables])
    written += repr(world.told(keys.ALERTS_ACTIVE))
    assert "not_notified" in written
    assert "boom" in written
    assert [secret for secret in SECRETS if secret in written] == []


def test_the_library_logs_no_address_even_where_nobody_blanks_it(receiver: Receiver) -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    root, wire = logging.getLogger(), logging.getLogger("urllib3")
    level, wire_level = root.level, wire.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    wire.setLevel(logging.WARNING)  # as log.configure has it
    try:
        urls = f"{receiver.webhook.get_secret_value()} {receiver.telegram.get_secret_value()} tgram://{TOKEN}"
        settings = Settings(notify_urls=urls, telegram_api_url=receiver.url)
        receiver.answer(500)
        said = notifying.test(settings)
        logging.getLogger("mine").debug("heard")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        wire.setLevel(wire_level)
    assert [problem is None for _name, problem in said] == [False, False, False]
    assert "heard" in lines.getvalue()
    assert [secret for secret in SECRETS if secret in lines.getvalue() + repr(said)] == []


def _every_fault(world: World, rt: Runtime, receiver: Receiver) -> list[Any]:
    """Whatever can go wrong with a channel, once; what was said of it."""
    said: list[Any] = []
    for status, body in ((200, b"\x00"), (500, b"x"), (400, TELEGRAM_REFUSAL), (302, b"")):
        receiver.answer(status, body)
        trouble(rt, f"Trouble {status}")
        for _ in range(limits.NOTIFY_TELL_AFTER):
            deliver(rt)
            world.wall.advance(seconds=30)
        said += notifying.test(rt.settings)
    receiver.gone()
    said += notifying.test(rt.settings)
    alerts.send_past_the_store(
        rt, alerts.row_of("a", AlertType.SYSTEM_ALERT, Severity.CRITICAL, "t", "m", None, world.wall())
    )
    broken = rt.settings.model_copy(update={"notify_urls": (SecretStr(f"tgram://{TOKEN[:-9]}/@@/{SECRETS[0]}"),)})
    said += notifying.test(broken)
    return said


@given(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=12, max_size=40), st.sampled_from([
    "https://example.org/hooks/{}", "jsons://user:{}@example.org/x", "tgram://123456:{}/42/", "discord://4242/{}",
    "json://example.org/?-key={}", "slack://{}/b/c",
]))  # fmt: skip
def test_whatever_form_an_address_has_its_secret_is_blanked(secret: str, form: str) -> None:
    settings = Settings(notify_urls=form.format(secret))
    assert secret not in log.redact(f"failed: https://api.example/{secret}/x", log.secrets_of(settings))


def test_a_plain_hosts_name_is_no_secret() -> None:
    settings = Settings(notify_urls="https://user:pass0123456@127.0.0.1:8080/hooks/abcdefghijkl")
    assert log.redact("at 127.0.0.1:8080", log.secrets_of(settings)) == "at 127.0.0.1:8080"


# --- settings and command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [" ", ", ", ",", "\n", " ; "])
def test_several_addresses_stand_in_one_variable(between: str, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ["tgram://1:a,b/42", "https://example.org/?a=1,2"]
    monkeypatch.setenv("QBOT_NOTIFY_URLS", between.join(urls))
    found = Settings(_env_file=None)  # type: ignore[call-arg]
    assert [url.get_secret_value() for url in found.notify_urls] == urls
    child = environment.of_children(found, None)
    assert child["QBOT_NOTIFY_URLS"] == " ".join(urls)
    assert environment.without_broker_keys(child)["QBOT_NOTIFY_URLS"] == ""


def test_the_command_sends_a_test_and_says_what_happened(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _notify(monkeypatch, "", "--test") == (1, "No channel is set up.")
    both = f"{receiver.webhook.get_secret_value()} json://127.0.0.1:{free_port()}/{HOOK}"
    code, said = _notify(monkeypatch, both, "--test")
    assert (code, receiver.titles()) == (1, ["INFO: QBot can reach you"])
    assert "1 json: sent" in said
    assert "2 json: NOT sent" in said
    assert HOOK not in said
    assert _notify(monkeypatch, receiver.webhook.get_secret_value(), "--test")[0] == 0
    code, said = _notify(monkeypatch, both)
    assert (code, len(receiver.got)) == (0, 2)
    assert "1 json" in said


def _notify(monkeypatch: pytest.MonkeyPatch, urls: str, *args: str) -> tuple[int, str]:
    from qbot import cli, settings

    monkeypatch.setenv("QBOT_NOTIFY_URLS", urls)
    settings.settings.cache_clear()
    try:
        result = CliRunner().invoke(cli.app, ["notify", *args])
    finally:
        settings.settings.cache_clear()
    return result.exit_code, result.output.splitlines()[0] if result.exit_code and not urls else result.output


def test_apprise_is_not_loaded_by_those_who_send_nothing() -> None:
    import subprocess

    code = "import sys, qbot.pipeline; sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
