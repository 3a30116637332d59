"""How fresh prices can be with the sources at hand, and in plain words why not fresher. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from qbot import limits
from qbot.market.calendar import Session
from qbot.market.pacing import Rules, Source, at_once, is_open, rate
from qbot.market.planning import Wanted
from qbot.market.plans import COUNTED, FREE, Limit, Plan, Unit, period

FRESH_MINUTES = limits.QUOTE_MAX_AGE_S / 60


@dataclass(frozen=True, slots=True)
class Group:
    """Tickers that are alike. `minutes` between two prices of one of them, at worst; None: there is none.

    `per_pass`: how many of them a pass has room for. `by`: the sources that give them.
    """

    urgent: bool
    symbols: tuple[str, ...]
    minutes: float | None
    per_pass: float
    by: tuple[str, ...]

    @property
    def fresh(self) -> bool:
        """Whether their prices stay young enough to enter on."""
        return self.minutes is not None and self.minutes <= FRESH_MINUTES


@dataclass(frozen=True, slots=True)
class _Room:
    """What a pass has room for of one source, in symbols: of the urgent, and of the others."""

    plan: Plan
    urgent: float
    others: float


def reachable(
    wanted: Sequence[Wanted], sources: Sequence[Source], now: datetime, sessions: Sequence[Session],
    rules: Rules = Rules(),
) -> tuple[Group, ...]:  # fmt: skip
    """The urgent tickers and the others, each with the freshness of their prices in the session of `now`, or the next.

    Reckoned as `planning.plan` shares out: the urgent first, with a second opinion, then the others.
    """
    rooms = _rooms(sources, now, sessions, rules)
    urgent = tuple(one.symbol for one in wanted if one.urgent)
    others = tuple(one.symbol for one in wanted if not one.urgent)
    taken: dict[str, float] = {}
    left = float(len(urgent))
    for room in rooms:
        taken[room.plan.source] = min(room.urgent, left)
        left -= taken[room.plan.source]
    primary, compared = dict(taken), len(urgent) * (rules.opinions - 1.0)
    for room in sorted(rooms, key=lambda room: room.plan.metered):
        name = room.plan.source
        more = max(0.0, min(room.urgent - taken[name], len(urgent) - primary[name], compared))
        taken[name] += more
        compared -= more
    groups = [_group(True, urgent, {room.plan.source: room.urgent for room in rooms}, rules)] if urgent else []
    free = {room.plan.source: max(0.0, room.others - taken[room.plan.source]) for room in rooms}
    return (*groups, _group(False, others, free, rules)) if others else tuple(groups)


def _group(urgent: bool, symbols: tuple[str, ...], room: dict[str, float], rules: Rules) -> Group:
    by: list[str] = []
    for name, symbols_per_pass in room.items():
        if symbols_per_pass > 0 and sum(room[one] for one in by) < len(symbols):
            by.append(name)
    per_pass = min(float(len(symbols)), sum(room.values()))
    minutes = rules.pass_s / 60 * len(symbols) / per_pass if per_pass > 0 else None
    return Group(urgent, symbols, minutes, per_pass, tuple(by))


def _rooms(
    sources: Sequence[Source], now: datetime, sessions: Sequence[Session], rules: Rules
) -> list[_Room]:  # fmt: skip
    """Of the sources that have live prices and can be asked, in the order of asking."""
    at = now
    if not is_open(sessions, now):
        at = min((begin for begin, _ in sessions if begin > now), default=now)
    by_name = {source.plan.source: _as_of(source, now, at) for source in sources if source.plan.live}
    found = [by_name[name] for name in rules.order if name in by_name and by_name[name].closed is None]
    return [
        _Room(
            source.plan,
            *(
                min((_symbols(source, limit, at, sessions, rules, urgent) for limit in source.plan.limits), default=1e9)
                for urgent in (True, False)
            ),
        )
        for source in found
    ]


def _as_of(source: Source, now: datetime, at: datetime) -> Source:
    """With the quotas that are renewed by then whole again."""
    limits_of = [limit for limit in source.plan.limits if limit.span in COUNTED]
    same = {limit.span for limit in limits_of if period(limit, now) == period(limit, at)}
    return replace(source, used={span: count for span, count in source.used.items() if span in same})


def _symbols(
    source: Source, limit: Limit, at: datetime, sessions: Sequence[Session], rules: Rules, urgent: bool
) -> float:  # fmt: skip
    """How many symbols a pass has room for under one limit. What is set aside for other needs is no room."""
    once = at_once(limit, rules)
    units = float(once) if once is not None else (
        rate(source, limit, at, sessions, rules, live=True, urgent=urgent).per_pass * (1.0 - rules.aside_share)
    )  # fmt: skip
    return units if limit.unit is Unit.SYMBOLS else units * source.plan.symbols_per_call


# --- in words ---------------------------------------------------------------------------------------------------------


def advice(
    groups: Sequence[Group], wanted: Sequence[Wanted], sources: Sequence[Source], now: datetime,
    sessions: Sequence[Session], rules: Rules = Rules(),
) -> list[str]:  # fmt: skip
    """What a human should know: what is not possible, why, and what would make it so."""
    said = [f"{source.plan.source}: {source.closed}." for source in sources if source.closed]
    said += [f"{s.plan.source}: {s.plan.note}" for s in sources if not s.plan.live and s.plan.note]
    live = [source for source in sources if source.plan.live and source.closed is None]
    if len(live) == 1:
        said.append(f"Only {live[0].plan.source} has live prices here: nobody contradicts it when it is wrong.")
    late = [group for group in groups if not group.fresh]
    said += [_not_fresh(group, alone=len(groups) == 1) for group in late]
    if late:
        said += _remedies(late, wanted, sources, now, sessions, rules)
    return said


def _not_fresh(group: Group, *, alone: bool) -> str:
    who = f"The {len(group.symbols)} {'tickers' if alone else 'others'}"
    if group.urgent:
        who = "What is held or ordered"
    if group.minutes is None:
        return f"{who} cannot be followed: no source that can be asked has room for a live price of them."
    allowed = f"{' and '.join(group.by)} {'allow' if len(group.by) > 1 else 'allows'}"
    return (
        f"{who} cannot stay fresh: {allowed} {group.per_pass:.1f} of them a pass, so that each has its turn after "
        f"{_words(group.minutes)}. A price over {FRESH_MINUTES:.0f} minutes old blocks entries."
    )


def _remedies(
    late: Sequence[Group], wanted: Sequence[Wanted], sources: Sequence[Source], now: datetime,
    sessions: Sequence[Session], rules: Rules,
) -> list[str]:  # fmt: skip
    said = []
    others = next((group for group in late if not group.urgent), None)
    if others is not None and others.per_pass > 0:
        room = int(others.per_pass * limits.QUOTE_MAX_AGE_S / rules.pass_s)
        said.append(f"Up to {room} of them would stay fresh: name fewer tickers in QBOT_TICKERS, or add a key.")
    at_hand = {source.plan.source for source in sources}
    for plan in _missing(at_hand, rules):
        groups = reachable(wanted, [*sources, Source(plan)], now, sessions, rules)
        if groups and all(group.fresh for group in groups):
            slowest = max(group.minutes or 0.0 for group in groups)
            how = "Yahoo switched on" if plan.keyless else f"a free key of {plan.source}"
            said.append(f"With {how} every ticker would have a price every {_words(slowest)}.")
    return said


def _missing(at_hand: Iterable[str], rules: Rules) -> list[Plan]:
    known = set(at_hand)
    return [FREE[name] for name in rules.order if name not in known and FREE[name].live]


def _words(minutes: float) -> str:
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.1f} hours"
