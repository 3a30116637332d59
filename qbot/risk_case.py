"""What the gate looks at, and what its checks have in common. Pure.

Nothing here is unknown and passes: what is missing becomes NaN, and NaN is over every cap and under no limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from qbot import limits
from qbot.types import (
    Account,
    BrokerOrder,
    IntentKind,
    Position,
    Proposal,
    Quote,
    RiskReport,
    Side,
    Source,
    TradingConfig,
    TradingState,
    Usage,
)

NAN = Decimal("NaN")
UNKNOWN_ACCOUNT = Account(NAN, NAN, NAN, NAN)
Numbers = dict[str, str]


class Whose(StrEnum):
    """The kinds of orders that the checks tell apart. A human's: by hand, or by an emergency action."""

    CYCLE_ENTRY = "cycle's entry"
    HUMAN_ENTRY = "human's entry"
    CYCLE_EXIT = "cycle's exit"
    HUMAN_EXIT = "human's exit"
    PROTECTION = "protection"


class Refusal(NamedTuple):
    """Why a proposal is refused: the name for programs, the message for humans, the numbers that were compared."""

    name: str
    message: str
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Market:
    """Everything outside the settings that the gate looks at. None means unknown, and unknown is denied.

    `settings_at_wall`: when the settings, and all else, began to be read; `wall`: when it is judged.
    """

    now: datetime
    state: TradingState
    latched: bool
    market_open: bool | None
    reconciled: bool
    settings_problem: str | None
    paper_problem: str | None
    account: Account | None
    quotes: Mapping[str, Quote]
    positions: Mapping[str, Position]
    open_orders: Sequence[BrokerOrder]
    max_day_loss_pct: Decimal = limits.MAX_DAY_LOSS_PCT
    risk_report: RiskReport | None = None
    settings_at_wall: datetime | None = None
    wall: datetime | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One proposal with all that is judged about it.

    `known_reserved_usd` was reserved before this run: the broker's buying power has it deducted already.
    `allowed_this_run`: symbol and side of what the same run was allowed before.
    """

    proposal: Proposal
    config: TradingConfig
    market: Market
    usage: Usage
    trades_this_run: int
    known_reserved_usd: Decimal = Decimal(0)
    allowed_this_run: frozenset[tuple[str, Side]] = frozenset()


Check = Callable[[Case], Refusal | None]


def whose(proposal: Proposal) -> Whose:
    """What is neither exit nor protection is judged as an entry, which meets most checks."""
    by_human = proposal.source in (Source.MANUAL, Source.EMERGENCY)
    if proposal.kind is IntentKind.PROTECTION:
        return Whose.PROTECTION
    if proposal.kind is IntentKind.EXIT:
        return Whose.HUMAN_EXIT if by_human else Whose.CYCLE_EXIT
    return Whose.HUMAN_ENTRY if by_human else Whose.CYCLE_ENTRY


def finite(*values: float | Decimal) -> bool:
    """Whether all of them are numbers."""
    return all(v.is_finite() if isinstance(v, Decimal) else math.isfinite(v) for v in values)


def total(*amounts: Decimal) -> Decimal:
    """The sum; NaN if one of them is no number."""
    return sum(amounts, Decimal(0)) if finite(*amounts) else NAN


def over(name: str, message: str, used: Decimal | int, most: Decimal | int) -> Refusal | None:
    """The one shape of a cap: `used` counts the proposal in. What is no number is over every cap."""
    if finite(Decimal(used), Decimal(most)) and used <= most:
        return None
    return Refusal(name, message, {"used": str(used), "limit": str(most)})


def account_of(case: Case) -> Account:
    """The account, of NaN where it is not known."""
    return case.market.account or UNKNOWN_ACCOUNT


def last_price_usd(case: Case) -> Decimal:
    """The last price of the proposal's symbol; NaN where none is known that could be one."""
    quote = case.market.quotes.get(case.proposal.symbol)
    known = quote is not None and finite(quote.price_usd) and quote.price_usd > 0
    return quote.price_usd if quote is not None and known else NAN


def position_qty(case: Case) -> Decimal:
    """Shares held of the proposal's symbol."""
    held = case.market.positions.get(case.proposal.symbol)
    return held.qty if held else Decimal(0)


def position_value_usd(case: Case) -> Decimal:
    """Market value of the proposal's symbol, and of its entries on their way. A short position counts like a long."""
    held = case.market.positions.get(case.proposal.symbol)
    value = held.market_value_usd.copy_abs() if held else Decimal(0)
    return total(value, case.usage.reserved_by_symbol.get(case.proposal.symbol, Decimal(0)))


def exposure_usd(case: Case) -> Decimal:
    """Market value of all positions, short ones counted like long ones, and of all entries still on their way."""
    return total(*(p.market_value_usd.copy_abs() for p in case.market.positions.values()), case.usage.reserved_usd)
