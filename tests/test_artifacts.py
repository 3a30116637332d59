"""Artifacts come from a child process that cannot outlive its limit, and load only when they are the recorded ones."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from qbot import artifacts
from qbot.artifacts import RECORD_FILE, folder_sha256
from qbot.errors import ArtifactError, TrainingFailed
from qbot.features import build_features, latest_rows
from qbot.training_process import run_training
from qbot.training_types import PROGRESS, HorizonResult, TrainingProgress, TrainingRequest
from tests.support.made_up_market import made_up_bars

SYMBOLS = ("AAA", "BBB")
BARS = made_up_bars(SYMBOLS, sessions=12, seed=2, momentum=0.6)
NOW = datetime(2025, 4, 1, 20, 0, tzinfo=UTC)


def request_in(folder: Path) -> TrainingRequest:
    return TrainingRequest(SYMBOLS, folder, NOW, "scheduled", seconds_per_horizon=20, min_rows=100, horizons=(15,))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[HorizonResult, list[TrainingProgress], list[int]]:
    """One artifact trained by the real child, the events on the way, and the child's niceness at each."""
    events: list[TrainingProgress] = []
    nice: list[int] = []

    def watch(event: TrainingProgress) -> None:
        events.append(event)
        nice.extend(nice_of_trainers())

    result = run_training(BARS, request_in(tmp_path_factory.mktemp("artifacts")), watch, timeout_s=120)
    return result.horizons[15], events, nice


