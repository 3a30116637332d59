"""`qbot market backfill`: the bars that are missing since a day, from whoever has them, with what could not be had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from qbot.cli_stop import Reached, runtime_of, settings_of
from qbot.clock import NEW_YORK
from qbot.console import installation
from qbot.contract.board import client_of
from qbot.errors import ConfigError
from qbot.log import quiet
from qbot.market import at_hand, retention
from qbot.market.backfilling import Asker, Filled, Step, Tell, Wanted, fill, why_not
from qbot.market.gaps import Gap
from qbot.market.plans import FREE, Need, in_order
from qbot.runtime import Runtime
from qbot.store import bar_history
from qbot.store.engine import transaction
from qbot.types import TICKER, ticker

DAY = "%Y-%m-%d"
SHOWN = 3  # of the last column: more are counted
TABLE_MAX = 200  # lines; a universe of 5,000 tickers tells only what is missing

console = Console(highlight=False)


def backfill(
    since: Annotated[
        datetime, typer.Option("--since", formats=[DAY], help="First day, as the exchange's calendar has it.")
    ],
    until: Annotated[
        datetime | None, typer.Option("--until", formats=[DAY], help="Last day, counted. Without it: until now.")
    ] = None,
    symbols: Annotated[
        str, typer.Option("--symbols", help="Only these, with commas. Without it: the tickers of this QBot.")
    ] = "",
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only this source of those at hand. Repeatable.")
    ] = None,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Fetch the five-minute bars that are missing. Quotas and pace are those of the QBot that runs, and shared with it.

    Ctrl-C keeps what has come; the same command goes on from there. Exit status 1 when something could not be had.
    """
    quiet()
    found = installation.choose(demo)
    rt = runtime_of(settings_of(found), found, Reached(postgres=True, redis=True))
    if rt.embedded:
        raise ConfigError(
            "this QBot trades at its own paper exchange, which replays a file: its bars are there from the first"
            " minute, and no other source has them. For real bars set QBOT_ALPACA_API_KEY and QBOT_ALPACA_SECRET_KEY in"
            " .env; for a longer replay set QBOT_REPLAY_FILE"
        )
    wanted = Wanted(_symbols(rt, symbols), *_span(since, until, rt.market()))
    askers = _askers(rt, source or ())
    filled, interrupted = Filled(), False
    try:
        with _progress() as tell:
            fill(rt.engine, askers, wanted, rt.market, rt.wall, tell=tell, order=_order(rt), into=filled)
    except KeyboardInterrupt:
        interrupted = True
    show(rt, wanted, askers, filled, interrupted=interrupted)
    if interrupted:
        raise typer.Exit(130)
    if filled.left:
        raise typer.Exit(1)


def show(rt: Runtime, wanted: Wanted, askers: Sequence[Asker], filled: Filled, *, interrupted: bool) -> None:
    """What there is now of each ticker, what is missing, and why."""
    lacking: dict[str, list[Gap]] = {}
    for gap in filled.left:
        lacking.setdefault(gap.symbol, []).append(gap)
    with transaction(rt.engine) as connection:
        extents = bar_history.extents(connection, wanted.symbols, wanted.since, wanted.until)
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name, side in (("ticker", "left"), ("bars", "right"), ("from", "left"), ("to", "left"), ("source", "left")):
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("missing")
    there = {extent.symbol: extent for extent in extents}
    listed = [s for s in wanted.symbols if s in lacking or len(wanted.symbols) <= TABLE_MAX][:TABLE_MAX]
    for symbol in listed:
        have = there.get(symbol)
        known = (
            (f"{have.bars:,}", _day(have.first), _day(have.last), ", ".join(have.sources))
            if have
            else ("0", "–", "–", "–")
        )
        table.add_row(symbol, *known, _missing(lacking.get(symbol, ())))
    console.print(table)
    if len(listed) < len(wanted.symbols):
        say(f"… and {len(wanted.symbols) - len(listed)} tickers more.")
    for line in _told(askers, filled, rt.market(), interrupted=interrupted):
        say(line)


def say(text: str) -> None:
    """Words that break at spaces, with none of them taken for a colour."""
    console.print(text, markup=False)


def _told(askers: Sequence[Asker], filled: Filled, now: datetime, *, interrupted: bool) -> Iterator[str]:
    yield f"{filled.written:,} bars are new or corrected, by {filled.requests} requests."
    for split in filled.splits:
        yield (
            f"{split.symbol}: a {split.kind.replace('_', ' ')}, {split.ratio:.4g} new shares for an old one, by "
            f"{split.ex_day}; {split.bars:,} bars before it are on the new scale now."
        )
    if interrupted:
        yield "Interrupted: what has come is kept, and the same command goes on with the rest."
        return
    reasons = Counter(why_not(gap, askers, filled, now) for gap in filled.left)
    for reason, count in reasons.most_common():
        yield f"- {count} sessions of a ticker are missing. {reason}."
    if not filled.gaps:
        yield "Nothing was missing."


