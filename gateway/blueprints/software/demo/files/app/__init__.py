"""A small TODO list: an HTTP API over SQLite, and one page."""
