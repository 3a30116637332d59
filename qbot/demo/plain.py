"""The demo as a log: one line an event, each event once. Compares each snapshot with those before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from qbot.demo import text as say
from qbot.demo.snapshot import OrderView, Snapshot

STATUS_EVERY = timedelta(minutes=30)  # of market time
Line = tuple[str, str]


@dataclass
class PlainLog:
    """`lines` gives what is new in a snapshot. What happened before the first one with a running market is left out."""

    _since: datetime | None = None
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _last: dict[str, str] = field(default_factory=dict)
    _restarts: dict[str, int] = field(default_factory=dict)
    _errors: int = 0

    def lines(self, snapshot: Snapshot) -> list[str]:
        """The new events as lines, in the order of cause and effect."""
        if self._since is None and snapshot.market_open is not None:
            self._since = snapshot.market
        events = [
            *self._processes(snapshot), *self._sources(snapshot), *self._training(snapshot), *self._session(snapshot),
            *self._trading(snapshot), *self._troubles(snapshot), *self._status(snapshot),
        ]  # fmt: skip
        at = say.ny(snapshot.market, "%a %H:%M") if self._since else " " * 9
        return [f"{snapshot.wall:%H:%M:%S}  {at:9}  {kind:9} {say.one_line(text)}" for kind, text in events]

    def _processes(self, s: Snapshot) -> list[Line]:
        events = []
        for each in s.processes:
            before = self._restarts.get(each.name, 0)
            if each.restarts > before:
                events.append(("process", f"{each.name} ended and is started again (restart {each.restarts})"))
            self._restarts[each.name] = max(before, each.restarts)
            running = each.state == "running" and each.pid is not None
            if running and self._new("pid", f"{each.name} {each.pid}"):
                events.append(("process", f"{each.name} runs (pid {each.pid})"))
        return events

    def _sources(self, s: Snapshot) -> list[Line]:
        events = []
        for source in ("Redis", "Postgres"):
            why = s.problems.get(source, "")
            if self._changed(source, "down" if why else "", ""):
                events.append(("problem", f"{source} does not answer: {why}" if why else f"{source} answers again"))
        return events

    def _training(self, s: Snapshot) -> list[Line]:
        events = []
        if s.training is not None:
            t = s.training
            if self._new("training", f"{t.started} {t.stage} {t.event} {t.detail}"):
                events.append(("training", f"{t.progress:4.0%} {t.stage}: {t.detail}"))
        words = [f"{a.horizon_minutes} min {'skilled' if a.skilled else 'no skill'}" for a in s.artifacts]
        if words and self._changed("models", ", ".join(words)):
            events.append(("models", ", ".join(words)))
        return events

    def _session(self, s: Snapshot) -> list[Line]:
        events = []
        if s.session.wanted is not None and self._changed("wanted", s.session.wanted):
            events.append(("frontend", f"switches trading on, session {s.session.wanted}"))
        status = s.session.backend_status
        if status is not None and self._changed("status", status):
            why = s.session.error if status in ("ERROR", "CONFIG_ERROR") else s.session.reason
            events.append(("state", f"{status}" + (f" ({why})" if why else "")))
        if s.replay_finished and self._new("replay", "end"):
            events.append(("market", "the replayed market is at its end"))
        return events

    def _trading(self, s: Snapshot) -> list[Line]:
        if self._since is None:
            return []
        events = []
        for d in reversed(s.decisions):
            if d.at >= self._since and self._new("decision", d.decision_id):
                events.append(("decision", f"{d.action} {say.shares(d.qty)} {d.symbol}: {d.reason}"))
        for o in reversed(s.orders):
            if o.at >= self._since and not o.protective and self._changed(f"order {o.order_id}", o.status):
                events.append(("order", _order(o)))
        for t in reversed(s.trades):
            if t.at >= self._since and self._new("trade", t.execution_id):
                by = " (stop or target)" if t.protective else ""
                events.append(("trade", f"{t.side.upper()} {say.shares(t.qty)} {t.symbol} @ {t.price_usd:,.2f}{by}"))
        return events

    def _troubles(self, s: Snapshot) -> list[Line]:
        events = [("alert", f"{a.severity} {a.title}: {a.message}") for a in s.alerts if self._new("alert", a.alert_id)]
        fresh = s.error_count - self._errors
        self._errors = s.error_count
        # The same fault again and again is told once; the summary counts.
        return events + [("error", text) for text in s.errors[-fresh:] if fresh > 0 and self._new("error", text)]

    def _status(self, s: Snapshot) -> list[Line]:
        """One line each half hour of the market."""
        if s.market_open is None:
            return []
        slot = s.market - (s.market - datetime.min.replace(tzinfo=s.market.tzinfo)) % STATUS_EVERY
        return [("status", status_words(s))] if self._changed("slot", slot.isoformat()) else []

    def _new(self, kind: str, key: str) -> bool:
        known = (kind, key) in self._seen
        self._seen.add((kind, key))
        return not known

    def _changed(self, name: str, value: str, at_first: str | None = None) -> bool:
        """True when `value` is another than last time; `at_first` is what it is taken for before the first time."""
        changed = self._last.get(name, at_first) != value
        self._last[name] = value
        return changed


def _order(o: OrderView) -> str:
    filled = f", {say.shares(o.filled_qty)} filled" if 0 < o.filled_qty < o.qty else ""
    return f"{o.side.upper()} {say.shares(o.qty)} {o.symbol} {o.order_type}: {o.status}{filled}"


def status_words(s: Snapshot) -> str:
    """Market, money and, where nothing is traded, why."""
    parts = ["open" if s.market_open else "closed"]
    if s.account is not None:
        held = "position" if len(s.positions) == 1 else "positions"
        day = f"{say.signed_usd(s.account.day_change_usd)} ({say.percent(s.account.day_change_pct)})"
        parts += [f"equity {say.usd(s.account.equity_usd)}", f"day {day}", f"{len(s.positions)} {held}"]
    waiting = s.waiting_for()
    if waiting:
        parts.append(f"waiting for {waiting}")
    elif s.refusals:
        most = max(s.refusals, key=lambda group: len(group.symbols))
        parts.append(f"not traded: {len(most.symbols)} × {most.action}, e.g. {most.symbols[0]}: {most.example}")
    return ", ".join(parts)
