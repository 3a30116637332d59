"""Postgres: the truth of intents, decisions, forecasts, bars and the audit. All SQL of QBot is in this package."""
