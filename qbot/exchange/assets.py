"""What the exchange says of its instruments beside their prices."""

from __future__ import annotations

import uuid
from typing import Any

# Name and primary listing of the shipped tickers; anything else a replay file holds is called by its symbol.
KNOWN = {
    "AAPL": ("Apple Inc. Common Stock", "NASDAQ"),
    "ADBE": ("Adobe Inc. Common Stock", "NASDAQ"),
    "AMZN": ("Amazon.com, Inc. Common Stock", "NASDAQ"),
    "COST": ("Costco Wholesale Corporation Common Stock", "NASDAQ"),
    "GOOGL": ("Alphabet Inc. Class A Common Stock", "NASDAQ"),
    "MA": ("Mastercard Incorporated", "NYSE"),
    "META": ("Meta Platforms, Inc. Class A Common Stock", "NASDAQ"),
    "MSFT": ("Microsoft Corporation Common Stock", "NASDAQ"),
    "PEP": ("PepsiCo, Inc. Common Stock", "NASDAQ"),
    "QQQ": ("Invesco QQQ Trust, Series 1", "NASDAQ"),
    "SPY": ("SPDR S&P 500 ETF Trust", "ARCA"),
    "UNH": ("UnitedHealth Group Incorporated", "NYSE"),
    "XLK": ("Technology Select Sector SPDR Fund", "ARCA"),
}
TAPE = {"NYSE": "A", "ARCA": "B", "NASDAQ": "C"}


def asset_id(symbol: str) -> str:
    """The same id for the same symbol, for ever."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{symbol}.assets.qbot"))


def exchange(symbol: str) -> str:
    """Where the symbol is listed."""
    return KNOWN.get(symbol, (symbol, "NASDAQ"))[1]


def tape(symbol: str) -> str:
    """The consolidated tape that carries the symbol: A, B or C."""
    return TAPE[exchange(symbol)]


def asset(symbol: str) -> dict[str, Any]:
    """The body of `/v2/assets/{symbol}`."""
    return {
        "id": asset_id(symbol), "class": "us_equity", "exchange": exchange(symbol), "symbol": symbol,
        "name": KNOWN.get(symbol, (symbol, ""))[0], "status": "active", "tradable": True, "marginable": False,
        "shortable": False, "easy_to_borrow": False, "fractionable": True, "attributes": [],
    }  # fmt: skip
