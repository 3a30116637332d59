"""A QBot for tests: real stores, the real client, the paper exchange, and times that only the test moves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from qbot import clock, committing, execution, reconciliation, risk
from qbot.committing import Judged
from qbot.contract.board import connect
from qbot.contract.key import Key
from qbot.exchange.account import Ledger
from qbot.exchange.book import Book
from qbot.exchange.faults import Fault, Faults
from qbot.exchange.journal import Journal
from qbot.exchange.orders import Changes
from qbot.reconciliation import Books
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.store import models, state, tables
from qbot.store.engine import make_engine, transaction
from qbot.types import (
    Forecast,
    IntentKind,
    OrderType,
    Proposal,
    Quote,
    RiskReport,
    Side,
    Signal,
    Source,
    TimeInForce,
    TradingConfig,
    TradingState,
)
from tests.support.exchange import KEY, MID_SESSION, SECRET, ManualClock, ManualUptime, RunningExchange, exchange_thread
from tests.support.processes import settings_for
from tests.support.servers import RedisServer

WALL = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
CASH_USD = Decimal("100000")
TICKERS = ("AAPL", "MSFT", "SPY")
ABOUT_USD = (210.0, 498.0, 622.0)  # what they cost at MID_SESSION
Row = dict[str, Any]

# As the frontends' documents have it, with thresholds that fit the horizons and room for a few orders.
SESSION = {
    "enabled": True,
    "buy_threshold_pct": 0.001,
    "sell_threshold_pct": 0.001,
    "max_position_per_trade": 5,
    "strategy": "MODERATE",
    "timestamp": "2025-09-26T13:15:30.123Z",
    "source": "frontend_ui",
    "market_hours_check": True,
    "session_id": "frontend_1727354130123",
    "trading_hours": {"market_open": "09:30", "market_close": "16:00", "timezone": "America/New_York"},
}
CONFIG = TradingConfig(max_position_per_trade=5, max_position_size=10, ml_confidence_threshold=0.5)


class Unwritten(Journal):
    """A journal that forgets at once: one exchange serves many tests, each with a new book."""

    def __init__(self) -> None:
        """Open nothing."""

    def save(self, book: Book, changes: Changes) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Close nothing."""


@dataclass(slots=True)
class Watched(Faults):
    """Faults that also count: every request is noted as it comes in, refused or not."""

    seen: list[tuple[str, str]] = field(default_factory=list)

    def take(self, method: str, path: str) -> list[Fault]:
        """Note the request, then as ever."""
        self.seen.append((method, path))
        return Faults.take(self, method, path)


@dataclass
class MarketPlace:
    """The exchange of a whole test session."""

    running: RunningExchange
    faults: Watched

    def renew(self) -> None:
        """An empty account at MID_SESSION, no faults, nothing counted."""
        venue = self.running.venue
        assert venue is not None and not venue.failed
        self.running.clock.set(MID_SESSION)
        old = venue.book
        new = Book(old.market, old.sessions, Ledger(CASH_USD, CASH_USD), MID_SESSION.timestamp(), partial_one_in=0)
        venue.book = new
        self.faults.clear()
        self.faults.seen.clear()


@contextmanager
def market_place(home: Path) -> Iterator[MarketPlace]:
    """Starts the exchange."""
    faults = Watched()
    with exchange_thread(home, faults=faults) as running:
        assert running.venue is not None
        running.venue.journal.close()
        running.venue.journal = Unwritten()
        yield MarketPlace(running, faults)


