"""The embedded stack from start to stop: `Stack(settings).run(on_ready, should_stop)`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from types import FrameType

import structlog
from pydantic import SecretStr

from qbot import clock
from qbot.contract import acl
from qbot.errors import ConfigError, StackError
from qbot.market import at_hand
from qbot.settings import Settings
from qbot.stack import child, environment, lock, ports, programs, redis, replay, secrets
from qbot.stack.supervise import TICK_S, ProcessHealth, Program, Supervisor
from qbot.standin.addresses import settings_at, url_of

STATUS_FILE = "status.json"
EARLIER_RUN_S = 12.0  # how long the processes of a killed run may keep its ports
MIGRATE_WITHIN_S = 120.0
EXCHANGE_KEY = "PAPER"  # a name, not a secret: the paper exchange is on loopback and holds no money
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = structlog.get_logger(__name__)


class Stack:
    """Redis, Postgres, the paper exchange (without Alpaca keys), workers, beat, Flower and stream of one home.

    `settings` holds the secrets and addresses that the processes get; `embedded_exchange` tells that no Alpaca keys
    are set and QBot trades at its own paper exchange; `replay`, known once `run` began, is None otherwise. With
    `fake_providers` in them, all market data come from a stand-in of their vendors.
    """

    def __init__(self, settings: Settings, *, demo: bool = False) -> None:
        """Raises ConfigError where a password of Redis is a placeholder; `demo` allows the documents' one.

        And where made-up market data would meet a real broker, or a plan or order of sources is none.
        """
        self.embedded_exchange = not settings.alpaca_api_key.get_secret_value()
        _require_no_broker(settings)
        at_hand.plans(settings)
        self.settings = of_this_stack(secrets.with_secrets(settings), self.embedded_exchange)
        self._redis_users = redis.users(self.settings, demo=demo)
        self.replay: replay.Replay | None = None
        self._supervisor: Supervisor | None = None
        self._stop_asked = False

    def run(self, on_ready: Callable[[Stack], None], should_stop: Callable[[], bool] = lambda: False) -> None:
        """Starts everything, calls `on_ready` once all is up, and returns when all is down again.

        Ends on SIGINT, SIGTERM, or when `should_stop`. To be called in the main thread. Raises StackError.
        """
        with lock.held(self.settings.home):
            asyncio.run(self._run(on_ready, lambda: self._stop_asked or should_stop()))

    def stop(self) -> None:
        """Asks `run` to end. May be called from any thread."""
        self._stop_asked = True

    def health(self) -> list[ProcessHealth]:
        """Of every process, in starting order. May be called from any thread."""
        return self._supervisor.health() if self._supervisor else []

    async def _run(self, on_ready: Callable[[Stack], None], should_stop: Callable[[], bool]) -> None:
        old = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            killed = (self.settings.home / STATUS_FILE).exists()
            ports.require_free(self._ports(), EARLIER_RUN_S if killed else 0.0)
            self._supervisor = Supervisor(self._programs(), self.settings.home / "logs")
            await self._start(should_stop)
            if not should_stop():
                on_ready(self)
            await self._watch(should_stop)
        finally:
            await self._down()
            for number, handler in old.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_asked = True

    def _ports(self) -> dict[str, tuple[int, str]]:
        values = self.settings
        used = {
            "Redis": (values.redis_port, "QBOT_REDIS_PORT"),
            "Postgres": (values.postgres_port, "QBOT_POSTGRES_PORT"),
            "Flower": (values.flower_port, "QBOT_FLOWER_PORT"),
        }
        if self.embedded_exchange:
            used["the paper exchange"] = (values.exchange_port, "QBOT_EXCHANGE_PORT")
        if values.fake_providers:
            used["the stand-in of the providers"] = (values.fake_providers_port, "QBOT_FAKE_PROVIDERS_PORT")
        return used

    def _programs(self) -> list[Program]:
        all_programs = programs.servers(self.settings, self._redis_users)
        clock_file = None
        if self.embedded_exchange:
            self.replay = replay.begin(self.settings)
            clock_file = self.replay.clock_file
        env = environment.of_children(self.settings, clock_file)
        if self.replay:
            all_programs.append(programs.exchange(self.settings, env))
        if self.settings.fake_providers:
            all_programs.append(programs.standin(self.settings, env))
        training_env = environment.of_children(self.settings, clock_file, threads=os.cpu_count() or 1)
        return [*all_programs, *programs.workers(self.settings, env, training_env)]

    async def _start(self, should_stop: Callable[[], bool]) -> None:
        assert self._supervisor is not None
        for stage in self._supervisor.stages():
            if should_stop():
                return
            await self._supervisor.start_stage(stage, should_stop)
            if stage == programs.SERVERS and not should_stop():
                await self._migrate()

    async def _migrate(self) -> None:
        """Alembic's and Django's migrations and the beat schedule, each in a process of its own, at the same time."""
        env = environment.of_children(self.settings, self.replay.clock_file if self.replay else None)
        modules = {
            "qbot.store.migrate": env,
            "qbot.web.migrate": environment.without_broker_keys(env) | programs.DJANGO,
        }
        await asyncio.gather(*(self._run_once(module, its) for module, its in modules.items()))

    async def _run_once(self, module: str, env: dict[str, str]) -> None:
        pipe = asyncio.subprocess.PIPE
        command = child.command([sys.executable, "-m", module])
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stdout=pipe, stderr=asyncio.subprocess.STDOUT, start_new_session=True
        )
        try:
            output, _none = await asyncio.wait_for(process.communicate(), MIGRATE_WITHIN_S)
        except TimeoutError as error:
            process.kill()
            raise StackError(f"{module} did not end within {MIGRATE_WITHIN_S:.0f} s") from error
        text = output.decode(errors="replace").strip()
        (self.settings.home / "logs" / f"{module}.log").write_text(text + "\n")
        if process.returncode != 0:
            raise StackError(f"{module} failed:\n" + "\n".join(text.splitlines()[-5:]))

    async def _watch(self, should_stop: Callable[[], bool]) -> None:
        assert self._supervisor is not None
        saved_s, told = -replay.SAVE_EVERY_S, False
        while not should_stop():
            await self._supervisor.tick()
            now_s = clock.monotonic_s()
            if now_s - saved_s >= replay.SAVE_EVERY_S:
                saved_s = now_s
                self._save()
            if self.replay and self.replay.finished() and not told:
                told = True
                log.warning("the replayed market is at its end; `qbot reset` starts over")
            await asyncio.sleep(TICK_S)

    def _save(self) -> None:
        if self.replay:
            self.replay.save()
        body = {
            "pid": os.getpid(),
            "fake_providers": self.settings.fake_providers,  # may come from the command line, which nobody else sees
            "saved_at_wall": clock.wall_now().isoformat(),
            "processes": [asdict(each) for each in self.health()],
        }
        replay.write(self.settings.home / STATUS_FILE, json.dumps(body))

    async def _down(self) -> None:
        if self._supervisor is None:
            return
        await self._supervisor.stop()
        if self.replay:
            self.replay.save(ahead_s=0.0)
        (self.settings.home / STATUS_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.settings.home / "run", ignore_errors=True)


def of_this_stack(settings: Settings, embedded_exchange: bool) -> Settings:
    """The embedded servers are here, whatever the environment says of others."""
    here: dict[str, object] = {"redis_host": ports.HOST, "postgres_host": ports.HOST, "home": settings.home.resolve()}
    here["redis_user"] = acl.BACKEND
    here["embedded_exchange"] = embedded_exchange  # with keys of a venue it must not be believed
    if embedded_exchange:
        url = f"http://{ports.HOST}:{settings.exchange_port}"
        here |= {"exchange_host": ports.HOST, "alpaca_url": url, "alpaca_data_url": url}
        here |= {"alpaca_api_key": SecretStr(EXCHANGE_KEY), "alpaca_secret_key": SecretStr(EXCHANGE_KEY)}
    here["fake_providers"] = embedded_exchange and settings.fake_providers
    if here["fake_providers"]:
        here |= _made_up(settings)
    return settings.model_copy(update=here)


def _made_up(settings: Settings) -> dict[str, object]:
    """Every vendor is the stand-in, under a key that is none. Quotas are of real time, so the replay runs in it."""
    speed = settings.replay_speed if "replay_speed" in settings.model_fields_set else 1.0
    return {**settings_at(url_of(settings.fake_providers_port)), "replay_speed": speed}


def _require_no_broker(settings: Settings) -> None:
    """Raises ConfigError."""
    keys = {"QBOT_ALPACA_API_KEY": settings.alpaca_api_key, "QBOT_ALPACA_SECRET_KEY": settings.alpaca_secret_key}
    named = [name for name, key in keys.items() if key.get_secret_value()]
    if settings.fake_providers and named:
        raise ConfigError(
            f"made-up market data never meet a real broker: unset {' and '.join(named)}, or start without them"
        )
