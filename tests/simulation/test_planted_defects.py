"""Planted defects: each is noticed, and by the oracle whose business it is. A check that cannot fail proves nothing."""

from __future__ import annotations

import pytest

from tests.simulation.defects import PLANTED, planted
from tests.simulation.running import DAYS_A_SEED, Outcome, play

SEEDS = 150
# The seed that met each defect soonest, and of how many days. It is tried first; where a change of the product makes it
# miss it, all the others are played, for as many days as elsewhere.
MET = {
    "retry the POST": (12, 1), "retry the POST under a new id": (12, 1), "reserve after commit": (0, 1),
    "trust 'not found'": (11, 1), "give up by the wall's clock alone": (158, 1),
    "no look at the switch before sending": (42, 1), "record fills twice": (0, 1),
    "do not release the shares": (0, 1), "settle no doubt": (15, 1), "ask for new fills only": (3, 1),
    "put no protection back": (24, 1), "gate without EMERGENCY_LATCHED and TRADING_OFF": (42, 1),
    "gate without NOT_RECONCILED": (43, 1), "gate without QUOTE_STALE": (15, 1), "gate without COOLDOWN": (0, 1),
    "gate without MAX_TRADES_PER_RUN": (3, 1), "gate without MAX_DAILY_TRADES": (1, 1),
    "gate without MAX_POSITION_PER_TICKER": (0, 1), "gate without MAX_SHARES_PER_ORDER": (94, 1),
    "gate without MAX_POSITION_PCT": (2, 1), "gate without DAILY_NOTIONAL_CAP": (2, 1),
    "gate without TRADING_CAPITAL": (10, 1), "gate without CASH_RESERVE": (3, 1), "gate without EXCLUDED": (5, 1),
    "gate without MARKET_CLOSED": (2, 1), "gate without LIVE_NOT_ALLOWED": (50, 1),
    "gate without TARGET_DIVERSIFICATION": (1, 1), "drop the lock": (102, 5), "gate without DAY_LOSS": (46, 5),
}  # fmt: skip


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_caught(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, patches, invariants = PLANTED[defect]
    planted(patches, monkeypatch.setattr)
    caught: Outcome | None = None
    for seed, days in (MET[defect], *((seed, DAYS_A_SEED) for seed in range(SEEDS))):
        found = play(seed, days, defects=parts)
        if found.violations:
            caught = found
            break
    assert caught is not None, f"{defect} was not noticed in {SEEDS} seeds"
    noticed_by = {text.split(" ")[0] for text in caught.violations}
    assert noticed_by & invariants, caught.violations
