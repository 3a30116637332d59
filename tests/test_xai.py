"""One call of xAI: what it said and what it cost, or why not; and never a word about the key."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import traceback
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from qbot import clock, limits
from qbot.errors import ConfigError
from qbot.market import xai
from qbot.market.provider import Fault, ProviderError
from qbot.market.xai import Reply, Xai, XaiError, cost_usd_of, reply_of
from qbot.settings import Settings, safe_url
from qbot.stack import environment
from tests.support.servers import free_port
from tests.support.xai import KEY, Grok, answer, grok_listening, pick, recorded, told

FREE = Decimal(0)
QUESTION = {"model": "grok-4.3", "input": []}
RATE_LIMIT = {"code": "resource-exhausted", "error": "Too many requests for team 1 and model grok-4.3."}
CREDITS = {
    "code": "resource-exhausted",
    "error": "Your team 1 has either used all available credits or reached its monthly spending limit.",
}
GUIDELINES = {
    "code": "permission-denied",
    "error": "Content violates usage guidelines. Team: 1, API key ID: 2, Failed check: SAFETY_CHECK_TYPE_BIO",
}


@pytest.fixture
def grok() -> Iterator[Grok]:
    with grok_listening() as it:
        yield it


def raw(body: object) -> bytes:
    return json.dumps(body).encode()


def error_of(status: int, body: object, **headers: str) -> XaiError:
    """What an answer is refused with."""
    with pytest.raises(XaiError) as caught:
        reply_of(status, headers, body if isinstance(body, bytes) else raw(body))
    return caught.value


def fails(at: Xai) -> XaiError:
    with pytest.raises(XaiError) as caught:
        at.ask(QUESTION)
    return caught.value


# --- what it said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "cost_usd"),
    [
        ("text", "**4**", "0.00057435"),
        ("schema", '{"name":"John","age":30}', "0.0006684"),
        ("web_search", "**The latest stable Ruby version is 4.0.6**", "0.01615085"),
    ],
)
def test_a_recorded_answer_is_its_text_and_its_cost(name: str, text: str, cost_usd: str) -> None:
    one = recorded(name)
    reply = reply_of(one["status"], one["headers"], raw(one["body"]))
    assert reply.text.startswith(text)
    assert reply.cost_usd == Decimal(cost_usd)


def test_a_text_in_several_parts_is_one_and_thoughts_and_searches_are_none_of_it() -> None:
    body = told("first ")
    body["output"][-1]["content"].append({"type": "output_text", "text": "second"})
    body["output"].insert(0, {"type": "web_search_call", "content": [{"type": "output_text", "text": "no"}]})
    body["output_text"] = "nor this"
    assert reply_of(200, {}, raw(body)).text == "first second"


@pytest.mark.parametrize("ticks", [None, 0, -1, True, 1.5, "6000000", [1], 10**40])
def test_a_cost_that_is_not_told_is_not_known_and_an_absurd_one_is_bounded(ticks: object) -> None:
    expected = limits.GROK_COST_MAX_USD if ticks == 10**40 else None
    assert reply_of(200, {}, raw(told("x", ticks))) == Reply("x", expected)


def test_a_cost_is_counted_in_ticks_of_a_ten_billionth() -> None:
    assert cost_usd_of({"usage": {"cost_in_usd_ticks": 37_756_000}}) == Decimal("0.0037756")
    assert cost_usd_of({}) is None
    assert cost_usd_of({"usage": [1]}) is None


# --- why not ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "fault", "cost_usd"),
    [
        (400, recorded("wrong_key")["body"], Fault.AUTH, FREE),
        (200, recorded("wrong_key")["body"], Fault.AUTH, FREE),  # the body first
        (401, b"", Fault.AUTH, FREE),
        (403, {"code": "permission-denied", "error": "The API key is blocked."}, Fault.AUTH, FREE),
        (429, RATE_LIMIT, Fault.MINUTE_LIMIT, FREE),
        (429, b"", Fault.MINUTE_LIMIT, FREE),
        (429, CREDITS, Fault.QUOTA, FREE),
        (403, {"code": "x", "error": "You have run out of credits or need a Grok subscription."}, Fault.QUOTA, FREE),
        (402, b"", Fault.QUOTA, FREE),
        (403, GUIDELINES, Fault.NO_DATA, None),  # it names a key's id, and may cost a fee
        (403, {"code": "permission-denied", "error": "Your team may not use this model."}, Fault.PLAN, FREE),
        (410, {"code": "gone", "error": "Live search is deprecated."}, Fault.PLAN, FREE),
        (404, {"code": "x", "error": "The model grok-3 does not exist."}, Fault.PLAN, FREE),
        (400, {"code": "invalid-argument", "error": "Argument not supported on this model."}, Fault.PLAN, FREE),
        (422, {"code": "x", "error": "Failed to deserialize"}, Fault.PLAN, FREE),
        (400, {"error": {"message": "Incorrect API key", "type": "auth"}}, Fault.AUTH, FREE),
        (500, {"code": "x", "error": "internal, api key service"}, Fault.TRANSIENT, None),
        (503, b"<html>Service Unavailable</html>", Fault.TRANSIENT, None),
        (302, b"", Fault.TRANSIENT, None),
        (200, b"<html>hello</html>", Fault.TRANSIENT, None),
        (200, b"", Fault.TRANSIENT, None),
        (200, b"[]", Fault.TRANSIENT, None),
        (200, b'"text"', Fault.TRANSIENT, None),
        (200, b"[" * 100_000, Fault.TRANSIENT, None),
        (200, {}, Fault.TRANSIENT, None),
        (200, recorded("tool_calls_only")["body"], Fault.NO_DATA, Decimal("0.0008934")),
    ],
)
def test_an_error_is_classified_by_what_has_to_happen_next_and_by_what_it_cost(
    status: int, body: object, fault: Fault, cost_usd: Decimal | None
) -> None:
    error = error_of(status, body)
    assert (error.fault, error.cost_usd) == (fault, cost_usd)
    assert isinstance(error, ProviderError)


@pytest.mark.parametrize(("told_s", "expected"), [("30", 30.0), ("soon", None), ("-1", None), ("9" * 50, None)])
def test_how_long_to_wait_is_taken_where_it_is_a_number(told_s: str, expected: float | None) -> None:
    assert error_of(429, RATE_LIMIT, **{"Retry-After": told_s}).retry_after_s == expected


@pytest.mark.parametrize(
    ("changes", "fault", "said"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, Fault.TRANSIENT, "too long"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, Fault.NO_DATA, "filtered"),
        ({"status": "incomplete", "incomplete_details": {"reason": "<b>"}}, Fault.TRANSIENT, "no reason"),
        ({"status": "failed", "error": {"code": "server_error", "message": "boom"}}, Fault.TRANSIENT, "cannot answer"),
        ({"status": "in_progress"}, Fault.TRANSIENT, "not complete"),
        ({"status": None}, Fault.TRANSIENT, "not complete"),
        ({"output": None}, Fault.NO_DATA, "no text"),
        ({"output": [{"type": "message", "content": "text"}]}, Fault.NO_DATA, "no text"),
        ({"output": [{"type": "message", "content": [{"type": "output_text", "text": 5}]}]}, Fault.NO_DATA, "no text"),
        (
            {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "I cannot do that."}]}]},
            Fault.NO_DATA, "refused",
        ),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_still_costs_what_it_cost(changes: dict[str, Any], fault: Fault, said: str) -> None:
    error = error_of(200, told(answer(pick())) | changes)
    assert (error.fault, error.cost_usd) == (fault, Decimal("0.006"))
    assert said in str(error)


@pytest.mark.parametrize("body", [recorded("wrong_key")["body"], RATE_LIMIT, CREDITS, GUIDELINES])
def test_no_message_repeats_what_xai_wrote(body: dict[str, str]) -> None:
    message = str(error_of(400, body | {"error": body["error"] + " <script> " + KEY})).lower()
    assert "<script>" not in message
    assert KEY.lower() not in message


# --- over the wire ---------------------------------------------------------------------------------------------------


def test_a_call_is_one_post_with_the_key_in_its_header_alone(grok: Grok) -> None:
    reply = Xai(grok.url, KEY).ask(QUESTION)
    assert reply == Reply(answer(pick()), Decimal("0.006"))
    ((path, headers, body),) = grok.got
    assert (path, body) == ("/v1/responses", QUESTION)
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["accept-encoding"] == "identity"
    assert KEY not in json.dumps(body) + path


def test_a_failed_call_is_not_tried_again(grok: Grok) -> None:
    grok.says(b"", 503)
    assert fails(Xai(grok.url, KEY)).fault is Fault.TRANSIENT
    assert len(grok.got) == 1


def test_where_nobody_listens_nothing_was_sent_and_nothing_it_cost() -> None:
    error = fails(Xai(f"http://127.0.0.1:{free_port()}/v1", KEY))
    assert (error.fault, error.cost_usd) == (Fault.TRANSIENT, FREE)


def test_a_silent_server_is_given_up_at_the_deadline_and_its_cost_is_not_known(grok: Grok) -> None:
    grok.wait = threading.Event()
    begun = clock.monotonic_s()
    error = fails(Xai(grok.url, KEY, deadline_s=0.5))
    assert (error.fault, error.cost_usd) == (Fault.TRANSIENT, None)
    assert clock.monotonic_s() - begun < 3


@pytest.mark.parametrize("headers", [False, True], ids=["body", "headers"])
def test_bytes_that_come_one_by_one_do_not_outlast_the_deadline(grok: Grok, headers: bool) -> None:
    grok.drip_s, grok.drip_headers = 0.2, headers
    begun = clock.monotonic_s()
    assert fails(Xai(grok.url, KEY, deadline_s=0.5)).cost_usd is None
    assert clock.monotonic_s() - begun < 3


def test_a_body_is_read_no_further_than_its_bound(grok: Grok) -> None:
    grok.says(told("a" * 5_000_000))
    error = fails(Xai(grok.url, KEY))
    assert (error.fault, error.cost_usd) == (Fault.TRANSIENT, None)
    assert "too large" in str(error)


def test_an_endless_body_without_a_length_is_cut_off_too(grok: Grok) -> None:
    grok.says(b"\r\n".join([b"100000", b"a" * 0x100000] * 5) + b"\r\n0\r\n\r\n")
    grok.headers = {"Transfer-Encoding": "chunked", "Content-Length": "0"}
    assert "too large" in str(fails(Xai(grok.url, KEY)))


def test_a_packed_body_is_not_unpacked(grok: Grok) -> None:
    grok.says(gzip.compress(b" " * 5_000_000), Content_Encoding="gzip")
    assert "packed" in str(fails(Xai(grok.url, KEY)))


def test_a_body_that_breaks_off_is_no_answer(grok: Grok) -> None:
    grok.says(raw(told(answer(pick())))[:-100], Content_Length="100000")
    assert fails(Xai(grok.url, KEY)).fault is Fault.TRANSIENT


def test_a_redirect_is_not_followed_so_that_the_key_stays_where_it_is(grok: Grok) -> None:
    with grok_listening() as elsewhere:
        grok.says(b"", 307, Location=f"{elsewhere.url}/responses")
        assert fails(Xai(grok.url, KEY)).fault is Fault.TRANSIENT
        assert elsewhere.got == []


def test_no_netrc_puts_another_key_in_its_place(grok: Grok, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Xai(grok.url, KEY).ask(QUESTION)
    assert grok.got[0][1]["authorization"] == f"Bearer {KEY}"


def test_the_key_is_in_no_message_no_log_and_no_traceback(
    grok: Grok, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    grok.says({"code": "invalid-argument", "error": f"Incorrect API key provided: {KEY}"}, 400)
    asked = Xai(grok.url, KEY)
    gone = Xai(f"http://127.0.0.1:{free_port()}/v1", KEY)
    bad = Xai(grok.url, f"{KEY}\r\nX: y")
    for at in (asked, gone, bad):
        error = fails(at)
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(at) + str(error)
        assert KEY not in shown + caplog.text + "".join(capsys.readouterr())
    assert len(grok.got) == 1  # what could have been another header was not sent


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://api.x.ai/v1", True), ("http://127.0.0.1:6391/v1", True), ("http://localhost/v1", True),
        ("http://[::1]:80/v1", True), ("http://api.x.ai/v1", False), ("http://127.0.0.1.evil.example", False),
        ("http://localhost@evil.example", False), ("ftp://127.0.0.1", False), ("api.x.ai", False), ("", False),
        ("https://", False), ("http://[::1", False),
    ],
)  # fmt: skip
def test_a_key_goes_over_encrypted_connections_or_stays_on_the_machine(url: str, safe: bool) -> None:
    assert safe_url(url) is safe


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"xai_api_key": SecretStr("")}, "has no key here"),
        ({"xai_api_key": SecretStr("  ")}, "has no key here"),
        ({"xai_api_key": SecretStr(f"{KEY}\nX: y")}, "characters that no key has"),
        ({"xai_api_key": SecretStr("schlüssel")}, "characters that no key has"),
        ({"xai_api_key": SecretStr(KEY), "xai_url": "http://api.x.ai/v1"}, "neither https"),
    ],
)
def test_settings_with_which_it_cannot_be_asked_say_why_without_the_key(values: dict[str, Any], said: str) -> None:
    settings = Settings(_env_file=None, **values)
    with pytest.raises(ConfigError, match=said) as caught:
        xai.connect(settings)
    assert KEY not in str(caught.value)


def test_processes_that_ask_for_no_data_do_not_get_the_key() -> None:
    child = environment.of_children(Settings(_env_file=None, xai_api_key=SecretStr(KEY)), None)
    assert child["QBOT_XAI_API_KEY"] == KEY
    assert KEY not in environment.without_broker_keys(child).values()


def test_with_a_key_it_is_asked_at_its_own_address_by_default() -> None:
    at = xai.connect(Settings(_env_file=None, xai_api_key=SecretStr(f" {KEY} ")))
    assert repr(at) == "Xai(api.x.ai)"
