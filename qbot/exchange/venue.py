"""The running exchange: the book with its clock, its journal and those who listen. One asyncio process, no locks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from qbot.errors import ConfigError
from qbot.exchange.account import Ledger
from qbot.exchange.advance import advance, cancel_family
from qbot.exchange.book import Book
from qbot.exchange.faults import Faults
from qbot.exchange.journal import Journal
from qbot.exchange.replay import load_market
from qbot.exchange.stream import Hub

JOURNAL_NAME = "exchange.sqlite"
# After a crash the clock may resume a little behind the journal: the market then waits for it.
CLOCK_BEHIND_MAX = timedelta(hours=1)


@dataclass
class Venue:
    """What every endpoint is given. `now` is market time."""

    book: Book
    journal: Journal
    now: Callable[[], datetime]
    hub: Hub
    faults: Faults
    created_at: datetime
    on_failure: Callable[[], None] = lambda: None
    failed: bool = False

    def fail(self) -> None:
        """Something broke half way: what is in memory counts no longer. Nothing more is written, the process ends."""
        self.failed = True
        self.on_failure()

    def sync(self) -> Book:
        """Let the market catch up with the clock, and return the book as it stands now."""
        self._follow_cancel_fault()
        advance(self.book, self.now())
        self.commit()
        return self.book

    def commit(self) -> None:
        """Write what has changed, then tell it. Nothing is told, or answered, that is not written."""
        if self.failed:
            raise RuntimeError("the exchange has failed and is ending")
        changes = self.book.take_changes()
        if changes:
            self.journal.save(self.book, changes)
            self.hub.publish(changes.events)

    def note(self) -> None:
        """Write the account though no order changed."""
        self.journal.save(self.book, self.book.take_changes())

    def _follow_cancel_fault(self) -> None:
        """Cancels held back by the fault `hold_cancels` are done once it is cleared."""
        was_held, self.book.hold_cancels = self.book.hold_cancels, self.faults.active("hold_cancels")
        if was_held and not self.book.hold_cancels:
            for order in [o for o in self.book.open.values() if o.status == "pending_cancel"]:
                if order.open:
                    cancel_family(self.book, order, self.book.now)


def open_venue(
    home: Path,
    bars_file: Path | None,
    start_cash_usd: Decimal,
    now: Callable[[], datetime],
    faults: Faults | None = None,
) -> Venue:
    """The exchange whose journal is in `home`, as it was left, or a new one with `start_cash_usd`.

    Raises ConfigError if the file of bars cannot be used, or the journal is of another market or time.
    """
    market, sessions = load_market(bars_file, now().date())
    book = Book(market, sessions, Ledger(start_cash_usd, start_cash_usd), now().timestamp())
    journal = Journal(home / JOURNAL_NAME)
    if journal.load(book):
        _check_fits(book, now(), home)
    else:
        journal.save(book, book.take_changes())
    faults = faults or Faults()
    return Venue(book, journal, now, Hub(faults), faults, now())


def _check_fits(book: Book, now: datetime, home: Path) -> None:
    """With other symbols orders would have no prices; from a later market time the market would stand still."""
    what = f"the exchange's journal in {home}"
    unknown = {order.symbol for order in book.orders.values()} - book.market.series.keys()
    if unknown:
        raise ConfigError(f"{what} holds {', '.join(sorted(unknown))}, the replay file does not: remove one of them")
    if book.now - now > CLOCK_BEHIND_MAX:
        raise ConfigError(
            f"{what} is at {book.now}, the market clock at {now}: resume that replay, or remove the journal"
        )
