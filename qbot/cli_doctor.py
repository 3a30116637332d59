"""`qbot doctor`: what works here, what does not, and what to do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from qbot.cli_stop import Reached, runtime_of, settings_of
from qbot.console import installation
from qbot.console.installation import Installation
from qbot.contract.fields import iso
from qbot.doctor import environment
from qbot.doctor.examining import Case, examinations
from qbot.doctor.finding import Finding, Group, State, examine, secret_forms
from qbot.doctor.sources import SYMBOL
from qbot.errors import ConfigError, QBotError
from qbot.log import quiet
from qbot.settings import ROOT, Settings
from qbot.stack import lock
from qbot.stack.stack import of_this_stack

# Signs and words: what a screen without colours shows as well.
SHOWN = {State.OK: ("ok", "green"), State.WARNING: ("WARNING", "dark_orange3"), State.FAILED: ("FAILED", "red"),
         State.OFF: ("off", "dim")}  # fmt: skip
ENV_FILE = ROOT / ".env"
STATE, NAME = 9, 16  # columns
INDENT = 2 + STATE + NAME
WIDEST = 90  # of the words: beyond it lines are hard to read
Told = tuple[Group, Finding]
UNUSABLE = (QBotError, ValidationError, UnicodeError, OSError)  # the files and variables of an installation

console = Console(highlight=False)


def doctor(
    no_calls: Annotated[
        bool, typer.Option("--no-calls", help="Ask no source of market data: nothing of their quotas is used.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Look at each key, source, quota, clock, Redis, Postgres and the broker: what works, what does not, what to do.

    Each source of market data that has a key is asked for one price, which is one call of its quota. Exit status 1 when
    something failed.
    """
    quiet()
    case = case_of(demo, calls=not no_calls)
    told = list(_as_json(case) if as_json else _shown(case))
    if any(found.state is State.FAILED for _group, found in told):
        raise typer.Exit(1)


def case_of(demo: bool | None, *, calls: bool) -> Case:
    """The QBot to look at, as far as it can be known: what cannot is a finding."""
    main, unusable = environment.read(ENV_FILE)
    instead = problem = None
    try:
        found, values = _chosen(demo, main)
    except UNUSABLE as error:
        instead = _words(error)
        try:
            found, values = _chosen(False, main)
        except UNUSABLE as other:  # the file with its passwords
            found = Installation(installation.name_of(main.home), main, lock.holder(main.home), None)
            values, problem = main, _words(other)
            instead = instead if demo else None  # else it was the same
    rt = runtime_of(values, found, Reached(postgres=True, redis=True))
    return Case(rt, found, ENV_FILE, calls, unusable, problem, instead)


def _chosen(demo: bool | None, main: Settings) -> tuple[Installation, Settings]:
    """Raises what is in UNUSABLE."""
    found = installation.choose(demo, main=main)
    try:
        return found, settings_of(found)
    except ConfigError:  # never started, and no keys of a broker: started, it would trade at its own exchange
        return found, of_this_stack(found.settings, True)


def _words(error: Exception) -> str:
    """What is ours to tell; the others' messages may hold what a variable has."""
    if isinstance(error, QBotError):
        return f"{error}"
    return f".env or the environment cannot be used ({type(error).__name__})"


def _findings(case: Case) -> Iterator[Told]:
    """With what is still waited for, where somebody looks on."""
    with console.status("") as status:
        blank = secret_forms(case.rt.settings)
        yield from examine(
            examinations(case), blank, lambda names: status.update(f"waiting for {', '.join(names[:4])} …")
        )


def _shown(case: Case) -> Iterator[Told]:
    say(f"This is {case.found.name}.", "bold")
    if case.calls and (case.rt.settings.fake_providers or not case.rt.settings.embedded_exchange):
        say(f"Each source of market data is asked for one price of {SYMBOL}: one call of its quota.")
    group, counts = None, Counter[State]()
    for told in _findings(case):
        if told[0] is not group:
            group = told[0]
            say("")
            say(group, "bold")
        _show(told[1])
        counts[told[1].state] += 1
        yield told
    say("")
    said = [f"{counts[state]} {SHOWN[state][0]}" for state in State if counts[state]]
    say(f"{', '.join(said)}.", "bold red" if counts[State.FAILED] else "bold green")


def _show(found: Finding) -> None:
    word, style = SHOWN[found.state]
    width = min(max(console.width - INDENT, 30), WIDEST)
    line = Text("  ").append(f"{word:<{STATE}}", style).append(f"{found.name:<{NAME}}")
    for number, part in enumerate(_wrapped(found.words, width)):
        console.print(line.append(part) if number == 0 else Text(" " * INDENT + part), soft_wrap=True)
    for part in _wrapped(f"→ {found.advice}" if found.advice else "", width):
        console.print(Text(" " * INDENT + part, "dim" if found.state is State.OFF else "cyan"), soft_wrap=True)


def _wrapped(words: str, width: int) -> Sequence[str]:
    return wrap(words, width, break_on_hyphens=False)


def _as_json(case: Case) -> Iterable[Told]:
    told = list(examine(examinations(case), secret_forms(case.rt.settings)))
    counts = Counter(found.state for _group, found in told)
    body = {
        "looked_at": case.found.name,
        "time": iso(case.rt.wall()),
        "calls": case.calls,
        "whole": not counts[State.FAILED],
        "counts": {str(state): counts[state] for state in State},
        "findings": [
            {"group": str(group), "name": found.name, "state": str(found.state), "words": found.words,
             "advice": found.advice}
            for group, found in told
        ],
    }  # fmt: skip
    typer.echo(json.dumps(body, indent=1, ensure_ascii=False))
    return told


def say(text: str, style: str = "") -> None:
    console.print(Text(text, style), soft_wrap=True)
