"""The processes of the embedded stack: what each is started with, in which stage, and when it counts as ready."""

from __future__ import annotations

import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psycopg2
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from qbot.errors import StackError
from qbot.settings import Settings
from qbot.stack import child, environment, ports, postgres, redis
from qbot.stack.supervise import Program

SERVERS, EXCHANGE, WORKERS = range(3)  # stages
DJANGO = {"DJANGO_SETTINGS_MODULE": "qbot.web.settings"}
# Where the processors are busy, what may wait does: a stop needs several processes in a row to run at once.
NICE = {"data": 5, "misc": 5, "flower": 5, "training": 10}
# queue → processes; the order in which they are started
POOLS = {"emergency": 1, "trading": 2, "data": 2, "misc": 1, "training": 1}


def servers(settings: Settings, redis_users: str) -> list[Program]:
    """Redis and Postgres, their folders made ready. Raises StackError when they cannot be."""
    user, secret = settings.postgres_user, settings.postgres_password.get_secret_value()
    database = postgres.prepare(settings.home / "postgres", settings.postgres_port, user, secret, settings.postgres_db)
    board = redis.prepare(settings.home / "redis", settings.redis_port, redis_users)
    env = environment.plain()
    return [
        Program(
            "redis",
            tuple(child.command(board, on_parent_death=signal.SIGTERM)),
            env,
            SERVERS,
            lambda _pid: redis_answers(settings),
        ),
        Program(
            "postgres",
            tuple(database),
            env,
            SERVERS,
            lambda _pid: postgres_answers(settings),
            stop_signal=postgres.STOP_SIGNAL,
        ),
    ]


def exchange(settings: Settings, env: dict[str, str]) -> Program:
    """The paper exchange."""
    url = f"http://{ports.HOST}:{settings.exchange_port}/healthz"
    return Program("exchange", _python("qbot.exchange"), env, EXCHANGE, lambda _pid: _http_ok(url))


def standin(settings: Settings, env: dict[str, str]) -> Program:
    """What stands in for the vendors of market data. It tells of the exchange's market, and needs no key."""
    url = f"http://{ports.HOST}:{settings.fake_providers_port}/healthz"
    market = ("--exchange", f"http://{ports.HOST}:{settings.exchange_port}")
    args = _python("qbot.standin", "--port", str(settings.fake_providers_port), *market)
    return Program("providers", args, environment.without_broker_keys(env), EXCHANGE, lambda _pid: _http_ok(url))


def workers(settings: Settings, env: dict[str, str], training_env: dict[str, str]) -> list[Program]:
    """The listener, a worker a latency class, beat, Flower and the broker's stream."""
    keyless = environment.without_broker_keys(env)
    pools = [
        _worker(settings, queue, count, training_env if queue == "training" else env) for queue, count in POOLS.items()
    ]
    stream = Program("stream", _python("qbot.stream"), env, WORKERS)
    listener = _with_ready_file(settings, "listener", _python("qbot.listener"), env)
    beat_args = ("-S", "qbot.web.scheduler:SingleScheduler", "--pidfile=", "-l", settings.log_level)
    beat = _with_ready_file(settings, "beat", _celery("beat", *beat_args), keyless | DJANGO)
    flower_env = keyless | {
        "FLOWER_BASIC_AUTH": f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"
    }
    flower_args = (
        "--address=127.0.0.1",
        f"--port={settings.flower_port}",
        "--max_tasks=10000",
        "--inspect_timeout=2000",
    )
    flower = Program(
        "flower",
        _celery("flower", *flower_args, nice=NICE["flower"]),
        flower_env,
        WORKERS,
        lambda _pid: ports.answers(settings.flower_port),
    )
    return [listener, *pools, stream, beat, flower]


def _worker(settings: Settings, queue: str, processes: int, env: dict[str, str]) -> Program:
    args = _celery(
        "worker",
        *("-n", f"{queue}@qbot", "-Q", queue, "-c", str(processes), "-P", "prefork", "-l", settings.log_level),
        *("--without-gossip", "--without-mingle"),
        nice=NICE.get(queue, 0),
    )
    return _with_ready_file(settings, f"worker-{queue}", args, env | {"QBOT_QUEUE": queue})


def _python(module: str, *args: str, nice: int = 0) -> tuple[str, ...]:
    return tuple(child.command([sys.executable, "-m", module, *args], nice=nice))


def _celery(command: str, *args: str, nice: int = 0) -> tuple[str, ...]:
    return _python("celery", "-A", "tasks.app", command, *args, nice=nice)


def _with_ready_file(settings: Settings, name: str, args: tuple[str, ...], env: dict[str, str]) -> Program:
    """A program that tells that it is ready by writing its pid to a file."""
    file = settings.home / "run" / f"{name}.ready"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.unlink(missing_ok=True)
    whole = env | {environment.READY_FILE_ENV: str(file)}
    return Program(name, args, whole, WORKERS, _ready_file(file), stop_within_s=8.0)


def _ready_file(file: Path) -> Callable[[int], bool]:
    return lambda pid: file.exists() and str(pid) in file.read_text().split()


def redis_answers(settings: Settings) -> bool:
    """True when Redis takes the password and has loaded its data. Raises ResponseError on a wrong password."""
    once = Retry(NoBackoff(), 0)  # the client's own retries would hold up the supervisor
    client = redis_py.Redis.from_url(settings.redis_url, socket_connect_timeout=1, socket_timeout=1, retry=once)
    try:
        return bool(client.ping())
    except (redis_py.ConnectionError, redis_py.TimeoutError):
        return False
    finally:
        client.close()


def postgres_answers(settings: Settings) -> bool:
    """True when Postgres lets QBot in. Raises StackError when it knows QBot by another password."""
    try:
        psycopg2.connect(
            host=settings.postgres_host,
            port=settings.postgres_port,
            user=settings.postgres_user,
            password=settings.postgres_password.get_secret_value(),
            dbname=settings.postgres_db,
            connect_timeout=2,
        ).close()
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            folder = settings.home / "postgres"
            raise StackError(f"{folder} was made with another QBOT_POSTGRES_PASSWORD; set that one") from error
        return False
    return True


def _http_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
