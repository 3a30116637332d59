"""`make bench`: prints every figure. Name parts to run just those: start, cycle, exchange, push, close_all, manual,
forecasting, training, backfill, market.

With `--quick` all but the first three take few samples or rows.
"""

from __future__ import annotations

import logging
import sys
from functools import partial

import structlog

from tests.bench import backfill, close_all, cycle, exchange, forecasting, manual, market, push, start

SAMPLED = {
    "push": push.run,
    "close_all": close_all.run,
    "manual": manual.run,
    "forecasting": forecasting.run,
    "training": forecasting.train,
    "backfill": backfill.run,
    "market": market.run,
}
PARTS = {"exchange": exchange.run, "cycle": cycle.run, "start": start.run, **SAMPLED}


def main(wanted: list[str]) -> None:
    """Run the named parts, or all of them."""
    if "--quick" in wanted:
        wanted = [name for name in wanted if name != "--quick"]
        PARTS.update({name: partial(run, quick=True) for name, run in SAMPLED.items()})
    unknown = set(wanted) - PARTS.keys()
    if unknown:
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for name in wanted or PARTS:
        print(f"\n== {name}", flush=True)
        for line in PARTS[name]():
            print(f"   {line}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
