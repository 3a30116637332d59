"""How the tests are spread over workers: no two get the same port, and what belongs together stays together."""

from __future__ import annotations

from itertools import combinations

from tests.support.servers import WORKERS_MAX, free_port, ports_of
from tests.support.spread import DIVISIBLE, LONG, STACKS, ByFile


def scope(nodeid: str) -> str:
    return ByFile._split_scope(ByFile.__new__(ByFile), nodeid)


def test_no_two_workers_have_a_port_in_common_and_none_is_one_that_the_kernel_gives_to_connections() -> None:
    shares = [set(ports_of(f"gw{number}")) for number in range(WORKERS_MAX)]
    assert not any(one & other for one, other in combinations(shares, 2))
    assert all(1_024 < port < 32_768 for share in shares for port in share)


def test_a_port_is_told_once_in_a_long_time() -> None:
    told = [free_port() for _ in range(200)]
    assert len(set(told)) == len(told)


def test_whole_stacks_run_one_after_the_other_and_a_file_on_one_worker() -> None:
    assert {scope(f"{path}::test_a") for path in ("tests/test_end_to_end.py", "tests/stack/test_home.py")} == {"stacks"}
    assert scope("tests/test_risk.py::test_a[1]") == scope("tests/test_risk.py::TestB::test_c") == "tests/test_risk.py"
    assert scope(f"{DIVISIBLE[0]}::test_a[1]") != scope(f"{DIVISIBLE[0]}::test_a[2]")


def test_each_file_that_is_named_is_there() -> None:
    from qbot.settings import ROOT

    assert [path for path in (*STACKS, *LONG, *DIVISIBLE) if not (ROOT / path).exists()] == []