@dataclass
class World:
    """One QBot with everything around it. `rt` is a running worker; `another()` is a second one, or a restarted one."""

    rt: Runtime
    place: MarketPlace
    redis: redis.Redis
    wall: ManualClock
    uptime: ManualUptime

    @property
    def engine(self) -> Engine:
        return self.rt.engine

    @property
    def exchange(self) -> RunningExchange:
        return self.place.running

    @property
    def market(self) -> ManualClock:
        return self.exchange.clock

    def another(self, **more: Any) -> Runtime:
        """A new process's view of the same stores, broker and times; `more` changes its settings."""
        settings = self.rt.settings.model_copy(update=more)
        return Runtime(settings, connect(settings), self.engine, self.wall, self.market, self.uptime)

    def without_postgres(self) -> Runtime:
        """As `another`, with nobody listening where Postgres should be."""
        dead = make_engine("postgresql+psycopg2://qbot:secret@127.0.0.1:1/qbot")
        return Runtime(self.rt.settings, connect(self.rt.settings), dead, self.wall, self.market, self.uptime)

    def without_redis(self) -> Runtime:
        """As `another`, with nobody listening where Redis should be."""
        settings = self.rt.settings.model_copy(update={"redis_port": 1})
        return Runtime(settings, connect(settings), self.engine, self.wall, self.market, self.uptime)

    # --- the frontend ---

    def say(self, key: Key[Any], value: object) -> None:
        """A frontend's write: text as it is, anything else as JSON."""
        self.redis.set(key.name, value if isinstance(value, str) else json.dumps(value))

    def told(self, key: Key[Any]) -> Any:
        """What a frontend reads; fails on anything the contract does not allow."""
        reading = self.rt.board.read(key)
        assert reading.problem is None, f"{key.name}: {reading.problem}"
        return reading.value

    # --- what stands at the venue ---

    def orders(self) -> list[Row]:
        """Every order the venue ever took, legs included, oldest first."""
        query = {"status": "all", "limit": "500", "nested": "false", "direction": "asc"}
        found: list[Row] = self.exchange.call("GET", "/v2/orders", params=query).json()
        return found

    def sent(self) -> list[Row]:
        """The orders that were asked for: no legs."""
        return [order for order in self.orders() if order["client_order_id"].startswith("qbot-")]

    def resting(self, side: str | None = None) -> list[Row]:
        """Open orders, legs included."""
        shut = {"filled", "canceled", "expired", "rejected", "replaced"}
        return [order for order in self.orders() if order["status"] not in shut and side in (None, order["side"])]

    def positions(self) -> dict[str, Decimal]:
        """Shares held, by symbol."""
        found = self.exchange.call("GET", "/v2/positions").json()
        return {position["symbol"]: Decimal(position["qty"]) for position in found}

    def posts(self) -> int:
        """How many times anybody tried to place an order."""
        return sum(request == ("POST", "/v2/orders") for request in self.place.faults.seen)

    def by_hand(self, **body: object) -> Row:
        """An order placed at the venue itself, past QBot."""
        answer = self.exchange.call("POST", "/v2/orders", json={"type": "market", "time_in_force": "day", **body})
        assert answer.status_code == 200, answer.text
        placed: Row = answer.json()
        return placed

    def price(self, symbol: str) -> Decimal:
        """The last trade."""
        return self.rt.data.latest([symbol], self.wall())[symbol].price_usd

    # --- what stands in Postgres ---

    def rows(self, table: sa.Table) -> list[Row]:
        """All rows of a table, in the order of its key."""
        with self.engine.connect() as connection:
            found = connection.execute(table.select().order_by(*table.primary_key.columns)).mappings()
            return [dict(row) for row in found]

    def intents(self) -> dict[str, str]:
        """The status of each intent, by symbol and side."""
        return {f"{row['symbol']} {row['side']}": row["status"] for row in self.rows(tables.intents)}

    def refusals(self) -> dict[str, str | None]:
        """The named refusal of each decision, by symbol; None where it was allowed."""
        return {row["symbol"]: row["refusal"] for row in self.rows(tables.decisions)}

    def alerts(self) -> list[tuple[str, str]]:
        """Severity and title of every alert, oldest first; but for the news of orders that were filled."""
        news = [row for row in self.rows(tables.alerts) if (row["severity"], row["type"]) != ("INFO", "TRADE_ALERT")]
        rows = sorted(news, key=lambda row: (row["triggered_at_wall"], row["title"]))
        return [(row["severity"], row["title"]) for row in rows]

    def believe(self, symbol: str, return_pct: float, *, horizon: int = 60, confidence: float = 0.9) -> Forecast:
        """A forecast of a standing artifact that nobody had to train, in a market that is as calm as ever."""
        now = self.market()
        with transaction(self.engine) as connection:
            _artifact(connection, horizon, now)
            calm(connection, now)
            made = Forecast(
                f"{symbol}:{horizon}:{now:%Y%m%dT%H%M%S}", symbol, horizon, now, float(self.price(symbol)), return_pct,
                return_pct - 0.003, return_pct + 0.003, confidence, f"made-up-{horizon}", True,
            )  # fmt: skip
            models.add_forecasts(connection, [made])
        return made

    # --- shortcuts into the flow of an order ---

    def reconcile(self, rt: Runtime | None = None) -> Books:
        """The broker's truth into the ledger."""
        rt = rt or self.rt
        return reconciliation.reconcile(rt.desk, rt.market())

    def commit(
        self, *proposals: Proposal, cycle_id: str = "c1", rt: Runtime | None = None, **more: Any
    ) -> list[Judged]:
        """Judge and commit what is proposed, in a market in which everything is fine.

        `more`: of risk.Market, or `config`, `books`, and the `epoch` of the switch that the cycle saw.
        """
        rt = rt or self.rt
        config, epoch = more.pop("config", CONFIG), more.pop("epoch", None)
        books = more.pop("books", None) or self.reconcile(rt)
        if epoch is None:
            with transaction(self.engine) as connection:
                epoch = state.load_switch(connection).epoch
        symbols = sorted({proposal.symbol for proposal in proposals})
        fine: dict[str, Any] = {
            "now": rt.market(), "state": TradingState.ACTIVE, "latched": False, "market_open": True,
            "reconciled": True, "settings_problem": None, "paper_problem": None, "account": books.account,
            "quotes": rt.data.latest(symbols, rt.wall()), "positions": books.positions,
            "open_orders": books.open_orders, "settings_at_wall": rt.wall(),
            "risk_report": RiskReport(rt.market(), Decimal(1), (), (), Decimal(0), Decimal(0)),
        }  # fmt: skip
        market = risk.Market(**{**fine, **more})
        return committing.commit(
            rt.desk, proposals, config, market, cycle_id=cycle_id, revision=1, epoch=epoch,
            snapshot_wall=books.taken_at_wall,
        )  # fmt: skip

    def send(self, judged: list[Judged], rt: Runtime | None = None) -> None:
        """What a cycle does after its commit."""
        rt = rt or self.rt
        execution.send(rt.desk, committing.orders_of(judged))

    def buy(self, symbol: str = "AAPL", qty: int = 2, *, cycle_id: str = "c1") -> None:
        """An automatic entry, all the way to its fill and into the books."""
        self.send(self.commit(self.entry(symbol, qty), cycle_id=cycle_id))
        self.reconcile()
        assert self.positions()[symbol] >= qty

    def entry(self, symbol: str = "AAPL", qty: int = 2) -> Proposal:
        """A buy at the market by a forecast, to be protected by a bracket."""
        price = self.price(symbol)
        return Proposal(
            symbol=symbol, side=Side.BUY, qty=Decimal(qty), kind=IntentKind.ENTRY, source=Source.ML,
            price_usd=price * Decimal("1.02"), signal=signal(symbol, float(price), self.market()),
        )  # fmt: skip

    def exit(self, symbol: str = "AAPL", source: Source = Source.ML) -> Proposal:
        """The sale of all of a symbol."""
        held = {position.symbol: position for position in self.rt.broker.positions()}[symbol]
        return committing.exit_proposal(held, source, signal(symbol, float(held.current_price_usd), self.market()))


