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

# What humans do at their interfaces, in wall time.
UI_SESSION_TIMEOUT_S = 180  # interfaces write every few seconds; the net beneath the listener looks once a minute
UI_SESSIONS_KEPT_S = 30 * 86_400  # to look back on who was there
UI_SESSIONS_MAX = 10_000  # however many ids a frontend makes up, the table stays small
UI_SESSIONS_SHOWN = 100  # nobody has that many interfaces open: beyond it the newest count
PRICE_ALERT_SHOWN_S = 86_400  # a human who watches a level looks at least once a day

# Freshness, in market time.
QUOTE_MAX_AGE_S = 900  # three missed fetches of 5 minutes: beyond it the price is not the market's
FORECAST_LIFE_SHARE = 0.5  # a forecast expires after half its horizon
BAR_MAX_AGE_S = 1_200  # a forecast needs bars at most four intervals old; so do indicators
GROK_MAX_AGE_S = 3_600  # its documented picks are for the next hour: older, that hour is over
GROK_PICKED_S = 86_400  # so long a pick is looked at: through the night; the next session brings others

# A key that follows the market is not called stale before this much wall time: in a replay, where three intervals may
# be 15 s, a busy machine can hold a run up for longer. Measured on an idle one: a third of the allowed age.
REPLAY_MIN_MAX_AGE_S = 30.0

CPU_SAMPLE_S = 0.1  # a first measurement without a span is always 0; shorter ones jump

SETTINGS_MAX_AGE_S = 300  # wall time: a run that hung so long judges by what a human may have changed since
RISK_REPORT_MAX_AGE_S = 900  # market time, as for quotes: losses are as old as the report
CLOCK_SKEW_S = 60  # a quote stamped further in the future than this is not believed

# Losses have no documented key.
MAX_DAY_LOSS_PCT = Decimal("0.05")  # of the day's opening equity: entries stop, exits go on

# The risk engine. A factor multiplies the size of new positions; those of the first three reasons are the owner's.
LOW_CONFIDENCE, LOW_CONFIDENCE_FACTOR = 0.6, Decimal("0.8")
HIGH_DRAWDOWN_PCT, HIGH_DRAWDOWN_FACTOR = Decimal("0.05"), Decimal("0.5")
HIGH_VOLATILITY_RATIO, HIGH_VOLATILITY_FACTOR = 2.0, Decimal("0.6")
MODEL_STALE_DAYS, MODEL_STALE_FACTOR = 10.0, Decimal("0.8")  # a training is due after 7; three more and it fails
FRESH_SHARE_MIN, DATA_GAP_FACTOR = 0.9, Decimal("0.5")  # one ticker of ten may be halted; more is the provider's doing
RISK_FACTOR_MIN = Decimal("0.1")  # all reasons at once come to 0.096: caution is no breaker

# The circuit breakers of the risk engine: entries stop until a human resumes.
MAX_ROLLING_LOSS_PCT = Decimal("0.10")  # of the equity a week ago: two days at the day's limit
ROLLING_LOSS_DAYS = 7  # five sessions: a bad day stays counted past midnight, and past a weekend
MAX_DRAWDOWN_PCT = Decimal("0.15")  # of the peak: slow losses that no window of a week shows
REJECTED_IN_A_ROW_MAX = 5  # orders; a venue that refuses all of them refuses for one reason
LOSING_TRADES_MAX = 12  # in a row: with even odds once in 4,096 trades, months of trading
DRIFT_MINUTES_MAX = 15.0  # reconciled every minute: what does not settle in 15 does not settle by itself
DATA_GAP_MINUTES_MAX = 30.0  # six fetches missed
DATA_GAP_SHARE_MAX = 0.5  # of the tickers without fresh data: with half of them gone it is no market to trade in
EQUITY_MAX_AGE_S = 900  # market time; read every minute: beyond it nobody knows what the account is worth
LASTING_WALL_S = 300.0  # what lasts in a replay must have lasted on the wall too: a busy machine holds up a minute
UNWATCHED_S = 300.0  # wall time; what lasted must have been seen all the while, not before and after a pause
EQUITY_JUMP_MAX_PCT = Decimal("0.02")  # between equity and cash with positions; they are read in two requests
MARKET_SYMBOLS_MAX = 5  # tickers whose volatility stands for the market's: a median of five stands a wild one
VOLATILITY_HISTORY_DAYS = 30  # calendar days: 20 sessions

