"""Where each vendor stands on the stand-in, and the settings with which QBot asks there and nowhere else."""

from __future__ import annotations

from pydantic import SecretStr

HOST = "127.0.0.1"
ALPACA = "/alpaca"
FINNHUB = "/finnhub/api/v1"
TWELVEDATA = "/twelvedata"
FMP = "/fmp/stable"
MARKETSTACK = "/marketstack/v2"
YAHOO = "/yahoo"
XAI = "/xai/v1"
KEY = "made-up"  # a name, not a secret: the stand-in takes any
# yfinance keeps the cookie of no other host than one of Yahoo's: it would ask for it before every request.
YAHOO_HOST = "yahoo.localhost"


def url_of(port: int) -> str:
    """The base of all vendors."""
    return f"http://{HOST}:{port}"


def settings_at(url: str) -> dict[str, object]:
    """Fields of Settings: addresses and keys of every vendor, at a stand-in. Alpaca's keys are the broker's."""
    key = SecretStr(KEY)
    return {
        "alpaca_data_url": url + ALPACA,
        "finnhub_url": url + FINNHUB, "finnhub_api_key": key,
        "twelvedata_url": url + TWELVEDATA, "twelvedata_api_key": key,
        "fmp_url": url + FMP, "fmp_api_key": key,
        "marketstack_url": url + MARKETSTACK, "marketstack_api_key": key,
        "yfinance": True, "yfinance_url": url.replace(HOST, YAHOO_HOST) + YAHOO,
        "xai_url": url + XAI, "xai_api_key": key,
    }  # fmt: skip
