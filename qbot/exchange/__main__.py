"""`python -m qbot.exchange`: the paper exchange on loopback, with the settings of the environment."""

from __future__ import annotations

import logging
import sys

import uvicorn

from qbot import clock
from qbot.exchange.server import create_app
from qbot.exchange.venue import open_venue
from qbot.settings import settings

DEFAULT_KEY = "PAPER"
# Longer than any client pauses: a connection closed under a POST would leave an order in doubt.
KEEP_ALIVE_S = 120


def main() -> None:
    """Run until a signal ends it."""
    here = settings()
    logging.basicConfig(level=here.log_level)
    venue = open_venue(here.home / "exchange", here.replay_file, here.exchange_start_cash_usd, clock.market_now)
    keys = {DEFAULT_KEY: DEFAULT_KEY}
    if here.alpaca_api_key.get_secret_value():
        keys[here.alpaca_api_key.get_secret_value()] = here.alpaca_secret_key.get_secret_value()
    app = create_app(venue, keys, here.exchange_rate_limit_per_minute)
    config = uvicorn.Config(
        app, host=here.exchange_host, port=here.exchange_port, log_level="warning", access_log=False,
        proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    venue.on_failure = lambda: setattr(server, "should_exit", True)
    server.run()
    if venue.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