# Cash. The venue may round each amount to a cent; below it nothing can be told from rounding.
CASH_TOLERANCE_USD = Decimal("0.01")

# Training.
TRAINING_MIN_ROWS = 150  # documented: a ticker with fewer usable rows is left out
TRAINING_LIMIT_S = 900.0  # a training that has not ended by then hangs
FIT_ROWS_MAX = 400_000  # more are thinned: labels of neighbouring rows overlap threefold and more, time does not
TREE_ROWS_MAX = 50_000  # of each extra tree: twenty leaves of 2,500 rows, in seconds
TRAINING_MEMORY_GB = 6.0  # of the process: what would not fit beside two million rows is left out
TICKER_COLUMNS_MAX = 50  # `ticker_<SYMBOL>`: 5,000 of them were 25 million cells, and no row count would fill them

# After the fact, in market time.
MATURE_BATCH_ROWS = 20_000  # one update of a second or so; an issue of 5,000 tickers is 15,000 forecasts
MATURE_BATCHES_MAX = 15  # a run stays within its minute; what is left is the next one's
OUTCOME_WAIT_S = 7_200.0  # a bar may come late; after this its absence is taken for good
DEVIATION_COOLDOWN_S = 86_400.0  # after any training: its artifact shall have had a day before it is judged
DEVIATION_MEMORY_S = 28 * 86_400.0  # each training by deviation within it doubles the wait: days 0, 2, 6, 14

# Artifacts.
REPAIR_AFTER_S = 3_600.0  # market time: so long after any training one replaces an artifact that cannot be loaded
ARTIFACTS_KEPT = 5  # of each horizon, the newest: a month of weekly trainings to roll back to
ORPHANS_KEPT_S = 86_400.0  # wall time: a folder of artifacts that nobody recorded may be about to be

# Orders.
PRICE_COLLAR_PCT = Decimal("0.02")  # a limit further than this from the last quote is a mistake
BRACKET_GAP_USD = Decimal("0.01")  # the venue takes no stop-loss or take-profit nearer to the price
FAT_FINGER_PCT = Decimal("0.5")  # of the last price: a sale under it lacks a digit; trading halts long before
ORDERS_PER_MINUTE_MAX = 160  # what the venue takes beside the cancels: a strategy that wants more has run away
MAX_ORDER_NOTIONAL_USD = Decimal("250000")  # fat-finger stop above any documented setting
CLIENT_ORDER_ID_MAX = 128  # the venue's limit
REQUESTS_PER_MINUTE = 200  # the venue's, over all processes of an account; its answers tell when it is another number
CANCELS_RESERVED_PER_MINUTE = 40  # of these, for cancels and exits; the rest waits or is refused from there on
UNTOLD_PER_MINUTE = 30  # of one process to a venue that does not tell what is left: a fifth of what is not reserved
PACE_WAIT_S = 2.0  # so near, the next minute is waited for; else a task had better try again at its next tick

PROTECT_AGAIN_S = 60.0  # market time: after each refusal of a protection it waits so much longer, up to …
PROTECT_AGAIN_MAX_S = 1_800.0  # … this: a human has been told, and the venue need not be asked every minute
PARTIAL_ENTRY_WAIT_S = 300.0  # market time: the venue protects an entry once all of it has filled; then its rest goes
FENCE_MAX_S = 1.0  # an order goes out at most so long after the look whether it still may; one look takes milliseconds
FENCE_TURNS = 3  # looks for one order: where each takes too long it is not sent

