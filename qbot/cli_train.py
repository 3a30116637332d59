"""`qbot train`: ask the QBot that runs here for a training, watch it, and hear in plain words what came of it."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from qbot import clock
from qbot.cli_stop import Reached, runtime_of, settings_of, where
from qbot.client import QBotClient
from qbot.console import installation
from qbot.console.installation import Installation
from qbot.errors import BoardUnavailable, TrainingFailed
from qbot.log import quiet
from qbot.runtime import Runtime
from qbot.store import inputs, models
from qbot.store.engine import transaction
from qbot.types import HORIZONS_MINUTES

POLL_S = 0.5
TAKEN_WITHIN_S = 120.0  # wall; the training worker asks every 30 s at most
STAGES = {"query_data": "bars and features"} | {f"training_horizon_{h}": f"{h} minutes" for h in HORIZONS_MINUTES}
Row = Mapping[str, Any]

console = Console(highlight=False)


def train(
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it to its end, or only ask.")] = True,
    reason: Annotated[str, typer.Option("--reason", help="For the record.")] = "",
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Have new models trained now, by the QBot that runs, as a frontend would; it serves them if they are fit to.

    Ctrl-C stops the watching, not the training. Exit status 1 when it failed or nobody took it up.
    """
    quiet()
    found = installation.choose(demo)
    values = settings_of(found)
    rt = runtime_of(values, found, Reached(postgres=True, redis=True))
    request_id = ask(found, reason or f"`qbot train` by {getpass.getuser()}")
    console.print(f"Asked {found.name}, trading at {where(values)}, for a training.")
    if not wait:
        console.print(f"  request {request_id}; `qbot contract get ml_training_status` shows how far it is")
        return
    try:
        training = follow(rt, request_id, console)
    except KeyboardInterrupt as error:
        console.print("QBot goes on without being watched; `qbot contract get ml_training_status` shows how far it is.")
        raise typer.Exit(130) from error
    for line in told(rt, training):
        console.print(line, soft_wrap=True)
    if training["status"] != models.SUCCESS:
        raise typer.Exit(1)


def ask(found: Installation, reason: str) -> str:
    """Write `frontend:training_request`; the id of the request. Raises BoardUnavailable with what to do about it."""
    user, password = found.account(writes=True)
    address = found.settings.redis_host, found.settings.redis_port
    client = QBotClient(*address, password, user or None, session_id="terminal", patience_s=2.0)
    try:
        with client.connect(within_s=2.0):
            return client.train(reason)
    except BoardUnavailable as error:
        with installation.reaching(found):  # says what to do
            installation.client(found, writes=True).ping()
        raise error
    finally:
        client.close()


def follow(rt: Runtime, request_id: str, screen: Console, pause: Callable[[float], None] = clock.pause) -> Row:
    """Show the training that serves a request until it is over; its row. Raises TrainingFailed when none begins."""
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("{task.fields[word]}"),
    )
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as progress:
        bars = {stage: progress.add_task(name, start=False, word="", total=1.0) for stage, name in STAGES.items()}
        waited_s, shown = 0.0, ""
        while True:
            training, other = _look(rt, request_id)
            if training is None:
                waited_s = 0.0 if other else waited_s + POLL_S
                word = "another training runs; yours comes next" if other else "waiting for the training worker"
                if waited_s > TAKEN_WITHIN_S:
                    raise TrainingFailed(
                        f"nobody took it up within {TAKEN_WITHIN_S:.0f} s; the request stands. `qbot status` shows"
                        " whether the training worker runs; without bars nothing can be trained"
                    )
                progress.update(bars["query_data"], word=word)
            else:
                word = _draw(progress, bars, training)
            if not screen.is_terminal and word != shown:
                screen.print(f"  {word}", soft_wrap=True)
            shown = word
            if training is not None and training["status"] != models.RUNNING:
                return training
            pause(POLL_S)


def _look(rt: Runtime, request_id: str) -> tuple[Row | None, bool]:
    """The training that serves the request, if it has begun; whether another one runs."""
    with transaction(rt.engine) as connection:
        training_id = inputs.training_of(connection, request_id)
        newest = models.recent_trainings(connection, 1)
        mine = models.training(connection, training_id) if training_id else None
    return mine, bool(newest) and newest[-1]["status"] == models.RUNNING


def _draw(progress: Progress, bars: Mapping[str, TaskID], training: Row) -> str:
    """Bars before the present stage are full, its own moves; what it says of itself."""
    told = training["progress"] or {"stage": "query_data", "event": "start", "detail": training["begun"] or ""}
    over = training["status"] != models.RUNNING
    order = list(bars)
    at = (
        order.index(told["stage"])
        if told["stage"] in order
        else len(order)
        if training["status"] == models.SUCCESS
        else -1
    )
    for number, stage in enumerate(order):
        done = number < at or (number == at and told["event"] == "horizon_trained")
        if done:
            progress.start_task(bars[stage])
            progress.update(bars[stage], total=1.0, completed=1.0, word="" if number < at else told["detail"])
            progress.stop_task(bars[stage])
        elif number == at and not over:
            progress.start_task(bars[stage])
            progress.update(bars[stage], total=None, word=told["detail"])
    return str(training["outcome"] or "over") if over else str(told["detail"])


def told(rt: Runtime, training: Row) -> list[Text]:
    """What came of a training, in plain words: one line a horizon, and what it was trained on."""
    if training["status"] != models.SUCCESS:
        return [
            Text.assemble(("The training failed: ", "bold red"), training["outcome"] or "for no reason that is known"),
            Text("  The models that served before still do. The log is logs/worker-training.log in QBot's folder."),
        ]
    with transaction(rt.engine) as connection:
        made = models.artifacts_of(connection, training["training_id"])
    stats = training["stats"]
    left_out = stats.get("tickers_excluded") or []
    lines = [
        Text(f"Trained on {stats.get('clean_rows', 0):,} rows of {len(stats.get('tickers_included') or [])} tickers.")
    ]
    if left_out:
        lines[0].append(f" Left out for want of bars: {', '.join(left_out)}.")
    return [*lines, *(_verdict(row) for row in made)]


def _verdict(row: Row) -> Text:
    """An artifact's errors on days it never saw, beside those of no forecast at all, and whether it serves."""
    metrics = row["metrics"]["metrics"]
    mae, naive = metrics["mae"], metrics["naive_mae"]
    better = f"{abs(1.0 - mae / naive):.2%} {'less' if mae < naive else 'more'}" if naive else "not comparable"
    word, style = ("skilled", "bold green") if row["skilled"] else ("no skill", "bold yellow")
    why = row["verdict"]["why"]
    use = "in use from now on" if row["standing"] else "not put to use; the one before stays"
    return Text.assemble(
        (f"  {row['horizon_minutes']:>3} min  ", "bold"),
        f"off by {mae:.4f} USD on average over {metrics['sessions']} days it never saw; "
        f'"the price stays as it is" by {naive:.4f} USD ({better}): ',
        (word, style),
        f", {why}; {use}.",
    )
