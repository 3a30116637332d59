"""Chaos: the whole real stack, faults that befall it, and whether broker and ledger agree afterwards. `make chaos`."""
