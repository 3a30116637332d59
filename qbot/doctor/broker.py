"""The broker: whether it takes the keys, whose account they open, whether it may trade, and its clock."""

from __future__ import annotations

from urllib.parse import urlsplit

from qbot import accounting, limits
from qbot.broker.alpaca import VENDOR
from qbot.doctor import clocks
from qbot.doctor.finding import Finding, State
from qbot.errors import BrokerError, BrokerRejected, ConfigError
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.types import Account

REFUSED = (401, 403)
KEYS = "QBOT_ALPACA_API_KEY and QBOT_ALPACA_SECRET_KEY"
PAPER_KEYS = f"Make keys of your paper account at Alpaca, and set {KEYS} to them."
NO_ADDRESS = "Take QBOT_ALPACA_URL out of .env: without it QBot asks Alpaca's paper account."
# What the ids of Alpaca's keys begin with. Seen, and not documented: a hint for a human, which nothing depends on.
PAPER_BEGINS, LIVE_BEGINS = "PK", "AK"


def look(rt: Runtime, pid: int | None, speed: float) -> list[Finding]:
    """What the account and the clock say. `pid`: of the QBot that runs here; `speed`: of a replay, else 1."""
    if rt.settings.embedded_exchange and pid is None:
        words = "without keys QBot trades at its own paper exchange, which does not run"
        return [Finding("account", State.OFF, words, f"`make up` starts it; to trade at Alpaca, set {KEYS}.")]
    try:
        account = rt.broker.account()
    except ConfigError as error:
        return [_unusable(rt.settings, error)]
    except BrokerError as error:
        return [_refused(rt.settings, error)]
    return [*_account(account, embedded=rt.settings.embedded_exchange), _clock(rt, speed)]


def _unusable(values: Settings, error: ConfigError) -> Finding:
    """Keys of which one is missing, or an address that trades real money."""
    key, secret = values.alpaca_api_key.get_secret_value(), values.alpaca_secret_key.get_secret_value()
    if not (key and secret):
        missing = "QBOT_ALPACA_SECRET_KEY" if key else "QBOT_ALPACA_API_KEY"
        return Finding("keys", State.FAILED, "one of the two is missing", f"Set {missing} in .env.")
    paper = ", with a key that looks like one of a paper account" if key.startswith(PAPER_BEGINS) else ""
    return Finding("keys", State.FAILED, f"{error}{paper}", NO_ADDRESS)


def _refused(values: Settings, error: BrokerError) -> Finding:
    where = _where(values)
    if not (isinstance(error, BrokerRejected) and error.status in REFUSED):
        advice = "Try again; look at the network, and at the broker's page of its status."
        return Finding("account", State.FAILED, f"{where} does not answer: {error}", advice)
    key = values.alpaca_api_key.get_secret_value()
    if key.startswith(LIVE_BEGINS):
        words = f"{where} refuses the key, which looks like one of a live account; QBot trades on paper only"
        return Finding("keys", State.FAILED, words, PAPER_KEYS)
    if key.startswith(PAPER_BEGINS):
        words = f"{where} refuses the key, which looks like one of a paper account: it was replaced, or mistyped"
        return Finding("keys", State.FAILED, words, PAPER_KEYS)
    return Finding("keys", State.FAILED, f"{where} refuses the keys (HTTP {error.status})", PAPER_KEYS)


def _account(account: Account, *, embedded: bool) -> list[Finding]:
    kind = accounting.kind(account.number)
    where = "at QBot's own exchange" if embedded else "at Alpaca"
    words = f"the keys open a {kind} account {where}, equity {account.equity_usd:,.2f} USD"
    found = [Finding("account", State.OK, words)]
    if kind == accounting.LIVE:
        found = [Finding("account", State.FAILED, f"{words}; QBot trades on paper only", PAPER_KEYS)]
    elif kind == accounting.UNKNOWN:
        advice = "Look at the broker's own site which account the keys are of."
        found = [Finding("account", State.WARNING, f"{words}: it has no number that tells paper from live", advice)]
    if not account.blocked:
        return [*found, Finding("orders", State.OK, "the broker takes orders")]
    words = f"the broker takes no orders: {', '.join(account.blocked)}"
    return [*found, Finding("orders", State.FAILED, words, "The broker's own site says why, and what to do.")]


def _clock(rt: Runtime, speed: float) -> Finding:
    name = "broker clock"
    try:
        ahead_s = clocks.between(rt.market, lambda: rt.broker.clock().at)
    except BrokerError as error:
        return Finding(name, State.FAILED, f"the broker does not tell its time: {error}", "Try again in a minute.")
    replayed = rt.settings.embedded_exchange
    whose = "the replay's time" if replayed else "the broker's clock"
    return clocks.judge(name, ahead_s, whose, limits.CLOCK_SKEW_S * speed)


def _where(values: Settings) -> str:
    if values.embedded_exchange:
        return "QBot's own paper exchange"
    host = urlsplit(values.alpaca_url or "").hostname
    return "Alpaca's paper account" if host is None or host.endswith(VENDOR) else f"the broker at {host}"