SEND_GRACE_S = 20  # a sender needs at most a connect, a read and a release of shares; younger intents are left to it
EXIT_LIFE_S = 120  # so long a sale may go out after its commit: fifty at once take a while, and it is never unwanted
ABANDON_INTENT_S = 180  # the venue has been seen to accept a timed-out order only after minutes
RELEASE_WAIT_S = 3.0  # a cancel takes well under a second; it may also stick, and the emergency comes first
RELEASE_POLL_S = 0.1  # at first; doubled up to POLL_MAX_S, for the venue counts every question
POLL_MAX_S = 2.0
EMERGENCY_MAX_AGE_S = 3_600  # a CLOSE_ALL older than this stops trading and alerts, but sells nothing
MANUAL_ORDERS_MAX = 1_000  # elements the array may have: the contract's own limit
MANUAL_ORDERS_SHOWN_FINAL = 200  # as trades_log: the newest ended orders stay on the board, older ones in Postgres
QUOTES_WITHIN_S = 5.0  # wall time, for the prices of a trade: 25 requests; a run of manual orders has 24 s
QUOTES_OWED_MAX = 4  # questions that are past that and still unanswered, in one process: then nobody adds another one
MANUAL_BATCH = 10  # then the array is read again: a CRITICAL order waits for two seconds at most
MANUAL_HANDLING_S = 120  # a claim, a commit and their answer, each cut off after 30 s: beyond it the worker is gone
MANUAL_ORDER_WAIT_S = 3_600  # as for an emergency: an order that could not go out for an hour is asked for again
STOP_PROBE_S = 3.0  # so long `qbot stop` waits to hear of Postgres and Redis before it goes on without them
FLATTEN_AGAIN_S = 5.0  # a sale or a cancel that shows no effect by then is asked for again
EMERGENCY_STUCK_S = 15.0  # it looks every two seconds, and a request may take ten: beyond it its process hangs
FLATTEN_WAIT_S = 20.0  # beyond it the emergency reports what is still held, and the next tick goes on

# The listener.
LISTENER_POLL_S = 0.25  # FLUSHALL raises no event; trading is off within a second of it
LISTENER_HEALTH_S = 1.0  # a message to itself: nothing else tells a half-open connection from a quiet one
LISTENER_SILENCE_S = 3.0  # three of them missed
LISTENER_PROBE_S = 60.0  # a server's settings change rarely, and each probe is two writes to its disk
LISTENER_AGAIN_S = 1.0  # between two looks for an entry that was on its way at a stop: one takes under a second
LISTENER_PAUSE_S, LISTENER_PAUSE_MAX_S = 0.1, 5.0  # before the next try: at first, doubled up to; under the beat's 10 s
LISTENER_YIELD_S = 0.25  # so long the rest waits for a stop to go out first; no human notices
LISTENER_WARM_S = 15.0  # under the time after which servers close an idle connection
LISTENER_SWITCH_S = 0.0005  # a thread with a stop in hand waits at most so long for the interpreter, not 5 ms
LISTENER_POOL = 8  # connections to Postgres: each lane has one, the emergency two

# Rebalancing.
REBALANCE_MIN_DRIFT_PCT = Decimal("0.01")  # of the equity: whatever is set, less is the day's noise
REBALANCE_MIN_USD = Decimal("100")  # a sale under that costs more in spread than it evens out

# Alerts and notifications, in wall time.
CONCENTRATION_FACTOR = Decimal("1.25")  # of max_position_pct: prices move a full position over it every day
PARTS_GRACE_S = 300  # after a start every queue has had its first task by then
ALERTS_KEPT_DAYS = 30  # to look back on what went wrong
NOTIFY_POLL_S = 2.0  # should a wake-up be lost; a human is told within 5 s
NOTIFY_TIMEOUT_S = 10.0  # of one message; a channel that answers slowly delays itself alone
NOTIFY_LEASE_S = 60.0  # whoever died with a message in hand leaves it to the next one after that
NOTIFY_PAUSE_MAX_S = 300.0  # between two attempts: doubled from one second up to this
NOTIFY_ATTEMPTS = 15  # 40 minutes; a host that was down for an hour is not for its messages of then
NOTIFY_TELL_AFTER = 5  # attempts, half a minute: then the board says that a channel fails
NOTIFY_MAX_AGE_S = 21_600.0  # what is older than 6 hours is on the board, and no news
NOTIFY_PER_HOUR = 20  # a channel: whoever gets more mutes it
NOTIFY_CRITICAL_PER_HOUR = 40  # what needs a human goes past the others' bound, up to here
NOTIFY_SUMMARY_S = 600.0  # what was held back is told of together, ten minutes after the first
NOTIFY_OVERDUE_S = 20.0  # so long nobody did it: the beat task does
NOTIFY_DIRECT_ATTEMPTS = 3  # without Postgres nothing is remembered: it is tried at once or not at all