def nice_of_trainers() -> Iterator[int]:
    """The priority of this process' training children; one that ended meanwhile is passed over."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "qbot.training_run" in child.cmdline():
                yield child.nice()


@pytest.fixture
def copy(trained: tuple[HorizonResult, object, object], tmp_path: Path) -> Iterator[Path]:
    """A copy of the artifact that a test may spoil."""
    artifacts.forget()
    yield Path(shutil.copytree(trained[0].path, tmp_path / "copy"))
    artifacts.forget()


def test_a_training_run_leaves_a_loadable_artifact_and_told_its_progress_at_low_priority(
    trained: tuple[HorizonResult, list[TrainingProgress], list[int]],
) -> None:
    done, events, nice = trained
    assert [event.event for event in events] == ["start", "start", "horizon_trained", "finished"]
    assert nice and set(nice) == {10}
    artifact = artifacts.load(done.path, done.sha256)
    returns = artifact.predict(latest_rows(build_features(BARS)))
    assert returns.shape == (2,) and np.isfinite(returns).all() and np.abs(returns).max() < 0.05
    assert artifact.artifact_id == done.artifact_id and artifact.record == done.record
    assert {"ticker_AAA", "open", "high", "low", "volume", "prev_close", "grok_sentiment"} <= set(
        artifact.record.features
    )


def test_using_an_artifact_changes_no_file_of_it(copy: Path) -> None:
    before = folder_sha256(copy)
    artifacts.load(copy, before).predict(latest_rows(build_features(BARS)))
    assert folder_sha256(copy) == before


def test_an_artifact_is_loaded_once_a_process(copy: Path) -> None:
    sha256 = folder_sha256(copy)
    first = artifacts.load(copy, sha256)
    assert artifacts.load(copy, sha256) is first
    artifacts.forget()
    assert artifacts.load(copy, sha256) is not first


def test_the_ticker_columns_of_the_rows_do_not_matter_and_unknown_tickers_get_no_prediction(copy: Path) -> None:
    artifact = artifacts.load(copy, folder_sha256(copy))
    rows = latest_rows(build_features(BARS))
    stranger = pd.concat([rows, rows.head(1).assign(symbol="ZZZ")], ignore_index=True)
    with_columns = latest_rows(build_features(BARS, ("BBB", "QQQ")))
    expected = artifact.predict(rows)
    np.testing.assert_array_equal(artifact.predict(with_columns), expected)
    # One row more: the sums in it may be added up in another order.
    np.testing.assert_allclose(artifact.predict(stranger), [*expected, np.nan], rtol=1e-12)


def test_rows_that_lack_a_feature_are_refused(copy: Path) -> None:
    artifact = artifacts.load(copy, folder_sha256(copy))
    with pytest.raises(ArtifactError, match="rsi_14"):
        artifact.predict(latest_rows(build_features(BARS)).drop(columns="rsi_14"))


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_changed_artifact_is_refused_before_anything_is_unpickled(copy: Path, tmp_path: Path) -> None:
    recorded = folder_sha256(copy)
    trace = tmp_path / "unpickled"
    (copy / "predictor.pkl").write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ArtifactError, match="not the recorded one"):
        artifacts.load(copy, recorded)
    assert not trace.exists()
    with pytest.raises(ArtifactError):
        artifacts.load(copy, folder_sha256(copy))
    assert trace.exists(), "the bomb works, so that its silence above means something"


@pytest.mark.parametrize("name", ["models/trainer.pkl", RECORD_FILE])
def test_a_missing_file_is_refused_even_if_its_absence_was_recorded(copy: Path, name: str) -> None:
    recorded = folder_sha256(copy)
    (copy / name).unlink()
    for sha256 in (recorded, folder_sha256(copy)):
        with pytest.raises(ArtifactError):
            artifacts.load(copy, sha256)


def test_a_missing_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact"):
        artifacts.load(tmp_path / "nowhere", "0" * 64)


def a_child(tmp_path: Path, body: str) -> tuple[str, ...]:
    """A stand-in for the training process; `pids` is where it may write process ids."""
    script = tmp_path / "child.py"
    script.write_text(
        f"import os, subprocess, sys, time\nfrom pathlib import Path\npids = Path({str(tmp_path / 'pids')!r})\n{body}\n"
    )
    return sys.executable, str(script)


SLEEPERS = """
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pids.write_text(f"{os.getpid()} {grandchild.pid}")
time.sleep(600)
"""


def assert_gone(pids: Path) -> None:
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) >= 1
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(alive(pid) for pid in found):
        time.sleep(0.02)
    assert not [pid for pid in found if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_past_its_limit_is_killed_with_all_its_children_and_its_leavings(tmp_path: Path) -> None:
    request = request_in(tmp_path / "artifacts")
    request.partial_folder.mkdir(parents=True)
    events: list[TrainingProgress] = []
    with pytest.raises(TrainingFailed, match="longer than 1 s"):
        run_training(BARS.head(10), request, events.append, timeout_s=1.0, child=a_child(tmp_path, SLEEPERS))
    assert_gone(tmp_path / "pids")
    assert [(event.event, event.active) for event in events] == [("failed", False)]
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_a_child_that_closes_its_stdout_and_lives_on_is_killed_at_the_limit_too(tmp_path: Path) -> None:
    child = a_child(tmp_path, "os.close(1)\n" + SLEEPERS)
    with pytest.raises(TrainingFailed, match="longer than 1 s"):
        run_training(BARS.head(10), request_in(tmp_path), lambda event: None, timeout_s=1.0, child=child)
    assert_gone(tmp_path / "pids")


def test_a_child_that_fails_is_reported_with_the_end_of_its_stderr(tmp_path: Path) -> None:
    events: list[TrainingProgress] = []
    child = a_child(tmp_path, "sys.exit('out of luck')")
    with pytest.raises(TrainingFailed, match=r"status 1: out of luck"):
        run_training(BARS.head(10), request_in(tmp_path), events.append, timeout_s=20, child=child)
    assert [event.event for event in events] == ["failed"]


@pytest.mark.parametrize("known", [True, False])
def test_the_child_is_told_whose_bars_they_are_where_that_is_known(tmp_path: Path, known: bool) -> None:
    body = "import pyarrow.parquet as pq; sys.exit(','.join(pq.read_schema(Path(sys.argv[1]) / 'bars.parquet').names))"
    history = BARS.head(10).assign(source="alpaca") if known else BARS.head(10)
    with pytest.raises(TrainingFailed, match=r"volume,source" if known else r"close,volume(?!,source)"):
        run_training(history, request_in(tmp_path), lambda event: None, 20, a_child(tmp_path, body))


@pytest.mark.parametrize("body", ["print('no json', flush=True); time.sleep(600)", "pass"])
def test_a_child_that_talks_nonsense_or_leaves_no_result_is_a_failed_training(tmp_path: Path, body: str) -> None:
    with pytest.raises(TrainingFailed):
        run_training(BARS.head(10), request_in(tmp_path), lambda event: None, 20, a_child(tmp_path, body))


def test_the_real_child_says_why_it_failed(tmp_path: Path) -> None:
    events: list[TrainingProgress] = []
    with pytest.raises(TrainingFailed, match="TrainingFailed: 1 sessions of bars"):
        run_training(
            BARS[BARS["ts"] < BARS["ts"].min() + pd.Timedelta(hours=8)], request_in(tmp_path), events.append, 60
        )
    assert [event.event for event in events] == ["start", "failed"]


def test_when_the_listener_breaks_the_child_is_gone_before_the_error_reaches_the_caller(tmp_path: Path) -> None:
    def broken(event: TrainingProgress) -> None:
        raise ConnectionError("the board is away")

    event = PROGRESS.dump_json(TrainingProgress(True, "query_data", 0.0, "manual", "start", "", NOW, NOW)).decode()
    child = a_child(tmp_path, SLEEPERS.replace("time.sleep(600)\n", f"print({event!r}, flush=True)\ntime.sleep(600)\n"))
    with pytest.raises(ConnectionError):
        run_training(BARS.head(10), request_in(tmp_path), broken, timeout_s=60, child=child)
    assert_gone(tmp_path / "pids")


def test_the_child_gets_none_of_qbots_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QBOT_REDIS_PASSWORD", "secret")
    child = a_child(tmp_path, "sys.exit(' '.join(sorted(k for k in os.environ if k.startswith(('QBOT_', 'OMP_')))))")
    with pytest.raises(TrainingFailed, match=r"status 1: OMP_NUM_THREADS OMP_WAIT_POLICY$"):
        run_training(BARS.head(10), request_in(tmp_path), lambda event: None, timeout_s=20, child=child)


def test_the_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    body = "from qbot.training_run import die_with_parent\nassert die_with_parent(os.getppid())\n"
    child = a_child(tmp_path, f"{body}pids.write_text(str(os.getpid()))\ntime.sleep(600)")
    parent = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({list(child)!r})"])
    deadline = time.monotonic() + 30
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert_gone(tmp_path / "pids")


def test_a_child_whose_parent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-m", "qbot.training_run", str(tmp_path), "1"], check=False, timeout=60)
    assert gone.returncode == 3 and list(tmp_path.iterdir()) == []
