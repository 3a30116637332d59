"""The gate: each check in its place and by its name, whose orders it concerns, and who may do what in which state."""

from __future__ import annotations

from decimal import Decimal

import pytest

from qbot.risk import CHECKS, RULES
from qbot.risk_case import Whose, whose
from qbot.types import (
    Side,
    Source,
    TradingState,
    Verdict,
)
from tests.support.scenes import (
    ALSO,
    ENTRY,
    EXIT,
    HUMANS_EXIT,
    IN_ORDER,
    NAMES,
    PROTECTION,
    PROTECTIONS,
    REFUSED_BY,
    SPOILS,
    refusal,
)

D = Decimal


@pytest.mark.parametrize("asked", Whose)
def test_a_plain_order_passes_every_check(asked: Whose) -> None:
    scene, _ = REFUSED_BY[asked]
    assert whose(scene.proposal) is asked
    usd = "0" if asked is Whose.PROTECTION else "1000"
    passed = {"notional_usd": usd, "checks": str(len(CHECKS[asked]))}
    assert scene.verdict() == Verdict(True, None, "all checks passed", passed)


def test_the_table_of_this_test_names_every_check_in_its_place() -> None:
    assert [name for name, _ in IN_ORDER] == [next(name for name in rule.refusals if name in SPOILS) for rule in RULES]
    assert len(IN_ORDER) == len(SPOILS) == len(RULES)
    told = [name for rule in RULES for name in rule.refusals]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("asked", Whose)
def test_each_kind_of_order_meets_its_checks_and_no_others(asked: Whose) -> None:
    _, refused = REFUSED_BY[asked]
    assert list(CHECKS[asked]) == [rule.check for rule, name in zip(RULES, NAMES, strict=True) if name in refused]


@pytest.mark.parametrize("asked", Whose)
@pytest.mark.parametrize("name", NAMES)
def test_each_check_refuses_by_its_own_name_whom_it_concerns(name: str, asked: Whose) -> None:
    scene, refused = REFUSED_BY[asked]
    case = SPOILS[name](scene).case()
    found = [answer.name for check in CHECKS[asked] if (answer := check(case)) is not None]
    if name in refused:
        assert found[0] == name
        assert set(found[1:]) <= ALSO.get(name, set())
    else:
        assert name not in found


@pytest.mark.parametrize("at", range(len(IN_ORDER)))
def test_the_first_check_that_refuses_is_the_one_that_is_told(at: int) -> None:
    for scene, refused in REFUSED_BY.values():
        names = [name for name in NAMES[at:] if name in refused]
        for name in reversed(names):
            scene = SPOILS[name](scene)
        assert refusal(scene) == (names[0] if names else None)


@pytest.mark.parametrize("source", [Source.MANUAL, Source.EMERGENCY])
def test_a_humans_exit_passes_whatever_is_wrong_with_the_world(source: Source) -> None:
    worst = EXIT.proposing(source=source, signal=None)
    for name, spoil in IN_ORDER:
        if name not in (*HUMANS_EXIT, *PROTECTIONS, "PRICE_COLLAR"):
            worst = spoil(worst)
    assert refusal(worst) is None
    assert refusal(worst.proposing(qty=D(11))) == "NOT_HELD"
    assert refusal(worst.proposing(qty=D("9.5"))) == "QUANTITY_INVALID"
    assert refusal(worst.proposing(side=Side.BUY)) == "DIRECTION_INVALID"


def test_an_emergency_only_ever_sells() -> None:
    assert refusal(ENTRY.proposing(source=Source.EMERGENCY)) == "DIRECTION_INVALID"


# --- who may do what in which state ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "latched", "entry_by", "exit_by"),
    [
        (TradingState.ACTIVE, False, {"auto", "human"}, {"auto", "human"}),
        (TradingState.REDUCING, False, set(), {"auto", "human"}),
        (TradingState.OFF, False, {"human"}, {"human"}),
        (TradingState.HALTED, False, set(), {"human"}),
        *((state, True, set(), {"human"}) for state in TradingState),
        (None, False, set(), {"human"}),
        (TradingState.ACTIVE, None, set(), {"human"}),
    ],
)
def test_who_may_enter_and_exit_in_which_state(
    state: TradingState, latched: bool, entry_by: set[str], exit_by: set[str]
) -> None:
    for scene, expected in ((ENTRY, entry_by), (EXIT, exit_by)):
        placed = scene.amid(state=state, latched=latched)
        passed = {who for who, one in (("auto", placed), ("human", placed.by_hand())) if one.verdict().allowed}
        assert passed == expected
    assert refusal(PROTECTION.amid(state=state, latched=latched)) is None


def test_a_tripped_breaker_lets_exits_pass_and_nobody_enter() -> None:
    tripped = {"tripped": ("rolling_loss",), "factor": D(0), "reasons": ("breaker_rolling_loss",)}
    for scene in (ENTRY, ENTRY.by_hand()):
        assert refusal(scene.reported(**tripped)) == "BREAKER_TRIPPED"
    for scene in (EXIT, EXIT.by_hand(), PROTECTION):
        assert refusal(scene.reported(**tripped)) is None