# Grok, in wall time.
GROK_REFRESH_S = 1_500.0  # two tries, five and ten minutes apart, still fit in before an answer is too old
GROK_EARLY_S = 900.0  # before the open, so that the session begins with an answer
GROK_AGAIN_S, GROK_AGAIN_MAX_S = 300.0, 3_600.0  # after a failure: each time doubled, since some of them cost money
GROK_REFUSED_AGAIN_S = 3_600.0  # a wrong key or used-up credits wait for a human; asking costs nothing
GROK_CONNECT_S, GROK_READ_S = 3.05, 110.0  # the answer comes in one piece, once the model has searched and thought
GROK_DEADLINE_S = 120.0  # of one call, however slowly its bytes come
GROK_LEASE_S = 240.0  # whoever asked and has not settled by then is gone
GROK_BODY_MAX_BYTES = 2_000_000  # with searches, the largest answer seen had 21 kB
GROK_ANSWER_MAX_CHARS = 65_536  # twenty candidates come to 6,000
GROK_CANDIDATES_MAX = 20
GROK_REASON_MAX_CHARS = 200
GROK_NAMED_MAX = 1_000  # symbols in the question: 3,000 tokens; more would cost more than the answer
GROK_OUTPUT_TOKENS_MAX = 8_000  # with the thinking; the answer itself takes 1,500
# Reserved before each call, and counted where its cost is not told. 8,000 tokens out and as many in cost 0.03 USD with
# grok-4.3; a search is 0.005 USD and brings thousands of tokens in.
GROK_CALL_MAX_USD, GROK_SEARCH_CALL_MAX_USD = Decimal("0.05"), Decimal("0.50")
GROK_COST_MAX_USD = Decimal("1000")  # what is told beyond it is a mistake: the day's budget is used up either way

# The trade stream, in wall time.
STREAM_PING_S = 10.0  # the client's own time-out of an answer, 180 s, is three minutes without a fill
STREAM_CHECK_S = 15.0  # a fill that REST brought, and the stream not within two of these, is one it lost
STREAM_SHOW_S = 1.0  # the board follows a burst of events once a second: each time is two requests to the venue
STREAM_TOLD_MAX = 10_000  # executions remembered: more than two days at the venue's limit of orders could bring

# HTTP towards the broker: (connect, read). Longer than any answer seen, shorter than the emergency interval.
BROKER_TIMEOUT_S = (3.0, 10.0)

