"""One command a file: its options, and the function that Python can call."""
