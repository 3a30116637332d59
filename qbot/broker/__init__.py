"""The broker: the truth of orders, fills, positions and cash. Only `qbot.execution` talks to it."""
