"""One round: orders on their way, a fault strikes, it heals, and then broker and ledger have to agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests
from sqlalchemy.exc import SQLAlchemyError

from qbot import limits
from qbot.client import BoardUnavailable
from qbot.errors import StoreUnavailable
from tests.chaos import oracle
from tests.chaos.broker_proxy import Hold
from tests.chaos.faults import Fault
from tests.chaos.oracle import Finding
from tests.chaos.system import System
from tests.chaos.traffic import Traffic

RECOVERED_S, RECONCILED_S = 240.0, 120.0  # a machine that is busy with other things takes long; the times are told
SETTLE_S = limits.ABANDON_INTENT_S + 60.0  # after that QBot has given up an intent that never reached the broker
WARM_UP_S = 1.5  # orders begin to flow before the fault
CAUGHT_S = 5.0  # until a cycle sends its next order
LOOK_S = 0.25
BEHIND = "behind"
END = "the end: every doubt settled"
UNREADABLE = (SQLAlchemyError, StoreUnavailable, requests.RequestException)
HOLDS = (Hold.BEFORE, Hold.AFTER, None)


@dataclass
class Outcome:
    """`in_flight`: intents on their way as it struck. Times in seconds since it healed; None: never."""

    fault: str
    number: int
    in_flight: int = 0
    caught: str = ""
    recovered_s: float | None = None
    reconciled_s: float | None = None
    went_off: bool = False
    entries: int = 0
    exits: int = 0
    by_hand: int = 0
    tripped: list[str] = field(default_factory=list)  # circuit breakers, which need a human
    violations: list[str] = field(default_factory=list)

    @property
    def duplicates(self) -> int:
        return self._count("duplicate")

    @property
    def lost(self) -> int:
        return self._count("lost")

    @property
    def ok(self) -> bool:
        return not self.violations

    def _count(self, kind: str) -> int:
        return sum(one.startswith(f"{kind}:") for one in self.violations)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Rounds:
    """Runs faults against one system. What was found once is not told again."""

    def __init__(self, system: System, seed: int) -> None:
        self.system, self.traffic = system, Traffic(system, seed)
        self._told: set[Finding] = set()

    def close(self) -> None:
        """No orders come any more."""
        self.traffic.close()

    def run(self, fault: Fault, number: int) -> Outcome:
        """One round. Nothing is raised: what went wrong stands in the outcome."""
        outcome = Outcome(fault.name, number)
        try:
            self._round(fault, outcome)
        except Exception as error:  # noqa: BLE001  one broken round must not end an hour of them
            outcome.violations.append(f"broken: {type(error).__name__}: {error}")
            self._clean_up(fault)
        return outcome

    def end(self) -> Outcome:
        """After the last round: every doubt that was left is settled, and the books agree once more."""
        outcome = Outcome(END, 0)
        begun = time.monotonic()
        outcome.recovered_s = self._since(begun, lambda: self._doubts() == 0, SETTLE_S)
        outcome.reconciled_s = self._since(begun, self._agrees, RECONCILED_S)
        if outcome.recovered_s is None:
            outcome.violations.append(f"lost: {self._doubts()} intents are in doubt after {SETTLE_S:.0f} s")
        self._judge(None, outcome)
        return outcome

    def _doubts(self) -> int:
        with suppress(*UNREADABLE):
            return sum(
                one["status"] in ("committed", "in_doubt") for one in oracle.books(self.system.rt.engine).intents
            )
        return -1

    def _round(self, fault: Fault, outcome: Outcome) -> None:
        system = self.system
        system.make_ready()
        before = self._kinds()
        self.traffic.run()
        time.sleep(WARM_UP_S)
        outcome.caught = self._catch(fault, outcome.number)
        outcome.in_flight = oracle.in_flight(oracle.books(system.rt.engine))
        fault.strike(system)
        system.broker_line.release()
        time.sleep(fault.lasts_s)
        fault.heal(system)
        healed = time.monotonic()
        self.traffic.pause()
        outcome.recovered_s = self._since(healed, lambda: self._recovered(fault), RECOVERED_S)
        if outcome.recovered_s is None:
            outcome.violations.append(f"recovered: not within {RECOVERED_S:.0f} s: {self._state(fault)}")
        self._until_handled()
        outcome.reconciled_s = self._since(healed, self._agrees, RECONCILED_S)
        outcome.went_off = not system.switch().on
        outcome.tripped = system.tripped()
        self._judge(fault, outcome)
        for kind, count in self._kinds().items():
            setattr(outcome, kind, count - before[kind])
        self._cancel_what_rests()

    def _catch(self, fault: Fault, number: int) -> str:
        """Waits for an order on the wire: before the broker has it, or before QBot has the answer; now and then not."""
        where = HOLDS[number % len(HOLDS)] if fault.holds else None
        if where is None:
            return ""
        self.system.broker_line.hold_next(where)
        return str(where) if self.system.broker_line.caught.wait(CAUGHT_S) else ""

    def _since(self, begun: float, done: Callable[[], bool], within_s: float) -> float | None:
        deadline = time.monotonic() + within_s
        while not done():
            if time.monotonic() > deadline:
                return None
            time.sleep(LOOK_S)
        return round(time.monotonic() - begun, 2)

    def _recovered(self, fault: Fault) -> bool:
        """Every process runs, what was asked for is done, and a cycle has begun since, without an error."""
        if not self.system.all_run() or self._missing(fault):
            return False
        with suppress(TimeoutError):
            self.system.wait_for_cycle(5.0)
            return self.system.all_run()
        return False

    def _missing(self, fault: Fault) -> str | None:
        try:
            self.system.venue.look()
            return fault.missing(self.system)
        except UNREADABLE as error:
            return str(error)

    def _state(self, fault: Fault) -> str:
        missing = self._missing(fault)
        if missing:
            return missing
        states = {each["name"]: each["state"] for each in self.system.whole.processes() if each["state"] != "running"}
        with suppress(*UNREADABLE):
            return f"{states or 'all run'}, the newest cycle: {self.system.cycle()}"
        return f"{states or 'all run'}, Postgres cannot be read"

    def _until_handled(self) -> None:
        """Every order asked for by hand is claimed; one that QBot never saw is asked for again with its id."""
        deadline = time.monotonic() + 20.0
        while self.traffic.unsure and time.monotonic() < deadline:
            with suppress(*UNREADABLE, BoardUnavailable):
                claimed = {claim["key"] for claim in oracle.books(self.system.rt.engine).manual}
                self.traffic.unsure -= claimed
                if self.traffic.unsure - self.traffic.on_the_board():
                    again = set(self.traffic.unsure)
                    self.traffic.ask_again()
                    self.traffic.unsure |= again
                self.system.tick("process_manual_orders")
            time.sleep(0.5)

    def _findings(self) -> list[Finding]:
        system, posts = self.system, self.system.broker_line.posts
        found = oracle.compare(system.rt.engine, system.venue, posts, lambda: datetime.now(UTC), SETTLE_S)
        return [*found, *oracle.repeated_by_hand(system.venue, self.traffic.prefixes)]

    def _agrees(self) -> bool:
        with suppress(*UNREADABLE):
            return not any(finding.kind == BEHIND for finding in self._findings())
        return False

    def _judge(self, fault: Fault | None, outcome: Outcome) -> None:
        for finding in self._findings():
            if finding.kind == BEHIND and outcome.reconciled_s is not None:
                continue  # they agreed a moment ago; the market goes on
            if finding not in self._told:
                self._told.add(finding)
                outcome.violations.append(f"{finding.kind}: {finding.what}")
        if self.traffic.unsure:
            outcome.violations.append(f"lost: orders by hand that nobody claimed: {sorted(self.traffic.unsure)}")
            self.traffic.unsure.clear()
        if fault is not None and fault.leaves_off and not outcome.went_off:
            outcome.violations.append("halted: trading is on again without a human")

    def _kinds(self) -> dict[str, int]:
        """How many orders of each kind stood at the venue or were refused there."""
        intents = oracle.books(self.system.rt.engine).intents
        automatic = [one for one in intents if one["client_order_id"].startswith(oracle.AUTOMATIC)]
        entries = sum(one["kind"] == "entry" for one in automatic)
        by_hand = sum(one["source"] == "manual" for one in intents)
        return {"entries": entries, "exits": len(automatic) - entries, "by_hand": by_hand}

    def _cancel_what_rests(self) -> None:
        """A human's resting orders, at the broker and past QBot, which has to notice."""
        for order in list(self.system.venue.orders.values()):
            if order["type"] == "limit" and order["side"] == "buy" and order["status"] in ("new", "accepted"):
                with suppress(requests.RequestException):
                    self.system.at_exchange("DELETE", f"/v2/orders/{order['id']}")

    def _clean_up(self, fault: Fault) -> None:
        self.traffic.pause()
        self.system.broker_line.release()
        with suppress(Exception):
            fault.heal(self.system)
