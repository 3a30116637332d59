"""The demo: the embedded stack on a replayed market, a stand-in frontend that starts trading, and a live view."""
