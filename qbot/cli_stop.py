"""`qbot stop`: the emergency switch at a terminal, with whatever can be reached; the broker alone will do."""

from __future__ import annotations

import getpass
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from qbot import clock, emergency, limits
from qbot.broker.protocol import Broker
from qbot.console import installation
from qbot.contract.board import connect
from qbot.contract.payloads_orders import EmergencyAction, EmergencyKind
from qbot.errors import BrokerError, ConfigError, QBotError
from qbot.log import quiet
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.stack import secrets
from qbot.stack.stack import of_this_stack
from qbot.store.engine import make_engine
from qbot.types import Side

NOWHERE = 1  # a port where nobody listens: what is known to be gone is not waited for over and over
WORDS = {
    EmergencyKind.STOP_ALL_TRADING: "Stop trading and cancel every entry; stop-losses and take-profits stay",
    EmergencyKind.CANCEL_ALL_ORDERS: "Cancel EVERY order, stop-losses too; trading goes on",
    EmergencyKind.CLOSE_ALL_POSITIONS: "Stop trading, cancel every order and SELL EVERYTHING",
}

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Reached:
    """Who answered, and why not. The broker is asked in any case."""

    postgres: bool
    redis: bool
    why: Mapping[str, str] = field(default_factory=dict)

    @property
    def blocked(self) -> bool:
        """Whether a QBot that runs hears of the stop."""
        return self.postgres or self.redis