def limit_entry(world: World, symbol: str, below_pct: str = "0.01", *, source: Source = Source.ML) -> Proposal:
    """A buy that rests: its limit lies under the market."""
    price = (world.price(symbol) * (1 - Decimal(below_pct))).quantize(Decimal("0.01"))
    kind = signal(symbol, float(price), world.market()) if source is Source.ML else None
    return Proposal(
        symbol=symbol, side=Side.BUY, qty=Decimal(1), kind=IntentKind.ENTRY, source=source, price_usd=price,
        order_type=OrderType.LIMIT, time_in_force=TimeInForce.GTC, limit_price_usd=price, signal=kind,
    )  # fmt: skip


def signal(symbol: str, price_usd: float, now: datetime) -> Signal:
    """A buy signal with a forecast behind it."""
    from qbot.types import Action

    return Signal(
        f"ml_{symbol}_60", symbol, Action.BUY, 0.9, 0.8, 0.01, 60, price_usd * 1.01, price_usd, price_usd * 0.95, now,
        now + timedelta(minutes=30), f"{symbol}:60", Source.ML, ("60 min: made up",), "60 min: made up",
    )  # fmt: skip


def quote_of(symbol: str, price: str, at: datetime) -> Quote:
    """A quote that nobody gave."""
    return Quote(symbol, Decimal(price), Decimal(price), Decimal(price), at, at, "test")


