"""Every fixed number of QBot with the reason for it. Relations between them are asserted at import."""

from __future__ import annotations

from decimal import Decimal

# Universe: the tickers of the shipped sample; liquid, so that a synthetic spread of a few bps is believable.
DEFAULT_TICKERS = ("AAPL", "ADBE", "AMZN", "COST", "GOOGL", "MA", "META", "MSFT", "PEP", "QQQ", "SPY", "UNH", "XLK")
MAX_TICKERS = 5_000

# Redis: no documented payload comes near this; anything larger is an attack or a mistake.
MAX_PAYLOAD_BYTES = 1_000_000
MAX_BOARD_BYTES = 16_000_000  # QBot's own largest projection, forecasts at 5,000 tickers, takes 3 MB
TRADES_LOG_MAX = 200
TRAINING_LOG_MAX = 50
METRICS_HISTORY_MAX = 30
QUALITY_HISTORY_MAX = 200  # not documented: as trades_log
DEVIATIONS_MAX = 200
BOARD_UPDATE_ATTEMPTS = 200  # of one compare-and-set: each round one writer wins, and there are tens, not hundreds

# Freshness, in market time.
QUOTE_MAX_AGE_S = 900  # three missed fetches of 5 minutes: beyond it the price is not the market's
FORECAST_LIFE_SHARE = 0.5  # a forecast expires after half its horizon
BAR_MAX_AGE_S = 1_200  # a forecast needs bars at most four intervals old

# A key that follows the market is not called stale before this much wall time: in a replay, where three intervals may
# be 15 s, a busy machine can hold a run up for longer. Measured on an idle one: a third of the allowed age.
REPLAY_MIN_MAX_AGE_S = 30.0

CLOCK_SKEW_S = 60  # a quote stamped further in the future than this is not believed

# Losses have no documented key.
MAX_DAY_LOSS_PCT = Decimal("0.05")  # of the day's opening equity: entries stop, exits go on

# Training.
TRAINING_MIN_ROWS = 150  # documented: a ticker with fewer usable rows is left out
TRAINING_LIMIT_S = 900.0  # a training that has not ended by then hangs

# Orders.
PRICE_COLLAR_PCT = Decimal("0.02")  # a limit further than this from the last quote is a mistake
MAX_ORDER_NOTIONAL_USD = Decimal("250000")  # fat-finger stop above any documented setting
CLIENT_ORDER_ID_MAX = 128  # the venue's limit
CANCELS_RESERVED_PER_MINUTE = 40  # of the venue's 200 requests a minute

SEND_GRACE_S = 20  # a sender needs at most a connect, a read and a release of shares; younger intents are left to it
ABANDON_INTENT_S = 180  # the venue has been seen to accept a timed-out order only after minutes
RELEASE_WAIT_S = 3.0  # a cancel takes well under a second; it may also stick, and the emergency comes first
RELEASE_POLL_S = 0.1  # at first; doubled up to POLL_MAX_S, for the venue counts every question
POLL_MAX_S = 2.0
EMERGENCY_MAX_AGE_S = 3_600  # a CLOSE_ALL older than this stops trading and alerts, but sells nothing
FLATTEN_WAIT_S = 20.0  # beyond it the emergency reports what is still held, and the next tick goes on

# HTTP towards the broker: (connect, read). Longer than any answer seen, shorter than the emergency interval.
BROKER_TIMEOUT_S = (3.0, 10.0)

assert BAR_MAX_AGE_S >= 3 * 300, "a forecast must survive two late fetches"
assert MAX_PAYLOAD_BYTES < 512 * 1024 * 1024, "Redis' own limit on a value"
