"""A listener for tests, in a thread with a runtime of its own or as the process it is."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qbot.listener import Listener
from qbot.runtime import Runtime
from tests.support.processes import environment_of, started
from tests.support.runtime import World
from tests.support.servers import wait_until


@contextmanager
def listening(world: World, rt: Runtime | None = None) -> Iterator[Listener]:
    """Subscribed, and done with what stood there already. An error that ends it is raised at the end."""
    listener, ready, stop = Listener(rt or world.another()), threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            listener.run(stop.is_set, ready.set)
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: ready.is_set() or errors, "the subscription")
        wait_until(listener.quiet, "the first look")
        yield listener
    finally:
        stop.set()
        thread.join(30)
        for lane in listener._lanes:  # what one still does must not meet the next test's empty tables
            lane.join(30)
    if errors:
        raise errors[0]


@contextmanager
def listener_process(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m qbot.listener`, subscribed."""
    home = world.rt.settings.home
    ready = home / "listener.ready"
    ready.unlink(missing_ok=True)
    env = environment_of(world.rt.settings, QBOT_READY_FILE=str(ready))
    with started(["-m", "qbot.listener"], env, home / "listener.log") as process:
        wait_until(ready.exists, "the listener")
        yield process
