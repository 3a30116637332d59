"""The environment, read once. What a frontend sets at run time is not here but on the Redis board."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, StrictBool, StrictInt, TypeAdapter, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent
PLAN_CHANGES: TypeAdapter[dict[str, dict[str, StrictInt | StrictBool | None]]] = TypeAdapter(
    dict[str, dict[str, StrictInt | StrictBool | None]]
)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")  # as both logging and Celery have them
KEYS = (
    "alpaca_api_key", "alpaca_secret_key", "finnhub_api_key", "twelvedata_api_key", "fmp_api_key",
    "marketstack_api_key", "xai_api_key",
)  # fmt: skip
LOOPBACK = ("127.0.0.1", "localhost", "::1")
BETWEEN_URLS = re.compile(r"[\s,;]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")


def safe_url(url: str) -> bool:
    """Whether a key may be sent there: encrypted, or within this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    here = host in LOOPBACK or (host or "").endswith(".localhost")  # RFC 6761: whatever the name, this machine
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and here))


class Settings(BaseSettings):
    """Every environment variable QBot reads: `QBOT_` + the upper-case name, from the environment or `.env`."""

    model_config = SettingsConfigDict(env_prefix="QBOT_", env_file=ROOT / ".env", extra="ignore", frozen=True)

    home: Path = Field(default=ROOT / ".qbot" / "main", description="Folder of all data the embedded stack keeps.")
    redis_host: str = "127.0.0.1"
    redis_port: int = Field(default=6380, description="6380: where the frontends' documents say Redis is.")
    redis_user: str = Field(default="backend", description="Whom QBot's own processes log in as.")
    redis_password: SecretStr = Field(default=SecretStr(""), description="Of redis_user.")
    redis_frontend_password: SecretStr = Field(
        default=SecretStr(""), description="Of the users `frontend` and `default`: what a frontend logs in with."
    )
    redis_viewer_password: SecretStr = Field(default=SecretStr(""), description="Of the user `viewer`, who only reads.")
    postgres_host: str = "127.0.0.1"
    postgres_port: int = 6432
    postgres_user: str = "qbot"
    postgres_password: SecretStr = SecretStr("")
    postgres_db: str = "qbot"
    exchange_host: str = Field(default="127.0.0.1", description="Where the paper exchange listens.")
    exchange_port: int = Field(default=6390, description="The paper exchange, when no Alpaca keys are set.")
    flower_port: int = 5555
    flower_user: str = "qbot"
    flower_password: SecretStr = SecretStr("")
    django_secret_key: SecretStr = SecretStr("")

    alpaca_api_key: SecretStr = SecretStr("")
    alpaca_secret_key: SecretStr = SecretStr("")
    embedded_exchange: bool = Field(default=False, description="True when the broker is QBot's own paper exchange.")
    alpaca_url: str | None = Field(default=None, description="Base of the trading API; set for the paper exchange.")
    alpaca_data_url: str | None = None
    alpaca_data_feed: Literal["iex", "sip"] = "iex"
    allow_live: bool = Field(default=False, description="Live trading needs this, live keys and paper_mode false.")

    finnhub_api_key: SecretStr = Field(default=SecretStr(""), description="Empty, as of the next three: not asked.")
    finnhub_url: str = "https://finnhub.io/api/v1"
    twelvedata_api_key: SecretStr = SecretStr("")
    twelvedata_url: str = "https://api.twelvedata.com"
    fmp_api_key: SecretStr = Field(default=SecretStr(""), description="Financial Modeling Prep.")
    fmp_url: str = "https://financialmodelingprep.com/stable"
    marketstack_api_key: SecretStr = SecretStr("")
    marketstack_url: str = Field(
        default="https://api.marketstack.com/v2", description="Newer accounts: https://api.apilayer.net/marketstack/v2."
    )
    yfinance: bool = Field(default=True, description="Yahoo Finance, which needs no key.")
    yfinance_url: str | None = Field(default=None, description="A server that stands in for all hosts of Yahoo's.")
    market_order: str = Field(default="", description="Whom to ask first for market data; see market/plans.py.")
    market_plans: str = Field(  # as text: settings are hashed
        default="", description="What paid plans allow: JSON, by source; see market/plans.py."
    )
    fake_providers: bool = Field(default=False, description="As `qbot up --fake-providers`: docs/fake-providers.md.")
    fake_providers_port: int = Field(default=6391, description="Where their stand-in listens.")
    xai_api_key: SecretStr = Field(default=SecretStr(""), description="Of xAI; empty: Grok is off.")
    xai_url: str = Field(default="https://api.x.ai/v1", description="Base of xAI's API.")
    xai_model: str = "grok-4.3"
    xai_search: bool = Field(default=False, description="Grok may search the web and X; dearer by far.")
    xai_budget_usd_per_day: Decimal = Field(
        default=Decimal("1.00"), ge=0, le=1000, allow_inf_nan=False, description="Of a UTC day; 0: Grok is off."
    )
    xai_call_max_usd: Decimal | None = Field(
        default=None, gt=0, le=1000, allow_inf_nan=False, description="What one call may cost; none: see limits.py."
    )

    tickers: str = Field(default="", description="Comma-separated universe; empty: the default, see limits.py.")
    replay_file: Path | None = Field(default=None, description="Parquet of bars to replay; none: the shipped sample.")
    replay_speed: float = Field(default=60.0, gt=0, le=1000)
    replay_days: int = Field(default=15, gt=0, description="Sessions replayed, the file's last; before them: training.")
    exchange_start_cash_usd: Decimal = Decimal("100000")
    exchange_rate_limit_per_minute: int = Field(default=200, gt=0, description="The venue's; times the speed.")
    train_seconds_per_horizon: int = Field(default=30, gt=0, description="AutoGluon's time limit for one horizon.")
    notify_urls: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="Where alerts are sent, with spaces between; see docs/notifications.md. Secret."
    )
    notify_min_severity: Literal["INFO", "WARNING", "CRITICAL"] = Field(
        default="WARNING", description="Less severe alerts stand on the board alone."
    )
    telegram_api_url: str | None = Field(default=None, description="Base of a Bot API server of your own.")
    log_level: str = Field(default="INFO", description="One of LOG_LEVELS, in capitals or small letters.")

    @field_validator("notify_urls", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """One text with several addresses, as an environment has it, into these."""
        return tuple(BETWEEN_URLS.split(value.strip())) if isinstance(value, str) and value.strip() else value or ()

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if (level := value.strip().upper()) not in LOG_LEVELS:
            raise ValueError(f"there is no such level; there are {', '.join(LOG_LEVELS)}")
        return level

    @field_validator(*KEYS)
    @classmethod
    def _stripped(cls, value: SecretStr) -> SecretStr:
        """A space or a line's end that was copied with a key is no part of it."""
        return SecretStr(value.get_secret_value().strip())

    @field_validator(
        "alpaca_url", "alpaca_data_url", "finnhub_url", "twelvedata_url", "fmp_url", "marketstack_url", "yfinance_url"
    )
    @classmethod
    def _not_in_the_clear(cls, value: str | None, info: ValidationInfo) -> str | None:
        """The paper exchange may be another container's, and its keys open nothing else."""
        exchange = str(info.field_name).startswith("alpaca_") and info.data.get("embedded_exchange")
        if value and not exchange and not safe_url(value):
            raise ValueError("must begin with https://, since keys and prices go that way, or be on this machine")
        return value

    @field_validator("market_plans")
    @classmethod
    def _readable(cls, value: str) -> str:
        PLAN_CHANGES.validate_json(value or "{}")
        return value

    @property
    def plan_changes(self) -> dict[str, dict[str, int | bool | None]]:
        """`market_plans`, by source and what is changed."""
        return dict(PLAN_CHANGES.validate_json(self.market_plans or "{}"))

    @property
    def redis_url(self) -> str:
        """With the password: never log it."""
        user, secret = quote(self.redis_user, safe=""), quote(self.redis_password.get_secret_value(), safe="")
        return f"redis://{user}:{secret}@{self.redis_host}:{self.redis_port}/0"

    @property
    def postgres_url(self) -> str:
        """SQLAlchemy URL with the password: never log it."""
        secret = self.postgres_password.get_secret_value()
        where = f"{self.postgres_host}:{self.postgres_port}/{self.postgres_db}"
        return f"postgresql+psycopg2://{self.postgres_user}:{secret}@{where}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
