"""The broker: the truth of orders, fills, positions and cash. `execution`, `reconciliation`, `emergency` talk to it."""
