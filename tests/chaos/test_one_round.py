"""One round of the chaos run, of the faults that teach most: real processes die, the network lies, and books agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.faults import chosen
from tests.chaos.rounds import Rounds
from tests.chaos.system import system

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

# Each with the moment at which it strikes: the round's number says whether the order on the wire has reached the
# broker (odd numbers: it has), which is where a second order would come from.
LASTS_S = 2.5
TAUGHT = [
    ("kill -9 all but the servers", 1),
    ("kill -9 trading children", 0),
    ("kill -9 exchange", 1),
    ("kill -9 redis", 0),
    ("kill -9 postgres", 1),
    ("broker reset_peer", 0),
    ("timeout after accept", 0),
    ("5xx, accepted late", 0),
    ("cycle delivered 4 times at once", 0),
    ("redis FLUSHALL", 1),
    ("CLOSE_ALL, children killed", 0),
]


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    with system(tmp_path_factory.mktemp("chaos")) as shaken:
        running = Rounds(shaken, seed=1)
        yield running
        running.close()


@pytest.mark.parametrize(("name", "number"), TAUGHT, ids=[name for name, _number in TAUGHT])
def test_no_order_is_doubled_or_lost_and_the_books_agree(rounds: Rounds, name: str, number: int) -> None:
    [fault] = [one for one in chosen([name]) if one.name == name]
    fault.lasts_s = min(fault.lasts_s, LASTS_S)

    outcome = rounds.run(fault, number)

    assert outcome.violations == []
    assert outcome.in_flight > 0 or outcome.entries + outcome.exits + outcome.by_hand > 0
    assert outcome.went_off or not fault.leaves_off
    print(f"recovered {outcome.recovered_s} s, reconciled {outcome.reconciled_s} s after it healed")
