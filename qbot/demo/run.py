"""`qbot demo`: the embedded stack in the main thread; one thread that watches it, shows it and plays the frontend."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import FrameType

from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from qbot import clock, log
from qbot.contract import acl, board
from qbot.demo import display, frontend, summary, view
from qbot.demo.collect import Collector
from qbot.demo.display import Display
from qbot.demo.logs import LogError, LogWatch
from qbot.demo.snapshot import Access, Phase, Snapshot
from qbot.errors import BoardUnavailable, QBotError, StackError, StoreUnavailable
from qbot.settings import ROOT, Settings
from qbot.stack import lock, secrets
from qbot.stack.ports import HOST
from qbot.stack.stack import Stack
from qbot.store import report
from qbot.store.engine import make_engine, transaction

HOME = ROOT / ".qbot" / "demo"
LOOK_EVERY_S = 0.5
STOP_WITHIN_S = 12.0  # for a tick of emergency_handler to see the frontend's stop and to cancel entries
KEPT_ERRORS = 200
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    minutes: float | None = None
    speed: float = 60.0
    fresh: bool = False
    screenshot: Path | None = None
    home: Path = HOME


def demo_settings(options: Options) -> Settings:
    """The environment's settings, in a home of the demo's own, with the documents' password and without real keys."""
    none = SecretStr("")
    return Settings(
        home=options.home,
        redis_host=HOST,
        postgres_host=HOST,
        redis_frontend_password=SecretStr(acl.DOCUMENTED_PASSWORD),
        replay_speed=options.speed,
        alpaca_api_key=none,
        alpaca_secret_key=none,
        alpaca_url=None,
        alpaca_data_url=None,
        allow_live=False,
        fake_providers=False,
    )


def run(options: Options, screen: Display) -> int:
    """The whole demo; the exit status. Raises StackError when it cannot even begin."""
    settings = demo_settings(options)
    if options.fresh:
        forget(settings.home)
    _log_to_file(settings)
    return Demo(Stack(settings, demo=True), options, screen).run()


def forget(home: Path) -> None:
    """Removes all data of the demo; a folder without any is left alone. Raises StackError while QBot runs on it."""
    if not (home / secrets.FILE).exists():
        return
    if home in (ROOT, Path.home(), Path(home.anchor)):
        raise StackError(f"{home} holds more than the demo: remove QBot's files there by hand")
    with lock.held(home):
        for path in home.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != lock.FILE:
                path.unlink()


def _log_to_file(settings: Settings) -> None:
    """This process' own log goes beside the others': the terminal belongs to the view."""
    folder = settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.configure("demo", settings)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream((folder / "demo.log").open("a"))


