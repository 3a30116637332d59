"""A child ends with its parent, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from qbot.stack import child
from tests.support.processes import wait_gone
from tests.support.servers import wait_until

CODE = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
SLEEPER = [sys.executable, "-S", "-c", CODE]


def parent_of(pid_file: Path, watch: bool) -> subprocess.Popen[bytes]:
    code = """
        import subprocess, sys
        from qbot.stack import child
        subprocess.Popen(child.command(sys.argv[2:], watch=sys.argv[1] == "watch")).wait()
    """
    how = "watch" if watch else "kernel"
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), how, *SLEEPER, str(pid_file)])


def pid_in(file: Path) -> int:
    wait_until(lambda: file.exists() and file.read_text(), "the child's pid")
    return int(file.read_text())


@pytest.mark.parametrize("watch", [False, True], ids=["by the kernel", "by watching"])
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, watch: bool) -> None:
    parent = parent_of(tmp_path / "pid", watch)
    pid = pid_in(tmp_path / "pid")
    parent.kill()
    parent.wait()
    wait_gone([pid], 5.0)


def test_a_child_whose_parent_is_already_gone_does_not_start(tmp_path: Path) -> None:
    args = child.command([*SLEEPER, str(tmp_path / "pid")])
    args[args.index("--parent") + 1] = "1"
    assert subprocess.run(args, check=False).returncode == 1
    assert not (tmp_path / "pid").exists()


def test_a_watched_child_gets_the_signals_and_gives_its_exit_status(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(600)"
    )
    args = child.command([sys.executable, "-c", code], watch=True)
    with subprocess.Popen(args, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(5) == 7


def test_a_command_that_does_not_exist_says_so() -> None:
    done = subprocess.run(child.command(["/nowhere/at-all"]), capture_output=True, text=True, check=False)
    assert done.returncode == child.CANNOT_EXEC
    assert "cannot start /nowhere/at-all" in done.stderr


def test_root_given_up_keeps_reading_but_not_writing_and_a_user_cannot_become_another(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("seen")
    file, new = str(closed / "file"), str(closed / "new")
    # initdb asks access(2), not open(2), whether postgres is there
    code = f"import os; print(os.getuid(), open({file!r}).read(), os.access({file!r}, os.R_OK)); open({new!r}, 'w')"
    args = child.command([sys.executable, "-c", code], uid=65534)
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if os.geteuid() == 0:
        assert done.stdout == "65534 seen True\n"
        assert "PermissionError" in done.stderr
    else:
        assert done.returncode == child.CANNOT_EXEC
        assert done.stdout == ""
    assert not (closed / "new").exists()
