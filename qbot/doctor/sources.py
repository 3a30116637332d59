"""Sources of market data: what each key would bring, or whether it works: one real price, as every task asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from qbot import clock, limits
from qbot.console.text import age
from qbot.contract.board import client_of
from qbot.doctor.finding import Finding, State
from qbot.market import at_hand, counting
from qbot.market.calendar import sessions_around
from qbot.market.feeds import Feed
from qbot.market.limiting import Closed, Gate, Hold
from qbot.market.plans import COUNTED, Need, Plan, Span, period
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.runtime import Runtime
from qbot.store import sources
from qbot.store.engine import transaction
from qbot.store.sources import Outcome
from qbot.types import Quote

SYMBOL = "SPY"  # every source knows it, and it is traded all day
NAMED = {"yfinance": "QBOT_YFINANCE", "alpaca": "QBOT_ALPACA_API_KEY and QBOT_ALPACA_SECRET_KEY"}
URLS = {"alpaca": "QBOT_ALPACA_DATA_URL"}
BY_ITSELF = "It opens by itself; `qbot market plan` shows who is asked meanwhile."
MENDED_BY_TIME = (Fault.QUOTA, Fault.MINUTE_LIMIT)


def variable(source: str) -> str:
    """What sets a source up."""
    return NAMED.get(source, f"QBOT_{source.upper()}_API_KEY")


def missing(plan: Plan) -> list[Finding]:
    """One without a key: what it would bring."""
    brings = ", ".join(need for need in Need if need in plan.offers)
    allows = _allowed(plan, None)
    why, how = ("switched off", "=true in .env") if plan.keyless else ("no key", " in .env")
    words = f"{why}; it would bring {brings} ({allows})"
    return [Finding(plan.source, State.OFF, words, f"Set {variable(plan.source)}{how} to have it.")]


def replayed(names: list[str]) -> list[Finding]:
    """In a replay the exchange alone has prices of that day. `names`: those whose keys are set all the same."""
    words = "come from the replay: no source is asked, since none has prices of a replayed day"
    found = [Finding("prices", State.OK, words)]
    if names:
        words = f"keys of {', '.join(names)} are set, and are for trading at Alpaca"
        advice = "Set QBOT_ALPACA_API_KEY and QBOT_ALPACA_SECRET_KEY to trade on today's market."
        found.append(Finding("sources", State.OFF, words, advice))
    return found


def made_up() -> list[Finding]:
    """Who answers in the place of the sources."""
    words = "whoever is named below, a stand-in on this machine answers: prices are made up"
    advice = "Take QBOT_FAKE_PROVIDERS out of .env to have real ones (docs/fake-providers.md)."
    return [Finding("stand-in", State.WARNING, words, advice)]


def look(rt: Runtime, plan: Plan, *, calls: bool) -> list[Finding]:
    """What is known of a source and, with `calls`, what it says now: at most one request, counted and paced.

    Raises BoardUnavailable or StoreUnavailable: then nobody can tell whether it may be asked, and it is not.
    """
    feed = rt.feeds[plan.source]
    held = feed.gate.hold()
    with transaction(rt.engine) as connection:
        used = counting.used(connection, [feed.plan], rt.wall())[plan.source]
        last = sources.outcomes(connection).get(plan.source)
    if held is not None:
        return [_held(feed.plan, held, last)]
    if not calls:
        return [_with_quota(_known(feed.plan, last), feed.plan, used, rt.wall())]
    found = _ask(rt, feed)
    if last is not None and last.failed_wall is not None and not last.works:
        found = replace(found, words=f"{found.words}; a task's call failed at {_at(last.failed_wall)}: {last.words}")
    with transaction(rt.engine) as connection:
        used = counting.used(connection, [feed.plan], rt.wall())[plan.source]
    return [_with_quota(found, feed.plan, used, rt.wall())]


# --- one price --------------------------------------------------------------------------------------------------------


class _Once:
    """One question to a source. It waits shortly for its turn, and never for a second try, which would cost another."""

    def __init__(self, rt: Runtime, feed: Feed) -> None:
        self._rt, self._feed = rt, feed
        self._heard: ProviderError | None = None
        access = at_hand.access_of(rt.settings, feed.plan.source)
        self._gate = Gate(feed.gate.plan, access, client_of(rt.settings), rt.engine, rt.wall, self._pause)

    def ask(self) -> Answer:
        """Raises ProviderError, Closed where it was not asked."""
        try:
            return self._gate.call(1, self._quotes)
        except Closed as closed:
            raise self._heard or closed from None

    def _quotes(self) -> Answer:
        try:
            return self._feed.quotes.quotes((SYMBOL,), self._rt.wall())
        except ProviderError as error:
            self._heard = error
            raise

    def _pause(self, seconds: float) -> None:
        if self._heard is not None or seconds > limits.DOCTOR_TURN_S:
            words = f"not asked: its turn is in {seconds:.0f} s"
            raise Closed(self._feed.plan.source, Fault.MINUTE_LIMIT, words)
        clock.pause(seconds)


def _ask(rt: Runtime, feed: Feed) -> Finding:
    name = feed.plan.source
    try:
        answer = _Once(rt, feed).ask()
    except ProviderError as error:
        said = f"{error}".removeprefix(f"{name}: ")
        return _failed(name, error.fault, said if isinstance(error, Closed) else f"no price of {SYMBOL}: {said}")
    quote = answer.quotes.get(SYMBOL)
    if quote is None:
        fault = answer.missing.get(SYMBOL, Fault.NO_DATA)
        return _failed(name, fault, f"it answers, and has no price of {SYMBOL} ({fault})")
    return priced(feed.plan, quote, rt.market())  # that of the replay, where a stand-in tells of it


def priced(plan: Plan, quote: Quote, now: datetime) -> Finding:
    """What a price is worth by its age, market time."""
    name, old_s = plan.source, (now - quote.at).total_seconds()
    words = f"{SYMBOL} {quote.price_usd:,.2f} USD, "
    if old_s < -limits.CLOCK_SKEW_S:
        advice = "Set this machine's clock by NTP (`timedatectl set-ntp true`); else its prices are not believed."
        return Finding(name, State.WARNING, f"{words}stamped {age(-old_s)} ahead of this machine's clock", advice)
    words += f"{age(max(0.0, old_s))} old" + ("" if plan.live else ", of the last close")
    opened = next((begin for begin, close in sessions_around(now) if begin <= now < close), None)
    late = opened is not None and (now - opened).total_seconds() > limits.QUOTE_MAX_AGE_S
    if plan.live and late and old_s > limits.QUOTE_MAX_AGE_S:
        advice = "Too old to trade on: put others before it by QBOT_MARKET_ORDER."
        return Finding(name, State.WARNING, words, advice)
    return Finding(name, State.OK, words)


def _failed(name: str, fault: Fault, words: str) -> Finding:
    return Finding(name, State.WARNING if fault in MENDED_BY_TIME else State.FAILED, words, advice(name, fault))


def advice(source: str, fault: Fault) -> str:
    """What to do about it."""
    address = URLS.get(source, f"QBOT_{source.upper()}_URL")
    plan = f"Your plan there does not include it: get a larger one, or look at QBOT_MARKET_PLANS and {address}."
    return {
        Fault.AUTH: f"Set {variable(source)} in .env to what the vendor shows, and restart QBot.",
        Fault.PLAN: "Set QBOT_ALPACA_DATA_FEED=iex, which is the free feed." if source == "alpaca" else plan,
        Fault.MINUTE_LIMIT: "Wait a minute; where it lasts, set per_minute in QBOT_MARKET_PLANS to what it allows.",
        Fault.QUOTA: BY_ITSELF,
        Fault.UNKNOWN_SYMBOL: f"It should know {SYMBOL}: look at {address}.",
        Fault.NO_DATA: f"Try again in a minute, and look at {address}.",
        Fault.TRANSIENT: f"Look at the network (HTTPS_PROXY where there is one) and at {address}.",
    }[fault]


# --- what is known without asking -------------------------------------------------------------------------------------


def _held(plan: Plan, held: Hold, last: Outcome | None) -> Finding:
    state = State.WARNING if held.fault in MENDED_BY_TIME else State.FAILED
    do = advice(plan.source, held.fault) if held.fault is Fault.AUTH else BY_ITSELF
    said = f"; it said: {last.words}" if last and last.words and not last.works else ""
    return Finding(plan.source, state, f"not asked: {held.words}{said}", do)


def _known(plan: Plan, last: Outcome | None) -> Finding:
    """By what came of it last."""
    name = plan.source
    if last is None:
        return Finding(name, State.OFF, "not asked yet", "Run `qbot doctor` without --no-calls to ask it once.")
    if last.works or last.failed_wall is None:
        return Finding(name, State.OK, f"it last answered at {_at(last.answered_wall)}")
    words = f"it last failed at {_at(last.failed_wall)}: {last.words}"
    try:
        return Finding(name, State.WARNING, words, advice(name, Fault(last.fault or "")))
    except ValueError:  # a word of another version
        return Finding(name, State.WARNING, words, "Run `qbot doctor` without --no-calls to ask it once.")


def _with_quota(found: Finding, plan: Plan, used: Mapping[Span, int], now: datetime) -> Finding:
    words, do, state = f"{found.words}; {_allowed(plan, used)}", found.advice, found.state
    spent = [limit for limit in plan.limits if limit.span in COUNTED and used.get(limit.span, 0) >= limit.amount]
    if spent and state is State.OK:
        state, do = State.WARNING, f"It is asked again from {_at(period(spent[-1], now).renews_at)} on."
    return Finding(found.name, state, words, do)


def _at(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "no time known"


def _allowed(plan: Plan, used: Mapping[Span, int] | None) -> str:
    """`used`: where that is known, what is left is told as well."""
    said = []
    for limit in plan.limits:
        unit = str(limit.unit) if limit.amount > 1 else str(limit.unit).removesuffix("s")
        if limit.span in COUNTED and used is not None:
            left = max(0, limit.amount - used.get(limit.span, 0))
            said.append(f"{left:,} of {limit.amount:,} {unit} left of the {limit.span}")
        elif limit.span is not Span.SECOND or plan.of(Span.MINUTE) is None:
            said.append(f"{limit.amount:,} {unit} a {limit.span}")
    return ", ".join(said) or "no limit"
