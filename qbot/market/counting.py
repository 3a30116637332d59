"""The quotas of sources, as Postgres counts them for all workers: reserved before a request, settled after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection, Engine

from qbot import limits
from qbot.market.plans import COUNTED, Limit, Plan, Span, period, periods
from qbot.store import quotas
from qbot.store.engine import transaction
from qbot.store.quotas import Claim, Period

GUARD = timedelta(seconds=limits.RENEWAL_GUARD_S)


@dataclass(frozen=True, slots=True)
class Refused:
    """The limit that has not enough left, and when it is whole again."""

    limit: Limit
    renews_at: datetime


class Counted:
    """The quotas of one plan. Raises StoreUnavailable without Postgres: then nobody knows what is left."""

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._plan, self._engine = plan, engine
        self._limits = [limit for limit in plan.limits if limit.span in COUNTED]

    def reserve(self, symbols: int, wall: datetime) -> tuple[list[Claim], Refused | None]:
        """Count one request for so many symbols beforehand, in every period that the vendor may count it in."""
        claims = [
            Claim(_key(self._plan, limit, each.begins_at), self._plan.units(limit, symbols), limit.amount)
            for limit in self._limits
            for each in periods(limit, wall)
        ]
        if not claims:
            return [], None
        with transaction(self._engine) as connection:
            refused = quotas.reserve(connection, claims, wall)
        if refused is None:
            return claims, None
        limit = self._plan.of(Span(refused.period.span))
        assert limit is not None
        return [], Refused(limit, period(limit, refused.period.begins_wall).renews_at)

    def settle(self, claims: Sequence[Claim], credits: int | None, wall: datetime) -> None:
        """Put what the source counted in the place of what was reserved. None: it does not say, and that stands."""
        if credits is None:
            return
        less = [claim._replace(units=claim.units - credits) for claim in claims if credits < claim.units]
        more = [claim._replace(units=credits - claim.units) for claim in claims if credits > claim.units]
        if less or more:
            with transaction(self._engine) as connection:
                quotas.give_back(connection, less, wall)
                quotas.add(connection, more, wall)

    def give_back(self, claims: Sequence[Claim], wall: datetime) -> None:
        """The request was not made."""
        if claims:
            with transaction(self._engine) as connection:
                quotas.give_back(connection, claims, wall)

    def use_up(self, wall: datetime) -> datetime | None:
        """The source says that its quota is used up: nothing is left, whoever used it. When to ask again; None where
        the plan has none. It does not say which: the shortest is likeliest, and the next answer tells.

        Just after a renewal it may speak of the period before, by its own clock: that is over soon.
        """
        if not self._limits:
            return None
        limit = self._limits[0]
        found = period(limit, wall)
        sure_at = found.begins_at + GUARD
        if wall < sure_at:
            return sure_at
        with transaction(self._engine) as connection:
            quotas.use_up(connection, [Claim(_key(self._plan, limit, found.begins_at), 0, limit.amount)], wall)
        return found.renews_at


def used(connection: Connection, plans: Iterable[Plan], wall: datetime) -> dict[str, dict[Span, int]]:
    """What is used of each counted limit in its present period, by source: what planning starts from."""
    plans = tuple(plans)
    keys = {
        (plan.source, limit.span): _key(plan, limit, period(limit, wall).begins_at)
        for plan in plans
        for limit in plan.limits
        if limit.span in COUNTED
    }
    found = quotas.used(connection, keys.values())
    return {
        plan.source: {span: found[key] for (source, span), key in keys.items() if source == plan.source}
        for plan in plans
    }


def _key(plan: Plan, limit: Limit, begins_at: datetime) -> Period:
    return Period(plan.source, str(limit.span), begins_at)
