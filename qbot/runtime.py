"""What a pipeline function works with: the board, the store, the broker, market data and the two times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from sqlalchemy.engine import Engine

from qbot import clock, limits
from qbot.broker import alpaca
from qbot.broker.protocol import Broker
from qbot.contract.board import Board, client_of, connect
from qbot.desk import Desk
from qbot.market.alpaca_data import AlpacaData
from qbot.market.alpaca_data import connect as connect_data
from qbot.settings import Settings, settings
from qbot.store import universe
from qbot.store.engine import engine, transaction
from qbot.store.postgres import PostgresStore
from qbot.types import ticker

if TYPE_CHECKING:
    from qbot.market.feeds import Feed


@dataclass(frozen=True)
class Runtime:
    """Built once a process. Tests build their own, with other clocks."""

    settings: Settings
    board: Board
    engine: Engine
    wall: Callable[[], datetime] = clock.wall_now
    market: Callable[[], datetime] = clock.market_now
    uptime: Callable[[], clock.Uptime] = clock.uptime

    @cached_property
    def broker(self) -> Broker:
        """Made when first needed: no client exists at import. Raises ConfigError without keys."""
        return alpaca.connect(self.settings)

    @property
    def desk(self) -> Desk:
        """Where this process makes its orders. Raises ConfigError without keys."""
        return Desk(self.broker, PostgresStore(self.engine), self.wall, self.market, uptime=self.uptime)

    @cached_property
    def data(self) -> AlpacaData:
        return connect_data(self.settings)

    @cached_property
    def feeds(self) -> dict[str, Feed]:
        """The sources of market data at hand, in the order of asking. Raises ConfigError or StoreUnavailable."""
        from qbot.market import feeds  # its libraries take a while to load, and few processes ask

        found = feeds.connect(self.settings, client_of(self.settings), self.engine, self.wall)
        feeds.note_access(self.settings, found, self.engine, self.wall())
        return found

    @property
    def tickers(self) -> tuple[str, ...]:
        """The tickers of the last fetch; before it, the named ones. Raises StoreUnavailable."""
        with transaction(self.engine) as connection:
            return universe.tickers(connection) or self.named_tickers

    @cached_property
    def named_tickers(self) -> tuple[str, ...]:
        """Those of the environment, else the default ones."""
        named = tuple(dict.fromkeys(ticker(part) for part in self.settings.tickers.split(",") if part.strip()))
        return named[: limits.MAX_TICKERS] or limits.DEFAULT_TICKERS

    @property
    def embedded(self) -> bool:
        """True on QBot's own paper exchange: only there may an artifact without proven skill trade."""
        return self.settings.embedded_exchange


@lru_cache(maxsize=1)
def runtime() -> Runtime:
    """The runtime of this process."""
    return Runtime(settings(), connect(settings()), engine())
