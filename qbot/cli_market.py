"""`qbot market`: who is asked for prices, how fresh they can be with the keys at hand, and where they cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from qbot import limits
from qbot.cli_backfill import backfill
from qbot.cli_fake import fake
from qbot.cli_split import split
from qbot.cli_stop import Reached, ask_who_answers, runtime_of, settings_of
from qbot.console import installation
from qbot.contract.board import client_of
from qbot.errors import ConfigError
from qbot.log import quiet
from qbot.market import at_hand, counting
from qbot.market.calendar import Session, sessions_around
from qbot.market.pacing import Rules, Source, is_open
from qbot.market.planning import Pass, Wanted, plan
from qbot.market.plans import COUNTED, FREE, Need, Plan, Span, in_order
from qbot.market.reachable import Group, advice, reachable
from qbot.market.universe import dynamic_tickers
from qbot.runtime import Runtime
from qbot.store import sources, universe
from qbot.store.engine import transaction

SHOWN = 12  # tickers named of a group
NEEDED = (Need.PRICE, Need.BARS)

console = Console(highlight=False)
app = typer.Typer(no_args_is_help=True, help="Market data: who is asked for what, and how fresh it can be.")
app.command("backfill")(backfill)
app.command("split")(split)
app.command("fake")(fake)


@dataclass(frozen=True)
class View:
    """What the command looks at: the tickers, the sources, and what could not be read."""

    wanted: Sequence[Wanted]
    sources: Sequence[Source]
    rules: Rules
    now: datetime
    sessions: Sequence[Session]
    unread: Sequence[str] = ()

    @property
    def next_pass_at(self) -> datetime:
        """Now, or when the exchange opens."""
        if is_open(self.sessions, self.now):
            return self.now
        return min((begin for begin, _ in self.sessions if begin > self.now), default=self.now)


@app.callback()
def market() -> None:
    """Market data: who is asked for what, and how fresh it can be."""


@app.command("plan")
def plan_command(
    count: Annotated[
        int | None, typer.Option("--count", min=1, max=limits.MAX_TICKERS, help="As if there were so many tickers.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="SOURCE", help="As if there were no key of it. Repeatable.")
    ] = None,
    free: Annotated[bool, typer.Option("--free", help="As if there were a free key of every source.")] = False,
    each: Annotated[bool, typer.Option("--each", help="A line a ticker.")] = False,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Show who is asked for what, how fresh the price of each ticker can be with the keys at hand, and why not fresher.

    It asks no source and uses nothing up.
    """
    quiet()
    left_out = frozenset(name.strip().lower() for name in without or ())
    in_order(",".join(left_out))  # names what is no source
    show(view(demo, count, left_out, free), each=each)


def view(demo: bool | None, count: int | None, without: frozenset[str], free: bool) -> View:
    """What is at hand here. What cannot be read is taken for fresh, and named."""
    found = installation.choose(demo)
    try:
        values = settings_of(found)
    except ConfigError:  # never started, and no keys of a broker: a plan can be made all the same
        values = found.settings
    reached = ask_who_answers(values)
    rt = runtime_of(values, found, reached)
    chosen = tuple(FREE.values()) if free else at_hand.plans(values)
    chosen = tuple(one for one in chosen if one.source not in without)
    sources, wanted = _sources(rt, chosen, reached), _wanted(rt, reached)
    if count is not None:
        made_up = (Wanted(f"#{number + 1}") for number in range(count))
        wanted = [*wanted, *made_up][:count] if len(wanted) < count else wanted[:count]
    unread = (
        [] if reached.postgres else [f"Postgres {reached.why['Postgres']}: what was used of the quotas is not known."]
    )
    unread += [] if reached.redis else [f"Redis {reached.why['Redis']}: which sources are closed is not known."]
    now = rt.market()
    return View(wanted, sources, at_hand.rules(values), now, sessions_around(now), unread)


def show(found: View, *, each: bool = False) -> None:
    """Who is asked, how fresh each ticker can be, and what to know about it."""
    at = found.next_pass_at
    sources = found.sources if at == found.now else [replace(one, used={}) for one in found.sources]
    asked = plan(dict.fromkeys(NEEDED, found.wanted), sources, at, found.sessions, found.rules)
    when = "now" if at == found.now else f"when the exchange opens, {at:%Y-%m-%d %H:%M} UTC"
    minutes = found.rules.pass_s / 60
    say(f"A pass over {len(found.wanted)} tickers, every {minutes:.0f} minutes; this one is {when}.\n")
    console.print(_asked_table(found, asked))
    groups = reachable(found.wanted, found.sources, found.now, found.sessions, found.rules)
    console.print()
    console.print(_each_table(found, groups) if each else _fresh_table(groups))
    notes = advice(groups, found.wanted, found.sources, found.now, found.sessions, found.rules)
    notes += [*_unmet(asked), *found.unread]
    if not found.sources:
        notes.append("No source of market data is at hand: set a key in .env, or QBOT_YFINANCE=true.")
    if notes:
        say("")
    for note in notes:
        say(f"- {note}")