class Demo:
    """One run. The main thread runs the stack; `_observe` runs beside it until both are done."""

    def __init__(self, stack: Stack, options: Options, screen: Display) -> None:
        self._stack, self._options, self._display = stack, options, screen
        self._started_wall = clock.wall_now()
        values = stack.settings
        self._engine = make_engine(values.postgres_url, pool_size=1)
        base = Snapshot(self._started_wall, self._started_wall, minutes=options.minutes, access=access(values))
        self._board = board.connect(values)
        self._collector = Collector(base, stack.health, self._board, self._engine)
        self._frontend = frontend.StandInFrontend(frontend.connect(values), self._started_wall)
        self._logs = LogWatch(values.home / "logs")
        self._errors: deque[LogError] = deque(maxlen=KEPT_ERRORS)
        self._error_count = 0
        self._ready_s: float | None = None
        self._first_trade_s: float | None = None
        self._since: datetime | None = None
        self._models = False
        self._last_up: Snapshot | None = None
        self._record: report.RunRecord | None = None
        self._broken: str | None = None
        self._ended_s: float | None = None
        self._ending = threading.Event()  # someone or something asked for the end
        self._done = threading.Event()  # the observer has nothing left to do: the stack may go down

    def run(self) -> int:
        """Runs to the end and prints the summary; the exit status."""
        observer = threading.Thread(target=self._observe, name="observer")
        old = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        observer.start()
        try:
            self._stack.run(self._on_ready, self._should_stop)
        except QBotError as error:
            self._broken = str(error)
        finally:
            self._done.set()
            observer.join()
            with suppress(OSError):
                self._display.close()
            for number, handler in old.items():
                signal.signal(number, handler)
            self._engine.dispose()
        return self._finish()

    def _on_ready(self, _stack: Stack) -> None:
        self._ready_s = self._running_s()
        for number in SIGNALS:  # from here on an end begins with the frontend's stop
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._ending.is_set():
            self._done.set()  # asked twice: at once
        self._ending.set()

    def _should_stop(self) -> bool:
        return self._done.is_set() or (self._ending.is_set() and self._ready_s is None)

    def _running_s(self) -> float:
        return clock.monotonic_s() - self._collector.started_s

    # --- the observer's thread ---------------------------------------------------------------------------------------

    def _observe(self) -> None:
        try:
            while not self._ending.is_set() and not self._done.is_set():
                self._look(Phase.STARTING if self._ready_s is None else Phase.UP)
                self._play_frontend()
                self._ending.wait(LOOK_EVERY_S)
                if self._options.minutes is not None and self._running_s() >= self._options.minutes * 60:
                    self._ending.set()
            self._ended_s = self._running_s()
            if self._ready_s is not None and not self._done.is_set():
                self._end_trading()
        except Exception as error:
            self._broken = f"the demo itself broke: {type(error).__name__}: {error}"
            logging.getLogger(__name__).exception("the observer broke")
        finally:
            self._done.set()

    def _look(self, phase: Phase) -> Snapshot:
        """One look at everything, shown."""
        snapshot = self._collector.collect(phase)
        fresh = self._logs.poll()
        self._errors.extend(fresh)
        self._error_count += len(fresh)
        words = tuple(f"{error.process}: {error.text}" for error in list(self._errors)[-5:])
        snapshot = replace(snapshot, errors=words, error_count=self._error_count)
        if self._since is None and snapshot.market_open is not None:
            self._since = snapshot.market
        self._models |= bool(snapshot.artifacts)
        if self._first_trade_s is None and self._since and any(t.at >= self._since for t in snapshot.trades):
            self._first_trade_s = snapshot.running_s
        if phase is Phase.UP and not snapshot.problems:
            self._last_up = snapshot
        self._show(snapshot)
        return snapshot

    def _show(self, snapshot: Snapshot) -> None:
        try:
            self._display.show(snapshot)
        except OSError:  # whoever read our lines has left, or the terminal has gone: nobody watches any more
            self._display = display.Nobody()
            self._ending.set()

    def _play_frontend(self) -> None:
        if self._ready_s is None:
            return
        try:
            self._frontend.tick()
        except BoardUnavailable as error:
            logging.getLogger(__name__).warning("the frontend cannot reach Redis: %s", error)

    def _end_trading(self) -> None:
        """The frontend switches off, QBot follows, and what the run did is added up while Postgres still answers."""
        if self._options.screenshot and self._last_up:
            view.save_svg(self._last_up, self._options.screenshot)
        frontend.try_to_stop(self._frontend)
        deadline = clock.monotonic_s() + (STOP_WITHIN_S if self._frontend.starts else 0.0)
        self._look(Phase.STOPPING)
        while clock.monotonic_s() < deadline and not self._done.wait(LOOK_EVERY_S):
            if self._look(Phase.STOPPING).session.backend_status == "STOPPED":
                break
        self._add_up()

    def _add_up(self) -> None:
        try:
            with transaction(self._engine) as connection:
                self._record = report.run_record(connection, self._since or clock.market_now(), self._started_wall)
        except (StoreUnavailable, SQLAlchemyError):
            logging.getLogger(__name__).exception("the run cannot be added up")

    def _finish(self) -> int:
        outcome = summary.Outcome(
            running_s=self._ended_s or self._running_s(),
            ready_s=self._ready_s,
            first_trade_s=self._first_trade_s,
            record=self._record,
            models=self._models,
            restarts={each.name: each.restarts for each in self._stack.health()},
            errors=tuple(self._errors),
            error_count=self._error_count,
            stack_error=self._broken,
        )
        with suppress(OSError):
            sys.stdout.write("\n".join(["", "QBot demo", *summary.lines(outcome), ""]))
            sys.stdout.flush()
        return 1 if summary.failures(outcome) else 0


def access(settings: Settings) -> Access:
    """Where Redis and Flower are, how to log in, and the logs, as seen from where the command was given."""
    return Access(
        flower_url=f"http://127.0.0.1:{settings.flower_port}",
        flower_user=settings.flower_user,
        secrets_file=_near(settings.home / "secrets.json"),
        logs=_near(settings.home / "logs"),
        redis=f"{HOST}:{settings.redis_port}, password {acl.DOCUMENTED_PASSWORD}",
    )


def _near(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
