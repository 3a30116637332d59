"""`python -m qbot.standin`: the vendors on loopback, with the settings of the environment.

With `qbot up --fake-providers` they tell of the paper exchange's market; by itself, of a made-up one.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser

from qbot import clock
from qbot.settings import settings
from qbot.standin.market import Prices
from qbot.standin.of_exchange import OfExchange
from qbot.standin.running import serve
from qbot.standin.walk import Walk


def main() -> None:
    """Run until a signal ends it."""
    here = settings()
    parser = ArgumentParser(prog="python -m qbot.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=here.fake_providers_port)
    parser.add_argument("--exchange", metavar="URL", help="tell of the market of the paper exchange there")
    parser.add_argument("--seed", type=int, default=1, help="of the made-up market")
    options = parser.parse_args()
    logging.basicConfig(level=here.log_level)
    prices: Prices = OfExchange(options.exchange) if options.exchange else Walk(options.seed)
    serve(prices, clock.market_now, options.port)


if __name__ == "__main__":
    main()
