"""Market data: providers, the exchange calendar."""
