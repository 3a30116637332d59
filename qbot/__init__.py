"""QBot: a self-hosted, forecast-driven trading backend. Read `qbot/pipeline.py` first."""

__version__ = "0.1.0"
