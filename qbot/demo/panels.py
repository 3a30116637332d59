"""The parts of the live view, each a list of lines or a panel made from a snapshot. Pure; made for any width.

Colours carry no meaning of their own and go with light and dark terminals: the default foreground, dim, and a few
middle tones.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import ROUNDED
from rich.panel import Panel
from rich.text import Text

from qbot.demo import text as say
from qbot.demo.snapshot import DecisionView, Phase, RefusalGroup, Snapshot, TradeView

GOOD, BAD, CARE, MUTED = "green", "red", "dark_orange3", "dim"
PROCESS_ROWS, TROUBLE_ROWS = 4, 3  # at most: decisions need the room
_STATUS_STYLE = {"RUNNING": GOOD, "MARKET_CLOSED": CARE, "STOPPED": CARE, "ERROR": BAD, "CONFIG_ERROR": BAD}
_PROCESS_STYLE = {"running": GOOD, "starting": CARE, "restarting": CARE, "stopped": BAD}
_INTENT_WORDS = {
    "committed": "to send",
    "in_doubt": "in doubt",
    "sent": "",  # at the broker, or done: the trades tell
    "closed": "",
    "rejected": "rejected",
    "denied": "denied",
    "abandoned": "given up",
}


_TRADE_WORDS = {"ml_prediction": ""}  # the usual case needs no word


def frame(title: str, lines: Iterable[Text], subtitle: str | None = None) -> Panel:
    """A panel of lines that are cut at its edge, never wrapped."""
    body = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
    body.no_wrap, body.overflow = True, "ellipsis"
    return Panel(
        body, title=f"[bold]{title}[/]", title_align="left", subtitle=subtitle, box=ROUNDED, border_style=MUTED
    )


def line(*parts: str | tuple[str, str]) -> Text:
    """One line; a part is text, or text with its style."""
    made = Text(no_wrap=True, overflow="ellipsis")
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        made.append(say.printable(words), style)
    return made


def header(snapshot: Snapshot) -> list[Text]:
    """Market time, hours, speed; then whether QBot trades, and if not, what it waits for."""
    s = snapshot
    if s.market_open is None:
        market: list[str | tuple[str, str]] = [("the market's clock is not running yet", MUTED)]
    else:
        hours = ("OPEN", f"bold {GOOD}") if s.market_open else ("CLOSED", f"bold {CARE}")
        market = [(say.ny(s.market, "%a %d %b %Y %H:%M:%S"), "bold"), " New York  ", hours]
    pace = f"  {s.speed:g}× replay" if s.speed != 1 else ""
    left = f" of {s.minutes:g} min" if s.minutes is not None else ""
    first = line(("QBot demo  ", "bold cyan"), *market, (f"{pace}  up {say.duration(s.running_s)}{left}", MUTED))
    return [first, _state_line(s)]


def _state_line(s: Snapshot) -> Text:
    status = s.session.backend_status or ("unknown" if s.problems else "not started")
    parts: list[str | tuple[str, str]] = [(status, f"bold {_STATUS_STYLE.get(status, CARE)}")]
    waiting = s.waiting_for()
    if waiting is not None:
        return line(*parts, "  waiting for ", (waiting, "bold"))
    session = s.session.active or s.session.wanted
    return line(*parts, "  trading for session ", (session or "none", "cyan"))


def portfolio(snapshot: Snapshot, rows: int, width: int) -> Panel:
    """Equity, the day's change with its curve, cash, and positions with what they gained."""
    account = snapshot.account
    if account is None:
        return frame("Portfolio", [line(("no account yet", MUTED))])
    day = GOOD if account.day_change_usd > 0 else BAD if account.day_change_usd < 0 else ""
    change = f"{say.signed_usd(account.day_change_usd)} ({say.percent(account.day_change_pct)})"
    curve = say.sparkline(account.curve, max(0, min(30, width - len(change) - 6)))
    lines = [
        line("equity ", (say.usd(account.equity_usd), "bold"), "  cash ", say.usd(account.cash_usd)),
        line("day ", (change, f"bold {day}".strip()), "  ", (curve, "cyan")),
    ]
    shown = sorted(snapshot.positions, key=lambda p: -p.value_usd)[: max(rows - len(lines), 0)]
    for p in shown:
        gain = (f"{say.signed_usd(p.unrealized_usd):>10}", GOOD if p.unrealized_usd >= 0 else BAD)
        lines.append(line((f"{p.symbol:<5}", "bold"), f"{say.shares(p.qty):>5} @ {p.entry_usd:>9,.2f}", gain))
    if not snapshot.positions:
        lines.append(line(("no positions", MUTED)))
    hidden = len(snapshot.positions) - len(shown)
    return frame("Portfolio", lines, f"{hidden} more positions" if hidden > 0 else None)


