"""Every key and channel, one entry each. `ENTRIES` and `CHANNELS` hold them by name; code uses the typed constants.

Cadences are the documented ones. A key without a cadence follows events. A maximum age is three missed writes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool, TypeAdapter

from qbot import limits
from qbot.contract import kinds
from qbot.contract import payloads_autotrading as auto
from qbot.contract import payloads_backend as back
from qbot.contract import payloads_channels as chan
from qbot.contract import payloads_extra as extra
from qbot.contract import payloads_market as market
from qbot.contract import payloads_ml as ml
from qbot.contract import payloads_orders as orders
from qbot.contract import payloads_settings as settings
from qbot.contract import payloads_trading as trading
from qbot.contract.fields import Name, Price, Sentence, Text, Ticker, Timestamp
from qbot.contract.key import Channel, Direction, Key, Pace

FETCH_S, CYCLE_S, FORECAST_S = 300.0, 600.0, 900.0
HEARTBEAT_S, RESPONSES_S, SYNC_S, SESSION_S, PERFORMANCE_S = 30.0, 30.0, 120.0, 60.0, 300.0

_TIME: TypeAdapter[Timestamp] = TypeAdapter(Timestamp)
_SAID: TypeAdapter[str] = TypeAdapter(Annotated[Sentence, Field(min_length=1)])
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_POSITIONS = TypeAdapter(tuple[trading.PortfolioPosition, ...])
_DEFAULTS = "Nobody has set it; the documented defaults hold."
_NOT_TRAINED = "Nothing was trained yet."
_NOT_MATURED = "No forecast has matured yet."
_NO_GROK = "Grok has no key here, or has not answered."
_NO_YAHOO = "Yahoo Finance is not asked here, or has not answered."
_PRICES = TypeAdapter(dict[Ticker, dict[ml.Horizon, Price]])


# Core
TRADING_SETTINGS = kinds.shared(
    "trading_settings",
    TypeAdapter(settings.TradingSettings),
    "sync_frontend_settings",
    "The main switch; off at first.",
)
TRADING_STATUS = kinds.market(
    "trading_status", TypeAdapter(trading.TradingStatus), "trade_bot", CYCLE_S, "What the trading cycle does."
)
SYSTEM_STATUS = kinds.wall(
    "system_status", TypeAdapter(trading.SystemStatus), "system_heartbeat", HEARTBEAT_S, "Health of every component."
)
RISK_SETTINGS = kinds.shared(
    "risk_settings", TypeAdapter(settings.RiskSettings), "emergency_handler", "Limits a day, a cycle and a ticker."
)
PORTFOLIO_POSITIONS = kinds.wall(
    "portfolio_positions", _POSITIONS, "update_backend_responses", RESPONSES_S, "Open positions; numbers are strings."
)
TRADES_LOG = kinds.history(
    "trades_log", TypeAdapter(tuple[trading.TradeLogEntry, ...]), "trade_bot", limits.TRADES_LOG_MAX, "Newest last."
)
MARKET_STATUS = kinds.wall(
    "market_status", TypeAdapter(trading.MarketStatus), "market_status", SESSION_S, "Whether the exchange is open."
)
RISK_STATUS = kinds.wall(
    "risk_status", TypeAdapter(trading.RiskStatus), "update_backend_responses", RESPONSES_S, "Today's use of limits."
)

# Autotrading
AUTOTRADING_ENABLED = kinds.frontend(
    "autotrading:enabled",
    TypeAdapter(auto.AutotradingSession),
    "Starts a trading session; DEL stops it.",
    "No session was asked for by this key.",
)
AUTOTRADING_STATUS = kinds.shared(
    "autotrading:status",
    TypeAdapter(auto.AutotradingStatus),
    "monitor_autotrading_frontend",
    "What is wanted.",
    "No frontend has said anything yet.",
    True,
)
AUTOTRADING_TIMESTAMP = kinds.frontend(
    "autotrading:timestamp", _TIME, "When the frontend started trading.", "No frontend has started trading.", True
)
AUTOTRADING_STOPPED_AT = kinds.shared(
    "autotrading:stopped_at",
    _TIME,
    "monitor_autotrading_frontend",
    "When trading was stopped.",
    "Trading was never stopped.",
    True,
)
AUTOTRADING_BACKEND_STATUS = kinds.event(
    "autotrading:backend_status",
    TypeAdapter(auto.BackendStatus),
    "monitor_autotrading_frontend",
    "What QBot does.",
    text=True,
)
AUTOTRADING_SESSION_ACTIVE = kinds.event(
    "autotrading:session_active",
    _NAME,
    "monitor_autotrading_frontend",
    "The session that trades.",
    "No session trades.",
    True,
)
AUTOTRADING_LAST_TRADE = kinds.event(
    "autotrading:last_trade",
    TypeAdapter(trading.TradeLogEntry),
    "trade_bot",
    "The newest entry of trades_log.",
    "Nothing was traded yet.",
)
AUTOTRADING_ACTIVE_POSITIONS = kinds.wall(
    "autotrading:active_positions", _POSITIONS, "update_backend_responses", RESPONSES_S, "As portfolio_positions."
)
AUTOTRADING_STATS = kinds.wall(
    "autotrading:stats",
    TypeAdapter(auto.AutotradingStats),
    "monitor_autotrading_frontend",
    SESSION_S,
    "Today's counts.",
)
AUTOTRADING_ERROR = kinds.event(
    "autotrading:error", _SAID, "monitor_autotrading_frontend", "What is wrong.", "Nothing is wrong.", True
)
AUTOTRADING_LAST_UPDATE = Key(
    "autotrading:last_update",
    _TIME,
    Direction.BACKEND,
    "monitor_autotrading_frontend",
    "When QBot last wrote autotrading keys.",
    SESSION_S,
    Pace.WALL,
    SESSION_S * kinds.MISSED_WRITES,
    text=True,
)

# What frontends write
TRADING_CONFIG = kinds.frontend(
    "frontend:trading_config", TypeAdapter(settings.TradingConfig), "Trading configuration.", _DEFAULTS
)
BOT_STRATEGY = kinds.frontend(
    "frontend:bot_strategy", TypeAdapter(settings.BotStrategy), "Which signals count, and how.", _DEFAULTS
)
PORTFOLIO_SETTINGS = kinds.frontend(
    "frontend:portfolio_settings", TypeAdapter(settings.PortfolioSettings), "Spread, exclusions and reserve.", _DEFAULTS
)
MANUAL_ORDERS: Key[tuple[orders.ManualOrder | orders.MalformedOrder, ...]] = kinds.shared(
    "frontend:manual_orders",
    TypeAdapter(orders.ManualOrders),
    "process_manual_orders",
    "Orders a human asks for.",
    "No human has asked for an order.",
)
EMERGENCY_ACTIONS = kinds.frontend(
    "frontend:emergency_actions",
    TypeAdapter(orders.EmergencyAction),
    "Wins over everything, once confirmed.",
    "No emergency.",
)
UI_STATE = kinds.frontend(
    "frontend:ui_state",
    TypeAdapter(settings.UiState),
    "What a user interface shows. Each write is a sign of life of its session.",
    "No user interface is open.",
)
ALERT_ACKNOWLEDGEMENTS = kinds.frontend(
    "frontend:alert_acknowledgements",
    TypeAdapter(extra.AlertAcknowledgements),
    "Alerts that a human has seen; may be emptied once they show as acknowledged.",
    "Nothing to acknowledge.",
    extension=True,
)
PRICE_ALERTS = kinds.frontend(
    "frontend:price_alerts",
    TypeAdapter(extra.PriceAlerts),
    "Price levels a human wants to hear of. Each raises one PRICE_ALERT when it is crossed.",
    "No levels are watched.",
    extension=True,
)
TRAINING_REQUEST = kinds.frontend(
    "frontend:training_request",
    TypeAdapter(extra.TrainingRequest),
    "Asks for a training with trigger `manual`, once for each request_id.",
    "No training was asked for.",
    extension=True,
)

# What frontends show
TRADING_PERFORMANCE = kinds.market(
    "backend:trading_performance",
    TypeAdapter(back.TradingPerformance),
    "performance_calculator",
    PERFORMANCE_S,
    "Profit, risk and trade statistics.",
)
GROK_CANDIDATES = kinds.event(
    "backend:grok_candidates",
    TypeAdapter(tuple[back.GrokCandidate, ...]),
    "refresh_candidates",
    "Grok's picks.",
    _NO_GROK,
)
ACTIVE_ORDERS = kinds.wall(
    "backend:active_orders",
    TypeAdapter(tuple[back.ActiveOrder, ...]),
    "update_backend_responses",
    RESPONSES_S,
    "Orders open at the broker.",
)
RECENT_TRADES = kinds.wall(
    "backend:recent_trades",
    TypeAdapter(tuple[back.RecentTrade, ...]),
    "update_backend_responses",
    RESPONSES_S,
    "The last executions, newest first.",
)
PORTFOLIO_SUMMARY = kinds.wall(
    "backend:portfolio_summary",
    TypeAdapter(back.PortfolioSummary),
    "update_backend_responses",
    RESPONSES_S,
    "Value, day change and spread.",
)
ALERTS_ACTIVE = kinds.wall(
    "backend:alerts_active",
    TypeAdapter(tuple[back.Alert, ...]),
    "update_backend_responses",
    RESPONSES_S,
    "Alerts a human should see.",
)
SYSTEM_HEALTH = kinds.wall(
    "backend:system_health",
    TypeAdapter(back.SystemHealth),
    "update_backend_responses",
    RESPONSES_S,
    "Services, latency and load.",
)
ML_PREDICTIONS_ENHANCED = kinds.market(
    "backend:ml_predictions_enhanced",
    TypeAdapter(ml.EnhancedPredictions),
    "generate_predictions",
    FORECAST_S,
    "Forecasts for charts.",
)
ML_TRADING_SIGNALS = kinds.market(
    "backend:ml_trading_signals",
    TypeAdapter(tuple[ml.TradingSignal, ...]),
    "generate_predictions",
    FORECAST_S,
    "Signals of the forecasts.",
)

# Forecasts and training
PREDICTIONS_CURRENT = kinds.market(
    "predictions_current", _PRICES, "generate_predictions", FORECAST_S, "Forecast price by ticker and minutes ahead."
)
PREDICTIONS_PENDING = kinds.market(
    "predictions_pending",
    TypeAdapter(tuple[ml.PendingPrediction, ...]),
    "generate_predictions",
    FORECAST_S,
    "Forecasts whose time has not come.",
)
MODEL_TRAINED = kinds.event(
    "model_trained", TypeAdapter(StrictBool), "train_models", "Whether there is an artifact to forecast with."
)
PREDICTION_QUALITY = kinds.history(
    "prediction_quality_metrics_history",
    TypeAdapter(tuple[ml.PredictionQuality, ...]),
    "evaluate_predictions",
    limits.QUALITY_HISTORY_MAX,
    "How matured forecasts did.",
    _NOT_MATURED,
)
ML_TRAINING_STATUS = kinds.event(
    "ml_training_status", TypeAdapter(ml.TrainingStatus), "train_models", "Training, live.", _NOT_TRAINED
)
ML_TRAINING_LOG = kinds.history(
    "ml_training_log",
    TypeAdapter(tuple[ml.TrainingLogEntry, ...]),
    "train_models",
    limits.TRAINING_LOG_MAX,
    "Training events, newest last.",
    _NOT_TRAINED,
)
MODEL_METRICS_HISTORY = kinds.history(
    "model_metrics_history",
    TypeAdapter(tuple[ml.ModelMetrics, ...]),
    "train_models",
    limits.METRICS_HISTORY_MAX,
    "Metrics of every training, newest last.",
    _NOT_TRAINED,
)
MODEL_PATHS = kinds.event(
    "model_paths_multi", TypeAdapter(dict[ml.Horizon, Text]), "train_models", "Artifact by horizon.", _NOT_TRAINED
)
MODEL_FEATURES = kinds.event(
    "model_features_multi",
    TypeAdapter(dict[ml.Horizon, tuple[Name, ...]]),
    "train_models",
    "Features by horizon.",
    _NOT_TRAINED,
)
LAST_TRAINING_STATS = kinds.event(
    "last_training_stats",
    TypeAdapter(ml.TrainingStats),
    "train_models",
    "What the last training used and reached.",
    _NOT_TRAINED,
)
RETRAIN_STATUS = kinds.event(
    "retrain_status", TypeAdapter(ml.RetrainStatus), "evaluate_predictions", "Why and when again.", _NOT_TRAINED
)
DEVIATION_TRACKER = kinds.history(
    "deviation_tracker",
    TypeAdapter(tuple[ml.Deviation, ...]),
    "generate_predictions",
    limits.DEVIATIONS_MAX,
    "Matured forecasts beside what happened, newest last.",
    _NOT_MATURED,
)

# Market data
MARKET_DATA = kinds.market(
    "market_data", TypeAdapter(dict[Ticker, market.MarketPrice]), "fetch_data", FETCH_S, "Latest price by ticker."
)
MARKET_SOURCE_STATS = kinds.market(
    "market_source_stats", TypeAdapter(market.SourceStats), "fetch_data", FETCH_S, "Tickers answered, by source."
)
MULTI_API_DATA = kinds.market(
    "multi_api_enhanced_data",
    TypeAdapter(dict[Ticker, market.MultiApiQuote]),
    "fetch_data",
    FETCH_S,
    "Quotes of several sources joined.",
)
MULTI_API_STATS = kinds.market(
    "multi_api_enhanced_stats", TypeAdapter(market.MultiApiStats), "fetch_data", FETCH_S, "Calls and errors by source."
)
DYNAMIC_TICKERS = kinds.event(
    "dynamic_tickers", TypeAdapter(tuple[Ticker, ...]), "fetch_data", "The tickers QBot looks at."
)
GROK_TOPSTOCKS = kinds.event(
    "grok_topstocks_prediction", TypeAdapter(market.TopStocks), "refresh_candidates", "Grok's raw picks.", _NO_GROK
)
YFINANCE_ENHANCED = kinds.event(
    "yfinance_enhanced:{TICKER}",
    TypeAdapter(market.YahooTicker),
    "fetch_data",
    "History, fundamentals and news.",
    _NO_YAHOO,
)
YFINANCE_STATUS = kinds.event(
    "yfinance_enhanced_status",
    TypeAdapter(market.YahooStatus),
    "fetch_data",
    "Progress of the Yahoo Finance fetch.",
    _NO_YAHOO,
)

# QBot's own
SENTINEL = kinds.event("qbot:sentinel", _NAME, "monitor_autotrading_frontend", "Gone after a FLUSHALL.", text=True)
REVISION_COUNTER = "qbot:revision"
WRITTEN = "qbot:written"  # hash: key → Stamp of its last write
TAKEN = "qbot:taken"  # hash: key → when what it shows was taken from the broker, milliseconds since 1970
PROBE = "qbot:probe"  # written and removed at once, to hear whether the server raises keyspace events
OWN_WRITES = "qbot:own"  # channel: the name of a key right before QBot writes it; tells its events from a frontend's
# Of each source of market data, the source's name behind a colon. They may be lost: quotas are counted in Postgres.
SOURCE_PACE = "qbot:pace"  # sorted set: the calls of the last minute, by all workers
SOURCE_BREAKER = "qbot:breaker"  # pybreaker's own keys, under the source and a fingerprint of its key
SOURCE_CLOSED = "qbot:closed"  # hash: breaker → why it is open, and until when

UPDATES = Channel("qbot:updates", TypeAdapter(chan.Update), "Every change of every key.")
FORECAST_UPDATES = Channel("forecast_updates", TypeAdapter(chan.ForecastUpdate), "Each new forecast.")
RISK_UPDATES = Channel("risk_updates", TypeAdapter(chan.RiskUpdate), "Each change of the risk factor.")
STRATEGY_CONFIG = Channel("strategy_config", TypeAdapter(chan.StrategyConfigChange), "Each change of a setting.")

ENTRIES: dict[str, Key[object]] = {entry.name: entry for entry in tuple(globals().values()) if isinstance(entry, Key)}
CHANNELS: dict[str, Channel[object]] = {
    entry.name: entry for entry in tuple(globals().values()) if isinstance(entry, Channel)
}
