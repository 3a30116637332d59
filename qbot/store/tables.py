"""The trading tables. Alembic (`store/migrations`) makes them; Django owns its own and the beat schedule.

Every `*_at` is market time unless it ends in `_wall`: in a replay the two differ.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Time = sa.DateTime(timezone=True)
Money = sa.Numeric(20, 6)
Usd = sa.Numeric(14, 10)  # what calls cost: xAI counts 1e-10 USD
Shares = sa.Numeric(24, 9)  # the venue sells fractions of a share down to a billionth

bars = sa.Table(
    "bars",
    metadata,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("ts", Time, primary_key=True, comment="start of the bar"),
    sa.Column("open", sa.Float, nullable=False),
    sa.Column("high", sa.Float, nullable=False),
    sa.Column("low", sa.Float, nullable=False),
    sa.Column("close", sa.Float, nullable=False),
    sa.Column("volume", sa.Float, nullable=False),
    sa.Column("source", sa.Text, nullable=False, comment="volumes of different sources are not the same volume"),
    sa.Column("adjustment", sa.Text, nullable=False, server_default="split", comment="split|raw"),
    sa.CheckConstraint("adjustment IN ('split', 'raw')", name="adjustment"),
    sa.Index(None, "ts"),
)

bars_answered = sa.Table(
    "bars_answered",
    metadata,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("begin", Time, primary_key=True, comment="of the session"),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("bars", sa.Integer, nullable=False, comment="as many as it has of that session"),
    sa.Column("answered_at_wall", Time, nullable=False),
    sa.Index(None, "begin"),
    comment="sessions with fewer bars than five minutes, of which a source has told all it has: not asked again",
)

corporate_actions = sa.Table(
    "corporate_actions",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("symbol", sa.Text, nullable=False, index=True),
    sa.Column("ex_day", sa.Date, nullable=False, comment="the first day of the new shares, as far as bars tell"),
    sa.Column("kind", sa.Text, nullable=False, comment="split|reverse_split"),
    sa.Column("ratio", sa.Numeric(12, 6), nullable=False, comment="new shares for an old one"),
    sa.Column("source", sa.Text, nullable=False, comment="whose bars told of it"),
    sa.Column("bars", sa.Integer, nullable=False, comment="that were put on the new scale"),
    sa.Column("noted_at", Time, nullable=False),
    sa.Column("noted_at_wall", Time, nullable=False),
    sa.CheckConstraint("ratio > 0 AND ratio <> 1", name="ratio"),
    comment="splits that were seen in bars, each once",
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("artifact_id", sa.Text, primary_key=True),
    sa.Column("horizon_minutes", sa.Integer, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("features", JSONB, nullable=False),
    sa.Column("metrics", JSONB, nullable=False),
    sa.Column("skilled", sa.Boolean, nullable=False),
    sa.Column("training_id", sa.Text, sa.ForeignKey("trainings.training_id"), nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("standing", sa.Boolean, nullable=False, comment="serves forecasts; one a horizon"),
    sa.Column(
        "trial", sa.Integer, nullable=False, server_default="1", comment="how many of its horizon there were, with it"
    ),
    sa.Column("verdict", JSONB, comment="of its promotion, with the numbers"),
    sa.Column("unusable", sa.Text, comment="why it cannot be loaded; null when it can"),
    sa.Index("uq_artifacts_standing", "horizon_minutes", unique=True, postgresql_where=sa.text("standing")),
)

artifact_log = sa.Table(
    "artifact_log",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("artifact_id", sa.Text, sa.ForeignKey("artifacts.artifact_id"), nullable=False, index=True),
    sa.Column("horizon_minutes", sa.Integer, nullable=False),
    sa.Column("event", sa.Text, nullable=False, comment="stands|refused|demoted|rolled_back"),
    sa.Column("before_id", sa.Text, sa.ForeignKey("artifacts.artifact_id"), comment="what stood; null: nothing did"),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", Time, nullable=False),
    sa.Column("at_wall", Time, nullable=False),
    comment="every verdict, and every change of what serves",
)

trainings = sa.Table(
    "trainings",
    metadata,
    sa.Column("training_id", sa.Text, primary_key=True),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False, comment="running|success|failed"),
    sa.Column("started_at", Time, nullable=False),
    sa.Column("started_at_wall", Time, nullable=False),
    sa.Column("finished_at_wall", Time),
    sa.Column("stats", JSONB, nullable=False, server_default="{}"),
    sa.Column("progress", JSONB, comment="the last event of the training process"),
    sa.Column("begun", sa.Text, comment="for a human: what it set out with"),
    sa.Column("outcome", sa.Text, comment="for a human: what came of it"),
)

forecasts = sa.Table(
    "forecasts",
    metadata,
    sa.Column("forecast_id", sa.Text, primary_key=True),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("horizon_minutes", sa.Integer, nullable=False),
    sa.Column("issued_at", Time, nullable=False),
    sa.Column("eta", Time, nullable=False),
    sa.Column("current_price_usd", sa.Float, nullable=False),
    sa.Column("return_pct", sa.Float, nullable=False),
    sa.Column("low_return_pct", sa.Float, nullable=False),
    sa.Column("high_return_pct", sa.Float, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("artifact_id", sa.Text, sa.ForeignKey("artifacts.artifact_id"), nullable=False),
    sa.Column("skilled", sa.Boolean, nullable=False),
    sa.Column("actual_price_usd", sa.Float, comment="known once matured"),
    sa.Column("matured_at", Time),
    sa.Column("incomparable", sa.Text, comment="why it matured without a price: closed|no bar|split"),
    sa.Index(None, "issued_at"),
    sa.Index("ix_forecasts_pending", "eta", postgresql_where=sa.text("matured_at IS NULL")),
    sa.Index("ix_forecasts_known", "eta", postgresql_where=sa.text("actual_price_usd IS NOT NULL")),
)

forecast_quality = sa.Table(
    "forecast_quality",
    metadata,
    sa.Column("at", Time, primary_key=True),
    sa.Column("window_hours", sa.Float, nullable=False),
    sa.Column("per_horizon", JSONB, nullable=False),
)

forecast_days = sa.Table(
    "forecast_days",
    metadata,
    sa.Column("artifact_id", sa.Text, sa.ForeignKey("artifacts.artifact_id"), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True, comment="New York"),
    sa.Column("scaled", sa.Float, nullable=False, comment="mean absolute error in half widths of the intervals"),
    sa.Column("naive", sa.Float, nullable=False, comment="the same of no change"),
    sa.Column("outside", sa.Float, nullable=False, comment="share outside the 80 % interval"),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("times", sa.Integer, nullable=False, comment="moments of issue"),
    comment="how each artifact did on each day whose forecasts have all matured",
)

deviation_alarms = sa.Table(
    "deviation_alarms",
    metadata,
    sa.Column("artifact_id", sa.Text, sa.ForeignKey("artifacts.artifact_id"), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True, comment="New York; the last one it is about. Later days count anew"),
    sa.Column("kind", sa.Text, nullable=False, comment="drift|bound"),
    sa.Column("why", sa.Text, nullable=False, comment="for a human"),
    sa.Column("numbers", JSONB, nullable=False),
    sa.Column("at", Time, nullable=False),
    sa.Column("at_wall", Time, nullable=False),
    sa.Column("training_id", sa.Text, sa.ForeignKey("trainings.training_id"), comment="null while none has answered"),
)

newest_cycle = sa.Table(
    "newest_cycle",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("ran_at", Time, nullable=False),
    sa.Column("error", sa.Text, comment="why the cycle ended early; null when it did not"),
    sa.Column("worker_pid", sa.Integer, nullable=False),
    sa.CheckConstraint("one", name="one_row"),
)

settings_revisions = sa.Table(
    "settings_revisions",
    metadata,
    sa.Column("revision", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("effective", JSONB, nullable=False),
    sa.Column("made_at_wall", Time, nullable=False),
)

switch = sa.Table(
    "switch",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("on", sa.Boolean, nullable=False),
    sa.Column("session_id", sa.Text),
    sa.Column("latched", sa.Boolean, nullable=False, comment="emergency stop: trading needs a human's new start"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("seen", JSONB, nullable=False, comment="fingerprints of the inputs last acted upon"),
    sa.Column("epoch", sa.BigInteger, nullable=False, comment="grows with every change; intents name theirs"),
    sa.Column("stopping", sa.Boolean, nullable=False, server_default=sa.false(), comment="entries not yet cancelled"),
    sa.Column("breaker", sa.Boolean, nullable=False, server_default=sa.false(), comment="latched by a circuit breaker"),
    sa.Column("reducing", sa.Boolean, nullable=False, server_default=sa.false(), comment="the cycles' exits go on"),
    sa.Column(
        "revision", sa.BigInteger, nullable=False, server_default="0", comment="the board's counter, as last seen"
    ),
    sa.Column("changed_at_wall", Time, nullable=False),
    sa.CheckConstraint("one", name="one_row"),
)

switch_log = sa.Table(
    "switch_log",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_wall", Time, nullable=False),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("decision_id", sa.Text, primary_key=True),
    sa.Column("cycle_id", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("allowed", sa.Boolean, nullable=False),
    sa.Column("refusal", sa.Text),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("numbers", JSONB, nullable=False),
    sa.Column("signal", JSONB, comment="the signal with its reasons, as the gate saw it"),
    sa.Column("forecast_id", sa.Text),
    sa.Column("settings_revision", sa.BigInteger),
    sa.Column("decided_at", Time, nullable=False),
    sa.Index(None, "decided_at"),
)

intents = sa.Table(
    "intents",
    metadata,
    sa.Column("client_order_id", sa.Text, primary_key=True),
    sa.Column("decision_id", sa.Text, sa.ForeignKey("decisions.decision_id"), nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, comment="entry|exit"),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("qty", Money, nullable=False),
    sa.Column("reserved_usd", Money, nullable=False, comment="what the caps count until the order is closed"),
    sa.Column("spec", JSONB, nullable=False),
    sa.Column("status", sa.Text, nullable=False, comment="committed|in_doubt|sent|rejected|denied|closed|abandoned"),
    sa.Column("broker_order_id", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("market_day", sa.Text, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("created_at_wall", Time, nullable=False),
    sa.Column(
        "since_uptime_s",
        JSONB,
        nullable=False,
        server_default="{}",
        comment="by boot of a machine: its uptime at the commit, or when it first looked for the order of another's",
    ),
    sa.Column("switch_epoch", sa.BigInteger, nullable=False),
    sa.Column("filled_usd", Money, nullable=False, server_default="0"),
    sa.Column("closed_at_wall", Time),
    sa.Index(None, "market_day", "symbol"),
    sa.Index("ix_intents_unsettled", "status", postgresql_where=sa.text("status IN ('committed', 'in_doubt', 'sent')")),
)

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("broker_order_id", sa.Text, primary_key=True),
    sa.Column("client_order_id", sa.Text, nullable=False, unique=True),
    sa.Column("parent_id", sa.Text),
    sa.Column("replaces", sa.Text, comment="broker's id of the order it took the place of"),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("order_type", sa.Text, nullable=False),
    sa.Column("time_in_force", sa.Text, nullable=False),
    sa.Column("qty", Shares, nullable=False),
    sa.Column("filled_qty", Shares, nullable=False),
    sa.Column("filled_avg_price_usd", Money),
    sa.Column("limit_price_usd", Money),
    sa.Column("stop_price_usd", Money),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.Index(None, "created_at"),
    sa.Index(None, "status"),
)

fills = sa.Table(
    "fills",
    metadata,
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("broker_order_id", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("qty", Shares, nullable=False),
    sa.Column("price_usd", Money, nullable=False),
    sa.Column("at", Time, nullable=False),
    sa.Index(None, "at"),
    sa.Index(None, "symbol", "at"),
    sa.Index(None, "broker_order_id"),
)

equity = sa.Table(
    "equity",
    metadata,
    sa.Column("at", Time, primary_key=True),
    sa.Column("equity_usd", Money, nullable=False),
    sa.Column("cash_usd", Money, nullable=False),
    sa.Column("expected_cash_usd", Money, comment="what the ledger made the cash come to; null: not reckoned"),
)

trades = sa.Table(
    "trades",
    metadata,
    sa.Column("entry_id", sa.Text, primary_key=True, comment="the execution, or adjustment, that opened the shares"),
    sa.Column("exit_id", sa.Text, primary_key=True, comment="the execution that closed them"),
    sa.Column("entry_order_id", sa.Text, nullable=False),
    sa.Column("exit_order_id", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False, comment="of the entry: buy is a long trade"),
    sa.Column("qty", Shares, nullable=False),
    sa.Column("entry_price_usd", Money, nullable=False),
    sa.Column("exit_price_usd", Money, nullable=False),
    sa.Column("fees_usd", Money, nullable=False, comment="by order the venue charges none; see activities"),
    sa.Column("pnl_usd", Money, nullable=False),
    sa.Column("pnl_pct", sa.Float, comment="fraction of what the shares cost; null where they cost nothing"),
    sa.Column("opened_at", Time, nullable=False),
    sa.Column("closed_at", Time, nullable=False),
    sa.Index(None, "symbol", "closed_at"),
    sa.Index(None, "closed_at"),
    sa.Index(None, "exit_id"),
    sa.Index(None, "entry_order_id"),
    sa.Index(None, "exit_order_id"),
    comment="closed round trips, first in first out: written with the fills they are made of",
)

lots = sa.Table(
    "lots",
    metadata,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False, index=True),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("qty", Shares, nullable=False, comment="of it still held, or owed"),
    sa.Column("price_usd", Money, nullable=False),
    sa.Column("at", Time, nullable=False),
    comment="what is open, by the execution that opened it",
)

broker_accounts = sa.Table(
    "broker_accounts",
    metadata,
    sa.Column("opening", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("account_id", sa.Text, comment="the venue's id; null where it tells none"),
    sa.Column("number", sa.Text),
    sa.Column("kind", sa.Text, nullable=False, comment="paper|live|unknown"),
    sa.Column("positions_from", Time, comment="fills up to then stand in the adjustments; null: every fill counts"),
    sa.Column("cash_usd", Money, comment="cash before every fill and activity that counts; null: not reckoned yet"),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("opened_at", Time, nullable=False),
    sa.Column("opened_at_wall", Time, nullable=False),
    sa.Column("other_account_id", sa.Text, comment="another account that answers in its place; null: it does itself"),
    sa.Column("other_number", sa.Text),
    comment="which account the ledger is of, and from when: one row an opening, the newest counts",
)

adjustments = sa.Table(
    "adjustments",
    metadata,
    sa.Column("adjustment_id", sa.Text, primary_key=True),
    sa.Column("opening", sa.BigInteger, sa.ForeignKey("broker_accounts.opening"), nullable=False, index=True),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("qty_before", Shares, nullable=False, comment="what the ledger held for its own"),
    sa.Column("qty", Shares, nullable=False, comment="what is held from then on"),
    sa.Column("price_usd", Money, nullable=False, comment="what a share of it cost, by the broker"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", Time, nullable=False),
    sa.Column("at_wall", Time, nullable=False),
    comment="what a human took over from the broker, past orders and fills",
)

activities = sa.Table(
    "activities",
    metadata,
    sa.Column("activity_id", sa.Text, primary_key=True),
    sa.Column("opening", sa.BigInteger, sa.ForeignKey("broker_accounts.opening"), nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False, comment="the venue's word: FEE, DIV, CSD, JNLC, SPLIT, INT …"),
    sa.Column("sub_kind", sa.Text, comment="the venue's word: REG, TAF, CAT, CDIV …"),
    sa.Column("symbol", sa.Text),
    sa.Column("qty", Shares),
    sa.Column("amount_usd", Money, nullable=False, comment="into the account; negative: out of it"),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("at", Time, nullable=False, comment="when the venue made it"),
    sa.Index(None, "day"),
    comment="what changed the account besides trades: fees, dividends, transfers, interest, splits",
)

risk_log = sa.Table(
    "risk_log",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("at", Time, nullable=False),
    sa.Column("at_wall", Time, nullable=False),
    sa.Column("risk_factor", sa.Numeric(6, 4), nullable=False),
    sa.Column("reasons", JSONB, nullable=False),
    sa.Column("tripped", JSONB, nullable=False),
    sa.Column("rolling_loss_pct", sa.Numeric(9, 6), nullable=False),
    sa.Column("drawdown_pct", sa.Numeric(9, 6), nullable=False),
    sa.Column("numbers", JSONB, nullable=False, comment="what was measured"),
    sa.Index(None, "at"),
    comment="every change of factor, reasons or breakers",
)

risk_state = sa.Table(
    "risk_state",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("looked_at", Time, nullable=False),
    sa.Column("looked_at_wall", Time, nullable=False),
    sa.Column("peak_usd", Money, comment="the highest confirmed equity since the baseline"),
    sa.Column("baseline_at", Time, comment="losses, rejections and trades count from here: the last resume"),
    sa.Column("lasting", JSONB, nullable=False, comment="since when trouble lasts, by name"),
    sa.Column("report", JSONB, comment="what the engine said last"),
    sa.CheckConstraint("one", name="one_row"),
)

breakers = sa.Table(
    "breakers",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("tripped_at", Time, nullable=False),
    sa.Column("tripped_at_wall", Time, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("advice", sa.Text, nullable=False),
    sa.Column("numbers", JSONB, nullable=False),
    sa.Column("resumed_at", Time, comment="null while it stands"),
    sa.Column("resumed_at_wall", Time),
    sa.Column("resumed_by", sa.Text),
    sa.Index("uq_breakers_standing", "name", unique=True, postgresql_where=sa.text("resumed_at IS NULL")),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("alert_id", sa.Text, primary_key=True, comment="deterministic: the same trouble alerts once a period"),
    sa.Column("trouble", sa.Text, nullable=False, comment="the same for the same trouble, whatever its words"),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("triggered_at_wall", Time, nullable=False),
    sa.Column("expires_at_wall", Time, nullable=False),
    sa.Column("acknowledged", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("acknowledged_by", sa.Text, comment="the UI session of the human who saw it, where it was named"),
    sa.Column("acknowledged_at_wall", Time),
    sa.Index(None, "expires_at_wall"),
)

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("alert_id", sa.Text, sa.ForeignKey("alerts.alert_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True, comment="number and kind of the address; the address is a secret"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_try_wall", Time, nullable=False),
    sa.Column("problem", sa.Text, comment="of the last attempt"),
    sa.Column("outcome", sa.Text, comment="sent|given_up|held|summed; null while it is owed"),
    sa.Column("ended_at_wall", Time),
    sa.Index("ix_notifications_owed", "channel", "next_try_wall", postgresql_where=sa.text("outcome IS NULL")),
    sa.Index(None, "channel", "ended_at_wall"),
    comment="which alert is owed to which channel: written with the alert, so that none is lost",
)

grok_calls = sa.Table(
    "grok_calls",
    metadata,
    sa.Column("call_id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("asked_at", Time, nullable=False),
    sa.Column("asked_at_wall", Time, nullable=False, index=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("search", sa.Boolean, nullable=False),
    sa.Column("reserved_usd", Usd, nullable=False, comment="its worst case, which counts while its cost is not known"),
    sa.Column("cost_usd", Usd, comment="as xAI told; null while or where that is not known"),
    sa.Column("outcome", sa.Text, comment="answered|unusable, or what failed; null while it is out"),
    sa.Column("retry_after_s", sa.Float, comment="where xAI said how long to wait"),
    sa.Column("dropped", JSONB, comment="how much of the answer counts for nothing, by reason"),
    sa.Column("known_at", Time, comment="when the answer was there; null without a usable one"),
    sa.Column("known_at_wall", Time),
    sa.CheckConstraint("reserved_usd > 0 AND cost_usd >= 0", name="usd"),
    sa.Index(
        "ix_grok_calls_answered", "known_at_wall", "call_id", postgresql_where=sa.text("known_at_wall IS NOT NULL")
    ),
    comment="every call of Grok: what it may spend is counted here, over restarts and for all workers",
)

grok_candidates = sa.Table(
    "grok_candidates",
    metadata,
    sa.Column("call_id", sa.BigInteger, sa.ForeignKey("grok_calls.call_id"), primary_key=True),
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("rank", sa.Integer, nullable=False, comment="its place in the answer"),
    sa.Column("known_at", Time, nullable=False, comment="as of the call: no row of features before it may know this"),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("sentiment", sa.Float, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("expected_return_pct", sa.Float, nullable=False),
    sa.Column("risk_level", sa.Integer, nullable=False),
    sa.Column("price_usd", sa.Float, comment="the newest close; null where QBot had none of the last minutes"),
    sa.Column("reason", sa.Text, nullable=False, comment="plain words, for humans to read"),
    sa.CheckConstraint(
        "score BETWEEN 0 AND 1 AND sentiment BETWEEN -1 AND 1 AND confidence BETWEEN 0 AND 1 "
        "AND risk_level BETWEEN 1 AND 5",
        name="bounds",
    ),
    sa.Index(None, "symbol", "known_at"),
    comment="what of Grok's answers counted; kept, since past sentiment is a feature",
)

handled = sa.Table(
    "handled",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True, comment="emergency|manual_order"),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("outcome", JSONB, nullable=False),
    sa.Column("at_wall", Time, nullable=False),
    comment="what a frontend asked for once and must never be done twice",
)

manual_orders = sa.Table(
    "manual_orders",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, sa.Identity(), nullable=False, unique=True, comment="in the order first seen"),
    sa.Column("body", sa.JSON, nullable=False, comment="the order as first seen; json, not jsonb: kept as it came"),
    sa.Column("first_seen_wall", Time, nullable=False),
    sa.Column("final_shown_wall", Time, comment="when its final status stood on the board; from then on it may go"),
    sa.Index("ix_manual_orders_owed", "number", postgresql_where=sa.text("final_shown_wall IS NULL")),
    comment="what a frontend asked for by hand outlives the shared array it was read from",
)

ui_sessions = sa.Table(
    "ui_sessions",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("first_seen_wall", Time, nullable=False),
    sa.Column("last_seen_wall", Time, nullable=False),
    sa.Column("ended_at_wall", Time, comment="when it was found stale; a later write opens it again"),
    sa.Index(None, "last_seen_wall"),
)

input_sightings = sa.Table(
    "input_sightings",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("elements", JSONB, nullable=False, comment="at the last look: only news is a heartbeat"),
    sa.Column("seen_wall", Time, nullable=False),
)

last_good_inputs = sa.Table(
    "last_good_inputs",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("seen_wall", Time, nullable=False),
    comment="the last valid value of inputs that go on to matter while the key is invalid",
)

training_requests = sa.Table(
    "training_requests",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("session_id", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("asked_at_wall", Time, nullable=False),
    sa.Column("training_id", sa.Text, sa.ForeignKey("trainings.training_id"), comment="null while it waits"),
    sa.Index("ix_training_requests_waiting", "asked_at_wall", postgresql_where=sa.text("training_id IS NULL")),
)

source_quotas = sa.Table(
    "source_quotas",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("span", sa.Text, primary_key=True, comment="day|month"),
    sa.Column("begins_wall", Time, primary_key=True, comment="begin of the vendor's own day or month"),
    sa.Column("used", sa.Integer, nullable=False, comment="calls or symbols, as the vendor counts; reserved ones too"),
    sa.Column("changed_wall", Time, nullable=False),
    comment="what was used of each source's quota, by all workers and over restarts",
)

universe = sa.Table(
    "universe",
    metadata,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("rank", sa.Integer, nullable=False, comment="the most important first"),
    sa.Column("why", sa.Text, nullable=False, comment="what names it"),
    sa.Column("since_wall", Time, nullable=False),
    comment="the tickers that are looked at",
)

source_quotes = sa.Table(
    "source_quotes",
    metadata,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("price_usd", Money, nullable=False),
    sa.Column("bid_usd", Money, nullable=False),
    sa.Column("ask_usd", Money, nullable=False),
    sa.Column("at", Time, nullable=False, comment="when the venue stamped it"),
    sa.Column("received_wall", Time, nullable=False),
    sa.Column("pass_at", Time, nullable=False, comment="begin of the pass that asked for it"),
    sa.Column("day", JSONB, nullable=False, comment="what the same answer told of the session"),
    sa.Column("refused", sa.Text, comment="why it is not used; null while it is"),
    comment="what each source told of a ticker last",
)

prices = sa.Table(
    "prices",
    metadata,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("price_usd", Money, nullable=False),
    sa.Column("bid_usd", Money, nullable=False),
    sa.Column("ask_usd", Money, nullable=False),
    sa.Column("at", Time, nullable=False, comment="when the venue stamped it"),
    sa.Column("received_wall", Time, nullable=False),
    sa.Column("source", sa.Text, nullable=False, comment="whose quote it is"),
    sa.Column("sources", JSONB, nullable=False, comment="who agrees with it, its own source first"),
    sa.Column("basis", sa.Text, nullable=False, comment="majority|alone|last"),
    comment="the last accepted price of each ticker",
)

data_needs = sa.Table(
    "data_needs",
    metadata,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("need", sa.Text, primary_key=True, comment="price|bars|close|news|fundamentals"),
    sa.Column("got_at", Time, comment="when a source last answered"),
    sa.Column("confirmed_at", Time, comment="when two sources last agreed"),
    sa.Column("disputed", sa.Boolean, nullable=False, comment="the last answers disagree"),
    comment="when each ticker last got what is asked for again and again",
)

source_refusals = sa.Table(
    "source_refusals",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("fault", sa.Text, nullable=False, comment="unknown_symbol|plan"),
    sa.Column("since_wall", Time, nullable=False),
    comment="tickers that a source does not know, or not on this plan: not asked for again for a while",
)

source_accesses = sa.Table(
    "source_accesses",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, comment="fingerprint of its key: whose quotas are counted"),
    sa.Column(
        "access", sa.Text, nullable=False, comment="of key, secret, address, feed and plan: whose refusals stand"
    ),
    sa.Column("since_wall", Time, nullable=False),
    comment="what each source is asked with, so that a change forgets what was met before it",
)

source_outcomes = sa.Table(
    "source_outcomes",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("answered_wall", Time, comment="when it last answered"),
    sa.Column("failed_wall", Time, comment="when it last did not"),
    sa.Column("fault", sa.Text, comment="why, the last time"),
    sa.Column("words", sa.Text, comment="the same for a human"),
    comment="how each source of market data does",
)

fetch_passes = sa.Table(
    "fetch_passes",
    metadata,
    sa.Column("began_at", Time, primary_key=True),
    sa.Column("took_s", sa.Float, nullable=False, comment="wall time"),
    sa.Column("tickers", sa.Integer, nullable=False, comment="whose price was asked for"),
    sa.Column("priced", sa.Integer, nullable=False, comment="of them, those that have one"),
    sa.Column("unanswered", sa.Integer, nullable=False, comment="of them, those that no source answered for"),
    sa.Column("sources", JSONB, nullable=False, comment="of each: answered, failed, refused quotes by reason"),
    comment="what came of each pass over the tickers",
)

company_facts = sa.Table(
    "company_facts",
    metadata,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True, comment="fundamentals|news|days"),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("known_at", Time, nullable=False),
    sa.Column("body", JSONB, nullable=False),
    comment="what sources tell of companies besides prices",
)

task_ticks = sa.Table(
    "task_ticks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("started_at", Time, nullable=False, comment="wall time"),
)
