"""The `qbot contract …` commands: look at the board, follow it, write to it as a frontend, and read the contract."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import redis
import typer
from rich.console import Console
from rich.text import Text

from qbot import clock
from qbot.console import checks, describing, drawing, effects, installation, watching, writing
from qbot.console.installation import Installation
from qbot.console.text import cut, harmless, printable
from qbot.contract import keys
from qbot.contract.checking import Looked, Report, check, judge
from qbot.contract.looking import fetch, look, stamps
from qbot.contract.names import UnknownKey, find, groups
from qbot.errors import QBotError
from qbot.settings import ROOT
from qbot.stack.redis import users

P = ParamSpec("P")
R = TypeVar("R")
LOOK_EVERY_S = 1.0
DOCS = ROOT / "docs"
SHOWN_BYTES = 2_000  # of a value that is invalid
HELP = """The Redis contract between QBot and its frontends: check it, follow it, write to it, read it.

The commands find the installation that runs here by themselves: the configured one, else the demo. They say which on
standard error. They look with the rights of `viewer` and write with those of `frontend`."""

app = typer.Typer(no_args_is_help=True, help=HELP)
KeyName = Annotated[str, typer.Argument(metavar="KEY", help="Name of the key, such as trading_settings.")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask, whatever it starts, stops or sells.")]
Wait = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for what QBot does about it.")]


@app.callback()
def _which(
    context: typer.Context,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which one, where both run; by default the configured one.")
    ] = None,
) -> None:
    context.obj = demo


def told(command: Callable[P, R]) -> Callable[P, R]:
    """A named error is one line and exit status 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (QBotError, UnknownKey) as error:
            typer.echo(f"qbot contract: {error}", err=True)
            raise typer.Exit(1) from error

    return run


def _installation(context: typer.Context, *, writes: bool = False) -> Installation:
    found = installation.choose(context.obj)
    typer.echo(f"{'Writing to' if writes else 'Looking at'} {found.told(writes=writes)}", err=True)
    return found


# --- looking ---------------------------------------------------------------------------------------------------------


@app.command("check")
@told
def check_command(
    context: typer.Context,
    as_json: Json = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until nothing is missing or stale.")] = 0.0,
) -> None:
    """Judge every key: ok, missing, invalid, stale, or absent with its reason. Exit status 0 when the board is whole.

    Age counts from the last write: in wall time, or for keys that follow the market ("market") in market time while
    the exchange is open. Missing: not there, though QBot should have written it. Absent: not there, and that means
    something, which is shown.
    """
    found, report = _wait_until_whole(context, _installation(context), wait)
    if as_json:
        typer.echo(json.dumps(checks.as_json(report, found.told()), indent=2))
    else:
        console = Console(highlight=False)
        for line in checks.lines(report, drawing.width(console)):
            console.print(line, soft_wrap=not console.is_terminal)
    raise typer.Exit(0 if report.whole else 1)


def _wait_until_whole(context: typer.Context, found: Installation, wait_s: float) -> tuple[Installation, Report]:
    deadline, said = clock.monotonic_s() + wait_s, ""
    while True:
        try:
            with installation.reaching(found), installation.client(found) as client:
                report = check(look(client), found.times())
            if report.whole or clock.monotonic_s() >= deadline:
                return found, report
            now = checks.progress(report)
        except QBotError as error:
            if clock.monotonic_s() >= deadline:
                raise
            now = str(error)
            found = installation.choose(context.obj)  # it may have been started meanwhile, with new passwords
        if now != said:
            said = now
            typer.echo(f"{max(deadline - clock.monotonic_s(), 0):4.0f} s left, {now}", err=True)
        clock.pause(LOOK_EVERY_S)


@app.command()
@told
def get(context: typer.Context, name: KeyName) -> None:
    """Print what a key holds, as JSON, with its last write and the verdict on it. Exit status 1 without a valid value.

    The value goes to standard output, all else to standard error: `qbot contract get market_data | jq .AAPL`.
    """
    key, found = find(name), _installation(context)
    with installation.reaching(found), installation.client(found) as client:
        held = fetch(client, [key])
        written = stamps(client)
    verdict = judge(key, "", Looked(held, written), found.times())
    typer.echo(checks.one_line(verdict), err=True)
    one = held[key.name]
    if one.raw is None:
        raise typer.Exit(1)
    if one.reading.problem:
        typer.echo(cut(printable(one.raw[:SHOWN_BYTES].decode(errors="replace")), SHOWN_BYTES))
        raise typer.Exit(1)
    value = key.adapter.dump_python(one.reading.value, mode="json", exclude_unset=True)
    typer.echo(harmless(json.dumps(value, indent=2, ensure_ascii=False)))


@app.command()
@told
def watch(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[KEY]…", help="Only these keys.")] = None,
    channels: Annotated[
        bool, typer.Option("--channels", help="Also the channels of forecasts, risk and settings.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also writes that changed nothing but a time.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every message as it comes, one a line.")] = False,
) -> None:
    """Follow every change until Ctrl-C: time, revision, key, what changed. Green rose or came, red fell or went.

    Says when messages were missed, when the board was lost and is rebuilt, and when the connection breaks; it connects
    again by itself.
    """
    wanted = frozenset(find(name).name for name in names or ())
    found = _installation(context)
    follower = watching.Follower(wanted, everything or as_json)
    listened = list(keys.CHANNELS) if channels else [keys.UPDATES.name]
    console = Console(highlight=False, stderr=False)
    with installation.reaching(found), installation.client(found) as client:
        client.ping()
    try:
        with installation.reaching(found):
            for line in watching.follow(lambda: _again(found), listened, follower, lambda: False):
                drawing.tell(line, console, as_json)
    except KeyboardInterrupt:
        typer.echo(err=True)  # past the ^C of the terminal
        raise typer.Exit(0) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None


