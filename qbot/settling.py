"""What sources told becomes prices, bars and facts in Postgres: judged, joined, and counted by source."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from qbot import alerts, clock
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.market import keeping
from qbot.market.aggregation import Aggregate, Basis, Market, aggregate
from qbot.market.calendar import LOOK_BACK, Session, last_and_before, sessions_around
from qbot.market.carrying import Told
from qbot.market.limiting import Closed
from qbot.market.plans import Need
from qbot.market.provider import Fault, ProviderError
from qbot.runtime import Runtime
from qbot.store import bars, companies, quotes, sources
from qbot.store.companies import Kind
from qbot.store.engine import transaction
from qbot.store.quotes import Accepted
from qbot.store.sources import Got, PassMade
from qbot.types import Day, Quote

log = structlog.get_logger(__name__)
PRICED = (Need.PRICE, Need.CLOSE)
NOTHING = (Fault.UNKNOWN_SYMBOL, Fault.NO_DATA)
REFUSING = (Fault.UNKNOWN_SYMBOL, Fault.PLAN)  # of one symbol: the same answer comes again tomorrow at the earliest
ADVICE = {
    Fault.AUTH: "Set QBOT_{}_API_KEY to a key that works; until then nobody asks it.",
    Fault.PLAN: "Its plan does not include what is asked for; tell what it does in QBOT_MARKET_PLANS.",
    Fault.QUOTA: "It is asked again when its quota is renewed; see `qbot market plan`.",
}


@dataclass
class Settled:
    """What has come of a pass so far. `before`: the prices that were accepted before it; `accepted`: with its own.

    `agreed`: the tickers whose price is its own.
    """

    began_at: datetime
    began_s: float
    tickers: tuple[str, ...]
    sessions: Sequence[Session]
    trust: tuple[str, ...]
    last_closes: Mapping[str, Decimal]
    before: Mapping[str, Accepted]
    accepted: dict[str, Accepted]
    agreed: frozenset[str] = frozenset()
    asked: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    by_source: dict[str, tuple[set[str], set[str]]] = field(default_factory=lambda: defaultdict(lambda: (set(), set())))
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    bars: int = 0

    @property
    def words(self) -> str:
        """What went wrong, for a human: of each source once."""
        refused = Counter(f"{source}: {reason}" for (_symbol, source), reason in self.refused.items())
        return "; ".join([*self.failures.values(), *(f"{why} ({count})" for why, count in sorted(refused.items()))])


def begin(rt: Runtime, tickers: Sequence[str], now: datetime, trust: tuple[str, ...]) -> Settled:
    """A pass that nothing has come of yet."""
    with transaction(rt.engine) as connection:
        known, closes = quotes.accepted(connection, tickers), _last_closes(connection, tickers, now)
    return Settled(
        now, clock.monotonic_s(), tuple(tickers), sessions_around(now), trust,
        closes, known, dict(known),
    )  # fmt: skip


def _last_closes(connection: Connection, tickers: Sequence[str], now: datetime) -> dict[str, Decimal]:
    """Of the session before the one that began last, by the bars."""
    return bars.last_closes(connection, tickers, last_and_before(now)[1])


def settle(rt: Runtime, settled: Settled, told: Sequence[Told], bars_told: Sequence[Told] = ()) -> None:
    """Record what requests brought. All of it or nothing: one transaction.

    `bars_told`: whose bars are to be judged now, beside the prices that have come by now.
    """
    now = rt.market()
    with transaction(rt.engine) as connection:
        _note_quotes(connection, settled, told)
        _note_bars(rt, connection, settled, bars_told, now)
        _judge(connection, settled, now, rt.wall())
        _note_facts(connection, told, now)
        _note_sources(rt, connection, settled, told)
        if settled.asked:
            sources.note_pass(connection, _made(settled))


# --- prices -----------------------------------------------------------------------------------------------------------


def _note_quotes(connection: Connection, settled: Settled, told: Sequence[Told]) -> None:
    found = [quote for one in told for quote in one.answer.quotes.values()]
    days: dict[tuple[str, str], Day] = {
        (symbol, one.ask.source): day for one in told for symbol, day in one.answer.days.items()
    }
    quotes.note(connection, found, days, settled.began_at)
    for one in told:
        if one.ask.need in PRICED or Need.PRICE in one.ask.brings:
            answered, failed = settled.by_source[one.ask.source]
            settled.asked.update(one.ask.symbols)
            settled.answered.update(one.answer.quotes)
            answered.update(one.answer.quotes)
            failed.update(set(one.ask.symbols) - set(one.answer.quotes))


def _judge(connection: Connection, settled: Settled, now: datetime, wall: datetime) -> None:
    """Join what this pass has brought so far. A price that it accepted before and cannot stand by now is taken back."""
    found = quotes.of_pass(connection, settled.began_at)
    closes = _closes(connection, settled, now, wall)
    market = Market(
        now, settled.sessions, settled.last_closes,
        {symbol: one.quote for symbol, one in settled.before.items()},
        {symbol for symbol, one in settled.before.items() if one.basis == Basis.MAJORITY}, settled.trust,
    )  # fmt: skip
    joined = aggregate([*found, *closes], market)
    agreed = {s: Accepted(one.quote, one.sources, str(one.basis)) for s, one in joined.agreed.items()}
    told = {quote.symbol for quote in (*found, *closes)}
    kept = {symbol: one for symbol, one in settled.before.items() if symbol in told and symbol not in agreed}
    lost = sorted(told - set(agreed) - set(kept))
    new = [one for symbol, one in (kept | agreed).items() if settled.accepted.get(symbol) != one]
    quotes.accept(connection, new)
    quotes.withdraw(connection, lost)
    settled.accepted = {s: one for s, one in (settled.accepted | kept | agreed).items() if s not in lost}
    settled.agreed = frozenset(agreed)
    settled.refused = {(one.symbol, one.source): str(one.reason) for one in joined.dropped}
    words = {(one.symbol, one.source): f"{one.reason}: {one.words}" for one in joined.dropped}
    quotes.refuse(connection, words, settled.began_at)
    _note_needs(connection, settled, found, joined)


def _closes(connection: Connection, settled: Settled, now: datetime, wall: datetime) -> list[Quote]:
    """Out of hours: the close of the last bar of the session, where there is one, as a quote of its source."""
    (begin, close), _ = last_and_before(now)
    if begin <= now < close:
        return []
    return bars.closes_at(connection, settled.tickers, close, wall)


def _note_needs(connection: Connection, settled: Settled, found: Sequence[Quote], joined: Aggregate) -> None:
    """When each ticker got its price, whether two sources agreed on it, and whether they do not.

    Out of hours whoever tells a price of another time, or a wrong one, has not told the close.
    """
    symbols, at = {quote.symbol for quote in found}, settled.began_at
    known, disputed = sources.got(connection, Need.PRICE, symbols), joined.disputed
    agreed = {s for s, one in joined.agreed.items() if one.basis is Basis.MAJORITY and len(one.sources) > 1}
    new = {s: Got(at, at if s in agreed else known.get(s, Got()).confirmed_at, s in disputed) for s in symbols}
    _note_new(connection, Need.PRICE, new, known)
    closed = sources.got(connection, Need.CLOSE, joined.agreed)
    _note_new(connection, Need.CLOSE, dict.fromkeys(joined.agreed, Got(at)), closed)


def _note_new(connection: Connection, need: Need, new: Mapping[str, Got], known: Mapping[str, Got]) -> None:
    """A pass is settled many times: what it has told already is not written again."""
    sources.note_got(connection, need, {symbol: one for symbol, one in new.items() if known.get(symbol) != one})


# --- bars and facts ---------------------------------------------------------------------------------------------------


def _note_bars(rt: Runtime, connection: Connection, settled: Settled, told: Sequence[Told], now: datetime) -> None:
    """Bars, with what was stored before a split put right; then the last close is another one too."""
    for one in told:
        kept = keeping.keep(connection, one.bars, one.ask.source, now, rt.wall(), settled.trust)
        settled.bars += kept.written
        if kept.splits:
            settled.last_closes = _last_closes(connection, settled.tickers, now)
        if kept.doubtful:
            _tell_of_doubt(rt, connection, one.ask.source, kept.doubtful)
        if one.failed is None and not one.cut:  # of what is in doubt, or did not come, another source is asked
            missing = {*one.answer.missing, *kept.doubtful, *_should_have_come(connection, one, now)}
            come = [symbol for symbol in one.ask.symbols if symbol not in missing]
            sources.note_got(connection, Need.BARS, dict.fromkeys(sorted(come), Got(now)))


def _should_have_come(connection: Connection, one: Told, now: datetime) -> list[str]:
    """Symbols without a bar in an answer that reaches back into what is known of them."""
    without = sorted(set(one.ask.symbols) - set(one.bars["symbol"].unique()))
    return [symbol for symbol, (at, _close) in bars.newest(connection, without).items() if now - at < LOOK_BACK]


def _tell_of_doubt(rt: Runtime, connection: Connection, source: str, doubtful: Mapping[str, str]) -> None:
    """Without new bars there is no forecast, so that nothing is bought on one: a human may know more."""
    symbol, words = min(doubtful.items())
    others = f", and those of {len(doubtful) - 1} more," if len(doubtful) > 1 else ""
    what = (
        f"The bars of {symbol}{others} are not used: {words}. Without those of another source there are no forecasts "
        f"of it. If it was split, tell how many new shares one old share became: qbot market split {symbol} 4"
    )
    title, about = f"{source} tells doubtful bars", f"bars {source}"
    alerts.alert(rt, connection, AlertType.SYSTEM_ALERT, Severity.WARNING, title, what, about=about)


def _note_facts(connection: Connection, told: Sequence[Told], now: datetime) -> None:
    for one in told:
        known = {each.symbol: _body(each) for each in one.fundamentals}
        companies.note(connection, Kind.FUNDAMENTALS, known, one.ask.source, now)
        news = {symbol: [_body(each) for each in found] for symbol, found in one.news.items()}
        companies.note(connection, Kind.NEWS, news, one.ask.source, now)
        if one.ask.need in (Need.FUNDAMENTALS, Need.NEWS) and one.failed is None:
            sources.note_got(connection, one.ask.need, dict.fromkeys(sorted(one.ask.symbols), Got(now)))


def _body(fact: Any) -> dict[str, Any]:
    """As JSON, without what its row says already."""
    found = {name: value for name, value in asdict(fact).items() if name not in ("symbol", "source", "received_at")}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}


# --- sources ----------------------------------------------------------------------------------------------------------


def _note_sources(rt: Runtime, connection: Connection, settled: Settled, told: Sequence[Told]) -> None:
    """How each source did."""
    sources.answered(connection, {one.ask.source for one in told if _well(one)}, rt.wall())
    refused = {
        (one.ask.source, symbol): str(fault)
        for one in told
        if _tells_of_symbols(one)
        for symbol, fault in one.answer.missing.items()
        if fault in REFUSING
    }
    sources.refuse(connection, refused, rt.wall())
    for error in _failures(told):
        settled.failures[error.provider] = str(error)
        if isinstance(error, Closed) and error.until is None:
            continue  # it is well, and its turn has not come
        sources.failed(connection, error.provider, error.fault, str(error), rt.wall())
        log.warning("source_failed", source=error.provider, fault=str(error.fault), why=str(error))
        if error.fault in ADVICE:
            _tell(rt, connection, error)


def _tells_of_symbols(one: Told) -> bool:
    """Whether it is known of its symbols what the source has: also where its plan has none of their prices.

    Who has no figures of a ticker may have its price.
    """
    if one.failed is not None:
        return one.failed.fault is Fault.PLAN and one.ask.need in PRICED
    return one.ask.need in (*PRICED, Need.BARS)


def _well(one: Told) -> bool:
    """Whether the source answered, be it that it has nothing for what was asked."""
    return one.failed is None or one.failed.fault in NOTHING


def _failures(told: Iterable[Told]) -> list[ProviderError]:
    """One of each source: its own last word, else why it was not asked."""
    found = [one.failed for one in told if one.failed is not None and not _well(one)]
    last = {error.provider: error for error in sorted(found, key=lambda error: not isinstance(error, Closed))}
    return [last[name] for name in sorted(last)]


def _tell(rt: Runtime, connection: Connection, error: ProviderError) -> None:
    severity = Severity.INFO if error.fault is Fault.QUOTA else Severity.WARNING
    advice = ADVICE[error.fault].format(error.provider.upper())
    title, about = f"{error.provider} gives no market data", f"{error.provider} {error.fault}"
    alerts.alert(rt, connection, AlertType.SYSTEM_ALERT, severity, title, f"{error}. {advice}", about=about)


def _made(settled: Settled) -> PassMade:
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for (_symbol, source), reason in settled.refused.items():
        reasons[source][reason] += 1
    told = {
        name: {"answered": len(answered), "failed": len(failed - answered), "refused": dict(reasons[name])}
        for name, (answered, failed) in sorted(settled.by_source.items())
    }
    priced = len(settled.asked & settled.agreed)
    took_s = round(clock.monotonic_s() - settled.began_s, 3)
    unanswered = len(settled.asked - settled.answered)
    return PassMade(settled.began_at, took_s, len(settled.asked), priced, unanswered, told)