def trades(snapshot: Snapshot, rows: int) -> Panel:
    """The last executions, newest first."""
    lines = [trade_line(each) for each in snapshot.trades[: max(rows, 0)]]
    resting = sum(1 for each in snapshot.orders if each.protective and each.status in ("new", "held", "accepted"))
    note = f"resting stops and targets: {resting}" if resting else None
    return frame("Last trades", lines or [line(("none yet", MUTED))], note)


def trade_line(trade: TradeView) -> Text:
    """09:42 BUY 10 AAPL @ 231.12, and who asked for it where no forecast did"""
    side = ("BUY ", f"bold {GOOD}") if trade.side == "buy" else ("SELL", f"bold {BAD}")
    by = "stop or target" if trade.protective else _TRADE_WORDS.get(trade.source, trade.source)
    return line(
        (say.ny(trade.at), MUTED), " ", side, f"{say.shares(trade.qty):>4} ", (f"{trade.symbol:<5}", "bold"),
        f" @ {trade.price_usd:,.2f} ", (by, MUTED),
    )  # fmt: skip


def decisions(snapshot: Snapshot, rows: int) -> Panel:
    """What became an order and why, then why the rest of the last cycle did not; training before there are models."""
    if not snapshot.artifacts:
        return frame("Training", training(snapshot))
    refused = [refusal_line(each) for each in snapshot.refusals]
    room = max(rows - min(len(refused) + 1, rows // 2 + 1), 1)
    lines = [decision_line(each) for each in snapshot.decisions[:room]]
    if not lines:
        lines = [line(("no order yet", MUTED))]
    if refused and snapshot.cycle_at is not None:
        at = say.ny(snapshot.cycle_at)
        lines += [line((f"not traded in the cycle of {at}, and why", "italic")), *refused]
    return frame("Decisions", lines[: max(rows, 1)])


def decision_line(decision: DecisionView) -> Text:
    """09:40 BUY 10 AAPL 60 min: forecast +0.031% is over the buy threshold +0.020%"""
    side = (f"{decision.action:<4}", f"bold {GOOD if decision.action == 'BUY' else BAD}")
    status = _INTENT_WORDS.get(decision.status, decision.status)
    word = (f"{status}: ", BAD if decision.error else CARE) if status else ""
    return line(
        (say.ny(decision.at), MUTED), " ", side, f"{say.shares(decision.qty):>4} ", (f"{decision.symbol:<5}", "bold"),
        " ", word, decision.error or decision.reason,
    )  # fmt: skip


def refusal_line(group: RefusalGroup) -> Text:
    """HOLD META +7  60 min: forecast +0.012% lies between the thresholds"""
    more = f" +{len(group.symbols) - 1}" if len(group.symbols) > 1 else ""
    name = "" if group.action == "HOLD" or not group.refusal else f"{group.refusal}: "
    who = f"{group.symbols[0]}{more}" if group.symbols else ""
    return line((f"{group.action:<4} ", MUTED), (f"{who:<9} ", "bold"), (name, CARE), group.example)


_LEARNING = (
    line(""),
    line(("The models learn from the weeks before the replayed days.", MUTED)),
    line(("After that QBot forecasts, decides and trades: less than two minutes.", MUTED)),
)


def training(snapshot: Snapshot) -> list[Text]:
    """Stage and progress of the training that makes the first models."""
    status = snapshot.training
    if status is None:
        return [line("no models yet; the first training begins when the bars are there"), *_LEARNING]
    colour = BAD if status.stage.value == "failed" else "cyan"
    return [
        line((say.meter(status.progress, 30), colour), f" {status.progress:.0%}  ", (status.stage.value, "bold")),
        line(status.detail),
        *_LEARNING,
    ]


def system(snapshot: Snapshot, width: int) -> Panel:
    """Processes, what the forecasts are worth, and what is wrong."""
    lines = [*_processes(snapshot, width), _forecasts(snapshot), *_troubles(snapshot)]
    return frame("System", lines)


def system_rows(snapshot: Snapshot, width: int) -> int:
    """How high the system panel wants to be, its frame included."""
    return len(_processes(snapshot, width)) + 1 + len(_troubles(snapshot)) + 2


def _processes(snapshot: Snapshot, width: int) -> list[Text]:
    """`● redis 4711 ×1` after each other, on as many lines as they need; pids where there is room for them."""
    if not snapshot.processes:
        return [line(("no processes yet", MUTED))]
    with_pids = width >= 110
    lines, used = [Text(no_wrap=True)], 0
    for each in snapshot.processes:
        to_come = each.state == "stopped" and snapshot.phase is Phase.STARTING
        words = each.name.removeprefix("worker-") if not with_pids else each.name
        words += f" {each.pid}" if with_pids and each.pid else ""
        words += " to start" if to_come else f" {each.state}" if each.state != "running" else ""
        words += f" ×{each.restarts}" if each.restarts else ""
        if used and used + len(words) + 4 > width:
            lines.append(Text(no_wrap=True))
            used = 0
        lines[-1].append("● ", MUTED if to_come else _PROCESS_STYLE.get(each.state, CARE)).append(f"{words}  ")
        used += len(words) + 4
    return lines[:PROCESS_ROWS]


def _forecasts(s: Snapshot) -> Text:
    if not s.artifacts:
        return line("forecasts  ", ("no models yet", MUTED))
    parts: list[str | tuple[str, str]] = [f"forecasts for {s.forecasts_current} tickers  "]
    for each in s.artifacts:
        gain = (
            f" ({say.percent(each.gain_pct)} against no change)" if each.skilled and each.gain_pct is not None else ""
        )
        word = (f"skilled{gain}", GOOD) if each.skilled else ("no skill", CARE)
        parts += [f"{each.horizon_minutes} min ", word, "  "]
    if not any(each.skilled for each in s.artifacts):
        parts.append(("traded on the paper exchange only", MUTED))
    return line(*parts)


def _troubles(s: Snapshot) -> list[Text]:
    """What a human should see: sources that are down, alerts, errors in the logs."""
    found = [line((f"{source} does not answer: ", f"bold {BAD}"), why) for source, why in s.problems.items()]
    if s.alerts:
        worst = min(s.alerts, key=lambda a: ("CRITICAL", "WARNING", "INFO").index(a.severity))
        more = f"  (+{len(s.alerts) - 1})" if len(s.alerts) > 1 else ""
        style = BAD if worst.severity == "CRITICAL" else CARE
        found.append(line((f"{worst.severity} ", f"bold {style}"), f"{worst.title}: {worst.message}", (more, MUTED)))
    if s.session.error:
        found.append(line(("autotrading:error ", f"bold {BAD}"), s.session.error))
    if s.errors:
        found.append(line((f"{s.error_count} errors in the logs, the last: ", f"bold {BAD}"), s.errors[-1]))
    return found[:TROUBLE_ROWS]


def footer(snapshot: Snapshot) -> list[Text]:
    """Where Flower and Redis are, how to log in, and how to stop."""
    access = snapshot.access
    return [
        line(("Flower ", MUTED), access.flower_url, (" user ", MUTED), access.flower_user, (" password in ", MUTED),
             access.secrets_file),
        line(("Redis  ", MUTED), access.redis, ("   logs ", MUTED), access.logs, ("   stop ", MUTED),
             ("Ctrl-C", "bold")),
    ]  # fmt: skip
