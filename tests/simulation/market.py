"""The made-up market: sessions of real calendar days, random walks with gaps, forecasts, and a feed that may lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from random import Random

from qbot.clock import NEW_YORK
from qbot.errors import ArtifactError, DataUnavailable
from qbot.market.calendar import sessions_between
from qbot.types import Forecast, Quote
from qbot.votes import Technical
from tests.simulation.kernel import SECOND, Kernel, micros, moment
from tests.simulation.venue import Venue, usd

SYMBOLS = ("AAPL", "PEP", "SPY")
FIRST, LAST = date(2025, 1, 2), date(2026, 12, 31)
# Days that a run should not miss: around the changes of the clock, before and after holidays, half days.
SPECIAL = (date(2025, 3, 6), date(2025, 10, 30), date(2025, 11, 26), date(2025, 7, 1), date(2025, 12, 22),
           date(2026, 3, 5), date(2026, 10, 29), date(2026, 11, 24))  # fmt: skip
NAN = Decimal("NaN")


@lru_cache(maxsize=1)
def trading_days() -> list[tuple[int, int]]:
    """Open and close of all sessions the simulation may play, in the kernel's time."""
    begin, end = (datetime(day.year, day.month, day.day, tzinfo=NEW_YORK) for day in (FIRST, LAST))
    return [(micros(opened), micros(closed)) for opened, closed in sessions_between(begin, end)]


def choose_days(rng: Random, count: int) -> list[tuple[int, int]]:
    """Days in a row: anywhere, or across one of the special ones."""
    days = trading_days()
    if rng.random() < 0.3:
        special = rng.choice(SPECIAL)
        first = next(i for i, day in enumerate(days) if moment(day[0]).date() >= special)
    else:
        first = rng.randrange(len(days) - count)
    first = min(first, len(days) - count)
    return days[first : first + count]


@dataclass(slots=True)
class Feed:
    """What the provider and the model tell, with what may be wrong with it; each fault lasts until its moment."""

    kernel: Kernel
    venue: Venue
    faults: dict[str, int] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, int] = field(default_factory=dict)
    struck: dict[str, int] = field(default_factory=dict)
    forecasts: list[Forecast] = field(default_factory=list)
    issued: set[str] = field(default_factory=set)
    runaway_until: int = 0
    lean: dict[str, float] = field(default_factory=dict)
    indicators: dict[str, Technical] = field(default_factory=dict)

    def active(self, name: str) -> bool:
        """Whether a fault is on now; asked for when it takes effect, so it counts."""
        until = self.faults.get(name)
        if until is None:
            return False
        if until < self.kernel.now:
            del self.faults[name]
            return False
        self.struck[name] = self.struck.get(name, 0) + 1
        return True

    def walk(self, gap: float = 0.0) -> None:
        """Prices move on."""
        rng = self.kernel.rng
        drift = gap * (rng.random() * 2 - 1) if gap >= 0 else gap
        for symbol, price_c in list(self.venue.price_c.items()):
            move = 0.0015 * (rng.random() + rng.random() + rng.random() - 1.5) * 2 + drift
            if rng.random() < 0.004:
                move += 0.03 * (rng.random() * 2 - 1)
            self.venue.tick(symbol, max(500, round(price_c * (1 + move))))
        self.indicators = dict.fromkeys(self.venue.price_c, Technical(moment(self.kernel.now), 50.0))

    def quotes(self) -> dict[str, Quote]:
        """The latest prices, as the provider tells them. Raises DataUnavailable."""
        if self.faults:
            return self._bad_quotes()
        at = moment(self.kernel.now - SECOND)
        found = {}
        for symbol, price_c in self.venue.price_c.items():
            spread = max(1, round(price_c / 10_000))
            price, bid, ask = usd(price_c), usd(price_c - spread), usd(price_c + spread)
            found[symbol] = Quote(symbol, price, bid, ask, at, at, "sim")
        return found

    def _bad_quotes(self) -> dict[str, Quote]:
        now = self.kernel.now
        if self.active("provider gone"):
            raise DataUnavailable("the provider does not answer")
        stale, frozen = self.active("stale prices"), self.active("frozen prices")
        nan, split = self.active("NaN prices"), self.active("split-unadjusted prices")
        at = moment(self.since["stale prices"] if stale else now - SECOND)
        found = {}
        for index, (symbol, true_c) in enumerate(self.venue.price_c.items()):
            price_c = self.frozen.get(symbol, true_c) if stale or frozen else true_c
            if split and index == self.since["split-unadjusted prices"] % len(SYMBOLS):
                price_c = price_c * 2 if self.since["split-unadjusted prices"] % 2 else price_c // 2
            price, bid, ask = usd(price_c), usd(price_c - 1), usd(price_c + 1)
            if nan and index % 2 == 0:
                price, ask = (NAN, ask) if now % 3 else (price, NAN)
            if nan and index == 1:
                continue
            found[symbol] = Quote(symbol, price, bid, ask, at, at, "sim")
        return found

    def technicals(self) -> dict[str, Technical]:
        """The indicators stand against nothing: what is played here is what becomes of orders."""
        return self.indicators

    def start(self, name: str, seconds: float) -> None:
        """Something is wrong from now on, for a while."""
        self.faults[name] = self.kernel.now + int(seconds * SECOND)
        self.since[name] = self.kernel.now
        if name in ("stale prices", "frozen prices"):
            self.frozen = dict(self.venue.price_c)

    def predict(self) -> None:
        """New forecasts for every symbol. Raises nothing: without a model the old ones stay."""
        rng, now = self.kernel.rng, moment(self.kernel.now)
        if self.faults and self.active("model file missing"):
            return
        made = []
        for symbol, price_c in self.venue.price_c.items():
            if rng.random() < 0.35:
                self.lean[symbol] = rng.random() * 2 - 0.85
            lean = self.lean.get(symbol, 0.3)
            wild = self.runaway_until > self.kernel.now
            move = (0.05 if rng.random() < 0.5 else -0.05) if wild else 0.012 * lean
            horizon = 60 if rng.random() < 0.7 else 30
            made.append(
                Forecast(
                    f"{symbol}:{horizon}:{self.kernel.now}",
                    symbol,
                    horizon,
                    now,
                    price_c / 100,
                    move,
                    move - 0.003,
                    move + 0.003,
                    0.99 if wild else 0.5 + 0.5 * rng.random(),
                    f"made-up-{horizon}",
                    True,
                )
            )
        self.forecasts = made
        self.issued.update(one.forecast_id for one in made)

    def usable_forecasts(self) -> list[Forecast]:
        """What the model serves. Raises ArtifactError."""
        if self.faults and self.active("model file corrupt"):
            raise ArtifactError("the model file is not the one recorded")
        oldest = moment(self.kernel.now) - timedelta(minutes=60)
        return [one for one in self.forecasts if one.issued_at > oldest]
