"""A page that runs a detector in the browser: its files, and the runtime that it needs."""