def _again(found: Installation) -> redis.Redis:
    """A client of the same installation as it is now: it may have been started anew, on another port."""
    return installation.client(installation.choose(found.demo))


# --- the contract itself ---------------------------------------------------------------------------------------------


@app.command()
@told
def show(
    name: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Without one: the list of all keys.")] = None,
) -> None:
    """Tell what the contract says of a key: purpose, writer, cadence, fields with units and bounds, an example."""
    console = Console(highlight=False)
    if name is None:
        for group, entries in groups().items():
            console.print(Text(group, "bold"))
            console.print(drawing.table(describing.listing(entries), ("", "cyan", "dim"), drawing.NAME_WIDTH))
        console.print("`qbot contract show KEY` tells more of one.")
        return
    key = find(name)
    console.print(Text(key.name, "bold"))
    console.print(drawing.table(describing.facts(key), ("dim", "")))
    console.print(Text("\nfields", "bold"))
    console.print(drawing.table(describing.fields(key), ("", "cyan", "dim")))
    console.print(Text("\nexample", "bold"))
    console.print(Text(describing.example(key)), soft_wrap=True)


@app.command()
@told
def export(
    folder: Annotated[Path, typer.Argument(help="Where they go.")] = DOCS,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 1 when a file is not current.")
    ] = False,
) -> None:
    """Write the contract for other languages: JSON Schema, AsyncAPI, TypeScript, C++ header, and contract.md."""
    from qbot.contract import exports

    if check:
        old = exports.stale(folder)
        for path in old:
            typer.echo(f"not current: {folder / path}", err=True)
        raise typer.Exit(1 if old else 0)
    for path in exports.write(folder) or ["nothing: all files are current"]:
        typer.echo(f"written: {path}")


@app.command()
@told
def acl(context: typer.Context) -> None:
    """Print the users of Redis (an ACL file) for a server of your own. It holds hashes, no passwords.

    The installation's passwords are in it; the server that QBot starts itself has this file already.
    """
    found = _installation(context)
    typer.echo(users(found.settings, demo=found.demo), nl=False)


# --- writing ---------------------------------------------------------------------------------------------------------


@app.command("set")
@told
def set_command(
    context: typer.Context,
    name: KeyName,
    value: Annotated[str, typer.Argument(metavar="JSON", help="The value; - reads standard input, @FILE a file.")],
    add: Annotated[bool, typer.Option("--append", help="Add these elements to an array, losing no other's.")] = False,
    yes: Yes = False,
    wait: Wait = effects.WAIT_S,
) -> None:
    """Write a frontend's key, if QBot would take the value; say what QBot did about it.

    What QBot would refuse is refused here, with the reason and the field. SET replaces what stands in the key. Of a
    settings document QBot changes only the fields that are written: the others keep what they last had. Keys that hold
    a plain word take it without quotes: `qbot contract set autotrading:status STOPPED`. Nothing is written over what
    somebody else wrote meanwhile. What starts, stops or sells is asked for, unless --yes.
    """
    key, wire, now = find(name), writing.read_argument(value), clock.wall_now()
    wanted = writing.wish(key, wire, now)
    found = _installation(context, writes=True)
    with installation.reaching(found), installation.client(found, writes=True) as client:
        seen = writing.current(client, key)
        _ask(wanted, yes)
        with effects.listening(client) as listener:
            if add:
                writing.append(client, key, wire, now)
            else:
                writing.carry_out(client, wanted, seen)
            typer.echo(f"{key.name} is written.")
            _report(client, listener, wanted, wait)


@app.command("del")
@told
def del_command(context: typer.Context, name: KeyName, yes: Yes = False, wait: Wait = effects.WAIT_S) -> None:
    """Remove a frontend's key; say what QBot did about it. `qbot contract del autotrading:enabled` stops trading."""
    key = find(name)
    wanted = writing.removal(key)
    found = _installation(context, writes=True)
    with installation.reaching(found), installation.client(found, writes=True) as client:
        seen = writing.current(client, key)
        if seen is None:
            typer.echo(f"{key.name} is not there. {key.absent or ''}".strip())
            return
        _ask(wanted, yes)
        with effects.listening(client) as listener:
            writing.carry_out(client, wanted, seen)
            typer.echo(f"{key.name} is removed.")
            _report(client, listener, wanted, wait)


def _ask(wanted: writing.Wish, yes: bool) -> None:
    for warning in wanted.warnings:
        typer.secho(f"Beware: {warning}", fg="yellow", err=True)
    if wanted.danger and not yes:
        typer.secho(f"{wanted.danger}.", err=True, bold=True)
        typer.confirm("Do it?", abort=True, err=True)


def _report(client: redis.Redis, listener: redis.client.PubSub, wanted: writing.Wish, wait_s: float) -> None:
    if wait_s <= 0:
        return
    said = effects.heard(listener, wanted, wait_s) if effects.answers(wanted.key) else None
    for words in [effects.silence(wanted.key, wait_s)] if said is None else said:
        typer.echo(f"  {printable(words)}")
    typer.echo(f"  {printable(effects.state(client))}")
