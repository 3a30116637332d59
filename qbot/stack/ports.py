"""Whether the ports are free, and who has them when they are not."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

import psutil

from qbot import clock
from qbot.errors import StackError

HOST = "127.0.0.1"


def require_free(ports: Mapping[str, tuple[int, str]], wait_s: float) -> None:
    """`ports`: service → (port, the variable that sets it). Waits `wait_s` for an earlier run to let go of them.

    Raises StackError naming the port, its owner where visible, and the variable to change.
    """
    numbers = [port for port, _variable in ports.values()]
    twice = {port for port in numbers if numbers.count(port) > 1}
    if twice:
        raise StackError(f"two services are set to the same port: {sorted(twice)}")
    deadline = clock.monotonic_s() + wait_s
    for service, (port, variable) in ports.items():
        while not is_free(port):
            if clock.monotonic_s() > deadline:
                who = owner(port) or "another process"
                raise StackError(f"port {port} for {service} is taken by {who}: stop it, or set {variable}")
            time.sleep(0.2)


def is_free(port: int) -> bool:
    """True when a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """True when something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def owner(port: int) -> str | None:
    """`name (pid N)` of the listener, or None when the system does not tell."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                return None
    return None