def say(text: str) -> None:
    """Words that break at spaces, with none of them taken for a colour."""
    console.print(text, markup=False)


def _asked_table(found: View, asked: Pass) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("source", no_wrap=True)
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("asked for")
    table.add_column("what it allows")
    by_name = {source.plan.source: source for source in found.sources}
    for name in (name for name in found.rules.order if name in by_name):
        mine = [ask for ask in asked.asks if ask.source == name]
        symbols = Counter[Need]()
        for ask in mine:
            symbols[ask.need] += len(ask.symbols)
        told = ", ".join(f"{count}\u00a0{need}{'s' if need is Need.PRICE else ''}" for need, count in symbols.items())
        table.add_row(name, str(len(mine)) if mine else "–", told or _idle(by_name[name]), _allowed(by_name[name]))
    return table


def _idle(source: Source) -> str:
    if source.closed:
        return "closed"
    return "not needed" if source.plan.live else "closing prices only"


def _allowed(source: Source) -> str:
    said = []
    for limit in source.plan.limits:
        if limit.span in COUNTED:
            left = max(0, limit.amount - source.used.get(limit.span, 0))
            said.append(f"{left} of {limit.amount} left of the {limit.span}")
        elif limit.span is Span.MINUTE or source.plan.of(Span.MINUTE) is None:
            said.append(f"{limit.amount} a {limit.span}")
    return ", ".join(said).replace(" of ", "\u00a0of\u00a0") or "no limit"


def _fresh_table(groups: Sequence[Group]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("tickers")
    table.add_column("a new price", no_wrap=True)
    table.add_column("from", overflow="fold")
    for group in groups:
        named = " ".join(group.symbols[:SHOWN]) + (" …" if len(group.symbols) > SHOWN else "")
        kind = "held or ordered" if group.urgent else "others"
        label = f"{len(group.symbols)} {kind}" + ("" if named.startswith("#") else f"\n[dim]{named}[/dim]")
        table.add_row(label, _every(group), ", ".join(group.by) or "–")
    return table


def _each_table(found: View, groups: Sequence[Group]) -> Table:
    """A line a ticker, as far as the widest terminal of a human goes: name, reachable, and how old it is now."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("ticker", "held", "a new price", "the last one"):
        table.add_column(name, no_wrap=True)
    by_symbol = {symbol: group for group in groups for symbol in group.symbols}
    for one in found.wanted:
        age = "–" if one.got_at is None else f"{(found.now - one.got_at).total_seconds() / 60:.0f} min old"
        table.add_row(one.symbol, "yes" if one.urgent else "", _every(by_symbol[one.symbol]), age)
    return table


def _every(group: Group) -> str:
    colour = "green" if group.fresh else "red"
    return f"[{colour}]{'never' if group.minutes is None else f'every {group.minutes:.0f} min'}[/{colour}]"


def _unmet(asked: Pass) -> list[str]:
    """What besides prices has no room; of prices `advice` tells."""
    counts = Counter((one.need, one.why) for one in asked.unmet if one.need is not Need.PRICE)
    return [
        f"The {need} of {count} tickers are not asked for in this pass: {why}." for (need, why), count in counts.items()
    ]


def _sources(rt: Runtime, plans: Sequence[Plan], reached: Reached) -> list[Source]:
    """With what Postgres counted and what Redis holds closed; both as nothing where they do not answer."""
    wall, used = rt.wall(), {}
    if reached.postgres:
        with transaction(rt.engine) as connection:
            used = counting.used(connection, plans, wall)
    return [Source(one, used.get(one.source, {}), _closed(rt, one) if reached.redis else None) for one in plans]


def _closed(rt: Runtime, one: Plan) -> str | None:
    from qbot.market.limiting import Gate  # its libraries take a while to load, and other commands need none of them

    held = Gate(one, at_hand.access_of(rt.settings, one.source), client_of(rt.settings), rt.engine, rt.wall).hold()
    return held.words if held else None


def _wanted(rt: Runtime, reached: Reached) -> list[Wanted]:
    """The tickers, with what is held or ordered, and when each price was of."""
    if not reached.postgres:
        return [Wanted(symbol) for symbol in dynamic_tickers(rt.named_tickers, ()).tickers]
    with transaction(rt.engine) as connection:
        urgent = universe.urgent(connection)
        tickers = dynamic_tickers(universe.tickers(connection) or rt.named_tickers, urgent).tickers
        got = sources.got(connection, Need.PRICE, tickers)
    return [
        Wanted(symbol, symbol in urgent, one.got_at, one.confirmed_at, one.disputed)
        for symbol in tickers
        if (one := got.get(symbol, sources.Got()))
    ]