def stop(
    close_all: Annotated[
        bool, typer.Option("--close-all", help="Sell every position too, and look until flat.")
    ] = False,
    cancel_all: Annotated[
        bool, typer.Option("--cancel-all", help="Only cancel every order, protection too; trading goes on.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="At a closed exchange: sell at a limit in extended hours, not at the open.")
    ] = False,
    broker_only: Annotated[
        bool, typer.Option("--broker-only", help="Ask neither Postgres nor Redis. They are skipped anyway when gone.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Stop trading now: latch the emergency stop and cancel entries. Works with Redis or Postgres down.

    Trading needs `qbot resume` and a new start afterwards. Exit status 1 when something remains at the broker.
    """
    if close_all and cancel_all:
        raise typer.BadParameter("--close-all cancels every order as well: use one of the two")
    kind = EmergencyKind.CLOSE_ALL_POSITIONS if close_all else EmergencyKind.STOP_ALL_TRADING
    kind = EmergencyKind.CANCEL_ALL_ORDERS if cancel_all else kind
    quiet()
    found = installation.choose(demo)
    values = settings_of(found)
    console.print(f"[bold]{WORDS[kind]}[/bold]. This is {found.name}, trading at {where(values)}.")
    if not yes:
        typer.confirm("Go on?", abort=True)
    unasked = Reached(False, False, dict.fromkeys(("Postgres", "Redis"), "not asked"))
    reached = unasked if broker_only else ask_who_answers(values)
    rt = runtime_of(values, found, reached)
    action = EmergencyAction(
        action=kind, reason=f"`qbot stop` by {getpass.getuser()}", timestamp=clock.wall_now(), session_id="terminal",
        confirmed=True, force=force,
    )  # fmt: skip
    _tell_reached(reached)
    try:
        console.print(f"[green]done[/green]  {emergency.by_hand(rt, action)}")
    except BrokerError as error:
        console.print(f"[red]not done[/red]  {error}")
        console.print("      Run it again, or act at the broker's own site.")
        _show_rest(rt.broker)
        raise typer.Exit(1) from error
    _show_rest(rt.broker)
    if not reached.postgres and kind is EmergencyKind.CANCEL_ALL_ORDERS:
        console.print("[red]Postgres does not know of this.[/red] A QBot that runs puts protection back: end it.")
        raise typer.Exit(1)
    if not reached.blocked and kind is not EmergencyKind.CANCEL_ALL_ORDERS:
        pid = f" (pid {found.pid})" if found.pid else ""
        console.print(
            f"[red]Neither Postgres nor Redis knows of this stop.[/red] A QBot that runs{pid} may enter again: end it."
        )
        raise typer.Exit(1)
    if kind is not EmergencyKind.CANCEL_ALL_ORDERS:
        console.print("      To trade again: `qbot resume`, then a start by a frontend.")


def settings_of(found: installation.Installation) -> Settings:
    """As the processes of that installation have them. Raises ConfigError without keys of a broker."""
    values = found.settings
    if (values.home / secrets.FILE).exists() or found.demo:
        values = of_this_stack(values, not values.alpaca_api_key.get_secret_value())
    if not values.alpaca_api_key.get_secret_value():
        raise ConfigError(
            f"{found.name} was never started, and no keys of a broker are set: start it with `qbot up`, or `make demo`"
        )
    return values


def where(values: Settings) -> str:
    return "its own paper exchange" if values.embedded_exchange else "Alpaca (paper account)"


def runtime_of(values: Settings, found: installation.Installation, reached: Reached) -> Runtime:
    """With nobody where nobody answered."""
    gone: dict[str, object] = {} if reached.redis else {"redis_port": NOWHERE}
    gone |= {} if reached.postgres else {"postgres_port": NOWHERE, "postgres_host": "127.0.0.1"}
    values = values.model_copy(update=gone)
    line = found.timeline
    market = (lambda: line.market_at(clock.wall_now())) if line else clock.wall_now
    return Runtime(values, connect(values), make_engine(values.postgres_url), market=market)


def ask_who_answers(values: Settings) -> Reached:
    """Who answers within a moment; asked at once, for a stop does not wait for the one after the other."""
    answered: set[str] = set()
    why = dict.fromkeys(("Postgres", "Redis"), f"no answer within {limits.STOP_PROBE_S:.0f} s")

    def ask(name: str, question: Callable[[], object]) -> None:
        try:
            question()
        except (sa.exc.SQLAlchemyError, QBotError) as error:
            why[name] = f"cannot be used ({type(error).__name__})"
        else:
            answered.add(name)

    def postgres() -> None:
        with make_engine(values.postgres_url).connect() as connection:
            connection.execute(sa.text("SELECT 1 FROM switch LIMIT 1"))

    asked = [
        threading.Thread(target=ask, args=("Postgres", postgres), daemon=True),
        threading.Thread(target=ask, args=("Redis", connect(values).ping), daemon=True),
    ]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join(limits.STOP_PROBE_S)
    return Reached("Postgres" in answered, "Redis" in answered, dict(why))


def _tell_reached(reached: Reached) -> None:
    for name, there in (("Postgres", reached.postgres), ("Redis", reached.redis)):
        console.print(f"      {name:<9} {'answers' if there else f'[yellow]{reached.why[name]}: left out[/yellow]'}")


def _show_rest(broker: Broker) -> None:
    """What still stands at the broker, which is what counts."""
    try:
        held, resting = broker.positions(), broker.open_orders()
    except BrokerError as error:
        console.print(f"[red]The broker cannot be asked what is left:[/red] {error}")
        return
    if not held and not resting:
        console.print("      The broker shows no position and no open order.")
        return
    table = Table("Symbol", "Shares", "Value USD", "Open orders", box=None, pad_edge=False, padding=(0, 2))
    for symbol in sorted({p.symbol for p in held} | {o.symbol for o in resting}):
        mine = next((p for p in held if p.symbol == symbol), None)
        orders = [o for o in resting if o.symbol == symbol]
        told = ", ".join(
            f"{sum(o.side is side for o in orders)} {side}" for side in Side if any(o.side is side for o in orders)
        )
        shares, value = (f"{mine.qty.normalize():f}", f"{mine.market_value_usd:,.2f}") if mine else ("", "")
        table.add_row(symbol, shares, value, told)
    console.print("      Still at the broker:")
    console.print(table)
