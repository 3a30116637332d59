"""Which account the ledger is of, and whether its cash is what the ledger makes of it. Pure."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from qbot import limits
from qbot.types import Account, Opening

PAPER, LIVE, UNKNOWN = "paper", "live", "unknown"
PAPER_PREFIX = "PA"  # the venue's numbers of paper accounts begin with it, those of real ones do not
QBOT = "qbot"
FIRST_SIGHT = "the account that answered first"


def kind(number: str | None) -> str:
    """Whether an account number is that of a paper account."""
    if not number:
        return UNKNOWN
    return PAPER if number.startswith(PAPER_PREFIX) else LIVE


def first_opening(account: Account, at: datetime, wall: datetime) -> Opening:
    """The ledger is of this account from now on; every fill counts. Its cash is reckoned once the positions agree."""
    return Opening(account.account_id, account.number, kind(account.number), at, wall, QBOT, FIRST_SIGHT)


def changed(opening: Opening, account: Account) -> str | None:
    """Why the books are not those of this account; None when they are.

    Where the venue tells no id at all, the number has to do; what was told once must be told again.
    """
    same = (account.account_id or account.number) == (opening.account_id or opening.number)
    if same and account.number == opening.number:
        return None
    ours, theirs = name(opening.number, opening.account_id), name(account.number, account.account_id)
    text = f"ACCOUNT_CHANGED: the ledger is of account {ours}, the broker's keys open account {theirs}"
    if opening.kind != kind(account.number):
        text += f" ({kind(account.number)}, not {opening.kind}: were the keys swapped?)"
    return text


def another(opening: Opening | None) -> bool:
    """Whether an account that the ledger is not of answered last."""
    return opening is not None and (opening.other_account_id is not None or opening.other_number is not None)


def name(number: str | None, account_id: str | None) -> str:
    """How a human knows an account."""
    return number or account_id or "without a number"


def cash_drift(account: Account, opening: Opening | None, flow_usd: Decimal) -> Decimal | None:
    """How much more the broker has than the ledger makes it (negative: less). Zero within a cent; None: not reckoned.

    `flow_usd`: what trades and all else brought in since the opening.
    """
    if opening is None or opening.cash_usd is None:
        return None
    difference = account.cash_usd - opening.cash_usd - flow_usd
    return difference if abs(difference) > limits.CASH_TOLERANCE_USD else Decimal(0)
