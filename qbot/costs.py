"""What a round trip costs at the venue: half the spread each way, and the fees on the sale. Pure.

Commissions are zero at Alpaca; what is left are the regulator's fees, which only sales pay. Slippage beyond the spread
is not in it: small orders in liquid shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Costs:
    """`half_spread_bps`: of the price, paid at entry and again at exit; 1 bp is usual for the most liquid shares.

    `sec_fee_usd_per_million`: SEC section 31 fee on the proceeds of sales, 27.80 from May 2024 (it changes every year;
    0 for a part of 2025). `taf_usd_per_share`: FINRA's trading activity fee on sold shares, 0.000166 in 2024.
    """

    half_spread_bps: float = 1.0
    sec_fee_usd_per_million: float = 27.80
    taf_usd_per_share: float = 0.000166

    def round_trip_pct(self, price_usd: Array) -> Array:
        """Cost of buying and selling one share at about `price_usd`, as a fraction of it."""
        return np.asarray(
            2.0 * self.half_spread_bps / 1e4 + self.sec_fee_usd_per_million / 1e6 + self.taf_usd_per_share / price_usd,
            dtype=float,
        )


USUAL = Costs()
