"""Which sources an environment has, and how each of them is asked."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from qbot.log import secrets_of
from qbot.market.provider import ProviderError
from qbot.market.providers import Sources, sources_of
from qbot.settings import KEYS as KEY_NAMES
from qbot.settings import Settings
from qbot.stack import environment
from tests.market.fakes import NOW
from tests.market.vendor import Request, Said, said, vendor

KEYS = {name: SecretStr(f"key-of-{name}-0123456789") for name in ("finnhub", "twelvedata", "fmp", "marketstack")}
ALPACA = {"alpaca_api_key": SecretStr("K-alpaca"), "alpaca_secret_key": SecretStr("S-alpaca")}


def made(tmp_path: Path, **values: Any) -> Settings:
    return Settings(_env_file=None, home=tmp_path, **values)


def names(sources: Sources) -> dict[str, list[str]]:
    return {what: [source.name for source in getattr(sources, what)] for what in Sources.__slots__}


def test_without_any_key_yahoo_alone_is_asked(tmp_path: Path) -> None:
    assert names(sources_of(made(tmp_path))) == {
        "quotes": ["yfinance"], "bars": ["yfinance"], "fundamentals": ["yfinance"], "news": ["yfinance"],
    }  # fmt: skip
    assert sources_of(made(tmp_path, yfinance=False)) == Sources()


def test_whoever_has_a_key_is_asked_for_what_its_free_plan_has(tmp_path: Path) -> None:
    keys = {f"{name}_api_key": key for name, key in KEYS.items()}
    assert names(sources_of(made(tmp_path, **keys, **ALPACA))) == {
        "quotes": ["alpaca", "finnhub", "twelvedata", "fmp", "marketstack", "yfinance"],
        "bars": ["alpaca", "twelvedata", "yfinance"], "fundamentals": ["finnhub", "fmp", "yfinance"],
        "news": ["finnhub", "yfinance"],
    }  # fmt: skip


def test_a_key_of_spaces_is_none_and_half_of_alpaca_s_is_none(tmp_path: Path) -> None:
    values = {"finnhub_api_key": SecretStr("  "), "alpaca_api_key": SecretStr("K"), "yfinance": False}
    assert sources_of(made(tmp_path, **values)) == Sources()


def test_the_space_that_was_copied_with_a_key_is_no_part_of_it(tmp_path: Path) -> None:
    found = made(tmp_path, **{name: SecretStr(f" {name}\n") for name in KEY_NAMES})
    assert {name: getattr(found, name).get_secret_value() for name in KEY_NAMES} == {name: name for name in KEY_NAMES}
    assert set(KEY_NAMES) == {
        name for name in Settings.model_fields if name.endswith(("_api_key", "alpaca_secret_key"))
    }


URLS = ("alpaca_url", "alpaca_data_url", "yfinance_url", *(f"{name}_url" for name in KEYS))


@pytest.mark.parametrize("name", URLS)
def test_an_address_to_which_keys_would_go_in_the_clear_is_refused(tmp_path: Path, name: str) -> None:
    for unsafe in ("http://api.example/v1", "http://127.0.0.1.evil.example", "ftp://127.0.0.1", "no address", "//x"):
        with pytest.raises(ValidationError, match="must begin with https://") as raised:
            made(tmp_path, **{name: unsafe})
        assert [error["loc"] for error in raised.value.errors()] == [(name,)]
    for safe in ("https://api.example/v1", "http://127.0.0.1:6391/x", "http://localhost:1", "http://[::1]:1", ""):
        assert getattr(made(tmp_path, **{name: safe}), name) == safe


def test_the_paper_exchange_may_be_in_another_container_and_nobody_else(tmp_path: Path) -> None:
    url = "http://exchange:6390"
    assert made(tmp_path, embedded_exchange=True, alpaca_url=url, alpaca_data_url=url).alpaca_data_url == url
    with pytest.raises(ValidationError):
        made(tmp_path, embedded_exchange=True, fmp_url=url)


EXPECTED = {
    "finnhub": ("/quote", {"symbol": "AAPL"}, "x-finnhub-token", "{}"),
    "twelvedata": ("/quote", {"symbol": "AAPL"}, "authorization", "apikey {}"),
    "fmp": ("/quote", {"symbol": "AAPL"}, "apikey", "{}"),
    "marketstack": ("/eod/latest", {"symbols": "AAPL", "limit": "100"}, None, ""),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_source_is_asked_at_its_address_with_its_key_where_it_belongs(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = KEYS[name].get_secret_value()
    path, query, header, form = EXPECTED[name]
    with vendor() as server:
        values = {f"{name}_url": f"{server.url}/v9", f"{name}_api_key": KEYS[name], "yfinance": False}
        (source,) = sources_of(made(tmp_path, **values)).quotes
        server.says(said({"error": {"code": "x"}}, 500))
        with pytest.raises(ProviderError) as raised:
            source.quotes(["AAPL"], NOW)
        (request,) = server.got
    assert request.path == f"/v9{path}"
    if header is None:
        assert request.query == query | {"access_key": key}
    else:
        assert request.query == query
        assert request.headers[header] == form.format(key)
    assert key not in f"{raised.value!r} {caplog.text} {source!r}"


def test_no_source_follows_another_and_one_that_is_down_costs_no_other(tmp_path: Path) -> None:
    """Each has its own address, session and state."""

    def answer(request: Request) -> Said:
        if request.path.startswith("/finnhub"):
            return said({"c": 100.5, "t": 1764255000, "pc": 100})
        return Said(status=503)

    with vendor() as server:
        server.answer = answer
        urls = {f"{name}_url": f"{server.url}/{name}" for name in KEYS}
        keys = {f"{name}_api_key": key for name, key in KEYS.items()}
        sources = sources_of(made(tmp_path, **urls, **keys, yfinance=False)).quotes
        answered = []
        for source in sources:
            try:
                answered += [source.name for _ in source.quotes(["AAPL"], NOW).quotes]
            except ProviderError as error:
                assert error.provider == source.name
    assert answered == ["finnhub"]


def test_keys_are_blanked_in_logs_and_kept_from_processes_that_ask_nobody(tmp_path: Path) -> None:
    values = made(tmp_path, **{f"{name}_api_key": key for name, key in KEYS.items()})
    secrets = {key.get_secret_value() for key in KEYS.values()}
    assert secrets <= set(secrets_of(values))
    children = environment.of_children(values, None)
    assert secrets <= set(children.values())
    assert not secrets & set(environment.without_broker_keys(children).values())
