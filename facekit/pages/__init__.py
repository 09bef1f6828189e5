"""Self-contained HTML pages: nothing is fetched from a network, all text from outside is escaped."""
