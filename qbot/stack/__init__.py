"""The embedded stack: every process QBot needs, from wheels, under one supervisor. `stack.py` first."""
