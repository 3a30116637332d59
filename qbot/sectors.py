"""Which sector a ticker is in, and the names people have for a sector. Pure.

The tickers are those of the S&P 100 and the funds that are traded most; the sectors are its index provider's, by the
names the frontends' documents use. What stands here is looked at for preferences and figures; no order depends on it.
"""

from __future__ import annotations

UNKNOWN = "Unknown"
_MEMBERS = {
    "Technology": "AAPL ACN ADBE AMD AVGO CRM CSCO IBM INTC INTU MSFT NVDA ORCL PLTR QCOM TXN XLK",
    "Communication Services": "CHTR CMCSA DIS GOOG GOOGL META NFLX T TMUS VZ XLC",
    "Consumer Discretionary": "AMZN BKNG F GM HD LOW MCD NKE SBUX TSLA XLY",
    "Consumer Staples": "CL COST KHC KO MDLZ MO PEP PG PM TGT WMT XLP",
    "Energy": "COP CVX XOM XLE",
    "Finance": "AIG AXP BAC BK BLK BRK.B C COF GS JPM MA MET MS PYPL SCHW USB V WFC XLF",
    "Healthcare": "ABBV ABT AMGN BMY CVS DHR GILD ISRG JNJ LLY MDT MRK PFE TMO UNH XLV",
    "Industrials": "BA CAT DE EMR FDX GD GE HON LMT MMM RTX UBER UNP UPS XLI",
    "Materials": "DOW LIN XLB",
    "Real Estate": "AMT SPG XLRE",
    "Utilities": "DUK NEE SO XLU",
    "Index Fund": "DIA IWM QQQ SPY VOO VTI",
}
OF_SYMBOL = {symbol: sector for sector, members in _MEMBERS.items() for symbol in members.split()}
# Other names in use, folded as `_folded` does.
_ALIASES = {
    "tech": "Technology",
    "informationtechnology": "Technology",
    "it": "Technology",
    "communications": "Communication Services",
    "communication": "Communication Services",
    "telecommunications": "Communication Services",
    "media": "Communication Services",
    "consumercyclical": "Consumer Discretionary",
    "consumerdefensive": "Consumer Staples",
    "financials": "Finance",
    "financial": "Finance",
    "financialservices": "Finance",
    "banking": "Finance",
    "banks": "Finance",
    "health": "Healthcare",
    "industrial": "Industrials",
    "basicmaterials": "Materials",
    "utility": "Utilities",
    "oilandgas": "Energy",
    "etf": "Index Fund",
    "etfs": "Index Fund",
    "indexfunds": "Index Fund",
}
_KNOWN = {"".join(sector.casefold().split()): sector for sector in _MEMBERS} | _ALIASES


def of(symbol: str) -> str | None:
    """The sector of a ticker; None where it is not known."""
    return OF_SYMBOL.get(symbol)


def named(name: str) -> str | None:
    """The sector that somebody means by a name, however it is written; None where it is none."""
    return _KNOWN.get(_folded(name))


def _folded(name: str) -> str:
    """Without case, spaces and what stands between words: `Health-Care` and `health care` are one."""
    return "".join(letter for letter in name.casefold().replace("&", "and") if letter.isalnum())
