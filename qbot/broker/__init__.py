"""The broker: the truth of orders, fills, positions and cash. Only `qbot.execution`, `reconciliation` and `emergency` talk to it."""
