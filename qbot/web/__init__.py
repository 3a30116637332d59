"""Django: the beat schedule, users, and what the browser sees."""
