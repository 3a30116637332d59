"""The tickers QBot looks at: held, configured, picked by Grok or of preferred sectors, minus exclusions. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qbot import limits, sectors
from qbot.types import TICKER, ticker


@dataclass(frozen=True, slots=True)
class Change:
    """A ticker that came or went, and why."""

    symbol: str
    added: bool
    why: str


@dataclass(frozen=True, slots=True)
class Universe:
    """The tickers, the most important first, and why each is in it. `left_out`: what was named and is not, and why."""

    tickers: tuple[str, ...]
    why: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def dynamic_tickers(
    configured: Sequence[str],
    held: Collection[str],
    picks: Sequence[str] = (),
    preferred_sectors: Iterable[str] = (),
    excluded: Collection[str] = (),
    most: int = limits.MAX_TICKERS,
) -> Universe:
    """At most `most` tickers: configured, then picked (best first), then of the sectors. What is held is always in it,
    also when it is excluded or too much: whoever holds a share has to know its price.

    `held`: also what has an open order.
    """
    never = {ticker(symbol) for symbol in excluded}
    ours = sorted(symbol for symbol in set(held) if TICKER.fullmatch(symbol))  # no options, nothing but shares
    why: dict[str, str] = dict.fromkeys(ours, "held, or with an open order")
    left_out: dict[str, str] = {}
    for symbol, reason in _named(configured, picks, preferred_sectors):
        if symbol in why or symbol in left_out:
            continue
        if not TICKER.fullmatch(symbol):
            left_out[repr(symbol[:12])] = "no ticker"
        elif symbol in never:
            left_out[symbol] = "excluded"
        elif len(why) >= most:
            left_out[symbol] = f"more than {most}"
        else:
            why[symbol] = reason
    return Universe(tuple(why), why, left_out)


def changes(before: Collection[str], now: Universe) -> tuple[Change, ...]:
    """What is new and what is gone, in order; why something went is why it is not named, or not wanted, any more."""
    known = set(before)
    added = (Change(symbol, True, now.why[symbol]) for symbol in now.tickers if symbol not in known)
    gone = (symbol for symbol in sorted(known) if symbol not in now.why)
    return (*added, *(Change(symbol, False, now.left_out.get(symbol, "nothing names it any more")) for symbol in gone))


def _named(
    configured: Sequence[str], picks: Sequence[str], preferred_sectors: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Every ticker that something names, with what names it."""
    yield from ((ticker(symbol), "configured") for symbol in configured)
    yield from ((ticker(symbol), "picked by Grok") for symbol in picks)
    wanted = {sector for name in preferred_sectors if (sector := sectors.named(name)) is not None}
    yield from ((symbol, f"of {sector}") for symbol, sector in sorted(sectors.OF_SYMBOL.items()) if sector in wanted)
