"""`qbot market fake`: how the stand-in of the providers does, and to break and heal it by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from qbot.errors import ConfigError
from qbot.log import quiet
from qbot.settings import settings
from qbot.standin.addresses import url_of
from qbot.standin.client import EVERY, Control, Doing
from qbot.standin.troubles import Trouble
from qbot.types import TICKER

HEAL = "heal"
SYMBOLS_SHOWN = 6
USED_BY = {"--factor": (Trouble.LYING_PRICE, Trouble.UNSPLIT), "--hours": (Trouble.WRONG_TIME_ZONE,)}

console = Console(highlight=False)


def fake(
    provider: Annotated[str | None, typer.Argument(help="Whom to break or heal; `all`: every one that can.")] = None,
    fault: Annotated[str | None, typer.Argument(help="What it shall have; `heal`: none.")] = None,
    latency: Annotated[float, typer.Option(min=0, max=600, help="Seconds before each answer.")] = 0.0,
    symbol: Annotated[list[str] | None, typer.Option("--symbol", help="Of this ticker alone. Repeatable.")] = None,
    factor: Annotated[float | None, typer.Option(help="What a lying price, or one before a split, is times.")] = None,
    hours: Annotated[float | None, typer.Option(help="How far off a wrong time zone is.")] = None,
    times: Annotated[int | None, typer.Option(min=1, help="So many requests, then it is well again.")] = None,
) -> None:
    """Show what the providers of `qbot up --fake-providers` were asked, and break or heal them.

    `qbot market fake finnhub quota`, `qbot market fake finnhub heal`. What a provider can have is in
    docs/fake-providers.md, and is told when it cannot.
    """
    quiet()
    healing = fault == HEAL or (provider == HEAL and fault is None)
    named = {"--symbol": symbol, "--factor": factor, "--hours": hours, "--times": times}
    _require_fault(None if healing else fault, [name for name, value in named.items() if value is not None])
    symbols = _tickers(symbol or ())
    control = Control(url_of(settings().fake_providers_port))
    if healing:
        control.heal(EVERY if provider in (None, HEAL) else provider)
    elif provider is not None and (fault is not None or latency):
        control.switch(provider, fault, latency_s=latency, symbols=symbols, factor=factor, hours=hours, times=times)
    found = control.all()
    if provider not in (None, EVERY, HEAL, *found):
        raise ConfigError(f"no provider is named {provider}; there are {', '.join(found)}")
    if provider in found and fault is None and not latency:
        _show_one(provider, found[provider])
    else:
        console.print(_table(found))


def _require_fault(fault: str | None, options: Sequence[str]) -> None:
    """Raises ConfigError for options that would do nothing."""
    if fault is None and options:
        raise ConfigError(f"{', '.join(options)} changes a fault: name one, as in `qbot market fake finnhub stale`")
    for name, faults in USED_BY.items():
        if name in options and fault not in faults:
            raise ConfigError(f"{name} changes nothing of {fault}; it is for {' and '.join(faults)}")


def _tickers(symbols: Sequence[str]) -> list[str]:
    """As QBot writes them. Raises ConfigError."""
    found = [symbol.strip().upper() for symbol in symbols]
    for symbol in found:
        if not TICKER.fullmatch(symbol):
            raise ConfigError(f"{symbol!r} is no ticker: --symbol takes one, and can be repeated")
    return found


def _table(found: dict[str, Doing]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("provider", no_wrap=True)
    table.add_column("does")
    for name in ("requests", "symbols", "at once"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, doing in found.items():
        counts = (doing.requests, doing.symbols_asked, doing.in_flight_max)
        table.add_row(name, _words(doing), *map(str, counts))
    return table


def _words(doing: Doing) -> str:
    said = [str(doing.fault)] if doing.fault else ["well"]
    if doing.latency_s:
        said.append(f"after {doing.latency_s:g} s")
    if doing.symbols:
        said.append("of " + ", ".join(doing.symbols[:SYMBOLS_SHOWN]))
    if doing.times:
        said.append(f"{doing.times} times more")
    colour = "red" if doing.fault else "yellow" if doing.latency_s else "green"
    return f"[{colour}]{' '.join(said)}[/{colour}]"


def _show_one(name: str, doing: Doing) -> None:
    console.print(f"{name}: {_words(doing)}")
    for path, count in sorted(doing.paths.items()):
        console.print(f"  {count:>6}  {path or '/'}", markup=False)
    console.print(f"It can have: {', '.join(doing.faults)}", markup=False)