def calm(connection: sa.Connection, now: datetime) -> None:
    """Bars of all tickers up to now, for the same hour of ten days, and at the end of the day before.

    With them the risk engine finds nothing to fear, and the indicators are known and stand against nothing.
    """
    made_up = """
        INSERT INTO bars (symbol, ts, open, high, low, close, volume, source)
        SELECT symbol, ts, usd, 1.01 * usd, 0.99 * usd, usd * (1 + 0.01 * (extract(minute FROM ts)::int / 5 % 2)),
            1000, 'made up'
        FROM unnest(CAST(:symbols AS text[]), CAST(:usd AS float8[])) AS made (symbol, usd),
            generate_series(0, 9) AS day, generate_series(1, 16) AS bar,
            LATERAL (SELECT date_bin('5 minutes', :now, 'epoch') - day * interval '1 day' - bar * interval '5 minutes'
            UNION ALL SELECT CAST(:closed AS timestamptz) - bar * interval '5 minutes' WHERE day = 0) AS at (ts)
        ON CONFLICT DO NOTHING"""
    closed = (now.astimezone(clock.NEW_YORK) - timedelta(days=1)).replace(hour=16, minute=0, second=0, microsecond=0)
    connection.execute(
        sa.text(made_up), {"symbols": list(TICKERS), "usd": list(ABOUT_USD), "now": now, "closed": closed}
    )


def _artifact(connection: sa.Connection, horizon: int, now: datetime) -> None:
    if horizon in models.standing_artifacts(connection):
        return
    row = {
        "artifact_id": f"made-up-{horizon}", "horizon_minutes": horizon, "path": "/nowhere", "sha256": "0",
        "features": [], "metrics": {}, "skilled": True,
    }  # fmt: skip
    models.start_training(connection, f"made-up-{horizon}", "manual", now, WALL)
    models.finish_training(connection, f"made-up-{horizon}", models.SUCCESS, {}, [row], now, WALL)


def settings_of(home: Path, redis_server: RedisServer, postgres_url: str, exchange: RunningExchange) -> Settings:
    """What the environment of a worker says."""
    return _settings_at(redis_server, postgres_url, exchange.url).model_copy(update={"home": home})


@cache
def _settings_at(redis_server: RedisServer, postgres_url: str, exchange_url: str) -> Settings:
    """Read once for all tests: reading them takes longer than emptying every table."""
    values: Mapping[str, Any] = {
        "alpaca_api_key": KEY, "alpaca_secret_key": SECRET, "alpaca_url": exchange_url,
        "alpaca_data_url": exchange_url, "exchange_port": int(exchange_url.rsplit(":", 1)[1]),
        "embedded_exchange": True, "tickers": ",".join(TICKERS), "train_seconds_per_horizon": 10,
    }  # fmt: skip
    return settings_for(Path(), redis_server, postgres_url, **values)


# In one go: fifty round trips for each of some thousand tests are minutes. The names are those of our own tables.
_DELETES = "; ".join(f"DELETE FROM {table.name}" for table in reversed(tables.metadata.sorted_tables))  # noqa: S608
EMPTY = sa.text(f"{_DELETES}; SELECT setval(pg_get_serial_sequence('settings_revisions', 'revision'), 1, false)")


def empty(engine: Engine) -> None:
    """Remove every row, and count settings from one again. Not by TRUNCATE, which takes a hundred times as long."""
    with engine.begin() as connection:
        connection.execute(EMPTY)
