"""The `qbot` command."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from qbot.errors import ConfigError, QBotError, StackError, StoreUnavailable
from qbot.settings import ROOT, settings

HELP = "QBot trades US equities on a paper account. Its data are in .qbot/main; QBOT_HOME names another folder."
# In the order of the help. Where there is a module, it is imported for that command alone: all of them take seconds,
# which somebody who stops trading should not wait for.
COMMANDS = {
    "demo": "qbot.demo.command:demo", "up": "", "status": "", "stop": "qbot.cli_stop:stop",
    "resume": "qbot.cli_resume:resume", "doctor": "qbot.cli_doctor:doctor", "explain": "qbot.cli_explain:explain",
    "account": "qbot.cli_account:app", "market": "qbot.cli_market:app", "train": "qbot.cli_train:train",
    "models": "qbot.cli_models:app", "evaluate": "qbot.cli_evaluate:evaluate",
    "thresholds": "qbot.cli_thresholds:command", "contract": "qbot.cli_contract:app", "notify": "", "reset": "",
}  # fmt: skip


class Commands(TyperGroup):
    """Those of `COMMANDS`. Any: Typer carries a Click of its own, which has no public name."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        module, _, name = COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(module), name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command(cmd_name)(found)
            return typer.main.get_command(alone)
        group = typer.main.get_group(found)
        group.name = cmd_name
        return group


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)


@app.command()
def up(
    fake_providers: Annotated[
        bool,
        typer.Option(
            "--fake-providers",
            help="Market data of every provider from a stand-in here, of which each can be broken: `qbot market fake`. "
            "Only at the paper exchange, whose market it tells; the replay runs at speed 1 unless QBOT_REPLAY_SPEED is "
            "set, since quotas are of real time.",
        ),
    ] = False,
) -> None:
    """Run the whole system here until Ctrl-C: at Alpaca with keys in .env, else at its own paper exchange."""
    from qbot import log
    from qbot.stack.stack import Stack

    values = settings()
    stack = Stack(values.model_copy(update={"fake_providers": True}) if fake_providers else values)
    log.configure("up", stack.settings)
    typer.echo(f"Starting QBot on {stack.settings.home} …")
    stack.run(_tell_ready)
    typer.echo("QBot is down.")


def _tell_ready(stack: object) -> None:
    from qbot.stack.stack import Stack

    assert isinstance(stack, Stack)
    values = stack.settings
    market = "its own paper exchange" if stack.embedded_exchange else "Alpaca"
    typer.echo(f"QBot is up, trading at {market}. Ctrl-C ends it.")
    if values.fake_providers:
        typer.echo(f"  ALL MARKET DATA ARE MADE UP, by a stand-in at http://127.0.0.1:{values.fake_providers_port}:")
        typer.echo("          it tells the replayed market under every provider's name; `qbot market fake` breaks them")
    by_hand = settings().redis_frontend_password.get_secret_value()
    where = "QBOT_REDIS_FRONTEND_PASSWORD" if by_hand else "redis_frontend_password in secrets.json"
    typer.echo(f"  Redis   127.0.0.1:{values.redis_port}   a frontend's password: {where}")
    typer.echo(f"  data    {values.home}   logs in logs/, passwords in secrets.json")
    typer.echo(f"  Flower  http://127.0.0.1:{values.flower_port}   user {values.flower_user}, password in secrets.json")


@app.command()
def status(
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Show whether QBot runs here, and its processes. Exit status 1 when it does not run."""
    from qbot.console import installation
    from qbot.stack import stack

    found = installation.choose(demo)
    home, pid = found.settings.home, found.pid
    if pid is None:
        typer.echo(f"QBot does not run on {home}.")
        raise typer.Exit(1)
    typer.echo(f"QBot runs on {home} (pid {pid}).")
    file = home / stack.STATUS_FILE
    if not file.exists():
        typer.echo("It is starting or stopping.")
        return
    for each in json.loads(file.read_text())["processes"]:
        line = f"{each['name']:<18} {each['state']:<11} pid {each['pid'] or '-':<8}"
        typer.echo(f"  {line} up {each['uptime_s']:.0f} s   restarts {each['restarts']}")


@app.command()
def notify(test: Annotated[bool, typer.Option("--test", help="Send a message to every channel.")] = False) -> None:
    """Show where alerts are sent, or try it. Exit status 1 when a channel does not take the message."""
    from qbot import channels, notifying

    names = channels.names_of(settings())
    if not names:
        typer.echo("No channel is set up.")
        typer.echo("Set QBOT_NOTIFY_URLS in .env, as docs/notifications.md shows.")
        raise typer.Exit(1)
    if not test and any(name.endswith("?") for name in names):
        typer.echo(f"Not understood as addresses: {', '.join(name for name in names if name.endswith('?'))}.")
        typer.echo("docs/notifications.md shows how they are written.")
        raise typer.Exit(1)
    if not test:
        typer.echo(f"Alerts from {settings().notify_min_severity} on are sent to: {', '.join(names)}")
        return
    results = notifying.test(settings())
    for name, problem in results:
        typer.echo(f"{name}: sent" if problem is None else f"{name}: NOT sent: {problem}")
    if any(problem is not None for _name, problem in results):
        raise typer.Exit(1)


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete all data of this home: books, forecasts, artifacts, the replay's place. A broker keeps what it has."""
    from qbot.stack import lock, secrets

    home = settings().home.resolve()
    if not (home / secrets.FILE).exists():
        typer.echo(f"There is nothing of QBot in {home}.")
        return
    if home in (ROOT, Path.home(), Path(home.anchor)):
        raise StackError(f"QBOT_HOME is {home}: too much to delete; remove QBot's files there by hand")
    with lock.held(home):
        if not yes:
            typer.confirm(f"Delete everything in {home}?", abort=True)
        for path in home.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != lock.FILE:
                path.unlink()
    typer.echo("Deleted.")


def main() -> None:
    """Runs the command; a named error is one line and exit status 1."""
    try:
        app()
    except ValidationError as error:  # of the environment; its values may be secrets and are not shown
        what = ", ".join(f"QBOT_{'.'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors())
        _fail(ConfigError(what))
    except StoreUnavailable as error:
        _fail(StoreUnavailable(f"{error}. `qbot status` tells whether QBot runs; `qbot stop` works without Postgres"))
    except QBotError as error:
        _fail(error)


def _fail(error: QBotError) -> None:
    typer.echo(f"qbot: {error}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
