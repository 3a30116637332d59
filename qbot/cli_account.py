"""`qbot account`: the account that the ledger is of, beside the one that answers; and the way out where they differ."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from qbot import accounting, adoption, audit
from qbot.adoption import Plan
from qbot.cli_stop import Reached, runtime_of, settings_of, where
from qbot.console import installation
from qbot.log import quiet
from qbot.runtime import Runtime
from qbot.store import account as accounts
from qbot.store.engine import transaction

DAYS_SHOWN, ACTIVITIES_SHOWN = 5, 8
ADVICE = (
    "After a split, a merger, a transfer or another account this does not settle by itself. Look at the broker's own "
    "site; when its positions are right, stop trading and run `qbot account adopt`."
)

console = Console(highlight=False)
app = typer.Typer(
    invoke_without_command=True,
    help="Show the account that the ledger is of, and whether the broker's books agree. Exit status 1 if not.",
)
Demo = Annotated[
    bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
]


@app.callback()
def account(context: typer.Context, demo: Demo = None) -> None:
    """Show the account that the ledger is of, and whether its positions and cash are the broker's.

    Exit status 1 when they are not.
    """
    context.obj = demo
    if context.invoked_subcommand is None:
        rt = _runtime(demo)
        found = adoption.plan(rt.desk, rt.engine)
        show(rt, found)
        if found.needed:
            raise typer.Exit(1)


@app.command()
def adopt(
    context: typer.Context,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record: a split, another account …")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Though ledger and broker agree.")] = False,
) -> None:
    """Take the broker's present positions and cash for the ledger's, where it cannot find them by itself.

    Trading must be off. What was recorded before stays as it is; the shares taken over count from now on, at the
    price that the broker says they cost, and what they replace makes no profit and no loss.
    """
    rt = _runtime(context.obj)
    found = adoption.plan(rt.desk, rt.engine)
    show(rt, found)
    if not found.needed and not anyway:
        say("There is nothing to take over.")
        return
    if not yes:
        typer.confirm("Is this what the broker's own site shows, and shall the ledger go on from here?", abort=True)
    number = adoption.adopt(rt.engine, found, getpass.getuser(), reason, rt.market(), rt.wall())
    say(f"Taken over (opening {number}). Entries are allowed again once the next reconcile agrees.")
    bare = [one.symbol for one in found.changes if one.after and (one.before != one.after or found.other_account)]
    if bare:
        say(f"QBot puts back no stop-loss of {', '.join(bare)}: what it knew of these shares does not fit them.")


def _runtime(demo: bool | None) -> Runtime:
    quiet()
    chosen = installation.choose(demo)
    values = settings_of(chosen)
    say(f"This is {chosen.name}, trading at {where(values)}.")
    return runtime_of(values, chosen, Reached(postgres=True, redis=True))


def show(rt: Runtime, found: Plan) -> None:
    """Both accounts, the shares and the cash by both, and what lately changed the account besides trades."""
    ours, theirs = found.opening, found.account
    if ours is None:
        say("The ledger has seen no account yet: the first that answers a reconcile becomes its own.")
    else:
        since = audit.both(ours.opened_at_wall)
        say(f"Ledger   account {accounting.name(ours.number, ours.account_id)}, {ours.kind}, since {since}")
        say(f"         by {ours.who}: {ours.reason}", plain=True)
    kind = accounting.kind(theirs.number)
    say(f"Broker   account {accounting.name(theirs.number, theirs.account_id)}, {kind}")
    if found.other_account is not None:
        say(f"[red]{found.other_account}[/red]")
    _show_shares(found)
    _show_cash(found)
    _show_activities(rt, found)
    if found.left_behind:
        say(f"{len(found.left_behind)} orders that the ledger holds open are not known to the broker.")
    if found.needed:
        say(f"[yellow]{ADVICE}[/yellow]")


def _show_shares(found: Plan) -> None:
    if not found.changes:
        say("No shares are held, by both.")
        return
    table = Table("Symbol", "Ledger", "Broker", "Cost a share", "", box=None, pad_edge=False, padding=(0, 2))
    for one in found.changes:
        differs = "" if one.before == one.after else "[red]differs[/red]"
        price = audit.usd(one.price_usd, 4) if one.after else ""
        table.add_row(one.symbol, audit.shares(one.before), audit.shares(one.after), price, differs)
    console.print(table)


def _show_cash(found: Plan) -> None:
    there, here = found.account.cash_usd, found.cash_expected_usd
    if here is None:
        say(f"Cash     {audit.usd(there)} at the broker; the ledger does not reckon it yet")
        return
    agrees = "agree" if not found.cash_differs else f"[red]differ by {audit.usd(there - here)}[/red]"
    say(f"Cash     {audit.usd(there)} at the broker, {audit.usd(here)} by the ledger: they {agrees}")


def _show_activities(rt: Runtime, found: Plan) -> None:
    with transaction(rt.engine) as connection:
        fees = accounts.fees_by_day(connection, DAYS_SHOWN)
    if fees:
        say("Fees     " + ", ".join(f"{day} {audit.usd(total)}" for day, total in fees))
    for one in sorted(found.activities, key=lambda each: each.at, reverse=True)[:ACTIVITIES_SHOWN]:
        name = " ".join(part for part in (one.kind, one.sub_kind, one.symbol) if part)
        moved = f", {audit.shares(one.qty)} shares" if one.qty else ""
        back = f" ({one.status})" if one.status == accounts.CANCELED else ""
        say(f"         {one.day}  {name}  {audit.usd(one.amount_usd)}{moved}{back}", plain=True)


def say(text: str, *, plain: bool = False) -> None:
    """A line that is not broken; `plain`: with no word of it taken for a colour."""
    console.print(text, soft_wrap=True, markup=not plain)