# Market data of several sources. What each vendor allows stands in qbot/market/plans.py.
FETCH_PASS_S = 300.0  # one pass of fetch_data; market time, as its cadence
PASS_BUSY_SHARE = 0.8  # of a pass: its last calls are answered before the next one begins
OPINIONS = 2  # sources asked for the price of a ticker: one alone cannot be told from a lie
RESERVE_SHARE = 0.1  # of what is left of a quota: for positions and orders that come later in the day
ASIDE_SHARE = 0.1  # of a quota for news and the like, while a session that needs it for prices still comes
NEWS_EVERY_S = 3_600.0
FUNDAMENTALS_EVERY_S = 86_400.0  # they change by the quarter
QUOTE_BAND_PCT = Decimal("0.01")  # sources that agree: they are minutes apart, in which a liquid share moves 0.3 %
QUOTE_JUMP_PCT = Decimal("0.10")  # from the last accepted price, by one source alone: halts come before
SPLIT_TOLERANCE_PCT = Decimal("0.05")  # around the ratio of a split: the price moves on its day as on any other
CLOSING_PRINT_S = 60  # the closing auction is stamped seconds after the close
FRESHER_S = 60  # two quotes nearer in time than that are equally fresh
DATA_TRIES = 3  # of one request to a source, the first counted
DATA_RETRY_FIRST_S, DATA_RETRY_MAX_S = 0.5, 8.0  # the pause doubles, with jitter; ten tickers still fit into a minute
DATA_RETRY_AFTER_MAX_S = 65.0  # a minute limit is over after a minute; who asks for more is closed for that time
DATA_MINUTE_HOLD_MAX_S = 3_600.0  # a minute limit that asks for a month is a mistake, or somebody's in between
DATA_AT_ONCE = 4  # requests to one source: a pass of 500 tickers one by one would take longer than it may
BARS_REQUESTS_MAX = 60  # for one request of a plan: where a history is long, the next pass goes on with it
DATA_SETTLE_EVERY_S = 2.0  # what has come by then is shown, and others are asked for what failed
DATA_EXTRAS_UNTIL_S = 90.0  # of a pass: begun by then, a request with its turn and its tries is over in time
DATA_PASS_FLOOR_S = 45.0  # a pass in a replay may take longer than its interval, which is seconds there
ENHANCED_PER_PASS = 5  # tickers whose year of days is asked for: a hundred of them in two hours
ENHANCED_AGAIN_S = 3_600.0  # market time: a ticker that no days came of waits so long, and lets the others through
REFUSED_FOR_S = 86_400.0  # a ticker that a source does not know may be listed tomorrow
PASSES_KEPT_DAYS = 30  # of what came of each pass, to look back on
QUOTE_DRIFT_PCT = Decimal("0.03")  # from a price that two sources agreed on minutes ago, by one alone
DATA_PACE_WAIT_S = 65.0  # so long a request waits for its turn under the limit of a minute
RATE_SLACK = 1.02  # of the span of a limit: two requests do not take the same way
RENEWAL_GUARD_S = 120.0  # around the renewal of a quota a call counts in both periods: clocks differ
DATA_FAILURES_MAX = 5  # in a row, of all workers: then a source is left alone …
DATA_PAUSE_S = 60.0  # … for this time
QUOTAS_KEPT_DAYS = 100  # of counted calls, to look back on

# Bars.
BARS_KEPT_DAYS = 1_096  # three years: a training looks back ten weeks, an evaluation two years
BARS_PRUNED_AT_ONCE = 5_000  # rows of one statement: some tens of milliseconds
BARS_PRUNED_MAX = 50_000  # of one run, every quarter of an hour; 5,000 tickers have 390,000 new ones a day
BARS_OVERLAP_MINUTES = 60  # twelve bars that are known come again each time: a split shows in them
BARS_SETTLED_S = 3_600.0  # after the close: late trades are in, and nobody has more bars of the session later
BARS_NONE_AGAIN_DAYS = 30  # a source that has no bar of a session is asked again then: plans change
BAR_OF_NOW_S = 300.0  # a bar that ended so lately tells a price of now; in a pass it is one five minutes old at most
BARS_DRIFT_PCT = Decimal("0.03")  # from the same bar as it is stored, or from the price of now, and it is another price
BARS_TAIL = 3  # known bars, the newest: where they come as they are stored, those before them were corrected
SPLIT_BARS_SHARE_MIN = 0.8  # of the known bars: one may be bad, and the split is one all the same
SPLIT_BARS_TOLERANCE_PCT = 0.02  # around the ratio of a split: the same bar, of another source at most
BACKFILL_SHARE = 0.5  # of what is left of a day's or month's quota: the session needs its own
BACKFILL_WAITS_MAX = 5  # turns under a minute limit, or pauses of a source that fails, for one request
REPAIR_REQUESTS = 2  # of a pass while the exchange is closed: a night has two hundred passes
REPAIR_DAYS = 14  # calendar days in which a pass looks for gaps: the features look back over ten sessions

