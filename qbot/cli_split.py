"""`qbot market split`: a human tells of a split that the sources alone could not prove."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from qbot.cli_stop import Reached, runtime_of, settings_of
from qbot.console import installation
from qbot.errors import ConfigError
from qbot.log import quiet
from qbot.market import keeping
from qbot.store.engine import transaction
from qbot.types import TICKER

RATIO_MAX = Decimal(1_000)


def split(
    ticker: Annotated[str, typer.Argument(help="As AAPL.")],
    ratio: Annotated[str, typer.Argument(help="New shares for an old one: 4, or 0.1 where ten became one.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Put all stored bars of a ticker on the scale after a split. Told by hand where only one source shows it."""
    quiet()
    symbol, new_for_old = ticker.upper(), _ratio(ratio)
    if not TICKER.fullmatch(symbol):
        raise ConfigError(f"{ticker} is no ticker")
    found = installation.choose(demo)
    rt = runtime_of(settings_of(found), found, Reached(postgres=True, redis=True))
    if not yes:
        typer.confirm(f"Divide all stored prices of {symbol} by {new_for_old:f}, in {found.name}?", abort=True)
    with transaction(rt.engine) as connection:
        done = keeping.by_hand(connection, symbol, new_for_old, rt.market(), rt.wall())
    typer.echo(f"{done.bars:,} bars of {symbol} are on the new scale.")
    typer.echo(f"Was that wrong: qbot market split {symbol} {(1 / new_for_old).normalize():.6g}")


def _ratio(text: str) -> Decimal:
    """Raises ConfigError."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(0)
    if not (found.is_finite() and 1 / RATIO_MAX <= found <= RATIO_MAX and found != 1):
        raise ConfigError(f"{text} is no ratio of a split: 4 where one share became four, 0.1 where ten became one")
    return found