def _missing(gaps: Sequence[Gap]) -> str:
    if not gaps:
        return ""
    days = sorted(_day(gap.session[0]) for gap in gaps)
    named = ", ".join(days[:SHOWN]) if len(days) <= SHOWN else f"{days[0]} … {days[-1]}"
    return f"{len(days)} session{'s' if len(days) > 1 else ''}: {named}"


def _day(at: datetime) -> str:
    return f"{at.astimezone(NEW_YORK):%Y-%m-%d}"


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar of the gaps; where nobody looks on, a line now and then."""
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Looking for gaps", total=None)
        asked: set[str] = set()

        def tell(step: Step) -> None:
            some = step.ask.symbols
            more = f" and {len(some) - 1} more" if len(some) > 1 else ""
            words = f"{step.source}: {some[0]}{more}, {_day(step.ask.start)} to {_day(step.ask.end)}"
            progress.update(task, description=escape(words), completed=step.done, total=step.gaps)
            if not console.is_terminal and step.source not in asked:
                asked.add(step.source)
                say(f"Asking {step.source}: {step.gaps - step.done} sessions of a ticker are missing.")

        yield tell


# --- what was asked for ----------------------------------------------------------------------------------------------


def _span(since: datetime, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """From the first midnight to the last one, in New York, or to now. Raises BadParameter with what would do."""
    begin = since.replace(tzinfo=NEW_YORK).astimezone(UTC)
    end = now if until is None else (until + timedelta(days=1)).replace(tzinfo=NEW_YORK).astimezone(UTC)
    today = now.astimezone(NEW_YORK).date()
    if since.date() > today:
        raise typer.BadParameter(f"{since.date()} is yet to come; today is {today} at the exchange")
    if until is not None and until.date() > today:
        raise typer.BadParameter(f"{until.date()} is yet to come: leave --until out for all there is up to now")
    if end <= begin:
        raise typer.BadParameter(f"--until {(until or since).date()} lies before --since {since.date()}")
    oldest = retention.oldest_kept(now).astimezone(NEW_YORK).date() + timedelta(days=1)
    if since.date() < oldest:
        raise typer.BadParameter(f"bars are kept for three years: the earliest day is {oldest}")
    return begin, min(end, now)


def _symbols(rt: Runtime, named: str) -> tuple[str, ...]:
    """Raises BadParameter for what is no ticker."""
    if not named.strip():
        return rt.tickers
    found = tuple(dict.fromkeys(ticker(part) for part in named.split(",") if part.strip()))
    wrong = [symbol for symbol in found if not TICKER.fullmatch(symbol)]
    if wrong or not found:
        told = ", ".join(wrong) or named
        raise typer.BadParameter(f"{told}: no ticker. --symbols takes some with commas: AAPL,MSFT")
    return found


def _order(rt: Runtime) -> tuple[str, ...]:
    return at_hand.rules(rt.settings).order


def _askers(rt: Runtime, named: Sequence[str]) -> tuple[Asker, ...]:
    """The sources of bars at hand, in the order of asking, or those named. Raises ConfigError with what would do."""
    from qbot.market.limiting import Gate  # its libraries take a while to load, and other commands need none of them
    from qbot.market.providers import sources_of

    only = tuple(dict.fromkeys(name.strip().lower() for name in named))
    in_order(",".join(only))  # names what is no source
    providers = {provider.name: provider for provider in sources_of(rt.settings).bars}
    plans = [plan for plan in at_hand.plans(rt.settings) if Need.BARS in plan.offers and plan.source in providers]
    having = ", ".join(name for name, plan in FREE.items() if Need.BARS in plan.offers)
    if not plans:
        raise ConfigError(f"no source of bars is at hand. {having} have them: set a key in .env, or QBOT_YFINANCE=true")
    unknown = [name for name in only if name not in {plan.source for plan in plans}]
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)} cannot be asked for bars here: without a key, or without bars in its plan. At hand: "
            f"{', '.join(plan.source for plan in plans)}"
        )
    client = client_of(rt.settings)
    return tuple(
        Asker(plan, providers[plan.source],
              Gate(plan, at_hand.access_of(rt.settings, plan.source), client, rt.engine, rt.wall))
        for plan in plans
        if not only or plan.source in only
    )  # fmt: skip