# HTTP towards data sources: (connect, read), and what one answer may take and weigh as a whole. The largest one
# that is asked for, sixty days of bars of eight symbols, has under 4 MB.
DATA_TIMEOUT_S = (3.05, 10.0)
DATA_DEADLINE_S = 20.0
DATA_BODY_MAX_BYTES = 5_000_000
DATA_PAGES_MAX = 10  # of one answer: bars are asked for so that they fit into one page
DATA_PAGES_S = 60.0  # so long the next page of an answer is asked for
DATA_REDIRECTS_MAX = 2  # within one host, as from a path to the same with a slash
DATA_STUMBLES_MAX = 2  # requests in a row without a usable answer: then a source is left alone for this time

# `qbot doctor`. Each part is past its client's own time-outs by then, and is told as one that hangs.
DOCTOR_WITHIN_S = 15.0
DOCTOR_ASK_S = 30.0  # the broker, two answers; a source of market data, its turn and one answer
DOCTOR_TURN_S = 5.0  # so long it waits for the turn of a source; a QBot at work may have taken the minute
DOCTOR_EVENTS_S = 2.0  # a keyspace event takes a millisecond
SLOW_STORE_MS = 50.0  # a hundred times a local answer; a stop makes a dozen of them
DISK_LOW_GB, DISK_MIN_GB = 2.0, 0.3  # a month of bars and models; what Postgres needs to go on writing at all
RESTARTS_MANY = 3  # of one process since the start: it is no accident any more

assert MAX_DAY_LOSS_PCT < MAX_ROLLING_LOSS_PCT < MAX_DRAWDOWN_PCT < 1, "the shorter the span, the smaller the loss"
assert HIGH_DRAWDOWN_PCT < MAX_DRAWDOWN_PCT, "positions shrink before entries stop"
assert 1 - FRESH_SHARE_MIN < DATA_GAP_SHARE_MAX, "positions shrink before entries stop"
assert CANCELS_RESERVED_PER_MINUTE + UNTOLD_PER_MINUTE < REQUESTS_PER_MINUTE
assert SEND_GRACE_S < EXIT_LIFE_S < ABANDON_INTENT_S, "what may still be sent is not given up"
assert NOTIFY_TIMEOUT_S < NOTIFY_LEASE_S, "nobody takes a message from one who is still at it"
assert NOTIFY_PER_HOUR < NOTIFY_CRITICAL_PER_HOUR
assert DEVIATION_MEMORY_S >= 16 * DEVIATION_COOLDOWN_S, "where retraining does not help, a month sees four at most"
assert DATA_RETRY_MAX_S < DATA_RETRY_AFTER_MAX_S <= FETCH_PASS_S * PASS_BUSY_SHARE, "a retry fits into its pass"
assert BARS_PRUNED_AT_ONCE <= BARS_PRUNED_MAX
assert BARS_OVERLAP_MINUTES // 5 > BARS_TAIL, "a correction can be told from another scale"
assert BARS_DRIFT_PCT > QUOTE_BAND_PCT, "bars may be minutes older than prices that agree"
assert QUOTE_MAX_AGE_S >= 3 * FETCH_PASS_S, "a price must survive two late passes"
assert BAR_MAX_AGE_S >= 3 * 300, "a forecast must survive two late fetches"
assert MAX_PAYLOAD_BYTES < 512 * 1024 * 1024, "Redis' own limit on a value"
assert GROK_CONNECT_S + GROK_READ_S < GROK_DEADLINE_S < GROK_LEASE_S, "nobody asks while another still waits"
assert GROK_REFRESH_S + 3 * GROK_AGAIN_S < GROK_MAX_AGE_S, "two failures do not make an answer too old"
assert DOCTOR_TURN_S + DATA_DEADLINE_S < DOCTOR_ASK_S, "a source that answers in its time is told as one that does"
