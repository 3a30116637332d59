"""`qbot doctor`: what works, what does not, and what to do. Each part is looked at by itself."""
