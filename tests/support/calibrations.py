"""A calibration in round numbers: a typical move of 0.2 %, an interval of one and a half of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from qbot.calibration import DAY_PARTS, Calibration
from qbot.expected_move import HALF_HOUR, OPENING_SLOTS, VOLATILITIES, ExpectedMove
from qbot.types import SLOTS

TIMES_OF_DAY = SLOTS // HALF_HOUR - 1 + OPENING_SLOTS
ALWAYS_20_BPS = ExpectedMove(
    intercept=math.log(0.002),
    coefficients=(0.0,) * (len(VOLATILITIES) + TIMES_OF_DAY),
    usual=(math.log(0.001),) * len(VOLATILITIES),
)


def calibration(**changed: Any) -> Calibration:
    """Half the interval is 0.3 %, half the wide one 0.6 %."""
    return replace(
        Calibration(
            horizon_minutes=15,
            lean=0.0,
            slope=0.2,
            slope_fitted=0.3,
            slope_error=0.1,
            scale=0.001,
            ratio_max=3.0,
            move=ALWAYS_20_BPS,
            quantiles=(1.5,) * len(DAY_PARTS),
            wide_quantiles=(3.0,) * len(DAY_PARTS),
            rows=100,
            sessions=5,
        ),
        **changed,
    )
