"""Every Redis key shared with the frontends: payload types, units, owners, and the typed board. Start at `keys`."""
